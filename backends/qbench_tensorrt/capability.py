"""What TensorRT computes in on which GPU, by compute capability.

Sources: NVIDIA TensorRT Support Matrix 10.x, table "Hardware and Precision"; release notes 10.5.0
(compute capability 7.0 removed, so 7.5 is the least that every version since serves) and 10.8.0
(Blackwell, 10.0 and later, added); TensorRT Developer Guide, "Working with Quantized Types", for
what explicit quantization knows; for int4 weights, Model Optimizer's Support Matrix, "GPUs: Ampere
and Later".
"""

from __future__ import annotations

from qbench.kit.cuda import Device

Version = tuple[int, int]

LEAST: Version = (7, 5)
"""The least compute capability: Turing, of 2018."""

_BLACKWELL: Version = (10, 0)
_BLACKWELL_SINCE: Version = (10, 8)
"""The first TensorRT for GPUs of compute capability 10.0 and later."""

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
"""By precision, the least compute capability."""

_UNITS = {
    "tf32": "has no matrix units for tf32",
    "bf16": "has no arithmetic in bfloat16",
    "fp8": "has no arithmetic in 8-bit floats",
    "w4": "is not served with 4-bit weights",
}

NEVER = {
    "int8-dynamic": "TensorRT takes int8 ranges that are chosen ahead (Q/DQ), none that are chosen "
    "at run time",
    "int8-qat": "TensorRT does not train; a model that was trained so arrives quantized: run it "
    "as-shipped",
    "int16x8": "TensorRT has no 16-bit integer arithmetic",
    "w8": "TensorRT quantizes weights alone to 4 bits only; int8 has quantized activations, too",
}
"""Precisions that no GPU has with TensorRT, and why."""

PRECISIONS = tuple(_SINCE)


def offered(device: Device) -> tuple[str, ...]:
    """The precisions that TensorRT computes in, or keeps weights in, on a device."""
    return tuple(name for name, since in _SINCE.items() if device.capability >= since)


def missing(device: Device) -> dict[str, str]:
    """For every other precision, why it is not to be had on a device that TensorRT serves."""
    reasons = {
        name: f"{device.name} (compute capability {device.compute_capability}) {_UNITS[name]}; "
        f"{since[0]}.{since[1]} does"
        for name, since in _SINCE.items()
        if device.capability < since
    }
    return {**reasons, **NEVER}


def too_old(device: Device) -> str | None:
    """Why no TensorRT from version 10.5 on serves a device, or None."""
    if device.capability >= LEAST:
        return None
    return (
        f"{device.name} has compute capability {device.compute_capability}, and TensorRT needs "
        f"{LEAST[0]}.{LEAST[1]} or more"
    )


def too_new(device: Device, tensorrt: str) -> str | None:
    """Why a version of TensorRT does not serve a device yet, or None."""
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
