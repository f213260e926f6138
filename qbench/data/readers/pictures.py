"""Read data sets of picture files with classes, boxes (YOLO) or masks."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np

from qbench.data.readers.archive import Files, open_files
from qbench.data.readers.base import Label, Reader
from qbench.data.table import Table, decode
from qbench.errors import UserError
from qbench.kit.pipeline.pictures import decode as decode_picture
from qbench.spec.datasets import DatasetCard

ENDINGS = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}


class PictureReader(Reader):
    """Pictures in a folder or zip, read one by one in RGB, with limits on their size."""

    arrays = ("image",)

    def __init__(self, card: DatasetCard, files: Mapping[str, Path]) -> None:
        super().__init__(card)
        self._open: list[Files] = []
        self._images = self._files(files["images"])
        self._names = [n for n in self._images.names if PurePosixPath(n).suffix.lower() in ENDINGS]
        """Names of the pictures in the order of the items."""

    def _files(self, path: Path) -> Files:
        opened = open_files(path)
        self._open.append(opened)
        return opened

    def close(self) -> None:
        for opened in self._open:
            opened.close()

    def __len__(self) -> int:
        return len(self._names)

    def get(self, name: str, index: int) -> np.ndarray:
        return self._decoded(self._names[index], self.stored(name, index), ("RGB",))

    def stored(self, name: str, index: int) -> bytes:
        return self._images.read(self._names[index])

    def _decoded(self, name: str, content: bytes, modes: tuple[str, ...]) -> np.ndarray:
        """Decode a picture; see ``qbench.kit.pipeline.pictures.decode``."""
        try:
            return decode_picture(content, name, modes)
        except ValueError as error:
            raise self.error(str(error)) from None

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self._images.names)}

    def origin(self, index: int) -> int:
        """Return the picture's position among all files of the folder or archive."""
        return self._places[self._names[index]]

    def title(self, index: int) -> str:
        return f"item {index} ({self._names[index]})"


class ClassReader(PictureReader):
    """Pictures with a CSV of file names and classes, with a sub-folder for each class, or without
    classes."""

    def __init__(self, card: DatasetCard, files: Mapping[str, Path]) -> None:
        super().__init__(card, files)
        path = files["images"]
        if path.is_dir() != (card.format == "image-folder"):
            kind = "folder" if path.is_dir() else "zip"
            raise self.error(f"{path} is a {kind}", f"Its card needs 'format: image-{kind}'.")
        labels = files.get("labels")
        self._table = Table(labels, columns=card.columns) if labels else None
        if self._table is not None:
            ((array, column),) = (card.arrays or {"image": "file"}).items()
            self.arrays = (array,)
            self.labelled = card.labels is not None
            for wanted in (column, *([card.labels] if card.labels else [])):
                self._table.need(wanted)
            self._names = [PurePosixPath(row[column]).as_posix() for row in self._table.rows]
            self._check_names()
        elif card.truth == "none":
            self.labelled = False
        else:
            self._folders()

    def _check_names(self) -> None:
        assert self._table is not None
        first: dict[str, int] = {}
        there = set(self._images.names)
        for name, line in zip(self._names, self._table.lines, strict=True):
            where = f"{self._table.path}:{line}"
            if name not in there:
                raise UserError(f"{where}: cannot read {name}: it is not in {self._images.path}")
            if name in first:
                raise UserError(f"{where}: {name} is already in line {first[name]}")
            first[name] = line

    def _folders(self) -> None:
        """Number the sub-folders as classes, in sorted order like torchvision's ImageFolder."""
        parts = {name: PurePosixPath(name).parts for name in self._names}
        tops = {p[0] for p in parts.values()}
        if len(tops) == 1 and all(len(p) > 2 for p in parts.values()):
            parts = {name: p[1:] for name, p in parts.items()}  # all are in one folder
        loose = next((name for name, p in parts.items() if len(p) < 2), None)
        if loose is not None:
            raise self.error(
                f"{loose} is not in a sub-folder, and sub-folders are the classes",
                "Put the pictures of each class in a folder, or add files.labels, a CSV, or "
                "'truth: none'.",
            )
        classes = {name: n for n, name in enumerate(sorted({p[0] for p in parts.values()}))}
        self._classes = [classes[parts[name][0]] for name in self._names]
        self.classes = len(classes)

    def label(self, index: int) -> int:
        if self._table is None:
            return self._classes[index]
        return self._table.integer(index, str(self.card.labels))


