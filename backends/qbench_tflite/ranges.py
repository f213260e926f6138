"""Choose ranges of activations from histograms over the calibration items."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

PERCENTILE = 99.999
"""Default of ONNX Runtime's percentile calibration."""
_BINS = 2048
_CANDIDATES = np.linspace(0.05, 1.0, 96)
_LEVELS = 255  # steps between the minimum and maximum int8


def narrowed(
    reader: Any, items: Iterable[Mapping[int, np.ndarray]], ranges: Mapping[str, Any], method: str
) -> dict[str, Any]:
    """Narrow ``ranges``, so that rare large values do not cost all others precision.

    Args:
        reader: an allocated interpreter that keeps all tensors.
        items: inputs by tensor index, one inference each.
        ranges: by tensor, ``min`` and ``max`` over the same items, arrays of one element.
        method: ``percentile`` or ``mse``; see :func:`percentile` and :func:`least_error`.
    """
    limits = {}
    for name, found in ranges.items():
        low, high = float(np.min(found["min"])), float(np.max(found["max"]))
        if low < high:
            limits[name] = low, high
    tensors = {
        detail["name"]: int(detail["index"])
        for detail in reader.get_tensor_details()
        if detail["name"] in limits
    }
    counts = {name: np.zeros(_BINS) for name in tensors}
    for item in items:
        for index, array in item.items():
            reader.set_tensor(index, array)
        reader.invoke()
        for name, index in tensors.items():
            counts[name] += np.histogram(reader.get_tensor(index), _BINS, limits[name])[0]
    choose = percentile if method == "percentile" else least_error
    result = dict(ranges)
    for name, count in counts.items():
        low, high = choose(count, *limits[name])
        result[name] = {
            **ranges[name],
            "min": np.full_like(ranges[name]["min"], low),
            "max": np.full_like(ranges[name]["max"], high),
        }
    return result


def percentile(counts: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """The range that holds ``PERCENTILE`` per cent of the values, with half of the rest clipped at
    either end (Wu et al. 2020, Integer Quantization for Deep Learning Inference,
    arXiv:2004.09602, section "Calibration").

    Args:
        counts: a histogram of equal bins from ``low`` to ``high``.
    """
    edges = np.linspace(low, high, len(counts) + 1)
    share = np.cumsum(counts) / counts.sum()
    cut = (100 - PERCENTILE) / 200
    first = int(np.searchsorted(share, cut, side="right"))
    last = int(np.searchsorted(share, 1 - cut, side="left"))
    return float(edges[first]), float(edges[min(last, len(counts) - 1) + 1])


def least_error(counts: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """The range with the minimum mean squared error after quantizing to int8 (Nagel et al. 2021, A
    White Paper on Neural Network Quantization, arXiv:2106.08295, section "Quantization range
    setting"). Searches the end of greater magnitude first, then the other.

    Args:
        counts: a histogram of equal bins from ``low`` to ``high``.
    """
    edges = np.linspace(low, high, len(counts) + 1)
    values = (edges[:-1] + edges[1:]) / 2
    used = counts > 0
    values, counts = values[used], counts[used]

    def error(least: float, greatest: float) -> float:
        least, greatest = min(least, 0.0), max(greatest, 0.0)  # zero is always exact
        step = (greatest - least) / _LEVELS
        zero = np.rint(least / step)
        rounded = np.clip(np.rint(values / step), zero, zero + _LEVELS) * step
        return float(np.dot(counts, (rounded - values) ** 2))

    ends = [low, high]
    for side in sorted((0, 1), key=lambda end: -abs(ends[end])):
        tries = []
        for share in _CANDIDATES:
            ends_tried = list(ends)
            ends_tried[side] = ends[side] * share
            tries.append((error(*ends_tried), ends_tried[side]))
        ends[side] = min(tries)[1]
    return ends[0], ends[1]
