"""Read data sets of raw numbers, a file an item."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from qbench.data.readers.archive import open_files
from qbench.data.readers.base import Reader
from qbench.spec.datasets import DatasetCard


class RecordsReader(Reader):
    """Files of one size in a folder or zip, in the order of their names; the class is in the
    file's name. With ``record.label``, files whose names do not match are no items."""

    arrays = ("data",)

    def __init__(self, card: DatasetCard, files: Mapping[str, Path]) -> None:
        super().__init__(card)
        assert card.record is not None
        self._dtype = np.dtype(card.record.dtype).newbyteorder("<")
        self._shape = card.record.shape
        self._files = open_files(files["data"])
        self._names = self._files.names
        self._labels: list[int] = []
        self.labelled = card.record.label is not None
        if card.record.label is not None:
            found = {name: re.search(card.record.label, name) for name in self._names}
            matches = {name: match[1] for name, match in found.items() if match}
            self._names = list(matches)
            self._labels = [self._integer(name, text) for name, text in matches.items()]

    def _integer(self, name: str, text: str) -> int:
        try:
            return int(text)
        except ValueError:
            raise self.error(f"{name}: its class '{text[:60]}' is not an integer") from None

    def close(self) -> None:
        self._files.close()

    def __len__(self) -> int:
        return len(self._names)

    def get(self, name: str, index: int) -> np.ndarray:
        content = self._files.read(self._names[index])
        wanted = math.prod(self._shape) * self._dtype.itemsize
        if len(content) != wanted:
            raise self.error(
                f"{self._names[index]} has {len(content)} bytes; {self._dtype.name} "
                f"{self._shape} takes {wanted}"
            )
        native = self._dtype.newbyteorder("=")
        return np.frombuffer(content, self._dtype).astype(native).reshape(self._shape)

    def label(self, index: int) -> int:
        return self._labels[index]

    def title(self, index: int) -> str:
        return f"item {index} ({self._names[index]})"
