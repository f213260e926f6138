"""Golden suites: real networks on the real runtimes, through the command line.

What is expected comes from the cards (written by the training recipe), from the assets' manifest,
and from what quantization to 8 bits can be asked to keep.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

GOLDEN = Path(__file__).parent / "golden"
MODELS = Path(__file__).parent.parent / "suites" / "models"
RUNTIMES = {"onnxruntime": "onnxruntime", "openvino": "openvino", "tflite": "ai_edge_litert"}


def run(suite: Path, folder: Path) -> list[dict[str, Any]]:
    """The case table of a run."""
    for package in RUNTIMES.values():
        pytest.importorskip(package)
    env = {**os.environ, "QBENCH_CACHE": str(folder / "cache"), "TMPDIR": str(folder)}

    def qbench(*args: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "qbench.cli", *args, "--json"]
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    answer = qbench("run", str(suite))
    assert Path(folder, answer["report"]).stat().st_size > 1_000_000
    assert qbench("verify", "latest", "--recompute")["problems"] == []
    return qbench("show", "latest")["cases"]


def only(cases: list[dict[str, Any]], **wanted: str) -> list[dict[str, Any]]:
    return [c for c in cases if all(c[key] == value for key, value in wanted.items())]


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return run(GOLDEN / "zoo.yaml", tmp_path_factory.mktemp("zoo"))


def test_every_case_is_ok_or_skipped_with_its_reason(zoo):
    assert len(zoo) == 3 * 5 * 3
    assert {case["status"] for case in zoo} == {"ok", "skipped"}
    assert all(case["reason"] for case in only(zoo, status="skipped"))


def test_what_each_runtime_can_do_is_done(zoo):
    """Float32, and int8 in one form or another, run everywhere; fp16 at least where it is
    storage."""
    done = {(c["model"], c["backend"], c["precision"]) for c in only(zoo, status="ok")}
    for model in ("digits_cnn", "digits_mobilenet", "digits_vit"):
        for backend in RUNTIMES:
            assert {(model, backend, "fp32"), (model, backend, "int8-static")} <= done
        assert (model, "onnxruntime", "fp16") in done
        assert (model, "tflite", "fp16") in done
    for backend in RUNTIMES:
        assert ("digits_vit", backend, "int8-dynamic") in done


def test_float32_is_as_accurate_as_the_card_says_and_alike_everywhere(zoo):
    for case in only(zoo, precision="fp32"):
        card = yaml.safe_load((MODELS / f"{case['model']}.yaml").read_text())
        assert case["accuracy"] == pytest.approx(card["expected"]["value"], abs=0.002)
        assert case["accuracy_items"] == card["expected"]["items"]
        assert case["effective_precision"] == "fp32"
        if case["sqnr_db"] is not None:  # the reference has none
            assert case["sqnr_db"] >= 100
    references = [c for c in only(zoo, precision="fp32") if c["sqnr_db"] is None]
    assert len(references) == 3


def test_quantized_networks_stay_close_and_say_what_they_ran_at(zoo):
    for case in only(zoo, status="ok"):
        if case["precision"] == "fp32":
            continue
        assert case["accuracy_delta"] >= -0.02, case
        assert case["sqnr_db"] >= 15, case
        if case["precision"].startswith("int8"):
            assert case["effective_precision"] == "int8", case
            assert case["quantizer"]
        if case["precision"] == "bf16":
            assert case["effective_precision"] == "bf16"
        if case["precision"] == "int8-static":
            assert case["calibration_items"] == 100


def test_int8_is_smaller(zoo):
    sizes = {(c["model"], c["backend"], c["precision"]): c["artifact_size_mb"] for c in zoo}
    for (model, backend, precision), size in sizes.items():
        if size is not None and precision.startswith("int8"):
            assert size < 0.6 * sizes[model, backend, "fp32"]


REFERENCE = {"resnet8_cifar10": 0.888, "dscnn_kws": 0.900, "mobilenet_v2_100_224": 0.7892}
"""Float32 top-1 by the assets' manifest; dscnn_kws on items 100 to 499."""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_real_models_keep_their_accuracy(assets: Path, tmp_path_factory: pytest.TempPathFactory):
    cases = run(GOLDEN / "real.yaml", tmp_path_factory.mktemp("real"))
    assert len(cases) == 3 * 2 * 3
    for case in cases:
        assert case["status"] == "ok", case
        tolerance = 0.002 if case["precision"] == "fp32" else 0.015
        assert case["accuracy"] >= REFERENCE[case["model"]] - tolerance, case
        if case["precision"] == "fp32":
            assert case["accuracy"] <= REFERENCE[case["model"]] + tolerance, case
    for backend in RUNTIMES:
        exact, quantized = only(cases, model="mobilenet_v2_100_224", backend=backend)
        assert quantized["artifact_size_mb"] <= 0.35 * exact["artifact_size_mb"]
