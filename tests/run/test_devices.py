"""Suites of several devices, and artifacts that are compiled for one: a fake whose second device is
``cuda:0``."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qbench.errors import UserError
from qbench.kit.adapter import Ready, Unavailable
from qbench.run.artifacts import ArtifactStore
from qbench.run.plan import Plan
from qbench.run.planner import make_plan
from qbench.run.sources.catalog import Catalog
from qbench.run.workers.registry import Registry
from qbench.spec.case import Filters
from qbench.spec.suite import Suite, load_suite
from qbench.testing.fake import FakeBackend, FakeGpuBackend

GPU = "from qbench.testing.fake import FakeGpuBackend as Backend\n"


@pytest.fixture
def gpu(project):
    """A project with ``fake`` and ``fakegpu``, a backend with a device ``cuda:0``."""
    project.adapter("fakegpu", GPU)
    return project


def of(project, name: str) -> list[dict]:
    """The records of the newest bundle's file."""
    path = max((project.root / "results").glob(f"*/{name}"))
    return [json.loads(line) for line in path.read_text().splitlines()]


def alone(project, **content) -> Path:
    """A suite of float32 on the fake GPU, for as short as can be."""
    least = {"backends": ["fakegpu"], "devices": ["cuda"], "precisions": ["fp32"], "rounds": 1}
    return project.suite(**{**least, "roofline": False, **content})


# --------------------------------------------------------------------------- what a suite may say


def loaded(project, **content) -> Suite:
    return load_suite(project.suite(**content), ["fake", "fakegpu"], ["net"])


def test_cuda_is_the_first_gpu(project):
    assert loaded(project, devices=["cpu", "cuda", "cuda:1"]).devices == ["cpu", "cuda:0", "cuda:1"]
    assert loaded(project).devices == ["cpu"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"devices": ["gpu"]}, r"cuda \(the first GPU\)"),
        ({"devices": ["cuda:x"]}, "'cuda:x'"),
        ({"devices": []}, "devices"),
        ({"devices": ["cuda", "cuda:0"]}, "listed twice: cuda:0"),
        ({"exclude": [{"device": "cuda"}]}, "unknown device of this suite 'cuda:0'"),
        ({"overrides": {"fake": {"devices": ["tpu"]}}}, "'tpu'"),
        ({"overrides": {"fake": {"devices": ["cuda", "cuda:0"]}}}, "listed twice: cuda:0"),
        ({"overrides": {"fake": {"batch_sizes": [4, 4]}}}, "listed twice: 4"),
    ],
)
def test_a_wrong_device_is_refused_with_its_line(project, content, said):
    with pytest.raises(UserError, match=rf"small.yaml:\d+: .*{said}"):
        loaded(project, **content)


def planned(project, filters: Filters | None = None, **content) -> Plan:
    targets = {name: f"qbench.testing:{name}" for name in ("FakeBackend", "FakeGpuBackend")}
    registry = Registry({"fake": targets["FakeBackend"], "fakegpu": targets["FakeGpuBackend"]})
    probes = {"fake": FakeBackend().probe(), "fakegpu": FakeGpuBackend().probe()}
    suite = loaded(project, **{"backends": ["fake", "fakegpu"], **content})
    catalog, store = Catalog([project.root]), ArtifactStore()
    return make_plan(suite, catalog, registry, probes, store, filters or Filters())


def test_a_plan_holds_every_device_but_those_that_are_excluded(project):
    asked: dict[str, Any] = {
        "devices": ["cpu", "cuda:0"],
        "overrides": {"fake": {"devices": ["cpu"]}},
        "exclude": [{"device": "cuda", "precision": "int8-static"}],
    }

    def found(filters: Filters | None = None) -> set[tuple[str, str, str]]:
        cases = [p.case for p in planned(project, filters, **asked).cases]
        return {(case.backend, case.device, case.precision) for case in cases}

    assert found() == {
        ("fake", "cpu", "fp32"),
        ("fake", "cpu", "int8-static"),
        ("fakegpu", "cpu", "fp32"),
        ("fakegpu", "cpu", "int8-static"),
        ("fakegpu", "cuda:0", "fp32"),
    }
    assert found(Filters(devices=("cuda:0",))) == {("fakegpu", "cuda:0", "fp32")}
    with pytest.raises(UserError, match="no device 'cuda:1'"):
        found(Filters(devices=("cuda:1",)))


