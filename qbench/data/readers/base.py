"""The interface of data set readers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from qbench.errors import UserError
from qbench.spec.datasets import DatasetCard

Label = int | float | np.ndarray


class Reader(ABC):
    """An open data set: stored arrays and labels, one item at a time.

    Attributes:
        arrays: names of the arrays that form an item, for ``get``.
        labelled: whether there are labels.
        classes: number of classes, from the files; None if they do not define it.
    """

    arrays: Sequence[str]
    labelled: bool = True
    classes: int | None = None

    def __init__(self, card: DatasetCard) -> None:
        self.card = card

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:  # noqa: B027 - most have nothing to close
        """Close open files."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def get(self, name: str, index: int) -> np.ndarray | str:
        """Return one item of the array ``name``: an array without a batch axis (pictures uint8 RGB
        ``[H, W, 3]``), or a text."""

    def stored(self, name: str, index: int) -> bytes | np.ndarray | str:
        """Return the item before decoding: a picture's encoded bytes (decoded by
        ``qbench.kit.pipeline.pictures``), else the same as ``get``."""
        return self.get(name, index)

    @abstractmethod
    def label(self, index: int) -> Label:
        """Return the item's label. Classes: an integer; boxes: ``[boxes, 5]`` of class, x1, y1, x2,
        y2 as fractions of the picture; masks: uint8 ``[H, W]``; scores: the score of the pair of
        items ``index, index + 1``."""

    def origin(self, index: int) -> int:
        """Return the item's position in the data set's main file, the same for all cards that read
        this file."""
        return index

    def title(self, index: int) -> str:
        """Return the item's name for messages."""
        return f"item {index}"

    def error(self, message: str, fix: str = "") -> UserError:
        """Return an error to raise, with the data set's name."""
        return UserError(f"data set {self.card.name}: {message}", fix)
