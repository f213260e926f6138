"""Statistics over trials. Pure functions of arrays; the trial (one process) is the unit."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

MIN_ROUNDS = 6
"""Below so many trials no interval is given: it would be as wide as it is wrong."""
CONFIDENCE = 0.95


class Estimate(NamedTuple):
    """A value with its interval; ``low`` and ``high`` are None where there are too few trials."""

    value: float
    low: float | None
    high: float | None


def geometric_mean(values: np.ndarray) -> Estimate:
    """Geometric mean of positive values, one for each trial, with a t-interval on the logarithms.

    Latencies vary by factors, and so the ratio of two such means is the mean of the paired
    ratios (Fleming & Wallace, CACM 1986): what is published and what is divided agree.
    """
    logs = np.log(np.asarray(values, dtype=np.float64))
    mean = float(logs.mean())
    half = _t_half_width(logs)
    if half is None:
        return Estimate(float(np.exp(mean)), None, None)
    return Estimate(float(np.exp(mean)), float(np.exp(mean - half)), float(np.exp(mean + half)))


def paired_ratio(base: np.ndarray, other: np.ndarray) -> Estimate:
    """``base / other`` by rounds: the exponential of the mean of log ratios, with a t-interval.

    Args:
        base, other: positive values of the same rounds, in the same order.
    """
    return geometric_mean(np.asarray(base, dtype=np.float64) / np.asarray(other, dtype=np.float64))


def _t_half_width(values: np.ndarray) -> float | None:
    if len(values) < MIN_ROUNDS:
        return None
    from scipy import stats  # half a second to import; only needed from here on

    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1))
    return quantile * float(values.std(ddof=1)) / len(values) ** 0.5


def wilson(successes: int, items: int) -> Estimate:
    """A proportion with Wilson's score interval (Wilson, JASA 1927)."""
    share = successes / items
    z = 1.959963984540054
    centre = (share + z * z / (2 * items)) / (1 + z * z / items)
    half = z / (1 + z * z / items) * np.sqrt(share * (1 - share) / items + z * z / (4 * items**2))
    low, high = float(centre - half), float(centre + half)
    # at 0 and 1 an end is the share itself, but for rounding
    return Estimate(share, min(share, max(0.0, low)), max(share, min(1.0, high)))


def paired_difference(other: np.ndarray, base: np.ndarray) -> Estimate:
    """Difference of two proportions on the same items, with an interval for matched pairs.

    Agresti & Min, Statistics in Medicine 2005: Wald's interval after adding one half to each of
    the four cells, cut at -1 and 1. The value itself is the plain difference.

    Args:
        other, base: ``[items]`` booleans, whether each item was right.
    """
    gained = int(np.sum(other & ~base))
    lost = int(np.sum(base & ~other))
    items = len(base)
    b, c, n = gained + 0.5, lost + 0.5, items + 2.0
    centre = (b - c) / n
    half = 1.959963984540054 * float(np.sqrt(b + c - (b - c) ** 2 / n)) / n
    low, high = max(-1.0, centre - half), min(1.0, centre + half)
    return Estimate((gained - lost) / items, low, high)
