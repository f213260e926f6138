"""Probe ONNX Runtime's CUDA provider: devices that it works on, and reasons for the others.

Checks in order: the installed build of onnxruntime; NVIDIA's driver and its devices
(``qbench.kit.cuda``); the build's version of CUDA; then, in a separate process, the CUDA
libraries and cuDNN, and a first computation on one device of each kind.

onnxruntime-gpu 1.31.1 contains code for compute capabilities 7.5, 8.0, 8.6, 8.9, 9.0 and 12.0.

Needs the standard library; the separate process also needs onnxruntime and NumPy.
"""

from __future__ import annotations

import ctypes
import io
import re
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as distribution_version
from pathlib import Path
from types import ModuleType
from typing import Any

from qbench.kit import apart, cuda
from qbench_onnxruntime.options import CUDA_PROVIDER
from qbench_onnxruntime.precisions import CUDA_SINCE, NEVER_ON_CUDA

PIP = "pip install 'onnxruntime-gpu[cuda,cudnn]'"
CUDNN = "libcudnn.so.9"
"""The provider loads it at first use, so its absence shows nowhere before."""
TIMEOUT_S = 25.0

_DOUBLE = bytes.fromhex(
    "08073a350a0e0a01780a017812017922034164641201675a0f0a0178120a0a08080112040a02080262"
    "0f0a0179120a0a08080112040a02080242040a00100d"
)
"""An ONNX file of one operator, ``y = x + x`` of two float32 numbers (opset 13)."""

_LIBRARIES, _COMPUTATION = "loading of the CUDA provider", "first computation on the GPU"


def examine_devices(
    onnxruntime: ModuleType, timeout_s: float = TIMEOUT_S
) -> tuple[dict[str, tuple[str, ...]], dict[str, dict[str, str]], dict[str, dict[str, Any]]]:
    """``precisions``, ``missing`` and ``devices`` of ``Ready`` for CUDA.

    If there is no device, ``missing`` holds the reason under ``cuda:0`` for every precision.
    """
    try:
        _check_build(onnxruntime)
        devices = cuda.devices(timeout_s)
        unserved = _unserved(onnxruntime, devices, timeout_s)
    except cuda.NoCuda as error:
        return {}, {"cuda:0": dict.fromkeys((*CUDA_SINCE, *NEVER_ON_CUDA), _sentence(error))}, {}
    precisions, missing = {}, {}
    for device in devices:
        if device.key in unserved:
            precisions[device.key] = ()
            missing[device.key] = dict.fromkeys((*CUDA_SINCE, *NEVER_ON_CUDA), unserved[device.key])
        else:
            precisions[device.key] = offered(device)
            missing[device.key] = lacking(device)
    return precisions, missing, {device.key: device.facts() for device in devices}


def _sentence(error: cuda.NoCuda) -> str:
    return str(error).removesuffix(".")


def offered(device: cuda.Device) -> tuple[str, ...]:
    """Precisions that the CUDA provider computes in, or stores weights in, on a device."""
    return tuple(name for name, since in CUDA_SINCE.items() if device.capability >= since)


def lacking(device: cuda.Device) -> dict[str, str]:
    """Reasons for the precisions that a supported device lacks."""
    old = {
        name: f"{device.name} (compute capability {device.compute_capability}) has no units for "
        f"{name}; {since[0]}.{since[1]} has"
        for name, since in CUDA_SINCE.items()
        if device.capability < since
    }
    return {**old, **NEVER_ON_CUDA}


def _check_build(onnxruntime: ModuleType) -> None:
    """Raise NoCuda unless exactly one build with the CUDA provider is installed."""
    versions = {name: _installed(name) for name in ("onnxruntime", "onnxruntime-gpu")}
    if all(versions.values()):
        both = " and ".join(f"{name} {version}" for name, version in versions.items())
        raise cuda.NoCuda(
            f"{both} are both installed, and one has overwritten files of the other",
            f"pip uninstall onnxruntime onnxruntime-gpu, then {PIP}.",
        )
    if CUDA_PROVIDER not in onnxruntime.get_available_providers():
        raise cuda.NoCuda(
            f"the installed onnxruntime {onnxruntime.__version__} is a build without CUDA",
            f"Give onnxruntime-gpu an environment of its own in the suite (environments: {{ort-cuda"
            f": 'onnxruntime-gpu[cuda,cudnn]'}}), or install it instead: pip uninstall onnxruntime,"
            f" then {PIP}.",
        )


def _installed(distribution: str) -> str | None:
    try:
        return distribution_version(distribution)
    except PackageNotFoundError:
        return None


def cuda_major(onnxruntime: ModuleType) -> int:
    """Major version of CUDA that the installed build is made for."""
    return int((getattr(onnxruntime, "cuda_version", "") or "12").split(".")[0])


