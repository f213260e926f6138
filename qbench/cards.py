"""Model cards: what their YAML files say."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Literal, get_args

from pydantic import Field, NonNegativeInt, ValidationInfo, field_validator, model_validator

from qbench.backend import TensorSpec
from qbench.data.cards import Split
from qbench.data.preprocess import Steps
from qbench.errors import nearest
from qbench.quality import TASKS, Decoder, Judging
from qbench.spec.files import Digest, SourceFile
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
    """What a source file calls a tensor, and its layout there if that differs.

    Attributes:
        name: the canonical one if it is left out.
    """

    name: str | None = None
    layout: Layout | None = None


class Companion(Strict):
    """A file that lies beside the model file and belongs to it, such as external weights."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][^/\\]*$")]
    sha256: Digest | None = None


class ModelSource(SourceFile):
    """Where a model is in one format, with the names it uses for the canonical tensors.

    Attributes:
        inputs, outputs: by canonical name; what is left out is called there as in the card.
        companions: files beside it; found, downloaded and verified as it is.
        callable: only ``torch``: what in the Python file ``path`` returns the ``torch.nn.Module``.
        weights: only ``torch``: a state dictionary for it, ``.safetensors`` or ``.pt``.
        model: only ``keras-applications``: the name in ``keras.applications``.
        options: only of these two: keyword arguments for the callable.
    """

    inputs: dict[str, TensorName] = {}
    outputs: dict[str, TensorName] = {}
    companions: list[Companion] = []
    callable: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")] | None = None
    weights: SourceFile | None = None
    model: Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9]*$")] | None = None
    options: dict[str, str | bool | int | float | None] = {}

    def _made_by_a_library(self) -> bool:
        return self.model is not None

    def companion_file(self, companion: Companion) -> SourceFile:
        """Where a companion is: beside the model, wherever that is."""

        def beside(path: str) -> str:
            return str(PurePosixPath(path).with_name(companion.name))

        hub = self.hub and self.hub.model_copy(update={"file": beside(self.hub.file)})
        return SourceFile(
            path=beside(self.path) if self.path else None,
            url=f"{self.url.rpartition('/')[0]}/{companion.name}" if self.url else None,
            hub=hub,
            sha256=companion.sha256,
        )


KEYS = {"torch": ("callable", "weights", "options"), "keras-applications": ("model", "options")}
"""Keys that only some formats have."""
NEEDED = {"torch": ("path", "callable"), "keras-applications": ("model",)}


def _fault(form: str, source: ModelSource) -> str | None:
    """What is wrong with a source as one of format ``form``."""
    for key in ("callable", "weights", "model", "options"):
        if key in source.model_fields_set and key not in KEYS.get(form, ()):
            return f"sources.{form} has no key '{key}'"
    for key in NEEDED.get(form, ()):
        if getattr(source, key) is None:
            return f"sources.{form} needs the key '{key}'"
    if form == "torch" and (source.url or source.hub):
        return "sources.torch.path is code that runs here, so it is a file of yours: no url, no hub"
    if form == "keras-applications" and (source.path or source.url or source.hub):
        return "sources.keras-applications names a model; Keras fetches its file"
    for companion in source.companions:
        if source.url and companion.sha256 is None:
            return f"sources.{form}.companions: with a url, {companion.name} needs its sha256"
    return None


class Expected(Strict):
    """The card's own figure for float32, and on how many items it was measured."""

    value: Annotated[float, Field(ge=0, le=1)]
    items: PositiveInt


