"""One sensor of energy or power."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from qbench.machine.energy.integral import Kind

Scope = Literal["wall", "board", "platform", "cpu package", "gpu", "dram", "rail"]
"""The part of a machine that a sensor covers: all power from the wall socket; all power of the
board; the processor's platform; the processor package; one GPU; memory; or a part of the board."""


class SensorError(Exception):
    """A sensor cannot be read; the message is the reason."""


@dataclass(frozen=True)
class Sensor:
    """One sensor.

    Attributes:
        name: unique on this machine, and usable as a file name.
        method: how the value is obtained, such as ``rapl package-0``; values of different methods
            are never compared.
        kind: ``counter``: joules, rising; ``power``: watts now.
        read: returns the value, or raises SensorError.
        note: a limitation of its values for the reader; "" if there is none.
        device: PCI address of a GPU's sensor (``gpu.nvml.bus_id``), which matches it with the
            cases on that GPU; None if unknown or not a GPU's.
    """

    name: str
    method: str
    scope: Scope
    kind: Kind
    read: Callable[[], float]
    note: str = ""
    device: str | None = None


class Refused(NamedTuple):
    """A sensor that is present but not readable."""

    name: str
    reason: str
