"""Model cards: what their YAML files say."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from qbench.backend import SourceTensor, TensorSpec
from qbench.data.cards import Split
from qbench.data.preprocess import Steps
from qbench.files import SourceFile
from qbench.quality import Judging
from qbench.suite import Name, PositiveInt
from qbench.yamlfile import Strict

Layout = Literal["NCHW", "NHWC"]
Dtype = Literal[
    "float16", "float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "int64", "bool"
]
DTYPES: tuple[str, ...] = get_args(Dtype)


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

    def judging(self) -> Judging:
        """How its outputs are judged."""
        classes = self.task.endswith("classification")
        scores = next(iter(self.outputs)) if classes else None
        return Judging(task=self.task, metric=self.metric, scores=scores)
