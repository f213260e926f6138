"""``qbench init --model FILE``: the skeleton of a card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qbench.spec.models import ModelCard
from qbench.spec.yamlfile import load

pytestmark = pytest.mark.slow

helper = pytest.importorskip("onnx.helper")
pytest.importorskip("onnxruntime")


def network(
    path: Path,
    inputs: list[str],
    kind: int,
    shape: list[Any],
    nodes: list[Any],
    **weights: np.ndarray,
) -> None:
    """An ONNX file with inputs of one kind and the output ``y``."""
    import onnx
    from onnx import numpy_helper

    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, kind, shape) for name in inputs],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.save(model, path)


CONV = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)


def pictures(path: Path) -> None:
    """A network whose pictures may have any size."""
    nodes = [
        helper.make_node("Conv", ["images", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["c"], ["p"]),
        helper.make_node("Flatten", ["p"], ["y"]),
    ]
    network(path, ["images"], 1, ["batch", 3, "height", "width"], nodes, w=CONV)


def test_a_written_card_runs_as_its_file_does(project):
    pictures(project.root / "net.onnx")
    done = project.qbench("init", "-m", "net.onnx", "--size", "height=8,width=6")
    assert done.returncode == 0, done.stderr
    text = (project.root / "net.yaml").read_text()
    assert "images: {dtype: float32, shape: [N, 3, height, width]} # layout: NCHW, if" in text
    assert "sizes: {height: 8, width: 6}" in text
    arguments = ("--backend", "onnxruntime", "--precision", "fp32", "--rounds", "1")
    (by_card,) = project.cases(project.run_json("-m", "net.yaml", *arguments)["bundle"])
    own = ("-m", "net.onnx", "--size", "height=8,width=6")
    (by_file,) = project.cases(project.run_json(*own, *arguments)["bundle"])
    assert by_card["status"] == by_file["status"] == "ok"
    assert by_card["outputs_digest"] == by_file["outputs_digest"]
    again = project.qbench("init", "-m", "net.onnx")
    assert again.returncode == 2 and "nothing was overwritten" in again.stderr


def test_sizes_that_nobody_gives_stay_open_in_the_card(project):
    pictures(project.root / "net.onnx")
    assert project.qbench("init", "-m", "net.onnx", "-o", "open.yaml").returncode == 0
    text = (project.root / "open.yaml").read_text()
    assert "# sizes: {height: VALUE, width: VALUE}" in text
    run = ("run", "-m", "open.yaml", "-b", "onnxruntime", "-p", "fp32", "--rounds", "1")
    refused = project.qbench(*run)
    assert refused.returncode == 2 and "height and width of 'images'" in refused.stderr
    done = project.qbench(*run, "--size", "height=8,width=6", "--no-report")
    assert done.returncode == 0, done.stderr
    filled = text.replace("# sizes:", "sizes:").replace("VALUE", "8")
    (project.root / "open.yaml").write_text(filled)
    assert project.qbench(*run, "--no-report").returncode == 0


def test_ids_stay_within_their_table_with_a_card_too(project):
    table = np.arange(15, dtype=np.float32).reshape(5, 3)
    nodes = [helper.make_node("Gather", ["t", "ids"], ["y"])]
    network(project.root / "net.onnx", ["ids"], 7, ["N", 4], nodes, t=table)
    assert project.qbench("init", "-m", "net.onnx").returncode == 0
    path = project.root / "net.yaml"
    assert "ids: {dtype: int64, shape: [N, 4], range: [0, 4]}" in path.read_text()
    run = ("-m", "net.yaml", "-b", "onnxruntime", "-p", "fp32", "--rounds", "1")
    (case,) = project.cases(project.run_json(*run)["bundle"])
    assert case["status"] == "ok"
    path.write_text(path.read_text().replace(", range: [0, 4]", ""))
    done = project.qbench("run", *run, "--no-report")
    assert done.returncode == 1
    (case,) = project.cases()
    assert case["status"] == "error" and len(case["reason"]) <= 200
    assert "inputs were made up" in case["reason"] and "--inputs" in case["reason"]


def test_a_logarithm_of_made_up_inputs_says_what_they_are(project):
    network(project.root / "net.onnx", ["x"], 1, ["N", 4], [helper.make_node("Log", ["x"], ["y"])])
    refused = project.qbench("run", "-m", "net.onnx", "-b", "onnxruntime", "-p", "fp32")
    assert refused.returncode == 2
    assert "NaN or infinity for made-up inputs" in refused.stderr and "--inputs" in refused.stderr
    card = {
        "name": "net",
        "task": "unknown",
        "inputs": {"x": {"dtype": "float32", "shape": ["N", 4]}},
        "outputs": {"y": {"dtype": "float32", "shape": ["N", 4]}},
        "sources": {"onnx": {"path": "net.onnx"}},
    }
    project.write("net.yaml", card)
    run = ("-m", "net.yaml", "-b", "onnxruntime", "-p", "fp32", "--rounds", "1", "--no-report")
    assert project.qbench("run", *run).returncode == 1
    (case,) = project.cases()
    assert case["status"] == "error" and "inputs were made up" in case["reason"]
    card["inputs"]["x"]["range"] = [0.5, 2]
    project.write("net.yaml", card)
    assert project.qbench("run", *run).returncode == 0


def test_a_card_lies_at_or_above_its_file(project):
    (project.root / "deep").mkdir()
    pictures(project.root / "deep" / "net.onnx")
    done = project.qbench("init", "-m", "deep/net.onnx", "-o", "up.yaml")
    assert done.returncode == 0, done.stderr
    assert "path: deep/net.onnx" in (project.root / "up.yaml").read_text()
    pictures(project.root / "net.onnx")
    refused = project.qbench("init", "-m", "net.onnx", "-o", "deep/card.yaml")
    assert refused.returncode == 2 and "next to the model: -o net.yaml" in refused.stderr
    for args, said in (
        (("-o", "x.yaml"), "Add --model FILE"),
        (("suite.yaml", "-m", "net.onnx"), "writes a card only"),
        (("-m", "net.onnx", "-o", "a b.yaml"), "Take letters"),
        (
            (
                "-m",
                "none.onnx",
            ),
            "no model file",
        ),
    ):
        done = project.qbench("init", *args)
        assert done.returncode == 2 and said in done.stderr, done.stderr


def test_scales_of_a_quantized_file_are_told(project, assets: Path):
    pytest.importorskip("ai_edge_litert")
    source = assets / "models" / "resnet8_cifar10" / "model_int8.tflite"
    (project.root / "net.tflite").write_bytes(source.read_bytes())
    assert project.qbench("init", "-m", "net.tflite").returncode == 0
    text = (project.root / "net.yaml").read_text()
    assert "shape: [N, 32, 32, 3]} # real = (q - -128) * 1; layout: NHWC" in text
    assert "shape: [N, 10]} # real = (q - -128) * 0.00390625" in text  # 1/256: a softmax's


def test_any_name_of_a_tensor_is_read_back(project):
    names = ["yes", "N", "null", "a: b", "x, {y}", "1", "a # b", "é\n"]
    network(project.root / "net.onnx", names, 1, ["N", 4], [helper.make_node("Sum", names, ["y"])])
    done = project.qbench("init", "-m", "net.onnx")
    assert done.returncode == 0, done.stderr
    card, _ = load(project.root / "net.yaml", ModelCard)
    assert list(card.inputs) == names
    assert all(tensor.spec().item == (4,) for tensor in card.inputs.values())
