"""Check cases against limits: kept if the whole interval satisfies the limit, broken if none of it
does; otherwise open, with the additional measurements that would decide."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from qbench.analysis.recommend.candidates import SUSTAINED, Candidate, Figure
from qbench.spec.question import ASPECTS, Limit
from qbench.text import count, figure, with_interval

State = Literal["kept", "open", "broken"]

_MANY = 10
"""Maximum factor by which more rounds are suggested."""
_OF_ITEMS = ("accuracy", "accuracy_drop")
_NO_ROOM = 1e-3
"""Points of accuracy: a value closer to the limit than this lies on it."""


@dataclass(frozen=True)
class Held:
    """Result of checking a case against one limit.

    Attributes:
        state: ``kept`` or ``broken``: the whole interval lies on one side. ``open``: neither, or
            there is no interval.
        worst: the worse end of the interval; None without an interval.
        excess: minimum violation if broken, maximum possible violation if open, as a share of the
            limit, for accuracies in points; 0 if kept; None if unknown.
        says: the figure and the limit, in words.
        settles: if open, the measurements that would decide.
    """

    limit: Limit
    figure: Figure
    state: State
    worst: float | None
    excess: float | None
    says: str
    settles: str = ""


def hold(candidate: Candidate, limit: Limit) -> Held:
    """Check a measured case against a limit."""
    found = candidate.figures[limit.aspect]
    says = f"{told(limit.aspect, found)}, {_allowed(limit)}"
    ends = found.interval
    if ends is None or found.reason:
        needs = f"{limit.of.words}: {found.reason or 'no interval'}"
        return Held(limit, found, "open", None, _beyond(limit, found), says, needs)
    best, worst = reversed(ends) if limit.of.least else ends
    if _keeps(worst, limit):
        return Held(limit, found, "kept", worst, 0.0, says)
    if not _keeps(best, limit):
        by = _excess(best, limit)
        return Held(limit, found, "broken", worst, by, f"{says}: {_by(by, limit)}")
    settles = _settles(candidate, limit, found, ends)
    return Held(limit, found, "open", worst, _excess(worst, limit), says, settles)


def told(aspect: str, found: Figure) -> str:
    """Return a figure in words: ``sustained p99 12.31 ms (12.02 … 12.61)``."""
    of = ASPECTS[aspect]
    name = f"{found.of} {of.words}".strip()
    if found.estimate is None:
        return f"no {name}"
    value, low, high = found.estimate
    return f"{name} {with_unit(value, low, high, of.unit)}"


def with_unit(value: float, low: float | None, high: float | None, unit: str) -> str:
    """Return ``12.31 ms (12.02 … 12.61)``; intervals without width are left out."""
    low, high = (None, None) if low == high else (low, high)
    number, bracket, ends = with_interval(value, low, high).partition(" (")
    return f"{number} {unit}{bracket}{ends}"


def _allowed(limit: Limit) -> str:
    word = "at least" if limit.of.least else "at most"
    return f"{word} {limit_text(limit.value, limit.of.unit)}"


def limit_text(value: float, unit: str) -> str:
    """Return a limit with all its digits and its unit."""
    return f"{value:.10g} {unit}"


def _keeps(value: float, limit: Limit) -> bool:
    return value >= limit.value if limit.of.least else value <= limit.value


def _excess(value: float, limit: Limit) -> float:
    over = limit.value - value if limit.of.least else value - limit.value
    return over if limit.aspect in _OF_ITEMS else over / limit.value


def _beyond(limit: Limit, found: Figure) -> float | None:
    if found.estimate is None:
        return None
    return max(0.0, _excess(found.estimate.value, limit))


def _by(excess: float, limit: Limit) -> str:
    """Return the distance beyond the limit, in words."""
    side = "below" if limit.of.least else "over"
    if limit.aspect in _OF_ITEMS:
        return f"{figure(excess)} pp {side} it at the least"
    return f"{figure(100 * excess)} % {side} it at the least"


# --------------------------------------------------------------------------- more measurements


def _settles(candidate: Candidate, limit: Limit, found: Figure, ends: tuple[float, float]) -> str:
    """Return how many more rounds, windows or items would move the interval off the limit, if the
    value does not change. Widths fall with the square root of these numbers."""
    assert found.estimate is not None
    value = found.estimate.value
    low, high = ends
    if limit.aspect in _OF_ITEMS:
        return _items(candidate, limit, value, ends)
    towards = high if limit.value >= value else low
    if min(value, towards, limit.value) > 0:
        width, room = (abs(math.log(end / value)) for end in (towards, limit.value))
    else:
        width, room = abs(towards - value), abs(limit.value - value)
    growth = (width / room) ** 2 if room else math.inf
    what = "sustained round" if found.of == SUSTAINED else "round"
    if limit.aspect == "energy":
        what, rounds = "window", 0
    else:
        rounds = found.rounds
    words = limit.of.words
    if growth > _MANY:
        return f"{words}: it lies at the limit, and more {what}s would hardly settle it"
    if not rounds:
        return f"{words}: about {figure(growth)} times as many {what}s"
    more = max(1, math.ceil(rounds * growth) - rounds)
    return f"{words}: about {count(more, f'more {what}')}"


def _items(candidate: Candidate, limit: Limit, value: float, ends: tuple[float, float]) -> str:
    """``_settles`` for accuracy (per cent) or its drop (points).

    For matched pairs of shares, ``accuracy_items_needed`` is the number of items for ±1 point
    (``qbench.analysis.statistics.estimates.items_needed``), scaled here to the distance to the
    limit.
    """
    room = abs(limit.value - value)
    have = candidate.row.accuracy_items or 0
    of_a_point = candidate.row.accuracy_items_needed
    if room < _NO_ROOM:
        return f"{limit.of.words}: it lies at the limit, and no number of items would settle it"
    if limit.aspect == "accuracy_drop" and of_a_point is not None:
        needed = of_a_point / room**2
    else:
        width = ends[1] - value if limit.value >= value else value - ends[0]
        needed = have * (width / room) ** 2
    # the interval's small-sample terms may ask for one more than the plain formula does
    needed = max(math.ceil(needed), have + 1)
    return (
        f"{limit.of.words}: {needed:,} items needed for {limit_text(limit.value, limit.of.unit)}, "
        f"you have {have:,}"
    )
