"""Read data sets of texts: a TSV with a heading."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from qbench.data.readers.base import Label, Reader
from qbench.data.table import Table
from qbench.spec.datasets import DatasetCard


class TsvReader(Reader):
    """Tab-separated columns without quoting: texts with classes, or pairs of texts with a score. A
    row with a pair is two items."""

    def __init__(self, card: DatasetCard, files: Mapping[str, Path]) -> None:
        super().__init__(card)
        self._table = Table(files["data"], tabs=True)
        self._columns = card.arrays or {"text": "text"}
        self._texts = 2 if card.pair else 1
        self.arrays = list(self._columns)
        self.labelled = card.labels is not None
        for column in (*self._columns.values(), card.pair, card.labels):
            if column is not None:
                self._table.need(column)

    def __len__(self) -> int:
        return len(self._table.rows) * self._texts

    def get(self, name: str, index: int) -> np.ndarray | str:
        row, second = divmod(index, self._texts)
        return self._table.rows[row][str(self.card.pair) if second else self._columns[name]]

    def label(self, index: int) -> Label:
        row, column = index // self._texts, str(self.card.labels)
        if self.card.truth == "scores":
            return self._table.number(row, column)
        return self._table.integer(row, column)

    def title(self, index: int) -> str:
        return f"line {self._table.lines[index // self._texts]}"
