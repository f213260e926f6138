"""The energy pass of a run: a baseline, then windows of seconds, each in a fresh worker."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from qbench.bundle.records.energy import Alignment, EnergyLine, Met, Window
from qbench.errors import as_user_error
from qbench.machine.clock import Clock
from qbench.machine.energy import marker
from qbench.machine.energy.integral import NoReading, joules
from qbench.machine.energy.meter import Meter
from qbench.machine.energy.sensor import Scope, Sensor
from qbench.machine.energy.sensors import Found
from qbench.machine.energy.wall import Log, MeterError, WallMeter
from qbench.machine.host import usable_cores
from qbench.run.progress import Progress
from qbench.run.workers.isolate import Outcome
from qbench.spec.energy import EnergySettings

BUSY_IDLE = 0.05
"""Share of busy processor time above which a machine is not idle."""
LOG_TRIES = 12
LOG_WAIT_S = 5.0
"""Number of attempts to read a meter's log, and the time between them: loggers buffer."""
_WALL: Scope = "wall"

Record = Callable[[dict[str, Any], Mapping[str, np.ndarray]], None]


@dataclass(frozen=True)
class EnergyPass:
    """The energy pass's view of the run.

    Attributes:
        found: this machine's sensors.
        settings: the suite's.
        run_window: runs one worker of a case, given its id, with a timed window of
            ``settings.window_s``. A successful result has ``window``: ``[begin, end]`` in
            nanoseconds of the machine's monotonic clock; ``items``: number of inferred items; and
            the fields of ``qbench.bundle.records.energy.Met``.
        record: writes a line of ``energy.jsonl`` and the series that it names, by file name.
        sitting: number of the run's sitting: the monotonic clock may restart between sittings.
        seed: of the order of the windows.
        wall: a meter in the machine's power cord; None: there is none.
        burn: makes the marker load; called with its edges and the number of processors.
    """

    found: Found
    settings: EnergySettings
    run_window: Callable[[str], Outcome]
    record: Record
    progress: Progress
    sitting: int
    seed: int
    wall: WallMeter | None = None
    clock: Clock = field(default_factory=Clock)
    burn: Callable[[Sequence[int], int], None] = marker.burn


def measure_energy(run: EnergyPass, cases: Mapping[str, str], done: Sequence[EnergyLine]) -> None:
    """Measure the missing windows. A case whose worker fails is not run again.

    Args:
        cases: labels of the cases, by id.
        done: the bundle's records so far.

    Raises:
        UserError: the wall meter's command or log is unusable.
    """
    sources = [
        {name: getattr(s, name) for name in ("name", "method", "scope", "note", "device")}
        for s in run.found.sensors
    ]
    if run.wall:
        sources.append({"name": _WALL, "method": run.wall.method, "scope": _WALL, "note": ""})
    refused = [r._asdict() for r in run.found.refused]
    begin = {"kind": "begin", "sitting": run.sitting, "sensors": sources, "refused": refused}
    run.record(begin, {})
    if not run.found.sensors and run.wall is None:
        return
    todo = list(_todo(run, cases, done))
    run.progress.stage("energy", len(todo))
    if todo:
        with as_user_error(MeterError), run.wall.running() if run.wall else nullcontext():
            _Sitting(run, cases).measure(todo, _broken(done))


def _broken(done: Sequence[EnergyLine]) -> set[str]:
    return {r.case_id for r in done if isinstance(r, Window) and r.status != "ok"}


def _todo(
    run: EnergyPass, cases: Mapping[str, str], done: Sequence[EnergyLine]
) -> Iterator[tuple[int, str]]:
    """Yield round and case of the missing windows, round by round, each in a new random order. With
    a wall meter, only the windows of sittings whose log has been read are complete."""
    aligned = {r.sitting for r in done if isinstance(r, Alignment) and not r.reason}
    made = {
        (r.round, r.case_id)
        for r in done
        if isinstance(r, Window) and (run.wall is None or r.sitting in aligned)
    }
    broken = _broken(done)
    for number in range(run.settings.windows):
        order = list(cases)
        random.Random(f"{run.seed}/energy/{number}").shuffle(order)
        yield from (
            (number, case) for case in order if (number, case) not in made and case not in broken
        )


