"""Check the labels of the chosen items, and convert them for the metrics.

``labels.npy`` holds, by the card's ``truth``:

- classes: int64 ``[items]``
- boxes: float32 ``[boxes, 6]`` of item (its position among the chosen ones), class, x1, y1, x2, y2;
  corners are fractions (0..1) of the width and height of the preprocessed picture, which differs
  from the stored one by the edges of a letterbox
- masks: uint8 ``[items, height, width]``, 255 for pixels that do not count; resized and cropped
  like the pictures
- scores: float32 ``[pairs]``, of items 2k and 2k+1
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qbench.data.apply import apply_to_boxes, apply_to_mask
from qbench.data.readers import Reader
from qbench.spec.datasets import IGNORE
from qbench.spec.preprocess import Steps, moves_pixels


def make_labels(
    reader: Reader, chosen: Sequence[int], steps: Steps, sizes: Sequence[tuple[int, ...]]
) -> np.ndarray:
    """Return the labels of the items ``chosen``.

    Args:
        steps: preprocessing of the pictures, which boxes and masks follow.
        sizes: stored shape of each chosen item; used if the steps move pixels.

    Raises:
        UserError: a label is out of range, or does not fit its item.
    """
    make = {"classes": _classes, "boxes": _boxes, "masks": _masks, "scores": _scores}
    return make[reader.card.truth](reader, chosen, steps, sizes)


def _check_class(reader: Reader, low: int, high: int, index: int) -> None:
    """Reject classes beyond the number of classes in the card or the files."""
    classes = reader.card.classes or reader.classes
    top = np.iinfo(np.int64).max if classes is None else classes - 1
    bad = low if low < 0 else high
    if not 0 <= low <= high <= top:
        most = "" if classes is None else top
        raise reader.error(f"{reader.title(index)}: label {bad} is outside 0..{most}")


def _classes(
    reader: Reader, chosen: Sequence[int], steps: Steps, sizes: Sequence[tuple[int, ...]]
) -> np.ndarray:
    labels = []
    for index in chosen:
        label = int(reader.label(index))
        _check_class(reader, label, label, index)
        labels.append(label)
    return np.asarray(labels, np.int64)


def _scores(
    reader: Reader, chosen: Sequence[int], steps: Steps, sizes: Sequence[tuple[int, ...]]
) -> np.ndarray:
    labels = np.asarray([reader.label(index) for index in chosen[::2]], np.float32)
    bad = np.flatnonzero(~np.isfinite(labels))
    if len(bad):
        raise reader.error(f"{reader.title(chosen[2 * int(bad[0])])}: its score is not a number")
    return labels


def _boxes(
    reader: Reader, chosen: Sequence[int], steps: Steps, sizes: Sequence[tuple[int, ...]]
) -> np.ndarray:
    moved = moves_pixels(steps)
    parts = [np.empty((0, 6), np.float32)]
    for place, index in enumerate(chosen):
        boxes = np.asarray(reader.label(index), np.float64)
        corners = boxes[:, 1:]
        in_order = (corners[:, :2] <= corners[:, 2:]).all()
        if not (in_order and (corners >= 0).all() and (corners <= 1).all()):  # so is NaN
            raise reader.error(
                f"{reader.title(index)}: a box is not x1 <= x2, y1 <= y2 with fractions in 0..1",
                "Boxes in pixels have to be divided by the picture's width and height.",
            )
        if len(boxes) == 0:
            continue
        if (boxes[:, 0] != np.rint(boxes[:, 0])).any():
            raise reader.error(f"{reader.title(index)}: the class of a box is not an integer")
        _check_class(reader, int(boxes[:, 0].min()), int(boxes[:, 0].max()), index)
        if moved:
            height, width = sizes[place][:2]
            corners = apply_to_boxes(steps, corners, height, width)
        items = np.full((len(boxes), 1), place)
        parts.append(np.hstack([items, boxes[:, :1], corners]).astype(np.float32))
    return np.concatenate(parts)


def _masks(
    reader: Reader, chosen: Sequence[int], steps: Steps, sizes: Sequence[tuple[int, ...]]
) -> np.ndarray:
    masks: list[np.ndarray] = []
    for place, index in enumerate(chosen):
        mask = np.asarray(reader.label(index))
        counted = mask[mask != IGNORE]
        if counted.size:
            _check_class(reader, int(counted.min()), int(counted.max()), index)
            if counted.max() > IGNORE:
                raise reader.error(f"{reader.title(index)}: a mask holds classes up to {IGNORE}")
        mask = mask.astype(np.uint8)
        if moves_pixels(steps):
            if mask.shape != tuple(sizes[place][:2]):
                raise reader.error(
                    f"{reader.title(index)}: its mask is {mask.shape[1]}x{mask.shape[0]} pixels, "
                    f"the picture {sizes[place][1]}x{sizes[place][0]}"
                )
            mask = apply_to_mask(steps, mask)
        if masks and mask.shape != masks[0].shape:
            raise reader.error(
                f"masks of different shapes, {list(masks[0].shape)} and {list(mask.shape)}",
                "Add a resize to the model's 'preprocess', which gives them one shape.",
            )
        masks.append(mask)
    return np.stack(masks)
