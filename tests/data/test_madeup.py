"""Inputs that are made up for models without data."""

from __future__ import annotations

import numpy as np

from qbench.data.madeup import made_up
from qbench.kit.adapter import Range
from qbench.kit.model import TensorSpec


def arrays(
    inputs: dict[str, TensorSpec], ranges: dict[str, Range] | None = None
) -> dict[str, np.ndarray]:
    return made_up(inputs, "evaluation", ranges).arrays(64)


def ids(*shape: int | str, dtype: str = "int64") -> TensorSpec:
    return TensorSpec(dtype, ("N", *shape))


def test_an_encoder_gets_masks_positions_and_rows_of_its_tables():
    inputs = {name: ids(16) for name in ("input_ids", "attention_mask", "token_type_ids")}
    inputs |= {"position_ids": ids(16)}
    ranges = {"input_ids": (0.0, 4.0), "position_ids": (0.0, 7.0)}
    made = arrays(inputs, ranges)
    assert set(np.unique(made["input_ids"])) == {0, 1, 2, 3, 4}
    mask = made["attention_mask"]
    assert set(np.unique(mask)) == {0, 1} and (np.diff(mask) <= 0).all() and (mask[:, 0] == 1).all()
    assert not made["token_type_ids"].any()
    assert made["position_ids"][3].tolist() == [*range(8), *range(8)]


def test_values_stay_in_their_range_and_bytes_use_all_of_theirs():
    inputs = {
        "real": TensorSpec("float32", ("N", 500)),
        "rate": TensorSpec("int64", ()),
        "pixels": TensorSpec("uint8", ("N", 500)),
        "small": TensorSpec("int8", ("N", 500)),
        "free": TensorSpec("float32", ("N", 500)),
        "floating_ids": TensorSpec("float32", ("N", 500)),
    }
    made = arrays(inputs, {"real": (-0.5, 0.25), "rate": (16e3, 16e3), "floating_ids": (0.0, 4.0)})
    assert -0.5 <= made["real"].min() < -0.49 and 0.24 < made["real"].max() <= 0.25
    assert (made["rate"] == 16000).all() and made["rate"].dtype == np.int64
    assert (made["pixels"].min(), made["pixels"].max()) == (0, 255)
    assert (made["small"].min(), made["small"].max()) == (-128, 127)
    assert abs(made["free"].std() - 1) < 0.05
    assert made["floating_ids"].astype(int).max() <= 4


def test_calibration_and_evaluation_differ_and_are_the_same_every_time():
    inputs = {"x": ids(8)}
    one, again = (made_up(inputs, "evaluation", {"x": (0.0, 99.0)}) for _ in range(2))
    other = made_up(inputs, "calibration", {"x": (0.0, 99.0)})
    assert one.digest == again.digest != other.digest and one.random
    assert not np.array_equal(np.load(one.feeds["x"]), np.load(other.feeds["x"]))


def test_items_of_inputs_without_a_batch_are_alike_and_have_a_key_of_their_own():
    """The same shapes of items, shared or not, are other items."""
    x = TensorSpec("float32", ("N", 8))
    own = made_up({"x": x, "rate": TensorSpec("int64", ("N",))}, "evaluation")
    shared = made_up({"x": x, "rate": TensorSpec("int64", ())}, "evaluation")
    assert len(set(own.arrays(64)["rate"].tolist())) > 1
    assert len(set(shared.arrays(64)["rate"].tolist())) == 1
    assert own.digest != shared.digest and own.feeds["rate"] != shared.feeds["rate"]
