"""Reading data sets as they are stored: arrays and labels, one item at a time.

Files come from outside: nothing is unpickled, sizes are bounded, and whatever is damaged is a
UserError that names the data set.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from qbench.data.cards import DatasetCard
from qbench.errors import UserError, nearest

MAX_IMAGE_BYTES = 50_000_000


class Reader(Protocol):
    """An open data set; ``get`` gives one item of an input as it is stored, ``label`` its class."""

    def __enter__(self) -> Reader: ...
    def __exit__(self, *exc: object) -> None: ...
    def __len__(self) -> int: ...
    def get(self, name: str, index: int) -> np.ndarray: ...
    def label(self, index: int) -> int: ...


class NpzReader:
    def __init__(self, card: DatasetCard, files: Mapping[str, Path]) -> None:
        self._card = card
        try:
            self._file = np.load(files["data"], allow_pickle=False)
            wanted = [*card.arrays.values(), *([card.labels] if card.labels else [])]
            for key in wanted:
                if key not in self._file.files:
                    raise UserError(
                        f"data set {card.name}: {files['data'].name} has no array '{key}'",
                        nearest(key, self._file.files),
                    )
            self._arrays = {n: self._file[key] for n, key in card.arrays.items()}
            self._labels = self._file[card.labels].ravel() if card.labels else None
        except UserError:
            raise
        except Exception as error:  # a damaged file can raise anything: zlib.error, TokenError, ...
            raise UserError(f"{files['data']} is not a readable .npz file: {error}") from None
        if self._labels is not None and self._labels.dtype.kind not in "iu":
            raise UserError(
                f"data set {card.name}: the array '{card.labels}' holds {self._labels.dtype}, "
                "and labels are integers"
            )
        lengths = {array.shape[:1] for array in self._arrays.values()}
        if self._labels is not None:
            lengths.add(self._labels.shape)
        if len(lengths) > 1 or lengths == {()}:
            raise UserError(f"data set {card.name}: its arrays differ in how many items they hold")

    def __enter__(self) -> NpzReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(next(iter(self._arrays.values())))

    def get(self, name: str, index: int) -> np.ndarray:
        return self._arrays[name][index]

    def label(self, index: int) -> int:
        assert self._labels is not None
        return int(self._labels[index])


class ImageZipReader:
    """Pictures by the names in a CSV; each is read on its own, in RGB, with limits on its size."""

    def __init__(self, card: DatasetCard, files: Mapping[str, Path]) -> None:
        self._card = card
        (self._column,) = card.arrays.values()
        try:
            self._zip = zipfile.ZipFile(files["images"])
            text = files["labels"].read_text(encoding="utf-8")
            self._rows = list(csv.DictReader(io.StringIO(text)))
        except (OSError, zipfile.BadZipFile, UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"data set {card.name} cannot be read: {error}") from None
        columns = list(self._rows[0]) if self._rows else []
        for column in (self._column, *([card.labels] if card.labels else [])):
            if column not in columns:
                raise UserError(
                    f"data set {card.name}: {files['labels'].name} has no column '{column}'",
                    nearest(column, columns),
                )

    def __enter__(self) -> ImageZipReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self._zip.close()

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, name: str, index: int) -> np.ndarray:
        from PIL import Image

        file = self._rows[index][self._column]
        try:
            if self._zip.getinfo(file).file_size > MAX_IMAGE_BYTES:
                raise UserError(f"data set {self._card.name}: {file} is implausibly large")
            with Image.open(io.BytesIO(self._zip.read(file))) as image:
                return np.asarray(image.convert("RGB"))
        except UserError:
            raise
        except Exception as error:  # a damaged picture can raise anything: zlib.error, ...
            raise UserError(f"data set {self._card.name}: cannot read {file}: {error}") from None

    def label(self, index: int) -> int:
        value: Any = self._rows[index][str(self._card.labels)]
        try:
            return int(value)
        except (ValueError, TypeError):
            raise UserError(
                f"data set {self._card.name}: label '{value}' in line {index + 2} is no integer"
            ) from None


READERS: Mapping[str, Callable[[DatasetCard, Mapping[str, Path]], Reader]] = {
    "npz": NpzReader,
    "image-zip": ImageZipReader,
}
"""By the card's ``format``."""
