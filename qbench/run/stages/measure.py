"""The stages that measure: the memory's speed, the trials, and windows of energy."""

from __future__ import annotations

import math
import time

import psutil

from qbench.bundle.bundle import Bundle
from qbench.bundle.records.run import Trial
from qbench.machine.energy.sensors import find_sensors
from qbench.run.energy import EnergyPass, measure_energy
from qbench.run.plan import YARDSTICK_S
from qbench.run.request import now
from qbench.run.schedule import Next, Schedule
from qbench.run.stages.sitting import Sitting
from qbench.run.stages.trial import run_trial
from qbench.run.workers.isolate import Outcome, run_job, scratch_folder
from qbench.spec.case import Case
from qbench.spec.energy import EnergySettings
from qbench.spec.scenarios import SCENARIOS

LEAST_COPIED, COPIED_CACHES, MOST_COPIED, COPIES = 1 << 26, 4, 0.2, 10
"""Bytes that are copied to measure the memory's bandwidth: 64 MiB or four times the capacity of all
caches, the larger, but at most this share of free memory; and how often they are copied."""
METERED = ("closed_loop", "paced", "pipeline")
"""Drivers whose timed window can be given a length: energy is measured with them alone."""


def measure_memory(sitting: Sitting) -> None:
    """Measure the memory's bandwidth, for the roofline; once in a run."""
    yardsticks = [p.case for p in sitting.plan.yardsticks if p.case.device == "cpu"]
    if not yardsticks or sitting.bundle.bandwidth is not None:
        return
    target = sitting.registry.targets[yardsticks[0].backend]
    request = {
        "threads": sorted({case.threads for case in yardsticks}),
        "bytes": _copied_bytes(sitting.bundle),
        "repeats": COPIES,
    }
    sitting.progress.stage("memory", 1)
    with scratch_folder(sitting.store.work_folder) as folder:
        outcome = run_job("bandwidth", target, request, folder, timeout_s=60)
    if outcome.status == "ok":
        sitting.bundle.add_bandwidth(outcome.result)
    sitting.progress.done("memory bandwidth", outcome.status, outcome.reason)


def _copied_bytes(bundle: Bundle) -> int:
    host = bundle.begin.host
    cached = sum(cache.bytes * (cache.instances or 1) for cache in host.caches or [])
    limit = host.extras["cgroup"]["memory_bytes"] or math.inf
    free = min(psutil.virtual_memory().available, limit)
    return min(max(LEAST_COPIED, COPIED_CACHES * cached), int(MOST_COPIED * free))


def measure(sitting: Sitting) -> None:
    """Measure in rounds, each in a new random order; a case that failed is not run again."""
    bundle, progress = sitting.bundle, sitting.progress
    evaluated = bundle.evaluated
    good = [
        planned
        for planned in [*sitting.plan.runnable, *sitting.plan.yardsticks]
        if (record := evaluated.get(str(planned.evaluation_id))) and record.status == "ok"
    ]
    schedule = Schedule(sitting.plan, good, sitting.request.order_seed)
    for trial in bundle.trials:
        schedule.add(trial, bundle.samples(trial.trial) if trial.status == "ok" else None)
    progress.stage("measure", schedule.left().trials)
    done = 0
    while (following := schedule.next()) is not None:
        case = following.planned.case
        progress.working(case.label, _known(schedule, case))
        trial = _measure_one(sitting, following)
        schedule.add(trial, bundle.samples(trial.trial) if trial.status == "ok" else None)
        done += 1
        progress.done(case.label, trial.status, trial.reason)
        progress.total(done + sum(schedule.left()))


def _known(schedule: Schedule, case: Case) -> str:
    """How precisely a case is known so far, and how many cases are not settled, for progress."""
    width, unsettled = schedule.half_width(case.case_id), schedule.left().unsettled
    parts = ["" if width is None else f"±{100 * width:.1f} %"]
    parts += [f"{unsettled} not settled" if unsettled else ""]
    return ", ".join(part for part in parts if part)


def _measure_one(sitting: Sitting, following: Next) -> Trial:
    """Make one trial and record it; returns the record."""
    suite, (number, planned) = sitting.plan.suite, following
    case = planned.case
    time.sleep(suite.cool_down_s)
    started = now()
    yardstick = planned in sitting.plan.yardsticks
    timed_s = min(suite.timed_s, YARDSTICK_S) if yardstick else suite.timed_s
    with scratch_folder(sitting.store.work_folder) as folder:
        outcome = run_trial(sitting, planned, folder, timed_s)
        result = {k: v for k, v in outcome.result.items() if k not in ("outputs", "files")}
        record = {
            "trial": f"r{number:03d}-{case.case_id}",
            "case_id": case.case_id,
            "round": number,
            "sitting": sitting.number,
            "status": outcome.status,
            "reason": outcome.reason,
            "log": outcome.log,
            "started": started,
            "seconds": outcome.seconds,
            **result,
        }
        good = outcome.status == "ok"
        traces = {name: folder / name for name in outcome.result.get("files", ())} if good else {}
        samples = folder / "samples.npy" if good else None
        return sitting.bundle.add_trial(record, samples, traces)


def measure_energy_windows(sitting: Sitting) -> None:
    """Measure windows of seconds with this machine's sensors and the wall meter, if the suite asks
    for energy or there is a meter, of the cases whose trials all succeeded."""
    wall = sitting.request.wall
    settings = sitting.plan.suite.energy or (EnergySettings() if wall else None)
    if settings is None:
        return
    trials = sitting.bundle.trials
    measured = {t.case_id for t in trials} - {t.case_id for t in trials if t.status != "ok"}
    cases = {
        p.case.case_id: p
        for p in sitting.plan.runnable
        if p.case.case_id in measured and SCENARIOS[p.case.scenario].module in METERED
    }

    def run_window(case_id: str) -> Outcome:
        with scratch_folder(sitting.store.work_folder) as folder:
            return run_trial(sitting, cases[case_id], folder, settings.window_s, metered=True)

    energy = EnergyPass(
        found=find_sensors(),
        settings=settings,
        run_window=run_window,
        record=sitting.bundle.add_energy,
        progress=sitting.progress,
        sitting=sitting.number,
        seed=sitting.request.order_seed,
        wall=wall,
    )
    labels = {case_id: planned.case.label for case_id, planned in cases.items()}
    measure_energy(energy, labels, sitting.bundle.energy)
