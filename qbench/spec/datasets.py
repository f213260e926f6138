"""Data set cards, and choices of items of a data set."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast

from pydantic import Field, field_validator, model_validator

from qbench.spec.files import SourceFile
from qbench.spec.suite import Name, PositiveInt
from qbench.spec.yamlfile import Strict

Truth = Literal["classes", "boxes", "masks", "scores", "none"]
IGNORE = 255
"""The value of ignored pixels in masks."""


class Sample(Strict):
    """``count`` items drawn without replacement, reproducible by ``seed``.

    Attributes:
        skip: number of items to discard first: those that a sample of this count and the same seed
            draws, so that the two samples are disjoint.
    """

    count: PositiveInt
    seed: int = 0
    skip: Annotated[int, Field(ge=0)] = 0

    def draw(self, indices: range) -> list[int]:
        """The sample of ``indices``, ascending: after ``skip``, the ``count`` indices with the
        smallest SHA-256 of ``"seed:index"``. The same on every machine and with every version of
        every library; a larger sample contains it.

        Raises:
            ValueError: there are fewer than ``skip + count`` indices.
        """
        if self.skip + self.count > len(indices):
            after = f" after the first {self.skip}" if self.skip else ""
            raise ValueError(f"a sample of {self.count}{after} cannot be drawn from {len(indices)}")

        def rank(index: int) -> bytes:
            return hashlib.sha256(f"{self.seed}:{index}".encode()).digest()

        return sorted(sorted(indices, key=rank)[self.skip : self.skip + self.count])


class Split(Strict):
    """A choice of items of a data set.

    Attributes:
        items: ``"first:end"`` as in Python. Default: all items.
        sample: a random sample of them. Default: all.
    """

    dataset: Name
    items: Annotated[str, Field(pattern=r"^\d*:\d*$")] = ":"
    sample: Sample | None = None

    def range(self, total: int) -> range:
        """The indices of ``items`` in a data set of ``total`` items."""
        first, _, end = self.items.partition(":")
        return range(total)[slice(int(first) if first else None, int(end) if end else None)]

    def choose(self, total: int, pairs: bool = False) -> list[int]:
        """The indices of the chosen items in a data set of ``total`` items, ascending.

        Args:
            pairs: items 2k and 2k+1 belong together and are chosen together.

        Raises:
            ValueError: the sample is larger than its population, or would split a pair.
        """
        indices = self.range(total)
        if not pairs:
            return self.sample.draw(indices) if self.sample else list(indices)
        sample = self.sample
        parts = (indices.start, len(indices), sample.count if sample else 0)
        if any(part % 2 for part in (*parts, sample.skip if sample else 0)):
            raise ValueError(
                "items 2k and 2k+1 are a pair: first, end, count and skip must be even"
            )
        both = range(indices.start // 2, indices.stop // 2)
        drawn: Iterable[int] = both
        if sample is not None:
            halves = Sample(count=sample.count // 2, seed=sample.seed, skip=sample.skip // 2)
            drawn = halves.draw(both)
        return [index for pair in drawn for index in (2 * pair, 2 * pair + 1)]


class PartOf(Strict):
    """The official data set that contains this one, so that figures on a part of it are not printed
    as the official score."""

    name: Annotated[str, Field(min_length=1)]
    items: PositiveInt


@dataclass(frozen=True)
class Format:
    """The requirements of a data set's format.

    Attributes:
        files: required keys of ``files``; ``optional``: optional ones.
        truths: possible kinds of labels, the default first.
        arrays: whether the card's ``arrays`` and ``labels`` name arrays or columns.
        encoded: whether its items are image files, to be decoded.
    """

    files: frozenset[str]
    truths: tuple[Truth, ...]
    optional: frozenset[str] = frozenset()
    arrays: bool = False
    encoded: bool = False


FormatName = Literal[
    "npz", "image-folder", "image-zip", "yolo", "segmentation", "tsv", "cifar10", "mnist", "records"
]
_PICTURES, _DATA, _LABELS = frozenset({"images"}), frozenset({"data"}), frozenset({"labels"})
_CLASSES: tuple[Truth, ...] = ("classes", "none")
FORMATS = {
    "npz": Format(_DATA, ("classes", "boxes", "masks", "scores"), arrays=True),
    "image-folder": Format(_PICTURES, _CLASSES, optional=_LABELS, arrays=True, encoded=True),
    "image-zip": Format(_PICTURES, _CLASSES, optional=_LABELS, arrays=True, encoded=True),
    "yolo": Format(_PICTURES, ("boxes",), optional=_LABELS, encoded=True),
    "segmentation": Format(_PICTURES | {"masks"}, ("masks",), encoded=True),
    "tsv": Format(_DATA, ("classes", "scores"), arrays=True),
    "cifar10": Format(_DATA, ("classes",)),
    "mnist": Format(_PICTURES | _LABELS, ("classes",)),
    "records": Format(_DATA, _CLASSES),
}
"""By the card's ``format``; docs/data-sets.md describes each."""


class Record(Strict):
    """The content of each file of the format ``records``: numbers, little-endian.

    Attributes:
        label: a regular expression whose group finds an item's class in its file's name.
    """

    dtype: Literal["int8", "uint8", "int16", "uint16", "int32", "float32"]
    shape: Annotated[list[PositiveInt], Field(min_length=1)]
    label: str | None = None

    @field_validator("label")
    @classmethod
    def _one_group(cls, value: str | None) -> str | None:
        try:
            groups = re.compile(value or "()").groups
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        if groups != 1:
            raise ValueError("the expression has one group, such as '_([0-9]+)[.]bin$'")
        return value


