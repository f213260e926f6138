"""The suite's key ``energy:``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from qbench.spec.yamlfile import Strict


class EnergySettings(Strict):
    """Settings of the energy pass.

    Attributes:
        window_s: length of a worker's timed window. Sensors need seconds; a wall meter with one
            reading per second gains from 30.
        windows: number of windows of each case, each in a fresh process and in random order; from
            6 on, the figure has an interval.
        idle_s: length of the idle baseline before the windows.
        sample_hz: rate of reading the sensors.
    """

    window_s: Annotated[float, Field(ge=1, le=3600)] = 5.0
    windows: Annotated[int, Field(ge=1, le=1000)] = 6
    idle_s: Annotated[float, Field(ge=1, le=3600)] = 10.0
    sample_hz: Annotated[float, Field(ge=1, le=100)] = 10.0
