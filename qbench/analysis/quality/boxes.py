"""COCO's mean average precision of boxes."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qbench.analysis.quality.scores import Statistic

MAX_DETECTIONS = 100
"""Detections of one class in one picture that count, the highest scores first (COCO's
``maxDets``)."""
THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""Minimum overlaps at which a detection is a hit."""
_RECALLS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True)
class _Matched:
    """The detections of one class, the highest scores first.

    Attributes:
        item: ``[n]`` picture of each.
        hit: ``[thresholds, n]`` whether each is a hit.
        truths: ``[items]`` number of objects of the class in each picture.
    """

    item: np.ndarray
    hit: np.ndarray
    truths: np.ndarray


def mean_average_precision(
    detections: Sequence[np.ndarray], truths: np.ndarray
) -> dict[str, Statistic]:
    """mAP50 and mAP50-95 as COCO defines them, over objects of all sizes: matching by
    pycocotools; classes without any object are left out.

    Boxes may be given as shares of width and height, since their overlap does not depend on the
    unit of either axis.

    Args:
        detections: for each item ``[n, 6]`` of class, score, x1, y1, x2, y2.
        truths: ``[boxes, 6]`` of item, class, x1, y1, x2, y2.

    Raises:
        ValueError: there is no object at all.
    """
    if not len(truths):
        raise ValueError("the labels hold no box: mAP needs objects to be found")
    matched = _match(detections, truths)

    def figure(thresholds: int) -> Statistic:
        def statistic(counts: np.ndarray) -> np.ndarray:
            return _mean_over_classes(matched, counts, thresholds)

        one = np.ones((1, len(detections)), np.int64)
        return Statistic(float(statistic(one)[0]), statistic, len(detections))

    return {"mAP50": figure(1), "mAP50-95": figure(len(THRESHOLDS))}


def _match(detections: Sequence[np.ndarray], truths: np.ndarray) -> list[_Matched]:
    """For every class that has objects."""
    from pycocotools.cocoeval import COCOeval

    # evaluate() prints and wants JSON-like data sets; the methods below are its loop's body
    coco: Any = COCOeval(iouType="bbox")
    coco._gts, coco._dts = defaultdict(list), defaultdict(list)
    for number, (item, kind, *box) in enumerate(truths.astype(np.float64).tolist(), 1):
        coco._gts[int(item), int(kind)].append(_coco(number, box, ignore=0, iscrowd=0))
    number = 0
    for item, found in enumerate(detections):
        for kind, score, *box in found.astype(np.float64).tolist():
            number += 1
            coco._dts[item, int(kind)].append(_coco(number, box, score=score))
    matched: list[_Matched] = []
    for kind in np.unique(truths[:, 1]).astype(int).tolist():
        items: list[int] = []
        scores: list[float] = []
        hits: list[np.ndarray] = []
        counts = np.zeros(len(detections))
        for item in range(len(detections)):
            key = (item, kind)
            counts[item] = len(coco._gts.get(key, ()))
            if key not in coco._dts:
                continue
            coco.ious = {key: coco.computeIoU(*key)}
            result = coco.evaluateImg(*key, (0, 1e10), MAX_DETECTIONS)
            scores += result["dtScores"]
            hits.append(result["dtMatches"] > 0)
            items += [item] * len(result["dtScores"])
        order = np.argsort(-np.asarray(scores), kind="stable")
        hit = np.concatenate([np.zeros((len(THRESHOLDS), 0), bool), *hits], axis=1)
        matched.append(_Matched(np.asarray(items, int)[order], hit[:, order], counts))
    return matched


def _coco(number: int, box: list[float], **more: float) -> dict[str, Any]:
    x1, y1, x2, y2 = box
    width, height = max(x2 - x1, 0.0), max(y2 - y1, 0.0)
    return {"id": number, "bbox": [x1, y1, width, height], "area": width * height, **more}


def _mean_over_classes(
    matched: Sequence[_Matched], counts: np.ndarray, thresholds: int
) -> np.ndarray:
    """``[resamples]``: the mean over the first thresholds and the classes that have objects."""
    total, classes = np.zeros(len(counts)), np.zeros(len(counts))
    for one in matched:
        objects = counts @ one.truths
        total += _average_precision(one, counts, objects, thresholds)
        classes += objects > 0
    return np.where(classes == 0, np.nan, total / np.maximum(classes, 1))


def _average_precision(
    one: _Matched, counts: np.ndarray, objects: np.ndarray, thresholds: int
) -> np.ndarray:
    """``[resamples]``: mean over 101 recalls of the best precision at that recall or above, as in
    ``COCOeval.accumulate``; 0 for a class without objects.

    Precision only falls between two hits, so that only the hits have to be looked at. A picture
    that counts twice has its detections twice, one after the other: what lies between the two
    is not above both.
    """
    some = one.hit.any(axis=0)
    if not some.any():
        return np.zeros(len(counts))
    weights = counts[:, one.item]
    seen = np.maximum(np.cumsum(weights, axis=1)[:, some], 1)
    weights = weights[:, some]
    result = np.zeros(len(counts))
    for hit in one.hit[:thresholds, some]:
        found = np.cumsum(weights * hit, axis=1)
        best = np.maximum.accumulate((found / seen)[:, ::-1], axis=1)[:, ::-1]
        reached = np.searchsorted(_RECALLS, found / np.maximum(objects, 1)[:, None], side="right")
        result += (best * np.diff(reached, axis=1, prepend=0)).sum(axis=1)
    return result / (thresholds * len(_RECALLS)) * (objects > 0)
