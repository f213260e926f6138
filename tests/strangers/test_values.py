"""Every runtime computes what a stranger's model means: the outputs in the bundle against the
reference evaluator of ONNX, on given inputs of the right sizes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from right import right_outputs
from visits import Models, Visit

pytestmark = pytest.mark.slow

Draw = Callable[[np.random.RandomState, int], np.ndarray]
ITEMS = 4
"""Number of given items, of which the last half is evaluated."""


def normal(*item: int, dtype: str = "float32") -> Draw:
    return lambda rng, n: rng.standard_normal((n, *item)).astype(dtype)


def positive(*item: int) -> Draw:
    return lambda rng, n: rng.uniform(0.1, 1, (n, *item)).astype(np.float32)


def below(most: int, *item: int, dtype: str = "int64") -> Draw:
    return lambda rng, n: rng.randint(0, most, (n, *item)).astype(dtype)


def always(value: int) -> Draw:
    return lambda rng, n: np.full(n, value, np.int64)


def boxes(rng: np.random.RandomState, n: int) -> np.ndarray:
    """``[n, 10, 4]``: corners in the right order, many of them overlapping."""
    low = rng.uniform(0, 1, (n, 10, 2))
    return np.concatenate([low, low + 0.5], axis=2).astype(np.float32)


PICTURE = {"images": normal(3, 16, 16)}
WIDE = {"images": normal(3, 16, 12)}
IDS = {"input_ids": below(30, 12)}
MLP = {"features": normal(13)}

INPUTS: dict[str, dict[str, Draw]] = {
    "conv_free": WIDE,
    "conv_dense": WIDE,
    "conv_minus_one": WIDE,
    "conv_nameless": {"x": normal(3, 16, 12)},
    "fixed_1": PICTURE,
    "fixed_2": {"images": normal(2, 3, 16, 16)},
    "reshape_to_1": {"x": normal(8)},
    "imgsz": {"images": normal(3, 32, 24)},
    "uint8_pixels": {"pixels": below(256, 16, 16, 3, dtype="uint8")},
    "half": {"images": normal(3, 16, 16, dtype="float16")},
    "nms_rows": {"boxes": boxes, "scores": positive(2, 10)},
    "anchors": {"x": normal(8)},
    "argmax": PICTURE,
    "encoder_mask": {**IDS, "attention_mask": below(2, 12)},
    "encoder_positions": {
        **IDS,
        "token_type_ids": below(2, 12),
        "position_ids": below(16, 12),
        "attention_mask": below(2, 12),
    },
    "bool_mask": {**IDS, "mask": below(2, 12, dtype="bool")},
    "gather_5": {"ids": below(5, 4)},
    "group_query": {
        "x": normal(1, 32),
        "past_keys": normal(2, 8, 8),
        "past_values": normal(2, 8, 8),
    },
    "mlp": MLP,
    "tree_ensemble": {"features": normal(4)},
    "dlrm": {"dense": normal(13), "offsets": below(20, 4)},
    "double": {"x": normal(6, dtype="float64")},
    "log": {"x": positive(8)},
    "scalar_input": {"x": normal(8), "rate": always(3)},
    "if_rate": {"x": normal(8), "rate": always(16000)},
    "scalar_output": {"x": normal(8)},
    "lstm_tnc": {"x": normal(7, 6)},
    "state": {"x": normal(16), "state": normal(2, 64)},
    "vad": {"input": normal(32), "state": normal(2, 16), "sr": always(16000)},
    "lstm_cell": {"x": normal(1, 8), "h": normal(1, 16), "c": normal(1, 16)},
    "conv_time": {"audio": normal(1, 50)},
    "weights_pb": MLP,
    "weights_each": MLP,
    "weights_below": MLP,
    "qdq": PICTURE,
    "qlinear": PICTURE,
    "matmul_integer": {"x": normal(16)},
    "nbits": {"x": normal(32)},
    "one_pair": {"x": normal(3, 16, 16)},
    "matmul_rank_3": {"x": normal(4, 6, 16)},
    "if_relu": {"x": normal(8)},
}
"""Draws of the inputs, ``[items, *item]``, by model and input."""

AXES = {
    ("dlrm", "offsets"): 1,
    ("lstm_tnc", "x"): 1,
    ("state", "state"): 1,
    ("vad", "state"): 1,
}
"""Axes of the batch that are not the first."""


def drawn_items(name: str, folder: Path, items: int = ITEMS) -> tuple[dict[str, np.ndarray], Path]:
    rng = np.random.RandomState(5)
    arrays = {tensor: draw(rng, items) for tensor, draw in INPUTS[name].items()}
    np.savez(folder / "inputs.npz", **arrays)
    return arrays, folder / "inputs.npz"


def ranks(path: Path) -> dict[str, int]:
    inputs = onnx.load(path, load_external_data=False).graph.input
    return {i.name: len(i.type.tensor_type.shape.dim) for i in inputs}


def of_item(path: Path, arrays: dict[str, np.ndarray], item: int) -> dict[str, np.ndarray]:
    """One inference's inputs: with an axis for the batch of 1 where the model has one."""
    wanted = ranks(path)
    feeds = {}
    for name, array in arrays.items():
        one = array[item]
        missing = wanted[name] > one.ndim
        feeds[name] = np.expand_dims(one, AXES.get((path.stem, name), 0)) if missing else one
    return feeds


