"""Data of the page's charts, as plain JSON values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qbench.analysis.recommend.pareto import ACCURACY, FIDELITY, LATENCY, Place, pareto
from qbench.analysis.table.noise import trial_noise
from qbench.bundle.records.run import Trial
from qbench.present.page.energy import energy_bars, power_series
from qbench.present.words import traces
from qbench.present.words.named import NUMBERS, PageCase
from qbench.present.words.ranking import SAME_WORK
from qbench.present.words.run import Run
from qbench.present.words.sweeps import sweeps
from qbench.present.words.traces import rounded

FIELDS = (
    "run", "label", "name", "kind", "condition", "model", "backend", "precision", "scenario",
    "rounds", "effective_precision", "accuracy_metric",
)  # fmt: skip
MOST_POINTS, FEWEST_POINTS = 500, 20
"""Points of the distribution of a trial."""
ALL_POINTS = 100_000
"""Maximum points of all distributions together, but each has ``FEWEST_POINTS``."""
FEWEST_FOR_P10 = 10


def chart_data(runs: Sequence[Run], cases: Sequence[PageCase]) -> dict[str, Any]:
    """``cases``: successful cases, each with its ``place`` (see
    ``qbench.analysis.recommend.pareto``), ``trials`` and data of its scenario; ``sweeps``;
    ``energy``, by comparable group; ``roofs`` and ``power``, by run; ``runs``, ``backends`` and
    ``precisions``: names that have a colour or a shape."""
    by_letter = {run.letter: run for run in runs}
    count = sum(len(trials) for run in runs for trials in run.trials.values())
    points = max(FEWEST_POINTS, min(MOST_POINTS, ALL_POINTS // max(1, count)))
    minutes = {run.letter: _minutes(run) for run in runs}
    good = [case for case in cases if case.status == "ok"]
    return {
        "runs": [run.letter for run in runs],
        "backends": sorted({str(case.backend) for case in cases}),
        "precisions": list(dict.fromkeys(str(case.precision) for case in cases)),
        "cases": [
            {**_charted(case, by_letter[case.run], minutes[case.run], points), "place": place}
            for case, place in zip(good, _places(good), strict=True)
        ],
        "sweeps": sweeps(cases),
        "energy": energy_bars(cases),
        "roofs": [roof for run in runs if (roof := _roof(run, cases))],
        "power": [
            {"run": run.letter, **series}
            for run in runs
            for series in power_series(run.bundle, _labels(run, cases))
        ],
    }


def _labels(run: Run, cases: Sequence[PageCase]) -> dict[str, str]:
    """By case id, model and label."""
    own = [case for case in cases if case.run == run.letter]
    return {case.case_id: f"{case.model} {case.label}" for case in own}


def _places(cases: Sequence[PageCase]) -> list[Place | None]:
    """Pareto place of each case among those of its run that did the same work: by latency and
    accuracy, or SQNR where there are no labels."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for index, case in enumerate(cases):
        same = tuple(getattr(case, key) for key in ("run", *SAME_WORK, "accuracy_metric"))
        groups.setdefault(same, []).append(index)
    found: list[Place | None] = [None] * len(cases)
    for indices in groups.values():
        group = [cases[index] for index in indices]
        labelled = any(case.accuracy is not None for case in group)
        places = pareto(group, (LATENCY, ACCURACY if labelled else FIDELITY))
        for index, place in zip(indices, places, strict=True):
            found[index] = place
    return found


def _charted(case: PageCase, run: Run, minutes: Mapping[str, float], points: int) -> dict[str, Any]:
    trials = run.trials.get(case.case_id, [])
    return {
        **{name: getattr(case, name) for name in FIELDS},
        **{name: rounded(getattr(case, name)) for name in NUMBERS},
        "doubt": case.doubt,
        "texts": case.texts,
        "anchor": case.anchor,
        "trials": [
            {
                "round": trial.round + 1,
                "minute": rounded(minutes.get(trial.trial)),
                "doubt": "; ".join(trial_noise(trial, run.requests[case.case_id])),
                **_distribution(run.bundle.samples(trial.trial), points),
            }
            for trial in trials
        ],
        **(_of_scenario(case, run, trials) if trials else {}),
    }


def _minutes(run: Run) -> dict[str, float]:
    """By trial, the minute of the run in which its window began; trials without a recorded window
    are left out. Sittings have clocks of their own, so each continues where the last ended."""
    windows: dict[int, list[tuple[int, int, str]]] = {}
    for trials in run.trials.values():
        for trial in trials:
            if trial.window is not None:
                begin, end = trial.window
                windows.setdefault(trial.sitting, []).append((begin, end, trial.trial))
    minutes: dict[str, float] = {}
    offset = 0.0
    for sitting in sorted(windows):
        first = min(begin for begin, _, _ in windows[sitting])
        for begin, _, name in windows[sitting]:
            minutes[name] = offset + (begin - first) / 60e9
        offset += (max(end for _, end, _ in windows[sitting]) - first) / 60e9
    return minutes


def _distribution(samples_ns: np.ndarray, points: int) -> dict[str, Any]:
    """``p10`` and ``p50`` in ms, and ``ms``: at most ``points`` samples in ascending order, evenly
    spaced in rank, including both ends."""
    ordered = np.sort(samples_ns)
    p10 = float(np.percentile(ordered, 10)) * 1e-6 if len(ordered) >= FEWEST_FOR_P10 else None
    p50 = float(np.median(ordered)) * 1e-6
    if len(ordered) > points:
        ordered = ordered[np.linspace(0, len(ordered) - 1, points).round().astype(int)]
    return {
        "p10": rounded(p10),
        "p50": rounded(p50),
        "ms": [float(f"{value:.4g}") for value in ordered * 1e-6],
    }


def _of_scenario(case: PageCase, run: Run, trials: Sequence[Trial]) -> dict[str, Any]:
    """Data for the chart of the case's scenario."""
    scenario = case.scenario
    if scenario == "sustained":
        return {"series": traces.sustained(run.bundle, trials[-1])}
    if scenario == "paced":
        return {"deadline_ms": rounded(case.deadline_ms)}
    if scenario == "pipeline":
        return {"stages": traces.stages_ms(run.bundle, trials)}
    if scenario == "mlperf-server":
        options = run.requests[case.case_id].scenario_options
        return {
            "probes": traces.probes(run.bundle, trials),
            "limit_ms": options["latency_ms"],
            "percentile": options["percentile"],
        }
    return {}


def _roof(run: Run, cases: Sequence[PageCase]) -> dict[str, Any] | None:
    """Cases under their machine's ceilings, with labels; None without any."""
    if not run.roof["points"]:
        return None
    names = {
        case.case_id: {"label": case.label, "anchor": case.anchor}
        for case in cases
        if case.run == run.letter
    }
    points = [{**point, **names[point["case_id"]]} for point in run.roof["points"]]
    return {"run": run.letter, **run.roof, "points": points}
