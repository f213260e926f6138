"""A history of years: the time to index and to query it, and the reliability of its change points:
pytest tests/benchmarks/test_history.py --benchmark-enable -s

The 2,000 runs of 100 cases are bundles without samples and predictions, which the index does not
read; except begin.json and the trials' figures they share their files by hard links.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from crafted import Crafted

from qbench.analysis.history.query import History
from qbench.analysis.history.trend import change_points, trends

RUNS, CASES, ROUNDS = 2000, 100, 2
PACKAGES, UPDATES = 150, 20
"""Packages of a run, and how often one of them changes in all the years."""
FIRST = datetime(2020, 1, 1, 2, 0, tzinfo=timezone.utc)
MOST_QUERY_S, MOST_COMMAND_S, MOST_UPDATE_S = 0.05, 1.0, 1.0
NIGHTS, SERIES = 90, 400


# --------------------------------------------------------------------------- speed


def template(folder: Path) -> Path:
    """A complete bundle, from which the others are made."""
    made = Crafted(folder, "template")
    for number in range(CASES):
        case = made.case("fp32", model="net" if number == 0 else f"net{number}")
        for index in range(ROUNDS):
            made.trial(case, index, 1.0)
    path = made.done().path
    (path / "samples.parquet").unlink()
    return path


class Runs:
    """Makes nights of a results folder."""

    def __init__(self, folder: Path) -> None:
        self.results = folder / "results"
        self.results.mkdir()
        self._template = template(folder)
        self._begin = json.loads((self._template / "begin.json").read_text())
        self._trials = pd.read_parquet(self._template / "trials.parquet")
        self._latencies = [n for n in self._trials if n.startswith("p") and n.endswith("_ns")]
        self._rng = np.random.default_rng(1)

    def night(self, number: int) -> None:
        run_id = f"{FIRST + timedelta(days=number):%Y%m%d}-020000-nightly-{number:04x}"
        path = self.results / run_id
        path.mkdir()
        for file in self._template.iterdir():
            if file.is_file() and file.name not in ("begin.json", "trials.parquet"):
                os.link(file, path / file.name)
        factor = np.exp(self._rng.normal(0, 0.01, (len(self._trials), 1)))
        trials = self._trials.copy()
        trials[self._latencies] = trials[self._latencies].astype(float) * factor
        trials.to_parquet(path / "trials.parquet")
        version = number * UPDATES // RUNS
        packages = {f"package-{n}": f"1.{version if n == 7 else 0}" for n in range(PACKAGES)}
        host = {**self._begin["host"], "kernel": "6.1", "packages": packages}
        started = (FIRST + timedelta(days=number)).isoformat()
        begin = {**self._begin, "run_id": run_id, "started": started, "host": host}
        (path / "begin.json").write_text(json.dumps(begin))


def seconds(action: Callable[[], object], repeats: int = 1) -> float:
    """The median of some repeats."""
    taken = []
    for _ in range(repeats):
        begun = time.perf_counter()
        action()
        taken.append(time.perf_counter() - begun)
    return float(np.median(taken))


@pytest.mark.timeout(3600)
def test_years_of_nights(benchmark, tmp_path: Path):
    if not benchmark.enabled:
        pytest.skip("takes minutes: run with --benchmark-enable")
    runs = Runs(tmp_path)
    for number in range(RUNS):
        runs.night(number)

    build_s = seconds(lambda: History([runs.results]))
    history = History([runs.results])
    cases = history.cases()
    assert len(cases) == CASES
    assert all(case.runs == RUNS for case in cases)
    chosen = cases[CASES // 2].case_id
    assert len(history.points(chosen)) == RUNS

    query_s = seconds(lambda: history.points(chosen), 20)
    trend_s = seconds(lambda: trends(history.points(chosen), "p50"), 5)
    nothing_new_s = seconds(lambda: History([runs.results]), 5)
    command = [sys.executable, "-m", "qbench.cli", "history", chosen, "--results"]

    def ask() -> None:
        done = subprocess.run(
            [*command, str(runs.results)], capture_output=True, text=True, check=True
        )
        assert f"{RUNS} nights" in done.stdout

    first_command_s = seconds(ask)
    command_s = seconds(ask, 5)
    summary_s = seconds(
        lambda: subprocess.run(
            [*command[:4], "--results", str(runs.results)], capture_output=True, check=True
        )
    )
    runs.night(RUNS)
    update_s = benchmark.pedantic(lambda: seconds(lambda: History([runs.results])), rounds=1)
    assert len(History([runs.results]).points(chosen)) == RUNS + 1
    size = sum(f.stat().st_size for f in (runs.results / ".index").iterdir())
    told = {
        "build_s": build_s,
        "build_ms_a_run": 1e3 * build_s / RUNS,
        "query_ms": 1e3 * query_s,
        "query_and_trend_ms": 1e3 * trend_s,
        "nothing_new_ms": 1e3 * nothing_new_s,
        "command_s": command_s,
        "command_s_first_time": first_command_s,
        "summary_command_s": summary_s,
        "update_s": update_s,
        "index_mb": size / 1e6,
    }
    benchmark.extra_info |= told
    print("\n" + "\n".join(f"{name}: {value:.3g}" for name, value in told.items()))
    assert query_s <= MOST_QUERY_S
    assert command_s <= MOST_COMMAND_S
    assert update_s <= MOST_UPDATE_S


# --------------------------------------------------------------------------- change points


def normal(rng: np.random.Generator, nights: int) -> np.ndarray:
    return rng.normal(0, 0.01, nights)


def student(rng: np.random.Generator, nights: int) -> np.ndarray:
    """Heavy on both sides."""
    return 0.01 * rng.standard_t(3, nights)


def disturbed(rng: np.random.Generator, nights: int) -> np.ndarray:
    """One night in ten is slower, by a tenth as a rule: what a shared machine does."""
    slow = rng.random(nights) < 0.1
    return rng.normal(0, 0.01, nights) + slow * rng.exponential(0.1, nights)


def bursts(rng: np.random.Generator, nights: int) -> np.ndarray:
    """The same, but slow nights come three in a row, which no filter can tell from a step."""
    begins = np.flatnonzero(rng.random(nights) < 0.02)
    slow = np.zeros(nights)
    for begin in begins:
        slow[begin : begin + 3] = 0.05
    return rng.normal(0, 0.01, nights) + slow


NOISES = (normal, student, disturbed, bursts)
MOST_ALARMS = {"normal": 0.15, "student": 0.15, "disturbed": 0.15, "bursts": 1.0}
STEPS = (0.03, 0.05, 0.10)
LAST = 20
"""Nights after a step, within which it is looked for."""


def nights_until_found(rng: np.random.Generator, noise: Callable, step: float) -> int | None:
    """Nights with the new level until a cut lies within three nights of where it began."""
    begin = NIGHTS - LAST
    values = noise(rng, NIGHTS)
    values[begin:] += np.log1p(step)
    for night in range(1, LAST + 1):
        if any(abs(cut - begin) <= 3 for cut in change_points(values[: begin + night])):
            return night
    return None


@pytest.mark.timeout(3600)
def test_false_alarms_and_detection(benchmark):
    if not benchmark.enabled:
        pytest.skip("takes minutes: run with --benchmark-enable")
    shares, found = {}, {}
    for noise in NOISES:
        rng = np.random.default_rng(5)
        alarms = [bool(change_points(noise(rng, NIGHTS))) for _ in range(SERIES)]
        shares[noise.__name__] = float(np.mean(alarms))
        for step in STEPS:
            delays = [nights_until_found(rng, noise, step) for _ in range(SERIES // 2)]
            within = [night for night in delays if night is not None]
            found[noise.__name__, step] = (
                len([night for night in within if night <= 6]) / len(delays),
                len(within) / len(delays),
                float(np.median(within)) if within else float("nan"),
            )
    rng = np.random.default_rng(5)
    benchmark(lambda: change_points(normal(rng, NIGHTS)))
    for name, share in shares.items():
        print(f"\n{name}: {100 * share:.1f} % of series of {NIGHTS} nights have a false one")
        for step in STEPS:
            six, all_, median = found[name, step]
            print(
                f"  a step of {100 * step:g} %: {100 * six:.0f} % within 6 nights, "
                f"{100 * all_:.0f} % within {LAST}; median {median:g}"
            )
    benchmark.extra_info["false_alarms"] = shares
    benchmark.extra_info["found"] = {f"{n} {s}": f for (n, s), f in found.items()}
    for name, share in shares.items():
        assert share <= MOST_ALARMS[name], name
    assert found["disturbed", 0.05][1] >= 0.9
