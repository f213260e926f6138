"""Scores: a metric with the data for its interval and for paired comparisons."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from qbench.analysis.statistics import estimates

POINT = 0.01
"""The half width that ``items_needed`` is computed for: one point."""


class Difference(NamedTuple):
    """A score minus the reference's on the same items.

    Attributes:
        p: McNemar's p-value; None where the score is not a share of items.
        items_needed: number of items for an interval of ±1 point at the disagreement seen; None
            likewise.
    """

    estimate: estimates.Estimate
    p: float | None = None
    items_needed: int | None = None


@dataclass(frozen=True)
class Share:
    """A share of right items. Interval by Wilson; differences by Agresti and Min.

    Attributes:
        right: ``[items]`` booleans.
    """

    right: np.ndarray

    @property
    def value(self) -> float:
        return float(self.right.mean())

    def estimate(self) -> estimates.Estimate:
        return estimates.wilson(int(self.right.sum()), len(self.right))

    def less(self, base: Share) -> Difference:
        """The difference to ``base`` on the same items."""
        disagreement = estimates.disagreement(self.right, base.right)
        return Difference(
            estimates.paired_difference(self.right, base.right),
            estimates.mcnemar(self.right, base.right),
            estimates.items_needed(disagreement, POINT),
        )


@dataclass(frozen=True)
class Statistic:
    """A score of the whole set that is not a mean over its items. Intervals by the bootstrap.

    Attributes:
        value: by the library that the field uses.
        statistic: the same for resamples.
        items: number of items that are resampled.
    """

    value: float
    statistic: Callable[[np.ndarray], np.ndarray]
    items: int

    def estimate(self) -> estimates.Estimate:
        return estimates.bootstrap(self.value, self.statistic, self.items)

    def less(self, base: Statistic) -> Difference:
        """The difference to ``base`` on the same items."""
        return Difference(
            estimates.paired_bootstrap(
                self.value, base.value, self.statistic, base.statistic, self.items
            )
        )
