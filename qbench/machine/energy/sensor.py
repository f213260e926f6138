"""The contract of a power or energy sensor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from qbench.machine.energy.integral import Kind

Scope = Literal["wall", "board", "platform", "cpu package", "gpu", "dram", "rail"]
"""What a sensor covers: all that the machine draws from its socket; all that its board is fed; the
processor's whole platform; the processor; one GPU; its memory; or some part of the board."""


class SensorError(Exception):
    """A sensor cannot be read; the message is the reason."""


@dataclass(frozen=True)
class Sensor:
    """One sensor.

    Attributes:
        name: of its own on this machine, and fit for a file's name.
        method: how the figure comes about, such as ``rapl package-0``; figures of different
            methods are never compared.
        kind: ``counter``: joules, rising; ``power``: watts at this moment.
        read: gives the value, or raises SensorError.
        note: what a reader of its figures has to know; "" if nothing.
        device: of a GPU's sensor, where the GPU sits on the PCI bus (``host.devices.bus_id``), so
            that it is known which GPU's cases it counts; None where that is not told.
    """

    name: str
    method: str
    scope: Scope
    kind: Kind
    read: Callable[[], float]
    note: str = ""
    device: str | None = None


class Refused(NamedTuple):
    """A sensor that is there and does not answer."""

    name: str
    reason: str
