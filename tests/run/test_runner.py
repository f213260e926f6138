"""Runs of the fake backend through the command line."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml


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
    limits = {"prepare_timeout_s": 8.0, "evaluate_timeout_s": 8.0, "trial_timeout_s": 8.0}
    done = project.qbench("run", project.suite(limits=limits), "--json", "--no-report")
    assert done.returncode == (0 if kind == "unsupported" else 1), done.stderr
    exact, quantized = project.cases()
    assert exact["status"] == "ok"
    assert quantized["status"] == FAILURES[kind]
    assert quantized["latency_p50_ms"] is None
    assert quantized["reason"]


def edit_card(project, **changes) -> None:
    path = project.root / "models" / "net.yaml"
    project.write("models/net.yaml", {**yaml.safe_load(path.read_text()), **changes})


def test_accuracy_is_that_of_the_cards_first_output(project):
    """Not of the first by the alphabet, which here holds the negatives of the scores."""
    text = (project.root / "models" / "net.yaml").read_text()
    outputs = "outputs:\n  scores: {spec}\n  aux: {spec}\n".replace(
        "{spec}", "{dtype: float32, shape: [N, 10]}"
    )
    named = "    outputs:\n      scores: {name: scores}\n      aux: {name: aux}\n"
    text = re.sub(r"^outputs:\n(  .*\n)+", outputs, text, flags=re.M)
    text = re.sub(r"^    outputs:\n(      .*\n)+", named, text, flags=re.M)
    (project.root / "models" / "net.yaml").write_text(text)
    project.run_json(project.suite())
    exact, quantized = project.cases()
    assert exact["accuracy"] == 1.0
    assert quantized["accuracy_delta"] >= -0.2
    assert project.qbench("verify", "latest", "--recompute").returncode == 0


def test_a_program_that_computes_otherwise_when_timed_is_an_error(project):
    project.model(drift=5.0)
    done = project.qbench("run", project.suite(), "--json", "--no-report")
    assert done.returncode == 1
    for case in project.cases():
        assert case["status"] == "error"
        assert "of the timed program differs from the evaluation's" in case["reason"]


def test_nan_outputs_are_an_error_and_not_an_accuracy(project):
    project.model(fail={"infer": "nan"})
    done = project.qbench("run", project.suite(), "--json", "--no-report")
    assert done.returncode == 1
    assert {case["status"] for case in project.cases()} == {"error"}
    assert all("NaN" in case["reason"] for case in project.cases())


def test_the_next_backend_is_the_reference_where_the_first_fails(project):
    """Two backends of the same kind; float32 of the first cannot be opened."""
    entry = project.root.parent / "packages" / "fake-1.0.dist-info" / "entry_points.txt"
    module = project.root.parent / "packages" / "second.py"
    module.write_text(
        "from qbench.testing.fake import FakeBackend\n"
        "class Backend(FakeBackend):\n"
        "    name = 'second'\n"
        "    def open(self, artifact, config, inspect=False):\n"
        "        if artifact.target.precision == 'fp32': raise RuntimeError('no float32 here')\n"
        "        return super().open(artifact, config, inspect)\n"
    )
    entry.write_text(entry.read_text() + "second = second:Backend\n")
    done = project.qbench(
        "run", project.suite(backends=["second", "fake"]), "--json", "--no-report"
    )
    assert done.returncode == 1
    cases = {(c["backend"], c["precision"]): c for c in project.cases()}
    assert cases["second", "fp32"]["status"] == "error"
    assert cases["second", "int8-static"]["sqnr_db"] > 30
    assert cases["fake", "fp32"]["sqnr_db"] is None
    assert cases["fake", "int8-static"]["sqnr_db"] > 30


def test_a_damaged_artifact_in_the_cache_is_rebuilt(project):
    suite = project.suite()
    project.run_json(suite)
    cache = Path(project.env["QBENCH_CACHE"])
    for path in cache.glob("artifacts/*/model.json"):
        path.write_text(path.read_text().replace("1", "7"))
    project.run_json(suite)
    exact, quantized = project.cases()
    assert exact["accuracy"] == 1.0
    assert quantized["sqnr_db"] > 30


@pytest.mark.slow
def test_other_evaluation_items_are_another_run(project):
    """An interrupted run must not go on with items that its reference did not see."""
    project.model(infer_us=3000)
    suite = project.suite(timed_s=0.3, rounds=3)
    process = subprocess.Popen(
        project.command("run", suite, "--no-report"),
        cwd=project.root,
        env=project.env,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr
    while not process.stderr.readline().startswith("measure:"):
        pass
    process.kill()
    process.wait()
    edit_card(project, evaluation={"dataset": "blobs", "items": "21:60"})
    project.run_json(suite)
    assert len(list((project.root / "results").glob("*/begin.json"))) == 2
    assert all(case["accuracy_items"] == 39 for case in project.cases())


def test_renamed_data_do_not_hide_that_calibration_and_evaluation_overlap(project):
    data = yaml.safe_load((project.root / "datasets" / "blobs.yaml").read_text())
    project.write("datasets/other.yaml", {**data, "name": "other"})
    edit_card(project, calibration={"dataset": "other", "items": "0:30"})
    done = project.qbench("run", project.suite())
    assert done.returncode == 2
    assert "10 items are used for both calibration and evaluation" in done.stderr


def test_a_run_where_every_case_turns_out_skipped_is_no_success(project):
    project.model(fail={"prepare": "unsupported"})
    done = project.qbench("run", project.suite(), "--no-report")
    assert done.returncode == 2
    assert "every case was skipped" in done.stderr
    assert "planted refusal" in done.stdout


def test_a_larger_batch_is_evaluated_as_it_is_timed(project):
    project.run_json(project.suite(batch_sizes=[1, 8]))
    cases = project.cases()
    assert [c["batch_size"] for c in cases] == [1, 8, 1, 8]
    assert all(c["status"] == "ok" and c["accuracy_items"] == 40 for c in cases)
    lines = (project.root / "results").glob("*/evaluate.jsonl")
    assert len(next(lines).read_text().splitlines()) == 4


@pytest.mark.slow
def test_samples_do_not_count_as_the_models_memory(project):
    project.model(infer_us=1)
    peaks = []
    for timed_s in (0.05, 1.5):
        project.run_json(project.suite(precisions=["fp32"], rounds=1, timed_s=timed_s))
        peaks.append(project.cases()[0]["memory_peak_mb"])
    assert abs(peaks[1] - peaks[0]) < 1.0


def test_a_damaged_interrupted_bundle_does_not_stand_in_the_way(project):
    """A nightly job must not find the same damaged bundle every night."""
    project.model(infer_us=3000)
    suite = project.suite(timed_s=0.3, rounds=3)
    process = subprocess.Popen(
        project.command("run", suite, "--no-report"),
        cwd=project.root,
        env=project.env,
        stderr=subprocess.DEVNULL,
    )
    while not (journals := list((project.root / "results").glob("*/journal.jsonl"))):
        assert process.poll() is None
    process.kill()
    process.wait()
    journals[0].write_bytes(b"{}\n")
    answer = project.run_json(suite)
    assert project.root / answer["bundle"] != journals[0].parent
    assert answer["counts"] == {"ok": 2}


@pytest.mark.parametrize(
    "command",
    [
        ["export", "-o", "/proc/no.csv"],
        ["report", "latest", "-o", "/proc/no.html"],
        ["init", "/proc/no.yaml"],
        ["run", "small.yaml", "--results", "/proc/no"],
        ["run", "small.yaml", "--results", "small.yaml/no"],
    ],
    ids=" ".join,
)
def test_a_place_that_cannot_be_written_is_the_users_to_mend(project, command: list[str]):
    project.suite()
    if command[0] != "run":
        project.run_json("small.yaml")
    done = project.qbench(*command)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr


def test_a_cache_that_is_no_folder_is_named(project):
    project.suite()
    (project.root / "file").write_text("")
    done = project.qbench("run", "small.yaml", QBENCH_CACHE=str(project.root / "file"))
    assert done.returncode == 2
    assert "QBENCH_CACHE" in done.stderr and "Traceback" not in done.stderr


def test_a_model_below_its_cards_expectation_is_reported(project):
    edit_card(project, expected={"value": 0.5, "items": 40})
    done = project.qbench("run", project.suite(), "--no-report")
    said = "net fake fp32: reaches 1.0000, its card expects 0.5000 on the same 40 items"
    assert said in done.stderr


def test_a_limit_too_small_for_the_runtime_is_out_of_memory(project):
    suite = project.suite(limits={"memory_mb": 50.0})
    assert project.qbench("run", suite, "--no-report").returncode == 1
    assert {case["status"] for case in project.cases()} == {"oom"}


def test_the_command_is_kept_without_what_may_be_secret(project):
    project.write("private/machine.yaml", {"cooling": "air"})
    bundle = project.run_json(project.suite(), "--system", "private/machine.yaml")["bundle"]
    begin = json.loads((project.root / bundle / "begin.json").read_text())
    assert "machine.yaml" in begin["command"]
    assert "private" not in json.dumps(begin["command"])
    assert begin["system"]["cooling"] == "air"
