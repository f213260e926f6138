"""Has B become slower than A? The rule for two cases that were measured in the same rounds.

The unit is the round: a fresh process of A and one of B, back to back in random order. Two figures
of each process are compared, both made to shrug off what else runs on the machine:

- its **latency**, a low percentile of its calls, as the logarithm of the ratio B over A;
- its **share of stalls**, calls that are slow between neighbours that are not: a low percentile is
  blind to a stall in every twentieth call. The difference B less A.

Disturbances are one-sided and come in bursts, so that most differences over rounds lie close
together and the others far off: on a shared machine their standard deviation was six times what
their quartiles say. Whatever weighs the far ones most, a mean or ranks, then finds little. So the
shift is the median, with the interval between order statistics that inverts the sign test
(Hollander, Wolfe & Chicken, Nonparametric Statistical Methods, sections 3.4 to 3.6). The test is
exact if A and B are the same, because the order within a round is drawn by lot, whatever the noise
is. The price is paid on normal noise: half as many rounds again as a t-interval needs.

That an interval comes with every verdict: Kalibera & Jones, Rigorous Benchmarking in Reasonable
Time, ISMM 2013. ``tests/benchmarks/study.py`` measures false alarms and power of this very code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from math import comb, floor
from typing import NamedTuple

import numpy as np

CONFIDENCE = 0.95
"""Of the intervals that are shown, and that have to be narrow enough to say "no change"."""
STALL_RATIO = 1.5
"""A stall takes more than so many times the median of its neighbours."""
NEIGHBOURS = 5
"""... of which there are so many on either side."""


class Verdict(str, Enum):
    """What two cases' rounds show."""

    REGRESSION = "regression"
    IMPROVEMENT = "improvement"
    NO_CHANGE = "no change"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Rule:
    """When to stop, and what to say.

    Attributes:
        guard: a change of latency below this share is none.
        target: half-width of its interval, in log ratio, that suffices to say "no change".
        stall_guard, stall_target: the same of the share of stalls, in shares of all calls.
        level: an alarm's p-value is below this. Far below ``1 - CONFIDENCE``, since there are two
            figures and several looks.
        looks: numbers of rounds after which the data are looked at; the last ends it. Few, since
            every look is another chance for a false alarm: with these, whatever the noise is, one
            figure of two equal cases passes ``level`` at some look in 1.7 % of comparisons (all
            sequences of signs, enumerated), before the guard has been asked.
    """

    guard: float = 0.01
    target: float = 0.01
    stall_guard: float = 0.02
    stall_target: float = 0.02
    level: float = 0.01
    looks: tuple[int, ...] = (9, 12, 20, 30, 40)


class Shift(NamedTuple):
    """How far paired differences lie from 0.

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
    """What the rounds so far show.

    Attributes:
        decided: whether more rounds would not be made: there is a verdict, or the last look is
            over.
        latency: shift of the log ratio; ``exp(value)`` is B's latency over A's.
        stalls: shift of the share of stalls.
        because: the figures that raise the alarm: ``latency``, ``stalls``, or both; empty if none.
    """

    verdict: Verdict
    decided: bool
    rounds: int
    latency: Shift
    stalls: Shift
    because: tuple[str, ...] = ()


def decide(latency: np.ndarray, stalls: np.ndarray, rule: Rule | None = None) -> Decision:
    """The verdict of the rounds so far. To be asked after ``rule.looks`` rounds only.

    Where one figure is better and the other worse, that is a regression.

    Args:
        latency: ``[rounds]`` differences, B less A, of the logarithms of a low percentile.
        stalls: ``[rounds]`` differences, B less A, of ``stall_share``.
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
    """Known well enough, and not a change that only lacks rounds to be called one."""
    if shift.low is None or shift.high is None or shift.half_width > target:
        return False
    return shift.low <= 0 <= shift.high or abs(shift.value) < guard


def paired_shift(differences: np.ndarray) -> Shift:
    """Where paired differences lie, with the interval and the p-value of the exact sign test.
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

    Against neighbours, not against all: a machine that is slow for a while, because of another
    process or its clock, makes many slow calls in a row, and no stall.

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
    """Benjamini & Hochberg's adjusted p-values (JRSS B 1995), for alarms over many cases: those
    below q hold at most a share q of false ones."""
    from scipy import stats  # half a second to import; only needed from here on

    return stats.false_discovery_control(np.asarray(p_values, dtype=np.float64), method="bh")
