"""``--shape``, ``--size`` and ``--batch-axis``, and the sizes of cards."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from qbench.errors import UserError
from qbench.kit.model import TensorSpec
from qbench.spec.models import Expected, ModelCard, Tensor
from qbench.spec.sizes import GivenSizes, missing_sizes, shapes_of


def card(**inputs: dict) -> ModelCard:
    return ModelCard.model_validate(
        {
            "name": "net",
            "task": "other",
            "inputs": inputs,
            "outputs": {"y": {"dtype": "float32", "shape": ["N", "rows"]}},
            "sources": {"onnx": {"path": "net.onnx"}},
        }
    )


def image(*shape: int | str, **more: object) -> dict:
    return {"dtype": "float32", "shape": list(shape), **more}


def test_options_are_read():
    given = GivenSizes.parse(
        ["images=1x3x320x240", "rate="], ["height=320,width=240", "a=b=2"], ["state=1", "x=none"]
    )
    assert given.shapes == {"images": (1, 3, 320, 240), "rate": ()}
    assert given.sizes == {"height": 320, "width": 240, "a=b": 2}
    assert given.batch_axes == {"state": 1, "x": None}
    assert given and not GivenSizes()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((["images"],), "--shape images: not of the form"),
        ((["images=1x-3"],), "not of the form"),
        ((["=1x3"],), "not of the form"),
        ((["images=1x0"],), "a size is from 1 to 2147483647"),
        (((), ["height=99999999999999999"]), "a size is from 1 to"),
        (((), ["height=tall"]), "not of the form height=320,width=320"),
        (((), (), ["state=last"]), "not of the form state=1 or state=none"),
    ],
)
def test_wrong_options_are_refused(options: tuple, said: str):
    with pytest.raises(UserError, match=said):
        GivenSizes.parse(*options)


def test_names_must_be_the_models():
    inputs = {"image": TensorSpec("float32", ("N", 3, "height", "width"))}
    for given, said in (
        (GivenSizes(shapes={"picture": (1,)}), "no input is called 'picture'"),
        (GivenSizes(sizes={"heigth": 3}), "Free are: height, width"),
        (GivenSizes(batch_axes={"image": 4}), "has no axis 4"),
    ):
        with pytest.raises(UserError) as error:
            given.check_names(inputs)
        assert said in str(error.value)


def test_a_cards_batch_is_the_axis_called_n_else_the_first():
    assert Tensor(dtype="float32", shape=[2, "N", 64]).batch_axis == 1
    assert Tensor(dtype="float32", shape=[1, 3]).batch_axis == 0
    assert Tensor(dtype="int64", shape=[]).batch_axis is None
    assert Tensor(dtype="float32", shape=[9, 4], batch="none").batch_axis is None
    with pytest.raises(ValidationError, match="has no axis 2"):
        Tensor(dtype="float32", shape=[9, 4], batch=2)
    with pytest.raises(ValidationError, match="names two axes N"):
        Tensor(dtype="float32", shape=["N", "N"])


def test_a_batch_is_written_only_if_the_card_says_it():
    """Digests of cards without it stay as they were."""
    assert "batch" not in Tensor(dtype="float32", shape=["N"]).model_dump()
    assert Tensor(dtype="float32", shape=["N"], batch="none").model_dump()["batch"] == "none"


def test_given_sizes_go_before_the_cards():
    own = card(x=image("N", 3, "h", "w"))
    sized = own.model_copy(update={"sizes": {"h": 10, "w": 20}})
    assert sized.input_specs["x"].at(4) == (4, 3, 10, 20)
    assert GivenSizes(sizes={"h": 32}).apply(sized).input_specs["x"].at(1) == (1, 3, 32, 20)
    by_shape = GivenSizes(shapes={"x": (7, 3, 5, 6)}).apply(sized)
    assert by_shape.input_specs["x"].at(1) == (1, 3, 5, 6), "the batch is not the shape's"
    assert shapes_of(by_shape) == {"x": ["N", 3, 5, 6]}
    assert GivenSizes(sizes={"other": 1}).apply(sized) is sized
    with pytest.raises(UserError, match="has 4 axes"):
        GivenSizes(shapes={"x": (1, 3)}).apply(sized)


def test_a_batch_axis_can_be_given():
    moved = GivenSizes(batch_axes={"x": 1}).apply(card(x=image("T", 3, 5)))
    assert moved.input_specs["x"].batch == 1
    assert moved.input_specs["x"].sized({"T": 7}).at(2) == (7, 2, 5)


def test_open_sizes_are_named():
    assert missing_sizes(card(x=image("N", 3, "h", "w")).input_specs) == ("h and w of 'x', Nx3xhxw")
    assert missing_sizes(card(x=image("N", 3)).input_specs) == ""


def test_sizes_of_a_card_are_its_own():
    content = card(x=image("N", "h")).model_dump(exclude_unset=True)
    with pytest.raises(ValidationError, match="no free size"):
        ModelCard.model_validate({**content, "sizes": {"height": 3}})


def test_an_axis_that_a_card_lacks_is_refused():
    with pytest.raises(UserError, match="without an axis 9"):
        GivenSizes(batch_axes={"x": 9}).apply(card(x=image("N", 3)))


def test_the_batch_of_a_shape_is_the_batch_size():
    given = GivenSizes(shapes={"x": (4, 3)})
    assert given.batch(card(x=image("N", 3)).input_specs) == 4
    assert GivenSizes().batch(card(x=image("N", 3)).input_specs) == 1


def test_accuracy_is_expected_at_the_cards_own_sizes_only():
    own = card(x=image("N", 3, "h", "w")).model_copy(
        update={"sizes": {"h": 8, "w": 8}, "expected": Expected(value=0.9, items=10)}
    )
    assert GivenSizes(sizes={"h": 16}).apply(own).expected is None
    assert GivenSizes().apply(own).expected is not None


def test_the_batch_of_a_card_is_no_free_size():
    with pytest.raises(UserError, match="no free size is called 'N'") as error:
        GivenSizes(sizes={"N": 4}).check_names(card(x=image("N", "h")).open_specs)
    assert error.value.fix == "Free are: h."
