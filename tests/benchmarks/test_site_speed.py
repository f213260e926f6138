"""Time to build a site of 200 runs, and to add one run: pytest tests/benchmarks/test_site_speed.py
--benchmark-enable -s

The runs are copies of the reference run of the quick suite: except begin.json, the trials' figures
and the manifest they share its files by hard links.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from paths import ROOT

from qbench.bundle.bundle import Bundle
from qbench.bundle.find import bundles
from qbench.storage import digest_file

REFERENCE = ROOT / "results" / "reference"
RUNS, MACHINES = 200, 2
MOST_BUILD_S, MOST_UPDATE_S = 60, 3
FIRST = datetime(2026, 1, 1, 2, 0, tzinfo=timezone.utc)


def template(folder: Path) -> Path:
    """A copy of the quick suite's reference run."""
    found = [p for p in bundles(REFERENCE) if Bundle(p).begin.suite == "quick"]
    if not found:
        pytest.skip("there is no reference run of the quick suite")
    return Path(shutil.copytree(found[-1], folder / "template"))


class Runs:
    """Makes runs of a results folder, one a day."""

    def __init__(self, folder: Path) -> None:
        self.results = folder / "results"
        self.results.mkdir()
        self._template = template(folder)
        bundle = Bundle(self._template)
        self._begin = json.loads((self._template / "begin.json").read_text())
        self._trials = bundle.trials_frame()
        self._manifest = json.loads((self._template / "manifest.json").read_text())
        names = [str(name) for name in self._trials]
        self._latencies = [name for name in names if name[0] == "p" and name[1].isdigit()]
        self._rng = np.random.default_rng(1)

    def add(self, number: int) -> None:
        day = FIRST + timedelta(days=number)
        path = self.results / f"{day:%Y%m%d}-020000-quick-{number:04x}"
        own = {"begin.json", "trials.parquet", "manifest.json"}
        shutil.copytree(
            self._template, path, copy_function=os.link, ignore=shutil.ignore_patterns(*own)
        )
        machine = number % MACHINES
        host = {
            **self._begin["host"],
            "host_id": f"{machine:012x}",
            "hostname": f"machine-{machine}",
            "kernel": f"6.{number // 50}",
        }
        begin = {**self._begin, "run_id": path.name, "started": day.isoformat(), "host": host}
        (path / "begin.json").write_text(json.dumps(begin))
        trials = self._trials.copy()
        noise = np.exp(self._rng.normal(0, 0.01, (len(trials), 1)))
        trials[self._latencies] = trials[self._latencies].astype(float) * noise
        trials.to_parquet(path / "trials.parquet")
        changed = {name: digest_file(path / name) for name in ("begin.json", "trials.parquet")}
        files = {**self._manifest["files"], **changed}
        manifest = {**self._manifest, "run_id": path.name, "files": files}
        (path / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.timeout(1800)
def test_a_site_of_many_runs(benchmark, tmp_path: Path):
    if not benchmark.enabled:
        pytest.skip("takes minutes: run with --benchmark-enable")
    runs, site = Runs(tmp_path), tmp_path / "site"
    for number in range(RUNS):
        runs.add(number)

    def processor_s() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    def command() -> tuple[float, dict]:
        begun, before = time.perf_counter(), processor_s()
        done = subprocess.run(
            [sys.executable, "-m", "qbench.cli", "site", runs.results, "-o", site, "--json"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        took_s = time.perf_counter() - begun
        told = json.loads(done.stdout)
        return took_s, {**told, "processor_s": processor_s() - before}

    build_s, told = command()
    assert told["runs"] == RUNS and not told["problems"]
    build_processor_s = told["processor_s"]
    nothing_new_s, told = command()
    assert not told["written"]
    runs.add(RUNS)
    update_s, told = benchmark.pedantic(command, rounds=1)
    assert told["runs"] == RUNS + 1
    sizes = {
        kind: sum(f.stat().st_size for f in (site / kind).iterdir()) / 1e6
        for kind in ("runs", "data", "models", "backends")
    }
    figures = {
        "build_s": build_s,
        "build_processor_s": build_processor_s,
        "nothing_new_s": nothing_new_s,
        "one_more_run_s": update_s,
        "one_more_run_processor_s": told["processor_s"],
        **{f"{kind}_mb": size for kind, size in sizes.items()},
    }
    benchmark.extra_info |= figures
    print("\n" + "\n".join(f"{name}: {value:.3g}" for name, value in figures.items()))
    assert build_s <= MOST_BUILD_S
    assert update_s <= MOST_UPDATE_S
