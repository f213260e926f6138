"""Run a TFLite file: the measuring path. Imports NumPy and LiteRT, nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from qbench.kit.adapter import Unsupported
from qbench.kit.feeds import check_feed, convert
from qbench.kit.model import Artifact, Feed, Model, RunConfig, TensorSpec
from qbench.kit.operators import EffectivePrecision, Operator, Profile
from qbench_tflite.tensors import Slot, slots

_FLAGS = {
    "experimental_compress_quantization_zero_points": bool,
    "experimental_default_delegate_latest_features": bool,
    "experimental_disable_delegate_clustering": bool,
    "experimental_disable_delegate_node_fusion": bool,
    "experimental_op_resolver_type": str,
}
"""Arguments of LiteRT's ``Interpreter`` that a hint may set, and the type of their values. All
are written out at every opening; the resolver's default, AUTO, applies XNNPACK."""


class TfliteProgram:
    """An opened TFLite file.

    LiteRT cannot share an interpreter's weights: every stream is an interpreter of its own over
    the same memory-mapped file, and XNNPACK packs the weights anew for each. So memory grows with
    the number of streams; the pages of the file itself are shared.

    Args:
        keep_tensors: keep what is between inputs and outputs readable.
    """

    def __init__(self, artifact: Artifact, config: RunConfig, keep_tensors: bool = False) -> None:
        self._model = artifact.model
        self._config = config
        self._path = artifact.file
        self._streams: list[TfliteStream] = []
        if config.device != "cpu":
            raise Unsupported(f"LiteRT's Python package runs on the CPU, not on {config.device}")
        self._flags = flags(config.hints)
        if keep_tensors:
            self._flags["experimental_preserve_all_tensors"] = True
        self._spare: Any = self._interpreter()
        inputs, outputs = slots(self._spare, self._model)
        self._inputs, self._outputs = inputs, outputs
        self.inputs: Mapping[str, TensorSpec] = {name: slot.spec for name, slot in inputs.items()}
        self.outputs: Mapping[str, TensorSpec] = {name: slot.spec for name, slot in outputs.items()}
        self._allocate(self._spare)

    def stream(self) -> TfliteStream:
        """A new interpreter, ready; the first one is that of ``open``."""
        interpreter, self._spare = self._spare, None
        if interpreter is None:
            interpreter = self._interpreter()
            self._allocate(interpreter)
        stream = TfliteStream(
            interpreter, self._model, self._inputs, self._outputs, self._config.batch
        )
        self._streams.append(stream)
        return stream

    def effective(self) -> EffectivePrecision:
        """From the operand types of the allocated graph, and what XNNPACK took of it."""
        from qbench_tflite import graph

        operators = self._operators()
        return EffectivePrecision.of(operators, graph.notes(operators, graph.stored(self._spare)))

    def profile(self, feed: Feed, runs: int) -> Profile:
        """Structure, precision and placement, without times; nothing is run."""
        from qbench_tflite import graph

        operators = self._operators()
        pieces = graph.partitions(self._spare)
        outside = sum(op.fallback for op in operators)
        return Profile(
            tuple(operators),
            (
                "LiteRT's Python interface gives no times of operators",
                f"XNNPACK takes the graph in {pieces} piece{'s' * (pieces != 1)}; "
                f"{outside} of {len(operators)} operators are outside",
                *graph.notes(operators, graph.stored(self._spare)),
            ),
        )

    def _operators(self) -> list[Operator]:
        from ai_edge_litert.interpreter import OpResolverType

        from qbench_tflite import graph

        if self._spare is None:
            raise RuntimeError("call effective() and profile() before stream()")
        plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        shapes = interpreter(self._path, 1, {"experimental_op_resolver_type": plain})
        self._allocate(shapes)
        return graph.operators(self._spare, shapes)

    def __enter__(self) -> TfliteProgram:
        return self

    def __exit__(self, *exc: object) -> None:
        self._spare = None
        for stream in self._streams:
            stream.close()
        self._streams.clear()

    def _interpreter(self) -> Any:
        return interpreter(self._path, self._config.threads, self._flags)

    def _allocate(self, interpreter: Any) -> None:
        """Fix the batch and let XNNPACK take the graph.

        Raises:
            Unsupported: the file does not work at this batch.
        """
        batch = self._config.batch
        resized = False
        for slot in self._inputs.values():
            if slot.spec.shape and slot.spec.shape[0] != batch:
                interpreter.resize_tensor_input(slot.index, slot.spec.sized(batch))
                resized = resized or batch != 1
        try:
            interpreter.allocate_tensors()
            if resized:
                self._settle(interpreter)
        except RuntimeError as error:
            if not resized:
                raise
            raise Unsupported(
                f"the file is fixed at batch {self._file_batch()}: {_first_line(error)}"
            ) from None
        if resized:
            for name, slot in self._outputs.items():
                rows = interpreter.get_tensor(slot.index).shape[:1]
                if rows != (batch,):
                    raise Unsupported(
                        f"the file is fixed at batch {self._file_batch()}: at batch {batch}, "
                        f"output '{name}' has {rows[0] if rows else 1} rows"
                    )

    def _settle(self, interpreter: Any) -> None:
        """Run once on zeros: LiteRT knows the shapes of a resized graph's outputs only then."""
        for slot in self._inputs.values():
            shape = slot.spec.sized(self._config.batch)
            interpreter.set_tensor(slot.index, np.zeros(shape, slot.spec.dtype))
        interpreter.invoke()

    def _file_batch(self) -> int | str:
        return next(iter(self._inputs.values())).spec.shape[0]


