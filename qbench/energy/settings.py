"""The suite's key ``energy:``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from qbench.yamlfile import Strict


class EnergySettings(Strict):
    """How the energy pass measures.

    Attributes:
        window_s: length of the timed window of one worker. Sensors need seconds; a wall meter
            with a reading per second is better off with 30.
        windows: how many of them for each case, each in a fresh process and a random order; from
            6 on, the figure has an interval.
        idle_s: length of the baseline, with nothing running, before them.
        sample_hz: how often the sensors are read.
    """

    window_s: Annotated[float, Field(ge=1, le=3600)] = 5.0
    windows: Annotated[int, Field(ge=1, le=1000)] = 6
    idle_s: Annotated[float, Field(ge=1, le=3600)] = 10.0
    sample_hz: Annotated[float, Field(ge=1, le=100)] = 10.0