def test_a_device_that_a_backend_lacks_is_one_plain_reason(project):
    precisions = ["fp32", "fp8", "int8-static", "bf16"]
    plan = planned(project, devices=["cpu", "cuda:0", "cuda:1"], precisions=precisions)
    reasons = {(p.case.backend, p.case.device, p.case.precision): p.skip for p in plan.cases}
    for precision in precisions:
        assert reasons["fake", "cuda:0", precision] == "fake does not run on cuda:0"
        lacks = "there is no cuda:1 for fakegpu here, only cpu, cuda:0"
        assert reasons["fakegpu", "cuda:1", precision] == lacks
    assert reasons["fakegpu", "cuda:0", "fp8"] == "the fake GPU is too old for fp8"
    assert reasons["fakegpu", "cuda:0", "bf16"] == "fakegpu does not offer bf16 on cuda:0"
    assert reasons["fakegpu", "cuda:0", "fp32"] is None


def test_a_device_stands_in_a_cases_label_unless_it_is_the_cpu(project):
    plan = planned(project, devices=["cpu", "cuda"], precisions=["fp32"])
    labels = [p.case.label for p in plan.cases if p.case.backend == "fakegpu"]
    assert labels == ["net fakegpu fp32", "net fakegpu fp32 cuda:0"]


def test_a_reference_on_the_cpu_comes_first(project):
    def references(**content) -> list[tuple[str, str]]:
        found = planned(project, **content).references["net"]
        return [(p.case.backend, p.case.device) for p in found]

    both = {"backends": ["fakegpu", "fake"], "devices": ["cuda:0", "cpu"]}
    assert references(**both) == [("fakegpu", "cpu"), ("fake", "cpu"), ("fakegpu", "cuda:0")]
    assert references(backends=["fakegpu"], devices=["cuda"]) == [("fakegpu", "cuda:0")]


def test_an_engine_is_for_a_kind_of_device_a_batch_and_hints(project):
    def keys(**content) -> set[str]:
        plan = planned(
            project, backends=["fakegpu"], devices=["cuda"], precisions=["fp32"], **content
        )
        return {p.preparation.key for p in plan.runnable if p.preparation}

    one = keys()
    assert len(keys(batch_sizes=[1, 4])) == 2 and one < keys(batch_sizes=[1, 4])
    assert keys(threads=[1, 2]) == one  # engines know nothing of the host's threads
    assert not keys(overrides={"fakegpu": {"hints": {"level": 5}}}) & one


# --------------------------------------------------------------------------- runs


@pytest.mark.slow
def test_artifacts_are_compiled_for_the_device_and_every_batch(gpu):
    """The shared model, too, which is prepared for the backend before it is compiled."""
    suite = gpu.suite(
        backends=["fakegpu"],
        devices=["cpu", "cuda:0"],
        batch_sizes=[1, 4],
        recipes=["best", "shared"],
        exclude=[{"device": "cpu", "batch_size": 4}, {"recipe": "shared", "batch_size": 4}],
        rounds=1,
    )
    assert gpu.run_json(suite)["counts"] == {"ok": 8}
    assert gpu.qbench("verify", "latest", "--recompute").returncode == 0
    prepared = {line["artifact_key"]: line for line in of(gpu, "prepare.jsonl")}
    compiled = [line for line in prepared.values() if line["compiled_for"]]
    assert len(compiled) == 5
    for line in compiled:
        known = {"name": "Fake GPU", "compute_capability": "9.0", "driver": "13.0", "hints": {}}
        assert all(line["compiled_for"][name] == value for name, value in known.items())
    # one after the other, and each found what the one before had kept
    before = [line["provenance"]["settings"]["compilations_before"] for line in compiled]
    assert before == [0, 1, 2, 3, 4]

    plan = json.loads(max((gpu.root / "results").glob("*/plan.json")).read_text())
    cases = {case["case_id"]: case for case in gpu.cases()}
    for entry in plan["cases"]:
        case, engine = cases[entry["case_id"]], prepared[entry["artifact_key"]]
        if case["device"] == "cpu":
            assert engine["compiled_for"] is None
            continue
        assert engine["compiled_for"]["batch"] == case["batch_size"]
        portable = prepared[engine["base"]]
        chain = [engine, portable]
        if case["recipe"] == "shared":
            chain.append(prepared[portable["base"]])
        assert chain[-1]["base"] is None
        # the size of what is opened, the time of all that it took, and who quantized it
        assert case["artifact_digest"] == engine["digest"]
        assert case["artifact_size_mb"] == pytest.approx(engine["bytes"] / 1e6)
        took = sum(line["prepare_ns"] for line in chain)
        assert case["prepare_s"] == pytest.approx(took * 1e-9)
        quantized = (case["precision"], case["recipe"]) == ("int8-static", "best")
        assert case["quantizer"] == ("fake.round" if quantized else None)
        assert case["sqnr_db"] > 30 if case["precision"] == "int8-static" else case["accuracy"]


