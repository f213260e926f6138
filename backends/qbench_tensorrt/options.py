"""Hints: what a suite may set of building and running an engine.

Imported while measuring: the standard library only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from qbench.kit.adapter import Unsupported


@dataclass(frozen=True)
class Hints:
    """Settings that compiling and opening share, so that one suite's hints fit both.

    Attributes:
        builder_optimization_level: 0 to 5, how long the builder searches; None is its default, 3.
        workspace_mb: MiB of device memory that a layer may use beside its tensors; None is all.
        cuda_graph: the engine's work is recorded once and launched as one CUDA graph. False, or
            where it cannot be recorded: every kernel is launched anew by every call.
        transfers: a call copies its inputs to the device and its outputs back. False: they stay
            on the device, and a call is the computing alone (trtexec's --noDataTransfers).
        spin: a call waits for the device by asking over and over (trtexec's --useSpinWait): the
            shortest wait, at the price of a busy core. False: it sleeps until it is woken.
    """

    builder_optimization_level: int | None = None
    workspace_mb: int | None = None
    cuda_graph: bool = True
    transfers: bool = True
    spin: bool = True

    @classmethod
    def read(cls, hints: Mapping[str, Any]) -> Hints:
        """A suite's hints, checked.

        Raises:
            ValueError: an unknown hint, or a value that it does not take.
        """
        known = [field.name for field in fields(cls)]
        for name, value in hints.items():
            if name not in known:
                listed = ", ".join(sorted(known))
                raise ValueError(f"tensorrt has no hint '{name}'. Known: {listed}.")
            fits, wanted = _VALUES.get(name, _SWITCH)
            if not fits(value):
                raise ValueError(f"hint {name} is {wanted}, not {value!r}")
        return cls(**hints)


def _whole(low: int, high: float) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and low <= value <= high


_SWITCH: tuple[Callable[[Any], bool], str] = (lambda value: type(value) is bool, "true or false")
_VALUES = {
    "builder_optimization_level": (_whole(0, 5), "a whole number from 0 to 5"),
    "workspace_mb": (_whole(1, float("inf")), "a number of MiB from 1 up"),
}


def device_index(device: str) -> int:
    """The number of ``cuda:0``, ``cuda:1``.

    Raises:
        Unsupported: another kind of device.
    """
    kind, _, index = device.partition(":")
    if kind != "cuda" or not index.isdigit():
        raise Unsupported(f"TensorRT runs on CUDA devices (cuda:0), not on {device}")
    return int(index)
