"""qbench.spec.preprocess: expectations are written out by hand or taken from plain NumPy."""

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from qbench.data.apply import apply
from qbench.spec.preprocess import Steps


def steps(text: str) -> Steps:
    """The steps of a card's YAML, validated as a card validates them."""
    return TypeAdapter(Steps).validate_python(yaml.safe_load(text))


def ramp(*shape: int) -> np.ndarray:
    """uint8 0, 1, 2, ... in the shape asked for."""
    return np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)


# --- resize ---


def test_bilinear_resize_of_a_step_edge_by_hand():
    # Pixel centres at half integers: the four new ones lie at 0.25, 0.75, 1.25 and 1.75 of the
    # old axis, whose two pixels stand at 0.5 and 1.5.
    image = np.array([[0, 100]], np.uint8)
    result = apply(steps("- resize: {size: [1, 4]}"), image)
    assert result.dtype == np.uint8
    assert result.tolist() == [[[0], [25], [75], [100]]]


def test_nearest_resize_repeats_pixels_and_keeps_channels_apart():
    image = ramp(2, 3, 3)
    result = apply(steps("- resize: {size: [4, 6], interpolation: nearest}"), image)
    np.testing.assert_array_equal(result, image.repeat(2, axis=0).repeat(2, axis=1))


@pytest.mark.parametrize(
    ("shape", "expected"), [((40, 80), (10, 20)), ((80, 40), (20, 10)), ((30, 44), (10, 15))]
)
def test_shortest_scales_the_shorter_side_and_rounds_the_other(shape, expected):
    result = apply(steps("- resize: {shortest: 10}"), np.zeros(shape, np.uint8))
    assert result.shape == (*expected, 1)  # 44 * 10 / 30 = 14.67


@given(
    value=st.integers(0, 255),
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    kind=st.sampled_from(["bilinear", "nearest", "bicubic", "lanczos"]),
)
def test_a_flat_image_stays_flat(value, height, width, size, kind):
    text = f"- resize: {{size: [{size[0]}, {size[1]}], interpolation: {kind}}}"
    result = apply(steps(text), np.full((height, width), value, np.uint8))
    np.testing.assert_array_equal(result, np.full((*size, 1), value, np.uint8))


def test_the_kinds_of_interpolation_differ():
    image = np.array([[0, 10, 200, 30]], np.uint8)
    results = {
        tuple(apply(steps(f"- resize: {{size: [1, 7], interpolation: {kind}}}"), image).ravel())
        for kind in ("bilinear", "nearest", "bicubic", "lanczos")
    }
    assert len(results) == 4


def test_letterbox_keeps_the_ratio_and_fills_the_rest_evenly():
    image = np.full((10, 20, 3), 7, np.uint8)
    result = apply(steps("- resize: {letterbox: [31, 40]}"), image)  # twice as large: 20 of 31
    assert result.shape == (31, 40, 3)
    # the spare one of 11 rows goes below, as Ultralytics' round(dh - 0.1) has it
    assert (result[5:25] == 7).all() and (result[:5] == 114).all() and (result[25:] == 114).all()
    tall = apply(steps("- resize: {letterbox: [20, 20], fill: 0}"), ramp(4, 2))
    assert (tall[:, :5] == 0).all() and (tall[:, 15:] == 0).all()
    resized = apply(steps("- resize: {size: [20, 10]}"), ramp(4, 2))
    np.testing.assert_array_equal(tall[:, 5:15], resized)


@given(st.integers(1, 40), st.integers(1, 40), st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_letterbox_touches_two_edges_and_loses_nothing(height, width, size):
    result = apply(
        steps(f"- resize: {{letterbox: [{size[0]}, {size[1]}], fill: 0}}"),
        np.full((height, width), 255, np.uint8),
    )
    assert result.shape == (*size, 1)
    rows, columns = result[:, :, 0].any(axis=1).sum(), result[:, :, 0].any(axis=0).sum()
    assert rows == size[0] or columns == size[1]
    assert (result == 255).sum() == rows * columns


# --- crop, colour, layout, cast ---


def test_center_crop_takes_the_middle():
    image = ramp(4, 6)
    result = apply(steps("- center_crop: 2"), image)
    np.testing.assert_array_equal(result[:, :, 0], [[8, 9], [14, 15]])


def test_center_crop_with_an_odd_margin_starts_at_the_lower_index():
    result = apply(steps("- center_crop: [1, 2]"), ramp(2, 5))
    assert result[:, :, 0].tolist() == [[1, 2]]


def test_bgr_swaps_the_outer_channels():
    result = apply(steps("- color: bgr"), np.array([[[1, 2, 3]]], np.uint8))
    assert result.tolist() == [[[3, 2, 1]]]


def test_gray_is_the_luma_of_itu_r_601_and_rgb_repeats_it():
    image = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 20, 30]]], np.uint8)
    result = apply(steps("- color: gray"), image)
    assert result.shape == (1, 4, 1)
    exact = image[0] @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(result[0, :, 0], exact, atol=0.6)
    repeated = apply(steps("- color: rgb"), ramp(2, 2))
    np.testing.assert_array_equal(repeated, ramp(2, 2, 1).repeat(3, 2))


