"""Data set cards, and which items of a data set are used."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, model_validator

from qbench.spec.files import SourceFile
from qbench.suite import Name, PositiveInt
from qbench.yamlfile import Strict

Truth = Literal["classes", "boxes", "masks", "scores"]
IGNORE = 255
"""In masks: a pixel that does not count."""


class Sample(Strict):
    """``count`` items drawn without replacement, the same ones for the same ``seed``.

    Attributes:
        skip: leave out so many that are drawn first: what another sample of that count and the
            same seed has drawn, so that the two are disjoint.
    """

    count: PositiveInt
    seed: int = 0
    skip: Annotated[int, Field(ge=0)] = 0

    def draw(self, indices: range) -> list[int]:
        """The chosen ones of ``indices``, ascending.

        They are the ``count`` indices with the smallest SHA-256 of ``"seed:index"``: the same on
        every machine and with every version of every library, and part of any larger sample.

        Raises:
            ValueError: there are fewer than ``skip`` and ``count`` together.
        """
        if self.skip + self.count > len(indices):
            after = f" after the first {self.skip}" if self.skip else ""
            raise ValueError(f"a sample of {self.count}{after} cannot be drawn from {len(indices)}")

        def rank(index: int) -> bytes:
            return hashlib.sha256(f"{self.seed}:{index}".encode()).digest()

        return sorted(sorted(indices, key=rank)[self.skip : self.skip + self.count])


class Split(Strict):
    """Some items of a data set.

    Attributes:
        items: ``"first:end"`` as in Python; all items when it is left out.
        sample: only so many of them, drawn at random; all when it is left out.
    """

    dataset: Name
    items: Annotated[str, Field(pattern=r"^\d*:\d*$")] = ":"
    sample: Sample | None = None

    def range(self, total: int) -> range:
        """The indices that ``items`` means in a data set of ``total``."""
        first, _, end = self.items.partition(":")
        return range(total)[slice(int(first) if first else None, int(end) if end else None)]

    def choose(self, total: int, pairs: bool = False) -> list[int]:
        """The indices of the chosen items of a data set of ``total``, ascending.

        Args:
            pairs: items 2k and 2k+1 belong together and are chosen together.

        Raises:
            ValueError: the sample is larger than what it is drawn from, or pairs would be torn.
        """
        indices = self.range(total)
        if not pairs:
            return self.sample.draw(indices) if self.sample else list(indices)
        sample = self.sample
        parts = (indices.start, len(indices), sample.count if sample else 0)
        if any(part % 2 for part in (*parts, sample.skip if sample else 0)):
            raise ValueError(
                "items 2k and 2k+1 are a pair, so first, end, count and skip have to be even"
            )
        both = range(indices.start // 2, indices.stop // 2)
        drawn: Iterable[int] = both
        if sample is not None:
            halves = Sample(count=sample.count // 2, seed=sample.seed, skip=sample.skip // 2)
            drawn = halves.draw(both)
        return [index for pair in drawn for index in (2 * pair, 2 * pair + 1)]


class PartOf(Strict):
    """The official set that a data set is taken from, so that figures on a part of it are not
    printed as the official score."""

    name: Annotated[str, Field(min_length=1)]
    items: PositiveInt


@dataclass(frozen=True)
class Format:
    """What a format needs.

    Attributes:
        files: the keys that ``files`` must have; ``optional`` ones it may have.
        truths: what its labels can be, the usual one first.
        arrays: whether the card's ``arrays`` and ``labels`` name arrays or columns of it.
        encoded: whether its items are picture files, which have to be decoded.
    """

    files: frozenset[str]
    truths: tuple[Truth, ...]
    optional: frozenset[str] = frozenset()
    arrays: bool = False
    encoded: bool = False


_PICTURES, _DATA, _LABELS = frozenset({"images"}), frozenset({"data"}), frozenset({"labels"})
FORMATS = {
    "npz": Format(_DATA, get_args(Truth), arrays=True),
    "image-folder": Format(_PICTURES, ("classes",), optional=_LABELS, arrays=True, encoded=True),
    "image-zip": Format(_PICTURES, ("classes",), optional=_LABELS, arrays=True, encoded=True),
    "yolo": Format(_PICTURES, ("boxes",), optional=_LABELS, encoded=True),
    "segmentation": Format(_PICTURES | {"masks"}, ("masks",), encoded=True),
    "tsv": Format(_DATA, ("classes", "scores"), arrays=True),
    "cifar10": Format(_DATA, ("classes",)),
    "mnist": Format(_PICTURES | _LABELS, ("classes",)),
}
"""By the card's ``format``; docs/data-sets.md describes each."""


class DatasetCard(Strict):
    """A data set; docs/data-sets.md shows one for each format.

    Attributes:
        files: what the format needs, see ``FORMATS``.
        arrays: by the name that models ask for, an array (npz) or a column (CSV, TSV).
        labels: the array or column of labels; None if there are none, or the format has its own.
        truth: what the labels are: classes, boxes (``yolo``), masks (``segmentation``), or
            scores: one for every two items (items 2k and 2k+1 are a pair).
        pair: format ``tsv`` with scores: the column of the second text.
        part: format ``cifar10``: which of its files, where ``data`` holds both.
        items: how many the files must hold; not checked when it is left out.
        classes: how many there are, so that labels lie in 0..classes-1; unbounded when it is left
            out (sub-folders tell it by themselves).
        part_of: the official set that this is a part or the whole of.
    """

    name: Name
    description: str = ""
    licence: str | None = None
    homepage: str | None = None
    format: Literal[
        "npz", "image-folder", "image-zip", "yolo", "segmentation", "tsv", "cifar10", "mnist"
    ]
    files: dict[str, SourceFile]
    arrays: Annotated[dict[str, str], Field(min_length=1)] | None = None
    labels: str | None = None
    truth: Truth = "classes"
    pair: str | None = None
    part: Literal["train", "test"] | None = None
    items: PositiveInt | None = None
    classes: PositiveInt | None = None
    part_of: PartOf | None = None

    @model_validator(mode="before")
    @classmethod
    def _usual_truth(cls, value: Any) -> Any:
        """The labels of a format that has only one kind need not be said."""
        if isinstance(value, dict) and "truth" not in value:
            form = FORMATS.get(str(value.get("format")))
            return {**value, "truth": form.truths[0]} if form else value
        return value

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
            raise ValueError(f"format {self.format} has no 'part': it names its files one by one")
        if self.truth == "masks" and self.classes is not None and self.classes > IGNORE:
            raise ValueError(f"masks hold at most {IGNORE} classes: {IGNORE} means ignore")
        return self
