"""The records of a bundle's ``energy.jsonl``, one per line. See ``EnergyRecord``.

Bundles come from other machines, so records are checked whenever they are read. Times are
nanoseconds of the machine's monotonic clock, and comparable within one sitting only.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, RootModel, model_validator

from qbench.bundle.records.gpu import Gpu
from qbench.machine.energy.integral import Kind
from qbench.machine.energy.sensor import Scope
from qbench.spec.case import Status


class _Record(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class Reading(_Record):
    """One sensor's reading of one window.

    Attributes:
        name, method, scope, kind: of the sensor; see ``qbench.machine.energy.sensor.Sensor``.
        joules: of the whole window, including idle power; None if unknown.
        watts: joules over the window's length.
        idle_w: of the same sensor with nothing running, in the same sitting.
        reason: why one of them is None.
        series: the file with the samples, ``[n, 2]`` float64: monotonic nanoseconds, and joules of
            a counter or watts.
    """

    name: str
    method: str
    scope: Scope
    kind: Kind
    joules: float | None
    watts: float | None
    idle_w: float | None
    reason: str
    series: str | None = None


class Source(_Record):
    """A sensor that will be read.

    Attributes:
        note: a limitation of its values for the reader.
        device: PCI address of a GPU's sensor; None if unknown, and in older records.
    """

    name: str
    method: str
    scope: Scope
    note: str
    device: str | None = None


class Refused(_Record):
    """A sensor that is not readable."""

    name: str
    reason: str


class Begin(_Record):
    """Sensors of this sitting, readable or not."""

    kind: Literal["begin"]
    sitting: int
    sensors: list[Source]
    refused: list[Refused]


class Idle(_Record):
    """The baseline.

    Attributes:
        busy_share: load of the machine's processors, 0 to 1, which the baseline includes.
    """

    kind: Literal["idle"]
    sitting: int
    begin_ns: int
    end_ns: int
    busy_share: float
    meter_cpu_share: float | None
    sensors: list[Reading]


class Met(_Record):
    """Readings around the window, as in a trial's record, for the verdict on noise
    (``qbench.analysis.table.noise``)."""

    cpu_ns: Annotated[int, Field(ge=0)]
    wall_ns: Annotated[int, Field(ge=1)]
    conditions: dict[str, int | float | None]
    loop: dict[str, float | None]
    warmup: dict[str, Any]
    gpu: Gpu | None = None


class Window(_Record):
    """The timed window of one worker.

    Attributes:
        status, reason: of the worker.
        items: number of items inferred in the window.
        met: conditions around the window; None for a failed worker, and in older records.
        meter_cpu_share: processor time of sampling, as a share of one core.
    """

    kind: Literal["window"]
    sitting: int
    case_id: str
    round: int
    status: Status
    reason: str
    begin_ns: int | None
    end_ns: int | None
    items: Annotated[int, Field(ge=1)] | None
    met: Met | None = None
    meter_cpu_share: float | None
    sensors: list[Reading]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.status == "ok":
            if self.begin_ns is None or self.end_ns is None or self.items is None:
                raise ValueError("it is ok, but has no window or no items")
            if self.end_ns <= self.begin_ns:
                raise ValueError("its window has no length")
        return self


class WindowReading(Reading):
    """The wall meter's reading of a window, known after the energy pass."""

    case_id: str
    round: int


class Alignment(_Record):
    """The wall meter's part of a sitting.

    Attributes:
        offset_s, rate: the meter's clock is ``offset_s + rate * seconds`` of the monotonic clock.
        correlation: of the marker load with the watts, the worse of the two.
        reason: why the log was not usable; "" if it was, and then the three are known.
    """

    kind: Literal["alignment"]
    sitting: int
    method: str
    marker_begins_ns: Annotated[list[int], Field(min_length=2, max_length=2)]
    offset_s: float | None
    rate: float | None
    correlation: float | None
    reason: str
    series: str | None
    idle: Reading | None
    windows: list[WindowReading]


EnergyLine = Begin | Idle | Window | Alignment


class EnergyRecord(RootModel[Annotated[EnergyLine, Field(discriminator="kind")]]):
    """One line of ``energy.jsonl``."""
