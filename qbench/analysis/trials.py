"""Figures of the good trials of a bundle, and the ratios of two cases' figures.

Paired or not, a ratio is of logarithms, since latencies vary by factors.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from qbench.decide import Shift, paired_shift
from qbench.stats import CONFIDENCE, MIN_ROUNDS, Estimate

FIGURES = ("p10", "p50", "p99", "throughput", "memory", "load")


@dataclass(frozen=True)
class Ratio:
    """A figure of B over the same figure of A.

    Attributes:
        value: paired, the exponential of the median over rounds of the log ratio; else the ratio
            of the geometric means over trials.
        low, high: its 95 % interval: paired, the one that inverts the sign test
            (``qbench.decide``); else Welch's on the logarithms. None where there are fewer than 6
            trials, and where the figure is no figure of trials, as the size of an artifact.
        paired: whether A and B are from the same rounds of one run.
        rounds: how many pairs; else the smaller number of trials; 0 for a figure without trials.
        p_value: two-sided, of the same test as the interval; None where there is no test, or no
            spread to test against.
    """

    value: float
    low: float | None
    high: float | None
    paired: bool
    rounds: int
    p_value: float | None


class Trials:
    """The good trials of a bundle, those of a case together.

    Attributes:
        names: ``[trials]`` of the trials, as the bundle's samples are called.
        calls: ``[trials]`` timed calls.
        logs: by figure, ``[trials]`` natural logarithms; NaN where a trial does not have it.
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        good = frame[frame["status"] == "ok"].sort_values("case_id", kind="stable")
        self.names = good["trial"].to_numpy(object)
        self.calls = good["calls"].to_numpy(float)
        values = {
            "p10": good["p10_ns"].to_numpy(float),
            "p50": good["p50_ns"].to_numpy(float),
            "p99": good["p99_ns"].to_numpy(float),
            "throughput": good["items"].to_numpy(float) / good["wall_ns"].to_numpy(float),
            "memory": good["memory_peak_bytes"].to_numpy(float),
            "load": good["load_ns"].to_numpy(float),
        }
        self.logs = {name: _log(figures) for name, figures in values.items()}
        cases, self._starts = np.unique(good["case_id"].to_numpy(str), return_index=True)
        self._ends = np.append(self._starts[1:], len(good))
        self._places = {str(case): place for place, case in enumerate(cases)}
        self._rounds = list(zip(good["sitting"], good["round"], strict=True))

    def of(self, case_id: str) -> range:
        """Where the trials of a case stand."""
        place = self._places.get(case_id)
        return range(0) if place is None else range(self._starts[place], self._ends[place])

    def pairs(self, a: str, b: str) -> tuple[np.ndarray, np.ndarray]:
        """The trials of two cases that were made in the same round of the same sitting, in order:
        ``[rounds]`` of each case's places."""
        of_a, of_b = ({self._rounds[place]: place for place in self.of(case)} for case in (a, b))
        both = sorted(of_a.keys() & of_b.keys())
        return np.array([of_a[k] for k in both], int), np.array([of_b[k] for k in both], int)

    def paired_ratio(self, figure: str, a: np.ndarray, b: np.ndarray) -> Ratio | None:
        """The ratio over rounds; None where a trial does not have the figure, or there is no round.

        Args:
            a, b: ``[rounds]`` places, as ``pairs`` gives them.
        """
        return ratio_of_rounds(self.logs[figure][b] - self.logs[figure][a])

    def means(self, figure: str, cases: Sequence[str]) -> tuple[np.ndarray, ...]:
        """Of each case, ``[cases]``: how many trials, their mean, and the variance (``ddof`` 1) of
        the logarithms; NaN where a trial does not have the figure, or there are too few."""
        places = [self._places[case] for case in cases]
        logs, sizes = self.logs[figure], self._ends - self._starts
        means = np.add.reduceat(logs, self._starts) / sizes
        squares = np.add.reduceat((logs - np.repeat(means, sizes)) ** 2, self._starts)
        with np.errstate(invalid="ignore", divide="ignore"):
            variances = squares / (sizes - 1)
        return sizes[places], means[places], variances[places]


def _log(values: np.ndarray) -> np.ndarray:
    return np.log(np.where(values > 0, values, np.nan))


def ratio_of_rounds(logs: np.ndarray) -> Ratio | None:
    """The ratio of paired differences of logarithms; None if one is missing (NaN), or all are."""
    if not len(logs) or np.isnan(logs).any():
        return None
    return ratio_of_shift(paired_shift(logs), len(logs))


def ratio_of_shift(shift: Shift, rounds: int) -> Ratio:
    """A shift of the logarithm as a ratio."""
    low, high = (None if end is None else float(np.exp(end)) for end in (shift.low, shift.high))
    return Ratio(float(np.exp(shift.value)), low, high, True, rounds, shift.p_value)


def welch_ratios(
    a: Trials, b: Trials, cases: Sequence[tuple[str, str]], figure: str
) -> list[Ratio | None]:
    """Unpaired ratios of many pairs of cases at once, with Welch's interval and test on the
    logarithms (Welch, Biometrika 1947); None where a trial does not have the figure.

    Args:
        cases: ids of A's and B's case; both have trials.
    """
    from scipy import special  # Student's distribution, without the half second of scipy.stats

    if not cases:
        return []
    n_a, mean_a, variance_a = a.means(figure, [case for case, _ in cases])
    n_b, mean_b, variance_b = b.means(figure, [case for _, case in cases])
    shift, rounds = mean_b - mean_a, np.minimum(n_a, n_b)
    with np.errstate(invalid="ignore", divide="ignore"):
        of_a, of_b = variance_a / n_a, variance_b / n_b
        error = np.sqrt(of_a + of_b)
        freedom = (of_a + of_b) ** 2 / (of_a**2 / (n_a - 1) + of_b**2 / (n_b - 1))
        half = np.where(error > 0, special.stdtrit(freedom, (1 + CONFIDENCE) / 2) * error, 0.0)
        p_values = 2 * special.stdtr(freedom, -np.abs(shift) / error)
    ends = np.exp([shift, shift - half, shift + half]).T.tolist()
    return [
        None
        if value != value
        else Ratio(
            value,
            low if enough else None,
            high if enough else None,
            False,
            count,
            p_value if enough and spread else None,
        )
        for (value, low, high), count, enough, spread, p_value in zip(
            ends,
            rounds.tolist(),
            (rounds >= MIN_ROUNDS).tolist(),
            (error > 0).tolist(),
            p_values.tolist(),
            strict=True,
        )
    ]


def ratio_of_estimates(a: Estimate, b: Estimate) -> Ratio:
    """The ratio of two positive figures of which only the intervals are known, recovered from
    these on the logarithms (MOVER: Zou & Donner, Statistics in Medicine 2008)."""
    value = float(b.value / a.value)
    ends: Iterable[float | None] = (a.low, a.high, b.low, b.high)
    if any(end is None or end <= 0 for end in ends):
        return Ratio(value, None, None, False, 0, None)
    (a_low, a_high), (b_low, b_high) = (
        np.log([estimate.low / estimate.value, estimate.high / estimate.value])  # type: ignore[operator]
        for estimate in (a, b)
    )
    low = value * float(np.exp(-np.hypot(b_low, a_high)))
    high = value * float(np.exp(np.hypot(b_high, a_low)))
    return Ratio(value, low, high, False, 0, None)
