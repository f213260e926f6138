"""A metric's figure with what is needed to give it an interval and to compare it in pairs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from qbench.analysis.statistics import estimates

POINT = 0.01
"""The half width that ``items_needed`` asks for: one point."""


class Difference(NamedTuple):
    """A figure less the reference's on the same items.

    Attributes:
        p: McNemar's; None where the figure is no share of items.
        items_needed: how many items would give ±1 point at the disagreement seen; None likewise.
    """

    estimate: estimates.Estimate
    p: float | None = None
    items_needed: int | None = None


@dataclass(frozen=True)
class Share:
    """A share of items that were right. Wilson's interval; differences by Agresti and Min.

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
        """Against ``base``, of the same items."""
        disagreement = estimates.disagreement(self.right, base.right)
        return Difference(
            estimates.paired_difference(self.right, base.right),
            estimates.mcnemar(self.right, base.right),
            estimates.items_needed(disagreement, POINT),
        )


@dataclass(frozen=True)
class Figure:
    """A figure of the whole set that is no mean over its items. Intervals by the bootstrap.

    Attributes:
        value: by the library that the field uses.
        statistic: the same for resamples.
        items: how many are resampled.
    """

    value: float
    statistic: Callable[[np.ndarray], np.ndarray]
    items: int

    def estimate(self) -> estimates.Estimate:
        return estimates.bootstrap(self.value, self.statistic, self.items)

    def less(self, base: Figure) -> Difference:
        """Against ``base``, of the same items."""
        return Difference(
            estimates.paired_bootstrap(
                self.value, base.value, self.statistic, base.statistic, self.items
            )
        )
