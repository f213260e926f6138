"""A program: one engine and its execution contexts.

Imported while measuring: the standard library, NumPy, tensorrt and cuda.bindings only.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any

import tensorrt as trt  # pyright: ignore[reportMissingImports]

from qbench.kit.adapter import Program, Unsupported
from qbench.kit.feeds import canonical_specs, check_batch
from qbench.kit.model import Artifact, Feed, RunConfig, TensorSpec
from qbench.kit.operators import EffectivePrecision, Profile
from qbench_tensorrt.build import load_engine
from qbench_tensorrt.io import Io
from qbench_tensorrt.log import Log
from qbench_tensorrt.memory import use_device
from qbench_tensorrt.options import device_index, hints_of
from qbench_tensorrt.stream import Ports, Setting, TrtStream
from qbench_tensorrt.tensors import dtype_name

_STAYS = "inputs and outputs stay on the device: a call copies nothing"


class TrtProgram(Program):
    """One engine. Streams share it and its weights; each has an execution context.

    Compiling left a description of its layers next to it, so inspection needs no other opening.

    Attributes:
        tf32: whether products of float32 factors may be rounded to TF32.
        log: TensorRT's messages.
        engine: the deserialized engine.
    """

    def __init__(self, artifact: Artifact, config: RunConfig) -> None:
        self._artifact, self.tf32 = artifact, artifact.target.precision == "tf32"
        self._hints, device = hints_of(config), device_index(config.device)
        if config.threads != 1:
            raise Unsupported("TensorRT uses one host thread per stream: set threads to 1")
        self._streams: list[TrtStream] = []
        use_device(device, self._hints.spin)
        self.log = Log()
        self._setting = Setting(self._hints, device, config.streams > 1, self.log)
        self.engine: Any = load_engine(artifact.file, self.log)
        inputs = _input_specs(self.engine, artifact.model.source_shapes(config.batch))
        self._input_shapes = {name: spec.shape for name, spec in inputs.items()}
        self._spare: Any = self._context()  # only contexts know the sizes of outputs
        outputs = _output_specs(self.engine, self._spare)
        prepared = Io.read(artifact.path)
        self.inputs, self.outputs = canonical_specs(
            artifact.model, _scaled(inputs, prepared.inputs), _scaled(outputs, prepared.outputs)
        )
        check_batch(self.inputs, self.outputs, config.batch)
        self._ports = Ports(
            artifact.model, config.batch, self.inputs, self.outputs, inputs, outputs
        )

    def _context(self) -> Any:
        """A new execution context with its input sizes set. It holds memory for all activations."""
        context = self.engine.create_execution_context()
        if context is None:
            raise self.log.failure("creating an execution context")
        # otherwise it is the engine's, detailed for the inspector, which slows every launch
        context.nvtx_verbosity = trt.ProfilingVerbosity.LAYER_NAMES_ONLY
        for name, shape in self._input_shapes.items():
            if not context.set_input_shape(name, shape):
                raise self.log.failure(f"setting the shape of '{name}' to {list(shape)}")
        return context

    def stream(self) -> TrtStream:
        context, self._spare = self._spare or self._context(), None
        self._streams.append(TrtStream(self._ports, self._setting, context, self._forget))
        return self._streams[-1]

    def _forget(self, stream: TrtStream) -> None:
        """``stream`` is closing and holds no more memory."""
        self._streams = [other for other in self._streams if other is not stream]

    def device_memory_bytes(self) -> dict[str, int]:
        """By the engine's own figures: ``weights`` once, ``activations`` per execution context,
        ``io`` the inputs and outputs of the streams. CUDA's own memory (context, code of kernels,
        graphs) is not part of these figures."""
        contexts = len(self._streams) + (self._spare is not None)
        held = {
            "activations": contexts * self.engine.device_memory_size_v2,
            "io": sum(stream.lane.device_bytes for stream in self._streams),
        }
        if hasattr(self.engine, "get_engine_stat"):  # the first versions of TensorRT 10 lack it
            held["weights"] = self.engine.get_engine_stat(trt.EngineStat.TOTAL_WEIGHTS_SIZE)
        return held

    def effective(self) -> EffectivePrecision:
        """By the engine inspector, with a note on how a call launches the engine."""
        from qbench_tensorrt import inspect

        found = inspect.effective(self._artifact.path, self._artifact.target.precision)
        stream = self._streams[0] if self._streams else self.stream()
        stays = () if self._hints.transfers else (_STAYS,)
        return replace(found, notes=(*found.notes, stream.note, *stays))

    def profile(self, feed: Feed, runs: int) -> Profile:
        """Layers and their mean times, in order of execution."""
        from qbench_tensorrt.profile import profile

        with closing(self.stream()) as stream:  # it holds memory for all activations
            stream.bind(feed)
            stream.infer()  # the inputs are on the device from here on

            def run() -> None:
                stream.enqueue()
                stream.lane.wait()

            return profile(stream.context, run, runs, self._artifact.path, self.tf32)

    def close(self) -> None:
        for stream in self._streams:
            stream.close()
        self._spare = self.engine = None


def _input_specs(engine: Any, wanted: Mapping[str, tuple[int, ...]]) -> dict[str, TensorSpec]:
    """The engine's inputs at the shapes ``wanted``, by the file's names.

    Raises:
        Unsupported: the engine is made for other shapes.
    """
    specs = {}
    for name in _names(engine, trt.TensorIOMode.INPUT):
        shape, want = tuple(engine.get_tensor_shape(name)), wanted[name]
        if -1 in shape:
            _, shape, _ = map(tuple, engine.get_tensor_profile_shape(name, 0))
        if shape != want:
            raise Unsupported(f"the engine is for {list(shape)} as '{name}', not {list(want)}")
        specs[name] = TensorSpec(_dtype(engine, name), shape)
    return specs


def _output_specs(engine: Any, context: Any) -> dict[str, TensorSpec]:
    """All outputs, with the sizes that ``context`` reports.

    Raises:
        Unsupported: a size depends on the values that are computed.
    """
    specs = {}
    for name in _names(engine, trt.TensorIOMode.OUTPUT):
        shape = tuple(context.get_tensor_shape(name))
        if any(size < 0 for size in shape):
            raise Unsupported(
                f"the size of output '{name}' depends on the input values; this adapter needs "
                "outputs of fixed size"
            )
        specs[name] = TensorSpec(_dtype(engine, name), shape)
    return specs


def _names(engine: Any, mode: Any) -> list[str]:
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    return [name for name in names if engine.get_tensor_mode(name) == mode]


def _dtype(engine: Any, name: str) -> str:
    if engine.get_tensor_location(name) == trt.TensorLocation.HOST:
        raise Unsupported(f"'{name}' holds sizes, which TensorRT reads on the host")
    return dtype_name(name, engine.get_tensor_dtype(name))


def _scaled(
    specs: Mapping[str, TensorSpec], prepared: Mapping[str, TensorSpec]
) -> dict[str, TensorSpec]:
    """``specs`` with the scales of the prepared file."""
    return {
        name: replace(spec, scale=prepared[name].scale, zero_point=prepared[name].zero_point)
        for name, spec in specs.items()
    }
