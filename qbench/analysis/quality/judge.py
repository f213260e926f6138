"""Score a model's outputs: accuracy where there are labels, and fidelity to float32."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from qbench.analysis.quality import metrics
from qbench.analysis.quality.boxes import mean_average_precision
from qbench.analysis.quality.fidelity import Outputs, compare, of_equal_rows
from qbench.analysis.quality.scores import Share, Statistic
from qbench.kit.pipeline import answers
from qbench.spec.judging import Judging, Metric, Quality
from qbench.spec.suite import WorkerLimits
from qbench.spec.tasks import TASKS

Score = Share | Statistic
LIMITS = WorkerLimits()


class NotFinite(ValueError):
    """An output holds NaN or infinity, so it cannot be compared or scored."""


def score_outputs(
    outputs: Outputs,
    reference: Outputs | None,
    labels: np.ndarray | None,
    how: Judging,
    reference_scores: Mapping[str, Score] | None = None,
    limits: WorkerLimits = LIMITS,
) -> Quality:
    """Score all outputs of an evaluation.

    Args:
        outputs: by name, ``[items, ...]``.
        reference: the float32 reference's; None if this is the reference.
        labels: in the form that the task has in ``TASKS``, or None.
        reference_scores: ``find_scores`` of the reference, to share between many evaluations: a
            detector's take as long as all the rest. None: computed here.
        limits: of a decoder that another package provides.

    Raises:
        NotFinite: outputs hold NaN or infinity.
        ValueError: an output that is judged is missing, or they do not fit the labels or the
            reference.
    """
    for name in (how.scores, how.output):
        if name is not None and name not in outputs:
            raise ValueError(f"there is no output '{name}' to be judged, only {', '.join(outputs)}")
    for name, array in outputs.items():
        if array.dtype.kind != "f":
            continue
        bad = int(np.sum(~np.isfinite(array).reshape(len(array), -1).all(1)))
        if bad:
            raise NotFinite(f"output '{name}' holds NaN or infinity in {bad} of {len(array)} items")
    items = len(next(iter(outputs.values())))
    fields: dict[str, Any] = {"items": items, "outputs_digest": digest_outputs(outputs)}
    if reference is not None:
        fields |= _against(outputs, reference, how)
    scores = find_scores(outputs, labels, how, limits)
    if scores is not None:
        if reference is not None and reference_scores is None:
            reference_scores = find_scores(reference, labels, how, limits)
        fields |= _accuracy(scores, None if reference is None else reference_scores, how)
        fields |= _guesses(outputs, labels, how)
    return Quality.model_validate(fields)


def find_scores(
    outputs: Outputs, labels: np.ndarray | None, how: Judging, limits: WorkerLimits = LIMITS
) -> dict[str, Score] | None:
    """Scores of the outputs by all metrics of the task; None if there are no labels, or the task
    does not use them.

    Raises:
        ValueError: outputs and labels do not fit.
    """
    if labels is None or how.metric is None:
        return None
    return _scores(outputs, labels, how, limits)


def _against(outputs: Outputs, reference: Outputs, how: Judging) -> dict[str, Any]:
    reference, outputs = _of_equal_rows(reference, outputs, how.ragged)
    fidelity = compare(reference, outputs)
    ours, theirs = _classes(outputs, how), _classes(reference, how)
    return {
        "fidelity": fidelity,
        "sqnr_db": _worst(one.sqnr_db for one in fidelity.values()),
        "cosine": _worst(one.cosine for one in fidelity.values()),
        "equal_values": _worst(one.equal for one in fidelity.values()),
        "max_abs_difference": max(one.max_abs_difference for one in fidelity.values()),
        "agreement": None
        if ours is None or theirs is None
        else float(np.equal(ours, theirs).mean()),
    }


def _of_equal_rows(
    reference: Outputs, outputs: Outputs, ragged: Iterable[str]
) -> tuple[Outputs, Outputs]:
    """Both with zeros for the rows that only the other has, of outputs named in ``ragged``."""
    ours, theirs = dict(outputs), dict(reference)
    for name in ragged:
        if name in ours and name in theirs and ours[name].ndim == theirs[name].ndim:
            theirs[name], ours[name] = of_equal_rows(theirs[name], ours[name])
    return theirs, ours


def _worst(values: Iterable[float | None]) -> float | None:
    return min((value for value in values if value is not None), default=None)


def _accuracy(
    scores: Mapping[str, Score], reference: Mapping[str, Score] | None, how: Judging
) -> dict[str, Any]:
    assert how.metric is not None
    if how.metric not in scores:
        raise ValueError(
            f"there is no {how.metric} here: {how.task} has {', '.join(scores) or 'no metric'}"
        )
    estimates = {name: score.estimate() for name, score in scores.items()}
    value, low, high = estimates[how.metric]
    fields: dict[str, Any] = {
        "metric": how.metric,
        "accuracy": value,
        "accuracy_low": low,
        "accuracy_high": high,
        "metrics": {name: Metric(**one._asdict()) for name, one in estimates.items()},
    }
    if reference is not None:
        base: Any = reference[how.metric]  # of the same kind
        difference = scores[how.metric].less(base)
        value, low, high = difference.estimate
        fields |= {
            "accuracy_delta": value,
            "accuracy_delta_low": low,
            "accuracy_delta_high": high,
            "accuracy_delta_p": difference.p,
            "items_needed": difference.items_needed,
        }
    return fields


def _guesses(outputs: Outputs, labels: np.ndarray | None, how: Judging) -> dict[str, Any]:
    """The fields of ``Quality`` that say how well guessing does."""
    if how.task == "semantic-segmentation":
        return {"classes": how.classes}
    if labels is None or not TASKS[how.task].classifies:
        return {}
    shares = np.bincount(labels) / len(labels)
    top = 5 if how.metric == "top5" else 1
    constant = None if how.metric == "f1" else float(np.sort(shares)[-top:].sum())
    return {"classes": _class_scores(outputs, how).shape[1], "constant": constant}


# --------------------------------------------------------------------------- by task


def _scores(
    outputs: Outputs, labels: np.ndarray, how: Judging, limits: WorkerLimits
) -> dict[str, Score]:
    """All metrics of the task."""
    _check_form(outputs, labels, how)
    if TASKS[how.task].classifies:
        return _of_classes(_class_scores(outputs, how), labels, how)
    if how.task == "object-detection" and how.decoder is not None:
        found = how.decoder.decode(outputs, limits.evaluate_timeout_s, limits.memory_bytes)
        highest = max((float(one[:, 0].max(initial=0)) for one in found), default=0)
        if how.classes is not None and highest >= how.classes:
            raise ValueError(
                f"decoder {how.decoder.name} gives class {highest:.0f}, but the data set has "
                f"{how.classes} classes"
            )
        return dict(mean_average_precision(found, labels))
    if how.output is None:
        raise ValueError(f"the card does not say which output the labels of {how.task} are for")
    if how.task == "semantic-segmentation":
        return {"mIoU": _of_pixels(outputs, labels, how)}
    if how.task == "anomaly-detection":
        return {"auc": metrics.auc(answers.anomaly_scores(outputs, how.output), labels)}
    embeddings = outputs[how.output].reshape(len(outputs[how.output]), -1)
    return {"spearman": metrics.spearman(embeddings, labels)}


_FORMS = {
    "classes": ("iu", 1, "whole numbers [items]"),
    "boxes": ("f", 2, "boxes [n, 6] of item, class and corners"),
    "masks": ("u", 3, "masks [items, height, width]"),
    "scores": ("f", 1, "one similarity for each pair of items"),
}


def _check_form(outputs: Outputs, labels: np.ndarray, how: Judging) -> None:
    """
    Raises:
        ValueError: the labels have another form than the task needs, or are of other items.
    """
    items = len(next(iter(outputs.values())))
    kind = TASKS[how.task].labels
    if kind is None:
        raise ValueError(f"the task {how.task} uses no labels")
    letters, axes, words = _FORMS[kind]
    if labels.dtype.kind not in letters or labels.ndim != axes:
        raise ValueError(
            f"{how.task} needs {words} as labels, and not {labels.dtype} {list(labels.shape)}"
        )
    if kind == "boxes":
        if labels.shape[1] != 6 or not np.isfinite(labels).all():
            raise ValueError(f"{how.task} needs {words} as labels, all of them finite")
        outside = labels[(labels[:, 0] < 0) | (labels[:, 0] >= items)]
        if len(outside):
            raise ValueError(f"a box is of item {outside[0, 0]:.0f}, but there are {items} items")
        return
    if kind == "scores" and (items % 2 or not np.isfinite(labels).all()):
        raise ValueError(f"{items} items make no pairs, or a similarity is not finite")
    wanted = items // 2 if kind == "scores" else items
    if len(labels) != wanted:
        raise ValueError(f"{items} outputs for {len(labels)} labels")


def _class_scores(outputs: Outputs, how: Judging) -> np.ndarray:
    """``[items, classes]`` without the background."""
    if how.scores is None:
        raise ValueError(f"the card does not say which output holds the scores of {how.task}")
    return answers.class_scores(outputs, how.scores, how.background)


def _of_classes(scores: np.ndarray, labels: np.ndarray, how: Judging) -> dict[str, Score]:
    classes = scores.shape[1]
    if labels.min(initial=0) < 0 or labels.max(initial=0) >= classes:
        worst = labels.min() if labels.min() < 0 else labels.max()
        raise ValueError(f"a label is {worst}, but the model has only {classes} classes")
    if how.classes is not None and how.classes != classes:
        raise ValueError(
            f"the data set has {how.classes} classes, the model {classes}: set 'background' in "
            "its card if its first classes are background"
        )
    if how.task == "text-classification":
        predicted = scores.argmax(axis=1)
        return {
            "accuracy": Share(predicted == labels),
            "f1": metrics.macro_f1(predicted, labels, classes),
        }
    found: dict[str, Score] = {"top1": metrics.top_k(scores, labels, 1)}
    if "top5" in TASKS[how.task].metrics and classes > 5:
        found["top5"] = metrics.top_k(scores, labels, 5)
    return found


def _of_pixels(outputs: Outputs, masks: np.ndarray, how: Judging) -> Statistic:
    assert how.output is not None
    predicted, classes = answers.pixel_classes(outputs, how.output, how.class_axis)
    if predicted.shape != masks.shape:
        raise ValueError(
            f"output '{how.output}' has pixels {list(predicted.shape)}, the masks have "
            f"{list(masks.shape)}: check the output's layout, and the size that masks are given"
        )
    classes = classes or how.classes or int(max(predicted.max(), masks[masks < 255].max())) + 1
    if predicted.max(initial=0) >= classes or predicted.min(initial=0) < 0:
        raise ValueError(
            f"output '{how.output}' holds classes outside 0..{classes - 1}: check "
            "the number of classes and the output's layout in the card"
        )
    return metrics.mean_iou(predicted, masks, classes)


def _classes(outputs: Outputs, how: Judging) -> np.ndarray | None:
    """The top class of each item, or of each pixel; None if the task has no classes."""
    if how.scores is not None:
        return _class_scores(outputs, how).argmax(axis=1)
    if how.task == "semantic-segmentation" and how.output is not None:
        return answers.pixel_classes(outputs, how.output, how.class_axis).classes
    return None


def digest_outputs(outputs: Outputs) -> str:
    """SHA-256 over names, dtypes, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(outputs):
        array = np.ascontiguousarray(outputs[name])
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
