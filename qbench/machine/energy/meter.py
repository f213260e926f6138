"""Sample sensors at a low rate from a thread of the parent, while a worker runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

import numpy as np

from qbench.machine.clock import Clock
from qbench.machine.energy.sensor import Sensor, SensorError


class Meter:
    """Read sensors while the block runs::

        with Meter(sensors, hz=10) as meter:
            ...
        meter.series(sensors[0])

    A failed reading is left out; the first reason of each sensor is kept.
    """

    def __init__(self, sensors: Sequence[Sensor], hz: float, clock: Clock | None = None) -> None:
        self._sensors = sensors
        self._clock = clock or Clock()
        self._ticking = self._clock.every(1 / hz, self._sample)
        self._samples: dict[str, list[tuple[int, float]]] = {s.name: [] for s in sensors}
        self._cpu_ns: list[int] = []
        self._begin_ns = self._wall_ns = 0
        self.failures: dict[str, str] = {}
        """Why the first failed reading of each sensor failed, by the sensor's name."""

    def __enter__(self) -> Meter:
        self._begin_ns = self._clock.now_ns()
        self._ticking.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ticking.__exit__(kind, error, trace)
        self._wall_ns = self._clock.now_ns() - self._begin_ns

    def _sample(self) -> None:
        now = self._clock.now_ns
        for sensor in self._sensors:
            before = now()
            try:
                value = sensor.read()
            except SensorError as error:
                self.failures.setdefault(sensor.name, str(error))
            else:
                self._samples[sensor.name].append(((before + now()) // 2, value))
        self._cpu_ns.append(time.thread_time_ns())

    def series(self, sensor: Sensor) -> np.ndarray:
        """Return ``[n, 2]`` float64: monotonic nanoseconds, and joules of a counter or watts."""
        return np.array(self._samples[sensor.name], dtype=np.float64).reshape(-1, 2)

    @property
    def cpu_share(self) -> float | None:
        """Processor time of sampling, as a share of one core; None before the end."""
        if not self._wall_ns:
            return None
        return (self._cpu_ns[-1] - self._cpu_ns[0]) / self._wall_ns
