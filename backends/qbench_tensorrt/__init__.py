"""qbench's adapter for TensorRT: declared, and probed; it does not run models yet."""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from qbench.backend import (
    Artifact,
    Calibration,
    Feed,
    Model,
    PrepareTarget,
    RunConfig,
    Unavailable,
    Unsupported,
)

NOT_YET = "the TensorRT adapter can't run models yet in this version"
_PIP = "pip install 'qbench[tensorrt]'"
_DRIVER = "libcuda.so.1"
_NO_DEVICE = 100
"""CUDA_ERROR_NO_DEVICE of the CUDA driver API."""


class Backend:
    """ONNX files on TensorRT."""

    name = "tensorrt"
    api_version = 1
    prepare_version = 1
    formats: tuple[str, ...] = ("onnx",)
    runtime_packages: tuple[str, ...] = ("tensorrt", "cuda-bindings", "numpy")
    prepare_packages: tuple[str, ...] = ("tensorrt", "onnx", "numpy")
    shareable: tuple[str, ...] = ()

    def probe(self) -> Unavailable:
        """Look for the driver, a device and the package, in this order: without a device some
        calls of the package end the process."""
        return _no_device() or _no_package() or Unavailable(NOT_YET, "update qbench")

    def supports(self, model: Model, target: PrepareTarget) -> str | None:
        """Always the reason why not."""
        return NOT_YET

    def import_runtime(self) -> NoReturn:
        """Raises Unsupported: nothing can be run yet."""
        raise Unsupported(NOT_YET)

    def describe(self, path: Path) -> NoReturn:
        """Raises Unsupported: nothing can be prepared yet."""
        raise Unsupported(NOT_YET)

    def prepare(
        self, model: Model, target: PrepareTarget, calibration: Calibration | None, out: Path
    ) -> NoReturn:
        """Raises Unsupported: nothing can be prepared yet."""
        raise Unsupported(NOT_YET)

    def open(self, artifact: Artifact, config: RunConfig, inspect: bool = False) -> NoReturn:
        """Raises Unsupported: nothing can be run yet."""
        raise Unsupported(NOT_YET)

    def activations(self, artifact: Artifact, config: RunConfig, feeds: Iterable[Feed]) -> NoReturn:
        """Raises Unsupported: nothing can be run yet."""
        raise Unsupported(NOT_YET)


def _no_device() -> Unavailable | None:
    """Why there is no CUDA device, or None if there is one."""
    on_gpu = "run on a host with an NVIDIA GPU"
    try:
        cuda = ctypes.CDLL(_DRIVER)
        initialize, count_devices = cuda.cuInit, cuda.cuDeviceGetCount
    except (OSError, AttributeError) as error:
        return Unavailable(
            f"no NVIDIA driver: {_first_line(error)}",
            f"{on_gpu}, and install its driver (it brings {_DRIVER})",
        )
    initialize.argtypes = [ctypes.c_uint]
    count_devices.argtypes = [ctypes.POINTER(ctypes.c_int)]
    initialize.restype = count_devices.restype = ctypes.c_int

    devices = ctypes.c_int(0)
    status = initialize(0) or count_devices(ctypes.byref(devices))
    if status not in (0, _NO_DEVICE):
        return Unavailable(
            f"the NVIDIA driver does not start (CUDA error {status})",
            "run nvidia-smi: it names the cause, such as a driver that differs from the kernel's",
        )
    if status == _NO_DEVICE or not devices.value:
        return Unavailable("no CUDA device", f"{on_gpu}, and check CUDA_VISIBLE_DEVICES")
    return None


def _no_package() -> Unavailable | None:
    """Why the package cannot be used, or None if it can."""
    try:
        importlib.import_module("tensorrt")
    except ModuleNotFoundError as error:
        if error.name != "tensorrt":
            return Unavailable(f"tensorrt does not load: {_first_line(error)}", _PIP)
        return Unavailable("the tensorrt package is not installed", _PIP)
    except Exception as error:
        return Unavailable(f"tensorrt does not load: {_first_line(error)}", f"reinstall it: {_PIP}")
    return None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
