"""Running on a CUDA device: page-locked buffers, copies, and times by segment.

Imported while measuring on such a device: the standard library, NumPy and onnxruntime only. The
calls into CUDA's runtime are those of the library that the provider itself has loaded.
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
from qbench_onnxruntime.stream import OrtStream

if TYPE_CHECKING:
    import onnxruntime as ort

    from qbench_onnxruntime.session import OrtProgram

_TO_DEVICE, _TO_HOST = 1, 2  # cudaMemcpyKind


class Cuda:
    """A device's memory, by CUDA's runtime.

    Args:
        major: the runtime's version, that of the build.
        index: the device.

    Attributes:
        copy: cudaMemcpy: destination, source, bytes, kind. It returns a status, and when all is
            copied, since the host's memory is page-locked.
    """

    def __init__(self, major: int, index: int) -> None:
        self._runtime = ctypes.CDLL(f"libcudart.so.{major}")
        self._runtime.cudaGetErrorString.restype = ctypes.c_char_p
        self.index = index
        self.copy = self._runtime.cudaMemcpy
        self.copy.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)

    def check(self, status: int) -> None:
        """Raise RuntimeError for a status that is an error."""
        if status:
            text = self._runtime.cudaGetErrorString(ctypes.c_int(status)).decode()
            raise RuntimeError(f"CUDA error {status}: {text}")

    def use(self) -> None:
        """Make it the calling thread's device."""
        self.check(self._runtime.cudaSetDevice(ctypes.c_int(self.index)))

    def wait(self) -> None:
        """Return when the device has done all that it was given."""
        self.check(self._runtime.cudaDeviceSynchronize())

    def locked_empty(self, shape: Sequence[int], dtype: str) -> np.ndarray:
        """An uninitialised array in page-locked memory, which the device reads and writes itself;
        freed with the array and its views."""
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
        # at exit the runtime frees all there is, and may be gone by then
        weakref.finalize(owner, self._runtime.cudaFreeHost, address).atexit = False
        return np.ctypeslib.as_array(owner).view(kind).reshape(tuple(shape))


class _Placed(NamedTuple):
    """A tensor on the host and on the device, as cudaMemcpy wants it."""

    host: int
    device: int
    bytes: int


class CudaStream(OrtStream):
    """One IOBinding on device memory that stays where it is; the buffers are page-locked.

    ``infer`` copies the inputs to the device, runs, and copies the outputs back, each waited for.
    (Inputs that are bound on the host ONNX Runtime would copy only once, when they are bound.)
    With the hint ``transfers: false`` it only runs. An output whose size is known only after
    running is allocated, and copied to the host, by ONNX Runtime as a part of running.

    Args:
        transfers: whether ``infer`` copies.
    """

    def __init__(
        self, program: OrtProgram, session: ort.InferenceSession, cuda: Cuda, transfers: bool
    ) -> None:
        self._cuda, self._transfers = cuda, transfers
        self._up: dict[str, _Placed] = {}
        self._down: dict[str, _Placed] = {}
        cuda.use()
        super().__init__(program, session)
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
        self._cuda.use()  # in the thread that will infer
        super().bind(feed)
        if not self._transfers:
            self._upload()

    def read_file(self) -> Feed:
        if not self._transfers:
            self._download()
        return super().read_file()

    def _copy_and_compute(self) -> None:
        if self._cuda.index:  # threads begin with device 0, and a copy would start CUDA there, too
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
        """See ``qbench.kit.adapter.Stream``. By the host's clock, each segment waited for, since
        ONNX Runtime records no events on its streams: ``compute`` begins with the first launch and
        ends when the host knows that the device is done, so it is longer than the device's own
        time, by about ten microseconds and by all that launching lags behind. Without transfers
        there is no ``h2d`` and no ``d2h``.
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
