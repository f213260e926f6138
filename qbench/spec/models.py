"""Model cards: YAML files that describe models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeInt,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from qbench.errors import nearest
from qbench.kit.adapter import Range
from qbench.kit.model import State, TensorSpec
from qbench.spec.datasets import Split
from qbench.spec.decoders import Decoder
from qbench.spec.files import Digest, SourceFile, relative_path
from qbench.spec.judging import Judging
from qbench.spec.preprocess import Steps
from qbench.spec.suite import Name, PositiveInt
from qbench.spec.tasks import TASKS, TaskName
from qbench.spec.yamlfile import Strict

Layout = Literal["NCHW", "NHWC"]
Dtype = Literal[
    "float16", "float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "int64", "bool"
]
DTYPES: tuple[str, ...] = get_args(Dtype)


BATCH = "N"
"""The name of the batch in a card's shapes."""


class Tensor(Strict):
    """A canonical input or output.

    Attributes:
        shape: sizes; a name stands for a free size, ``N`` for the batch; [] for a scalar.
        batch: the batch's axis, or ``none``; by default the axis called ``N``, else the first.
        range: smallest and largest value of made-up items, such as the rows of a table; an input's.
    """

    dtype: Dtype
    shape: list[PositiveInt | Annotated[str, Field(min_length=1)]]
    layout: Layout | None = None
    batch: NonNegativeInt | Literal["none"] | None = None
    range: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None

    @model_validator(mode="after")
    def _range_in_order(self) -> Tensor:
        if self.range is not None and self.range[0] > self.range[1]:
            raise ValueError(f"range: {self.range} is not [smallest, largest]")
        return self

    @model_validator(mode="after")
    def _batch_is_an_axis(self) -> Tensor:
        if isinstance(self.batch, int) and self.batch >= len(self.shape):
            raise ValueError(f"batch: {self.shape} has no axis {self.batch}, counted from 0")
        if self.batch is None and self.shape.count(BATCH) > 1:
            raise ValueError(f"shape: {self.shape} names two axes {BATCH}, the batch")
        return self

    @model_serializer(mode="wrap")
    def _without_default(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Digests of cards from before ``batch`` and ``range`` stay as they were."""
        content: dict[str, Any] = handler(self)
        return {k: v for k, v in content.items() if k not in ("batch", "range") or v is not None}

    @property
    def batch_axis(self) -> int | None:
        """The axis of the batch; None if there is none."""
        if self.batch == "none" or not self.shape:
            return None
        if self.batch is not None:
            return self.batch
        return self.shape.index(BATCH) if BATCH in self.shape else 0

    def spec(self, sizes: Mapping[str, int] | None = None) -> TensorSpec:
        """
        Args:
            sizes: values of free sizes, by name.
        """
        spec = TensorSpec(self.dtype, tuple(self.shape), self.layout, batch=self.batch_axis)
        return spec.sized(sizes or {})


class TensorName(Strict):
    """A tensor's name in a source file, and its layout there if that differs.

    Attributes:
        name: None: the canonical one.
    """

    name: str | None = None
    layout: Layout | None = None


class StateSource(Strict):
    """Where a state comes from: an output, and whether it goes from one item to the next."""

    output: Annotated[str, Field(alias="from")]
    carried: bool = False


class Companion(Strict):
    """A further file of a model, such as external weights: relative to the model's folder, in the
    same folder or below it."""

    name: Annotated[str, Field(min_length=1), AfterValidator(relative_path)]
    sha256: Digest | None = None


class ModelSource(SourceFile):
    """A model file in one format, with its names for the canonical tensors.

    Attributes:
        inputs, outputs: by canonical name; a tensor that is left out has its canonical name.
        companions: further files in the same folder or below it, found, downloaded and verified
            likewise. Those that an ONNX file at ``path`` names need no mention.
        callable: only ``torch``: the name in the Python file ``path`` that returns the
            ``torch.nn.Module``.
        weights: only ``torch``: a state dictionary for it, ``.safetensors`` or ``.pt``.
        model: only ``keras-applications``: the name in ``keras.applications``.
        options: only these two: keyword arguments for the callable; ``quantized-tflite``:
            ``without_classes``, see docs/model-cards.md.
        signature: only ``tflite`` and ``savedmodel``: the key of one of several signatures.
    """

    inputs: dict[str, TensorName] = {}
    outputs: dict[str, TensorName] = {}
    companions: list[Companion] = []
    callable: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")] | None = None
    weights: SourceFile | None = None
    model: Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9]*$")] | None = None
    options: dict[str, str | bool | int | float | None] = {}
    signature: str | None = None

    def _made_by_a_library(self) -> bool:
        return self.model is not None

    def companion_file(self, companion: Companion) -> SourceFile:
        """The place of a companion: the model's folder, repository or URL."""

        def sibling(path: str) -> str:
            return str(PurePosixPath(path).parent / companion.name)

        hub = self.hub and self.hub.model_copy(update={"file": sibling(self.hub.file)})
        git = self.git and self.git.model_copy(update={"path": sibling(self.git.path)})
        return SourceFile(
            path=sibling(self.path) if self.path else None,
            url=f"{self.url.rpartition('/')[0]}/{companion.name}" if self.url else None,
            hub=hub,
            git=git,
            sha256=companion.sha256,
        )


KEYS = {
    "torch": ("callable", "weights", "options"),
    "keras-applications": ("model", "options"),
    "quantized-tflite": ("options",),
    "tflite": ("signature",),
    "savedmodel": ("signature",),
}
"""Keys that only these formats have."""
NEEDED = {"torch": ("path", "callable"), "keras-applications": ("model",)}


def _fault(form: str, source: ModelSource) -> str | None:
    """Why a source is wrong for the format ``form``; None if it is right."""
    for key in ("callable", "weights", "model", "options", "signature"):
        if key in source.model_fields_set and key not in KEYS.get(form, ()):
            return f"sources.{form} has no key '{key}'"
    for key in NEEDED.get(form, ()):
        if getattr(source, key) is None:
            return f"sources.{form} needs the key '{key}'"
    elsewhere = source.url or source.hub or source.git
    if form == "torch" and elsewhere:
        return (
            "sources.torch.path is code that runs here, so it must be a local file: no url, hub or "
            "git"
        )
    if form == "keras-applications" and (source.path or elsewhere):
        return "sources.keras-applications names a model; Keras fetches its file"
    for companion in source.companions:
        if source.url and companion.sha256 is None:
            return f"sources.{form}.companions: with a url, {companion.name} needs a sha256"
    return None


class Expected(Strict):
    """The card's accuracy in float32, and the number of items it was measured on."""

    value: Annotated[float, Field(ge=0, le=1)]
    items: PositiveInt


def _state(source: str | StateSource) -> State:
    return State(source) if isinstance(source, str) else State(source.output, source.carried)


def _states_fault(
    states: Mapping[str, str | StateSource],
    inputs: Mapping[str, Tensor],
    outputs: Mapping[str, Tensor],
    sizes: Mapping[str, int],
) -> str | None:
    """Why states do not fit inputs and outputs; None if they do."""
    taken: dict[str, str] = {}
    for name, source in states.items():
        output = _state(source).output
        if name not in inputs:
            return f"'{name}' is no input of the card. {nearest(name, inputs)}"
        if output not in outputs:
            return f"{name}: '{output}' is no output of the card. {nearest(output, outputs)}"
        if output in taken:
            return f"'{output}' is fed back into '{taken[output]}' and into '{name}'"
        taken[output] = name
        have, want = outputs[output].spec(sizes), inputs[name].spec(sizes)
        if (have.dtype, have.item, have.batch, have.layout) != (
            *(want.dtype, want.item, want.batch, want.layout),
        ):
            return f"'{name}' is {_described(want)}, and its source '{output}' {_described(have)}"
    if states and not set(inputs) - set(states):
        return "all inputs are states, so items have nothing to feed"
    return None


def _described(spec: TensorSpec) -> str:
    axis = "no batch axis" if spec.batch is None else f"batch axis {spec.batch}"
    layout = f" {spec.layout}" if spec.layout else ""
    return f"{spec.dtype} [{', '.join(map(str, spec.shape))}]{layout} with {axis}"


class ModelCard(Strict):
    """A model: its files by format, inputs, outputs, data and expected accuracy.

    Attributes:
        task: one of ``qbench.spec.tasks.TASKS``.
        sizes: values of the free sizes in ``inputs``, by name.
        states: by input, the output that is fed back into it; it starts from zeros unless the data
            set has an array for it.
        background: number of leading classes of the output that labels do not count, such as the
            first of an ImageNet model's 1001.
        decoder: the conversion of a detector's outputs to boxes.
        metric: a metric of the task for ``evaluation``; default: the task's first. ``none``: the
            data set's labels do not fit this model (fidelity only).
        evaluation: labelled items; default: random inputs (fidelity only).
        calibration: items for quantizers, disjoint from ``evaluation``.
        untried: what nobody has seen working yet, for a card that was written without its files;
            said before a run.
    """

    name: Name
    task: TaskName
    description: str = ""
    licence: str | None = None
    homepage: str | None = None
    inputs: Annotated[dict[str, Tensor], Field(min_length=1)]
    outputs: Annotated[dict[str, Tensor], Field(min_length=1)]
    sizes: dict[str, PositiveInt] = {}
    states: dict[str, str | StateSource] = {}
    sources: Annotated[dict[Name, ModelSource], Field(min_length=1)]
    preprocess: dict[str, Steps] = {}
    background: NonNegativeInt = 0
    decoder: Decoder | None = None
    metric: str | None = None
    evaluation: Split | None = None
    calibration: Split | None = None
    expected: Expected | None = None
    untried: str | None = None

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
        free = {
            name for t in (*self.inputs.values(), *self.outputs.values()) for name in t.spec().free
        }
        if unknown := set(self.sizes) - free:
            raise ValueError(f"sizes names {sorted(unknown)}, no free size of the card")
        unknown = set(self.preprocess) - set(self.inputs)
        if unknown:
            raise ValueError(f"preprocess names {sorted(unknown)}, no input of the card")
        return self

    @field_validator("states")
    @classmethod
    def _states_fit(
        cls, states: dict[str, str | StateSource], info: ValidationInfo
    ) -> dict[str, str | StateSource]:
        if not {"inputs", "outputs", "sizes"} <= set(info.data):
            return states  # another error comes first
        tensors: tuple[Any, ...] = (info.data["inputs"], info.data["outputs"], info.data["sizes"])
        if fault := _states_fault(states, *tensors):
            raise ValueError(fault)
        return states

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
                "calibration needs evaluation items, too: a calibrated model says nothing on "
                "random inputs"
            )
        return self

    @property
    def open_specs(self) -> dict[str, TensorSpec]:
        """The inputs, with the names of free sizes."""
        return {name: tensor.spec() for name, tensor in self.inputs.items()}

    @property
    def input_specs(self) -> dict[str, TensorSpec]:
        """The inputs, with the values of free sizes."""
        return {name: tensor.spec(self.sizes) for name, tensor in self.inputs.items()}

    @property
    def ranges(self) -> dict[str, Range]:
        """The ranges of made-up inputs, where the card gives them."""
        given = {name: tensor.range for name, tensor in self.inputs.items()}
        return {name: (limits[0], limits[1]) for name, limits in given.items() if limits}

    @property
    def item_specs(self) -> dict[str, TensorSpec]:
        """The inputs that every item has: all but the states."""
        return {name: spec for name, spec in self.input_specs.items() if name not in self.states}

    @property
    def fed_back(self) -> dict[str, State]:
        """The states, by input."""
        return {name: _state(source) for name, source in self.states.items()}

    @property
    def states_fault(self) -> str | None:
        """Why the states do not fit inputs and outputs, with the values of free sizes; None if they
        do."""
        return _states_fault(self.states, self.inputs, self.outputs, self.sizes)

    @property
    def output_specs(self) -> dict[str, TensorSpec]:
        """The outputs, with the values of free sizes that the inputs name too."""
        return {name: tensor.spec(self.sizes) for name, tensor in self.outputs.items()}

    def judging(self, classes: int | None = None) -> Judging:
        """The rules to judge its outputs by.

        Args:
            classes: number of classes of the data set; None if unknown.
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
            ragged=[name for name, spec in self.output_specs.items() if spec.free],
        )
