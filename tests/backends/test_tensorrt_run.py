"""``qbench run`` with TensorRT from suite to bundle, in its real worker processes, on a machine
whose driver, TensorRT and CUDA are fakes. Its times mean nothing; its numbers are ONNX Runtime's,
and its accuracies have to be those of the backend onnxruntime."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_nvidia
import fake_tensorrt
import pytest
from conftest import Project, Runs
from processor import SATURATES

from qbench.bundle.bundle import Bundle
from qbench.bundle.find import bundles
from qbench.bundle.records.run import to_json

SUITE: Mapping[str, Any] = {
    "models": ["digits_cnn"],
    "precisions": ["fp32", "fp16", "int8-static"],
    "backends": ["tensorrt", "onnxruntime"],
    "devices": ["cpu", "cuda:0"],
    "batch_sizes": [1, 8],
    "exclude": [{"backend": "onnxruntime", "batch_size": 8}],
    "rounds": 1,
    "warmup_s": 0.02,
    "timed_s": 0.05,
    "roofline": False,
}

ALONE: Mapping[str, Any] = {
    "precisions": ["fp32"],
    "backends": ["tensorrt"],
    "devices": ["cuda:0"],
    "batch_sizes": [1],
    "exclude": [],
}
"""One case of TensorRT."""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, runs: Runs) -> Project:
    folder = tmp_path_factory.mktemp("machine")
    (folder / "project").mkdir()
    own = {
        "QBENCH_CACHE": str(folder / "cache"),
        "QBENCH_LOCK": str(folder / "lock"),
        **fake_nvidia.environment(folder / "nvidia"),
    }
    return Project(folder / "project", {**os.environ, **own}, runs)


@pytest.fixture(scope="module")
def ran(machine: Project) -> Bundle:
    return run(machine, "fakes")


def run(machine: Project, name: str, **changes: Any) -> Bundle:
    suite = machine.suite(name, **{**SUITE, **changes})
    done = machine.qbench("run", suite, "--no-report")
    assert done.returncode in (0, 1), done.stdout + done.stderr
    folders = [path for path in bundles(machine.root / "results") if f"-{name}-" in path.name]
    (folder,) = folders
    return Bundle(folder)


def of(bundle: Bundle, backend: str) -> list[dict[str, Any]]:
    """The cases of a backend on the device that it has here."""
    device = {"tensorrt": "cuda:0", "onnxruntime": "cpu"}[backend]
    cases = [{**planned, **planned["case"]} for planned in to_json(bundle.plan)["cases"]]
    return [c for c in cases if (c["backend"], c["device"]) == (backend, device)]


def trials(bundle: Bundle, backend: str) -> list[dict[str, Any]]:
    """Good trials of a backend."""
    records = map(to_json, bundle.trials)
    mine = {case["case_id"]: case for case in of(bundle, backend)}
    found = [{**mine[t["case_id"]], **t} for t in records if t["case_id"] in mine]
    assert [t["status"] for t in found] == ["ok"] * len(mine), [t["reason"] for t in found]
    return found


def accuracies(bundle: Bundle, backend: str) -> dict[str, set[float]]:
    """By precision, of every batch size."""
    result: dict[str, set[float]] = {}
    for case in of(bundle, backend):
        record = to_json(bundle.evaluated[case["evaluation_id"]])
        assert record["status"] == "ok", record["reason"]
        result.setdefault(case["precision"], set()).add(record["quality"]["accuracy"])
    return result


@pytest.mark.slow
def test_accuracies_are_those_of_onnxruntime(ran: Bundle) -> None:
    """The same numbers in float; one item of 450 may differ where each quantizes in its own way."""
    theirs, ours = accuracies(ran, "onnxruntime"), accuracies(ran, "tensorrt")
    assert set(ours) == {"fp32", "fp16", "int8-static"}
    assert ours["fp32"] == theirs["fp32"]
    for precision, found in ours.items():
        if SATURATES and precision == "int8-static":
            continue  # unsigned activations, which ONNX Runtime's own files have, saturate here
        (exact,) = theirs[precision]
        assert all(abs(accuracy - exact) <= 1 / 450 + 1e-9 for accuracy in found), precision


def test_every_case_runs_at_its_precision(ran: Bundle) -> None:
    words = {"fp32": "fp32", "fp16": "fp16", "int8-static": "int8"}
    for case in of(ran, "tensorrt"):
        effective = to_json(ran.evaluated[case["evaluation_id"]])["effective"]
        assert effective["precision"] == words[case["precision"]]
        assert any("as one CUDA graph" in note for note in effective["notes"])


def test_each_batch_has_an_engine_of_one_portable_artifact(ran: Bundle) -> None:
    engines: dict[str, set[str]] = {}
    for case in of(ran, "tensorrt"):
        record = to_json(ran.prepared[case["artifact_key"]])
        assert record["compiled_for"]["batch"] == case["batch_size"]
        assert record["provenance"]["file"] == "model.engine"
        engines.setdefault(record["base"], set()).add(case["artifact_key"])
    assert len(engines) == 3, "a portable artifact for each precision"
    assert all(len(keys) == 2 for keys in engines.values())


def test_trials_tell_segments_and_memory(ran: Bundle) -> None:
    found = trials(ran, "tensorrt")
    assert len(found) == 6
    for trial in found:
        assert trial["calls"] > 0
        assert trial["runtime_version"] == fake_tensorrt.VERSIONS["11"] + fake_nvidia.MARK
        segments = trial["segments"]
        assert {"h2d", "compute", "d2h", "enqueue"} <= set(segments)
        for name in ("h2d", "compute", "d2h"):  # the fake device's clock is exact
            assert segments[name]["p50_ns"] == pytest.approx(segments[name]["p99_ns"], rel=1e-3)
        memory = trial["device_memory"]
        assert set(memory) == {"weights", "activations", "io"}
        assert all(size > 0 for size in memory.values())
    for trial in trials(ran, "onnxruntime"):
        assert trial["segments"] is None


@pytest.mark.slow
def test_engines_are_used_again(ran: Bundle, machine: Project) -> None:
    again = run(machine, "again", **ALONE)
    (case,) = of(again, "tensorrt")
    assert case["artifact_key"] in {case["artifact_key"] for case in of(ran, "tensorrt")}
    assert to_json(again.prepared[case["artifact_key"]])["cached"]
    hints = {"tensorrt": {"hints": {"transfers": False}}}
    other = run(machine, "other", **ALONE, overrides=hints)
    (case,) = of(other, "tensorrt")
    record = to_json(other.prepared[case["artifact_key"]])
    assert not record["cached"]
    assert record["provenance"]["settings"]["timing_cache"] == "reused"
    (trial,) = trials(other, "tensorrt")
    assert set(trial["segments"]) >= {"compute", "enqueue"}


def test_a_case_is_explained(ran: Bundle, machine: Project) -> None:
    """Time by layer of the engine; layers beside float32's, of what the engine was built from."""
    cases = {(c["precision"], c["batch_size"]): c for c in of(ran, "tensorrt")}
    case = cases["int8-static", 8]
    words = (case["case_id"], "--run", str(ran.path), "--json")
    done = machine.qbench("explain", *words)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    convolutions = next(kind for kind in found["kinds"] if kind["kind"] == "CaskConvolution")
    assert convolutions["precision"] == "int8" and convolutions["ns"] > 0
    assert {kind["precision"] for kind in found["twin_kinds"]} <= {"fp32", None}
    assert found["layers"] and all(layer["sqnr_db"] > 15 for layer in found["layers"])


