"""Sizes and batch axes of model files, decided with runners that compute in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from qbench.errors import UserError
from qbench.kit.adapter import Description, KnownSize
from qbench.kit.model import UNKNOWN_RANK, Feed, TensorSpec
from qbench.run.sources.tensors import Asked, Ran, Tensors, settle
from qbench.spec.sizes import GivenSizes

Function = Callable[..., Mapping[str, np.ndarray]]


def floats(*shape: int | str) -> TensorSpec:
    return TensorSpec("float32", shape)


def asked(
    inputs: Mapping[str, TensorSpec],
    compute: Function,
    outputs: Mapping[str, TensorSpec] | None = None,
    arrays: Mapping[str, tuple[int, ...]] | None = None,
    sizes: Mapping[str, KnownSize] | None = None,
    given: Mapping[str, Mapping] | None = None,
) -> Tensors:
    def items(specs: Mapping[str, TensorSpec]) -> Feed:
        rng = np.random.default_rng(0)
        return {
            n: rng.normal(size=(2, *map(int, s.item))).astype(s.dtype) for n, s in specs.items()
        }

    def run(specs: Mapping[str, TensorSpec], batch: int, feeds: Sequence[Feed]) -> Ran:
        for feed in feeds:
            assert {n: a.shape for n, a in feed.items()} == {n: specs[n].at(batch) for n in specs}
        try:
            return Ran([dict(compute(**feed)) for feed in feeds])
        except ValueError as error:
            return Ran(refusal=str(error))

    described = Description(inputs, outputs or {"y": floats("N", 4)}, sizes or {})
    return settle(Asked("net.onnx", described, GivenSizes(**(given or {})), arrays, items, run))


WEIGHTS = np.random.default_rng(1).normal(size=(8, 4)).astype(np.float32)


def dense(x: np.ndarray) -> Mapping[str, np.ndarray]:
    return {"y": x @ WEIGHTS}


def test_axis_0_is_the_batch_where_outputs_grow_with_it():
    found = asked({"x": floats("N", 8)}, dense)
    assert found.inputs == {"x": {"dtype": "float32", "shape": ["N", 8], "batch": 0}}
    assert found.outputs["y"]["shape"] == ["N", 4] and found.outputs["y"]["batch"] == 0
    assert found.notes == () and found.sizes == {} and found.batch == 1


def test_a_sum_over_rows_has_no_batch():
    def total(x: np.ndarray) -> Mapping[str, np.ndarray]:
        return {"y": (x @ WEIGHTS).sum(0)}

    with pytest.raises(UserError) as error:
        asked({"x": floats("rows", 8)}, total, {"y": floats(4)})
    assert "rows of input 'x'" in str(error.value)
    assert "no output grows with it" in str(error.value)
    found = asked({"x": floats("rows", 8)}, total, {"y": floats(4)}, given={"sizes": {"rows": 5}})
    assert found.sizes == {"rows": 5} and found.inputs["x"]["batch"] == "none"
    assert "net.onnx has no batch axis: an inference takes one item" in found.notes


def test_steps_of_a_sequence_are_no_batch():
    """Outputs grow with the time, but each step depends on those before it."""

    def sums(x: np.ndarray) -> Mapping[str, np.ndarray]:
        return {"y": np.cumsum(x, 0)}

    with pytest.raises(UserError, match="items change each other's outputs"):
        asked({"x": floats("T", 3)}, sums, {"y": floats("T", 3)})


def test_a_shared_name_is_the_batch_on_other_axes():
    def cell(x: np.ndarray, state: np.ndarray) -> Mapping[str, np.ndarray]:
        return {"y": x @ WEIGHTS + state[0][:, :4], "state_out": state * 0.5}

    found = asked(
        {"x": floats("N", 8), "state": floats(2, "N", 6)},
        cell,
        {"y": floats("N", 4), "state_out": floats(2, "N", 6)},
    )
    assert found.inputs["state"] == {"dtype": "float32", "shape": [2, "N", 6], "batch": 1}
    assert found.outputs["state_out"]["batch"] == 1
    (note,) = found.notes
    assert "looks stateful" in note and "`states: {state: state_out}`" in note


@pytest.mark.parametrize(
    ("name", "output", "paired"),
    [
        ("state", "stateN", True),
        ("h0", "hn", True),
        ("in_state0", "out_state0", True),
        ("in_state0", "out_state1", False),
        ("cache", "new_cache", True),
        ("input_1", "output_1", False),
        ("image", "scores", False),
    ],
)
def test_a_note_says_that_a_card_can_feed_back(name: str, output: str, paired: bool):
    found = asked(
        {"x": floats("N", 8), name: floats("N", 6)},
        lambda **feed: {"y": feed["x"] @ WEIGHTS, output: feed[name] * 0.5},
        {"y": floats("N", 4), output: floats("N", 6)},
    )
    assert any("looks stateful" in note for note in found.notes) is paired


def test_a_cache_that_grows_is_no_state():
    found = asked(
        {"x": floats("N", 8), "cache": floats("N", 3, 8)},
        lambda x, cache: {"y": x @ WEIGHTS, "cache_out": np.concatenate([cache, x[:, None]], 1)},
        {"y": floats("N", 4), "cache_out": floats("N", "M", 8)},
    )
    assert not any("looks stateful" in note for note in found.notes)


def test_outputs_without_a_batch():
    def anchors(x: np.ndarray) -> Mapping[str, np.ndarray]:
        return {"y": x @ WEIGHTS, "anchors": np.ones((9, 4), np.float32)}

    found = asked({"x": floats("N", 8)}, anchors, {"y": floats("N", 4), "anchors": floats(9, 4)})
    assert found.outputs["anchors"]["batch"] == "none" and found.outputs["y"]["batch"] == 0


def test_a_file_that_fails_on_two_items_is_fixed_at_one():
    def fixed(x: np.ndarray) -> Mapping[str, np.ndarray]:
        return {"y": x.reshape(1, 8) @ WEIGHTS}

    found = asked({"x": floats("N", 8)}, fixed)
    assert found.inputs["x"]["shape"] == [1, 8] and found.batch == 1
    assert found.notes == ("net.onnx is fixed at batch 1",)


def test_a_fixed_batch_is_the_users_word():
    found = asked({"x": floats(2, 8)}, dense, {"y": floats(2, 4)}, given={"batch_axes": {"x": 0}})
    assert found.batch == 2 and found.inputs["x"] == {
        "dtype": "float32", "shape": [2, 8], "batch": 0,
    }  # fmt: skip
    alone = asked({"x": floats(2, 8)}, dense, {"y": floats(2, 4)})
    assert alone.batch == 1 and alone.inputs["x"]["batch"] == "none"


def test_sizes_by_order_of_precedence():
    def mean(x: np.ndarray) -> Mapping[str, np.ndarray]:
        return {"y": x.mean((1, 2))[:, None] * np.ones(4, np.float32)}

    inputs = {"x": floats("N", "h", "w")}
    known = {"h": KnownSize(3, "imgsz in the file's metadata"), "w": KnownSize(4, "the weights")}
    by_file = asked(inputs, mean, sizes=known)
    assert by_file.sizes == {"h": 3, "w": 4}
    assert "h is 3, by imgsz in the file's metadata" in by_file.notes
    by_array = asked(inputs, mean, sizes=known, arrays={"x": (10, 5, 6)})
    assert by_array.sizes == {"h": 5, "w": 6}
    by_size = asked(inputs, mean, sizes=known, arrays={"x": (10, 5, 6)}, given={"sizes": {"h": 7}})
    assert by_size.sizes == {"h": 7, "w": 6}


def test_open_sizes_are_refused_with_the_option_to_type():
    with pytest.raises(UserError) as error:
        asked({"x": floats("N", 3, "H", "W")}, dense)
    assert "H, W of input 'x' [N, 3, H, W]" in error.value.message
    assert error.value.fix == "Add --size H=VALUE,W=VALUE, or --shape x=1x3xVALUExVALUE."
    with pytest.raises(UserError, match="T would be the batch") as error:
        asked({"x": floats("T", "B", 8)}, dense)
    assert "--shape x=VALUExVALUEx8. If an axis is the batch" in error.value.fix, "no 1 unasked"
    with pytest.raises(UserError, match="does not say how many axes input 'x' has"):
        asked({"x": TensorSpec("float32", UNKNOWN_RANK)}, dense)


def test_a_shape_is_the_users():
    def mean(x: np.ndarray) -> Mapping[str, np.ndarray]:
        return {"y": x.mean((1, 2))[:, None] * np.ones(4, np.float32)}

    found = asked({"x": floats("N", "?", "?")}, mean, given={"shapes": {"x": (4, 5, 6)}})
    assert found.inputs["x"]["shape"] == ["N", 5, 6] and found.batch == 4
    ranked = asked(
        {"x": TensorSpec("float32", UNKNOWN_RANK)}, mean, given={"shapes": {"x": (1, 5, 6)}}
    )
    assert ranked.inputs["x"]["shape"] == ["N", 5, 6]
    with pytest.raises(UserError, match="the file fixes axis 1 at 8"):
        asked({"x": floats("N", 8)}, dense, given={"shapes": {"x": (1, 9)}})


def test_what_is_no_number_is_refused_by_name():
    with pytest.raises(UserError, match="input 'words' is a string"):
        asked({"words": TensorSpec("string", ("N",))}, dense)
    with pytest.raises(UserError, match="leave an output out"):
        asked({"x": floats("N", 8)}, dense, {"y": floats("N", 4), "z": TensorSpec("map", ())})
    with pytest.raises(UserError, match="has no inputs"):
        asked({}, dense)


def test_made_up_inputs_that_give_nan_are_said():
    def log(x: np.ndarray) -> Mapping[str, np.ndarray]:
        with np.errstate(invalid="ignore"):
            return {"y": np.log(x)}

    with pytest.raises(UserError, match="NaN or infinity for made-up inputs") as error:
        asked({"x": floats("N", 8)}, log)
    assert "--inputs" in error.value.fix


def test_rows_that_happen_to_be_one_are_no_batch():
    """As a detector that finds one box in the first item."""

    def found(x: np.ndarray) -> Mapping[str, np.ndarray]:
        x = x.reshape(1, 8)
        return {"rows": np.argwhere(x[0] > np.sort(x[0])[-2] if x[0, 0] > 0 else x[0] < 9)}

    rows = {"rows": TensorSpec("int64", ("n", 1))}
    first = asked({"x": floats(1, 8)}, found, rows)
    assert first.outputs["rows"]["batch"] == "none"


def test_nothing_found_is_no_randomness():
    def nothing(x: np.ndarray) -> Mapping[str, np.ndarray]:
        return {"y": x @ WEIGHTS, "kept": np.zeros((0, 3), np.int64)}

    outputs = {"y": floats("N", 4), "kept": TensorSpec("int64", ("n", 3))}
    assert asked({"x": floats("N", 8)}, nothing, outputs).outputs["kept"]["batch"] == "none"
