"""Compute figures of a bundle's successful trials, for all cases at once, and ratios of two cases'
figures. Means and ratios are computed on logarithms, since latencies vary by factors."""

# pyright: reportMissingTypeStubs=false

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from qbench.analysis.statistics.estimates import CONFIDENCE, Estimate, geometric_means, moments
from qbench.analysis.statistics.verdict import Shift, paired_shift
from qbench.bundle.trials import PERCENTILES, TRIAL_COLUMNS, percentile_name
from qbench.spec.suite import MIN_ROUNDS

FIGURES = ("p10", "p50", "p99", "throughput", "memory", "load")
"""Figures of trials that are compared."""
ROUNDING = 1e-12
"""A standard error of logarithms below this is rounding."""
_NUMBERS = [
    name
    for name in TRIAL_COLUMNS
    if name.endswith(("_ns", "_bytes", "_calls"))
    or name in ("calls", "items", "instructions", "cycles", "sitting", "round")
]


@dataclass(frozen=True)
class Ratio:
    """A figure of B over the same figure of A.

    Attributes:
        value: paired, the exponential of the median over rounds of the log ratio; else the ratio
            of the geometric means over trials.
        low, high: 95 % interval: paired, by inverting the sign test
            (``qbench.analysis.statistics.verdict``); else Welch's on the logarithms. None below 6
            trials, and for figures that do not come from trials, such as the size of an artifact.
        paired: whether A and B are from the same rounds of one run.
        rounds: number of pairs; unpaired, the smaller number of trials; 0 without trials.
        p_value: two-sided, of the same test as the interval; None if there is no test, or no
            spread.
    """

    value: float
    low: float | None
    high: float | None
    paired: bool
    rounds: int
    p_value: float | None


class Trials:
    """Successful trials of a bundle, grouped by case.

    Attributes:
        names: ``[trials]`` names, as in the bundle's samples.
        columns: ``[trials]`` values of each numeric column; NaN if a trial does not have it.
        figures: by name, ``[trials]`` positive values; NaN if missing or not positive. ``steady``
            is p10, or p50 if a trial has too few calls for p10.
        logs: natural logarithms of ``figures``.
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        good = frame[frame["status"] == "ok"].sort_values("case_id", kind="stable")
        self.names = good["trial"].to_numpy(object)
        self.columns = {name: good[name].to_numpy(float) for name in _NUMBERS}
        of = self.columns
        values = {point: of[f"{point}_ns"] for point in map(percentile_name, PERCENTILES)}
        values["steady"] = np.where(np.isnan(values["p10"]), values["p50"], values["p10"])
        values["throughput"] = of["items"] / (of["wall_ns"] * 1e-9)
        values["memory"] = of["memory_peak_bytes"]
        values["load"] = of["load_ns"]
        self.figures = {name: np.where(of > 0, of, np.nan) for name, of in values.items()}
        self.logs = {name: np.log(of) for name, of in self.figures.items()}
        cases, self._starts = np.unique(good["case_id"].to_numpy(str), return_index=True)
        self._ends = np.append(self._starts[1:], len(good))
        self.cases = cases.tolist()
        self._places = {case: place for place, case in enumerate(self.cases)}
        keys = (of["sitting"].astype(int).tolist(), of["round"].astype(int).tolist())
        self._rounds = list(zip(*keys, strict=True))

    def of(self, case_id: str) -> slice:
        """Return the slice of a case's trials; empty if it has none."""
        place = self._places.get(case_id)
        if place is None:
            return slice(0, 0)
        return slice(int(self._starts[place]), int(self._ends[place]))

    def pairs(self, a: str, b: str) -> tuple[list[int], list[int]]:
        """Pair the trials of two cases by round and sitting: ``[rounds]`` indices of each case's
        trials, in order."""
        of_a, of_b = (
            {self._rounds[place]: place for place in range(part.start, part.stop)}
            for part in (self.of(a), self.of(b))
        )
        both = sorted(of_a.keys() & of_b.keys())
        return [of_a[key] for key in both], [of_b[key] for key in both]

    def estimates(self, figure: str) -> dict[str, Estimate]:
        """Return the geometric mean over trials, by case; only cases whose trials all have it."""
        found = geometric_means(self.figures[figure], self._starts)
        return {
            case: estimate
            for case, estimate in zip(self.cases, found, strict=True)
            if estimate.value == estimate.value
        }

    def paired_estimates(
        self, figure: str, cases: Sequence[tuple[str, str]]
    ) -> list[Estimate | None]:
        """Return, for each pair of cases, the geometric mean over rounds of the first's figure over
        the second's; None if they share no round, or a trial does not have the figure."""
        places = [self.pairs(*pair) for pair in cases]
        shared = [index for index, (of_a, _) in enumerate(places) if of_a]
        of_a, of_b = ([p for index in shared for p in places[index][side]] for side in (0, 1))
        values = self.figures[figure]
        starts = np.cumsum([0, *(len(places[index][0]) for index in shared)])[:-1]
        estimates = geometric_means(values[of_a] / values[of_b], starts)
        found: list[Estimate | None] = [None] * len(cases)
        for index, estimate in zip(shared, estimates, strict=True):
            found[index] = estimate if estimate.value == estimate.value else None
        return found

    def medians(self, columns: Mapping[str, np.ndarray]) -> dict[str, dict[str, float | None]]:
        """Return, by case, the median over trials of each of ``columns`` (``[trials]``); None if no
        trial has a value."""
        codes = np.repeat(np.arange(len(self.cases)), self._ends - self._starts)
        found = pd.DataFrame(columns).groupby(codes).median().to_dict("records")
        return {
            case: {str(name): None if value != value else value for name, value in row.items()}
            for case, row in zip(self.cases, found, strict=True)
        }

    def paired_ratio(self, figure: str, a: Sequence[int], b: Sequence[int]) -> Ratio | None:
        """Return B over A, paired by round (see ``qbench.analysis.statistics.verdict``); None if a
        trial does not have the figure, or there is no round.

        Args:
            a, b: ``[rounds]`` indices from ``pairs``.
        """
        logs = self.logs[figure][b] - self.logs[figure][a]
        if not len(logs) or np.isnan(logs).any():
            return None
        return ratio_of_shift(paired_shift(logs), len(logs))

    def moments(self, figure: str, cases: Sequence[str]) -> tuple[np.ndarray, ...]:
        """Return ``statistics.estimates.moments`` of each case's logarithms, ``[cases]`` each."""
        places = [self._places[case] for case in cases]
        sizes, means, variances = moments(self.logs[figure], self._starts)
        return sizes[places], means[places], variances[places]


