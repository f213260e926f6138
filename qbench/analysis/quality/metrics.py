"""The metrics of all tasks except detection."""

# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false, reportUnknownMemberType=false

from __future__ import annotations

from typing import Any

import numpy as np

from qbench.analysis.quality.scores import Share, Statistic
from qbench.spec.datasets import IGNORE


def top_k(scores: np.ndarray, labels: np.ndarray, k: int) -> Share:
    """Whether an item's class is among its ``k`` highest scores; of equal scores the lower class
    comes first, as in ``argmax``.

    Args:
        scores: ``[items, classes]``.
        labels: ``[items]`` integers.
    """
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    before = scores > own
    before |= (scores == own) & (np.arange(scores.shape[1]) < labels[:, None])
    return Share(before.sum(axis=1) < k)


def macro_f1(predicted: np.ndarray, labels: np.ndarray, classes: int) -> Statistic:
    """The mean of the classes' F1 scores (scikit-learn), of the classes that occur among labels
    or predictions.

    Args:
        predicted, labels: ``[items]`` integers.
    """
    from sklearn.metrics import f1_score

    of_predicted = (predicted[:, None] == np.arange(classes)).astype(np.float64)
    of_labels = (labels[:, None] == np.arange(classes)).astype(np.float64)
    both = of_predicted * of_labels

    def statistic(counts: np.ndarray) -> np.ndarray:
        occurring = counts @ of_predicted + counts @ of_labels
        f1 = 2 * (counts @ both) / np.where(occurring == 0, 1, occurring)
        return f1.sum(axis=1) / (occurring > 0).sum(axis=1)

    value = f1_score(labels, predicted, average="macro", zero_division=0)  # pyright: ignore[reportArgumentType]
    return Statistic(float(value), statistic, len(labels))


def auc(scores: np.ndarray, labels: np.ndarray) -> Statistic:
    """Area under the ROC curve (scikit-learn): how likely an anomaly scores above a normal item,
    ties counting half.

    Args:
        scores: ``[items]``, higher for anomalies.
        labels: ``[items]``, 1 for anomalies and 0 for the others.

    Raises:
        ValueError: only one of the two occurs.
    """
    from sklearn.metrics import roc_auc_score

    if not set(np.unique(labels)) <= {0, 1}:
        raise ValueError("labels of anomaly-detection are 0 (normal) and 1 (anomaly)")
    for value, kind in ((0, "normal item"), (1, "anomaly")):
        if not (labels == value).any():
            raise ValueError(
                f"there is no {kind} (label {value}) among the items: AUC needs both kinds"
            )
    order, starts = _groups(scores)
    anomaly = labels[order] == 1

    def statistic(counts: np.ndarray) -> np.ndarray:
        ranked = counts[:, order]
        anomalies = np.add.reduceat(ranked * anomaly, starts, axis=1)
        normal = np.add.reduceat(ranked * ~anomaly, starts, axis=1)
        below = np.cumsum(normal, axis=1) - normal
        pairs = anomalies.sum(axis=1) * normal.sum(axis=1)
        won = (anomalies * (below + normal / 2)).sum(axis=1)
        return np.where(pairs == 0, np.nan, won / np.where(pairs == 0, 1, pairs))

    return Statistic(float(roc_auc_score(labels, scores)), statistic, len(labels))


def mean_iou(predicted: np.ndarray, masks: np.ndarray, classes: int) -> Statistic:
    """Mean over classes of intersection over union, both counted over the pixels of all items;
    classes that occur neither in masks nor in predictions are left out.

    Args:
        predicted: ``[items, height, width]`` classes.
        masks: the same, and ``IGNORE`` where nothing is counted.

    Raises:
        ValueError: a mask holds a class that the model does not have, or no pixel counts.
    """
    intersection, union = np.zeros((2, len(masks), classes))
    for item, (mine, truth) in enumerate(zip(predicted, masks, strict=True)):
        counted = truth != IGNORE
        mine, truth = mine[counted].astype(np.int64), truth[counted].astype(np.int64)
        if truth.max(initial=0) >= classes:
            raise ValueError(f"a mask holds {truth.max()}, but the model has {classes} classes")
        intersection[item] = np.bincount(truth[mine == truth], minlength=classes)
        areas = np.bincount(mine, minlength=classes) + np.bincount(truth, minlength=classes)
        union[item] = areas - intersection[item]
    if not union.any():
        raise ValueError(f"every pixel of the masks is {IGNORE}, which is not counted")

    def statistic(counts: np.ndarray) -> np.ndarray:
        seen = counts @ union
        shares = (counts @ intersection) / np.where(seen == 0, 1, seen)
        occurring = (seen > 0).sum(axis=1)
        return np.where(occurring == 0, np.nan, shares.sum(axis=1) / np.maximum(occurring, 1))

    value = float(statistic(np.ones((1, len(masks)), np.int64))[0])
    return Statistic(value, statistic, len(masks))


def spearman(embeddings: np.ndarray, similarity: np.ndarray) -> Statistic:
    """Rank correlation (SciPy) of given similarities with the cosine between the two embeddings
    of each pair; 0 where all cosines are equal.

    Args:
        embeddings: ``[items, size]``; the items 2k and 2k + 1 make pair k.
        similarity: ``[pairs]``.

    Raises:
        ValueError: all given similarities are equal.
    """
    from scipy.stats import spearmanr

    if (similarity == similarity[0]).all():
        raise ValueError("all pairs are given the same similarity: there is nothing to rank")
    cosines = _pair_cosines(embeddings)
    of_cosines, of_given = _groups(cosines), _groups(similarity)

    def statistic(counts: np.ndarray) -> np.ndarray:
        total = counts.sum(axis=1, keepdims=True)
        x, y = (_ranks(counts, *groups) for groups in (of_cosines, of_given))
        x, y = (ranks - (total + 1) / 2 for ranks in (x, y))  # their mean
        spread = np.sqrt((counts * x * x).sum(axis=1) * (counts * y * y).sum(axis=1))
        return np.where(
            spread == 0, np.nan, (counts * x * y).sum(axis=1) / np.where(spread == 0, 1, spread)
        )

    if (cosines == cosines[0]).all():
        return Statistic(0.0, lambda counts: np.zeros(len(counts)), len(similarity))
    result: Any = spearmanr(cosines, similarity)
    return Statistic(float(result.statistic), statistic, len(similarity))


def _pair_cosines(embeddings: np.ndarray) -> np.ndarray:
    """Cosines ``[items / 2]``; 0 where a vector is zero. Rounded, so that vectors of the same
    direction and different lengths tie."""
    wide = embeddings.astype(np.float64)
    largest = np.abs(wide).max(axis=1, keepdims=True)
    wide /= np.where(largest == 0, 1, largest)  # the squares of very small numbers would be 0
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    unit = wide / np.where(norms == 0, 1, norms)
    return np.round((unit[0::2] * unit[1::2]).sum(axis=1), 12)


def _groups(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The order of ``values``, and where in it each run of equal values starts."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    return order, np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])


def _ranks(counts: np.ndarray, order: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """``[resamples, items]`` ranks from 1, equal values sharing the mean of theirs, where each
    item counts ``counts`` times."""
    sizes = np.add.reduceat(counts[:, order], starts, axis=1)
    means = np.cumsum(sizes, axis=1) - (sizes - 1) / 2
    ranks = np.empty(counts.shape)
    ranks[:, order] = np.repeat(means, np.diff(np.r_[starts, len(order)]), axis=1)
    return ranks
