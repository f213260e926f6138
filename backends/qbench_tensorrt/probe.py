"""Probe TensorRT: each possible fault has its own reason and remedy.

Checks in order: NVIDIA's driver and its devices (``qbench.kit.cuda``), the devices' compute
capability, the package tensorrt, the package cuda-bindings, the version of CUDA that both are built
for, opening a device, creating a builder. The last five run in a separate process, which they may
crash.
"""

from __future__ import annotations

import importlib
import re
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as distribution_version
from typing import Any

from qbench.kit import apart, cuda
from qbench.kit.adapter import Ready, Unavailable
from qbench_tensorrt import capability

LEAST = (10, 0)
"""Minimum version of TensorRT, major and minor."""

TIMEOUT_S = 55.0
"""For the whole probe, half of it for the driver: waking idle GPUs takes seconds each, and loading
TensorRT's gigabytes of libraries takes time too. Less than the limit of a probe."""

_TENSORRT, _CUDA, _DEVICE, _BUILDER = (
    "import of tensorrt",
    "import of cuda.bindings",
    "opening of the GPU",
    "creation of a builder",
)


class Lacking(Exception):
    """A requirement of TensorRT is missing or unsuitable."""

    def __init__(self, reason: str, fix: str) -> None:
        super().__init__(f"{reason}. {fix}")
        self.reason, self.fix = reason, fix


def probe(timeout_s: float = TIMEOUT_S) -> Ready | Unavailable:
    """Probe the runtime on all devices."""
    begin = time.monotonic()
    try:
        devices = cuda.devices(timeout_s / 2)
        old = {device.key: reason for device in devices if (reason := capability.too_old(device))}
        served = [device for device in devices if device.key not in old]
        if not served:
            raise Lacking(next(iter(old.values())), "Run on a GPU of 2018 (Turing) or later.")
        tensorrt = _examine(served, timeout_s - (time.monotonic() - begin))
        new = {d.key: reason for d in served if (reason := capability.too_new(d, tensorrt))}
        served = [device for device in served if device.key not in new]
        if not served:
            raise Lacking(next(iter(new.values())), "Upgrade it: pip install --upgrade tensorrt.")
    except (cuda.NoCuda, Lacking) as error:
        return Unavailable(error.reason, error.fix)
    unserved = {**old, **new}
    return Ready(
        tensorrt,
        precisions={d.key: () for d in devices} | {d.key: capability.offered(d) for d in served},
        missing={key: dict.fromkeys(capability.PRECISIONS, why) for key, why in unserved.items()}
        | {device.key: capability.missing(device) for device in served},
        devices={device.key: device.facts() for device in devices},
        compiled=tuple(device.key for device in served),
    )


def _examine(devices: Sequence[cuda.Device], timeout_s: float) -> str:
    """The version of TensorRT, if it works on the first of these devices.

    Raises:
        Lacking: it does not work.
    """
    first = devices[0].facts()
    try:
        answer = apart.call(f"{__name__}:examine", timeout_s, device=first)
    except apart.Died as died:
        raise Lacking(
            f"the {died.step or 'start'} {died.how}{f': {died.said}' if died.said else ''}",
            _AFTER_HANGING if died.hung else _AFTER_DYING.get(died.step, "Reinstall qbench."),
        ) from died
    if "reason" in answer:
        raise Lacking(answer["reason"], answer["fix"])
    return answer["version"]


_AFTER_HANGING = (
    "Check with nvidia-smi and dmesg that the GPU responds, and that the disk that holds TensorRT "
    "is not slow; then try again."
)
_AFTER_DYING = {
    _TENSORRT: "Reinstall TensorRT, bindings and libraries of one version: pip install "
    "--force-reinstall tensorrt.",
    _CUDA: "Reinstall CUDA's bindings: pip install --force-reinstall cuda-bindings.",
    _DEVICE: "Run nvidia-smi: if the GPU is not listed as healthy, restart the machine.",
    _BUILDER: "Install a tensorrt for a CUDA that the driver supports (tensorrt_cu12 or "
    "tensorrt_cu13; nvidia-smi shows the driver's), or upgrade the driver.",
}


# --------------------------------------------------------------------------- separate process


def examine(step: apart.Step, device: Mapping[str, Any]) -> dict[str, str]:
    """Runs in the separate process.

    Returns:
        ``version`` of a TensorRT that works on the device, or ``reason`` and ``fix``.
    """
    found = cuda.Device(**device)
    try:
        step(_TENSORRT)
        trt = _tensorrt(found)
        step(_CUDA)
        runtime = _bindings(found)
        for major in cuda.DRIVER_SINCE:
            if _installed(f"tensorrt_cu{major}") or _installed(f"tensorrt_cu{major}_bindings"):
                found.require(major, "tensorrt")
        step(_DEVICE)
        (status,) = runtime.cudaSetDevice(found.index)
        if int(status):
            raise cuda.refused("cudaSetDevice", int(status))
        step(_BUILDER)
        _make_builder(trt)
    except (cuda.NoCuda, Lacking) as error:
        return {"reason": error.reason, "fix": error.fix}
    return {"version": trt.__version__}