class TfliteStream:
    """One interpreter.

    Attributes:
        interpreter: LiteRT's; None once it is closed.
        infer: LiteRT's own ``Invoke``, without the 0.5 µs in which its Python wrapper counts
            references to views of its buffers; none are made here.
    """

    def __init__(
        self,
        interpreter: Any,
        model: Model,
        inputs: Mapping[str, Slot],
        outputs: Mapping[str, Slot],
        batch: int,
    ) -> None:
        self.interpreter: Any = interpreter
        self._model = model
        self._inputs = inputs
        self._outputs = outputs
        self._batch = batch
        native: Any = getattr(interpreter, "_interpreter", None)
        self.infer: Callable[[], None] = (
            native.Invoke if hasattr(native, "Invoke") else interpreter.invoke
        )

    def bind(self, feed: Feed) -> None:
        """Copy the inputs into the interpreter, cast or quantized to the file's types.

        Raises:
            ValueError: names, kinds of dtype or shapes differ from the card's.
        """
        check_feed(feed, self._model.inputs, self._batch)
        source = self._model.to_source(feed)
        for name, slot in self._inputs.items():
            array = convert(source[slot.name], self._model.inputs[name], slot.spec)
            self.interpreter.set_tensor(slot.index, array)

    def read(self) -> Feed:
        """Copies of the outputs, dequantized to the card's types."""
        outputs = {}
        for name, slot in self._outputs.items():
            array = self.interpreter.get_tensor(slot.index)
            outputs[slot.name] = convert(array, slot.spec, self._model.outputs[name])
        return self._model.from_source(outputs)

    def close(self) -> None:
        """Free the interpreter; the stream is of no use afterwards."""
        self.infer = _closed
        self.interpreter = None


def interpreter(
    source: Path | bytes, threads: int = 1, flags: Mapping[str, Any] | None = None
) -> Any:
    """A LiteRT interpreter of a file (memory-mapped) or a file's content, not yet allocated.

    Raises:
        ValueError: not a valid TFLite file.
    """
    from ai_edge_litert.interpreter import Interpreter

    where = {"model_path": str(source)} if isinstance(source, Path) else {"model_content": source}
    return Interpreter(**where, num_threads=threads, **(flags or {}))


def flags(hints: Mapping[str, Any]) -> dict[str, Any]:
    """The interpreter's arguments for ``hints``, each of them set.

    Raises:
        ValueError: an unknown name, or a value that it does not take.
    """
    from ai_edge_litert.interpreter import OpResolverType

    for name, value in hints.items():
        if name == "num_threads":
            raise ValueError("num_threads is set by the suite's threads, not by a hint")
        if name not in _FLAGS:
            raise ValueError(f"LiteRT has no hint '{name}'. Known: {', '.join(_FLAGS)}.")
        if type(value) is not _FLAGS[name]:
            raise ValueError(f"hint {name} takes a {_FLAGS[name].__name__}, not {value!r}")
    chosen = {name: hints.get(name, False) for name, kind in _FLAGS.items() if kind is bool}
    resolver = hints.get("experimental_op_resolver_type", "AUTO")
    if resolver not in OpResolverType.__members__:
        known = ", ".join(OpResolverType.__members__)
        raise ValueError(f"experimental_op_resolver_type is one of {known}, not {resolver!r}")
    return {**chosen, "experimental_op_resolver_type": OpResolverType[resolver]}


def _closed() -> None:
    raise RuntimeError("the program was closed")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
