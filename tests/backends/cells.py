"""A small streaming network, two recurrent layers, as files and in NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx_files import Node, saved, value

from qbench.kit.model import Model, SourceTensor, State, TensorSpec

FEATURES, UNITS, CLASSES = 4, 8, 3
RNG = np.random.default_rng(3)
WEIGHTS = {
    name: RNG.normal(0, 0.6, shape).astype(np.float32)
    for name, shape in {
        "w0": (FEATURES, UNITS),
        "u0": (UNITS, UNITS),
        "w1": (UNITS, UNITS),
        "u1": (UNITS, UNITS),
        "v": (UNITS, CLASSES),
    }.items()
}
STATE = (2, "N", UNITS)
"""The states of both layers; the batch is axis 1."""


def step(x: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One inference in float64: outputs ``[n, CLASSES]`` and the next state ``[2, n, UNITS]``."""
    w = {name: weight.astype(np.float64) for name, weight in WEIGHTS.items()}
    one = np.tanh(x @ w["w0"] + state[0] @ w["u0"])
    two = np.tanh(one @ w["w1"] + state[1] @ w["u1"])
    return two @ w["v"], np.stack([one, two])


def recurrence(items: np.ndarray, carried: bool) -> tuple[np.ndarray, np.ndarray]:
    """Outputs ``[items, CLASSES]`` and states ``[items, 2, UNITS]`` of items ``[items, FEATURES]``,
    from zeros."""
    state = np.zeros((2, 1, UNITS))
    outputs, states = [], []
    for item in items:
        y, left = step(item[None], state)
        outputs.append(y[0])
        states.append(left[:, 0])
        if carried:
            state = left
    return np.stack(outputs), np.stack(states)


def onnx_cell(path: Path) -> Path:
    nodes = [
        Node("Split", ["state", "halves"], ["h0", "h1"], axis=0),
        Node("Squeeze", ["h0", "axis"], ["s0"]),
        Node("Squeeze", ["h1", "axis"], ["s1"]),
        *(
            node
            for layer, given in (("0", "x"), ("1", "t0"))
            for node in (
                Node("MatMul", [given, f"w{layer}"], [f"a{layer}"]),
                Node("MatMul", [f"s{layer}", f"u{layer}"], [f"b{layer}"]),
                Node("Add", [f"a{layer}", f"b{layer}"], [f"c{layer}"]),
                Node("Tanh", [f"c{layer}"], [f"t{layer}"]),
                Node("Unsqueeze", [f"t{layer}", "axis"], [f"n{layer}"]),
            )
        ),
        Node("Concat", ["n0", "n1"], ["state_out"], axis=0),
        Node("MatMul", ["t1", "v"], ["y"]),
    ]
    inputs = [value("x", ["N", FEATURES]), value("state", STATE)]
    outputs = [value("y", ["N", CLASSES]), value("state_out", STATE)]
    whole = {"halves": np.array([1, 1]), "axis": np.array([0])}
    return saved(path, nodes, inputs, outputs, {**WEIGHTS, **whole})


def tflite_cell(path: Path) -> Path:
    """The same at batch 1, with a signature of the same names."""
    import tensorflow as tf

    weights = {name: tf.constant(weight) for name, weight in WEIGHTS.items()}

    def call(x: tf.Tensor, state: tf.Tensor) -> dict[str, tf.Tensor]:
        one = tf.tanh(x @ weights["w0"] + state[0] @ weights["u0"])
        two = tf.tanh(one @ weights["w1"] + state[1] @ weights["u1"])
        return {"y": two @ weights["v"], "state_out": tf.stack([one, two])}

    module = tf.Module()
    module.call = tf.function(
        call,
        input_signature=[
            tf.TensorSpec([1, FEATURES], name="x"),
            tf.TensorSpec([2, 1, UNITS], name="state"),
        ],
    )
    folder = path.with_suffix(".saved")
    tf.saved_model.save(module, str(folder), signatures=module.call)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder))
    path.write_bytes(converter.convert())
    return path


def cell(path: Path, form: str, carried: bool = True) -> Model:
    """The network in a file of a format, with its state fed back."""
    file = {"onnx": onnx_cell, "tflite": tflite_cell}[form](path)
    names = {
        "onnx": ("x", "state", "y", "state_out"),
        "tflite": (
            "serving_default_x:0",
            "serving_default_state:0",
            "PartitionedCall:1",
            "PartitionedCall:0",
        ),
    }[form]
    x, state, y, state_out = (SourceTensor(name) for name in names)
    spec = TensorSpec("float32", STATE, batch=1)
    return Model(
        name="cell",
        format=form,
        path=file,
        digest="0" * 64,
        task="other",
        inputs={"x": TensorSpec("float32", ("N", FEATURES)), "state": spec},
        outputs={"y": TensorSpec("float32", ("N", CLASSES)), "state_out": spec},
        source_inputs={"x": x, "state": state},
        source_outputs={"y": y, "state_out": state_out},
        states={"state": State("state_out", carried)},
    )