class YoloReader(PictureReader):
    """Pictures with a text file each: lines of ``class cx cy width height``, as fractions of the
    picture (https://docs.ultralytics.com/datasets/detect). A picture without a text file has no
    objects.

    The text file of ``images/a/b.jpg`` is ``labels/a/b.txt``, or ``b.txt`` next to the picture; in
    ``files.labels``, a separate folder or zip, it is ``a/b.txt`` or ``labels/a/b.txt``.
    """

    def __init__(self, card: DatasetCard, files: Mapping[str, Path]) -> None:
        super().__init__(card, files)
        self._labels = self._files(files["labels"]) if "labels" in files else self._images
        texts = {name for name in self._labels.names if name.endswith(".txt")}
        self._texts = [self._text_of(name, texts) for name in self._names]
        if self._names and not any(self._texts):
            raise self.error(
                f"none of {len(self._names)} pictures has a text file of boxes",
                "The boxes of images/a.jpg are read from labels/a.txt or images/a.txt.",
            )

    def _text_of(self, picture: str, texts: set[str]) -> str | None:
        path = PurePosixPath(picture).with_suffix(".txt")
        parts = list(path.parts)
        candidates = [path.as_posix()]
        if "images" in parts:
            last = len(parts) - 1 - parts[::-1].index("images")
            rest = parts[last + 1 :]
            candidates += ["/".join([*parts[:last], "labels", *rest])]
            candidates += ["/".join(["labels", *rest]), "/".join(rest)]
        candidates.append(f"labels/{path.as_posix()}")
        return next((c for c in candidates if c in texts), None)

    def label(self, index: int) -> Label:
        file = self._texts[index]
        if file is None:
            return np.empty((0, 5), np.float32)
        return parse_yolo(self._labels.read(file), f"{self._labels.path}/{file}")


def parse_yolo(content: bytes, where: str) -> np.ndarray:
    """Parse the boxes of a YOLO text file: float32 ``[boxes, 5]`` of class, x1, y1, x2, y2, clipped
    to the picture (rounding puts some slightly outside).

    Raises:
        UserError: a line is malformed.
    """
    boxes = []
    for number, line in enumerate(decode(content, where).split("\n"), 1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 5:
            hint = "Polygons are not supported." if len(fields) > 5 else ""
            raise UserError(
                f"{where}:{number}: {len(fields)} values; a box has 5: class cx cy width height",
                hint,
            )
        try:
            values = [float(field) for field in fields]
        except ValueError:
            raise UserError(
                f"{where}:{number}: '{line.strip()[:60]}' is not five numbers"
            ) from None
        kind, cx, cy, width, height = values
        if not (0 <= kind < 2**24 and kind == int(kind)):
            raise UserError(f"{where}:{number}: the class '{fields[0]}' is not an integer >= 0")
        if not all(0 <= value <= 1 for value in values[1:]) or width == 0 or height == 0:
            raise UserError(
                f"{where}:{number}: a box's centre and size are fractions of the picture, in 0..1, "
                "and its size is not 0",
                "Boxes in pixels have to be divided by the picture's width and height.",
            )
        corners = (cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2)
        boxes.append([kind, *(min(max(corner, 0.0), 1.0) for corner in corners)])
    return np.asarray(boxes, np.float32).reshape(-1, 5)


class SegmentationReader(PictureReader):
    """Pictures with a mask of the same stem each: a grey or palette PNG whose pixels are classes,
    255 for pixels that do not count."""

    def __init__(self, card: DatasetCard, files: Mapping[str, Path]) -> None:
        super().__init__(card, files)
        self._masks = self._files(files["masks"])
        stems: dict[str, str] = {}
        for name in self._masks.names:
            if name.lower().endswith(".png"):
                stem = PurePosixPath(name).stem
                if stem in stems:
                    raise self.error(f"two masks are called {stem}: {stems[stem]} and {name}")
                stems[stem] = name
        if files["masks"] == files["images"]:
            raise self.error("its images and masks are the same file")
        self._mask_names = []
        for name in self._names:
            mask = stems.get(PurePosixPath(name).stem)
            if mask is None:
                raise self.error(f"{name} has no mask {PurePosixPath(name).stem}.png")
            self._mask_names.append(mask)

    def label(self, index: int) -> np.ndarray:
        name = self._mask_names[index]
        return self._decoded(name, self._masks.read(name), ("L", "P"))
