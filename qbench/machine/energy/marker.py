"""A load with a known pattern, so that a wall meter's log can be laid over our clock.

The pattern is Barker's code of length 11 (Barker, "Group synchronizing of binary digital systems",
1953), a load for each +1 and rest for each -1: shifted against itself it fits at one place only,
where a regular on and off would fit one period later nearly as well. One at each end of the energy
pass gives the clocks' offset and how much faster one of them runs, and shows that the meter
measures this machine at all.
"""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qbench.machine.energy.wall import Log

CODE = (1, 1, 1, 0, 0, 0, 1, 0, 0, 1, 0)
CHIP_S = 2.0
"""Length of one element; meters in a power cord tell about one figure a second."""
GUARD_CHIPS = 1
"""Rest before and after the pattern, as a part of it."""

MIN_CORRELATION = 0.7
MIN_LEAD = 0.1
"""The best place has to fit by so much better than any other."""
MAX_DRIFT = 0.002
"""Clocks do not differ by more; a second in eight minutes is a broken one."""
MAX_DELAY_S = 30.0
"""A meter that is read live is not later than this."""
_STEPS = 8
"""Places that are tried for each element, before the best is refined."""
_FINE_S = 0.02
_FLAT = 0.03
_NOWHERE = np.full(1, -1.0)

_BURN = """
import hashlib, sys, time
block = bytes(65536)
edges = list(map(int, sys.argv[1:]))
for begin, end in zip(edges[::2], edges[1::2]):
    time.sleep(max(0, begin - time.monotonic_ns()) * 1e-9)
    while time.monotonic_ns() < end:
        hashlib.blake2b(block).digest()
"""


class NotAligned(Exception):
    """The meter's log cannot be laid over our clock; the message is the reason."""


@dataclass(frozen=True)
class Alignment:
    """``their_s = offset_s + rate * our_s``.

    Attributes:
        offset_s: what the meter's clock showed at our 0.
        rate: seconds of the meter's clock in one of ours.
        correlation: Pearson's, of watts and pattern, at the worse of the two markers.
    """

    offset_s: float
    rate: float
    correlation: float

    def to_ours(self, times_s: np.ndarray) -> np.ndarray:
        """Nanoseconds of our monotonic clock, float64."""
        return (times_s - self.offset_s) / self.rate * 1e9


def marker_edges(begin_ns: int, chip_s: float = CHIP_S) -> list[int]:
    """When the load goes on and off, in turns, for a pattern whose guard begins at ``begin_ns``."""
    padded = (0, *CODE, 0)
    turns = [i for i in range(1, len(padded)) if padded[i] != padded[i - 1]]
    chip_ns = int(chip_s * 1e9)
    return [begin_ns + (GUARD_CHIPS + turn - 1) * chip_ns for turn in turns]


def marker_seconds(chip_s: float = CHIP_S) -> float:
    """Length of the whole pattern, guards included."""
    return (len(CODE) + 2 * GUARD_CHIPS) * chip_s


def burn(edges: Sequence[int], cores: int) -> None:
    """Keep ``cores`` processors busy from each even edge to the next odd one; returns after the
    last. The processes end by themselves, whatever becomes of this one."""
    words = [sys.executable, "-I", "-c", _BURN, *map(str, edges)]
    processes = [subprocess.Popen(words, stdin=subprocess.DEVNULL) for _ in range(cores)]
    try:
        for process in processes:
            if process.wait():
                raise RuntimeError(f"a process of the marker load ended with {process.returncode}")
    finally:
        for process in processes:
            process.kill()
            process.wait()


