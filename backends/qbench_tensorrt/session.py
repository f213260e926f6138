"""Running an engine: buffers, CUDA graphs, streams, and where a call's time goes.

A call copies its inputs to the device in one piece, launches the engine and copies all outputs
back in one piece; then it waits. The engine's work is recorded as a CUDA graph, which the host
launches at once instead of kernel by kernel. The copies stay outside of it, as in trtexec: events
between copies and graph are then events around the very graph that was timed, and the first copy
runs while the host still launches.

Imported while measuring: the standard library, NumPy, tensorrt and cuda.bindings only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import tensorrt as trt  # pyright: ignore[reportMissingImports]
from cuda.bindings import runtime  # pyright: ignore[reportAttributeAccessIssue]

from qbench.kit.adapter import Unsupported
from qbench.kit.feeds import check_feed, convert
from qbench.kit.model import Artifact, Feed, RunConfig, SourceTensor, TensorSpec
from qbench.kit.operators import EffectivePrecision, Profile
from qbench_tensorrt.build import load_engine
from qbench_tensorrt.io import Io
from qbench_tensorrt.log import Log
from qbench_tensorrt.memory import Lane, Step, call, cuda_error, use_device
from qbench_tensorrt.options import Hints, device_index
from qbench_tensorrt.tensors import Block, dtype_name, read, write

_AS_GRAPH = "a call launches the engine as one CUDA graph"
_STAYS = "inputs and outputs stay on the device: a call copies nothing"
_EAGER = "a call launches every kernel by itself"


class TrtStream:
    """One execution context on a CUDA stream of its own, over buffers that stay where they are.

    Attributes:
        infer: the bound call itself, so that a timed call costs one Python frame.
        note: how the engine is launched, and why, a sentence.
        lane: the CUDA stream and the memory.
        context: the execution context, its addresses set.
        enqueue: gives the engine's work to the CUDA stream, kernel by kernel.
    """

    infer: Callable[[], None]

    def __init__(self, program: TrtProgram, context: Any) -> None:
        self._program, self.context = program, context
        self.lane = Lane()
        try:
            self._prepare(Block(program.file_inputs), Block(program.file_outputs))
        except BaseException:
            self.close()
            raise

    def _prepare(self, inputs: Block, outputs: Block) -> None:
        lane, to, back = self.lane, self.lane.device(inputs.bytes), self.lane.device(outputs.bytes)
        given, answered = lane.pinned(inputs.bytes), lane.pinned(outputs.bytes)
        self._given, self._answered = inputs.views(given), outputs.views(answered)
        self._h2d, self._d2h = lane.to_device(to, given), lane.to_host(answered, back)
        for block, start in ((inputs, to), (outputs, back)):
            for name, offset in block.offsets.items():
                if not self.context.set_tensor_address(name, start + offset):
                    raise self._program.log.failure(f"setting the address of '{name}'")
        self.enqueue = _enqueue(self.context, int(lane.stream), self._program.log)

        call(self._h2d)  # zeros
        self._launch = self._launched()
        answered[:] = 0xFF  # no number: whoever reads before the first call sees it
        call(lane.to_device(back, answered))
        lane.wait()

        wait = partial(runtime.cudaStreamSynchronize, lane.stream)
        program = self._program
        self.infer = _inference(self._steps(), wait, program.device if program.shared else 0)

    def _launched(self) -> Step:
        """The step that launches the engine; sets ``note``. The engine has run once by then:
        nothing is set up lazily by a timed call, and no graph may be recorded before."""
        self.enqueue()
        self.lane.wait()
        if not self._program.hints.cuda_graph:
            self.note = f"{_EAGER}: hint cuda_graph is false"
            return self.enqueue
        try:
            launch = self.lane.captured(self.enqueue)
        except RuntimeError as error:
            self.note = f"{_EAGER}: it cannot be recorded as a CUDA graph ({error})"
            return self.enqueue
        self.note = _AS_GRAPH
        return launch

    def _steps(self) -> dict[str, Step]:
        """What a call gives to the CUDA stream, in order, by the segment that it is."""
        if not self._program.hints.transfers:
            return {"compute": self._launch}
        return {"h2d": self._h2d, "compute": self._launch, "d2h": self._d2h}

    def bind(self, feed: Feed) -> None:
        """Copy ``feed`` (canonical names, card's dtypes and layouts) into pinned memory; to the
        device too where a call does not.

        Raises:
            ValueError: a name, dtype or shape that the engine does not take.
        """
        program, model = self._program, self._program.artifact.model
        check_feed(feed, model.inputs, program.config.batch)
        arrays = model.to_source(feed)
        for canonical, tensor in model.source_inputs.items():
            have, want = model.inputs[canonical], program.inputs[canonical]
            try:
                write(self._given[tensor.name], arrays[tensor.name], have, want)
            except ValueError as error:
                raise ValueError(f"input '{canonical}': {error}") from None
        if not program.hints.transfers:
            self._finish(self._h2d)

    def read(self) -> Feed:
        """Outputs of the last ``infer``: canonical names, card's dtypes and layouts."""
        program, model = self._program, self._program.artifact.model
        outputs = model.from_source(self.read_file())
        result = {}
        for name, array in outputs.items():
            have = program.outputs[name]
            result[name] = convert(array, have, model.outputs[name])
        return result

    def read_file(self) -> Feed:
        """Every output of the last ``infer`` by the engine's names, copied."""
        if not self._program.hints.transfers:
            self._finish(self._d2h)
        specs = self._program.file_outputs
        return {name: read(view, specs[name]) for name, view in self._answered.items()}

    def _finish(self, step: Step) -> None:
        call(runtime.cudaSetDevice, self._program.device)
        call(step)
        self.lane.wait()

    def segments(self, calls: int) -> Mapping[str, np.ndarray]:
        """See ``qbench.kit.adapter.Stream``: the steps of ``infer``, in its order, with events
        between them. ``enqueue`` is the host's time in those steps, without that of recording
        events. A call that leaves data on the device has no ``h2d`` and no ``d2h``.

        CUDA's events count in steps of about half a microsecond, and a part begins when the one
        before it ends: where the device is faster than the host hands over, it waits within them.
        """
        clock, record, stream = time.perf_counter_ns, runtime.cudaEventRecord, self.lane.stream
        steps = self._steps()
        series = {name: np.empty(calls) for name in (*steps, "enqueue")}
        with self.lane.events(len(steps) + 1) as marks:
            for index in range(calls):
                handed_ns = 0
                call(record, marks[0], stream)
                for step, mark in zip(steps.values(), marks[1:], strict=True):
                    begin = clock()
                    answer = step()
                    handed_ns += clock() - begin
                    if answer[0]:
                        raise cuda_error(answer[0], "inference")
                    call(record, mark, stream)
                self.lane.wait()
                series["enqueue"][index] = handed_ns
                for name, start, end in zip(steps, marks, marks[1:], strict=False):
                    milliseconds = call(runtime.cudaEventElapsedTime, start, end)
                    series[name][index] = milliseconds * 1e6
        return series

    def close(self) -> None:
        """Give everything back; the stream is of no use any more."""
        self._program.forget(self)
        self.lane.close()
        for name in ("infer", "enqueue", "context", "_launch", "_h2d", "_d2h"):
            self.__dict__.pop(name, None)  # what holds the context, or an address that is gone


def _enqueue(context: Any, stream: int, log: Log) -> Step:
    execute, done = context.execute_async_v3, (runtime.cudaError_t.cudaSuccess,)

    def enqueue() -> tuple[Any, ...]:
        if not execute(stream):
            raise log.failure("execute_async_v3")
        return done

    return enqueue


def _inference(steps: Mapping[str, Step], wait: Step, device: int) -> Callable[[], None]:
    """The cheapest call that does ``steps`` and waits.

    Work that fails on the device fails in ``wait``; whatever fails, the rest is left out. A thread
    begins with device 0: where several threads may call and it is another, each call chooses it.
    """
    order = [*steps.values(), wait]
    if device:
        order.insert(0, partial(runtime.cudaSetDevice, device))

    if len(order) == 4:  # as a rule
        h2d, launch, d2h, _ = order

        def infer() -> None:
            error = h2d()[0] or launch()[0] or d2h()[0] or wait()[0]
            if error:
                raise cuda_error(error, "inference")

    else:

        def infer() -> None:
            for step in order:
                error = step()[0]
                if error:
                    raise cuda_error(error, "inference")

    return infer


class TrtProgram:
    """One engine. Streams share it, and with it the weights; each has an execution context. What
    compiling left beside it tells of its layers, so it is opened alike to be inspected.

    Attributes:
        artifact, config: what was opened, and how.
        hints: the config's, checked.
        device: index of the CUDA device.
        tf32: whether products of float32 factors may be rounded to TF32.
        shared: whether several streams may run, so several threads.
        log: what TensorRT said.
        engine: the deserialized engine.
        file_inputs, file_outputs: by the engine's names; every output, also those that the card
            leaves out. All sizes are numbers.
        inputs, outputs: by canonical name, with the engine's dtypes.
    """

    def __init__(self, artifact: Artifact, config: RunConfig) -> None:
        self.artifact, self.config = artifact, config
        self.hints, self.device = Hints.read(config.hints), device_index(config.device)
        self.tf32, self.shared = artifact.target.precision == "tf32", config.streams > 1
        if config.threads != 1:
            raise Unsupported("TensorRT uses one host thread for each stream: set threads to 1")
        self._streams: list[TrtStream] = []
        use_device(self.device, self.hints.spin)
        self.log = Log()
        self.engine: Any = load_engine(artifact.file, self.log)
        self.file_inputs = _input_specs(self.engine, config.batch)
        self._spare: Any = self._context()  # sizes of outputs are known to contexts only
        self.file_outputs = _output_specs(self.engine, self._spare)
        model = artifact.model
        io = Io.read(artifact.path)
        self.inputs = _canonical("input", model.source_inputs, self.file_inputs, io.inputs)
        self.outputs = _canonical("output", model.source_outputs, self.file_outputs, io.outputs)
        if left := set(self.file_inputs) - {t.name for t in model.source_inputs.values()}:
            raise ValueError(f"the model card leaves out the engine's input '{left.pop()}'")
        _check_batch(self.outputs, config.batch)

    def _context(self) -> Any:
        """A new execution context, its input sizes set. It holds memory for all activations."""
        context = self.engine.create_execution_context()
        if context is None:
            raise self.log.failure("creating an execution context")
        # Else it is the engine's, which is detailed for the inspector and slows every launch.
        context.nvtx_verbosity = trt.ProfilingVerbosity.LAYER_NAMES_ONLY
        for name, spec in self.file_inputs.items():
            if not context.set_input_shape(name, spec.shape):
                raise self.log.failure(f"setting the shape of '{name}' to {list(spec.shape)}")
        return context

    def stream(self) -> TrtStream:
        context, self._spare = self._spare or self._context(), None
        self._streams.append(TrtStream(self, context))
        return self._streams[-1]

    def forget(self, stream: TrtStream) -> None:
        """``stream`` is being closed: it holds no memory from here on."""
        self._streams = [other for other in self._streams if other is not stream]

    def device_memory_bytes(self) -> dict[str, int]:
        """Bytes on the device by the engine's own figures: ``weights`` once, ``activations`` for
        each execution context, ``io`` the inputs and outputs of the streams. CUDA's own (context,
        code of kernels, graphs) is none of the engine's figures and is not counted."""
        contexts = len(self._streams) + (self._spare is not None)
        held = {
            "activations": contexts * self.engine.device_memory_size_v2,
            "io": sum(stream.lane.device_bytes for stream in self._streams),
        }
        if hasattr(self.engine, "get_engine_stat"):  # the first versions of TensorRT 10 lack it
            held["weights"] = self.engine.get_engine_stat(trt.EngineStat.TOTAL_WEIGHTS_SIZE)
        return held

    def effective(self) -> EffectivePrecision:
        """By the engine inspector, with how a call launches it. See ``inspect``."""
        from qbench_tensorrt import inspect

        told = inspect.effective(self.artifact.path, self.artifact.target.precision)
        stream = self._streams[0] if self._streams else self.stream()
        stays = () if self.hints.transfers else (_STAYS,)
        return replace(told, notes=(*told.notes, stream.note, *stays))

    def profile(self, feed: Feed, runs: int) -> Profile:
        """Layers and their times, in the order of execution. See ``profile``."""
        from qbench_tensorrt.profile import profile

        return profile(self, feed, runs)

    def __enter__(self) -> TrtProgram:
        return self

    def __exit__(self, *exc: object) -> None:
        for stream in self._streams:
            stream.close()
        self._spare = self.engine = None


def _input_specs(engine: Any, batch: int) -> dict[str, TensorSpec]:
    """The engine's inputs at ``batch``; other free sizes as its profile was optimized for.

    Raises:
        Unsupported: the engine is for other batches.
    """
    specs = {}
    for name in _names(engine, trt.TensorIOMode.INPUT):
        shape = low = high = tuple(engine.get_tensor_shape(name))
        if -1 in shape:
            low, shape, high = map(tuple, engine.get_tensor_profile_shape(name, 0))
        if shape and not low[0] <= batch <= high[0]:
            built = f"{low[0]}" if low[0] == high[0] else f"{low[0]} to {high[0]}"
            raise Unsupported(f"the engine is for batch {built}, not {batch}")
        specs[name] = TensorSpec(_dtype(engine, name), (batch, *shape[1:]) if shape else ())
    return specs


def _output_specs(engine: Any, context: Any) -> dict[str, TensorSpec]:
    """Every output, as large as ``context`` says.

    Raises:
        Unsupported: the size depends on what is computed.
    """
    specs = {}
    for name in _names(engine, trt.TensorIOMode.OUTPUT):
        shape = tuple(context.get_tensor_shape(name))
        if any(size < 0 for size in shape):
            raise Unsupported(
                f"the size of output '{name}' depends on the numbers that go in; this adapter "
                "needs outputs of fixed size"
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


def _canonical(
    kind: str,
    names: Mapping[str, SourceTensor],
    specs: Mapping[str, TensorSpec],
    prepared: Mapping[str, TensorSpec],
) -> dict[str, TensorSpec]:
    """``specs`` by canonical name, with the scales that the prepared file has."""
    result = {}
    for canonical, tensor in names.items():
        if tensor.name not in specs:
            have = ", ".join(specs)
            raise ValueError(f"the engine has no {kind} '{tensor.name}'. It has: {have}.")
        spec = specs[tensor.name]
        scale, zero_point = prepared[tensor.name].scale, prepared[tensor.name].zero_point
        result[canonical] = TensorSpec(spec.dtype, spec.shape, tensor.layout, scale, zero_point)
    return result


def _check_batch(outputs: Mapping[str, TensorSpec], batch: int) -> None:
    for name, spec in outputs.items():
        if batch > 1 and spec.shape[:1] != (batch,):
            first = spec.shape[0] if spec.shape else 1
            raise Unsupported(f"output '{name}' stays at batch {first} when inputs take {batch}")
