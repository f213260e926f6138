"""Runs whose outputs cannot be right: the status, its reason, and who knows it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from qbench.analysis.recompute import recompute
from qbench.bundle.find import find_bundle

COARSE = """
import json
import numpy as np
from qbench.testing.fake import FakeBackend
class Backend(FakeBackend):
    name = "coarse"
    def prepare(self, model, target, calibration, out):
        done = super().prepare(model, target, calibration, out)
        if target.precision != "fp32":
            content = json.loads((out / done.file).read_text())
            content["weights"] = (np.asarray(content["weights"]) * 0).tolist()
            (out / done.file).write_text(json.dumps(content))
        return done
"""


def test_outputs_at_chance_are_a_failure_that_every_view_knows(project):
    project.adapter("coarse", COARSE)  # int8 answers the same class for every item
    suite = project.suite(backends=["coarse"], gate={"broken_share": 1.0})
    done = project.qbench("run", suite, "--json")
    assert done.returncode == 1 and json.loads(done.stdout)["counts"] == {
        "ok": 1,
        "wrong_output": 1,
    }
    (case,) = [c for c in project.cases() if c["precision"] != "fp32"]
    assert case["status"] == "wrong_output" and case["latency_p50_ms"] is None
    assert case["sqnr_db"] == 0 and case["flags"].endswith("far from float32")
    assert "no better than chance among 10 classes, where float32 reaches 100.0 %" in case["reason"]
    assert "wrong_output" in project.qbench("show").stdout
    bundle = find_bundle("latest", project.root / "results")
    assert recompute(bundle) == []
    page = next((project.root / "results").glob("*.html")).read_text()
    assert "no better than chance" in page
    assert project.qbench("gate", "latest", "--junit", "gate.xml").returncode == 1
    assert "no better than chance" in (project.root / "gate.xml").read_text()


def test_labels_in_another_order_are_told_of_float32_itself(project):
    data = dict(np.load(project.root / "blobs.npz"))
    np.savez(project.root / "blobs.npz", **{**data, "labels": (data["labels"] + 1) % 10})
    project.run_json(project.suite())
    cases = project.cases()
    assert {c["status"] for c in cases} == {"wrong_output"}
    assert all(c["reason"].endswith("check preprocess or class order") for c in cases)
    assert all(c["accuracy"] == 0 and c["sqnr_db"] is None for c in cases)


def conv_net(path: Path, outlier: float) -> None:
    """Three convolutions. The first one's channel 0 is ``outlier`` times the others, and the second
    one does not read it: 8 bits for all channels of the tensor between them leave the others
    nothing."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    rng = np.random.default_rng(0)
    a = rng.normal(size=(8, 3, 3, 3)).astype(np.float32)
    a[0] *= outlier
    b = rng.normal(size=(8, 8, 3, 3)).astype(np.float32)
    b[:, 0] = 0
    weights = {"a": a, "b": b, "c": rng.normal(size=(4, 8, 1, 1)).astype(np.float32)}
    node, tensor = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    nodes = [
        node("Conv", ["x", "a"], ["p"], name="first", pads=[1] * 4),
        node("Relu", ["p"], ["q"], name="first_relu"),
        node("Conv", ["q", "b"], ["r"], name="second", pads=[1] * 4),
        node("Relu", ["r"], ["s"], name="second_relu"),
        node("Conv", ["s", "c"], ["y"], name="third"),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "net",
        [tensor("x", 1, ["N", 3, 8, 8])],
        [tensor("y", 1, ["N", 4, 8, 8])],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=9), path)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_the_first_layer_that_departs_is_named(project, backend: str):
    pytest.importorskip({"openvino": "nncf"}.get(backend, backend))
    conv_net(project.root / "net.onnx", 1e4)
    items = np.random.default_rng(1).normal(size=(32, 3, 8, 8)).astype(np.float32)
    np.savez(project.root / "x.npz", x=items)
    words = ["--backend", backend, "--precision", "fp32", "--precision", "int8-static"]
    given = ["--model", "net.onnx", "--inputs", "x.npz", "--rounds", "1"]
    done = project.qbench("run", *given, *words, "--no-report")
    assert done.returncode == 1, done.stderr
    exact, quantized = project.cases()
    assert exact["status"] == "ok" and quantized["status"] == "wrong_output"
    reason = quantized["reason"]
    assert reason.startswith("outputs have nothing to do with float32's: SQNR ")
    layer = {"onnxruntime": "s", "openvino": "second"}[backend]  # named by its end, or its operator
    assert f"first layer that departs: {layer}, " in reason and len(reason) <= 200