def align(
    log: Log, begins_ns: tuple[int, int], same_clock: bool = False, chip_s: float = CHIP_S
) -> Alignment:
    """Find the two markers in a meter's log.

    Args:
        begins_ns: when their patterns began, guards included, by our clock.
        same_clock: the log's times are ours; only the meter's delay is looked for.

    Raises:
        NotAligned: they are not in it, or could be in several places.
    """
    first_s, second_s = (ns * 1e-9 for ns in begins_ns)
    apart_s, length_s, step_s = second_s - first_s, marker_seconds(chip_s), chip_s / _STEPS
    origin = float(log.times_s[0]) if len(log.times_s) else 0.0
    span_s = float(log.times_s[-1]) - origin if len(log.times_s) else 0.0
    drift_s = MAX_DRIFT * apart_s + chip_s
    if span_s < apart_s + length_s - drift_s:
        raise NotAligned(
            f"the log spans {span_s:.0f} s, and the energy pass with its markers took "
            f"{apart_s + length_s:.0f} s"
        )
    gap = float(np.median(np.diff(log.times_s)))
    if gap > chip_s:
        raise NotAligned(f"a reading every {gap:.1f} s is too slow; {chip_s:g} s are the limit")
    fits = _fits(_averages(log, origin, step_s, int(span_s / step_s)))
    joint = _joint(fits, round(apart_s / step_s), math.ceil(drift_s / step_s))
    if same_clock:
        delays_s = origin + np.arange(len(joint)) * step_s - first_s
        joint = np.where(np.abs(delays_s) <= MAX_DELAY_S, joint, -1.0)
    best = int(np.argmax(joint))
    if joint[best] < MIN_CORRELATION:
        raise NotAligned(
            f"the marker load is not to be seen in the log (best correlation {joint[best]:.2f}, "
            f"at least {MIN_CORRELATION} is needed): does the meter measure this machine, and "
            "did it log from before the energy pass until after it?"
        )
    others = joint.copy()
    near = int(length_s / step_s)
    others[max(0, best - near) : best + near + 1] = -1.0
    if len(others) and joint[best] - others.max() < MIN_LEAD:
        raise NotAligned(
            f"the marker load fits the log in two places ({joint[best]:.2f} and "
            f"{others.max():.2f}): cut the log to this run"
        )
    # the joint fit is as good as its worse half, and so flat where the other one has its top
    first = _top(fits, best, _STEPS)
    second = _top(fits, first + round(apart_s / step_s), math.ceil(drift_s / step_s))
    theirs = [_refined(log, origin + place * step_s, chip_s) for place in (first, second)]
    rate = 1.0 if same_clock else (theirs[1][0] - theirs[0][0]) / apart_s
    if abs(rate - 1) > MAX_DRIFT:
        raise NotAligned(f"the meter's clock runs {rate:.4f} times as fast as ours")
    offset = (theirs[0][0] + theirs[1][0] - rate * (first_s + second_s)) / 2
    return Alignment(offset, rate, min(theirs[0][1], theirs[1][1]))


def _averages(log: Log, start_s: float, step_s: float, count: int) -> np.ndarray:
    """``[count]`` mean watts of successive steps: the meter may be faster than they are."""
    times = log.times_s - start_s
    energy = np.concatenate(
        [[0.0], np.cumsum(np.diff(times) * (log.watts[1:] + log.watts[:-1]) / 2)]
    )
    return np.diff(np.interp(np.arange(count + 1) * step_s, times, energy)) / step_s


def _template() -> np.ndarray:
    guard = (0,) * GUARD_CHIPS
    pattern = np.repeat(np.array((*guard, *CODE, *guard), dtype=np.float64), _STEPS)
    centred = pattern - pattern.mean()
    return centred / np.linalg.norm(centred)


def _fits(watts: np.ndarray) -> np.ndarray:
    """Pearson's correlation of the pattern with the watts from each step on."""
    template = _template()
    size = len(template)
    if len(watts) < size:
        return np.empty(0)
    centred = watts - watts.mean()  # sums of squares lose digits far from 0
    products = np.correlate(centred, template, mode="valid")
    mean, square = (_sliding_sum(x, size) / size for x in (centred, centred**2))
    spread = np.sqrt(np.maximum(square - mean**2, 0) * size)
    return np.divide(products, spread, out=np.zeros_like(products), where=spread > 1e-6)


def _sliding_sum(values: np.ndarray, size: int) -> np.ndarray:
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return sums[size:] - sums[:-size]


def _joint(fits: np.ndarray, apart: int, reach: int) -> np.ndarray:
    """For each place of the first marker, the worse of its fit and the best fit of a second one
    ``apart`` steps later, give or take ``reach``."""
    nothing = np.full(reach, -1.0)
    around = _sliding_max(np.concatenate([nothing, fits, nothing, nothing]), 2 * reach + 1)
    count = min(len(fits), len(around) - apart)
    return np.minimum(fits[:count], around[apart : apart + count]) if count > 0 else _NOWHERE


def _sliding_max(values: np.ndarray, size: int) -> np.ndarray:
    """Maximum of each ``size`` successive values, by windows that double in size."""
    have = 1
    while have < size:
        step = min(have, size - have)
        values = np.maximum(values[:-step], values[step:])
        have += step
    return values


def _top(fits: np.ndarray, place: int, reach: int) -> int:
    start = max(0, place - reach)
    return start + int(np.argmax(fits[start : place + reach + 1]))


def _refined(log: Log, start_s: float, chip_s: float) -> tuple[float, float]:
    """Where within an element of ``start_s`` the pattern fits best, by the meter's clock, and how
    well. A slow meter's fit is flat over one of its readings: the middle of that is taken."""
    step_s = chip_s / _STEPS
    size = len(_template())
    ends = np.searchsorted(log.times_s, [start_s - chip_s, start_s + chip_s + size * step_s])
    near = slice(max(0, int(ends[0]) - 1), int(ends[1]) + 1)
    part = Log(log.times_s[near], log.watts[near])
    shifts = np.arange(-chip_s, chip_s + _FINE_S / 2, _FINE_S)
    fits = np.array([_fits(_averages(part, start_s + s, step_s, size))[0] for s in shifts])
    top = shifts[fits >= fits.max() - _FLAT]
    return start_s + float(top.min() + top.max()) / 2, float(fits.max())
