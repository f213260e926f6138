"""Model cards and data set cards: what their YAML files say."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator, model_validator

from qbench.backend import SourceTensor, TensorSpec
from qbench.preprocess import Steps
from qbench.suite import Name, PositiveInt
from qbench.yamlfile import Strict

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Layout = Literal["NCHW", "NHWC"]
Dtype = Literal[
    "float16", "float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "int64", "bool"
]
DTYPES: tuple[str, ...] = get_args(Dtype)


class SourceFile(Strict):
    """One file: found below the card's root or ``$QBENCH_ASSETS`` by ``path``, or downloaded.

    Attributes:
        path: relative, below the folder that holds ``models/`` or below ``$QBENCH_ASSETS``.
        url: where to download it from when it is not found.
        sha256: of its content; needed with a url.
    """

    path: str | None = None
    url: Annotated[str, Field(pattern=r"^https?://")] | None = None
    sha256: Digest | None = None

    @field_validator("path")
    @classmethod
    def _inside(cls, value: str | None) -> str | None:
        if value is not None:
            path = PurePosixPath(value)
            if path.is_absolute() or ".." in path.parts or "\\" in value:
                raise ValueError(
                    "a path is relative and stays below the folder that holds models/ "
                    "(or below $QBENCH_ASSETS)"
                )
        return value

    @model_validator(mode="after")
    def _complete(self) -> SourceFile:
        if self.path is None and self.url is None:
            raise ValueError("a file needs a path, a url, or both")
        if self.url is not None and self.sha256 is None:
            raise ValueError("a file with a url needs its sha256")
        return self


class Tensor(Strict):
    """A canonical input or output."""

    dtype: Dtype
    shape: Annotated[list[PositiveInt | str], Field(min_length=1)]
    layout: Layout | None = None

    def spec(self) -> TensorSpec:
        return TensorSpec(self.dtype, tuple(self.shape), self.layout)


class TensorName(Strict):
    """What a source file calls a tensor, and its layout there if that differs."""

    name: str
    layout: Layout | None = None

    def source(self, canonical: Tensor) -> SourceTensor:
        return SourceTensor(self.name, self.layout or canonical.layout)


class ModelSource(SourceFile):
    """A model file, with the names it uses for the canonical tensors."""

    inputs: dict[str, TensorName]
    outputs: dict[str, TensorName]


class Split(Strict):
    """Some items of a data set.

    Attributes:
        items: ``"first:end"`` as in Python; all items when it is left out.
    """

    dataset: Name
    items: Annotated[str, Field(pattern=r"^\d*:\d*$")] = ":"

    def range(self, total: int) -> range:
        """The indices of the chosen items of a data set of ``total``."""
        first, _, end = self.items.partition(":")
        return range(total)[slice(int(first) if first else None, int(end) if end else None)]


class Expected(Strict):
    """The card's own figure for float32, and on how many items it was measured."""

    value: Annotated[float, Field(ge=0, le=1)]
    items: PositiveInt


class ModelCard(Strict):
    """A model: its files by format, its inputs, its data and what it should reach.

    Attributes:
        metric: how ``evaluation`` is judged; None if there are no labels (fidelity only).
        calibration: items for quantizers, disjoint from ``evaluation``.
    """

    name: Name
    task: str
    description: str = ""
    licence: str
    homepage: str | None = None
    inputs: Annotated[dict[str, Tensor], Field(min_length=1)]
    outputs: Annotated[dict[str, Tensor], Field(min_length=1)]
    sources: Annotated[dict[Name, ModelSource], Field(min_length=1)]
    preprocess: dict[str, Steps] = {}
    metric: Literal["top1"] | None = None
    evaluation: Split
    calibration: Split | None = None
    expected: Expected | None = None

    @model_validator(mode="after")
    def _names_agree(self) -> ModelCard:
        for form, source in self.sources.items():
            for what in ("inputs", "outputs"):
                given, wanted = set(getattr(source, what)), set(getattr(self, what))
                if given != wanted:
                    raise ValueError(
                        f"sources.{form}.{what} names {sorted(given)}, "
                        f"the card's {what} are {sorted(wanted)}"
                    )
        unknown = set(self.preprocess) - set(self.inputs)
        if unknown:
            raise ValueError(f"preprocess names {sorted(unknown)}, which is no input of the card")
        return self

    @property
    def scores(self) -> str | None:
        """The output that holds one score for each class: the first; None if there are none."""
        return next(iter(self.outputs)) if self.task.endswith("classification") else None


class DatasetCard(Strict):
    """A labelled data set.

    Formats and what they need:

    - ``npz``: ``files.data``; ``arrays`` maps canonical inputs to array names, ``labels`` names
      the array of labels.
    - ``image-zip``: ``files.images`` (a zip of pictures) and ``files.labels`` (CSV); ``arrays``
      maps the one image input to the CSV's column of file names, ``labels`` names its column of
      labels.
    """

    name: Name
    description: str = ""
    licence: str
    homepage: str | None = None
    format: Literal["npz", "image-zip"]
    files: dict[str, SourceFile]
    arrays: Annotated[dict[str, str], Field(min_length=1)]
    labels: str | None = None
    items: PositiveInt
    classes: PositiveInt | None = None

    @model_validator(mode="after")
    def _files_fit(self) -> DatasetCard:
        wanted = {"npz": {"data"}, "image-zip": {"images", "labels"}}[self.format]
        if set(self.files) != wanted:
            raise ValueError(f"format {self.format} needs files {sorted(wanted)}")
        if self.format == "image-zip" and len(self.arrays) != 1:
            raise ValueError("format image-zip has one array: its column of file names")
        return self