def test_trials_record_segments_and_device_memory(gpu):
    gpu.model(infer_us=1000)
    gpu.run_json(alone(gpu, devices=["cpu", "cuda"]))
    trials = {trial["device_memory"].get("io"): trial for trial in of(gpu, "journal.jsonl")}
    on_cpu, on_gpu = trials[None], trials[(64 + 10) * 4]
    assert on_cpu["segments"] is None and on_cpu["device_memory"] == {}
    assert on_gpu["device_memory"] == {"weights": 2560, "io": 296}
    segments = on_gpu["segments"]
    assert 100 <= segments["calls"] <= 300  # of a millisecond or somewhat more, in 0.3 s
    constant = {"p50_ns": 2e3, "p90_ns": 2e3, "p99_ns": 2e3, "mean_ns": 2e3, "cov": 0}
    assert segments["h2d"] == constant
    series = np.linspace(10e3, 30e3, segments["calls"])
    assert segments["compute"]["p50_ns"] == pytest.approx(20e3)
    assert segments["compute"]["p90_ns"] == pytest.approx(28e3)
    assert segments["compute"]["cov"] == pytest.approx(series.std() / 20e3)
    assert on_gpu["warmup"]["ns"] >= 0.2e9 > on_cpu["warmup"]["ns"]  # the suite says 0.02 s


@pytest.mark.slow
def test_a_compiled_artifact_is_reused_and_rebuilt_where_damaged(gpu):
    gpu.run_json(alone(gpu))
    cache = Path(gpu.env["QBENCH_CACHE"])

    def cached() -> dict[str, bool]:
        lines = of(gpu, "prepare.jsonl")
        return {"engine" if line["compiled_for"] else "portable": line["cached"] for line in lines}

    assert cached() == {"portable": False, "engine": False}
    gpu.run_json(alone(gpu))
    assert cached() == {"portable": True, "engine": True}
    (engine,) = cache.glob("artifacts/*/engine.json")
    engine.write_text("{}")
    assert gpu.run_json(alone(gpu))["counts"] == {"ok": 1}
    assert cached() == {"portable": True, "engine": False}
    assert [path.read_text() for path in cache.glob("kept/*/timings")] == ["2"]
    sizes = json.loads(gpu.qbench("cache", "size", "--json").stdout)["bytes"]
    assert sizes["kept"] == 1
    assert gpu.qbench("cache", "clean", "kept").returncode == 0
    assert not (cache / "kept").exists() and engine.exists()


def test_two_machines_that_compile_in_one_cache_do_not_stop_each_other(project, monkeypatch):
    """The other one puts back what it keeps just before this one does."""
    asked: dict[str, Any] = {"backends": ["fakegpu"], "devices": ["cuda"], "precisions": ["fp32"]}
    (engine,) = (p.preparation for p in planned(project, **asked).runnable)
    assert engine and engine.compilation
    store, move = ArtifactStore(), Path.rename
    kept = store.root / "kept" / engine.compilation.kept

    def late(path: Path, target: Path) -> Path:
        if target == kept:
            kept.mkdir()
            (kept / "timings").write_text("7")
        return move(path, target)

    monkeypatch.setattr(Path, "rename", late)
    for preparation in engine.chain:
        outcome = store.prepare(preparation, "qbench.testing:FakeGpuBackend", 60, None)
        assert outcome.status == "ok", outcome.reason
    assert store.find(engine) and (kept / "timings").read_text() == "7"


