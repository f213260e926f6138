"""Runs of the fake backend through the command line."""

from __future__ import annotations

import json

import pytest


def test_a_run_leaves_a_complete_bundle_with_every_trial(project):
    answer = project.run_json(project.suite())
    bundle = project.root / answer["bundle"]
    assert answer["counts"] == {"ok": 2}
    trials = [json.loads(line) for line in (bundle / "journal.jsonl").read_text().splitlines()]
    assert sorted((t["round"], t["status"]) for t in trials) == [
        (0, "ok"), (0, "ok"), (1, "ok"), (1, "ok")
    ]  # fmt: skip
    assert (bundle / "manifest.json").exists()
    done = project.qbench("verify", "latest", "--recompute")
    assert done.returncode == 0, done.stdout


def test_the_table_holds_what_was_measured(project):
    project.run_json(project.suite())
    exact, quantized = project.cases()
    assert exact["precision"] == "fp32"
    assert exact["accuracy"] == 1.0  # the labels are this network's own answers
    assert exact["accuracy_items"] == 40
    assert exact["sqnr_db"] is None  # it is the reference
    assert 0.02 <= exact["latency_p50_ms"] < 5
    assert exact["latency_p50_low_ms"] is None  # two rounds give no interval
    assert quantized["effective_precision"] == "int8"
    assert 30 < quantized["sqnr_db"] < 60
    assert quantized["speedup"] == pytest.approx(
        exact["latency_p50_ms"] / quantized["latency_p50_ms"]
    )


FAILURES = {
    "error": "error",
    "crash": "crashed",
    "exit": "crashed",
    "hang": "timeout",
    "oom": "oom",
    "unsupported": "skipped",
}


@pytest.mark.parametrize("kind", FAILURES)
@pytest.mark.parametrize("step", ["prepare", "open"])
def test_a_failure_is_a_result_and_the_next_case_runs(project, kind: str, step: str):
    project.model(fail={f"int8-static:{step}": kind})
    limits = {"prepare_timeout_s": 2.0, "evaluate_timeout_s": 2.0, "trial_timeout_s": 2.0}
    done = project.qbench("run", project.suite(limits=limits), "--json", "--no-report")
    assert done.returncode == (0 if kind == "unsupported" else 1), done.stderr
    exact, quantized = project.cases()
    assert exact["status"] == "ok"
    assert quantized["status"] == FAILURES[kind]
    assert quantized["latency_p50_ms"] is None
    assert quantized["reason"]
