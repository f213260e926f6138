"""qbench.analysis.quality: what every task has, by numbers worked out by hand and by properties."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from crafted import Crafted
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from qbench.analysis.quality.fidelity import MAX_SQNR_DB, cosine, max_abs_difference, sqnr_db
from qbench.analysis.quality.judge import digest_outputs, find_scores, score_outputs
from qbench.analysis.recompute import recompute
from qbench.spec.judging import Judging

matrices = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    elements=st.floats(-1000, 1000, width=16),
)
pairs = matrices.flatmap(
    lambda a: st.tuples(
        st.just(a),
        arrays.arrays(np.float32, a.shape, elements=st.floats(-1000, 1000, width=16)),
    )
)


def column(*values: float) -> np.ndarray:
    return np.array([values], np.float32)


# --------------------------------------------------------------------------- closeness


def test_sqnr_by_hand():
    assert sqnr_db(column(3, 4), column(3, 4.5)) == pytest.approx(20.0)  # 25 over 0.25
    assert sqnr_db(column(1, 1), column(0, 0)) == pytest.approx(0.0)
    assert sqnr_db(column(1, 0), column(-1, 0)) == pytest.approx(-10 * math.log10(4))
    # over all items, not a mean of ratios: (1 + 99) over (1 + 0)
    assert sqnr_db(np.array([[1.0], [99**0.5]]), np.array([[0.0], [99**0.5]])) == pytest.approx(20)


def test_rounding_to_b_bits_costs_six_decibels_a_bit():
    """A full-scale uniform signal rounded to b bits: 6.02 b dB (Bennett 1948)."""
    signal = np.random.default_rng(5).uniform(-1, 1, (1, 200_000))
    for bits in (4, 8, 12):
        step = 2.0 ** (1 - bits)
        noisy = np.round(signal / step) * step
        assert sqnr_db(signal, noisy) == pytest.approx(20 * bits * math.log10(2), abs=0.1)


def test_sqnr_at_its_ends():
    assert sqnr_db(column(1, 2), column(1, 2)) == MAX_SQNR_DB == 200
    assert sqnr_db(column(0, 0), column(0, 0)) == 200
    assert sqnr_db(column(0, 0), column(0, 1)) == -200
    assert sqnr_db(np.array([[1.0]]), np.array([[1.0 + 1e-15]])) == 200


@given(pairs, st.sampled_from([2.0**-10, 0.5, 8.0, -1.0]))
def test_closeness_does_not_depend_on_the_scale_and_has_its_range(pair, factor: float):
    exact, got = (array.astype(np.float64) for array in pair)
    assert sqnr_db(exact * factor, got * factor) == pytest.approx(sqnr_db(exact, got))
    assert -200 <= sqnr_db(exact, got) <= 200
    assert cosine(exact * abs(factor), got) == pytest.approx(cosine(exact, got))
    assert -1 - 1e-9 <= cosine(exact, got) <= 1 + 1e-9
    assert cosine(exact, got) == pytest.approx(cosine(got, exact))


def test_the_largest_difference_by_hand():
    assert max_abs_difference(column(3, -4, 0), column(3, -4.5, 0.25)) == 0.5
    assert max_abs_difference(np.array([[250]], np.uint8), np.array([[3]], np.uint8)) == 247


def test_many_items_are_compared_a_block_at_a_time():
    rng = np.random.default_rng(0)
    exact = rng.normal(size=(9, 1_000_000)).astype(np.float32)  # more than two blocks
    got = exact + rng.normal(size=exact.shape).astype(np.float32) / 32
    got[8, 7] += 3
    wide, noise = exact.astype(np.float64), exact.astype(np.float64) - got
    assert sqnr_db(exact, got) == pytest.approx(10 * math.log10((wide**2).sum() / (noise**2).sum()))
    assert max_abs_difference(exact, got) == pytest.approx(abs(noise).max())
    products = (wide * got).sum(1) / np.linalg.norm(wide, axis=1) / np.linalg.norm(got, axis=1)
    assert cosine(exact, got) == pytest.approx(products.mean())


@given(matrices)
def test_outputs_are_close_to_themselves(exact: np.ndarray):
    assert sqnr_db(exact, exact) == 200
    assert cosine(exact, exact) == pytest.approx(1)
    if exact.any(axis=1).all():
        assert cosine(exact, -exact) == pytest.approx(-1)


def test_cosine_by_hand():
    assert cosine(column(3, 4), column(4, 3)) == pytest.approx(0.96)
    assert cosine(column(1, 0), column(0, 5)) == 0
    assert cosine(column(0, 0), column(0, 0)) == 1
    assert cosine(column(0, 0), column(1, 0)) == 0
    both = cosine(np.array([[3, 4], [1, 0]]), np.array([[4, 3], [0, 5]]))
    assert both == pytest.approx(0.48), "the mean over items"


def test_cosine_sees_small_and_large_numbers():
    assert cosine(column(1e-30, 1e-30), column(2e-30, 2e-30)) == pytest.approx(1)
    assert cosine(column(1e30, 0), column(3e38, 0)) == pytest.approx(1)
    assert sqnr_db(column(3e38), column(2.7e38)) == pytest.approx(20, abs=1e-4)


# --------------------------------------------------------------------------- judging

SCORES = np.array([[9, 1, 0], [1, 9, 0], [0, 1, 9], [9, 0, 1]], np.float32)
TOP1 = Judging(task="image-classification", metric="top1", scores="y")
OTHER = Judging(task="other")
LABELS = np.array([0, 1, 2, 1])
"""Classes 0, 1, 2, 0: three of four are right."""


def test_the_reference_itself_has_accuracy_and_no_closeness():
    quality = score_outputs({"y": SCORES}, None, LABELS, TOP1)
    assert (quality.items, quality.metric, quality.accuracy) == (4, "top1", 0.75)
    # Wilson for 3 of 4, by hand: z^2 = 3.8415; centre (0.75 + 3.8415 / 8) / (1 + 3.8415 / 4),
    # half 1.96 sqrt(0.75 * 0.25 / 4 + 3.8415 / 64) / (1 + 3.8415 / 4)
    assert quality.accuracy_low == pytest.approx(0.30064, abs=1e-4)
    assert quality.accuracy_high == pytest.approx(0.95441, abs=1e-4)
    names = (
        "accuracy_delta accuracy_delta_p items_needed sqnr_db cosine max_abs_difference agreement"
    )
    for name in names.split():
        assert getattr(quality, name) is None
    assert quality.fidelity == {}


def test_the_same_outputs_differ_in_nothing():
    quality = score_outputs({"y": SCORES.copy()}, {"y": SCORES}, LABELS, TOP1)
    assert (quality.accuracy, quality.accuracy_delta) == (0.75, 0)
    assert (quality.agreement, quality.sqnr_db) == (1, 200)
    assert quality.cosine == pytest.approx(1)
    assert quality.accuracy_delta_low is not None and quality.accuracy_delta_low < 0


def test_scores_of_the_reference_that_were_found_before_change_nothing():
    other = SCORES[[1, 1, 2, 1]]
    known = find_scores({"y": SCORES}, LABELS, TOP1)
    assert score_outputs({"y": other}, {"y": SCORES}, LABELS, TOP1, known) == score_outputs(
        {"y": other}, {"y": SCORES}, LABELS, TOP1
    )
    assert score_outputs({"y": SCORES}, None, LABELS, TOP1, known).accuracy_delta is None
    assert find_scores({"y": SCORES}, None, TOP1) is find_scores({"y": SCORES}, LABELS, OTHER)


def test_an_output_that_is_not_there_cannot_be_judged():
    with pytest.raises(ValueError, match="there is no output 'y' to be judged, only z"):
        score_outputs({"z": SCORES}, None, LABELS, TOP1)


def test_changes_are_counted_item_by_item():
    other = SCORES[[1, 1, 2, 1]]  # classes 1, 1, 2, 1: loses the first, wins the last
    quality = score_outputs({"y": other}, {"y": SCORES}, LABELS, TOP1)
    assert (quality.accuracy, quality.accuracy_delta, quality.agreement) == (0.75, 0, 0.5)
    assert quality.accuracy_delta_p == 1.0, "one lost and one won"
    # disagreement (1 + 1 + 1) / (4 + 2), half the width 0.01: 1.96^2 / 2 / 0.0001
    assert quality.items_needed == 19208


def test_without_labels_or_classes_there_is_only_closeness():
    quality = score_outputs({"y": SCORES}, {"y": SCORES}, None, OTHER)
    assert quality.metric is None and quality.accuracy is None and quality.agreement is None
    assert quality.sqnr_db == 200
    unlabelled = score_outputs({"y": SCORES}, {"y": SCORES}, None, TOP1)
    assert unlabelled.accuracy is None and unlabelled.agreement == 1


def test_the_worst_of_several_outputs_counts():
    exact = {"y": column(3, 4), "z": column(3, 4)}
    quality = score_outputs({"y": column(3, 4), "z": column(3, 4.5)}, exact, None, OTHER)
    assert quality.sqnr_db == pytest.approx(20)
    assert quality.cosine == pytest.approx((9 + 18) / (5 * math.hypot(3, 4.5)))
    assert quality.max_abs_difference == 0.5
    assert (quality.fidelity["y"].sqnr_db, quality.fidelity["y"].max_abs_difference) == (200, 0)
    assert quality.fidelity["z"].sqnr_db == pytest.approx(20)


def test_outputs_of_another_shape_or_name_are_no_precision_of_the_same_model():
    with pytest.raises(ValueError, match=r"'y' has the shape \[4, 3\], the reference's \[4, 2\]"):
        score_outputs({"y": SCORES}, {"y": SCORES[:, :2]}, None, OTHER)
    with pytest.raises(ValueError, match=r"\['y'\], the reference's \['z'\]"):
        score_outputs({"y": SCORES}, {"z": SCORES}, None, OTHER)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["y", "z"])
def test_outputs_that_are_not_numbers_are_refused(value: float, name: str):
    outputs = {"y": SCORES.copy(), "z": SCORES.copy()}
    outputs[name][[1, 3], 2] = value
    with pytest.raises(ValueError, match=f"'{name}' holds NaN or infinity in 2 of 4 items"):
        score_outputs(outputs, None, LABELS, TOP1)


def test_labels_that_do_not_fit_the_outputs_are_refused():
    with pytest.raises(ValueError, match="4 outputs for 3 labels"):
        score_outputs({"y": SCORES}, None, LABELS[:3], TOP1)
    with pytest.raises(ValueError, match="a label is 3, but the model has only 3 classes"):
        score_outputs({"y": SCORES}, None, np.array([0, 1, 2, 3]), TOP1)


def test_a_tensor_with_axes_of_one_classifies_too():
    quality = score_outputs({"y": SCORES[:, None, None]}, None, LABELS, TOP1)
    assert quality.accuracy == 0.75


def test_the_digest_is_of_names_types_shapes_and_values():
    base = digest_outputs({"y": SCORES, "z": LABELS})
    assert digest_outputs({"z": LABELS, "y": np.asfortranarray(SCORES)}) == base
    changed = SCORES.copy()
    changed[3, 2] = np.nextafter(changed[3, 2], 2, dtype=np.float32)
    for outputs in (
        {"y": changed, "z": LABELS},
        {"x": SCORES, "z": LABELS},
        {"y": SCORES.astype(np.float64), "z": LABELS},
        {"y": SCORES.reshape(3, 4), "z": LABELS},
        {"y": SCORES},
    ):
        assert digest_outputs(outputs) != base


# --------------------------------------------------------------------------- judging again


def test_every_figure_of_a_bundle_is_recomputed(tmp_path: Path):
    rng = np.random.default_rng(2)
    crafted = Crafted(tmp_path)
    crafted.labels = rng.integers(0, 8, 40)
    base, other = rng.normal(size=(2, 40, 8)).astype(np.float32)
    fp32, int8 = crafted.case("fp32"), crafted.case("int8-static")
    crafted.evaluation(fp32, base)
    crafted.evaluation(int8, other, reference=fp32)
    bundle = crafted.done()
    assert recompute(bundle) == []
    path = bundle.path / "evaluate.jsonl"
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    second["quality"]["fidelity"]["scores"]["cosine"] += 0.01
    second["quality"]["metrics"]["top5"]["low"] = None
    second["quality"]["accuracy_delta_p"] = 0.5
    second["quality"]["items_needed"] += 1
    path.write_text("".join(json.dumps(record) + "\n" for record in (first, second)))
    found = [line.partition(": ")[2].split()[0] for line in recompute(bundle)]
    assert sorted(found) == [
        "accuracy_delta_p", "fidelity.scores.cosine", "items_needed", "metrics.top5.low",
    ]  # fmt: skip
