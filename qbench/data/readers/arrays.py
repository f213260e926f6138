"""Read data sets stored as arrays: ``.npz``, CIFAR-10's files, MNIST's files."""

from __future__ import annotations

import gzip
import re
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from qbench.data.readers.base import Label, Reader
from qbench.errors import UserError, check_known
from qbench.spec.datasets import DatasetCard
from qbench.spec.files import inside

MAX_ARRAY_BYTES = 16_000_000_000
"""Maximum size of an array of an ``.npz``."""
MAX_IDX_BYTES = 1_000_000_000
"""Maximum size of an unpacked file of MNIST's family; the largest has 547 MB (EMNIST)."""


class NpzReader(Reader):
    """Arrays by name; the card's ``labels`` names the array of labels."""

    def __init__(self, card: DatasetCard, files: Mapping[str, Path]) -> None:
        super().__init__(card)
        path = files["data"]
        self.labelled = card.labels is not None
        content = _load_npz(path, [*(card.arrays or {}).values()], card.labels)
        self._labels = content.pop(card.labels) if card.labels else np.empty(0)
        names = card.arrays or {name: name for name in content}
        self._arrays = {name: content[key] for name, key in names.items()}
        self.arrays = list(self._arrays)
        lengths = {array.shape[:1] for array in self._arrays.values()}
        if len(lengths) != 1 or lengths == {()}:
            raise self.error("its arrays differ in how many items they hold")
        self._check_labels()

    def _check_labels(self) -> None:
        labels, items = self._labels, len(self)
        if not self.labelled:
            return
        kind, ndim, length = {
            "classes": ("iu", 1, items),
            "boxes": ("f", 2, None),
            "masks": ("iu", 3, items),
            "scores": ("iuf", 1, items // 2),
        }[self.card.truth]
        if self.card.truth == "classes" and labels.shape == (items, 1):
            labels = labels.ravel()  # as Keras stores them
        what = {"iu": "integers", "f": "floats", "iuf": "numbers"}[kind]
        if labels.dtype.kind not in kind:
            raise self.error(
                f"the array '{self.card.labels}' holds {labels.dtype}, and labels of "
                f"{self.card.truth} are {what}"
            )
        if labels.ndim != ndim:
            raise self.error(
                f"the array '{self.card.labels}' has the shape {list(labels.shape)}; labels of "
                f"{self.card.truth} have {ndim} axes"
            )
        if length is not None and len(labels) != length:
            raise self.error(
                f"its arrays differ in how many items they hold: {items} items, {len(labels)} "
                f"labels of {self.card.truth}"
            )
        if self.card.truth == "boxes":
            self._check_boxes(labels)
        self._labels = labels

    def _check_boxes(self, boxes: np.ndarray) -> None:
        """Reject boxes that belong to no item."""
        if boxes.shape[1] != 6:
            raise self.error(
                f"boxes have 6 columns (item, class, x1, y1, x2, y2), not {boxes.shape[1]}"
            )
        items = boxes[:, 0]
        fits = (items >= 0) & (items < len(self)) & (items == np.floor(items))
        if not fits.all():
            row = int(np.argmin(fits))
            raise self.error(
                f"box {row} belongs to item {items[row]:g}; items are 0 to {len(self) - 1}"
            )

    def __len__(self) -> int:
        return len(next(iter(self._arrays.values())))

    def get(self, name: str, index: int) -> np.ndarray | str:
        item = self._arrays[name][index]
        return str(item) if isinstance(item, np.str_) else item

    def label(self, index: int) -> Label:
        match self.card.truth:
            case "classes":
                return int(self._labels[index])
            case "scores":
                return float(self._labels[index // 2])
            case "boxes":
                return self._labels[self._labels[:, 0] == index][:, 1:]
            case _:
                return self._labels[index]


def _load_npz(path: Path, arrays: list[str], labels: str | None) -> dict[str, np.ndarray]:
    """Load the named arrays and the labels; all arrays if none is named."""
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if info.file_size > MAX_ARRAY_BYTES:
                    raise UserError(f"{path}: '{info.filename}' is over {MAX_ARRAY_BYTES} bytes")
        with np.load(path, allow_pickle=False) as file:
            wanted = [*(arrays or file.files), *([labels] if labels else [])]
            for key in wanted:
                check_known(key, file.files, f"{path} has no array '{key}'")
            return {key: file[key] for key in dict.fromkeys(wanted)}
    except UserError:
        raise
    except Exception as error:  # a damaged file can raise anything: zlib.error, TokenError, ...
        raise UserError(f"{path} is not a readable .npz file: {error}") from None


def array_names(path: Path) -> list[str]:
    """Names of the arrays of an ``.npz``.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return list(file.files)
    except Exception as error:  # as in _load_npz; an .npy has no names
        raise UserError(f"{path} is not a readable .npz file: {error}") from None


class _PictureArrays(Reader):
    """Pictures ``[items, height, width, ...]`` and their classes, in memory."""

    arrays = ("image",)
    _images: np.ndarray
    _labels: np.ndarray

    def __len__(self) -> int:
        return len(self._labels)

    def get(self, name: str, index: int) -> np.ndarray:
        return self._images[index]

    def label(self, index: int) -> int:
        return int(self._labels[index])


class Cifar10Reader(_PictureArrays):
    """CIFAR-10's binary version: records of a label and 32x32 pixels, one plane for each colour
    (https://www.cs.toronto.edu/~kriz/cifar.html, "Binary version").

    ``files.data`` is one ``.bin`` file, or the folder or ``.tar.gz`` that holds all of them.
    """

    RECORD = 1 + 3 * 32 * 32
    MAX_BYTES = 10_000 * RECORD
    NAMES = re.compile(r"(data_batch_[1-5]|test_batch)\.bin")

    classes = 10

    def __init__(self, card: DatasetCard, files: Mapping[str, Path]) -> None:
        super().__init__(card)
        path = files["data"]
        if path.is_dir():
            batches = {p.name: self._read(p) for p in path.rglob("*.bin") if self._is_batch(p.name)}
        elif path.name.endswith((".tar.gz", ".tgz", ".tar")):
            batches = self._unpacked(path)
        else:
            if card.part is not None:
                raise self.error("'part' chooses among several files, but data names a single one")
            batches = {"": self._read(path)}
        if "" not in batches:
            batches = self._chosen(batches, path)
        for name, data in batches.items():
            if not data or len(data) % self.RECORD:
                raise self.error(
                    f"{name or path.name} has {len(data)} bytes, not one or more records of "
                    f"{self.RECORD} bytes: it is truncated, or another format",
                    _PICKLED if data[:1] == b"\x80" else "",
                )
        records = np.frombuffer(b"".join(batches.values()), np.uint8).reshape(-1, self.RECORD)
        self._labels = records[:, 0]
        self._images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)

    def _is_batch(self, name: str) -> bool:
        return self.NAMES.fullmatch(name) is not None

    def _read(self, path: Path) -> bytes:
        try:
            if path.stat().st_size > self.MAX_BYTES:
                raise self.error(f"{path} is larger than any of CIFAR-10's files")
            return path.read_bytes()
        except OSError as error:
            raise self.error(f"cannot read {path}: {error.strerror}") from None

    def _unpacked(self, path: Path) -> dict[str, bytes]:
        batches: dict[str, bytes] = {}
        try:
            with tarfile.open(path) as archive:
                for member in archive:
                    if not inside(member.name) or not (member.isfile() or member.isdir()):
                        raise self.error(
                            f"{path}: the entry '{member.name}' is a link, a device, or points "
                            "outside the archive"
                        )
                    if member.size > self.MAX_BYTES:
                        raise self.error(
                            f"{path}: '{member.name}' is larger than any of CIFAR-10's files"
                        )
                    name = member.name.rpartition("/")[2]
                    wanted = self._is_batch(name) and name.startswith(self._start)
                    file = archive.extractfile(member) if wanted else None
                    if file is not None:
                        batches[name] = file.read()
        except (tarfile.TarError, EOFError, OSError, zlib.error, ValueError) as error:
            raise self.error(f"{path} cannot be read as a tar archive: {error}") from None
        return batches

    def _chosen(self, batches: dict[str, bytes], path: Path) -> dict[str, bytes]:
        """Return the files of the card's part, in order."""
        if self.card.part is None:
            raise self.error(
                f"{path.name} holds several files", "Add 'part: test' or 'part: train'."
            )
        chosen = {name: batches[name] for name in sorted(batches) if name.startswith(self._start)}
        if not chosen:
            raise self.error(f"{path} holds no {self._start}*.bin", _PICKLED)
        return chosen

    @property
    def _start(self) -> str:
        """How the names of the part's files start."""
        return {"test": "test_batch", "train": "data_batch", None: ""}[self.card.part]

    def origin(self, index: int) -> int:
        """Number test items after the 50000 training items of the same archive."""
        return index + 50_000 if self.card.part == "test" else index


_PICKLED = (
    "qbench reads only the binary version (cifar-10-binary.tar.gz), never the pickled 'python' "
    "version: unpickling can run arbitrary code."
)


class MnistReader(_PictureArrays):
    """MNIST's IDX files (http://yann.lecun.com/exdb/mnist, "File formats"), with or without gzip;
    also of Fashion-MNIST, KMNIST and EMNIST."""

    def __init__(self, card: DatasetCard, files: Mapping[str, Path]) -> None:
        super().__init__(card)
        self._images = read_idx(files["images"], axes=3)
        self._labels = read_idx(files["labels"], axes=1)
        if len(self._images) != len(self._labels):
            raise self.error(f"{len(self._images)} images, but {len(self._labels)} labels")


def read_idx(path: Path, axes: int) -> np.ndarray:
    """Read an IDX file of unsigned bytes, with or without gzip, as uint8 with ``axes`` axes.

    Raises:
        UserError: it is truncated, too long, or another format.
    """
    try:
        with path.open("rb") as plain:
            packed = plain.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as file:
            header = file.read(4 + 4 * axes)
            if header[:4] != bytes([0, 0, 8, axes]) or len(header) != 4 + 4 * axes:
                raise UserError(f"{path} is not an IDX file of unsigned bytes with {axes} axes")
            shape = [int(n) for n in np.frombuffer(header, ">u4", offset=4)]
            size = 1
            for length in shape:
                size *= length
            if size > MAX_IDX_BYTES:
                raise UserError(f"{path}: its header says {size} bytes, over {MAX_IDX_BYTES}")
            data = file.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    if len(data) != size:
        found = "more" if len(data) > size else str(len(data))
        raise UserError(f"{path}: its header says {size} bytes of data, but it holds {found}")
    return np.frombuffer(data, np.uint8).reshape(shape)
