"""Hints: settings of building and running an engine.

Imported while measuring: the standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass

from qbench.kit.adapter import Unsupported
from qbench.kit.hints import hint, read_hints
from qbench.kit.model import RunConfig


@dataclass(frozen=True)
class Hints:
    """Settings that compiling and opening share, so that a suite's hints fit both.

    Attributes:
        builder_optimization_level: 0 to 5, how long the builder searches; None is its default, 3.
        workspace_mb: maximum MiB of device memory for a layer's temporary data; None is no limit.
        cuda_graph: record the engine's work once and launch it as one CUDA graph. If False, or if
            it cannot be recorded, every call launches each kernel.
        transfers: a call copies its inputs to the device and its outputs back. If False they stay
            on the device, and a call only computes (trtexec's --noDataTransfers).
        spin: a call polls the device (trtexec's --useSpinWait): the shortest wait, which keeps a
            core busy. If False it sleeps until the device signals.
    """

    builder_optimization_level: int | None = hint(None, minimum=0, maximum=5)
    workspace_mb: int | None = hint(None, minimum=1)
    cuda_graph: bool = True
    transfers: bool = True
    spin: bool = True


def hints_of(config: RunConfig) -> Hints:
    """The configuration's hints.

    Raises:
        ValueError: an unknown hint, or a value that it does not take.
    """
    return read_hints(Hints, config.hints, "tensorrt")


def device_index(device: str) -> int:
    """Index of a CUDA device: 1 of ``cuda:1``.

    Raises:
        Unsupported: another kind of device.
    """
    kind, _, index = device.partition(":")
    if kind != "cuda" or not index.isdigit():
        raise Unsupported(f"TensorRT runs on CUDA devices (cuda:0), not on {device}")
    return int(index)