class LocalForm(Strict):
    """The same items in another form, if its files are below the suite's folder or
    ``$QBENCH_ASSETS``; never downloaded. Its keys are those of the card."""

    format: FormatName
    files: dict[str, SourceFile]
    arrays: Annotated[dict[str, str], Field(min_length=1)] | None = None
    labels: str | None = None


class DatasetCard(Strict):
    """A data set; docs/data-sets.md shows one for each format.

    Attributes:
        files: the format's files, see ``FORMATS``.
        arrays: array (npz) or column (CSV, TSV), by the name that models use.
        labels: the array or column of labels; None if there are none, or the format has its own.
        columns: names of the columns of ``files.labels``, if it has no heading.
        truth: kind of labels: classes, boxes (``yolo``), masks (``segmentation``), scores: one
            for every two items (items 2k and 2k+1 are a pair), or none.
        record: only ``records``: the content of a file.
        select: the items of the files that belong to the data set, ``first:end:step`` as in Python.
            Default: all.
        local: the selected items in another form, looked for first.
        pair: only ``tsv`` with scores: the column of the second text.
        part: only ``cifar10``: its training or its test files, where ``data`` holds both.
        items: number of items that there must be. Default: not checked.
        classes: number of classes, so that labels lie in 0..classes-1. Default: unbounded, or the
            number of sub-folders.
        part_of: the official data set that contains this one, or equals it.
        whole: the card of that official data set, used instead by a user who has it (``--data``).
    """

    name: Name
    description: str = ""
    licence: str | None = None
    homepage: str | None = None
    format: FormatName
    files: dict[str, SourceFile]
    arrays: Annotated[dict[str, str], Field(min_length=1)] | None = None
    labels: str | None = None
    columns: Annotated[list[str], Field(min_length=1)] | None = None
    truth: Truth = "classes"
    record: Record | None = None
    select: Annotated[str, Field(pattern=r"^\d*:\d*(:[1-9]\d*)?$")] | None = None
    local: LocalForm | None = None
    pair: str | None = None
    part: Literal["train", "test"] | None = None
    items: PositiveInt | None = None
    classes: PositiveInt | None = None
    part_of: PartOf | None = None
    whole: Name | None = None

    @model_validator(mode="before")
    @classmethod
    def _usual_truth(cls, value: Any) -> Any:
        """Fill in the format's default kind of labels."""
        content = cast("dict[Any, Any]", value) if isinstance(value, dict) else {}
        form = FORMATS.get(str(content.get("format")))
        if form is None or "truth" in content:
            return cast("Any", value)
        return {**content, "truth": form.truths[0]}

    @model_validator(mode="after")
    def _fits_its_format(self) -> DatasetCard:
        form = FORMATS[self.format]
        given = set(self.files)
        if not form.files <= given or not given <= form.files | form.optional:
            may = f" (and may have {sorted(form.optional)})" if form.optional else ""
            raise ValueError(f"format {self.format} needs files {sorted(form.files)}{may}")
        if self.truth not in form.truths:
            raise ValueError(
                f"format {self.format} has {' or '.join(form.truths)}, no {self.truth}"
            )
        if not form.arrays and (self.arrays or self.labels):
            raise ValueError(f"format {self.format} has its own arrays and labels: leave them out")
        if self.format.startswith("image-"):
            if "labels" not in self.files and (self.arrays or self.labels):
                raise ValueError("arrays and labels name columns of files.labels, which is missing")
            if self.arrays is not None and len(self.arrays) != 1:
                raise ValueError(f"format {self.format} has one array: its column of file names")
        if (self.pair is not None) != (self.format == "tsv" and self.truth == "scores"):
            raise ValueError(
                "'pair' names the second text of a tsv with truth: scores, which needs it"
            )
        if self.pair is not None and len(self.arrays or "1") != 1:
            raise ValueError("with 'pair' there is one array: the column of the first text")
        if self.part is not None and self.format != "cifar10":
            raise ValueError(f"format {self.format} has no 'part': name the files of a part")
        if (self.record is not None) != (self.format == "records"):
            raise ValueError("'record' describes the files of the format records, which needs it")
        if self.record is not None and (self.record.label is None) != (self.truth == "none"):
            raise ValueError("record.label finds the classes; without them, 'truth: none'")
        if self.columns is not None and not (
            self.format.startswith("image-") and "labels" in self.files
        ):
            raise ValueError("'columns' names the columns of files.labels, a CSV without heading")
        if self.select is not None and self.truth == "scores":
            raise ValueError("items with scores are pairs: 'select' would split them")
        if self.local is not None:
            self.as_local()
        if self.truth == "masks" and self.classes is not None and self.classes > IGNORE:
            raise ValueError(f"masks hold at most {IGNORE} classes: {IGNORE} means ignore")
        return self

    def as_local(self) -> DatasetCard:
        """The card of the items in their ``local`` form.

        Raises:
            ValueError: ``local`` does not fit its format.
        """
        assert self.local is not None
        kept = self.model_dump(
            include={"name", "description", "licence", "homepage", "truth", "items", "classes"}
        )
        part_of = self.part_of and self.part_of.model_dump()
        return DatasetCard.model_validate(
            {**kept, "part_of": part_of, **self.local.model_dump(exclude_none=True)}
        )
