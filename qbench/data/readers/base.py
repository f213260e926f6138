"""What every reader of a data set offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from qbench.errors import UserError
from qbench.spec.datasets import DatasetCard

Label = int | float | np.ndarray


class Reader(ABC):
    """An open data set: arrays and labels as they are stored, one item at a time.

    Attributes:
        arrays: names of what an item consists of; ``get`` takes them.
        labelled: whether ``label`` gives anything.
        classes: how many the files themselves tell; None if they do not.
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
        """Let go of open files."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def get(self, name: str, index: int) -> np.ndarray | str:
        """One item of the array ``name``: an array without a batch axis (pictures uint8 RGB
        ``[H, W, 3]``), or a text."""

    def stored(self, name: str, index: int) -> bytes | np.ndarray | str:
        """The item before anything is decoded: a picture's file where there is one (RGB pixels are
        made of it by ``qbench.kit.pipeline.pictures``), else what ``get`` gives."""
        return self.get(name, index)

    @abstractmethod
    def label(self, index: int) -> Label:
        """What is true of the item: classes: an integer; boxes: ``[boxes, 5]`` of class, x1, y1,
        x2, y2 as shares of the picture; masks: uint8 ``[H, W]``; scores: that of the pair of items
        ``2k, 2k+1``, asked for with ``2k``."""

    def origin(self, index: int) -> int:
        """Where the item lies in the data set's main file: two cards that read one file agree on
        it, whatever they choose of the file."""
        return index

    def title(self, index: int) -> str:
        """The item, for messages."""
        return f"item {index}"

    def error(self, message: str, fix: str = "") -> UserError:
        """To be raised: ``message`` with the data set's name."""
        return UserError(f"data set {self.card.name}: {message}", fix)