def _tensorrt(device: cuda.Device) -> Any:
    """Import the package."""
    install = f"pip install tensorrt-cu{_served_major(device)}"
    try:
        trt = importlib.import_module("tensorrt")
    except ModuleNotFoundError as error:
        if error.name == "tensorrt":
            raise Lacking(
                "the package tensorrt is not installed",
                f"Install it: {install}. Without access to NVIDIA's package index, "
                "copy the packages over (docs/tensorrt.md).",
            ) from error
        raise Lacking(
            f"tensorrt is installed incompletely: there is no {error.name}",
            f"Reinstall it: {install} --force-reinstall.",
        ) from error
    except Exception as error:  # a damaged installation fails in many ways; all are answers
        raise _not_loaded(error, install) from error
    if not hasattr(trt, "Builder") or not hasattr(trt, "__version__"):
        raise Lacking(
            f"the imported module tensorrt is not NVIDIA's package, or has no builder: "
            f"{getattr(trt, '__file__', None) or list(trt.__path__)}",
            f"Remove it from Python's path, then install TensorRT: {install}.",
        )
    if capability.version(trt.__version__) < LEAST:
        raise Lacking(
            f"tensorrt {trt.__version__} is too old: this adapter needs {LEAST[0]} or newer",
            "Upgrade it: pip install --upgrade tensorrt.",
        )
    return trt


def _not_loaded(error: Exception, install: str) -> Lacking:
    """The reason why an installed tensorrt cannot be imported; ``install`` is the pip command."""
    said = next(iter(str(error).splitlines()), type(error).__name__)
    library = re.match(r"(\S+): cannot open shared object file", said)
    if library is None:
        return Lacking(
            f"tensorrt does not load: {said}", f"Reinstall it: {install} --force-reinstall."
        )
    if library[1].startswith(("libnvinfer", "libnvonnxparser")):
        return Lacking(
            f"tensorrt is installed without its libraries: there is no {library[1]}",
            "Install its package of libraries (such as tensorrt_cu13_libs of the same version), or "
            "put the folder lib of TensorRT's archive into LD_LIBRARY_PATH.",
        )
    return Lacking(
        f"tensorrt needs a library of CUDA that cannot be found: {library[1]}",
        "Install it: pip install nvidia-cuda-runtime (for CUDA 12, nvidia-cuda-runtime-cu12).",
    )


def _bindings(device: cuda.Device) -> Any:
    """CUDA's runtime from cuda-bindings, for a CUDA that the driver supports."""
    install = f"pip install 'cuda-bindings=={_served_major(device)}.*'"
    try:
        bindings = importlib.import_module("cuda.bindings")
        runtime = importlib.import_module("cuda.bindings.runtime")
    except ModuleNotFoundError as error:
        raise Lacking(
            f"the package cuda-bindings is not installed: there is no {error.name}",
            f"Install it: {install}.",
        ) from error
    except Exception as error:
        raise Lacking(
            f"cuda-bindings does not load: {error}", f"Reinstall it: {install} --force-reinstall."
        ) from error
    device.require(int(bindings.__version__.split(".")[0]), "cuda-bindings")
    return runtime


def _make_builder(trt: Any) -> None:
    """Create a builder, which makes TensorRT start CUDA and load its library of kernels.

    Raises:
        NoCuda, Lacking: it fails; the reason is TensorRT's log.
    """

    from qbench_tensorrt.log import Log  # it needs tensorrt

    log = Log()
    try:
        trt.Builder(log)
    except Exception as error:  # TypeError: pybind11::init(): factory function returned nullptr
        said = log.errors[0] if log.errors else str(error)
        if failed := re.search(r"CUDA initialization failure with error:? (\d+)", said):
            raise cuda.refused("TensorRT's start", int(failed[1])) from error
        if library := re.search(r"Unable to load library: ([^\s)]+)", said):
            raise Lacking(
                f"TensorRT's libraries are installed incompletely: it cannot load {library[1]}",
                "Reinstall all packages of TensorRT in one version (docs/tensorrt.md).",
            ) from error
        raise Lacking(f"TensorRT creates no builder: {said}", _AFTER_DYING[_BUILDER]) from error


def _served_major(device: cuda.Device) -> int:
    """The newest CUDA that the driver supports and that packages exist for."""
    return min(int(device.driver.split(".")[0]), max(cuda.DRIVER_SINCE))


def _installed(distribution: str) -> bool:
    try:
        return bool(distribution_version(distribution))
    except PackageNotFoundError:
        return False
