"""Outputs that cannot be the model's: chance, and no relation to float32's. Bounds by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from qbench.analysis.quality.fidelity import dequantized
from qbench.analysis.quality.judge import score_outputs
from qbench.analysis.quality.plausible import beats_constant, is_chance, why_wrong
from qbench.spec.judging import Judging, Quality

CLASSES = Judging(task="image-classification", metric="top1", scores="y")


def right_on(share: float, items: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores of which the given share is right, and their labels, every class as often."""
    labels = np.arange(items) % classes
    answers = np.where(np.arange(items) < share * items, labels, (labels + 1) % classes)
    return np.eye(classes, dtype=np.float32)[answers], labels


def judged(share: float, items: int, classes: int, reference: np.ndarray | None = None) -> Quality:
    scores, labels = right_on(share, items, classes)
    base = None if reference is None else {"y": reference}
    return score_outputs({"y": scores}, base, labels, CLASSES)


def test_guessing_is_found_and_says_what_to_check():
    quality = judged(0.002, 500, 1001)
    assert is_chance(quality) and (quality.classes, quality.accuracy) == (1001, 0.002)
    assert why_wrong(quality) == (
        "top1 is 0.2 % on 500 items, no better than chance among 1001 classes: check preprocess or "
        "class order"
    )


@pytest.mark.parametrize(
    ("share", "items", "classes", "chance"),
    [
        (0.1, 200, 10, True),  # 20 right of 200, where 20 are expected
        (0.2, 200, 10, False),  # 40: p = 0.00001
        (0.0, 12, 1000, True),  # the interval ends at 3.84 / (12 + 3.84) = 0.24 < 0.25
        (0.0, 5, 1000, False),  # at 0.43: too few to tell
        (0.5, 1000, 2, True),
        (0.5, 20, 2, False),  # at 0.70: too few to tell
        (0.6, 1000, 2, False),
        (0.0, 100, 2, True),  # inverted classes
        (0.615, 650, 1001, False),  # mobilenet_v1_025_224 in int8
    ],
)
def test_chance_is_settled_by_an_exact_test_and_enough_items(
    share: float, items: int, classes: int, chance: bool
):
    quality = judged(share, items, classes)
    assert is_chance(quality) == chance
    high = stats.binomtest(round(share * items), items, 1 / classes, "greater").pvalue
    assert chance <= (high > 0.05)


def test_outputs_below_3_db_are_wrong_unless_their_accuracy_is_above_a_constant_answer():
    exact, labels = right_on(1, 300, 10)
    quality = judged(0.6, 300, 10, -exact)  # negated: 10 log10(1 / 4) dB and less
    assert quality.sqnr_db is not None and quality.sqnr_db < 3
    assert beats_constant(quality) and why_wrong(quality) is None
    blind = score_outputs({"y": -exact}, {"y": exact}, None, CLASSES)
    assert why_wrong(blind) == "outputs have nothing to do with float32's: SQNR -6.0 dB"
    # 80 % of the items are of one class, which is always answered: above 1 / 10, but constant
    uneven = np.where(np.arange(300) < 240, 0, labels)
    always = np.tile(np.eye(10, dtype=np.float32)[0], (300, 1))
    right = np.eye(10, dtype=np.float32)[uneven] * 2
    constant = score_outputs({"y": -right + 3 * always}, {"y": right}, uneven, CLASSES)
    assert constant.accuracy == constant.constant == pytest.approx(np.mean(uneven == 0))
    assert constant.sqnr_db is not None and constant.sqnr_db < 3
    reason = why_wrong(constant)
    assert reason is not None and "top1 is 82.0 % on 300 items" in reason
    # the same accuracy close to float32 is the model's own
    assert why_wrong(score_outputs({"y": right}, {"y": right}, uneven, CLASSES)) is None


def test_an_accuracy_at_chance_tells_what_float32_reaches():
    exact, _ = right_on(0.9, 200, 10)
    reason = why_wrong(judged(0.1, 200, 10, exact))
    assert reason == (
        "top1 is 10.0 % on 200 items, no better than chance among 10 classes, where float32 "
        "reaches 90.0 %"
    )


@pytest.mark.parametrize(
    ("metric", "value", "low", "high", "chance"),
    [
        ("auc", 0.52, 0.45, 0.59, True),
        ("auc", 0.8, 0.74, 0.86, False),
        ("auc", 0.6, 0.4, 0.8, False),  # too wide to tell
        ("spearman", 0.03, -0.1, 0.16, True),
        ("spearman", 0.7, 0.6, 0.8, False),
        ("mAP50", 0.0, 0.0, 0.0, True),
        ("mAP50", 0.02, 0.0, 0.05, False),
    ],
)
def test_other_metrics_have_their_own_chance(
    metric: str, value: float, low: float, high: float, chance: bool
):
    fields: dict[str, Any] = {"accuracy_low": low, "accuracy_high": high}
    quality = Quality(items=128, metric=metric, accuracy=value, outputs_digest="", **fields)
    assert is_chance(quality) == chance


def test_integers_are_compared_after_dequantizing_and_class_indices_by_equality():
    how = Judging(task="other")
    exact = np.linspace(-1, 1, 64, dtype=np.float32).reshape(4, 16)
    stored = np.clip(np.round(exact / 0.01) + 128, 0, 255).astype(np.uint8)
    outputs = dequantized({"y": stored}, {"y": (0.01, 128)})
    rounded = score_outputs(outputs, {"y": exact}, None, how)
    # uniform rounding: noise power step^2 / 12 against a signal power of about a third
    assert rounded.sqnr_db == pytest.approx(10 * np.log10((exact**2).mean() * 12 / 1e-4), abs=1)
    indices = {"class": np.array([[1], [2], [900], [4]])}
    other = {"class": np.array([[1], [2], [3], [4]])}
    quality = score_outputs(indices, other, None, how)
    assert (quality.sqnr_db, quality.cosine, quality.equal_values) == (None, None, 0.75)
    assert quality.fidelity["class"].max_abs_difference == 897
