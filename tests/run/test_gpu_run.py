"""Runs on a GPU that is a fake, under an NVML that is one too, through the command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Project
from paths import TESTS

from qbench.testing.fake import FAKE_GPU

ADAPTER = "from qbench.testing.fake import FakeGpuBackend as Backend\n"
NVML = f"""
import os, sys
sys.path.insert(0, {str(TESTS)!r})
import energy_machine
energy_machine.gpu_facts = lambda index: {dict(FAKE_GPU)!r}
foreign = os.environ.get("FOREIGN_PROCESS")
sys.modules[__name__] = energy_machine.FakeNvml(
    used_bytes=5 * 10**9,
    processes=[(int(foreign), 10**9)] if foreign else [],
    throttle=int(os.environ.get("THROTTLED", "0")),
    millijoules=list(range(0, 10**8, 25_000)),
)
"""


@pytest.fixture
def gpu(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    project.adapter("fakegpu", ADAPTER)
    Path(project.env["PYTHONPATH"], "pynvml.py").write_text(NVML)
    yield project
    sys.modules.pop("pynvml", None)  # the command line ran in this process


def suite(project: Project, **content: Any) -> Path:
    return project.suite(
        **{"backends": ["fakegpu"], "devices": ["cpu", "cuda"], "precisions": ["fp32"],
           "timed_s": 0.4, "rounds": 1, "warmup_s": 1, "roofline": False, **content}
    )  # fmt: skip


def trials(project: Project, device: str) -> list[dict[str, Any]]:
    """Of the newest bundle."""
    folder = max((project.root / "results").glob("*/journal.jsonl")).parent
    cases = json.loads((folder / "plan.json").read_text())["cases"]
    ids = {entry["case_id"] for entry in cases if entry["case"]["device"] == device}
    records = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    return [record for record in records if record["case_id"] in ids]


@pytest.mark.slow
def test_trials_on_the_gpu_are_watched_and_its_energy_is_its_own(gpu: Project):
    settings = {"window_s": 1, "windows": 1, "idle_s": 1}
    answer = gpu.run_json(suite(gpu, energy=settings))
    assert answer["counts"] == {"ok": 2}
    (trial,), (other,) = trials(gpu, "cuda:0"), trials(gpu, "cpu")
    assert other["gpu"] is None and other["warmup"]["clock_steady"] is None
    watched = trial["gpu"]
    assert watched["samples"] >= 2 and watched["sm_clock_mhz"] == 1980
    assert (watched["others"], watched["memory_process_bytes"]) == (0, 0)
    assert trial["warmup"]["ns"] >= 0.2e9
    cases = {case["device"]: case for case in gpu.cases()}
    assert cases["cuda:0"]["gpu_sm_clock_mhz"] == 1980
    assert cases["cuda:0"]["gpu_throttled"] == "no"
    assert cases["cuda:0"]["energy_method"] == "nvml total energy"
    assert cases["cuda:0"]["power_w"] == pytest.approx(250, rel=0.2)
    assert cases["cpu"]["gpu_sm_clock_mhz"] is None
    folder = max((gpu.root / "results").glob("*/energy.jsonl"))
    records = [json.loads(line) for line in folder.read_text().splitlines()]
    met = {r["case_id"]: r["met"]["gpu"] for r in records if r["kind"] == "window"}
    assert met[trial["case_id"]]["sm_clock_mhz"] == 1980 and met[other["case_id"]] is None
    assert gpu.qbench("verify", "latest", "--recompute").returncode == 0


@pytest.mark.slow
def test_a_shared_gpu_is_refused_unless_it_is_allowed_and_then_marked(gpu: Project):
    shared = {"FOREIGN_PROCESS": "99999999", "THROTTLED": "64"}
    refused = gpu.qbench("run", suite(gpu), **shared)
    assert refused.returncode == 2
    assert "other processes compute on it: 99999999" in refused.stderr
    assert "--allow-shared-gpu" in refused.stderr
    assert not list((gpu.root / "results").glob("*/begin.json"))
    done = gpu.qbench("run", suite(gpu), "--allow-shared-gpu", "--json", "--no-report", **shared)
    assert done.returncode == 0, done.stderr
    (case,) = [case for case in gpu.cases() if case["device"] == "cuda:0"]
    assert case["noisy"]
    assert "1 other process computed on the GPU" in case["noise_reason"]
    assert "hardware thermal slowdown" in case["noise_reason"]


def test_a_run_on_the_processor_alone_asks_nobody(gpu: Project):
    done = gpu.qbench("run", suite(gpu, devices=["cpu"]), "--no-report", FOREIGN_PROCESS="99999999")
    assert done.returncode == 0, done.stderr
