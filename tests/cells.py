"""A small streaming network, two recurrent layers, as files and in NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np

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


def recurrence(
    items: np.ndarray, carried: bool, initial: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Outputs ``[items, CLASSES]`` and states ``[items, 2, UNITS]`` of items ``[items, FEATURES]``.

    Args:
        initial: ``[2, 1, UNITS]``; None: zeros.
    """
    state = np.zeros((2, 1, UNITS)) if initial is None else initial
    outputs, states = [], []
    for item in items:
        y, left = step(item[None], state)
        outputs.append(y[0])
        states.append(left[:, 0])
        if carried:
            state = left
    return np.stack(outputs), np.stack(states)


def onnx_cell(path: Path) -> Path:
    import onnx
    from onnx import numpy_helper, parser

    model = parser.parse_model("""
        <ir_version: 9, opset_import: ["": 17]>
        cell (float[N, 4] x, float[2, N, 8] state) => (float[N, 3] y, float[2, N, 8] state_out)
        {
            halves = Constant <value: tensor = int64[2] {1, 1}> ()
            first = Constant <value: tensor = int64[1] {0}> ()
            h0, h1 = Split <axis = 0> (state, halves)
            s0 = Squeeze (h0, first)
            s1 = Squeeze (h1, first)
            a0 = MatMul (x, w0)
            b0 = MatMul (s0, u0)
            c0 = Add (a0, b0)
            t0 = Tanh (c0)
            a1 = MatMul (t0, w1)
            b1 = MatMul (s1, u1)
            c1 = Add (a1, b1)
            t1 = Tanh (c1)
            n0 = Unsqueeze (t0, first)
            n1 = Unsqueeze (t1, first)
            state_out = Concat <axis = 0> (n0, n1)
            y = MatMul (t1, v)
        }
    """)
    model.graph.initializer.extend(numpy_helper.from_array(w, n) for n, w in WEIGHTS.items())
    onnx.save(model, path)
    return path


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
