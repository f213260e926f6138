"""Compute the Pareto front of cases, with regard to their intervals.

A case beats another if its figures are at least as good in every respect and better in one. The
front consists of the cases that none beats. A better figure may be noise, so another case is called
dominated only if its interval is separate from that of every case on the front, in at least one
respect. A case of the front then beats it, and is certainly better in that respect.
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
        value: the column's name.
        low, high: the columns of its interval; "" for exact figures, such as the size of a file.
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
    """Return each case's place; None if a figure is missing.

    The uncertainty of a figure without an expected interval is unbounded: its case may be on the
    front, but decides nothing about others, nor they about it.

    Args:
        cases: rows of the case table that did the same work.
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
    """Return value, low and high, negated if more is better; NaN, or infinite ends, if unknown."""
    value = getattr(case, respect.value)
    if value is None:
        return np.nan, np.nan, np.nan
    low, high = (getattr(case, name) if name else value for name in (respect.low, respect.high))
    low, high = -np.inf if low is None else low, np.inf if high is None else high
    return (-value, -high, -low) if respect.most else (value, low, high)