def test_a_compilation_that_fails_is_a_result_and_the_next_one_runs(gpu):
    expected = {
        "failed": ("prepare_failed", "planted failure in compile (operator: product)"),
        "unsupported": ("skipped", "planted refusal in compile"),
        "crash": ("crashed", "SIGSEGV"),
        "error": ("error", "planted failure in compile"),
    }
    for kind in expected:
        gpu.model(kind, fail={"compile": kind})
    gpu.model("unprepared", fail={"prepare": "unsupported"})
    gpu.run_json(alone(gpu, models=[*expected, "unprepared", "net"]))
    cases = {case["model"]: case for case in gpu.cases()}
    assert cases.pop("net")["status"] == "ok"
    expected["unprepared"] = ("skipped", "planted refusal in prepare")  # as if nothing followed
    assert cases.keys() == expected.keys()
    for model, (status, said) in expected.items():
        assert cases[model]["status"] == status and said in cases[model]["reason"], model


def test_a_run_that_is_killed_while_it_compiles_goes_on_from_there(gpu):
    """Killed between preparing and compiling: what was prepared is not prepared again."""
    gpu.model(fail={"compile": "hang"})
    process = subprocess.Popen(
        gpu.command("run", alone(gpu), "--no-report"),
        cwd=gpu.root,
        env=gpu.env,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr
    found: list[Path] = []
    while not (found and found[0].read_text().count("\n")):
        assert process.poll() is None
        time.sleep(0.02)
        found = list((gpu.root / "results").glob("*/prepare.jsonl"))
    process.kill()
    process.wait()
    cache = Path(gpu.env["QBENCH_CACHE"])
    (portable,) = cache.glob("artifacts/*/model.json")
    made = portable.stat().st_mtime_ns
    limits = {"prepare_timeout_s": 0.01}
    gpu.run_json(alone(gpu, limits=limits))
    (case,) = gpu.cases()
    assert case["status"] == "timeout" and portable.stat().st_mtime_ns == made


def test_a_model_file_runs_on_a_device(gpu):
    suite = ("--model", "net.fake", "--backend", "fakegpu", "-p", "fp32", "--rounds", "1")
    assert gpu.run_json(*suite, "--device", "cuda")["counts"] == {"ok": 1}
    assert gpu.cases()[0]["device"] == "cuda:0"
    done = gpu.qbench("run", "--model", "net.fake", "--device", "gpu")
    assert done.returncode == 2 and "cuda (the first GPU)" in done.stderr


# --------------------------------------------------------------------------- what probes may say

PROBED = """
from dataclasses import replace
from qbench.kit.adapter import Adapter
from qbench.testing.fake import FakeGpuBackend
class Backend(FakeGpuBackend):
    name = "odd"
    def probe(self):
        return replace(super().probe(), {changes})
"""

ODD = {
    "devices={'cuda:0': {'name': 'Fake'}}": "uuid",
    "devices={'cuda:0': 3}": "facts of cuda:0",
    "devices={}": "its facts of cuda:0 lack one of name",
    "compiled=('cuda:1',)": "its facts of cuda:1 lack one of name",
    "compiled='cuda:0'": "'cuda:0'",
    ")\n    compile = (Adapter.compile": "no method compile",
}


@pytest.mark.parametrize("changes", ODD)
def test_a_probe_that_compiles_for_what_it_does_not_know_is_refused(
    tmp_path, monkeypatch, changes: str
):
    (tmp_path / "odd.py").write_text(PROBED.replace("{changes}", changes))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "odd", raising=False)
    found = Registry({"odd": "odd:Backend"}).probe(["odd"])["odd"]
    assert isinstance(found, Unavailable) and ODD[changes] in found.reason


def test_devices_of_a_probe_are_reported():
    found = Registry({"fakegpu": "qbench.testing:FakeGpuBackend"}).probe()["fakegpu"]
    assert isinstance(found, Ready)
    assert found.compiled == ("cuda:0",) and found.devices["cuda:0"]["driver"] == "13.0"