def test_a_full_device_is_told_as_such(machine: Project) -> None:
    machine.env["QBENCH_FAKE_CUDA_MEMORY"] = "16"
    try:
        full = run(machine, "full", **ALONE)
    finally:
        del machine.env["QBENCH_FAKE_CUDA_MEMORY"]
    (case,) = of(full, "tensorrt")
    record = to_json(full.evaluated[case["evaluation_id"]])
    assert record["status"] == "oom"
    assert "cudaErrorMemoryAllocation" in record["reason"]


def test_a_bundle_says_that_its_card_is_none(ran: Bundle) -> None:
    for case in of(ran, "tensorrt"):
        assert (
            to_json(ran.prepared[case["artifact_key"]])["compiled_for"]["name"] == fake_nvidia.CARD
        )
    assert fake_nvidia.CARD in (ran.path / "begin.json").read_text()


@pytest.mark.slow
def test_both_versions_of_tensorrt(machine: Project, tmp_path: Path) -> None:
    older = replace(machine, env={**machine.env, **fake_nvidia.environment(tmp_path, "10")})
    bundle = run(older, "ten", **ALONE)
    (trial,) = trials(bundle, "tensorrt")
    assert trial["runtime_version"] == fake_tensorrt.VERSIONS["10"] + fake_nvidia.MARK
