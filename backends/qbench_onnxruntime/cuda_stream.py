"""A stream on a CUDA device: page-locked buffers, copies, and times by segment.

Imported while measuring on such a device: the standard library, NumPy and onnxruntime only. CUDA's
runtime is the library that the provider has loaded.
"""

from __future__ import annotations

import ctypes
import time
import weakref
from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from qbench.kit.model import Feed
from qbench_onnxruntime.stream import OrtStream, Ports

if TYPE_CHECKING:
    import onnxruntime as ort

_TO_DEVICE, _TO_HOST = 1, 2  # cudaMemcpyKind


class Cuda:
    """Memory of a device, through CUDA's runtime.

    Args:
        major: version of the runtime, which is the build's.
        index: the device.

    Attributes:
        copy: cudaMemcpy(destination, source, bytes, kind); returns a status once all is copied,
            since the host's memory is page-locked.
    """

    def __init__(self, major: int, index: int) -> None:
        self._runtime = ctypes.CDLL(f"libcudart.so.{major}")
        self._runtime.cudaGetErrorString.restype = ctypes.c_char_p
        self.index = index
        self.copy = self._runtime.cudaMemcpy
        self.copy.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)

    def check(self, status: int) -> None:
        """Raise RuntimeError if ``status`` is an error."""
        if status:
            text = self._runtime.cudaGetErrorString(ctypes.c_int(status)).decode()
            raise RuntimeError(f"CUDA error {status}: {text}")

    def use(self) -> None:
        """Make this the calling thread's device."""
        self.check(self._runtime.cudaSetDevice(ctypes.c_int(self.index)))

    def wait(self) -> None:
        """Return once the device has finished all its work."""
        self.check(self._runtime.cudaDeviceSynchronize())

    def locked_empty(self, shape: Sequence[int], dtype: str) -> np.ndarray:
        """An uninitialised array in page-locked memory, which the device accesses directly; freed
        with the array and its views."""
        kind = np.dtype(dtype)
        size = prod(shape) * kind.itemsize
        if size == 0:
            return np.empty(shape, kind)
        address = ctypes.c_void_p()
        self.check(
            self._runtime.cudaHostAlloc(
                ctypes.byref(address), ctypes.c_size_t(size), ctypes.c_uint(0)
            )
        )
        owner = (ctypes.c_uint8 * size).from_address(address.value or 0)
        # at exit the runtime frees everything, and may already be unloaded
        weakref.finalize(owner, self._runtime.cudaFreeHost, address).atexit = False
        return np.ctypeslib.as_array(owner).view(kind).reshape(tuple(shape))


class _Placed(NamedTuple):
    """A tensor's addresses on host and device, for cudaMemcpy."""

    host: int
    device: int
    bytes: int


class CudaStream(OrtStream):
    """One IOBinding on device memory that never moves; the host's buffers are page-locked.

    ``infer`` copies the inputs to the device, runs, and copies the outputs back, waiting for each.
    (ONNX Runtime itself would copy inputs that are bound on the host only once, in ``bind``.) With
    the hint ``transfers: false`` it only runs. ONNX Runtime allocates an output whose size is known
    only after the run, and copies it to the host as part of the run.

    Args:
        transfers: whether ``infer`` copies.
    """

    def __init__(
        self, session: ort.InferenceSession, ports: Ports, cuda: Cuda, transfers: bool
    ) -> None:
        self._cuda, self._transfers = cuda, transfers
        self._up: dict[str, _Placed] = {}
        self._down: dict[str, _Placed] = {}
        cuda.use()
        super().__init__(session, ports)
        self._compute = self.infer
        if transfers:
            self.infer = self._copy_and_compute

    def _input_buffer(self, name: str, shape: Sequence[int], dtype: str) -> np.ndarray:
        buffer, value, self._up[name] = self._place(shape, dtype)
        self._binding.bind_ortvalue_input(name, value)
        return buffer

    def _output_buffer(self, name: str, shape: Sequence[int], dtype: str) -> np.ndarray:
        buffer, value, self._down[name] = self._place(shape, dtype)
        self._binding.bind_ortvalue_output(name, value)
        return buffer

    def _place(self, shape: Sequence[int], dtype: str) -> tuple[np.ndarray, ort.OrtValue, _Placed]:
        import onnxruntime

        buffer = self._cuda.locked_empty(shape, dtype)
        value = onnxruntime.OrtValue.ortvalue_from_shape_and_type(
            list(shape), buffer.dtype, "cuda", self._cuda.index
        )
        return buffer, value, _Placed(buffer.ctypes.data, value.data_ptr(), buffer.nbytes)

    def bind(self, feed: Feed) -> None:
        self._cuda.use()  # in the thread that calls infer later
        super().bind(feed)
        if not self._transfers:
            self._upload()

    def read_file(self) -> Feed:
        if not self._transfers:
            self._download()
        return super().read_file()

    def _copy_and_compute(self) -> None:
        if self._cuda.index:  # threads start with device 0, where a copy would start CUDA too
            self._cuda.use()
        self._upload()
        self._compute()
        self._download()

    def _upload(self) -> None:
        for tensor in self._up.values():
            self._cuda.check(self._cuda.copy(tensor.device, tensor.host, tensor.bytes, _TO_DEVICE))

    def _download(self) -> None:
        for tensor in self._down.values():
            self._cuda.check(self._cuda.copy(tensor.host, tensor.device, tensor.bytes, _TO_HOST))

    def segments(self, calls: int) -> Mapping[str, np.ndarray]:
        """Times by the host's clock, waiting for each segment, since ONNX Runtime records no events
        on its streams. ``compute`` begins with the first launch and ends when the host knows that
        the device is done: about ten microseconds longer than the device's own time, plus any delay
        of launches. Without transfers there is no ``h2d`` and no ``d2h``.
        """
        import onnxruntime

        clock, cuda, times = time.perf_counter_ns, self._cuda, np.empty((calls, 5))
        unwaited = onnxruntime.RunOptions()
        unwaited.add_run_config_entry("disable_synchronize_execution_providers", "1")
        copied = self._transfers
        for row in times:
            row[0] = clock()
            if copied:
                self._upload()
            row[1] = clock()
            self._session.run_with_iobinding(self._binding, unwaited)
            row[2] = clock()
            cuda.wait()
            row[3] = clock()
            if copied:
                self._download()
            row[4] = clock()
        start, up, handed, done, down = times.T
        segments = {"compute": done - up, "enqueue": handed - up}
        return {"h2d": up - start, **segments, "d2h": down - done} if copied else segments
