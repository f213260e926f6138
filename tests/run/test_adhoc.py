"""``qbench run --model``: cards and files without a suite."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from qbench.spec.suite import suites_dir

pytestmark = pytest.mark.slow


def ran(project, *args: str | Path) -> list[dict]:
    done = project.qbench("run", *args, "--no-report", "--json", "--rounds", "1")
    assert done.returncode == 0, done.stderr
    return project.cases(json.loads(done.stdout)["bundle"])


def test_a_card_runs_without_a_suite(project):
    cases = ran(project, "--model", "models/net.yaml", "--backend", "fake")
    ok = {c["precision"]: c for c in cases if c["status"] == "ok"}
    assert set(ok) == {"fp32", "int8-dynamic", "int8-static"}
    assert ok["fp32"]["accuracy"] == 1.0 and ok["fp32"]["accuracy_items"] == 40
    assert ok["fp32"]["accuracy_data"] == "blobs: 40 items"


def test_paths_of_a_card_that_lies_alone_are_relative_to_its_folder(project):
    card = (project.root / "models" / "net.yaml").read_text()
    folder = project.root / "mine"
    folder.mkdir()
    (folder / "own.yaml").write_text(card.replace("name: net\n", "name: own\n"))
    for name in ("net.fake", "blobs.npz"):
        (project.root / name).rename(folder / name)
    (project.root / "datasets").rename(folder / "datasets")
    cases = ran(project, "--model", "mine/own.yaml", "-b", "fake", "-p", "fp32")
    assert [(c["model"], c["status"]) for c in cases] == [("own", "ok")]


def test_two_cards_of_one_name_are_refused(project):
    card = (project.root / "models" / "net.yaml").read_text()
    project.write("other/net.yaml", card)
    done = project.qbench("run", "-m", "models/net.yaml", "-m", "other/net.yaml", "-b", "fake")
    assert done.returncode == 2 and "two of the model cards are called net" in done.stderr


def test_a_card_without_data_gets_made_up_inputs(project):
    path = project.root / "models" / "net.yaml"
    card = yaml.safe_load(path.read_text())
    for key in ("evaluation", "calibration", "metric"):
        del card[key]
    path.write_text(yaml.safe_dump(card))
    cases = {c["precision"]: c for c in ran(project, "-m", "models/net.yaml", "-b", "fake")}
    assert cases["int8-static"]["status"] == "ok"
    assert cases["int8-static"]["accuracy"] is None
    assert 30 < cases["int8-static"]["sqnr_db"] < 60


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["models/none.yaml"], "no model file models/none.yaml"),
        (["models/net.yaml", "--inputs", "blobs.npz"], "is for files without one"),
        (["suite.txt"], "of no known format"),
    ],
)
def test_unrunnable_models_are_reported(project, args: list[str], said: str):
    (project.root / "suite.txt").write_text("?")
    done = project.qbench("run", "--model", *args)
    assert done.returncode == 2
    assert said in done.stderr and "Traceback" not in done.stderr


def test_a_single_tensor_needs_no_name(project):
    pytest.importorskip("onnxruntime")
    (project.root / "digits.onnx").write_bytes((suites_dir() / "zoo/digits_cnn.onnx").read_bytes())
    card = {
        "name": "digits",
        "task": "other",
        "inputs": {"pixels": {"dtype": "float32", "shape": ["N", 1, 8, 8]}},
        "outputs": {"ten": {"dtype": "float32", "shape": ["N", 10]}},
        "sources": {"onnx": {"path": "digits.onnx"}},
    }
    project.write("models/digits.yaml", card)
    cases = ran(project, "-m", "models/digits.yaml", "-b", "onnxruntime", "-p", "fp32")
    assert [c["status"] for c in cases] == ["ok"], cases[0]["reason"]
    card["sources"]["onnx"]["inputs"] = {"pixels": {"name": "picture"}}  # but a wrong name is wrong
    project.write("models/digits.yaml", card)
    done = project.qbench("run", "-m", "models/digits.yaml", "-b", "onnxruntime", "-p", "fp32")
    assert done.returncode == 1 and "is called 'picture'" in done.stderr


def split(source: Path, to: Path, **how: object) -> list[Path]:
    """``source`` as ``to``, with its weights in other files: these."""
    onnx = pytest.importorskip("onnx")
    before = set(to.parent.rglob("*"))
    onnx.save(onnx.load(source), to, save_as_external_data=True, size_threshold=0, **how)
    return sorted(path for path in to.parent.rglob("*") if path not in {*before, to})


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_weights_next_to_an_onnx_file_come_along(project, backend: str):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip(backend)
    source = suites_dir() / "zoo" / "digits_cnn.onnx"
    (project.root / "whole.onnx").write_bytes(source.read_bytes())
    weights = split(source, project.root / "one.onnx", location="weights.pb")
    assert [path.name for path in weights] == ["weights.pb"]
    many = split(source, project.root / "many.onnx", all_tensors_to_one_file=False)
    model = onnx.load(project.root / "many.onnx", load_external_data=False)
    assert len(many) == len(model.graph.initializer) > 3
    (project.root / "parts").mkdir()
    for path in many:  # the same in a sub-folder
        (project.root / "parts" / path.name).write_bytes(path.read_bytes())
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = f"./parts/{entry.value}"
    (project.root / "below.onnx").write_bytes(model.SerializeToString())
    digests = set()
    for name in ("whole.onnx", "one.onnx", "many.onnx", "below.onnx"):
        (case,) = ran(project, "-m", name, "-b", backend, "-p", "fp32")
        assert case["status"] == "ok", (name, case["reason"])
        digests.add(case["outputs_digest"])
    assert len(digests) == 1
    (project.root / "weights.pb").unlink()
    done = project.qbench("run", "-m", "one.onnx", "-b", backend, "-p", "fp32")
    assert done.returncode == 2
    assert "keeps weights in weights.pb, which is missing" in done.stderr


def test_weights_that_a_card_does_not_name_come_along(project):
    pytest.importorskip("onnxruntime")
    split(
        suites_dir() / "zoo" / "digits_cnn.onnx", project.root / "net.onnx", location="weights.pb"
    )
    card = {
        "name": "digits",
        "task": "other",
        "inputs": {"image": {"dtype": "float32", "shape": ["N", 1, 8, 8]}},
        "outputs": {"logits": {"dtype": "float32", "shape": ["N", 10]}},
        "sources": {"onnx": {"path": "net.onnx"}},
    }
    project.write("models/digits.yaml", card)
    cases = ran(project, "-m", "models/digits.yaml", "-b", "onnxruntime", "-p", "fp32")
    assert [c["status"] for c in cases] == ["ok"], cases[0]["reason"]


def test_the_tf_converter_quantizes_a_keras_file(project, assets: Path):
    for package in ("tensorflow", "ai_edge_litert"):
        pytest.importorskip(package)
    (project.root / "model.h5").write_bytes(
        (assets / "models" / "resnet8_cifar10" / "model.h5").read_bytes()
    )
    card = {
        "name": "old",
        "task": "other",
        "inputs": {"image": {"dtype": "float32", "shape": ["N", 32, 32, 3], "layout": "NHWC"}},
        "outputs": {"scores": {"dtype": "float32", "shape": ["N", 10]}},
        "sources": {"keras": {"path": "model.h5"}},
    }
    project.write("models/old.yaml", card)
    quantizers = [None, "tf-converter"]
    suite = project.suite(
        models=["old"],
        backends=["tflite"],
        precisions=["fp32", *({"int8-static": {"quantizer": q}} for q in quantizers)],
        rounds=1,
    )
    project.run_json(suite)
    cases = {(c["precision"], c["quantizer"]): c for c in project.cases()}
    assert {c["status"] for c in cases.values()} == {"ok"}, [c["reason"] for c in cases.values()]
    assert cases["fp32", None]["converted_from"] == "keras"
    quantized = cases["int8-static", "tensorflow.lite.TFLiteConverter"]
    assert (quantized["source_format"], quantized["effective_precision"]) == ("keras", "int8")
    assert quantized["sqnr_db"] > 15
