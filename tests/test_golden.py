"""Golden suites: real networks on the real runtimes, through the command line.

What is expected comes from the cards (written by the training recipe), from the assets' manifest,
and from what quantization to 8 bits can be asked to keep.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import run_here
from paths import ROOT
from processor import HAS_VNNI, SATURATES

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).parent / "golden"
MODELS = ROOT / "suites" / "models"
RUNTIMES = {"onnxruntime": "onnxruntime", "openvino": "openvino", "tflite": "ai_edge_litert"}


def run(suite: Path, folder: Path) -> list[dict[str, Any]]:
    """The case table of a run."""
    for package in RUNTIMES.values():
        pytest.importorskip(package)
    env = {**os.environ, "QBENCH_CACHE": str(folder / "cache"), "TMPDIR": str(folder)}

    def qbench(*args: str) -> dict[str, Any]:
        done = run_here(folder, env, *args, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    answer = qbench("run", str(suite))
    assert Path(folder, answer["report"]).stat().st_size > 1_000_000
    assert qbench("verify", "latest", "--recompute")["problems"] == []
    return qbench("show", "latest")["cases"]


def only(cases: list[dict[str, Any]], **wanted: str) -> list[dict[str, Any]]:
    return [c for c in cases if all(c[key] == value for key, value in wanted.items())]


def saturates(case: dict[str, Any]) -> bool:
    """Whether the case's int8 sums saturate here, so that its accuracy is the processor's."""
    sums_in_16_bits = case["backend"] in ("onnxruntime", "openvino")
    return SATURATES and sums_in_16_bits and case["precision"].startswith("int8")


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return run(GOLDEN / "zoo.yaml", tmp_path_factory.mktemp("zoo"))


def test_every_case_is_ok_or_skipped_with_its_reason(zoo):
    assert len(zoo) == 3 * 5 * 3
    assert {case["status"] for case in zoo} == {"ok", "skipped"}
    assert all(case["reason"] for case in only(zoo, status="skipped"))


def test_every_supported_case_of_each_runtime_runs(zoo):
    """Float32, and int8 in one form or another, run everywhere; fp16 at least where it is
    storage."""
    done = {(c["model"], c["backend"], c["precision"]) for c in only(zoo, status="ok")}
    for model in ("digits_cnn", "digits_mobilenet", "digits_vit"):
        for backend in RUNTIMES:
            assert {(model, backend, "fp32"), (model, backend, "int8-static")} <= done
        assert (model, "onnxruntime", "fp16") in done
        assert (model, "tflite", "fp16") in done
    for backend in RUNTIMES:
        needs_vnni = backend == "openvino"
        assert (("digits_vit", backend, "int8-dynamic") in done) == (HAS_VNNI or not needs_vnni)


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
        if not saturates(case):
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


# --------------------------------------------------------------------------- real models

PART = {"dscnn_kws": 0.900, "mnist_cnn": 0.989, "avgwordvec_sst2": 0.839}
"""Float32 on the items that are left when the first 100 calibrate, by the assets' README; of the
others the manifest has the figure."""

LOSES_MORE = {
    # Both lose 4.9 points, to the rounding of the weights: w8, which quantizes nothing else, loses
    # 5.1 on TFLite. `qbench explain`: most goes at the first pointwise convolution (15 dB) and the
    # depthwise one before it (9 dB), but leaving both in float32 gives back only 0.6 points: every
    # layer adds a little. NNCF corrects the biases for it on OpenVINO, and loses 0.8.
    ("mobilenet_v1_025_224", "onnxruntime"): 0.06,
    ("mobilenet_v1_025_224", "tflite"): 0.06,
    # 1.6 points of mAP50 with 100 calibration items, a gain of 1.1 with 30: of 64 pictures that
    # says nothing (95 % interval of the first: -4.3 to +1.8). `qbench explain`: depthwise
    # convolutions near the input (Conv_3, Conv_8, Conv_23) lose 5 to 10 dB each.
    ("fastestdet_coco352", "openvino"): 0.03,
}
"""Int8 that loses more than 1.5 points, and how much is too much."""


def measured(assets: Path, model: str, file: str) -> float:
    """The accuracy that the manifest of the assets gives: top-1 or mAP50."""
    models = json.loads((assets / "MANIFEST.json").read_text())["models"]
    (value,) = models[model]["measured"][file].values()
    return value[0] if isinstance(value, list) else value


def points(metric: str) -> float:
    """How far float32 may be from the figure: 0.2 points, of mAP 1."""
    return 0.01 if metric == "mAP50" else 0.002


@pytest.fixture(scope="module")
def assets() -> Path:
    folder = Path(os.environ.get("QBENCH_ASSETS", ""))
    if not (folder / "MANIFEST.json").is_file():
        pytest.skip("QBENCH_ASSETS does not name a folder of assets")
    return folder.resolve()


@pytest.fixture(scope="module")
def real(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return run(GOLDEN / "real.yaml", tmp_path_factory.mktemp("real"))


@pytest.mark.timeout(900)
def test_real_models_run_on_all_that_read_them(real):
    """Three come as ONNX only, which TFLite does not read; nothing else is left out."""
    left_out = {(c["model"], c["backend"]) for c in real if c["status"] != "ok"}
    onnx_only = ("mnist_cnn", "squeezenet11", "fastestdet_coco352")
    shared = {("mobilenet_v1_025_224", "tflite")}  # which reads no Q/DQ
    assert left_out == {(model, "tflite") for model in onnx_only} | shared
    assert len(only(real, precision="fp32", status="ok")) == 9 * 3 - 3
    quantized = only(real, precision="int8-static", recipe="best", status="ok")
    assert len(quantized) == 9 * 3 - 3 - 1  # the suite leaves one out


def test_float32_is_as_accurate_as_the_manifest_says(real, assets: Path):
    for case in only(real, precision="fp32", status="ok"):
        wanted = PART.get(case["model"]) or measured(assets, case["model"], "model.onnx")
        tolerance = points(case["accuracy_metric"])
        assert case["accuracy"] == pytest.approx(wanted, abs=tolerance), case
        assert case["effective_precision"] == "fp32" and case["flags"] is None


def test_int8_keeps_the_accuracy_or_the_exception_is_known(real):
    for case in only(real, precision="int8-static", recipe="best", status="ok"):
        allowed = LOSES_MORE.get((case["model"], case["backend"]), 0.015)
        if not saturates(case):
            assert case["accuracy_delta"] >= -allowed, case
        assert case["accuracy_delta_low"] <= case["accuracy_delta"] <= case["accuracy_delta_high"]


def test_int8_is_int8_and_smaller(real):
    for case in only(real, precision="int8-static", status="ok"):
        far = case["sqnr_db"] < 10  # mobilenet_v1_025_224: two layers of uneven channels
        flags = ["int8 sums may saturate"] * saturates(case)
        assert case["flags"] == (", ".join(flags + ["far from float32"] * far) or None), case
        assert case["effective_precision"] == "int8", case
    for backend in RUNTIMES:
        exact, quantized = only(real, model="mobilenet_v2_100_224", backend=backend)
        assert quantized["artifact_size_mb"] <= 0.35 * exact["artifact_size_mb"]


def test_the_shared_model_is_the_same_for_all_and_not_the_best_for_each(real):
    """ONNX Runtime's own way makes the shared model; OpenVINO's own way corrects biases."""
    rows = only(real, model="mobilenet_v1_025_224", precision="int8-static")
    cases = {(c["backend"], c["recipe"]): c for c in rows}
    made = cases["onnxruntime", "best"]
    for backend in ("onnxruntime", "openvino"):
        assert cases[backend, "shared"]["artifact_digest"], backend
        assert cases[backend, "shared"]["accuracy"] == pytest.approx(made["accuracy"], abs=0.02)
    assert cases["onnxruntime", "shared"]["outputs_digest"] == made["outputs_digest"]
    assert cases["openvino", "best"]["accuracy"] >= made["accuracy"] + 0.02
    assert "onnx" in cases["tflite", "shared"]["reason"]


@pytest.mark.timeout(300)
def test_what_arrives_quantized_is_as_accurate_as_the_manifest_says(
    assets: Path, tmp_path_factory: pytest.TempPathFactory
):
    folder = tmp_path_factory.mktemp("as_shipped")
    (folder / "models").mkdir()
    files = {
        "dscnn_kws_int8": "model_int8.tflite",
        "dscnn_kws_dynint8": "model_dynint8weights.tflite",
    }
    wanted = {f"{name}_all": measured(assets, "dscnn_kws", file) for name, file in files.items()}
    for name in files:
        card = yaml.safe_load((MODELS / f"{name}.yaml").read_text())
        card |= {"name": f"{name}_all", "evaluation": {"dataset": "kws01"}}
        (folder / "models" / f"{name}_all.yaml").write_text(yaml.safe_dump(card))
    for card, model in (
        ("mobilenet_v1_025_224_uint8", "mobilenet_v1_025_224"),
        ("mobilenet_v2_100_224_uint8_ptq", "mobilenet_v2_100_224_uint8_ptq"),
        ("ssd_mobilenet_v1_coco300_uint8", "ssd_mobilenet_v1_coco300_uint8"),
    ):
        wanted[card] = measured(assets, model, "model_uint8.tflite")
    suite = folder / "as_shipped.yaml"
    suite.write_text((GOLDEN / suite.name).read_text())
    cases = run(suite, folder)
    assert {case["model"] for case in cases} == wanted.keys()
    for case in cases:
        assert case["status"] == "ok", case
        tolerance = points(case["accuracy_metric"])
        assert case["accuracy"] == pytest.approx(wanted[case["model"]], abs=tolerance), case
        assert case["effective_precision"] == "int8"
        assert case["sqnr_db"] is None, "there is no float32 twin to be near to"
