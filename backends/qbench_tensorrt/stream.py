"""A stream: buffers, CUDA graph, launches, and times by segment.

A call copies its inputs to the device in one block, launches the engine, copies all outputs back in
one block, and waits. The engine's work is recorded as a CUDA graph, which the host launches at once
instead of kernel by kernel. The copies stay outside of the graph, as in trtexec: events between
copies and graph then time the very graph that was measured, and the first copy runs while the host
still launches.

Imported while measuring: the standard library, NumPy, tensorrt and cuda.bindings only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from cuda.bindings import runtime  # pyright: ignore[reportAttributeAccessIssue]

from qbench.kit.adapter import Stream
from qbench.kit.feeds import check_feed, convert
from qbench.kit.model import Feed, Model, TensorSpec
from qbench_tensorrt.log import Log
from qbench_tensorrt.memory import Lane, Step, call, cuda_error
from qbench_tensorrt.options import Hints
from qbench_tensorrt.tensors import Block, read, write

_AS_GRAPH = "a call launches the engine as one CUDA graph"
_EAGER = "a call launches each kernel by itself"


class Ports(NamedTuple):
    """The inputs and outputs of an opened engine.

    Attributes:
        batch: items in one inference.
        inputs, outputs: by canonical name, with the engine's dtypes.
        file_inputs, file_outputs: by the engine's names, including outputs that the card leaves
            out. All sizes are numbers.
    """

    model: Model
    batch: int
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    file_inputs: Mapping[str, TensorSpec]
    file_outputs: Mapping[str, TensorSpec]


class Setting(NamedTuple):
    """How an engine runs.

    Attributes:
        device: index of the CUDA device.
        shared: whether several streams, hence several threads, may run.
        log: TensorRT's messages.
    """

    hints: Hints
    device: int
    shared: bool
    log: Log


class TrtStream(Stream):
    """One execution context on its own CUDA stream, over buffers that never move. ``infer`` costs
    one Python frame.

    Attributes:
        note: how the engine is launched, and why, a sentence.
        lane: the CUDA stream and its memory.
        context: the execution context, with its addresses set.
        enqueue: hands the engine's work to the CUDA stream, kernel by kernel.
    """

    def __init__(
        self, ports: Ports, setting: Setting, context: Any, forget: Callable[[TrtStream], None]
    ) -> None:
        """
        Args:
            forget: called when the stream closes.
        """
        self._ports, self._setting, self._forget, self.context = ports, setting, forget, context
        self.lane = Lane()
        try:
            self._prepare(Block(ports.file_inputs), Block(ports.file_outputs))
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
                    raise self._setting.log.failure(f"setting the address of '{name}'")
        self.enqueue = _enqueue(self.context, int(lane.stream), self._setting.log)

        call(self._h2d)  # zeros
        self._launch = self._launched()
        answered[:] = 0xFF  # NaN, visible to a reader before the first call
        call(lane.to_device(back, answered))
        lane.wait()

        wait = partial(runtime.cudaStreamSynchronize, lane.stream)
        setting = self._setting
        self.infer = _inference(self._steps(), wait, setting.device if setting.shared else 0)

    def _launched(self) -> Step:
        """The step that launches the engine; sets ``note``. Runs the engine once first, so that no
        timed call sets anything up lazily; a graph may only be recorded after that."""
        self.enqueue()
        self.lane.wait()
        if not self._setting.hints.cuda_graph:
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
        """Steps that a call hands to the CUDA stream, in order, by name of the segment."""
        if not self._setting.hints.transfers:
            return {"compute": self._launch}
        return {"h2d": self._h2d, "compute": self._launch, "d2h": self._d2h}

    def bind(self, feed: Feed) -> None:
        """Copy ``feed`` into pinned memory, and on to the device if a call does not."""
        model = self._ports.model
        check_feed(feed, model.inputs, self._ports.batch)
        arrays = model.to_source(feed)
        for canonical, tensor in model.source_inputs.items():
            have, want = model.inputs[canonical], self._ports.inputs[canonical]
            try:
                write(self._given[tensor.name], arrays[tensor.name], have, want)
            except ValueError as error:
                raise ValueError(f"input '{canonical}': {error}") from None
        if not self._setting.hints.transfers:
            self._finish(self._h2d)

    def read(self) -> Feed:
        model, have = self._ports.model, self._ports.outputs
        return {
            name: convert(array, have[name], model.outputs[name])
            for name, array in model.from_source(self.read_file()).items()
        }

    def read_file(self) -> Feed:
        """Copies of all outputs of the last ``infer``, by the engine's names."""
        if not self._setting.hints.transfers:
            self._finish(self._d2h)
        specs = self._ports.file_outputs
        return {name: read(view, specs[name]) for name, view in self._answered.items()}

    def _finish(self, step: Step) -> None:
        call(runtime.cudaSetDevice, self._setting.device)
        call(step)
        self.lane.wait()

    def segments(self, calls: int) -> Mapping[str, np.ndarray]:
        """Times of the steps of ``infer``, in the same order, by events between them. ``enqueue``
        is the host's time in these steps, without the recording of events. A call that leaves data
        on the device has no ``h2d`` and no ``d2h``.

        CUDA's events have a resolution of about half a microsecond. A segment begins when the
        previous one ends, so it includes the device's wait for a slower host.
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
        """Free all memory; the stream is unusable afterwards."""
        self._forget(self)
        self.lane.close()
        for name in ("infer", "enqueue", "context", "_launch", "_h2d", "_d2h"):
            vars(self).pop(name, None)  # they hold the context, or a freed address


def _enqueue(context: Any, stream: int, log: Log) -> Step:
    execute, done = context.execute_async_v3, (runtime.cudaError_t.cudaSuccess,)

    def enqueue() -> tuple[Any, ...]:
        if not execute(stream):
            raise log.failure("execute_async_v3")
        return done

    return enqueue


def _inference(steps: Mapping[str, Step], wait: Step, device: int) -> Callable[[], None]:
    """The cheapest call that runs ``steps`` and waits.

    Work that fails on the device fails in ``wait``; after a failure the remaining steps are not
    run. A thread starts with device 0, so each call selects ``device`` if it is not 0 and several
    threads may call.
    """
    order = [*steps.values(), wait]
    if device:
        order.insert(0, partial(runtime.cudaSetDevice, device))

    if len(order) == 4:  # the usual case
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
