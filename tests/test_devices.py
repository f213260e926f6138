"""Suites of several devices, and artifacts that are compiled for one: runs of a fake whose second
device is ``cuda:0``, through the command line."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from qbench.backend import Ready, Unavailable
from qbench.registry import Registry
from qbench.suite import load_suite

GPU = "from qbench.testing import FakeGpuBackend as Backend\n"


@pytest.fixture
def gpu(project):
    """A project with the backend ``fakegpu``, which has a device ``cuda:0``, beside ``fake``."""
    project.adapter("fakegpu", GPU)
    return project


def lines(project, name: str, bundle: str | None = None) -> list[dict]:
    """The records of the newest bundle's file."""
    path = max((project.root / "results").glob(f"*/{name}")) if bundle is None else Path(bundle)
    return [json.loads(line) for line in path.read_text().splitlines()]


# --------------------------------------------------------------------------- what a suite may say


def test_cuda_is_the_first_gpu(project):
    suite = load_suite(project.suite(devices=["cpu", "cuda", "cuda:1"]), ["fake"], ["net"])
    assert suite.devices == ["cpu", "cuda:0", "cuda:1"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"devices": ["gpu"]}, "cuda (the first GPU)"),
        ({"devices": ["cuda:x"]}, "'cuda:x'"),
        ({"devices": []}, "devices"),
        ({"devices": ["cuda", "cuda:0"]}, "listed twice: cuda:0"),
        ({"exclude": [{"device": "cuda"}]}, "unknown device of this suite 'cuda:0'"),
        ({"overrides": {"fake": {"devices": ["tpu"]}}}, "'tpu'"),
    ],
)
def test_what_is_no_device_is_refused_with_its_line(project, content, said):
    done = project.qbench("plan", project.suite(**content))
    assert done.returncode == 2
    assert said in done.stderr and "small.yaml:" in done.stderr


