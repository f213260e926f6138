"""`qbench explain` finds known problems of the runtimes: real networks on the real runtimes, on the
command line.

The shipped MobileNet is slow; the assets' MobileNets are inaccurate.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from command_line import run_here

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).parent / "golden"


class Run:
    """A suite that was run in a folder of its own."""

    def __init__(self, suite: str, folder: Path) -> None:
        for package in ("onnxruntime", "openvino", "ai_edge_litert"):
            pytest.importorskip(package)
        self.folder = folder
        self._qbench("run", str(GOLDEN / suite), "--no-report")
        self.cases: list[dict[str, Any]] = self._qbench("show", "latest")["cases"]

    def explain(self, *words: str) -> dict[str, Any]:
        return self._qbench("explain", *words)

    def case(self, **wanted: str) -> dict[str, Any]:
        (case,) = [c for c in self.cases if all(c[k] == value for k, value in wanted.items())]
        return case

    def _qbench(self, *args: str) -> dict[str, Any]:
        env = {**os.environ, "QBENCH_CACHE": str(self.folder / "cache"), "TMPDIR": str(self.folder)}
        done = run_here(self.folder, env, *args, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def reasons(found: dict[str, Any]) -> str:
    return " | ".join(finding["reason"] for finding in found["findings"])


def kinds(found: dict[str, Any], which: str = "kinds") -> dict[str, dict[str, Any]]:
    """By type, the operators with the largest share of it."""
    return {kind["kind"]: kind for kind in reversed(found[which])}


# --------------------------------------------------------------------------- slow


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run("known.yaml", tmp_path_factory.mktemp("known"))


def test_dynamic_int8_of_convolutions_has_no_fast_kernel_on_onnx_runtime(known: Run):
    found = known.explain("digits_mobilenet", "onnxruntime", "int8-dynamic")
    first = found["findings"][0]
    assert first["reason"].startswith("ConvInteger takes"), reasons(found)
    assert "no fast kernel" in first["reason"] and "int8-static" in first["advice"]
    assert kinds(found)["ConvInteger"]["operators"] == 52
    assert found["ns"] > 2 * found["twin_ns"]  # 10 times slower on the machine it was tried on
    case = known.case(backend="onnxruntime", precision="int8-dynamic")
    assert case["speedup"] < 0.5


def test_fp16_on_onnx_runtimes_cpu_is_storage_with_casts(known: Run):
    found = known.explain("digits_mobilenet", "onnxruntime", "fp16")
    assert "fp16 is only how the weights are stored" in reasons(found)
    assert "run in fp32" in reasons(found)
    assert "Cast" in kinds(found) and "Cast" not in kinds(found, "twin_kinds")
    assert "int8-static" in found["findings"][-1]["advice"]
    case = known.case(backend="onnxruntime", precision="fp16")
    assert case["effective_precision"] == "fp32"


def test_dynamic_int8_of_depthwise_convolutions_breaks_tflites_delegate_up(known: Run):
    found = known.explain("digits_mobilenet", "tflite", "int8-dynamic")
    (finding,) = found["findings"]
    assert (
        "operators are outside the fast path (18 DEPTHWISE_CONV_2D; in float32 0)"
        in (finding["reason"])
    )
    assert "18 fragments" in finding["reason"] and "all_operators: false" in finding["advice"]
    assert kinds(found)["DEPTHWISE_CONV_2D"]["fallback"] == 18
    assert kinds(found)["CONV_2D"]["fallback"] == 0


def test_int16_activations_have_no_delegate_on_tflite(known: Run):
    found = known.explain("digits_mobilenet", "tflite", "int16x8")
    assert "the fast path (the delegate) took none of the" in found["findings"][0]["reason"]
    assert all(kind["fallback"] == kind["operators"] for kind in found["kinds"])
    assert known.case(backend="tflite", precision="int16x8")["speedup"] < 0.5
    refused = known.case(backend="onnxruntime", precision="int16x8")
    assert refused["status"] == "skipped" and "16-bit activations" in refused["reason"]


# --------------------------------------------------------------------------- wrong


@pytest.fixture(scope="module")
def per_tensor(tmp_path_factory: pytest.TempPathFactory) -> Run:
    if not Path(os.environ.get("QBENCH_ASSETS", ""), "MANIFEST.json").is_file():
        pytest.skip("QBENCH_ASSETS does not name a folder of assets")
    return Run("per_tensor.yaml", tmp_path_factory.mktemp("per_tensor"))


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("model", "backend", "at_most"),
    [  # the assets' README: from 66 to about 2 %; RUNTIMES: from 79 to 7 %
        ("mobilenet_v1_025_224", "onnxruntime", 0.05),
        ("mobilenet_v1_025_224", "tflite", 0.05),
        ("mobilenet_v2_100_224", "tflite", 0.15),
    ],
)
def test_one_scale_for_a_whole_weight_collapses(
    per_tensor: Run, model: str, backend: str, at_most: float
):
    """Per-channel survives: tests/test_golden.py."""
    case = per_tensor.case(model=model, backend=backend, precision="int8-static")
    assert case["accuracy"] <= at_most
    assert case["accuracy_delta_high"] < -0.5
    assert case["effective_precision"] == "int8" and case["variant"] == "per_channel=false"


def test_openvinos_bias_correction_rescues_about_two_thirds_of_it(per_tensor: Run):
    """NNCF's quantizer corrects the means that rounding shifts, so per-tensor loses a third of the
    accuracy and not all of it: no good negative control."""
    case = per_tensor.case(
        model="mobilenet_v1_025_224", backend="openvino", precision="int8-static"
    )
    assert 0.3 <= case["accuracy"] <= 0.55
    assert case["accuracy_delta_high"] < -0.1


@pytest.mark.parametrize("backend", ["onnxruntime", "tflite"])
def test_a_depthwise_layer_is_found_where_one_scale_is_too_coarse(per_tensor: Run, backend: str):
    found = per_tensor.explain("mobilenet_v1_025_224", backend, "int8-static")
    worst = max(found["layers"], key=lambda layer: layer["drop_db"])
    assert "depthwise" in worst["kind"].lower(), worst
    assert worst["drop_db"] > 10
    finding = found["findings"][-1]
    assert "channels of depthwise layers differ widely" in finding["reason"]
    assert finding["advice"] == "per_channel: true"
