"""Precisions of TensorRT by compute capability of the GPU.

Sources: NVIDIA TensorRT Support Matrix 10.x, table "Hardware and Precision"; release notes 10.5.0
(compute capability 7.0 removed, so 7.5 is the minimum since) and 10.8.0 (Blackwell, 10.0 and later,
added); for explicit quantization, TensorRT Developer Guide, "Working with Quantized Types"; for
int4 weights, Model Optimizer's Support Matrix, "GPUs: Ampere and Later".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qbench.kit.cuda import Device

Version = tuple[int, int]

LEAST: Version = (7, 5)
"""Minimum compute capability: Turing, of 2018."""

_BLACKWELL: Version = (10, 0)
_BLACKWELL_SINCE: Version = (10, 8)
"""First TensorRT for GPUs of compute capability 10.0 and later."""

_SINCE: dict[str, Version] = {
    "fp32": LEAST,
    "tf32": (8, 0),
    "fp16": LEAST,
    "bf16": (8, 0),
    "int8-static": LEAST,
    "fp8": (8, 9),
    "w4": (8, 0),
    "as-shipped": LEAST,
}
"""Minimum compute capability by precision."""

_UNITS = {
    "tf32": "has no matrix units for tf32",
    "bf16": "has no arithmetic in bfloat16",
    "fp8": "has no arithmetic in 8-bit floats",
    "w4": "has no support for 4-bit weights",
}

NEVER = {
    "int8-dynamic": "TensorRT takes int8 ranges that are fixed in the file (Q/DQ), not ranges "
    "chosen at run time",
    "int8-qat": "TensorRT does not train; a model from quantization-aware training arrives "
    "quantized: run it as-shipped",
    "int16x8": "TensorRT has no 16-bit integer arithmetic",
    "w8": "TensorRT has weight-only quantization for 4 bits only; int8 quantizes activations too",
}
"""Reasons for the precisions that TensorRT has on no GPU."""

PRECISIONS = tuple(_SINCE)


def offered(device: Device) -> tuple[str, ...]:
    """Precisions that TensorRT computes in, or stores weights in, on a device."""
    return tuple(name for name, since in _SINCE.items() if device.capability >= since)


def missing(device: Device) -> dict[str, str]:
    """Reasons for the precisions that a supported device lacks."""
    reasons = {
        name: f"{device.name} (compute capability {device.compute_capability}) {_UNITS[name]}; "
        f"{since[0]}.{since[1]} does"
        for name, since in _SINCE.items()
        if device.capability < since
    }
    return {**reasons, **NEVER}


def too_old(device: Device) -> str | None:
    """Reason why no TensorRT since 10.5 supports a device; None if one does."""
    if device.capability >= LEAST:
        return None
    return (
        f"{device.name} has compute capability {device.compute_capability}, and TensorRT needs "
        f"{LEAST[0]}.{LEAST[1]} or more"
    )


def too_new(device: Device, tensorrt: str) -> str | None:
    """Reason why a version of TensorRT is too old for a device; None if it is not."""
    if device.capability < _BLACKWELL or version(tensorrt) >= _BLACKWELL_SINCE:
        return None
    since = ".".join(map(str, _BLACKWELL_SINCE))
    return (
        f"{device.name} has compute capability {device.compute_capability}, which TensorRT "
        f"{tensorrt} does not know; {since} and later do"
    )


def version(text: str) -> Version:
    """Major and minor of a version such as ``10.16.1.11``."""
    major, minor, *_ = text.split(".")
    return int(major), int(minor)
