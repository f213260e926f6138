"""From a model's outputs to what they say of an item."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Outputs = Mapping[str, np.ndarray]


def reader(how: Mapping[str, Any]) -> Callable[[Outputs], object]:
    """A function from outputs, by canonical name ``[items, ...]``, to the answers.

    Args:
        how: ``kind`` and its options, as ``qbench.spec.judging.Judging.answer`` gives them.
        ``class``:
            the greatest score's (``output``, ``background``); ``pixels``: each pixel's class
            (``output``, ``class_axis``); ``anomaly``: a score (``output``); ``boxes``: a decoder's
            (``decoder``: ``module:function``, ``options``).
    """
    kind = how["kind"]
    if kind == "class":
        return lambda outputs: class_scores(outputs, how["output"], how["background"]).argmax(1)
    if kind == "pixels":
        return lambda outputs: pixel_classes(outputs, how["output"], how["class_axis"])[0]
    if kind == "anomaly":
        return lambda outputs: anomaly_scores(outputs, how["output"])
    if kind == "boxes":
        module, _, name = how["decoder"].partition(":")
        decode: Any = importlib.import_module(module)
        for part in name.split("."):
            decode = getattr(decode, part)
        return lambda outputs: [
            np.asarray(found, np.float64) for found in decode(outputs, how["options"])
        ]
    raise ValueError(f"there is no answer of the kind {kind}")


def class_scores(outputs: Outputs, name: str, background: int) -> np.ndarray:
    """``[items, classes]`` of the output ``name``, without the background's leading classes.

    Raises:
        ValueError: it is all background.
    """
    array = outputs[name]
    array = array.reshape(len(array), -1)
    if array.shape[1] <= background:
        raise ValueError(
            f"output '{name}' has {array.shape[1]} classes, {background} of them background"
        )
    return array[:, background:]


def pixel_classes(outputs: Outputs, name: str, class_axis: int) -> tuple[np.ndarray, int | None]:
    """``[items, height, width]`` classes, and how many there are if the output says so: it holds
    either the classes or, on an axis more, a score for each.

    Raises:
        ValueError: it has fewer axes, or more.
    """
    array = outputs[name]
    if array.ndim == 3:
        return array.astype(np.int64), None
    if array.ndim != 4:
        raise ValueError(f"output '{name}' has {array.ndim} axes, and not 3 or 4")
    return array.argmax(axis=class_axis), array.shape[class_axis]


def anomaly_scores(outputs: Outputs, name: str) -> np.ndarray:
    """``[items]``: the one value of an item, or the second less the first (anomaly, normal).

    Raises:
        ValueError: it holds more values.
    """
    flat = outputs[name].reshape(len(outputs[name]), -1).astype(np.float64)
    if flat.shape[1] > 2:
        raise ValueError(
            f"output '{name}' holds {flat.shape[1]} values for an item, where one anomaly score "
            "belongs (or one for normal and one for anomaly)"
        )
    return flat[:, -1] - flat[:, 0] if flat.shape[1] == 2 else flat[:, 0]
