"""Postprocess a model's outputs to answers."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Outputs = Mapping[str, np.ndarray]
Decode = Callable[[Outputs, Mapping[str, Any]], Sequence[np.ndarray]]
"""From all items' outputs and the card's options to each item's boxes ``[n, 6]``."""


def reader(how: Mapping[str, Any]) -> Callable[[Outputs], object]:
    """Return a function from outputs, ``[items, ...]`` by canonical name, to the answers.

    Args:
        how: ``kind`` and its options, from ``qbench.spec.judging.Judging.answer``. ``class``: the
        class
            of the highest score (``output``, ``background``); ``pixels``: each pixel's class
            (``output``, ``class_axis``); ``anomaly``: a score (``output``); ``boxes``: the boxes of
            a decoder (``decoder``: ``module:function``, ``options``).
    """
    kind = how["kind"]
    if kind == "class":
        return lambda outputs: class_scores(outputs, how["output"], how["background"]).argmax(1)
    if kind == "pixels":
        return lambda outputs: pixel_classes(outputs, how["output"], how["class_axis"]).classes
    if kind == "anomaly":
        return lambda outputs: anomaly_scores(outputs, how["output"])
    if kind == "boxes":
        decode = find_decoder(how["decoder"])
        return lambda outputs: [
            np.asarray(found, np.float64) for found in decode(outputs, how["options"])
        ]
    raise ValueError(f"there is no answer of the kind {kind}")


def find_decoder(target: str) -> Decode:
    """The function ``module:function``."""
    module, _, name = target.partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def class_scores(outputs: Outputs, name: str, background: int) -> np.ndarray:
    """Return ``[items, classes]`` of the output ``name``, without the leading background classes.

    Raises:
        ValueError: all classes are background.
    """
    array = outputs[name]
    array = array.reshape(len(array), -1)
    if array.shape[1] <= background:
        raise ValueError(
            f"output '{name}' has {array.shape[1]} classes, {background} of them background"
        )
    return array[:, background:]


class PixelClasses(NamedTuple):
    """Classes of pixels, ``[items, height, width]``, and the number of classes if known."""

    classes: np.ndarray
    number: int | None


def pixel_classes(outputs: Outputs, name: str, class_axis: int) -> PixelClasses:
    """Return the class of each pixel. The output holds either classes or, on a further axis, a
    score for each class.

    Raises:
        ValueError: the output has neither 3 nor 4 axes.
    """
    array = outputs[name]
    if array.ndim == 3:
        return PixelClasses(array.astype(np.int64), None)
    if array.ndim != 4:
        raise ValueError(f"output '{name}' has {array.ndim} axes, not 3 or 4")
    return PixelClasses(array.argmax(axis=class_axis), array.shape[class_axis])


def anomaly_scores(outputs: Outputs, name: str) -> np.ndarray:
    """Return ``[items]`` float64: an item's one value, or its second (anomaly) minus its first
    (normal).

    Raises:
        ValueError: an item has more values.
    """
    flat = outputs[name].reshape(len(outputs[name]), -1).astype(np.float64)
    if flat.shape[1] > 2:
        raise ValueError(
            f"output '{name}' holds {flat.shape[1]} values per item, not one anomaly score (or one "
            "for normal and one for anomaly)"
        )
    return flat[:, -1] - flat[:, 0] if flat.shape[1] == 2 else flat[:, 0]
