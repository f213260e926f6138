"""Arrays on their way into and out of a program: numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from qbench.kit.feeds import Clipped, clipped, convert
from qbench.kit.model import TensorSpec

REAL = TensorSpec("float32", ("N", 3))
INT8 = TensorSpec("int8", ("N", 3), scale=0.5, zero_point=-10)


def test_real_numbers_are_quantized_half_to_even_and_saturated():
    array = np.array([[0.0, 1.25, 1000.0]], np.float32)
    assert convert(array, REAL, INT8).tolist() == [[-10, -8, 127]]  # 2.5 steps are 2, even


def test_and_dequantized():
    array = np.array([[-10, -8, 127]], np.int8)
    assert convert(array, INT8, REAL).tolist() == [[0.0, 1.0, 68.5]]


def test_real_numbers_do_not_become_integers_without_a_scale():
    with pytest.raises(ValueError, match="the scale is unknown"):
        convert(np.zeros((1, 3), np.float32), REAL, TensorSpec("int8", ("N", 3)))


def test_integers_that_fit_are_only_cast():
    ids = np.array([[0, 9999, 5]], np.int64)
    assert (
        convert(ids, TensorSpec("int64", ("N", 3)), TensorSpec("int32", ("N", 3))).dtype == "int32"
    )


def test_integers_that_do_not_fit_are_refused_and_never_wrapped():
    pixels = np.array([[0, 127, 200]], np.uint8)  # 200 as int8 would be -56
    with pytest.raises(ValueError, match="expected int8, got uint8 from 0 to 200"):
        convert(pixels, TensorSpec("uint8", ("N", 3)), INT8)


def test_values_that_a_scale_cannot_hold_are_counted():
    """The scale holds (-128 + 10) * 0.5 = -59 to (127 + 10) * 0.5 = 68.5, and half a step more."""
    array = np.array([[-59.2, 68.7, 0.0, 255.0]], np.float32)
    assert clipped(array, INT8) == Clipped(0.25, -59.0, 68.5, float(np.float32(-59.2)), 255.0)
    assert clipped(array[:, :3], INT8) is None
    assert clipped(array, REAL) is None
    assert clipped(np.array([[300]]), INT8) is None, "integers are no real numbers"


def test_integers_of_another_scale_are_rescaled():
    """As a state whose output and input have ranges of their own."""
    have = TensorSpec("int8", ("N", 4), scale=0.5, zero_point=10)
    want = TensorSpec("int8", ("N", 4), scale=0.25, zero_point=-20)
    steps = np.array([[10, 12, 9, 100]], np.int8)  # 0, 1, -0.5 and 45
    np.testing.assert_array_equal(convert(steps, have, want), [[-20, -16, -22, 127]])
    np.testing.assert_array_equal(convert(steps, have, have), steps)
