"""The trend of one case: its nights, and the changes of their level.

On the logarithms of the nights' figures (accuracies: on the figures themselves): single outliers
are smoothed by a Hampel filter, then ruptures' ``KernelCPD(kernel="linear")`` cuts the series where
the sum of squares gains most, at a penalty of 4 ln n. A change point is a reason to measure both
versions interleaved in one run; it is not a verdict, because two nights see the machine at two
times. ``tests/benchmarks/test_history.py`` measures false alarms and detection.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log

import numpy as np

from qbench.analysis.history.point import METRICS, Metric, Point
from qbench.errors import UserError

HALF_WINDOW, FAR = 5, 3.0
"""Hampel filter: a night that is more than this many standard deviations (by the MAD) from the
median of the nights within ``HALF_WINDOW`` is smoothed. Hampel, JASA 69 (1974); Pearson, IEEE
Trans. Control Systems Technology 10 (2002)."""
PENALTY = 4.0
"""Factor of ln n."""
SHORTEST = 4
"""Minimum number of nights between two cuts."""
LEAST_NIGHTS = 10
"""Minimum length of a series for change points."""
RESOLUTION = 1e-3
"""Minimum noise that is assumed: in a series without noise, as of sizes, smaller steps are not
shown. In log ratio, or in the figure's unit."""
NEAR = 2
"""A cut may be this many nights early or late, so facts are compared over that many around it."""
NORMAL = 1.4826
"""Standard deviation of normal noise over its median absolute deviation."""

Find = Callable[[np.ndarray], list[int]]


@dataclass(frozen=True)
class FactChange:
    """A fact that changed near a change point.

    Attributes:
        before, after: None: missing or not known.
        nights: number of nights from the change point to the first run with the new value.
    """

    name: str
    before: str | None
    after: str | None
    nights: int


@dataclass(frozen=True)
class Change:
    """A change point.

    Attributes:
        at: index of the first of the trend's points with the new level.
        before, after: medians of the nights between this and the next change points, in the
            metric's unit.
        facts: changes of machine and software at that time; empty: none was recorded.
    """

    at: int
    before: float
    after: float
    facts: tuple[FactChange, ...]


@dataclass(frozen=True)
class Trend:
    """One case's nights on one kind of processor.

    Attributes:
        points: nights with the figure, the oldest first.
        values: ``[points]`` in the metric's unit.
        smoothed: ``[points]`` whether the Hampel filter treated the night as an outlier.
        levels: ``[points]`` median of the nights between the change points around a night.
        missing: nights without the figure, such as those on which the case failed.
    """

    metric: Metric
    machine: str
    points: tuple[Point, ...]
    values: np.ndarray
    smoothed: np.ndarray
    levels: np.ndarray
    changes: tuple[Change, ...]
    missing: tuple[Point, ...]

    def recent(self, nights: int) -> float | None:
        """Change over the last nights: the median of the last three against that of the three that
        ended ``nights`` before, as a ratio or a difference (``Metric.relative``); None if there are
        too few."""
        if len(self.values) < nights + 3:
            return None
        ended = len(self.values) - nights
        before = np.median(self.values[ended - 3 : ended])
        return difference(float(before), float(np.median(self.values[-3:])), self.metric)


def difference(before: float, after: float, metric: Metric) -> float:
    """A change as a share of the value before, or as a difference: see ``Metric.relative``."""
    return after / before - 1 if metric.relative else after - before


def trends(points: Sequence[Point], metric: str, find: Find | None = None) -> list[Trend]:
    """The trends of one case, by processor, the one with the newest night first.

    Args:
        points: of one case, in any order.
        metric: a name of ``METRICS``.
        find: ``change_points``, or a cache of it.

    Raises:
        UserError: ruptures is not installed.
    """
    series: dict[str, list[Point]] = {}
    for point in sorted(points, key=lambda point: point.started):
        series.setdefault(_machine(point, METRICS[metric]), []).append(point)
    find = find or change_points
    found = [_trend(machine, nights, METRICS[metric], find) for machine, nights in series.items()]

    def newest(trend: Trend) -> float:
        return max(point.started.timestamp() for point in (*trend.points, *trend.missing))

    return sorted(found, key=newest, reverse=True)


def _machine(point: Point, metric: Metric) -> str:
    """The key that nights of one series have in common."""
    name = point.cpu_model or f"host {point.host_id}, whose processor is not known"
    if metric is METRICS["energy"] and point.facts.get("energy_method"):
        return f"{name}, {point.facts['energy_method']}"  # never compared across methods
    return name


