"""CUDA as this adapter needs it: calls that raise, memory, streams, events, graphs.

Imported while measuring: the standard library, NumPy and cuda.bindings only. Its functions answer
``(error, value, ...)`` and never raise; whoever forgets to look measures a call that failed.
Checked against cuda-bindings 12.9 and 13.5, whose signatures of all that is used here are equal
(``cudaGraphInstantiate`` too, which differs between CUDA 11 and 12).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any

import numpy as np
from cuda.bindings import runtime  # pyright: ignore[reportAttributeAccessIssue]

Step = Callable[[], tuple[Any, ...]]
"""A call of the runtime with its arguments bound: answers ``(error, ...)``."""


class CudaError(RuntimeError):
    """A call failed, or work that was launched before it.

    Attributes:
        name: CUDA's name, such as ``cudaErrorIllegalAddress``.
    """

    def __init__(self, message: str, name: str) -> None:
        super().__init__(message)
        self.name = name


class CudaOutOfMemory(CudaError, MemoryError):
    """The card's memory, or memory that can be pinned, is used up."""


def cuda_error(error: Any, doing: str) -> CudaError:
    """The exception for an error code: ``doing`` is what failed, such as ``cudaMalloc``."""
    name = runtime.cudaGetErrorName(error)[1].decode()
    text = runtime.cudaGetErrorString(error)[1].decode()
    kind = CudaOutOfMemory if name == "cudaErrorMemoryAllocation" else CudaError
    return kind(f"{doing}: {text} ({name})", name)


def call(function: Any, *args: Any) -> Any:
    """What a call of the runtime answers beside its error: None, a value, or a tuple.

    Raises:
        CudaError: by its name and text; CudaOutOfMemory is a MemoryError too.
    """
    error, *values = function(*args)
    if error:
        raise cuda_error(error, getattr(function, "func", function).__name__)  # a step has func
    return values[0] if len(values) == 1 else tuple(values) or None


def use_device(index: int, spin: bool) -> None:
    """Make ``index`` this thread's device, and say how this process waits for it: asking over and
    over (the shortest wait; it keeps a core busy) or asleep. The card itself is left as it is."""
    call(runtime.cudaSetDevice, index)
    flag = runtime.cudaDeviceScheduleSpin if spin else runtime.cudaDeviceScheduleBlockingSync
    call(runtime.cudaSetDeviceFlags, flag)


class Lane(ExitStack):
    """A CUDA stream and what was made for it; ``close`` waits and gives all of it back.

    What is given back last was made first. A card that has failed answers every call with its
    error: those on the way out are not told again.

    Attributes:
        stream: the handle, of a stream that waits for no other.
        device_bytes: bytes that are held on the device.
    """

    def __init__(self) -> None:
        super().__init__()
        self.device_bytes = 0
        self.stream: Any = self._made(
            runtime.cudaStreamCreateWithFlags,
            runtime.cudaStreamDestroy,
            runtime.cudaStreamNonBlocking,
        )

    def _made(self, make: Callable[..., Any], unmake: Callable[..., Any], *args: Any) -> Any:
        thing = call(make, *args)
        self.callback(unmake, thing)
        return thing

    def close(self) -> None:
        """Wait for what was begun, which may still use the memory, and give all of it back."""
        with suppress(CudaError):
            self.wait()
        super().close()

    def wait(self) -> None:
        """Until the stream has done all that it was given."""
        call(runtime.cudaStreamSynchronize, self.stream)

    @contextmanager
    def events(self, count: int) -> Iterator[list[Any]]:
        """Events to record, for as long as the ``with`` lasts."""
        with ExitStack() as stack:
            made = []
            for _ in range(count):
                made.append(call(runtime.cudaEventCreate))
                stack.callback(runtime.cudaEventDestroy, made[-1])
            yield made

    def device(self, size: int) -> int:
        """The address of ``size`` bytes on the device."""
        address = self._made(runtime.cudaMalloc, runtime.cudaFree, size)
        self.device_bytes += size
        return int(address)

    def pinned(self, size: int) -> np.ndarray:
        """``[size]`` uint8 in memory that the card reads and writes by itself; all zero. Gone when
        the lane is left, whoever still looks at it."""
        address = int(self._made(runtime.cudaMallocHost, runtime.cudaFreeHost, size))
        array = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
        array[:] = 0
        return array

    def to_device(self, address: int, array: np.ndarray) -> Step:
        """The step that begins to copy all of a pinned ``array`` to ``address``."""
        kind = runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        return partial(
            runtime.cudaMemcpyAsync, address, array.ctypes.data, array.nbytes, kind, self.stream
        )

    def to_host(self, array: np.ndarray, address: int) -> Step:
        """The step that begins to copy from ``address`` into all of a pinned ``array``."""
        kind = runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        return partial(
            runtime.cudaMemcpyAsync, array.ctypes.data, address, array.nbytes, kind, self.stream
        )

    def captured(self, enqueue: Callable[[], object]) -> Step:
        """The step that launches, as one graph, what ``enqueue`` gives to the stream. Only this
        thread's calls are watched: other lanes may go on.

        Raises:
            CudaError: something in it cannot be recorded; the stream is as it was.
        """
        mode = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        with ExitStack() as stack:
            call(runtime.cudaStreamBeginCapture, self.stream, mode)
            try:
                enqueue()
            finally:
                error, graph = runtime.cudaStreamEndCapture(self.stream)
                if graph is not None:
                    stack.callback(runtime.cudaGraphDestroy, graph)
                runtime.cudaGetLastError()  # TensorRT would take it for an error of its own
            if error:
                raise cuda_error(error, "cudaStreamEndCapture")
            launchable = self._made(
                runtime.cudaGraphInstantiate, runtime.cudaGraphExecDestroy, graph, 0
            )
        call(runtime.cudaGraphUpload, launchable, self.stream)
        self.wait()
        return partial(runtime.cudaGraphLaunch, launchable, self.stream)
