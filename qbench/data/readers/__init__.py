"""Read data sets in their own formats: arrays and labels, one item at a time.

Files are untrusted: nothing is unpickled, nothing outside them is read, sizes are limited, and
damage is a UserError that names the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from qbench.data.readers.arrays import Cifar10Reader, MnistReader, NpzReader
from qbench.data.readers.base import Label, Reader
from qbench.data.readers.pictures import ClassReader, SegmentationReader, YoloReader
from qbench.data.readers.records import RecordsReader
from qbench.data.readers.selected import SelectedReader
from qbench.data.readers.text import TsvReader
from qbench.spec.datasets import DatasetCard

__all__ = ["Label", "Reader", "open_reader"]

_READERS: Mapping[str, Callable[[DatasetCard, Mapping[str, Path]], Reader]] = {
    "npz": NpzReader,
    "image-folder": ClassReader,
    "image-zip": ClassReader,
    "yolo": YoloReader,
    "segmentation": SegmentationReader,
    "tsv": TsvReader,
    "cifar10": Cifar10Reader,
    "mnist": MnistReader,
    "records": RecordsReader,
}
"""By the card's ``format``."""


def open_reader(card: DatasetCard, files: Mapping[str, Path]) -> Reader:
    """Return a reader of the card's items.

    Args:
        files: the card's files, by name.

    Raises:
        UserError: they are not readable.
    """
    reader = _READERS[card.format](card, files)
    return reader if card.select is None else SelectedReader(reader, card.select)
