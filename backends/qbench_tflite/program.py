"""Run a TFLite file. Imported while measuring: NumPy and LiteRT only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any, Literal

import numpy as np

from qbench.kit.adapter import Program, Stream, Unsupported
from qbench.kit.feedback import check_states
from qbench.kit.feeds import check_feed, convert, fixed_batch
from qbench.kit.hints import read_hints
from qbench.kit.model import Artifact, Feed, Model, RunConfig
from qbench.kit.operators import EffectivePrecision, Operator, Profile
from qbench.kit.reasons import sentence
from qbench_tflite.tensors import Slot, slots


@dataclass(frozen=True)
class Hints:
    """Arguments of LiteRT's ``Interpreter`` that a suite may set. The resolver AUTO applies
    XNNPACK."""

    experimental_compress_quantization_zero_points: bool = False
    experimental_default_delegate_latest_features: bool = False
    experimental_disable_delegate_clustering: bool = False
    experimental_disable_delegate_node_fusion: bool = False
    experimental_op_resolver_type: Literal[
        "AUTO", "BUILTIN", "BUILTIN_REF", "BUILTIN_WITHOUT_DEFAULT_DELEGATES"
    ] = "AUTO"


class TfliteProgram(Program):
    """An opened TFLite file.

    LiteRT cannot share an interpreter's weights: every stream has its own interpreter over the same
    memory-mapped file, and XNNPACK packs the weights again for each. So memory grows with the
    number of streams; only the file's pages are shared.

    Args:
        keep_tensors: keep tensors between inputs and outputs readable.
    """

    def __init__(self, artifact: Artifact, config: RunConfig, keep_tensors: bool = False) -> None:
        self._model, self._target = artifact.model, artifact.target
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
        self.inputs = {name: slot.spec for name, slot in inputs.items()}
        self.outputs = {name: slot.spec for name, slot in outputs.items()}
        check_states(self._model, self.inputs, self.outputs, converted=True)
        self._allocate(self._spare)

    def stream(self) -> TfliteStream:
        """A new interpreter, ready to run; the first stream gets the one that ``open`` made."""
        interpreter, self._spare = self._spare, None
        if interpreter is None:
            interpreter = self._interpreter()
            self._allocate(interpreter)
        kind = FeedingStream if self._model.states else TfliteStream
        stream = kind(interpreter, self._model, self._inputs, self._outputs, self._config.batch)
        self._streams.append(stream)
        return stream

    def effective(self) -> EffectivePrecision:
        """From the operand types of the allocated graph, and its partition by XNNPACK."""
        operators, notes = self._inspected()
        if states := self._model.states:
            specs = [self.inputs[name] for name in states]
            batch = self._config.batch
            size = sum(np.zeros(spec.at(batch), spec.dtype).nbytes for spec in specs)
            notes.append(f"feeds states back by copying {size:,} bytes in each inference")
        return EffectivePrecision.of(operators, notes)

    def mismatch(self) -> str | None:
        """Compared by the operators and tensors of the file, which LiteRT runs as they are."""
        from qbench.kit.requested import mismatch
        from qbench_tflite.requested import running_weights

        if self._spare is None:
            raise RuntimeError("call mismatch() before stream()")
        target = self._target
        excluded = target.options.get("excluded_operators", ())
        per_channel = target.options.get("per_channel", True)
        return mismatch(running_weights(self._spare, per_channel), target, excluded)

    def profile(self, feed: Feed, runs: int) -> Profile:
        """Structure, precision and placement, without times; runs nothing."""
        from qbench_tflite import graph

        operators, notes = self._inspected()
        pieces = graph.partitions(self._spare)
        outside = sum(op.fallback for op in operators)
        return Profile(
            tuple(operators),
            (
                "LiteRT's Python interface reports no times of operators",
                f"XNNPACK runs the graph in {pieces} piece{'s' * (pieces != 1)}; "
                f"{outside} of {len(operators)} operators are outside",
                *notes,
            ),
        )

    def _inspected(self) -> tuple[list[Operator], list[str]]:
        """The operators, and notes for the reader."""
        from ai_edge_litert.interpreter import OpResolverType

        from qbench_tflite import flatfile, graph

        if self._spare is None:
            raise RuntimeError("call effective() and profile() before stream()")
        plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        shapes = interpreter(self._path, 1, {"experimental_op_resolver_type": plain})
        self._allocate(shapes)
        file = flatfile.operators(flatfile.parse(self._path.read_bytes()))
        operators = graph.operators(self._spare, file, shapes)
        return operators, graph.notes(operators, graph.stored(file))

    def close(self) -> None:
        self._spare = None
        for stream in self._streams:
            stream.close()
        self._streams.clear()

    def _interpreter(self) -> Any:
        return interpreter(self._path, self._config.threads, self._flags)

    def _allocate(self, interpreter: Any) -> None:
        """Fix the sizes of the inputs and let XNNPACK partition the graph.

        Raises:
            Unsupported: the file does not work at these.
        """
        wanted = self._model.source_shapes(self._config.batch)
        resized = False
        for name, slot in self._inputs.items():
            sizes = wanted[self._model.source_inputs[name].name]
            at_first = tuple(size if isinstance(size, int) else 1 for size in slot.spec.shape)
            if at_first != sizes:
                interpreter.resize_tensor_input(slot.index, sizes)
                resized = True
        try:
            interpreter.allocate_tensors()
            if resized:
                self._settle(interpreter, wanted)
        except RuntimeError as error:
            if not resized:
                raise
            raise Unsupported(self._refusal(sentence(error))) from error
        if resized:
            self._check_outputs(interpreter)

    def _settle(self, interpreter: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Run once on zeros: only then does LiteRT know the output shapes of a resized graph."""
        for name, slot in self._inputs.items():
            shape = shapes[self._model.source_inputs[name].name]
            interpreter.set_tensor(slot.index, np.zeros(shape, slot.spec.dtype))
        interpreter.invoke()

    def _check_outputs(self, interpreter: Any) -> None:
        batch = self._config.batch
        for name, slot in self._outputs.items():
            axis = slot.spec.batch
            sizes = interpreter.get_tensor(slot.index).shape
            if axis is not None and sizes[axis : axis + 1] != (batch,):
                rows = sizes[axis] if axis < len(sizes) else 1
                raise Unsupported(
                    self._refusal(f"at batch {batch}, output '{name}' has {rows} rows")
                )

    def _refusal(self, why: str) -> str:
        fixed = [fixed_batch(slot.spec) for slot in self._inputs.values()]
        batch = next((size for size in fixed if size is not None), None)
        if batch is None:
            return f"the file does not work at these sizes: {why}"
        return f"the file is fixed at batch {batch}: {why}"


