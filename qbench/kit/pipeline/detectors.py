"""Decode a detector's raw outputs to boxes: the built-in decoders, and non-maximum suppression.

``qbench.spec.decoders`` documents how a card names a decoder, and the interface of decoders in
other packages. The decoders here need all their options.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

Outputs = Mapping[str, np.ndarray]
Options = Mapping[str, Any]


def ssd(outputs: Outputs, options: Options) -> list[np.ndarray]:
    """Decode a detector with built-in suppression, such as TFLite's ``Detection_PostProcess``.
    Outputs: ``boxes [N, n, 4]`` of y1, x1, y2, x2 as fractions, ``classes [N, n]``,
    ``scores [N, n]``, ``count [N]``."""
    wanted = ("boxes", "classes", "scores", "count")
    if set(outputs) != set(wanted):
        raise ValueError(f"its outputs are {', '.join(wanted)}, the card's {', '.join(outputs)}")
    boxes = outputs["boxes"].astype(np.float64).reshape(len(outputs["boxes"]), -1, 4)
    classes = np.rint(outputs["classes"].reshape(len(boxes), -1)).astype(np.int64)
    scores = outputs["scores"].reshape(len(boxes), -1)
    present = np.arange(boxes.shape[1]) < outputs["count"].reshape(len(boxes), 1)
    class_map = options["class_map"]
    if class_map is not None:
        if classes[present].max(initial=0) >= len(class_map) or (classes[present] < 0).any():
            raise ValueError(f"class_map has {len(class_map)} entries, too few")
        known = np.asarray(class_map)
        classes = known[np.clip(classes, 0, len(known) - 1)]
        present &= classes >= 0
    found = np.concatenate(
        [classes[..., None], scores[..., None], np.clip(boxes[..., [1, 0, 3, 2]], 0, 1)], axis=2
    )
    return [one[some] for one, some in zip(found, present, strict=True)]


def fastestdet(outputs: Outputs, options: Options) -> list[np.ndarray]:
    """Decode FastestDet's anchor-free head, one output ``[N, 5 + classes, rows, columns]``:
    objectness, tx, ty, w, h, classes. Score ``obj^0.6 cls^0.4``; centre ``(cell + tanh t) /
    cells``;
    size by the logistic function (its ``example/onnx-runtime/runtime.cpp``)."""
    head = _only(outputs, 4)
    rows, columns = head.shape[2:]
    score = np.maximum(head[:, 0], 0) ** 0.6 * np.maximum(head[:, 5:].max(axis=1), 0) ** 0.4
    x = (np.arange(columns) + np.tanh(head[:, 1])) / columns
    y = (np.arange(rows)[:, None] + np.tanh(head[:, 2])) / rows
    sizes = (1 + np.tanh(head[:, 3:5] / 2)) / 2  # the logistic function, without overflow
    found = [head[:, 5:].argmax(axis=1), score, x, y, sizes[:, 0], sizes[:, 1]]
    return _suppressed(np.stack(found, axis=-1).reshape(len(head), -1, 6), options)


def yolo(outputs: Outputs, options: Options) -> list[np.ndarray]:
    """Decode YOLO's exported head, one output of ``x, y, w, h`` (centre and size), optional
    objectness, and classes; each box has the class of its highest score."""
    head = _only(outputs, 3)
    if options["anchors_last"]:
        head = head.transpose(0, 2, 1)
    first = 5 if options["objectness"] else 4
    if head.shape[2] <= first:
        raise ValueError(
            f"[items, anchors, {head.shape[2]}] has no values for classes: check the options "
            "anchors_last and objectness"
        )
    height, width = options["size"] or (1, 1)
    classes = head[..., first:]
    score = classes.max(axis=2) * (head[..., 4] if options["objectness"] else 1)
    boxes = head[..., :4] / np.array([width, height, width, height])
    found = np.concatenate([classes.argmax(axis=2)[..., None], score[..., None], boxes], axis=2)
    return _suppressed(found, options)


def _only(outputs: Outputs, axes: int) -> np.ndarray:
    if len(outputs) != 1:
        raise ValueError(f"it takes one output, the card has {', '.join(outputs)}")
    ((name, head),) = outputs.items()
    if head.ndim != axes:
        raise ValueError(f"output '{name}' has {head.ndim} axes, not {axes}")
    return head.astype(np.float64)


def _suppressed(found: np.ndarray, options: Options) -> list[np.ndarray]:
    """Suppress detections ``[items, n, 6]`` of class, score, centre and size; return them with
    clipped corners."""
    centre, half = found[..., 2:4], found[..., 4:6] / 2
    found = np.concatenate([found[..., :2], centre - half, centre + half], axis=2)
    kept = []
    for one in found:
        one = non_maximum_suppression(one[one[:, 1] > options["score"]], options["overlap"])
        kept.append(np.concatenate([one[:, :2], np.clip(one[:, 2:], 0, 1)], axis=1))
    return kept


def non_maximum_suppression(detections: np.ndarray, overlap: float, most: int = 1000) -> np.ndarray:
    """Suppress greedily within each class: of two boxes that overlap by more than ``overlap``,
    remove the one with the lower score.

    Args:
        detections: ``[n, 6]`` of class, score, x1, y1, x2, y2.
        most: maximum number of candidates, by score.

    Returns:
        The remaining detections, the highest scores first.
    """
    order = np.argsort(-detections[:, 1], kind="stable")[:most]
    found = detections[order]
    stays = np.ones(len(found), bool)
    for kind in np.unique(found[:, 0]):
        rivals = np.flatnonzero(found[:, 0] == kind)
        boxes = found[rivals, 2:]
        over = intersection_over_union(boxes, boxes) > overlap
        for index, place in enumerate(rivals):
            if stays[place]:
                stays[rivals[index + 1 :][over[index, index + 1 :]]] = False
    return found[stays]


def intersection_over_union(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return ``[n, m]`` overlaps of boxes ``[n, 4]`` and ``[m, 4]`` of x1, y1, x2, y2; 0 for two
    empty boxes."""
    shared = np.ones((len(a), len(b)))
    for low, high in ((0, 2), (1, 3)):
        start = np.maximum(a[:, None, low], b[:, low])
        shared *= np.maximum(np.minimum(a[:, None, high], b[:, high]) - start, 0)
    areas = [np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1) for boxes in (a, b)]
    union = areas[0][:, None] + areas[1] - shared
    return shared / np.where(union == 0, 1, union)
