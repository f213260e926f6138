"""Statistics over trials, where the trial (one process) is the unit, and over evaluated items. Pure
functions of arrays."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np

from qbench.spec.suite import MIN_ROUNDS

CONFIDENCE = 0.95
Z = 1.959963984540054
"""The normal distribution's 97.5 % point."""


class Estimate(NamedTuple):
    """A value with its interval; ``low`` and ``high`` are None where there are too few
    trials or items."""

    value: float
    low: float | None
    high: float | None


def geometric_mean(values: np.ndarray) -> Estimate:
    """Geometric mean of positive values, one for each trial, with a t-interval on the logarithms.

    Latencies vary by factors, and so the ratio of two such means is the mean of the paired
    ratios (Fleming & Wallace, CACM 1986): published means and ratios agree.
    """
    (estimate,) = geometric_means(np.asarray(values, dtype=np.float64), np.zeros(1, int))
    return estimate


def geometric_means(values: np.ndarray, starts: np.ndarray) -> list[Estimate]:
    """``geometric_mean`` of many groups at once; all NaN for a group with a NaN.

    Args:
        values: ``[values]`` positive, group by group.
        starts: ``[groups]``, where each group begins.
    """
    if not len(starts):
        return []
    sizes, means, variances = moments(np.log(values), starts)
    quantiles = np.array([_t_quantile(n - 1) if n >= MIN_ROUNDS else np.nan for n in sizes])
    with np.errstate(invalid="ignore"):
        halves = quantiles * np.sqrt(variances) / np.sqrt(sizes)
    ends = np.exp([means, means - halves, means + halves]).T.tolist()
    return [
        Estimate(value, low, high) if size >= MIN_ROUNDS else Estimate(value, None, None)
        for (value, low, high), size in zip(ends, sizes.tolist(), strict=True)
    ]