class TfliteStream(Stream):
    """One interpreter. ``infer`` is LiteRT's own ``Invoke``, without the 0.5 µs in which its Python
    wrapper counts references to views of its buffers, of which there are none here.

    Attributes:
        interpreter: LiteRT's; None once closed.
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
        self.infer = native.Invoke if hasattr(native, "Invoke") else interpreter.invoke

    def bind(self, feed: Feed) -> None:
        check_feed(feed, self._model.inputs, self._batch, self._model.states)
        source = self._model.to_source(feed)
        for name in feed:
            slot = self._inputs[name]
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
        """Free the interpreter; the stream is unusable afterwards."""
        self.infer = _closed
        self.interpreter = None


class FeedingStream(TfliteStream):
    """Copies each state from its output to its input after the inference: LiteRT's tensors cannot
    change places. In a quantized file their scales may differ: then it converts, too."""

    def __init__(
        self,
        interpreter: Any,
        model: Model,
        inputs: Mapping[str, Slot],
        outputs: Mapping[str, Slot],
        batch: int,
    ) -> None:
        super().__init__(interpreter, model, inputs, outputs, batch)
        places = {slot.index: name for name, slot in inputs.items()}
        for state in model.states.values():
            if (place := places.get(outputs[state.output].index)) is not None:
                raise Unsupported(
                    f"'{state.output}' cannot be fed back: in the file it is the input '{place}' "
                    "itself"
                )
        self._invoke = self.infer
        self._copies = [
            (inputs[name], outputs[state.output], interpreter.tensor(outputs[state.output].index))
            for name, state in model.states.items()
        ]
        self.infer = self._invoke_and_copy

    def _invoke_and_copy(self) -> None:
        self._invoke()
        put = self.interpreter.set_tensor
        for taken, given, view in self._copies:
            put(taken.index, convert(view(), given.spec, taken.spec))

    def close(self) -> None:
        self._copies.clear()  # they hold the interpreter, too
        self._invoke = _closed
        super().close()


def interpreter(
    source: Path | bytes, threads: int = 1, flags: Mapping[str, Any] | None = None
) -> Any:
    """A LiteRT interpreter of a file (memory-mapped) or of a file's content, not yet allocated.

    Raises:
        ValueError: not a valid TFLite file.
    """
    from ai_edge_litert.interpreter import Interpreter

    where = {"model_path": str(source)} if isinstance(source, Path) else {"model_content": source}
    return Interpreter(**where, num_threads=threads, **(flags or {}))


def flags(hints: Mapping[str, Any]) -> dict[str, Any]:
    """The interpreter's arguments for ``hints``: all those that this version of LiteRT has.

    Raises:
        Unsupported: this version lacks an argument that the hints set.
        ValueError: an unknown name, or a value that it does not take.
    """
    import ai_edge_litert
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    if "num_threads" in hints:
        raise ValueError("num_threads is set by the suite's threads, not by a hint")
    arguments = dict(vars(read_hints(Hints, hints, "tflite")))
    resolver = arguments["experimental_op_resolver_type"]
    arguments["experimental_op_resolver_type"] = OpResolverType[resolver]
    known = signature(Interpreter).parameters
    if lacking := sorted(set(hints) - set(known)):
        raise Unsupported(
            f"LiteRT {ai_edge_litert.__version__} has no {lacking[0]}: drop the hint, or update "
            "ai-edge-litert"
        )
    return {name: value for name, value in arguments.items() if name in known}


def _closed() -> None:
    raise RuntimeError("the program was closed")
