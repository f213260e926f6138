"""Compute the joules of a window from the samples of a counter or a power sensor. Pure functions.

A series is ``[n, 2]`` float64: nanoseconds of the monotonic clock, increasing, and joules of a
counter or watts.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

Kind = Literal["counter", "power"]

LARGEST_GAP = 0.25
"""Maximum gap between readings as a share of the window: it guarantees at least four readings, and
no gap that could hide a change."""


class NoReading(Exception):
    """The joules of this window are unknown; the message is the reason."""


def joules(series: np.ndarray, kind: Kind, begin_ns: int, end_ns: int) -> float:
    """Return the energy from ``begin_ns`` to ``end_ns``.

    A counter is interpolated linearly at both ends. Power is assumed linear between samples, and
    integrated exactly (trapezoids, clipped at the ends).

    Raises:
        NoReading: the series does not cover the window or has a gap, or the counter decreased or
            did not change.
    """
    if end_ns <= begin_ns:
        raise NoReading("the window has no length")
    times, values = _around(series, begin_ns, end_ns)
    at_begin, at_end = np.interp([0.0, 1.0], times, values)
    if kind == "power":
        inside = (times > 0) & (times < 1)
        xs = np.concatenate([[0.0], times[inside], [1.0]])
        ys = np.concatenate([[at_begin], values[inside], [at_end]])
        mean = float(np.sum(np.diff(xs) * (ys[1:] + ys[:-1])) / 2)
        return mean * (end_ns - begin_ns) * 1e-9
    if (np.diff(values) < 0).any():
        raise NoReading("the counter decreased during the window: it was reset")
    used = float(at_end - at_begin)
    if used == 0:
        raise NoReading("the counter did not change during the window")
    return used


def _around(series: np.ndarray, begin_ns: int, end_ns: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the samples of a window and the next one on each side: times as shares of the window,
    and values."""
    if len(series) == 0:
        raise NoReading("the sensor gave no reading")
    # subtract first: nanoseconds since boot have many digits
    times = (series[:, 0] - begin_ns) / (end_ns - begin_ns)
    first = int(np.searchsorted(times, 0.0, side="right")) - 1
    last = int(np.searchsorted(times, 1.0, side="left"))
    if first < 0 or last == len(times):
        raise NoReading("the readings do not cover the window")
    times, values = times[first : last + 1], series[first : last + 1, 1]
    gap = float(np.diff(times).max())
    if gap > LARGEST_GAP:
        seconds = (end_ns - begin_ns) * 1e-9
        raise NoReading(
            f"no reading for {gap * seconds:.1f} s of a window of {seconds:.1f} s: a longer one "
            "(energy.window_s) or a faster sensor is needed"
        )
    return times, values
