"""Run the preprocessing steps of a card on items, masks and boxes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from qbench.kit.pipeline import transforms
from qbench.spec.datasets import IGNORE
from qbench.spec.preprocess import CenterCrop, Resize, Steps, as_json


def apply(
    steps: Steps, item: np.ndarray | str, tokenize: Callable[[str], np.ndarray] | None = None
) -> np.ndarray:
    """Run a card's steps on one item; see ``transforms.apply``."""
    return transforms.apply(as_json(steps), item, tokenize)


def apply_to_mask(steps: Steps, mask: np.ndarray) -> np.ndarray:
    """Move a mask with its picture: uint8 [H, W] to [h, w].

    Resizes to the nearest pixel; the fill of a letterbox is 255, which means ignore.
    """
    result = transforms.as_hwc(mask)
    for step in steps:
        match step:
            case Resize(resize=options):
                how = {"interpolation": "nearest", "fill": IGNORE}
                result = transforms.resize(result, {**options.model_dump(), **how})
            case CenterCrop(center_crop=size):
                result = transforms.center_crop(result, size)
    return result[:, :, 0]


def apply_to_boxes(steps: Steps, boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Move boxes with their picture.

    Args:
        boxes: [boxes, 4] of x1, y1, x2, y2 as fractions of a picture of ``height`` x ``width``.

    Returns:
        The same as fractions of the preprocessed picture: only a letterbox changes them.

    Raises:
        ValueError: a crop would cut boxes.
    """
    for step in steps:
        if isinstance(step, CenterCrop):
            raise ValueError("center_crop would cut boxes off: resize the pictures instead")
        if isinstance(step, Resize):
            inner, (height, width), (top, left) = transforms.placed(
                height, width, step.resize.model_dump()
            )
            share = np.array([inner[1] / width, inner[0] / height] * 2)
            boxes = boxes * share + np.array([left / width, top / height] * 2)
    return boxes