def _trend(machine: str, nights: Sequence[Point], metric: Metric, find: Find) -> Trend:
    known = tuple(point for point in nights if _value(point, metric) is not None)
    values = np.array([_value(point, metric) for point in known], dtype=np.float64)
    scaled = np.log(values) if metric.relative else values
    smoothed = hampel(scaled)
    cuts = find(scaled)
    edges = [0, *cuts, len(values)]
    medians = [float(np.median(values[begin:end])) for begin, end in pairwise(edges) if end > begin]
    changes = tuple(
        Change(at, medians[index], medians[index + 1], changed_facts(known, at))
        for index, at in enumerate(cuts)
    )
    return Trend(
        metric,
        machine,
        known,
        values,
        smoothed,
        np.repeat(medians, np.diff(edges)) if medians else np.array([]),
        changes,
        tuple(point for point in nights if _value(point, metric) is None),
    )


def _value(point: Point, metric: Metric) -> float | None:
    """The figure; None where it was not measured, or cannot be part of a trend."""
    value = point.metrics.get(metric.column)
    if point.status != "ok" or value is None or not np.isfinite(value):
        return None
    return None if metric.relative and value <= 0 else float(value)


# --------------------------------------------------------------------------- statistics


def hampel(values: np.ndarray) -> np.ndarray:
    """``[nights]`` whether a night is far from the median of those around it."""
    median, deviation = _around(values)
    return np.abs(values - median) > FAR * np.maximum(deviation, RESOLUTION)


def _around(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Median, and standard deviation by the MAD, of the window around each night, which is cut at
    the ends."""
    if not len(values):
        return values, values
    padded = np.pad(values, HALF_WINDOW, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * HALF_WINDOW + 1)
    median = _medians(windows)
    return median, NORMAL * _medians(np.abs(windows - median[:, None]))


def _medians(windows: np.ndarray) -> np.ndarray:
    """``np.nanmedian`` of each row, which has at least one number; ten times as fast."""
    ordered = np.sort(windows, axis=1)  # NaN at the end
    known = np.count_nonzero(~np.isnan(windows), axis=1)
    rows = np.arange(len(windows))
    return (ordered[rows, (known - 1) // 2] + ordered[rows, known // 2]) / 2


def noise(values: np.ndarray) -> float:
    """Standard deviation of the nights, from the differences between consecutive ones, so that
    steps do not count: MAD(diff) / √2, scaled as for normal noise."""
    steps = np.diff(values)
    deviation = np.median(np.abs(steps - np.median(steps)))
    return max(NORMAL * float(deviation) / np.sqrt(2), RESOLUTION)


def change_points(values: np.ndarray) -> list[int]:
    """Indices at which a new level begins; [] for fewer than ``LEAST_NIGHTS``.

    Args:
        values: ``[nights]`` logarithms, or other values with additive noise.

    Raises:
        UserError: ruptures is not installed.
    """
    if len(values) < LEAST_NIGHTS:
        return []
    try:
        from ruptures import KernelCPD
    except ImportError:
        raise UserError(
            "change points need the package ruptures", "Install it: pip install duckdb ruptures"
        ) from None
    clean = np.where(hampel(values), _around(values)[0], values)
    signal = (clean - np.median(clean)) / noise(clean)
    search = KernelCPD(kernel="linear", min_size=SHORTEST).fit(signal[:, None])
    *cuts, _ = search.predict(pen=PENALTY * log(len(values))) or [len(values)]
    return [int(cut) for cut in cuts]


# --------------------------------------------------------------------------- what else changed


def changed_facts(points: Sequence[Point], at: int) -> tuple[FactChange, ...]:
    """Facts that changed within ``NEAR`` nights around ``points[at]``, the nearest first; of a fact
    that changed several times only the nearest change."""
    found: list[FactChange] = []
    for index in range(max(1, at - NEAR), min(len(points), at + NEAR + 1)):
        before, after = _facts(points[index - 1]), _facts(points[index])
        found += [
            FactChange(name, before.get(name), after.get(name), index - at)
            for name in dict.fromkeys([*before, *after])
            if before.get(name) != after.get(name)
        ]
    found.sort(key=lambda change: (abs(change.nights), _rank(change.name)))
    nearest: dict[str, FactChange] = {}
    for change in found:
        nearest.setdefault(change.name, change)
    return tuple(nearest.values())


def _facts(point: Point) -> Mapping[str, str]:
    return {**point.facts, "host": point.host_id}


LIKELY = (
    "commit", "backend", "artifact", "environment", "packages", "gpus", "kernel", "microcode",
    "governor",
)  # fmt: skip
"""Prefixes of facts that are listed first."""


def _rank(name: str) -> tuple[int, str]:
    first = next((n for n, begin in enumerate(LIKELY) if name.startswith(begin)), len(LIKELY))
    return first, name