def _unserved(
    onnxruntime: ModuleType, devices: Sequence[cuda.Device], timeout_s: float
) -> dict[str, str]:
    """Reasons by device that the provider does not compute on.

    Raises:
        NoCuda: it computes on no device, for a reason common to all.
    """
    devices[0].require(cuda_major(onnxruntime), "onnxruntime-gpu")
    kinds = {(device.name, device.compute_capability): device for device in devices}
    facts = [device.facts() for device in kinds.values()]
    try:
        found = apart.call(f"{__name__}:examine", timeout_s, devices=facts)
    except apart.Died as died:
        raise cuda.NoCuda(
            f"the {died.step or 'start'} {died.how}{f': {died.said}' if died.said else ''}",
            "Check with nvidia-smi and dmesg that the GPU responds; then reinstall: "
            f"{PIP} --force-reinstall.",
        ) from died
    if "reason" in found:
        raise cuda.NoCuda(found["reason"], found["fix"])
    by_kind = {kind: found["unserved"].get(device.key) for kind, device in kinds.items()}
    reasons = {d.key: by_kind[d.name, d.compute_capability] for d in devices}
    return {key: reason for key, reason in reasons.items() if reason is not None}


# --------------------------------------------------------------------------- the libraries


def preload(onnxruntime: ModuleType) -> None:
    """Load the CUDA libraries that pip installed, which the system's loader does not find. Does
    nothing if there are none."""
    if hasattr(onnxruntime, "preload_dlls"):  # since 1.21
        with redirect_stdout(io.StringIO()):  # it prints the libraries that it does not find
            onnxruntime.preload_dlls()


def check_libraries(onnxruntime: ModuleType) -> None:
    """Raise NoCuda with the name of a missing library that the CUDA provider needs."""
    folder = Path(onnxruntime.__file__ or "").parent / "capi"
    try:
        ctypes.CDLL(str(folder / "libonnxruntime_providers_shared.so"), mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(folder / "libonnxruntime_providers_cuda.so"))
        ctypes.CDLL(CUDNN)
    except OSError as error:
        raise _not_loaded(str(error)) from error


def _not_loaded(message: str) -> cuda.NoCuda:
    library = re.match(r"(lib[\w.+-]+\.so[.\d]*): cannot open shared object file", message)
    if library is None:
        return cuda.NoCuda(
            f"onnxruntime's CUDA provider does not load: {message}",
            f"Reinstall it: {PIP} --force-reinstall.",
        )
    name = library.group(1)
    if name == cuda.LIBRARY:
        return cuda.NoCuda(
            f"onnxruntime's CUDA provider does not find the driver's {name}",
            "Put the folder that holds it into LD_LIBRARY_PATH.",
        )
    part = "cuDNN" if name.startswith("libcudnn") else "the CUDA libraries"
    return cuda.NoCuda(
        f"onnxruntime-gpu does not find {part}: there is no {name}",
        f"Install them in the same environment: {PIP}; qbench loads them from there with "
        "onnxruntime.preload_dlls(). Put the system's own libraries on the LD_LIBRARY_PATH.",
    )


# --------------------------------------------------------------------------- separate process


def examine(step: apart.Step, devices: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Runs in the separate process.

    Returns:
        ``reason`` and ``fix`` of a fault, or ``unserved``: reasons by device that does not compute.
    """
    import onnxruntime

    step(_LIBRARIES)
    preload(onnxruntime)
    try:
        check_libraries(onnxruntime)
    except cuda.NoCuda as error:
        return {"reason": error.reason, "fix": error.fix}
    unserved = {}
    for facts in devices:
        device = cuda.Device(**facts)
        step(f"{_COMPUTATION} {device.index}")
        if reason := _failure(onnxruntime, device):
            unserved[device.key] = reason
    return {"unserved": unserved}


def _failure(onnxruntime: ModuleType, device: cuda.Device) -> str | None:
    """Reason why a device fails to compute 1 + 1 and 2 + 2; None if it succeeds."""
    import numpy as np

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # the exception repeats its messages
    where = f"{device.name} (compute capability {device.compute_capability})"
    try:
        session = onnxruntime.InferenceSession(
            _DOUBLE, options, [(CUDA_PROVIDER, {"device_id": device.index})], enable_fallback=0
        )
        if session.get_providers()[0] != CUDA_PROVIDER:
            return f"onnxruntime's CUDA provider does not start on {where}"
        (doubled,) = session.run(None, {"x": np.array([1, 2], np.float32)})
    except Exception as error:  # onnxruntime has a dozen classes of its own
        text = " ".join(str(error).split())
        if "no kernel image" in text:
            return (
                f"onnxruntime-gpu {onnxruntime.__version__} has no code for {where}; another "
                "release may have it"
            )
        return f"onnxruntime's CUDA provider fails on {where}: {text[:300]}"
    if doubled.tolist() != [2, 4]:
        return f"onnxruntime's CUDA provider computes 1 + 1 as {doubled[0]:g} on {where}"
    return None