def moments(values: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Size, mean and variance of each group, ``[groups]`` (``ddof`` 1; NaN for one value).

    Args:
        values, starts: as ``geometric_means`` takes them; at least one group.
    """
    sizes = np.diff(np.append(starts, len(values)))
    means = np.add.reduceat(values, starts) / sizes
    squares = np.add.reduceat((values - np.repeat(means, sizes)) ** 2, starts)
    with np.errstate(invalid="ignore", divide="ignore"):
        return sizes, means, squares / (sizes - 1)


def mean(values: np.ndarray) -> Estimate:
    """Arithmetic mean of values, one for each trial, with a t-interval: for differences, which may
    be 0 or less."""
    values = np.asarray(values, dtype=np.float64)
    value, half = float(values.mean()), _t_half_width(values)
    if half is None:
        return Estimate(value, None, None)
    return Estimate(value, value - half, value + half)


def paired_ratio(base: np.ndarray, other: np.ndarray) -> Estimate:
    """``base / other`` by rounds: the exponential of the mean of log ratios, with a t-interval.

    Args:
        base, other: positive values of the same rounds, in the same order.
    """
    return geometric_mean(np.asarray(base, dtype=np.float64) / np.asarray(other, dtype=np.float64))


def half_width(values: np.ndarray) -> float | None:
    """Half the 95 % interval of the geometric mean of positive values, relative to it; None below
    ``MIN_ROUNDS`` values."""
    if len(values) < MIN_ROUNDS:
        return None
    half = _t_half_width(np.log(np.asarray(values, dtype=np.float64)))
    return None if half is None else math.expm1(half)


def _t_half_width(values: np.ndarray) -> float | None:
    if len(values) < MIN_ROUNDS:
        return None
    return _t_quantile(len(values) - 1) * float(values.std(ddof=1)) / len(values) ** 0.5


@cache  # asked for every case after every trial of a run, for a few dozen degrees of freedom
def _t_quantile(degrees: int) -> float:
    from scipy import special  # Student's distribution, without the half second of scipy.stats

    return float(special.stdtrit(degrees, (1 + CONFIDENCE) / 2))


def wilson(successes: int, items: int) -> Estimate:
    """A proportion with Wilson's score interval (Wilson, JASA 1927)."""
    from scipy import stats

    interval = stats.binomtest(successes, items).proportion_ci(CONFIDENCE, method="wilson")
    return Estimate(successes / items, float(interval.low), float(interval.high))


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
    half = Z * float(np.sqrt(b + c - (b - c) ** 2 / n)) / n
    low, high = max(-1.0, centre - half), min(1.0, centre + half)
    return Estimate((gained - lost) / items, low, high)


def mcnemar(other: np.ndarray, base: np.ndarray) -> float:
    """McNemar's exact two-sided p-value: the probability of a split of the discordant items at
    least as uneven, if neither is better (McNemar, Psychometrika 1947; exact binomial form:
    Agresti, Categorical Data Analysis, section 10.1). 1 if there are no discordant items.

    Args:
        other, base: ``[items]`` booleans, whether each item was right.
    """
    from scipy import stats

    gained = int(np.sum(other & ~base))
    changed = gained + int(np.sum(base & ~other))
    return float(stats.binomtest(gained, changed, 0.5).pvalue) if changed else 1.0


def chance_of_as_many(successes: int, items: int, share: float) -> float:
    """Probability of ``successes`` or more in ``items`` draws that each succeed with probability
    ``share``: the p-value of the one-sided exact binomial test."""
    from scipy import stats

    return float(stats.binomtest(successes, items, share, "greater").pvalue)


def disagreement(other: np.ndarray, base: np.ndarray) -> float:
    """Share of items that are right for one of two and wrong for the other, with a half added to
    each of the four cells, as in ``paired_difference``: never 0.

    Args:
        other, base: ``[items]`` booleans, whether each item was right.
    """
    return (int(np.sum(other != base)) + 1) / (len(base) + 2)


def items_needed(disagreement: float, half_width: float) -> int:
    """Number of items for which the interval of a paired difference of shares is ``2 * half_width``
    wide.

    ``z^2 * disagreement / half_width^2``, from the variance of the difference of matched
    proportions, ``(disagreement - difference^2) / items`` (Agresti, Categorical Data Analysis,
    section 10.1), at a difference of 0, where it is greatest.

    Args:
        disagreement: share of items right for one of the two only, above 0 and up to 1.
        half_width: in shares: 0.01 is one point.
    """
    if not 0 < disagreement <= 1 or not half_width > 0:
        raise ValueError(f"no share of items: {disagreement}, or no width: {half_width}")
    return math.ceil(Z * Z * disagreement / half_width**2)


Statistic = Callable[[np.ndarray], np.ndarray]
"""A score of a whole data set, as a function of the number of times each item counts: integers
``[resamples, items]`` to ``[resamples]``, NaN where it is not defined."""

RESAMPLES = 1000
"""Number of resamples, enough for the 2.5 and 97.5 % points (Efron & Tibshirani, An Introduction to
the Bootstrap, section 13.3)."""
MIN_ITEMS = 10
"""Minimum number of items for a bootstrap interval: resamples of fewer hardly differ."""
_SEED = 20251122
_BLOCK = 200_000
"""Number of counts that are drawn at a time, to bound the memory."""


def bootstrap(value: float, statistic: Statistic, items: int) -> Estimate:
    """``value`` with a percentile bootstrap interval over items (Efron 1979).

    The resamples depend on the number of items only: they are the same on every machine.
    """
    return _interval(value, _resampled(items, statistic), items)


def paired_bootstrap(
    other: float, base: float, of_other: Statistic, of_base: Statistic, items: int
) -> Estimate:
    """``other - base`` with a percentile bootstrap interval: both are taken of the same items in
    every resample.

    Args:
        other, base: the two scores.
        of_other, of_base: the same as statistics, of the same items.
    """
    difference = _resampled(items, lambda counts: of_other(counts) - of_base(counts))
    return _interval(other - base, difference, items)


def _resampled(items: int, statistic: Statistic) -> np.ndarray:
    # not default_rng: RandomState's streams are promised to stay (NEP 19), so that an interval
    # can be recomputed with another NumPy
    random = np.random.RandomState(_SEED)
    rows = max(1, _BLOCK // max(items, 1))
    values: list[np.ndarray] = []
    for start in range(0, RESAMPLES, rows):
        chosen = random.randint(0, items, (min(rows, RESAMPLES - start), items))
        offsets = np.arange(len(chosen))[:, None] * items
        counts = np.bincount((chosen + offsets).ravel(), minlength=chosen.size)
        values.append(statistic(counts.reshape(chosen.shape)))
    return np.concatenate(values)


def _interval(value: float, resampled: np.ndarray, items: int) -> Estimate:
    known = resampled[~np.isnan(resampled)]
    if items < MIN_ITEMS or len(known) < RESAMPLES / 2:
        return Estimate(value, None, None)
    tail = (1 - CONFIDENCE) / 2
    low, high = (float(end) for end in np.quantile(known, [tail, 1 - tail]))
    return Estimate(value, min(low, value), max(high, value))
