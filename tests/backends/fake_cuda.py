"""A stand-in for ``cuda.bindings.runtime`` on machines without a GPU.

Device memory is host memory at real addresses. A stream keeps what it is given and does nothing
until somebody waits for it, so that a forgotten wait leaves old numbers where new ones should be.
Time on the device is counted, not measured: each piece of work has a cost in nanoseconds, and
events read a stream's count. Every ``cuda...`` name is one of the real module's, of 12.x and 13.x
(``test_tensorrt_session.py`` checks it against the installed one); the rest is for tests::

    enqueue(stream, function, ns=50_000)   work for a stream: what a fake kernel does
    leaks()                                what was not freed or destroyed
    fail("cudaMalloc", error)              the next call of that name answers so
    fault(error)                           the next kernel ends so, and every call after it
    reset()                                a fresh machine
    install(monkeypatch)                   this module as the real one, for a test

As this module may be a worker's, it reads ``QBENCH_FAKE_CUDA_DEVICES`` (how many there are, 1) and
``QBENCH_FAKE_CUDA_MEMORY`` (bytes of each, 1 GiB) from the environment.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import itertools
import os
import pkgutil
import sys
import threading
import traceback
import types
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

KERNEL_NS = 50_000
COPY_NS = 1_000
"""What a copy costs, and one nanosecond more for each byte."""

cudaStreamNonBlocking = 1
cudaDeviceScheduleAuto = 0
cudaDeviceScheduleSpin = 1
cudaDeviceScheduleBlockingSync = 4


class cudaError_t(IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInvalidDevice = 101
    cudaErrorECCUncorrectable = 214
    cudaErrorInvalidResourceHandle = 400
    cudaErrorNotReady = 600
    cudaErrorIllegalAddress = 700
    cudaErrorLaunchFailure = 719
    cudaErrorStreamCaptureUnsupported = 900
    cudaErrorStreamCaptureInvalidated = 901


_STRINGS = {
    cudaError_t.cudaSuccess: "no error",
    cudaError_t.cudaErrorInvalidValue: "invalid argument",
    cudaError_t.cudaErrorMemoryAllocation: "out of memory",
    cudaError_t.cudaErrorInvalidDevice: "invalid device ordinal",
    cudaError_t.cudaErrorECCUncorrectable: "uncorrectable ECC error encountered",
    cudaError_t.cudaErrorInvalidResourceHandle: "invalid resource handle",
    cudaError_t.cudaErrorNotReady: "device not ready",
    cudaError_t.cudaErrorIllegalAddress: "an illegal memory access was encountered",
    cudaError_t.cudaErrorLaunchFailure: "unspecified launch failure",
    cudaError_t.cudaErrorStreamCaptureUnsupported: (
        "operation not permitted when stream is capturing"
    ),
    cudaError_t.cudaErrorStreamCaptureInvalidated: (
        "operation failed due to a previous error during capture"
    ),
}


class cudaMemcpyKind(IntEnum):
    cudaMemcpyHostToHost = 0
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2
    cudaMemcpyDeviceToDevice = 3
    cudaMemcpyDefault = 4


class cudaStreamCaptureMode(IntEnum):
    cudaStreamCaptureModeGlobal = 0
    cudaStreamCaptureModeThreadLocal = 1
    cudaStreamCaptureModeRelaxed = 2


class _Handle:
    def __init__(self, value: int = 0) -> None:
        self._value = int(value)

    def __int__(self) -> int:
        return self._value


class cudaStream_t(_Handle):
    pass


class cudaEvent_t(_Handle):
    pass


class cudaGraph_t(_Handle):
    pass


class cudaGraphExec_t(_Handle):
    pass


# --------------------------------------------------------------------------- the machine


@dataclass
class Work:
    ns: int
    run: Callable[[], object]
    kernel: bool = False


@dataclass
class Block:
    """Memory that was allocated; ``kind`` is ``device`` or ``pinned``."""

    kind: str
    data: ctypes.Array[ctypes.c_char]
    device: int


@dataclass
class Stream:
    device: int
    queue: list[Work] = field(default_factory=list)
    ns: int = 0
    captured: list[Work] | None = None
    thread: int = 0
    spoiled: bool = False


@dataclass
class Event:
    """``at`` is the stream and its count when the event came; None until then."""

    recorded: bool = False
    captured: bool = False
    at: tuple[Stream, int] | None = None


class _Machine:
    def __init__(self) -> None:
        self.devices = int(os.environ.get("QBENCH_FAKE_CUDA_DEVICES", "1"))
        self.memory_bytes = int(os.environ.get("QBENCH_FAKE_CUDA_MEMORY", str(1 << 30)))
        self.blocks: dict[int, Block] = {}
        self.streams = {0: Stream(0)}
        self.events: dict[int, Event] = {}
        self.graphs: dict[int, list[Work]] = {}
        self.executables: dict[int, list[Work]] = {}
        self.handles = itertools.count(16)
        self.flags = dict.fromkeys(range(self.devices), cudaDeviceScheduleAuto)
        self.failures: dict[str, cudaError_t] = {}
        self.fault: cudaError_t | None = None
        self.sticky: cudaError_t | None = None
        self.calls: deque[str] = deque(maxlen=10_000)
        self.current = threading.local()

    def device(self) -> int:
        return getattr(self.current, "device", 0)

    def capturing(self) -> Stream | None:
        """The stream that this thread records."""
        here = threading.get_ident()
        found = (s for s in self.streams.values() if s.captured is not None and s.thread == here)
        return next(found, None)

    def drain(self, stream: Stream) -> None:
        """Do what ``stream`` was given, in order."""
        while stream.queue and self.sticky is None:
            work = stream.queue.pop(0)
            if work.kernel and self.fault:
                self.sticky, self.fault = self.fault, None
                return
            try:
                work.run()
            except Exception:
                traceback.print_exc()
                self.sticky = cudaError_t.cudaErrorLaunchFailure
                return
            stream.ns += work.ns

    def drain_all(self) -> None:
        for stream in self.streams.values():
            self.drain(stream)

    def holds(self, address: int, count: int, kind: str) -> bool:
        """Whether these bytes lie within one living block of this kind."""
        return any(
            start <= address and address + count <= start + len(block.data)
            for start, block in self.blocks.items()
            if block.kind == kind
        )


_machine = _Machine()
_lock = threading.RLock()


class _Refused(Exception):
    """An error code on its way out of a call."""


def _call(value: bool = False) -> Callable[[Callable[..., Any]], Callable[..., tuple[Any, ...]]]:
    """A call of the runtime, which answers as the bindings do: ``(error,)``, or with a ``value``
    ``(error, value)`` and ``(error, None)``."""

    def wrap(function: Callable[..., Any]) -> Callable[..., tuple[Any, ...]]:
        name = function.__name__

        @functools.wraps(function)
        def called(*args: Any) -> tuple[Any, ...]:
            nothing = (None,) * value
            with _lock:
                _machine.calls.append(name)
                planted = _machine.sticky or _machine.failures.pop(name, None)
                if planted is not None:
                    if name == "cudaStreamEndCapture":  # it ends, whatever it answers
                        _stream(*args).captured = None
                    return (planted, *nothing)
                try:
                    result = function(*args)
                except _Refused as refused:
                    return (refused.args[0], *nothing)
                if _machine.sticky is not None:
                    return (_machine.sticky, *nothing)
            return (cudaError_t.cudaSuccess, result) if value else (cudaError_t.cudaSuccess,)

        return called

    return wrap


def _refuse(error: cudaError_t) -> None:
    raise _Refused(error)


def _found(things: dict[int, Any], handle: Any) -> Any:
    if handle is not None and int(handle) in things:
        return things[int(handle)]
    raise _Refused(cudaError_t.cudaErrorInvalidResourceHandle)


def _stream(handle: Any) -> Stream:
    return _found(_machine.streams, 0 if handle is None else handle)


def _add(stream: Stream, *work: Work) -> None:
    """Give work to a stream of the current device."""
    if stream.device != _machine.device():
        _refuse(cudaError_t.cudaErrorInvalidResourceHandle)
    (stream.queue if stream.captured is None else stream.captured).extend(work)


def _not_while_capturing() -> None:
    """What allocates or waits spoils the recording of its thread."""
    stream = _machine.capturing()
    if stream is not None:
        stream.spoiled = True
        _refuse(cudaError_t.cudaErrorStreamCaptureUnsupported)


# --------------------------------------------------------------------------- for tests


def enqueue(stream: Any, function: Callable[[], object], ns: int = KERNEL_NS) -> None:
    """Give ``function`` to a stream (its handle or number), as launching a kernel does. What it
    needs to know it has to hold: a graph runs it again and again, as it was recorded.

    Raises:
        RuntimeError: there is no such stream, or the device has failed.
    """
    with _lock:
        if _machine.sticky is not None:
            raise RuntimeError(_machine.sticky.name)
        try:
            _add(_stream(stream), Work(ns, function, kernel=True))
        except _Refused as refused:
            raise RuntimeError(refused.args[0].name) from None


def leaks() -> list[str]:
    """What is still allocated."""
    with _lock:
        kinds = [f"{block.kind} memory" for block in _machine.blocks.values()]
        others = {
            "stream": len(_machine.streams) - 1,
            "event": len(_machine.events),
            "graph": len(_machine.graphs),
            "executable graph": len(_machine.executables),
        }
        return kinds + [name for name, count in others.items() for _ in range(count)]


def fail(name: str, error: cudaError_t) -> None:
    """The next call of ``name`` answers ``error``."""
    assert name in globals(), name
    _machine.failures[name] = error


def fault(error: cudaError_t) -> None:
    """The next kernel that runs ends with ``error``, and so does every call from then on."""
    _machine.fault = error


def calls() -> list[str]:
    """Names of the calls so far, in order."""
    return list(_machine.calls)


def flags(device: int = 0) -> int:
    """What ``cudaSetDeviceFlags`` set."""
    return _machine.flags[device]


def device_bytes(device: int = 0) -> int:
    """Bytes allocated on a device."""
    blocks = [b for b in _machine.blocks.values() if b.kind == "device" and b.device == device]
    return sum(len(block.data) for block in blocks)


def install(patch: pytest.MonkeyPatch) -> None:
    """Be ``cuda.bindings.runtime`` for a test, on a fresh machine. The adapter's modules, which
    may hold another, are imported anew, for this test only."""
    reset()
    here = sys.modules[__name__]
    package, bindings = types.ModuleType("cuda"), types.ModuleType("cuda.bindings")
    patch.setattr(package, "bindings", bindings, raising=False)
    patch.setattr(bindings, "runtime", here, raising=False)
    modules = {"cuda": package, "cuda.bindings": bindings, "cuda.bindings.runtime": here}
    for name, module in modules.items():
        patch.setitem(sys.modules, name, module)
    adapter = importlib.import_module("qbench_tensorrt")
    for module in pkgutil.iter_modules(adapter.__path__, "qbench_tensorrt."):
        patch.setitem(sys.modules, module.name, here)  # so that afterwards it is as before
        del sys.modules[module.name]


def reset() -> None:
    """A fresh machine; old handles and addresses are no longer any."""
    global _machine
    with _lock:
        _machine = _Machine()


# --------------------------------------------------------------------------- errors, devices


def cudaGetErrorName(error: cudaError_t) -> tuple[cudaError_t, bytes]:
    return cudaError_t.cudaSuccess, cudaError_t(error).name.encode()


def cudaGetErrorString(error: cudaError_t) -> tuple[cudaError_t, bytes]:
    return cudaError_t.cudaSuccess, _STRINGS[cudaError_t(error)].encode()


def cudaGetLastError() -> tuple[cudaError_t]:
    """The sticky error; others are told by the call that made them."""
    return (_machine.sticky or cudaError_t.cudaSuccess,)


@_call()
def cudaSetDevice(device: int) -> None:
    if not 0 <= device < _machine.devices:
        _refuse(cudaError_t.cudaErrorInvalidDevice)
    _machine.current.device = device


@_call()
def cudaSetDeviceFlags(flags: int) -> None:
    if flags not in (
        cudaDeviceScheduleAuto,
        cudaDeviceScheduleSpin,
        cudaDeviceScheduleBlockingSync,
    ):
        _refuse(cudaError_t.cudaErrorInvalidValue)
    _machine.flags[_machine.device()] = flags


# --------------------------------------------------------------------------- memory


def _allocate(kind: str, size: int) -> int:
    _not_while_capturing()
    if size < 0:
        raise OverflowError("can't convert negative value to size_t")
    if kind == "device" and device_bytes(_machine.device()) + size > _machine.memory_bytes:
        _refuse(cudaError_t.cudaErrorMemoryAllocation)
    data = ctypes.create_string_buffer(max(size, 1))
    ctypes.memset(data, 0xCD, size)  # what was there before
    address = ctypes.addressof(data)
    _machine.blocks[address] = Block(kind, data, _machine.device())
    return address


def _free(kind: str, address: int) -> None:
    """Freeing waits for the device, as the real one does."""
    _machine.drain_all()
    if int(address) == 0:
        return
    block = _machine.blocks.get(int(address))
    if block is None or block.kind != kind:
        _refuse(cudaError_t.cudaErrorInvalidValue)
    del _machine.blocks[int(address)]


@_call(value=True)
def cudaMalloc(size: int) -> int:
    return _allocate("device", size)


@_call()
def cudaFree(devPtr: int) -> None:
    _free("device", devPtr)


@_call(value=True)
def cudaMallocHost(size: int) -> int:
    return _allocate("pinned", size)


@_call()
def cudaFreeHost(ptr: int) -> None:
    _free("pinned", ptr)


def _memcpy(dst: int, src: int, count: int, kind: cudaMemcpyKind) -> Work:
    if not isinstance(kind, cudaMemcpyKind):
        raise TypeError("kind: a cudaMemcpyKind")
    ends = {
        cudaMemcpyKind.cudaMemcpyHostToDevice: (dst, src),
        cudaMemcpyKind.cudaMemcpyDeviceToHost: (src, dst),
    }
    on_device, on_host = ends.get(kind, (None, None))
    if on_device is None or on_host is None:
        raise NotImplementedError(kind.name)
    if not _machine.holds(on_device, count, "device"):
        _refuse(cudaError_t.cudaErrorInvalidValue)
    if not _machine.holds(on_host, count, "pinned"):  # pageable memory: not asynchronous
        _refuse(cudaError_t.cudaErrorInvalidValue)
    return Work(COPY_NS + count, functools.partial(ctypes.memmove, dst, src, count))


@_call()
def cudaMemcpyAsync(dst: int, src: int, count: int, kind: cudaMemcpyKind, stream: Any) -> None:
    _add(_stream(stream), _memcpy(dst, src, count, kind))


# --------------------------------------------------------------------------- streams, events


@_call(value=True)
def cudaStreamCreateWithFlags(flags: int) -> cudaStream_t:
    handle = next(_machine.handles)
    _machine.streams[handle] = Stream(_machine.device())
    return cudaStream_t(handle)


@_call()
def cudaStreamDestroy(stream: Any) -> None:
    _machine.drain(_found(_machine.streams, stream))
    del _machine.streams[int(stream)]


@_call()
def cudaStreamSynchronize(stream: Any) -> None:
    _not_while_capturing()
    _machine.drain(_stream(stream))


@_call(value=True)
def cudaEventCreate() -> cudaEvent_t:
    handle = next(_machine.handles)
    _machine.events[handle] = Event()
    return cudaEvent_t(handle)


@_call()
def cudaEventDestroy(event: Any) -> None:
    _found(_machine.events, event)
    del _machine.events[int(event)]


@_call()
def cudaEventRecord(event: Any, stream: Any) -> None:
    marked, lane = _found(_machine.events, event), _stream(stream)
    marked.recorded, marked.captured, marked.at = True, lane.captured is not None, None

    def mark() -> None:
        marked.at = (lane, lane.ns)

    _add(lane, Work(0, mark))


def _wait_for(event: Any) -> None:
    marked = _found(_machine.events, event)
    if marked.recorded and marked.at is None:
        _machine.drain_all()


@_call()
def cudaEventSynchronize(event: Any) -> None:
    _not_while_capturing()
    _wait_for(event)


@_call()
def cudaEventQuery(event: Any) -> None:
    _wait_for(event)


@_call(value=True)
def cudaEventElapsedTime(start: Any, end: Any) -> float:
    first, last = _found(_machine.events, start), _found(_machine.events, end)
    if not (first.recorded and last.recorded):
        raise _Refused(cudaError_t.cudaErrorInvalidResourceHandle)
    if first.captured or last.captured:
        raise _Refused(cudaError_t.cudaErrorInvalidValue)
    if first.at is None or last.at is None:
        raise _Refused(cudaError_t.cudaErrorNotReady)
    return (last.at[1] - first.at[1]) / 1e6


# --------------------------------------------------------------------------- graphs


@_call()
def cudaStreamBeginCapture(stream: Any, mode: cudaStreamCaptureMode) -> None:
    if not isinstance(mode, cudaStreamCaptureMode):
        raise TypeError("mode: a cudaStreamCaptureMode")
    lane = _found(_machine.streams, stream)
    if int(stream) == 0 or lane.captured is not None:
        _refuse(cudaError_t.cudaErrorStreamCaptureUnsupported)
    lane.captured, lane.thread, lane.spoiled = [], threading.get_ident(), False


@_call(value=True)
def cudaStreamEndCapture(stream: Any) -> cudaGraph_t:
    lane = _found(_machine.streams, stream)
    work, lane.captured = lane.captured, None
    if work is None:
        raise _Refused(cudaError_t.cudaErrorInvalidValue)
    if lane.spoiled:
        raise _Refused(cudaError_t.cudaErrorStreamCaptureInvalidated)
    handle = next(_machine.handles)
    _machine.graphs[handle] = work
    return cudaGraph_t(handle)


@_call(value=True)
def cudaGraphInstantiate(graph: Any, flags: int) -> cudaGraphExec_t:
    work = _found(_machine.graphs, graph)
    handle = next(_machine.handles)
    _machine.executables[handle] = list(work)
    return cudaGraphExec_t(handle)


@_call()
def cudaGraphUpload(graphExec: Any, stream: Any) -> None:
    _found(_machine.executables, graphExec)
    _stream(stream)


@_call()
def cudaGraphLaunch(graphExec: Any, stream: Any) -> None:
    _add(_stream(stream), *_found(_machine.executables, graphExec))


@_call()
def cudaGraphDestroy(graph: Any) -> None:
    _found(_machine.graphs, graph)
    del _machine.graphs[int(graph)]


@_call()
def cudaGraphExecDestroy(graphExec: Any) -> None:
    _found(_machine.executables, graphExec)
    del _machine.executables[int(graphExec)]
