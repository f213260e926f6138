"""Decide whether B is slower than A: the rule for two cases measured in the same rounds.

The unit is the round: a fresh process of A and one of B, back to back in random order. Two figures
of each process are compared, both robust to other work on the machine:

- its **latency**, a low percentile of its calls, as the logarithm of the ratio B over A;
- its **share of stalls**, calls that are slow although their neighbours are not: a low percentile
  is blind to a stall in every twentieth call. The difference B minus A.

Disturbances are one-sided and come in bursts, so that most differences over rounds lie close
together and the others far off: on a shared machine their standard deviation was six times the one
that their quartiles imply. Tests that give outliers much weight, on means or ranks, then find
little. So the shift is the median, with the interval between order statistics that inverts the sign
test (Hollander, Wolfe & Chicken, Nonparametric Statistical Methods, sections 3.4 to 3.6). The test
is exact if A and B are the same, whatever the noise, because the order within a round is random. On
normal noise it needs half as many rounds again as a t-interval.

Every verdict comes with an interval: Kalibera & Jones, Rigorous Benchmarking in Reasonable
Time, ISMM 2013. ``tests/benchmarks/study.py`` measures false alarms and power of this code.
"""

# pyright: reportUnknownMemberType=false, reportMissingTypeStubs=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from math import comb, floor
from typing import NamedTuple

import numpy as np

CONFIDENCE = 0.95
"""Level of the intervals that are shown, and that must be narrow enough for "no change"."""
STALL_RATIO = 1.5
"""A stall takes more than this many times the median of its neighbours."""
NEIGHBOURS = 5
"""Number of neighbours on either side."""


class Verdict(str, Enum):
    """Verdict on two cases."""

    REGRESSION = "regression"
    IMPROVEMENT = "improvement"
    NO_CHANGE = "no change"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Rule:
    """The stopping rule and the thresholds of verdicts.

    Attributes:
        guard: smaller changes of latency, as a share, are ignored.
        target: half-width of its interval, in log ratio, that suffices to say "no change".
        stall_guard, stall_target: the same for the share of stalls, in shares of all calls.
        level: the p-value of an alarm is below this. Far below ``1 - CONFIDENCE``, since there are
            two figures and several looks.
        looks: numbers of rounds after which the data are tested; the last one ends the comparison.
            Few, since every look is another chance for a false alarm: with these, whatever the
            noise, one figure of two equal cases passes ``level`` at some look in 1.7 % of
            comparisons (all sequences of signs, enumerated), before the guard is applied.
    """

    guard: float = 0.01
    target: float = 0.01
    stall_guard: float = 0.02
    stall_target: float = 0.02
    level: float = 0.01
    looks: tuple[int, ...] = (9, 12, 20, 30, 40)


class Shift(NamedTuple):
    """Shift of paired differences from 0.

    Attributes:
        value: their median.
        low, high: its interval; None where there are too few rounds for one.
        p_value: of the exact two-sided sign test that there is no shift.
    """

    value: float
    low: float | None
    high: float | None
    p_value: float

    @property
    def half_width(self) -> float:
        if self.low is None or self.high is None:
            return float("inf")
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class Decision:
    """Decision from the rounds so far.

    Attributes:
        decided: whether no more rounds are needed: there is a verdict, or this was the last look.
        latency: shift of the log ratio; ``exp(value)`` is B's latency over A's.
        stalls: shift of the share of stalls.
        because: the figures that raise the alarm: ``latency``, ``stalls`` or both; else empty.
    """

    verdict: Verdict
    decided: bool
    rounds: int
    latency: Shift
    stalls: Shift
    because: tuple[str, ...] = ()


def decide(latency: np.ndarray, stalls: np.ndarray, rule: Rule | None = None) -> Decision:
    """The decision from the rounds so far. Call it after ``rule.looks`` rounds only.

    One better and one worse figure are a regression.

    Args:
        latency: ``[rounds]`` differences, B minus A, of the logarithms of a low percentile.
        stalls: ``[rounds]`` differences, B minus A, of ``stall_share``.
    """
    rule = rule or Rule()
    shifts = {"latency": paired_shift(latency), "stalls": paired_shift(stalls)}
    guards = {"latency": rule.guard, "stalls": rule.stall_guard}
    targets = {"latency": rule.target, "stalls": rule.stall_target}
    found = {
        name: shift
        for name, shift in shifts.items()
        if shift.p_value < rule.level and abs(shift.value) >= guards[name]
    }
    last = len(latency) >= rule.looks[-1]
    if found:
        worse = any(shift.value > 0 for shift in found.values())
        verdict = Verdict.REGRESSION if worse else Verdict.IMPROVEMENT
    elif all(_none(shifts[name], guards[name], targets[name]) for name in shifts):
        verdict = Verdict.NO_CHANGE
    else:
        verdict = Verdict.INCONCLUSIVE
    decided = last or verdict is not Verdict.INCONCLUSIVE
    return Decision(
        verdict, decided, len(latency), shifts["latency"], shifts["stalls"], tuple(found)
    )


def _none(shift: Shift, guard: float, target: float) -> bool:
    """Whether the interval is narrow enough, and more rounds would not make an alarm of it."""
    if shift.low is None or shift.high is None or shift.half_width > target:
        return False
    return shift.low <= 0 <= shift.high or abs(shift.value) < guard


def paired_shift(differences: np.ndarray) -> Shift:
    """Median of paired differences, with the interval and the p-value of the exact sign test.
    Differences of exactly 0 count half on either side.

    Args:
        differences: ``[rounds]``, at least one.
    """
    values = np.sort(np.asarray(differences, dtype=np.float64))
    rounds = len(values)
    ways = [comb(rounds, heads) for heads in range(rounds + 1)]
    at_most = np.cumsum(ways) / 2.0**rounds
    above = int(np.sum(values > 0)) + int(np.sum(values == 0)) / 2
    fewer = floor(min(above, rounds - above))
    p_value = min(1.0, 2 * float(at_most[fewer]))
    outside = int(np.searchsorted(at_most, (1 - CONFIDENCE) / 2, side="right"))
    low, high = (float(values[outside - 1]), float(values[-outside])) if outside else (None, None)
    return Shift(float(np.median(values)), low, high, p_value)


def stall_share(samples: np.ndarray) -> float:
    """Share of calls that take more than ``STALL_RATIO`` times the median of the
    ``2 * NEIGHBOURS + 1`` calls around them.

    Compared with neighbours, not with all calls: a machine that is slow for a while, because of
    another process or its clock, makes many slow calls in a row, which are no stalls.

    Args:
        samples: ``[calls]`` durations in the order in which they were measured.
    """
    width = 2 * NEIGHBOURS + 1
    if len(samples) < width:
        return 0.0
    padded = np.pad(samples, NEIGHBOURS, mode="reflect")
    around = np.median(np.lib.stride_tricks.sliding_window_view(padded, width), axis=1)
    return float(np.mean(samples > STALL_RATIO * around))


def adjusted(p_values: Sequence[float]) -> np.ndarray:
    """Benjamini & Hochberg's adjusted p-values (JRSS B 1995), for alarms over many cases: of
    those below q, at most a share q is false."""
    from scipy import stats  # half a second to import; only needed from here on

    return stats.false_discovery_control(np.asarray(p_values, dtype=np.float64), method="bh")
