"""Which cases no other beats in every respect: the Pareto front, and what intervals leave open.

A case beats another if its figure is at least as good in every respect and better in one. The front
holds those that none beats. That a figure is better does not say that the case is: so of the rest,
only those are called dominated whose intervals lie apart from those of every case on the front, in
one respect at least. A case of the front then beats it, and is surely better in that respect.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from qbench.spec.columns import CaseRow

Place = Literal["front", "undecided", "dominated"]
"""``undecided``: another case's figures are better, but its intervals overlap the front's."""


class Respect(NamedTuple):
    """A column of the case table that cases are compared in.

    Attributes:
        value: its name.
        low, high: the columns of its interval; "" where it has none because it is exact, as the
            size of a file is.
        most: whether more is better.
    """

    value: str
    low: str = ""
    high: str = ""
    most: bool = False


LATENCY = Respect("latency_p50_ms", "latency_p50_low_ms", "latency_p50_high_ms")
ACCURACY = Respect("accuracy", "accuracy_low", "accuracy_high", most=True)
FIDELITY = Respect("sqnr_db", most=True)


def pareto(cases: Sequence[CaseRow], respects: Sequence[Respect]) -> list[Place | None]:
    """Each case's place; None if it lacks one of the figures.

    A figure without an interval, where there should be one, could be any: its case may be on the
    front, but it decides nothing about others, nor they about it.

    Args:
        cases: rows of the case table that did the same work, so that they can be chosen between.
        respects: at least one.
    """
    figures = [[_oriented(case, respect) for respect in respects] for case in cases]
    value, low, high = np.moveaxis(np.array(figures).reshape(len(cases), len(respects), 3), 2, 0)
    known = np.array(
        [all(getattr(case, r.value) is not None for r in respects) for case in cases], bool
    )
    worse = value[:, None] > value  # [case, other, respect]
    beaten = worse.any(axis=2) & ~(value[:, None] < value).any(axis=2) & known[:, None] & known
    front = known & ~beaten.any(axis=1)
    apart = np.logical_or.reduce((low[:, None] > high) | (high[:, None] < low), axis=2)
    dominated = known & ~front & apart[:, front].all(axis=1)
    return [
        None if not there else "front" if best else "dominated" if off else "undecided"
        for there, best, off in zip(known, front, dominated, strict=True)
    ]


def _oriented(case: CaseRow, respect: Respect) -> tuple[float, float, float]:
    """Value, low and high, of which less is better: NaN for no value, no bounds if not known."""
    value = getattr(case, respect.value)
    if value is None:
        return np.nan, np.nan, np.nan
    low, high = (getattr(case, name) if name else value for name in (respect.low, respect.high))
    low, high = -np.inf if low is None else low, np.inf if high is None else high
    return (-value, -high, -low) if respect.most else (value, low, high)
