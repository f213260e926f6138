"""A load with a known pattern, to align a wall meter's clock with this machine's.

The pattern is the Barker code of length 11 (Barker, "Group synchronizing of binary digital
systems", 1953), load for +1 and idle for -1. Its autocorrelation has a single peak, while a regular
pattern would fit one period later nearly as well. A pattern at each end of the energy pass
determines the clocks' offset and rate, and shows that the meter measures this machine.
"""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from qbench.machine.energy.wall import Log

CODE = (1, 1, 1, 0, 0, 0, 1, 0, 0, 1, 0)
CHIP_S = 2.0
"""Length of one element; wall meters give about one reading per second."""
GUARD_CHIPS = 1
"""Idle elements before and after the code, part of the pattern."""

MIN_CORRELATION = 0.7
"""Minimum Pearson correlation of the best position."""
MIN_LEAD = 0.1
"""Minimum lead of the best position's correlation over all others."""
MAX_DRIFT = 0.002
"""Maximum difference of the clocks' rates; a second in eight minutes is a broken clock."""
MAX_DELAY_S = 30.0
"""Maximum delay of a meter that is read live."""
_STEPS = 8
"""Positions tried per element, before the best one is refined."""
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
    """The meter's clock cannot be aligned; the message is the reason."""


@dataclass(frozen=True)
class Alignment:
    """Relation of the meter's clock to this machine's: ``meter_s = offset_s + rate * machine_s``.

    Attributes:
        offset_s: the meter's clock at time 0 of the monotonic clock.
        rate: the meter's seconds per second of the monotonic clock.
        correlation: Pearson correlation of watts and pattern, at the worse of the two markers.
    """

    offset_s: float
    rate: float
    correlation: float

    def to_ours(self, times_s: np.ndarray) -> np.ndarray:
        """Convert seconds of the meter's clock to nanoseconds of the monotonic clock, float64."""
        return (times_s - self.offset_s) / self.rate * 1e9


def marker_edges(begin_ns: int, chip_s: float = CHIP_S) -> list[int]:
    """Return the times at which the load starts and stops, alternating, for a pattern that begins
    with its guard at ``begin_ns``."""
    padded = (0, *CODE, 0)
    turns = [i for i in range(1, len(padded)) if padded[i] != padded[i - 1]]
    chip_ns = int(chip_s * 1e9)
    return [begin_ns + (GUARD_CHIPS + turn - 1) * chip_ns for turn in turns]


def marker_seconds(chip_s: float = CHIP_S) -> float:
    """Return the length of the pattern with its guards."""
    return (len(CODE) + 2 * GUARD_CHIPS) * chip_s


def burn(edges: Sequence[int], cores: int) -> None:
    """Load ``cores`` processors from each even edge to the next odd one; return after the last. The
    processes end by themselves, even if this one is killed."""
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
        begins_ns: times of the monotonic clock at which the patterns began, with their guards.
        same_clock: the log's times are of the monotonic clock; only the meter's delay is sought.

    Raises:
        NotAligned: the markers are not in the log, or could be in several positions.
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
        raise NotAligned(f"a reading every {gap:.1f} s is too slow; the limit is {chip_s:g} s")
    fits = _fits(_averages(log, origin, step_s, int(span_s / step_s)))
    joint = _joint(fits, round(apart_s / step_s), math.ceil(drift_s / step_s))
    if same_clock:
        delays_s = origin + np.arange(len(joint)) * step_s - first_s
        joint = np.where(np.abs(delays_s) <= MAX_DELAY_S, joint, -1.0)
    best = int(np.argmax(joint))
    if joint[best] < MIN_CORRELATION:
        raise NotAligned(
            f"the marker load is not in the log (best correlation {joint[best]:.2f}, minimum "
            f"{MIN_CORRELATION}): does the meter measure this machine, and did it log from before "
            "the energy pass until after it?"
        )
    others = joint.copy()
    near = int(length_s / step_s)
    others[max(0, best - near) : best + near + 1] = -1.0
    if len(others) and joint[best] - others.max() < MIN_LEAD:
        raise NotAligned(
            f"the marker load fits the log at two positions ({joint[best]:.2f} and "
            f"{others.max():.2f}): cut the log to this run"
        )
    # the joint fit is its worse half, and so flat around the peak of the better one
    first = _top(fits, best, _STEPS)
    second = _top(fits, first + round(apart_s / step_s), math.ceil(drift_s / step_s))
    one, two = (_refined(log, origin + place * step_s, chip_s) for place in (first, second))
    rate = 1.0 if same_clock else (two.at_s - one.at_s) / apart_s
    if abs(rate - 1) > MAX_DRIFT:
        raise NotAligned(f"the meter's clock runs {rate:.4f} times as fast as this machine's")
    offset = (one.at_s + two.at_s - rate * (first_s + second_s)) / 2
    return Alignment(offset, rate, min(one.correlation, two.correlation))


def _averages(log: Log, start_s: float, step_s: float, count: int) -> np.ndarray:
    """Return ``[count]`` mean watts of successive steps, which may hold several readings."""
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
    """Return the Pearson correlation of the pattern with the watts from each step on."""
    template = _template()
    size = len(template)
    if len(watts) < size:
        return np.empty(0)
    centred = watts - watts.mean()  # sums of squares lose precision far from 0
    products = np.correlate(centred, template, mode="valid")
    mean, square = (_sliding_sum(x, size) / size for x in (centred, centred**2))
    spread = np.sqrt(np.maximum(square - mean**2, 0) * size)
    return np.divide(products, spread, out=np.zeros_like(products), where=spread > 1e-6)


def _sliding_sum(values: np.ndarray, size: int) -> np.ndarray:
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return sums[size:] - sums[:-size]


def _joint(fits: np.ndarray, apart: int, reach: int) -> np.ndarray:
    """Return for each position of the first marker the worse of its fit and the best fit of a
    second one ``apart`` steps later, within ``reach`` steps."""
    nothing = np.full(reach, -1.0)
    padded = np.concatenate([nothing, fits, nothing, nothing])
    around = sliding_window_view(padded, 2 * reach + 1).max(axis=1)
    count = min(len(fits), len(around) - apart)
    return np.minimum(fits[:count], around[apart : apart + count]) if count > 0 else _NOWHERE


def _top(fits: np.ndarray, place: int, reach: int) -> int:
    start = max(0, place - reach)
    return start + int(np.argmax(fits[start : place + reach + 1]))


class _Place(NamedTuple):
    """A pattern's position in the log: time of the meter's clock, and correlation."""

    at_s: float
    correlation: float


def _refined(log: Log, start_s: float, chip_s: float) -> _Place:
    """Find the pattern's best position within an element of ``start_s``. A slow meter's correlation
    is flat over one of its readings: this takes the middle."""
    step_s = chip_s / _STEPS
    size = len(_template())
    ends = np.searchsorted(log.times_s, [start_s - chip_s, start_s + chip_s + size * step_s])
    near = slice(max(0, int(ends[0]) - 1), int(ends[1]) + 1)
    part = Log(log.times_s[near], log.watts[near])
    shifts = np.arange(-chip_s, chip_s + _FINE_S / 2, _FINE_S)
    fits = np.array([_fits(_averages(part, start_s + s, step_s, size))[0] for s in shifts])
    top = shifts[fits >= fits.max() - _FLAT]
    return _Place(start_s + float(top.min() + top.max()) / 2, float(fits.max()))