class ModelCard(Strict):
    """A model: its files by format, its inputs, its data and what it should reach.

    Attributes:
        task: one of ``qbench.quality.TASKS``.
        background: leading classes of the output that labels do not count, such as the first of
            an ImageNet model's 1001.
        decoder: how a detector's outputs become boxes.
        metric: how ``evaluation`` is judged: one of the task's, its first if left out; ``none``:
            the data set's labels are not this model's (fidelity only).
        evaluation: labelled items; left out: made-up inputs (fidelity only).
        calibration: items for quantizers, disjoint from ``evaluation``.
    """

    name: Name
    task: str
    description: str = ""
    licence: str | None = None
    homepage: str | None = None
    inputs: Annotated[dict[str, Tensor], Field(min_length=1)]
    outputs: Annotated[dict[str, Tensor], Field(min_length=1)]
    sources: Annotated[dict[Name, ModelSource], Field(min_length=1)]
    preprocess: dict[str, Steps] = {}
    background: NonNegativeInt = 0
    decoder: Decoder | None = None
    metric: str | None = None
    evaluation: Split | None = None
    calibration: Split | None = None
    expected: Expected | None = None

    @model_validator(mode="after")
    def _names_agree(self) -> ModelCard:
        for form, source in self.sources.items():
            if fault := _fault(form, source):
                raise ValueError(fault)
            for what in ("inputs", "outputs"):
                given, wanted = set(getattr(source, what)), set(getattr(self, what))
                if not given <= wanted:
                    raise ValueError(
                        f"sources.{form}.{what} names {sorted(given)}, "
                        f"the card's {what} are {sorted(wanted)}"
                    )
        unknown = set(self.preprocess) - set(self.inputs)
        if unknown:
            raise ValueError(f"preprocess names {sorted(unknown)}, which is no input of the card")
        return self

    @field_validator("task")
    @classmethod
    def _known_task(cls, task: str) -> str:
        if task not in TASKS:
            raise ValueError(f"there is no task '{task}'. {nearest(task, TASKS)}")
        return task

    @field_validator("metric")
    @classmethod
    def _metric_of_the_task(cls, metric: str | None, info: ValidationInfo) -> str | None:
        task = info.data.get("task")
        if task is not None and metric not in (None, "none", *TASKS[task].metrics):
            known = nearest(str(metric), [*TASKS[task].metrics, "none"])
            raise ValueError(f"{task} has no metric '{metric}'. {known}")
        return metric

    @field_validator("background")
    @classmethod
    def _background_of_classes(cls, background: int, info: ValidationInfo) -> int:
        task = info.data.get("task")
        if background and task is not None and not TASKS[task].classifies:
            raise ValueError("only a task that sorts items into classes has a background")
        return background

    @field_validator("decoder")
    @classmethod
    def _decoder_of_a_detector(
        cls, decoder: Decoder | None, info: ValidationInfo
    ) -> Decoder | None:
        if decoder is not None:
            if info.data.get("task") != "object-detection":
                raise ValueError("only object-detection has a decoder")
            decoder.check()
        return decoder

    @model_validator(mode="after")
    def _detector_is_decoded(self) -> ModelCard:
        boxes = self.task == "object-detection" and self.metric != "none"
        if boxes and self.evaluation is not None and self.decoder is None:
            raise ValueError(
                "object-detection needs a decoder, or 'metric: none' for fidelity only"
            )
        return self

    @model_validator(mode="after")
    def _calibrated_and_judged(self) -> ModelCard:
        if self.calibration is not None and self.evaluation is None:
            raise ValueError(
                "calibration needs evaluation items beside it: on made-up inputs a calibrated "
                "model says nothing"
            )
        return self

    def judging(self, classes: int | None = None) -> Judging:
        """How its outputs are judged.

        Args:
            classes: how many the data set has; None if it does not say.
        """
        task, first = TASKS[self.task], next(iter(self.outputs))
        metrics = () if self.metric == "none" else task.metrics
        plain = task.labels is not None and not task.classifies and task.labels != "boxes"
        return Judging(
            task=self.task,
            metric=self.metric if self.metric in metrics else next(iter(metrics), None),
            scores=first if task.classifies else None,
            output=first if plain else None,
            background=self.background,
            class_axis=1 if self.outputs[first].layout == "NCHW" else -1,
            classes=classes,
            decoder=self.decoder,
        )
