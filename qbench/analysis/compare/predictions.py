"""Scores of evaluations, from a bundle's predictions, and their paired differences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from qbench.analysis.quality.judge import Score, find_scores
from qbench.bundle.bundle import Bundle
from qbench.errors import UserError
from qbench.spec.columns import CaseRow
from qbench.spec.judging import Judging


@dataclass(frozen=True)
class Delta:
    """The metric of B minus that of A, in the metric's unit: 0.01 of a share is one point.

    Attributes:
        low, high: its 95 % interval, for matched pairs or by the paired bootstrap; None unless
            paired; 0 for equal outputs.
        paired: whether it was computed item by item from both sides' predictions.
        items: number of items; None unless paired.
        p_value: McNemar's exact p-value; None where not paired, all outputs are equal, or the
            metric is not a share of items.
    """

    value: float
    low: float | None
    high: float | None
    paired: bool
    items: int | None
    p_value: float | None


class Predictions:
    """Scores of a bundle's evaluations, computed on first use."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._records = bundle.evaluated
        self._scores: dict[str, Mapping[str, Score] | None] = {}
        self._items: dict[str, tuple[np.ndarray | None, np.ndarray | None]] = {}

    def judging(self, model: str) -> Judging:
        return self._bundle.plan.models[model]

    def items(self, model: str) -> tuple[np.ndarray | None, np.ndarray | None]:
        """The labels, and the indices of their items in the data set; None where not kept."""
        if model not in self._items:
            self._items[model] = self._bundle.labels(model), self._bundle.chosen(model)
        return self._items[model]

    def scores(self, evaluation_id: str, model: str) -> Mapping[str, Score] | None:
        """Scores by metric; None without labels.

        Raises:
            UserError, ValueError: predictions are missing, damaged, or do not fit the labels.
        """
        if evaluation_id not in self._scores:
            outputs = self._bundle.outputs_of(self._records[evaluation_id])
            labels, _ = self.items(model)
            self._scores[evaluation_id] = find_scores(outputs, labels, self.judging(model))
        return self._scores[evaluation_id]


class Deltas:
    """Differences in accuracy between cases of A and of B; computed once for cases that share their
    evaluations."""

    def __init__(self, a: Predictions, b: Predictions) -> None:
        self._a, self._b = a, b
        self._same_items: dict[tuple[str, str], bool] = {}
        self._found: dict[tuple[str, str], Delta | None] = {}

    def of(self, a: CaseRow, b: CaseRow, evaluation_a: str, evaluation_b: str) -> Delta | None:
        """B's accuracy minus A's; None where one has none.

        If predictions are missing, damaged, or of other items, it is the unpaired difference of the
        two published figures.

        Args:
            a, b: rows of the case table, with the same metric.
        """
        if a.accuracy is None or b.accuracy is None:
            return None
        if a.outputs_digest == b.outputs_digest and a.accuracy == b.accuracy:
            return Delta(0.0, 0.0, 0.0, True, a.accuracy_items, None)
        key = evaluation_a, evaluation_b
        if key not in self._found:
            self._found[key] = self._paired(a, b, evaluation_a, evaluation_b)
        return self._found[key] or Delta(b.accuracy - a.accuracy, None, None, False, None, None)

    def _paired(self, a: CaseRow, b: CaseRow, evaluation_a: str, evaluation_b: str) -> Delta | None:
        metric = str(a.accuracy_metric)
        try:
            if not self._are_of_same_items(a.model, b.model):
                return None
            of_a = self._a.scores(evaluation_a, a.model)
            of_b = self._b.scores(evaluation_b, b.model)
            if of_a is None or of_b is None:
                return None
            score: Any = of_b[metric]  # of the same kind as A's: one judging makes both
            (value, low, high), p_value, _ = score.less(of_a[metric])
        except (UserError, ValueError, KeyError, IndexError, MemoryError):
            return None  # as `qbench verify --recompute` says in words
        return Delta(value, low, high, True, a.accuracy_items, p_value)

    def _are_of_same_items(self, model_a: str, model_b: str) -> bool:
        """Whether both are scored in the same way, by the same labels of the same items."""
        key = model_a, model_b
        if key not in self._same_items:
            arrays = zip(self._a.items(model_a), self._b.items(model_b), strict=True)
            self._same_items[key] = self._a.judging(model_a) == self._b.judging(model_b) and all(
                first is last is None
                or (first is not None and last is not None and np.array_equal(first, last))
                for first, last in arrays
            )
        return self._same_items[key]