BROKEN_W8 = """
import numpy as np
from qbench_onnxruntime import Backend as OnnxRuntime
class Backend(OnnxRuntime):
    name = "transposing"
    precisions = {"cpu": ("fp32", "w8")}
    def supports(self, model, target):
        return None
    def prepare(self, model, target, calibration, out):
        from dataclasses import replace
        from qbench.kit.model import PrepareTarget
        done = super().prepare(model, PrepareTarget("fp32"), None, out)
        if target.precision != "w8":
            return done
        import onnx
        from onnx import numpy_helper
        file = onnx.load(out / done.file)
        for weights in file.graph.initializer:  # 8 bits would be fine; these axes are swapped
            array = numpy_helper.to_array(weights)
            if weights.name == "b":
                swapped = np.ascontiguousarray(array.transpose(0, 1, 3, 2))
                mixed = (PART * swapped + (1 - PART) * array).astype(np.float32)
                weights.CopyFrom(numpy_helper.from_array(mixed, "b"))
        onnx.save(file, out / done.file)
        return replace(done, quantizer="planted", quantized_ops=3)
"""


def test_eight_bit_weights_far_below_their_rounding_are_a_defect(project):
    """Weights with some of two axes swapped: 12 dB, where rounding to 8 bits keeps over 40."""
    pytest.importorskip("onnxruntime")
    project.adapter("transposing", BROKEN_W8.replace("PART", "0.15"))
    conv_net(project.root / "net.onnx", 1)
    np.savez(
        project.root / "x.npz",
        x=np.random.default_rng(1).normal(size=(32, 3, 8, 8)).astype(np.float32),
    )
    words = ["--backend", "transposing", "--precision", "fp32", "--precision", "w8"]
    given = ["--model", "net.onnx", "--inputs", "x.npz", "--rounds", "1"]
    project.qbench("run", *given, *words, "--no-report")
    (case,) = [c for c in project.cases() if c["precision"] == "w8"]
    assert 3 < case["sqnr_db"] < 25 and case["status"] == "wrong_output", case
    found = re.search(r"to 8 bits in NumPy keeps (\d+\.\d) dB: a defect", case["reason"])
    assert found is not None and float(found[1]) > 35 and len(case["reason"]) <= 200


def test_raw_pixels_for_a_file_of_scaled_ones_are_told(project):
    """A quantized TFLite file whose input's scale holds 0 to 1, and a float card whose items are
    pixels of 0 to 255."""
    pytest.importorskip("ai_edge_quantizer")
    from qbench.kit.model import Calibration, Model, PrepareTarget, SourceTensor, TensorSpec
    from qbench.spec.precisions import complete_options
    from qbench_tflite import Backend

    source = Path(__file__).parents[2] / "suites" / "zoo" / "digits_cnn.tflite"
    image = TensorSpec("float32", ("N", 1, 8, 8), "NCHW")
    names = ("serving_default_args_0", "serving_default_output_0_output")
    model = Model(
        "digits", "tflite", source, "", "", {"x": image}, {"y": TensorSpec("float32", ("N", 10))},
        {"x": SourceTensor(names[0], "NHWC")}, {"y": SourceTensor(names[1])},
    )  # fmt: skip
    shares = np.random.default_rng(0).random((60, 1, 8, 8), np.float32)
    out = project.root / "made"
    out.mkdir()
    target = PrepareTarget("int8-static", complete_options("int8-static", {}))
    Backend().prepare(model, target, Calibration({"x": shares}), out)
    for name, images in (("shares", shares), ("pixels", shares * 255)):
        np.savez(project.root / f"{name}.npz", images=images, labels=np.arange(60) % 10)
        data = {
            "name": name, "licence": "CC0-1.0", "format": "npz", "arrays": {"x": "images"},
            "files": {"data": {"path": f"{name}.npz"}}, "items": 60,
        }  # fmt: skip
        project.write(f"datasets/{name}.yaml", data)
        card = {
            "name": name,
            "task": "other",
            "licence": "CC0-1.0",
            "inputs": {"x": {"dtype": "float32", "shape": ["N", 1, 8, 8], "layout": "NCHW"}},
            "outputs": {"y": {"dtype": "float32", "shape": ["N", 10]}},
            "sources": {
                "tflite": {
                    "path": "made/model.tflite",
                    "inputs": {"x": {"name": names[0], "layout": "NHWC"}},
                    "outputs": {"y": {"name": names[1]}},
                }
            },
            "evaluation": {"dataset": name, "items": "0:60"},
        }
        project.write(f"models/{name}.yaml", card)
    suite = project.suite(
        models=["shares", "pixels"], precisions=["as-shipped"], backends=["tflite"], rounds=1
    )
    done = project.qbench("run", suite, "--no-report")
    assert done.returncode == 0, done.stderr
    right, wrong = project.cases()
    assert right["flags"] is None and wrong["flags"] == "inputs outside their scale", done.stderr
    assert re.search(
        r"warning: pixels tflite as-shipped: 99\.\d % of input 'x' is outside of what the file's "
        r"scale holds: 0\.\d+ … 25\d(\.\d)?, not 0 … (1|0\.99\d+): check preprocess",
        " ".join(done.stderr.split()),
    ), done.stderr