def test_nchw_moves_channels_first_and_adds_them_where_missing():
    image = ramp(2, 3, 3)
    result = apply(steps("- layout: NCHW"), image)
    assert result.shape == (3, 2, 3)
    assert all(result[c, y, x] == image[y, x, c] for c in range(3) for y in (0, 1) for x in (0, 2))
    assert apply(steps("- layout: NCHW"), ramp(2, 3)).shape == (1, 2, 3)
    assert apply(steps("- layout: NHWC"), ramp(2, 3)).shape == (2, 3, 1)


@given(st.tuples(*[st.integers(1, 6)] * 3))
def test_layout_there_and_back_changes_nothing(shape):
    image = ramp(*shape)
    result = apply(steps("- layout: NCHW\n- layout: NHWC"), image)
    np.testing.assert_array_equal(result, image)


def test_cast_keeps_shape_and_values():
    result = apply(steps("- cast: float32"), np.array([1, 300], np.int64))
    assert result.dtype == np.float32
    assert result.tolist() == [1.0, 300.0]


@given(st.lists(st.floats(-128.49, 127.49), min_size=1, max_size=20))
def test_cast_to_integers_rounds_half_to_even(values):
    result = apply(steps("- cast: int8"), np.array(values))
    assert result.dtype == np.int8 and result.tolist() == [round(value) for value in values]


@pytest.mark.parametrize("value", [-1.0, 255.6, float("nan"), float("inf")])
def test_cast_refuses_what_the_type_does_not_hold(value):
    with pytest.raises(ValueError, match=r"uint8 holds 0\.\.255, not"):
        apply(steps("- cast: uint8"), np.array([3.0, value]))


def test_pixels_for_a_quantized_input_are_shifted_by_128():
    result = apply(
        steps("- normalize: {mean: 128, std: 1}\n- cast: int8"), np.array([0, 128, 255], np.uint8)
    )
    assert result.dtype == np.int8 and result.tolist() == [-128, 0, 127]


def test_flatten_is_row_by_row():
    assert apply(steps("- flatten: true"), ramp(2, 3, 2)).tolist() == list(range(12))


# --- arithmetic ---


def test_scale_multiplies_in_float32():
    result = apply(steps("- scale: 0.25"), np.array([[0, 255]], np.uint8))
    assert result.dtype == np.float32 and result.tolist() == [[0.0, 63.75]]


@given(
    values=st.lists(st.integers(0, 255), min_size=1, max_size=30),
    mean=st.floats(-200, 200, width=32),
    std=st.floats(0.125, 200, width=32),
)
def test_normalize_is_float32_and_close_to_exact_arithmetic(values, mean, std):
    item = np.array(values, np.uint8)
    result = apply(steps(f"- normalize: {{mean: {mean!r}, std: {std!r}}}"), item)
    assert result.dtype == np.float32
    exact = (item.astype(np.float64) - mean) / std
    # two roundings: of a difference of numbers up to 255 and 200, and of the quotient
    np.testing.assert_allclose(result, exact, rtol=3e-7, atol=3e-5 / std)


@pytest.mark.parametrize("order", ["before", "after"])
def test_normalize_per_channel_finds_the_channel_axis(order):
    normalize, layout = "- normalize: {mean: [0, 10, 20], std: [1, 2, 4]}\n", "- layout: NCHW\n"
    text = normalize + layout if order == "before" else layout + normalize
    result = apply(steps(text), np.full((3, 3, 3), 20, np.uint8))
    np.testing.assert_array_equal(result[:, 1, 1], [20.0, 5.0, 0.0])
    assert result.shape == (3, 3, 3)


def test_dequantize_of_features_keeps_their_shape():
    item = np.array([[83, 84], [-128, 127]], np.int8)
    item[0, 1] = 85
    result = apply(steps("- dequantize: {scale: 0.5, zero_point: 83}"), item)
    assert result.dtype == np.float32
    assert result.tolist() == [[0.0, 1.0], [-105.5, 22.0]]


