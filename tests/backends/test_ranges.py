"""The values that a file's inputs can take, as the file says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest


def described(path: Path, nodes: list[Any], x: Any, weights: dict[str, np.ndarray]) -> Any:
    onnx = pytest.importorskip("onnx")
    from onnx_files import saved, value

    from qbench.kit.onnxfile.describe import describe

    saved(path, nodes, [x], [value("y", None)], weights, domains=["com.microsoft"])
    return describe(onnx.load(path))


def node(kind: str, inputs: str, output: str, **attributes: Any) -> Any:
    from onnx import helper

    return helper.make_node(kind, inputs.split(), output.split(), **attributes)


TABLES = {"t": np.zeros((5, 3), np.float32), "u": np.zeros((3, 9), np.float32)}
SHAPE = {"shape": np.array([-1], np.int64), "axes": np.array([1], np.int64)}


@pytest.mark.parametrize(
    ("nodes", "last"),
    [
        ([("Gather", "t x", "y", {})], 4),
        ([("Gather", "u x", "y", {"axis": 1})], 8),
        ([("Gather", "t x", "a", {}), ("Gather", "u x", "b", {})], 2),
        ([("Cast", "x", "a", {"to": 7}), ("Gather", "t a", "y", {})], 4),
        ([("Unsqueeze", "x axes", "a", {}), ("Gather", "t a", "y", {})], 4),
        ([("Reshape", "x shape", "a", {}), ("Gather", "t a", "y", {})], 4),
        ([("Split", "x", "a b", {"axis": 1}), ("Gather", "t b", "y", {})], 4),
        ([("Identity", "t", "w", {}), ("Gather", "w x", "y", {})], 4),
    ],
)
def test_rows_of_tables_are_read_from_an_onnx_graph(tmp_path: Path, nodes: Any, last: int):
    pytest.importorskip("onnx")
    from onnx import TensorProto
    from onnx_files import value

    made = [node(kind, ins, outs, **more) for kind, ins, outs, more in nodes]
    if made[-1].output[0] != "y":
        made.append(node("Identity", made[-1].output[0], "y"))
    kind = TensorProto.FLOAT if nodes[0][0] == "Cast" else TensorProto.INT64
    found = described(tmp_path / "m.onnx", made, value("x", ["N", 4], kind), {**TABLES, **SHAPE})
    assert found.ranges == {"x": (0.0, float(last))}


def test_a_quantized_input_holds_what_its_scale_holds(tmp_path: Path):
    pytest.importorskip("onnx")
    from onnx_files import value

    weights = {"s": np.array(0.5, np.float32), "z": np.array(-28, np.int8)}
    nodes = [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z", "y")]
    found = described(tmp_path / "m.onnx", nodes, value("x", ["N", 4]), weights)
    assert found.ranges == {"x": (-50.0, 77.5)}


def test_rows_of_tables_are_read_from_a_tflite_file(assets: Path):
    pytest.importorskip("ai_edge_litert")
    from qbench_tflite.prepare import describe

    model = assets / "models" / "avgwordvec_sst2" / "model.tflite"
    words = (model.parent / "vocab.txt").read_text().splitlines()
    ((_, (low, high)),) = describe(model).ranges.items()
    assert low == 0 and high + 1 >= len(words)  # the vocabulary has no word without a row


@pytest.mark.slow
def test_rows_of_tables_are_read_from_a_keras_model(tmp_path: Path):
    keras = pytest.importorskip("keras")
    pytest.importorskip("tensorflow")
    from qbench_tensorflow.convert import describe

    a, b = (keras.Input((4,), name=name) for name in "ab")
    embedded = keras.layers.Embedding(7, 3)(a)
    out = keras.layers.Concatenate()([keras.layers.Flatten()(embedded), b])
    keras.Model([a, b], keras.layers.Dense(2)(out)).save(tmp_path / "m.keras")
    assert describe(tmp_path / "m.keras").ranges == {"a": (0.0, 6.0)}