class _Sitting:
    """The windows of one sitting and their idle baseline."""

    def __init__(self, run: EnergyPass, cases: Mapping[str, str]) -> None:
        self._run, self._cases = run, cases
        self._idle_w: dict[str, float | None] = {}
        self._idle_ns = (0, 0)
        self._windows: list[tuple[str, int, int, int]] = []  # case, round, begin, end

    def measure(self, todo: Sequence[tuple[int, str]], broken: set[str]) -> None:
        run = self._run
        self._measure_idle()
        begins = [self._marker()] if run.wall else []
        for number, case in todo:
            label = self._cases[case]
            if case in broken:
                run.progress.done(label, "skipped", "")
                continue
            run.progress.working(label)
            outcome = self._measure_window(number, case)
            if outcome.status != "ok":
                broken.add(case)
            run.progress.done(label, outcome.status, outcome.reason)
        if run.wall:
            begins.append(self._marker())
            self._read_wall(run.wall, begins)

    def _metered(self) -> Meter:
        run = self._run
        return Meter(run.found.sensors, run.settings.sample_hz, run.clock)

    def _measure_idle(self) -> None:
        import psutil

        run, now = self._run, self._run.clock.now_ns
        run.progress.working("idle")
        with self._metered() as meter:
            run.clock.sleep(2 / run.settings.sample_hz)  # readings on both sides of the window
            psutil.cpu_percent()
            begin = now()
            run.clock.sleep(run.settings.idle_s)
            end = now()
            busy = psutil.cpu_percent() / 100
            run.clock.sleep(2 / run.settings.sample_hz)
        self._idle_ns = begin, end
        readings, series = self._readings(meter, begin, end, f"idle-s{run.sitting}")
        self._idle_w = {r["name"]: r["watts"] for r in readings}
        for reading in readings:
            reading["idle_w"] = reading["watts"]
        run.record(
            {
                "kind": "idle",
                "sitting": run.sitting,
                "begin_ns": begin,
                "end_ns": end,
                "busy_share": busy,
                "meter_cpu_share": meter.cpu_share,
                "sensors": readings,
            },
            series,
        )
        if busy > BUSY_IDLE:
            run.progress.note(
                f"warning: {busy:.0%} of the machine was busy while its idle power was taken; "
                "end other programs and run again"
            )

    def _measure_window(self, number: int, case: str) -> Outcome:
        run = self._run
        with self._metered() as meter:
            outcome = run.run_window(case)
        record: dict[str, Any] = {
            "kind": "window",
            "sitting": run.sitting,
            "case_id": case,
            "round": number,
            "status": outcome.status,
            "reason": outcome.reason,
            **dict.fromkeys(("begin_ns", "end_ns", "items", "met")),
            "meter_cpu_share": meter.cpu_share,
            "sensors": [],
        }
        series: dict[str, np.ndarray] = {}
        if outcome.status == "ok":
            begin, end = outcome.result["window"]
            readings, series = self._readings(
                meter, begin, end, f"{case}-s{run.sitting}-w{number:03d}"
            )
            record |= {"begin_ns": begin, "end_ns": end, "items": outcome.result["items"]}
            record["met"] = {name: outcome.result.get(name) for name in Met.model_fields}
            record["sensors"] = readings
            self._windows.append((case, number, begin, end))
        run.record(record, series)
        return outcome

    def _readings(
        self, meter: Meter, begin: int, end: int, name: str
    ) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
        readings: list[dict[str, Any]] = []
        files: dict[str, np.ndarray] = {}
        for sensor in self._run.found.sensors:
            series = meter.series(sensor)
            file = f"{name}-{sensor.name}.npy"
            files[file] = series
            failure = meter.failures.get(sensor.name, "")
            reading = self._reading(sensor, series, begin, end, failure)
            readings.append({**reading, "series": file})
        return readings, files

    def _reading(
        self, sensor: Sensor, series: np.ndarray, begin: int, end: int, failure: str = ""
    ) -> dict[str, Any]:
        used, reason = None, ""
        try:
            used = joules(series, sensor.kind, begin, end)
        except NoReading as error:
            reason = f"{error} ({failure})" if failure else str(error)
        return {
            "name": sensor.name,
            "method": sensor.method,
            "scope": sensor.scope,
            "kind": sensor.kind,
            "joules": used,
            "watts": None if used is None else used / ((end - begin) * 1e-9),
            "idle_w": self._idle_w.get(sensor.name),
            "reason": reason,
        }

    # ------------------------------------------------------------------ the wall meter

    def _marker(self) -> int:
        """Make the marker load; return the begin of its pattern, in ns of the monotonic clock."""
        run = self._run
        run.progress.working("marker load for the wall meter")
        begin = run.clock.now_ns()
        run.burn(marker.marker_edges(begin), usable_cores())
        rest = begin + int(marker.marker_seconds() * 1e9) - run.clock.now_ns()
        run.clock.sleep(max(0.0, rest * 1e-9) + marker.CHIP_S)  # slow meters lag
        return begin

    def _read_wall(self, wall: WallMeter, begins: Sequence[int]) -> None:
        """Align the meter's log with the monotonic clock, and read the windows from it."""
        run = self._run
        record: dict[str, Any] = {
            "kind": "alignment",
            "sitting": run.sitting,
            "method": wall.method,
            "marker_begins_ns": list(begins),
            **dict.fromkeys(("offset_s", "rate", "correlation", "series", "idle")),
            "windows": [],
        }
        log, found, reason = self._aligned(wall, (begins[0], begins[1]))
        if log is None or found is None:
            run.progress.note(f"warning: the wall meter gives no figures: {reason}")
            run.record({**record, "reason": reason}, {})
            return
        series = np.column_stack([found.to_ours(log.times_s), log.watts])
        before, after = np.searchsorted(series[:, 0], [self._idle_ns[0], run.clock.now_ns()])
        series = series[max(0, int(before) - 1) : int(after) + 1]
        sensor = Sensor(_WALL, wall.method, _WALL, "power", lambda: float("nan"))
        idle = self._reading(sensor, series, *self._idle_ns)
        self._idle_w[_WALL] = idle["idle_w"] = idle["watts"]
        file = f"wall-s{run.sitting}.npy"
        record |= asdict(found) | {"reason": "", "series": file, "idle": idle}
        record["windows"] = [
            {"case_id": case, "round": number, **self._reading(sensor, series, begin, end)}
            for case, number, begin, end in self._windows
        ]
        run.record(record, {file: series})

    def _aligned(
        self, wall: WallMeter, begins: tuple[int, int]
    ) -> tuple[Log | None, marker.Alignment | None, str]:
        """The meter's log and its alignment, or the reason why there is none. A log of another
        program may lag by some seconds."""
        reason = ""
        for left in reversed(range(1 if wall.same_clock else LOG_TRIES)):
            try:
                log = wall.read()
                return log, marker.align(log, begins, wall.same_clock), ""
            except (MeterError, marker.NotAligned) as error:
                reason = str(error)
            if left:
                self._run.progress.working("waiting for the wall meter's log")
                self._run.clock.sleep(LOG_WAIT_S)
        return None, None, reason
