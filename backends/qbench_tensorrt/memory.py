"""CUDA for this adapter: calls that raise, memory, streams, events, graphs.

Imported while measuring: the standard library, NumPy and cuda.bindings only. Functions of
cuda.bindings return ``(error, value, ...)`` and never raise, so an unchecked call may have failed.
Checked against cuda-bindings 12.9 and 13.5, which have the same signatures of the functions used
here (including ``cudaGraphInstantiate``, which differs between CUDA 11 and 12).
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
"""A call of the runtime with its arguments bound; returns ``(error, ...)``."""


class CudaError(RuntimeError):
    """A call failed, or work launched before it.

    Attributes:
        name: CUDA's name, such as ``cudaErrorIllegalAddress``.
    """

    def __init__(self, message: str, name: str) -> None:
        super().__init__(message)
        self.name = name


class CudaOutOfMemory(CudaError, MemoryError):
    """Out of device memory or of pinnable host memory."""


def cuda_error(error: Any, doing: str) -> CudaError:
    """The exception for an error code of the call ``doing``, such as ``cudaMalloc``."""
    name = runtime.cudaGetErrorName(error)[1].decode()
    text = runtime.cudaGetErrorString(error)[1].decode()
    kind = CudaOutOfMemory if name == "cudaErrorMemoryAllocation" else CudaError
    return kind(f"{doing}: {text} ({name})", name)


def call(function: Any, *args: Any) -> Any:
    """Call the runtime; returns the values after the error: None, a value, or a tuple.

    Raises:
        CudaError: the call failed; CudaOutOfMemory is also a MemoryError.
    """
    error, *values = function(*args)
    if error:
        raise cuda_error(error, getattr(function, "func", function).__name__)  # a step has func
    return values[0] if len(values) == 1 else tuple(values) or None


def use_device(index: int, spin: bool) -> None:
    """Make ``index`` this thread's device, and choose how this process waits for it: by polling
    (``spin``: the shortest wait, which keeps a core busy) or asleep. It changes nothing on the
    card."""
    call(runtime.cudaSetDevice, index)
    flag = runtime.cudaDeviceScheduleSpin if spin else runtime.cudaDeviceScheduleBlockingSync
    call(runtime.cudaSetDeviceFlags, flag)


class Lane(ExitStack):
    """A CUDA stream and its resources; ``close`` waits and frees them in reverse order.

    A failed card returns its error from every call; ``close`` does not report it again.

    Attributes:
        stream: the handle, of a stream that waits for no other.
        device_bytes: bytes held on the device.
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
        """Wait for pending work, which may still use the memory, and free everything."""
        with suppress(CudaError):
            self.wait()
        super().close()

    def wait(self) -> None:
        """Return once the stream has finished all its work."""
        call(runtime.cudaStreamSynchronize, self.stream)

    @contextmanager
    def events(self, count: int) -> Iterator[list[Any]]:
        """Events to record, valid inside the ``with`` block."""
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
        """``[size]`` uint8, zero, in page-locked memory, which the card accesses directly. Freed
        with the lane, even if views of it remain."""
        address = int(self._made(runtime.cudaMallocHost, runtime.cudaFreeHost, size))
        array = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
        array[:] = 0
        return array

    def to_device(self, address: int, array: np.ndarray) -> Step:
        """The step that starts copying a pinned ``array`` to ``address``."""
        kind = runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        return partial(
            runtime.cudaMemcpyAsync, address, array.ctypes.data, array.nbytes, kind, self.stream
        )

    def to_host(self, array: np.ndarray, address: int) -> Step:
        """The step that starts copying from ``address`` into a pinned ``array``."""
        kind = runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        return partial(
            runtime.cudaMemcpyAsync, array.ctypes.data, address, array.nbytes, kind, self.stream
        )

    def captured(self, enqueue: Callable[[], object]) -> Step:
        """The step that launches the work of ``enqueue`` as one graph. Captures this thread's calls
        only, so other lanes may continue.

        Raises:
            CudaError: some work cannot be recorded; the stream is unchanged.
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
                runtime.cudaGetLastError()  # TensorRT would mistake it for its own error
            if error:
                raise cuda_error(error, "cudaStreamEndCapture")
            launchable = self._made(
                runtime.cudaGraphInstantiate, runtime.cudaGraphExecDestroy, graph, 0
            )
        call(runtime.cudaGraphUpload, launchable, self.stream)
        self.wait()
        return partial(runtime.cudaGraphLaunch, launchable, self.stream)
