"""A choice of a data set's items, read like a data set of its own."""

from __future__ import annotations

import numpy as np

from qbench.data.readers.base import Label, Reader


class SelectedReader(Reader):
    """The items ``first:end:step`` of another reader."""

    def __init__(self, reader: Reader, select: str) -> None:
        super().__init__(reader.card)
        self._reader = reader
        limits = [int(part) if part else None for part in select.split(":")]
        self._indices = range(len(reader))[slice(*limits)]
        self.arrays, self.labelled, self.classes = reader.arrays, reader.labelled, reader.classes

    def close(self) -> None:
        self._reader.close()

    def __len__(self) -> int:
        return len(self._indices)

    def get(self, name: str, index: int) -> np.ndarray | str:
        return self._reader.get(name, self._indices[index])

    def stored(self, name: str, index: int) -> bytes | np.ndarray | str:
        return self._reader.stored(name, self._indices[index])

    def label(self, index: int) -> Label:
        return self._reader.label(self._indices[index])

    def origin(self, index: int) -> int:
        return self._reader.origin(self._indices[index])

    def title(self, index: int) -> str:
        return self._reader.title(self._indices[index])