def ratio_of_shift(shift: Shift, rounds: int) -> Ratio:
    """Convert a shift of the logarithm into a ratio."""
    low, high = (None if end is None else float(np.exp(end)) for end in (shift.low, shift.high))
    return Ratio(float(np.exp(shift.value)), low, high, True, rounds, shift.p_value)


def welch_ratios(
    a: Trials, b: Trials, cases: Sequence[tuple[str, str]], figure: str
) -> list[Ratio | None]:
    """Return the unpaired ratio of each pair of cases, with Welch's interval and test on the
    logarithms (Welch, Biometrika 1947); None if a trial does not have the figure.

    Args:
        cases: pairs of case ids, of A and of B; both have trials.
    """
    from scipy import special  # Student's t; importing scipy.stats takes half a second

    if not cases:
        return []
    n_a, mean_a, variance_a = a.moments(figure, [case for case, _ in cases])
    n_b, mean_b, variance_b = b.moments(figure, [case for _, case in cases])
    shift, rounds = mean_b - mean_a, np.minimum(n_a, n_b)
    with np.errstate(invalid="ignore", divide="ignore"):
        of_a, of_b = variance_a / n_a, variance_b / n_b
        error = np.sqrt(of_a + of_b)
        freedom = (of_a + of_b) ** 2 / (of_a**2 / (n_a - 1) + of_b**2 / (n_b - 1))
        spread = error > ROUNDING
        half = np.where(spread, special.stdtrit(freedom, (1 + CONFIDENCE) / 2) * error, 0.0)
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
            p_value if enough and varies else None,
        )
        for (value, low, high), count, enough, varies, p_value in zip(
            ends,
            rounds.tolist(),
            (rounds >= MIN_ROUNDS).tolist(),
            spread.tolist(),
            p_values.tolist(),
            strict=True,
        )
    ]


def ratio_of_estimates(a: Estimate, b: Estimate) -> Ratio:
    """Return the ratio of two positive figures, with an interval from their intervals on the
    logarithms (MOVER: Zou & Donner, Statistics in Medicine 2008)."""
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