def close(got: np.ndarray, right: np.ndarray) -> bool:
    """Equal, but for the order in which a runtime sums floats."""
    right = np.asarray(right)
    if right.dtype.kind != "f":
        return np.array_equal(got, right)
    digits = {"float16": 1e-2, "float32": 1e-4, "float64": 1e-6}[right.dtype.name]
    return np.allclose(got, right, rtol=digits, atol=digits * np.abs(right).max())


def options(name: str) -> list[str]:
    """The axes of the batch; the sizes follow from the inputs."""
    named = [f"{tensor}={axis}" for (model, tensor), axis in AXES.items() if model == name]
    return [word for axis in named for word in ("--batch-axis", axis)]


OPENVINO_CANNOT = {"tree_ensemble"}


QUANTIZED = {"qdq", "qlinear", "matmul_integer", "nbits"}  # see test_quantized.py


@pytest.mark.parametrize("name", [name for name in INPUTS if name not in QUANTIZED])
def test_runtimes_compute_what_the_model_means(name: str, models: Models, visit: Visit):
    path = models(name)
    arrays, inputs = drawn_items(name, visit.folder)
    backends = ["onnxruntime"] if name in OPENVINO_CANNOT else ["onnxruntime", "openvino"]
    asked = [word for backend in backends for word in ("-b", backend)]
    answer = visit.runs(path, "--inputs", inputs, *options(name), *asked, "-p", "fp32")
    items = range(ITEMS // 2, ITEMS)
    rights = [right_outputs(path, of_item(path, arrays, item)) for item in items]
    for backend in backends:
        check(answer.outputs(backend), rights)


def check(outputs: dict[str, np.ndarray], rights: list[dict[str, np.ndarray]]) -> None:
    for row, outputs_of_item in enumerate(rights):
        for tensor, right in outputs_of_item.items():
            got, right = outputs[tensor][row], np.asarray(right)
            if tensor == "kept":  # rows that depend on the data are filled up to the most
                got = got[: len(right)]
            assert got.size == right.size, f"{tensor} has shape {got.shape}"
            assert close(got.reshape(right.shape), right), tensor


@pytest.mark.parametrize("name", ["conv_nameless", "lstm_tnc", "vad", "imgsz"])
def test_given_sizes_are_those_of_the_run(name: str, models: Models, visit: Visit):
    from strangers import STRANGERS

    words = STRANGERS[name].options
    answer = visit.runs(models(name), *words, "-b", "onnxruntime", "-p", "fp32")
    shapes = {
        "conv_nameless": "x Nx3x16x12",
        "lstm_tnc": "x 7xNx6",
        "vad": "input Nx32, sr scalar, state 2xNx16",
        "imgsz": "images Nx3x32x24",
    }
    assert answer.case("onnxruntime")["input_shapes"] == shapes[name]
