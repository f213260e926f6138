"""qbench.analysis.quality: the metrics of each task, against scikit-learn, SciPy and numbers by
hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import f1_score, jaccard_score, roc_auc_score, top_k_accuracy_score

from qbench.analysis.quality import metrics as m
from qbench.analysis.quality.judge import score_outputs
from qbench.analysis.quality.scores import Statistic
from qbench.spec.judging import Judging
from qbench.spec.tasks import TASKS

seeds = st.integers(0, 2**31)


def asked(task: str, **more: Any) -> Judging:
    classifies = TASKS[task].classifies
    return Judging(
        task=task,
        metric=TASKS[task].metrics[0],
        scores="y" if classifies else None,
        output=None if classifies else "y",
        **more,
    )


def agrees(figure: Statistic, library: Callable[[np.ndarray], float]) -> None:
    """The figure is the library's, and so is that of resamples, which the library is given by
    repeating items (``library`` takes the indices of the items)."""
    everything = np.arange(figure.items)
    assert figure.value == pytest.approx(library(everything), abs=1e-12)
    rng = np.random.default_rng(figure.items)
    counts = rng.multinomial(figure.items, np.ones(figure.items) / figure.items, size=5)
    counts = np.concatenate([np.ones((1, figure.items), int), counts])
    for row, got in zip(counts, figure.statistic(counts), strict=True):
        assert got == pytest.approx(library(np.repeat(everything, row)), abs=1e-12, nan_ok=True)


# --------------------------------------------------------------------------- classes


@settings(max_examples=30, deadline=None)
@given(seeds, st.integers(1, 9))
def test_top_k_is_scikit_learns(seed: int, k: int):
    rng = np.random.default_rng(seed)
    scores, labels = rng.normal(size=(40, 10)), rng.integers(0, 10, 40)
    theirs = top_k_accuracy_score(labels, scores, k=k, labels=np.arange(10))
    assert m.top_k(scores, labels, k).value == pytest.approx(theirs)


def test_equal_scores_count_as_argmax_takes_them():
    scores = np.array([[7, 7, 7, 7, 7, 7, 0]] * 7, np.uint8)
    labels = np.arange(7)
    assert m.top_k(scores, labels, 1).right.tolist() == [True] + [False] * 6
    assert m.top_k(scores, labels, 5).right.tolist() == [True] * 5 + [False] * 2
    assert m.top_k(scores, labels, 6).value == pytest.approx(6 / 7)


def test_an_image_classifier_has_top1_and_top5():
    rng = np.random.default_rng(1)
    scores, labels = rng.normal(size=(50, 12)), rng.integers(0, 12, 50)
    quality = score_outputs({"y": scores}, None, labels, asked("image-classification"))
    assert list(quality.metrics) == ["top1", "top5"]
    assert quality.metrics["top1"].value == quality.accuracy
    assert quality.metrics["top5"].value == top_k_accuracy_score(
        labels, scores, k=5, labels=range(12)
    )
    asked5 = asked("image-classification").model_copy(update={"metric": "top5"})
    base = score_outputs({"y": scores}, {"y": scores[::-1]}, labels, asked5)
    assert base.metric == "top5" and base.accuracy == quality.metrics["top5"].value
    assert base.accuracy_delta == pytest.approx(
        quality.metrics["top5"].value
        - top_k_accuracy_score(labels, scores[::-1], k=5, labels=range(12))
    )
    with pytest.raises(ValueError, match="there is no top5 here"):  # it would always be 1
        score_outputs({"y": scores[:, :5]}, None, labels % 5, asked5)


def test_the_background_is_no_class():
    scores = np.array([[9, 5, 0, 1], [9, 0, 1, 2]], np.float32)
    how = asked("image-classification", background=1)
    quality = score_outputs({"y": scores}, {"y": scores[:, ::-1]}, np.array([0, 2]), how)
    assert quality.accuracy == 1, "classes 0 and 2 behind the background"
    # reversed: [1 | 0 5 9] and [2 | 1 0 9] are both of class 2
    assert quality.agreement == 0.5
    with pytest.raises(ValueError, match="a label is 3, but the model has only 3 classes"):
        score_outputs({"y": scores}, None, np.array([0, 3]), how)
    with pytest.raises(ValueError, match="4 classes, 4 of them background"):
        score_outputs(
            {"y": scores}, None, np.array([0, 0]), asked("image-classification", background=4)
        )


def test_a_forgotten_background_is_noticed_where_the_classes_are_known():
    outputs = {"y": np.zeros((2, 1001), np.float32)}
    how = asked("image-classification", classes=1000)
    with pytest.raises(ValueError, match="1000 classes, the model 1001: set 'background'"):
        score_outputs(outputs, None, np.array([0, 1]), how)
    score_outputs(outputs, None, np.array([0, 1]), how.model_copy(update={"background": 1}))


@settings(max_examples=20, deadline=None)
@given(seeds, st.integers(2, 5))
def test_f1_is_scikit_learns_macro_average(seed: int, classes: int):
    rng = np.random.default_rng(seed)
    labels, predicted = rng.integers(0, classes, (2, 30))
    if seed % 3 == 0:
        labels[:] = 1  # classes that occur only among predictions, or nowhere
    agrees(
        m.macro_f1(predicted, labels, classes),
        lambda i: float(f1_score(labels[i], predicted[i], average="macro", zero_division=0.0)),  # type: ignore[arg-type]
    )


def test_a_text_classifier_has_accuracy_and_f1():
    scores = np.array([[2, 1], [2, 1], [2, 1], [1, 2]] * 5, np.float32)  # 0 0 0 1
    labels = np.array([0, 0, 1, 1] * 5)
    quality = score_outputs({"y": scores}, {"y": scores}, labels, asked("text-classification"))
    assert (quality.metric, quality.accuracy) == ("accuracy", 0.75)
    # class 0: 2 tp, 1 fp, 0 fn: 4/5; class 1: 1 tp, 0 fp, 1 fn: 2/3
    assert quality.metrics["f1"].value == pytest.approx((0.8 + 2 / 3) / 2)
    by_f1 = asked("text-classification").model_copy(update={"metric": "f1"})
    quality = score_outputs({"y": scores}, {"y": scores[:, ::-1]}, labels, by_f1)
    other = f1_score(labels, scores[:, ::-1].argmax(1), average="macro")
    assert quality.accuracy_delta == pytest.approx((0.8 + 2 / 3) / 2 - float(other))
    assert quality.accuracy_delta_p is None and quality.items_needed is None
    assert quality.accuracy_delta_low is not None and quality.accuracy_delta_high is not None
    assert quality.accuracy_delta_low < quality.accuracy_delta < quality.accuracy_delta_high


# --------------------------------------------------------------------------- anomalies


@settings(max_examples=20, deadline=None)
@given(seeds, st.booleans())
def test_auc_is_scikit_learns(seed: int, ties: bool):
    rng = np.random.default_rng(seed)
    labels = rng.permutation([0] * 20 + [1] * 7)
    scores = rng.normal(size=27) + labels
    scores = np.round(scores) if ties else scores

    def theirs(chosen: np.ndarray) -> float:
        one = len(set(labels[chosen])) == 1
        return float("nan") if one else float(roc_auc_score(labels[chosen], scores[chosen]))

    agrees(m.auc(scores, labels), theirs)


def test_anomaly_scores_may_be_one_value_or_two():
    labels = np.array([0, 1, 0, 1] * 4)
    scores = np.array([0.1, 0.9, 0.4, 0.3] * 4)
    one = score_outputs({"y": scores[:, None]}, None, labels, asked("anomaly-detection"))
    assert (one.metric, one.accuracy) == ("auc", 0.75)  # .9 beats both, .3 beats .1 only
    two = score_outputs(
        {"y": np.stack([1 - scores, scores], 1)}, None, labels, asked("anomaly-detection")
    )
    assert two.accuracy == 0.75 and two.accuracy_low == one.accuracy_low
    assert one.agreement is None
    with pytest.raises(ValueError, match="'y' holds 640 values per item, not one anomaly"):
        score_outputs({"y": np.zeros((16, 640))}, None, labels, asked("anomaly-detection"))


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([0, 0, 0], r"no anomaly \(label 1\)"),
        ([1, 1, 1], r"no normal item \(label 0\)"),
        ([0, 1, 2], "labels of anomaly-detection are 0"),
    ],
)
def test_auc_needs_both_kinds(labels: list[int], says: str):
    with pytest.raises(ValueError, match=says):
        score_outputs({"y": np.zeros((3, 1))}, None, np.array(labels), asked("anomaly-detection"))


# --------------------------------------------------------------------------- segmentation


@settings(max_examples=15, deadline=None)
@given(seeds, st.integers(2, 5))
def test_miou_is_scikit_learns(seed: int, classes: int):
    rng = np.random.default_rng(seed)
    predicted = rng.integers(0, classes, (12, 4, 5))
    masks = np.where(rng.random(predicted.shape) < 0.5, predicted, rng.integers(0, classes))
    masks[rng.random(predicted.shape) < 0.1] = 255

    def theirs(chosen: np.ndarray) -> float:
        mine, truth = predicted[chosen], masks[chosen]
        counted = truth != 255
        return float(jaccard_score(truth[counted], mine[counted], average="macro"))

    agrees(m.mean_iou(predicted, masks.astype(np.uint8), classes), theirs)


def test_segmentation_by_hand_in_either_layout():
    masks = np.array([[[0, 0, 1, 255]]] * 10, np.uint8)
    predicted = np.array([[[0, 1, 1, 0]]] * 10)
    # class 0: 1 of 2; class 1: 1 of 2; the last pixel is not counted; class 2 does not occur
    scores = np.eye(3, dtype=np.float32)[predicted]  # [items, height, width, classes]
    for output, axis in ((predicted, -1), (scores, -1), (scores.transpose(0, 3, 1, 2), 1)):
        how = asked("semantic-segmentation", class_axis=axis)
        quality = score_outputs({"y": output}, {"y": output}, masks, how)
        assert (quality.metric, quality.accuracy) == ("mIoU", 0.5)
        assert (quality.agreement, quality.accuracy_delta) == (1, 0)
    other = scores.copy()
    other[:, 0, 0] = [0, 1, 0]  # one pixel of four
    quality = score_outputs({"y": other}, {"y": scores}, masks, asked("semantic-segmentation"))
    assert quality.agreement == 0.75
    assert quality.accuracy == pytest.approx((0 + 1 / 3) / 2)
    with pytest.raises(ValueError, match=r"pixels \[10, 3, 1\], the masks have \[10, 1, 4\]"):
        score_outputs(
            {"y": scores.transpose(0, 3, 1, 2)}, None, masks, asked("semantic-segmentation")
        )
    with pytest.raises(ValueError, match="a mask holds 7, but the model has 3 classes"):
        score_outputs({"y": scores}, None, np.full_like(masks, 7), asked("semantic-segmentation"))
    with pytest.raises(ValueError, match="every pixel of the masks is 255"):
        score_outputs({"y": scores}, None, np.full_like(masks, 255), asked("semantic-segmentation"))


# --------------------------------------------------------------------------- embeddings


@settings(max_examples=20, deadline=None)
@given(seeds, st.booleans())
def test_spearman_is_scipys(seed: int, ties: bool):
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(size=(30, 4))
    given_scores = rng.normal(size=15)
    given_scores = np.round(given_scores) if ties else given_scores
    a, b = embeddings[0::2], embeddings[1::2]
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)

    def theirs(chosen: np.ndarray) -> float:
        if len(set(given_scores[chosen])) == 1 or len(set(chosen)) == 1:
            return float("nan")
        return float(spearmanr(cosines[chosen], given_scores[chosen]).statistic)  # type: ignore[attr-defined]

    agrees(m.spearman(embeddings, given_scores.astype(np.float32)), theirs)


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_the_length_of_an_embedding_says_nothing(seed: int):
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(size=(24, 6)).astype(np.float32)
    given_scores = rng.normal(size=12).astype(np.float32)
    how = asked("embedding")
    quality = score_outputs({"y": embeddings}, None, given_scores, how)
    lengths = 2.0 ** rng.integers(-60, 60, (24, 1)).astype(np.float32)
    scaled = score_outputs({"y": embeddings * lengths}, None, given_scores, how)
    assert (scaled.accuracy, scaled.accuracy_low) == (quality.accuracy, quality.accuracy_low)
    assert quality.items == 24 and quality.accuracy is not None and -1 <= quality.accuracy <= 1


def test_embeddings_at_their_worst():
    given_scores = np.arange(12, dtype=np.float32)
    collapsed = score_outputs({"y": np.ones((24, 3))}, None, given_scores, asked("embedding"))
    assert (collapsed.accuracy, collapsed.accuracy_low) == (0, 0), "all equal: no rank to agree"
    zeros = score_outputs({"y": np.zeros((24, 3))}, None, given_scores, asked("embedding"))
    assert zeros.accuracy == 0
    with pytest.raises(ValueError, match="all pairs are given the same similarity"):
        score_outputs({"y": np.ones((24, 3))}, None, np.ones(12, np.float32), asked("embedding"))
    with pytest.raises(ValueError, match="23 items make no pairs"):
        score_outputs({"y": np.ones((23, 3))}, None, given_scores, asked("embedding"))
    with pytest.raises(ValueError, match="24 outputs for 11 labels"):
        score_outputs({"y": np.ones((24, 3))}, None, given_scores[:11], asked("embedding"))


# --------------------------------------------------------------------------- intervals


def test_the_interval_of_auc_holds_the_true_value_about_95_times_in_100():
    """Normal scores one standard deviation apart: AUC is Phi(1 / sqrt 2) = 0.76025 (Hanley &
    McNeil, Radiology 143 (1982) 29). 300 sets: a standard error of 1.3 %; percentile intervals
    fall a little short at 60 items."""
    rng = np.random.default_rng(8)
    labels = np.arange(60) % 2
    held = 0
    for _ in range(300):
        _, low, high = m.auc(rng.normal(size=60) + labels, labels).estimate()
        assert low is not None and high is not None
        held += low <= 0.76025 <= high
    assert 0.90 <= held / 300 <= 0.99


# --------------------------------------------------------------------------- labels


@pytest.mark.parametrize("task", [name for name, task in TASKS.items() if task.labels])
@pytest.mark.parametrize(
    "labels",
    [
        np.zeros((4, 5), np.float32),
        np.array(["0", "1", "0", "1"]),
        np.zeros((4, 2, 2, 1), np.uint8),
        np.array(3),
        np.array([0, 1, 0, 1], np.complex64),
    ],
)
def test_labels_of_another_form_are_refused(task: str, labels: np.ndarray):
    how = asked(task) if task != "object-detection" else Judging(task=task, metric="mAP50")
    with pytest.raises(ValueError, match=f"{task} needs .* as labels"):
        score_outputs({"y": np.zeros((4, 2), np.float32)}, None, labels, how)


@pytest.mark.parametrize("task", ["other", "unknown"])
def test_a_task_without_metrics_has_fidelity_only(task: str):
    outputs = {"y": np.ones((4, 2), np.float32)}
    quality = score_outputs(outputs, outputs, np.zeros(4, np.int64), Judging(task=task))
    assert quality.metric is None and quality.metrics == {} and quality.sqnr_db == 200
    with pytest.raises(ValueError, match=f"the task {task} uses no labels"):
        score_outputs(outputs, None, np.zeros(4, np.int64), Judging(task=task, metric="top1"))


def test_whole_number_labels_of_any_width_will_do():
    scores = np.eye(4, dtype=np.float32)
    for kind in (np.uint8, np.int32, np.uint64):
        quality = score_outputs(
            {"y": scores}, None, np.arange(4).astype(kind), asked("keyword-spotting")
        )
        assert quality.accuracy == 1 and list(quality.metrics) == ["top1"]
    with pytest.raises(ValueError, match="a label is -1, but"):
        score_outputs({"y": scores}, None, np.array([0, 1, 2, -1]), asked("keyword-spotting"))