def test_a_whole_card_in_order():
    text = """
    - resize: {size: [2, 2], interpolation: nearest}
    - normalize: {mean: 0, std: 16}
    - layout: NCHW
    """
    result = apply(steps(text), np.array([[0, 8], [16, 4]], np.uint8))
    assert result.tolist() == [[[0.0, 0.5], [1.0, 0.25]]]
    assert result.flags.c_contiguous


def test_no_steps_give_a_copy():
    item = ramp(3)
    result = apply([], item)
    result[0] = 9
    assert item[0] == 0


# --- refusals ---


@pytest.mark.parametrize(
    ("text", "item", "message"),
    [
        ("- resize: {size: [2, 2]}", np.zeros((4, 4), np.float32), "takes uint8 images"),
        ("- resize: {size: [2, 2]}", np.zeros((4, 4, 2), np.uint8), "1 or 3 channels"),
        ("- resize: {size: [2, 2]}", np.zeros(4, np.uint8), r"\[H, W\] or \[H, W, C\], not \[4\]"),
        ("- center_crop: 5", np.zeros((4, 9), np.uint8), "at least as large, not 4x9"),
        ("- color: bgr", np.zeros((4, 4), np.uint8), "3 channels, not 1"),
        ("- color: gray", np.zeros((4, 4), np.uint8), "3 channels, not 1"),
        ("- color: gray", np.zeros((4, 4, 3), np.float32), "takes uint8 images"),
        ("- color: rgb", np.zeros((4, 4, 3), np.uint8), "1 channel, not 3"),
        ("- layout: NCHW\n- center_crop: 2", np.zeros((4, 4), np.uint8), "before layout: NCHW"),
        (
            "- normalize: {mean: [1, 2], std: 1}",
            np.zeros((4, 4, 3), np.uint8),
            "mean has 2 values, but the item 3 channels",
        ),
    ],
)
def test_a_step_that_does_not_fit_the_item_says_so(text, item, message):
    with pytest.raises(ValueError, match=message):
        apply(steps(text), item)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- rotate: 90", "one of: array, tokenize, resize, center_crop, color"),
        ("- {color: bgr, cast: float32}", "mapping with one key"),
        ("- bgr", "mapping with one key"),
        ("- resize: {size: [2, 2], shortest: 3}", "one of size"),
        ("- resize: {shortest: 2, letterbox: [2, 2]}", "one of size"),
        ("- resize: {interpolation: nearest}", "one of size"),
        ("- resize: {size: [2, 2], fill: 0}", "fill is for letterbox"),
        ("- resize: {letterbox: [2, 2], fill: 256}", "less than or equal to 255"),
        ("- resize: {size: [2, 2], filter: nearest}", "filter"),
        ("- resize: {size: [2]}", "at least 2 items"),
        ("- resize: {size: [0, 2]}", "greater than or equal to 1"),
        ("- resize: {size: [1000000, 1000000]}", "less than or equal to 16384"),
        ("- normalize: {mean: 0, std: 0}", "may not be 0"),
        ("- normalize: {mean: 0}", "Field required"),
        ("- layout: CHW", "'NCHW' or 'NHWC'"),
        ("- cast: float64", "'float32'"),
        ("- color: hsv", "'bgr', 'gray' or 'rgb'"),
        ("- flatten: false", "Input should be True"),
        ("- scale: .nan", "finite number"),
        ("- center_crop: 2\n- array: image", "array comes first"),
        ("- scale: 2.0\n- tokenize: {kind: words, vocab: {path: v}, length: 2}", "before the"),
        ("- tokenize: {kind: words, vocab: {path: v}}", "Field required"),
        ("- tokenize: {kind: words, vocab: {path: /v}, length: 2}", "a path is relative"),
        ("- dequantize: {scale: 0.5, zero_point: 1.5}", "valid integer"),
    ],
)
def test_a_wrong_card_is_refused_when_it_is_read(text, message):
    with pytest.raises(ValidationError, match=message):
        steps(text)


def test_steps_serve_as_a_field_of_a_model():
    class Card(BaseModel):
        preprocess: dict[str, Steps]

    content = {"preprocess": {"image": [{"center_crop": 2}, {"layout": "NCHW"}]}}
    card = Card.model_validate(content)
    assert card.model_dump() == content
    assert Card.model_validate_json(card.model_dump_json()) == card