def entries(project, *args: str | Path) -> dict[tuple[str, ...], dict]:
    done = project.qbench("plan", *args, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["cases"]
    return {tuple(e["case"][k] for k in ("backend", "device", "precision")): e for e in found}


def test_a_plan_holds_every_device_but_those_that_are_excluded(gpu):
    suite = gpu.suite(
        backends=["fake", "fakegpu"],
        devices=["cpu", "cuda:0"],
        overrides={"fake": {"devices": ["cpu"]}},
        exclude=[{"device": "cuda", "precision": "int8-static"}],
    )
    assert set(entries(gpu, suite)) == {
        ("fake", "cpu", "fp32"),
        ("fake", "cpu", "int8-static"),
        ("fakegpu", "cpu", "fp32"),
        ("fakegpu", "cpu", "int8-static"),
        ("fakegpu", "cuda:0", "fp32"),
    }
    only = entries(gpu, suite, "--device", "cuda")
    assert set(only) == {("fakegpu", "cuda:0", "fp32")}
    done = gpu.qbench("plan", suite, "--device", "cuda:1")
    assert done.returncode == 2 and "no device 'cuda:1'" in done.stderr


def test_a_device_that_a_backend_lacks_is_one_plain_reason(gpu):
    suite = gpu.suite(
        backends=["fake", "fakegpu"],
        devices=["cpu", "cuda:0", "cuda:1"],
        precisions=["fp32", "fp8", "int8-static", "bf16"],
    )
    reasons = {key: entry["skip"] for key, entry in entries(gpu, suite).items()}
    for precision in ("fp32", "fp8", "int8-static", "bf16"):
        assert reasons["fake", "cuda:0", precision] == "fake does not run on cuda:0"
        lacks = "there is no cuda:1 for fakegpu here, only cpu, cuda:0"
        assert reasons["fakegpu", "cuda:1", precision] == lacks
    assert reasons["fakegpu", "cuda:0", "fp8"] == "the fake GPU is too old for fp8"
    assert reasons["fakegpu", "cuda:0", "bf16"] == "fakegpu does not offer bf16 on cuda:0"
    assert reasons["fakegpu", "cuda:0", "fp32"] is None


def test_a_reference_on_the_cpu_comes_first(gpu):
    def references(**content) -> list[tuple[str, str]]:
        done = gpu.qbench("plan", gpu.suite(**content), "--json")
        found = json.loads(done.stdout)["references"]["net"]
        return [(e["case"]["backend"], e["case"]["device"]) for e in found]

    both = {"backends": ["fakegpu", "fake"], "devices": ["cuda:0", "cpu"]}
    assert references(**both) == [("fakegpu", "cpu"), ("fake", "cpu"), ("fakegpu", "cuda:0")]
    assert references(backends=["fakegpu"], devices=["cuda"]) == [("fakegpu", "cuda:0")]


# --------------------------------------------------------------------------- runs


def test_artifacts_are_compiled_for_the_device_and_every_batch(gpu):
    suite = gpu.suite(
        backends=["fakegpu"], devices=["cpu", "cuda:0"], batch_sizes=[1, 4], recipes=["best"]
    )
    assert gpu.run_json(suite)["counts"] == {"ok": 8}
    cases = {(c["device"], c["precision"], c["batch_size"]): c for c in gpu.cases()}
    exact, quantized = cases["cuda:0", "fp32", 1], cases["cuda:0", "int8-static", 1]
    assert exact["accuracy"] == quantized["accuracy"] or quantized["accuracy"] > 0.8
    assert quantized["quantizer"] == "fake.round" and quantized["sqnr_db"] > 30
    digests = {key: case["artifact_digest"] for key, case in cases.items()}
    assert digests["cpu", "fp32", 1] == digests["cpu", "fp32", 4]
    assert len({digests[key] for key in digests if key[0] == "cuda:0"}) == 4
    prepared = {line["artifact_key"]: line for line in lines(gpu, "prepare.jsonl")}
    compiled = [line for line in prepared.values() if line["compiled_for"]]
    assert len(prepared) == 8 and len(compiled) == 4  # of a class of devices two, compiled four
    for line in compiled:
        assert {**line["compiled_for"], "batch": 0} == {
            "name": "Fake GPU", "compute_capability": "9.0", "driver": "13.0", "batch": 0, "hints": {}
        }  # fmt: skip
        assert prepared[line["base"]]["compiled_for"] is None
    # each compilation found what the one before had kept
    assert sorted(line["provenance"]["settings"]["compilations_before"] for line in compiled) == [
        0, 1, 2, 3
    ]  # fmt: skip


def test_what_was_compiled_is_found_again(gpu):
    suite = gpu.suite(backends=["fakegpu"], devices=["cuda"])
    gpu.run_json(suite)
    gpu.run_json(suite, "--fresh")
    assert [line["cached"] for line in lines(gpu, "prepare.jsonl")] == [True] * 4
    cache = Path(gpu.env["QBENCH_CACHE"])
    assert [path.read_text() for path in cache.glob("kept/*/timings")] == ["2"]
    sizes = json.loads(gpu.qbench("cache", "size", "--json").stdout)["bytes"]
    assert sizes["kept"] == 1
    assert gpu.qbench("cache", "clean", "kept").returncode == 0
    assert not (cache / "kept").exists()


def test_a_damaged_engine_is_compiled_anew_and_nothing_else(gpu):
    suite = gpu.suite(backends=["fakegpu"], devices=["cuda"])
    gpu.run_json(suite)
    cache = Path(gpu.env["QBENCH_CACHE"])
    for path in cache.glob("artifacts/*/engine.json"):
        path.write_text("{}")
    assert gpu.run_json(suite)["counts"] == {"ok": 2}
    cached = [
        (line["compiled_for"] is None, line["cached"]) for line in lines(gpu, "prepare.jsonl")
    ]
    assert sorted(cached) == [(False, False), (False, False), (True, True), (True, True)]


@pytest.mark.parametrize(
    ("kind", "status", "said"),
    [
        ("failed", "prepare_failed", "planted failure in compile (operator: product)"),
        ("unsupported", "skipped", "planted refusal in compile"),
        ("crash", "crashed", "SIGSEGV"),
        ("error", "error", "RuntimeError: planted failure in compile"),
    ],
)
def test_a_compilation_that_fails_is_a_result_and_the_next_one_runs(gpu, kind, status, said):
    gpu.model(fail={"int8-static:compile": kind})
    gpu.run_json(gpu.suite(backends=["fakegpu"], devices=["cuda"]))
    exact, quantized = gpu.cases()
    assert exact["status"] == "ok"
    assert quantized["status"] == status and said in quantized["reason"]


def test_what_could_not_be_prepared_is_not_compiled(gpu):
    gpu.model(fail={"int8-static:prepare": "unsupported"})
    gpu.run_json(gpu.suite(backends=["fakegpu"], devices=["cuda"]))
    _, quantized = gpu.cases()
    assert quantized["status"] == "skipped" and quantized["reason"] == "planted refusal in prepare"


def test_a_shared_model_is_prepared_and_then_compiled(gpu):
    suite = gpu.suite(
        backends=["fake", "fakegpu"], devices=["cpu", "cuda"], recipes=["best", "shared"]
    )
    gpu.run_json(suite)
    shared = {(c["backend"], c["device"]): c for c in gpu.cases() if c["recipe"] == "shared"}
    assert shared["fakegpu", "cuda:0"]["status"] == "ok"
    prepared = {line["artifact_key"]: line for line in lines(gpu, "prepare.jsonl")}
    engine = next(
        line
        for line in prepared.values()
        if line["digest"] == shared["fakegpu", "cuda:0"]["artifact_digest"]
    )
    portable = prepared[engine["base"]]
    assert engine["compiled_for"] and not portable["compiled_for"]
    assert prepared[portable["base"]]["base"] is None  # the one that is shared


def test_sizes_are_of_what_is_opened_and_times_of_all_that_it_took(gpu):
    gpu.run_json(gpu.suite(backends=["fakegpu"], devices=["cuda"], precisions=["fp32"]))
    (case,) = gpu.cases()
    portable, engine = lines(gpu, "prepare.jsonl")
    assert case["artifact_size_mb"] == engine["bytes"] / 1e6
    assert case["artifact_digest"] == engine["digest"]
    took = portable["prepare_ns"] + engine["prepare_ns"]
    assert case["prepare_s"] == pytest.approx(took * 1e-9)


def test_a_run_that_is_killed_while_it_compiles_goes_on_from_there(gpu):
    """Killed between preparing and compiling: what was prepared is not prepared again."""
    gpu.model(fail={"compile": "hang"})
    suite = gpu.suite(backends=["fakegpu"], devices=["cuda"], precisions=["fp32"])
    process = subprocess.Popen(
        gpu.command("run", suite, "--no-report"),
        cwd=gpu.root, env=gpu.env, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        while True:
            found = list((gpu.root / "results").glob("*/prepare.jsonl"))
            if found and found[0].read_text().count("\n"):
                break
            assert process.poll() is None
    finally:
        process.kill()
        process.wait()
    cache = Path(gpu.env["QBENCH_CACHE"])
    (portable,) = cache.glob("artifacts/*/model.json")
    assert not list(cache.glob("artifacts/*/engine.json"))
    made = portable.stat().st_mtime_ns
    limits = {"prepare_timeout_s": 1.0}
    done = gpu.qbench("run", gpu.suite(
        backends=["fakegpu"], devices=["cuda"], precisions=["fp32"], limits=limits
    ), "--json", "--no-report")  # fmt: skip
    assert done.returncode == 1
    (case,) = gpu.cases()
    assert case["status"] == "timeout"
    assert portable.stat().st_mtime_ns == made


def test_a_model_file_runs_on_a_device(gpu):
    answer = gpu.run_json(
        "--model", "net.fake", "--backend", "fakegpu", "--device", "cuda", "-p", "fp32",
        "--rounds", "1",
    )  # fmt: skip
    assert answer["counts"] == {"ok": 1}
    assert gpu.cases()[0]["device"] == "cuda:0"
    done = gpu.qbench("run", "--model", "net.fake", "--device", "gpu")
    assert done.returncode == 2 and "cuda (the first GPU)" in done.stderr


# --------------------------------------------------------------------------- what probes may say

PROBED = """
from dataclasses import replace
from qbench.testing import FakeGpuBackend
class Backend(FakeGpuBackend):
    name = "odd"
    def probe(self):
        return replace(super().probe(), {changes})
"""

ODD = {
    "devices={'cuda:0': {'name': 'Fake'}}": "driver",
    "devices={'cuda:0': 3}": "what is known of cuda:0",
    "compiled=('cuda:1',)": "cuda:1",
    "compiled='cuda:0'": "'cuda:0'",
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


def test_an_adapter_that_compiles_has_the_method(tmp_path, monkeypatch):
    text = PROBED.replace("{changes}", "") + "    compile = None\n"
    (tmp_path / "odd.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "odd", raising=False)
    found = Registry({"odd": "odd:Backend"}).probe(["odd"])["odd"]
    assert isinstance(found, Unavailable) and "no method compile" in found.reason


def test_what_a_probe_says_of_its_devices_is_told():
    found = Registry({"fakegpu": "qbench.testing:FakeGpuBackend"}).probe()["fakegpu"]
    assert isinstance(found, Ready)
    assert found.compiled == ("cuda:0",) and found.devices["cuda:0"]["driver"] == "13.0"
