"""Outputs that are fed back into inputs: two calls in turn, with NumPy as the runtime."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from streams import opened

from qbench.kit.adapter import Unsupported
from qbench.kit.feedback import Turns, check_states
from qbench.kit.feeds import check_feed, load_items
from qbench.kit.model import Model, State, TensorSpec
from qbench.kit.scenarios import lane


def doubling(*names: str) -> Turns:
    """Each call doubles every state and adds one."""
    states = {name: (np.zeros(2), np.zeros(2)) for name in names}

    def call(number: int) -> None:
        for buffers in states.values():
            np.copyto(buffers[1 - number], 2 * buffers[number] + 1)

    return Turns((lambda: call(0), lambda: call(1)), states)


def left(turns: Turns) -> dict[str, float]:
    return {name: float(array[0]) for name, array in turns.left().items()}


def test_each_call_takes_what_the_one_before_it_left():
    turns = doubling("h")
    turns.place({"h": np.ones(2)})
    seen = []
    for _ in range(4):
        turns.infer()
        seen.append(left(turns)["h"])
    assert seen == [3, 7, 15, 31]


@pytest.mark.parametrize("before", range(4))
def test_a_state_can_be_placed_after_any_number_of_calls(before: int):
    """The last outputs stay, and a state that is not placed goes on."""
    turns = doubling("h", "c")
    turns.place({"h": np.zeros(2), "c": np.zeros(2)})
    for _ in range(before):
        turns.infer()
    last = left(turns) if before else {}
    turns.place({"h": np.full(2, 100.0)})
    if before:
        assert left(turns) == last
    turns.place({})
    turns.infer()
    assert left(turns) == {"h": 201, "c": 2 ** (before + 1) - 1}


def test_states_placed_one_after_the_other_are_both_kept():
    turns = doubling("h", "c")
    turns.place({"h": np.zeros(2), "c": np.zeros(2)})
    turns.infer()
    turns.place({"h": np.full(2, 10.0)})
    turns.place({"c": np.full(2, 20.0)})
    turns.infer()
    assert left(turns) == {"h": 21, "c": 41}


# --------------------------------------------------------------------------- what is fed


STATE = TensorSpec("float32", (2, "N", 3), batch=1)
INPUTS = {"image": TensorSpec("float32", ("N", 1, 8, 8)), "h": STATE}


def stateful(model: Model, carried: bool) -> Model:
    return replace(model, inputs=INPUTS, states={"h": State("h_out", carried)})


def test_a_feed_may_leave_out_states_alone():
    image, state = np.zeros((1, 1, 8, 8), np.float32), np.zeros((2, 1, 3), np.float32)
    check_feed({"image": image, "h": state}, INPUTS, 1, {"h"})
    check_feed({"image": image}, INPUTS, 1, {"h"})
    for feed in ({"h": state}, {"image": image, "other": state}):
        with pytest.raises(ValueError, match="expected the inputs image, h"):
            check_feed(feed, INPUTS, 1, {"h"})
    with pytest.raises(ValueError, match="expected the inputs image, h; got image"):
        check_feed({"image": image}, INPUTS, 1)


def test_states_that_items_lack_are_zeros(tmp_path):
    np.save(tmp_path / "image.npy", np.ones((5, 1, 8, 8), np.float32))
    items = load_items({"image": tmp_path / "image.npy"}, INPUTS)
    assert list(items) == ["image", "h"] and items["h"].shape == (5, 2, 3)
    assert items["h"].dtype == np.float32 and not items["h"].any() and items["image"].all()


@pytest.mark.parametrize("carried", [True, False])
def test_calls_of_a_lane_reset_a_state_unless_it_is_carried(tmp_path, carried: bool):
    given = opened(tmp_path, "paced", {"rate_hz": 10})
    items = {**given.items, "h": np.zeros((20, 2, 3), np.float32)}
    given = replace(given, model=stateful(given.model, carried), items=items)
    feed = lane.library_of(given).feed([3])
    assert ("h" in feed) is not carried
    np.testing.assert_array_equal(feed["image"], items["image"][3:4])


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"dtype": "float16"}, "its dtype is float16, and float32 there"),
        ({"dtype": "int8", "scale": 0.5, "zero_point": 0}, "dtype is int8"),
        ({"layout": "NHWC"}, "layout is NHWC, and None there"),
    ],
)
def test_states_of_another_kind_are_refused(tmp_path, changed: dict, told: str):
    model = stateful(opened(tmp_path, "paced", {"rate_hz": 10}).model, True)
    check_states(model, INPUTS, {"h_out": STATE})
    with pytest.raises(Unsupported, match=f"'h_out' cannot be fed back into 'h' as it is.*{told}"):
        check_states(model, INPUTS, {"h_out": replace(STATE, **changed)})


def test_a_model_keeps_its_states_as_json(tmp_path):
    model = opened(tmp_path, "paced", {"rate_hz": 10}).model
    assert "states" not in model.to_json(), "keys of artifacts are digests of it"
    for one in (model, stateful(model, True)):
        assert Model.from_json(one.to_json()).states == one.states
