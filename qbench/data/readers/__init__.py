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
from qbench.data.readers.text import TsvReader
from qbench.spec.datasets import DatasetCard

__all__ = ["READERS", "Label", "Reader"]

READERS: Mapping[str, Callable[[DatasetCard, Mapping[str, Path]], Reader]] = {
    "npz": NpzReader,
    "image-folder": ClassReader,
    "image-zip": ClassReader,
    "yolo": YoloReader,
    "segmentation": SegmentationReader,
    "tsv": TsvReader,
    "cifar10": Cifar10Reader,
    "mnist": MnistReader,
}
"""Readers by the card's ``format``. Called with the card and its files by name; raises UserError if
they are not readable."""
