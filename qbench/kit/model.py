"""Models, tensors and artifacts as adapters see them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import numpy as np


Feed = dict[str, "np.ndarray"]
"""Arrays by canonical tensor name (the model card's), as one inference takes or gives them: see
``TensorSpec.at``."""


Shape = tuple[int | str, ...]

UNKNOWN_RANK: Shape = ("...",)
"""The shape of a tensor whose number of axes the file leaves open."""


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model.

    Attributes:
        dtype: NumPy's name, such as ``float32`` or ``int8``.
        shape: sizes; a name (``"height"``) stands for a free size, which the file leaves open; ()
            for a scalar.
        layout: ``NCHW`` or ``NHWC`` for images, else None.
        scale: step of a quantized tensor, ``real = (q - zero_point) * scale``; None if it is not
            quantized.
        zero_point: see ``scale``.
        batch: axis whose size is the number of items; None if the tensor has no such axis: a
            scalar, a constant, a number of rows that depends on the values. ``describe`` need not
            set it.
    """

    dtype: str
    shape: Shape
    layout: str | None = None
    scale: float | None = None
    zero_point: int | None = None
    batch: int | None = 0

    def __post_init__(self) -> None:
        if not self.shape or self.shape == UNKNOWN_RANK:
            object.__setattr__(self, "batch", None)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TensorSpec:
        fields: dict[str, Any] = {**data, "shape": tuple(data["shape"])}
        return cls(**fields)

    @property
    def item(self) -> Shape:
        """The shape of one item: without the batch axis."""
        return tuple(size for axis, size in enumerate(self.shape) if axis != self.batch)

    @property
    def free(self) -> tuple[str, ...]:
        """Names of the free sizes, without the batch axis."""
        return tuple(dict.fromkeys(size for size in self.item if isinstance(size, str)))

    def at(self, batch: int) -> tuple[int, ...]:
        """The shape for ``batch`` items.

        Raises:
            ValueError: a size is free. Inputs of a :class:`Model` have none; an output may have
                one, which its values decide.
        """
        if self.free:
            raise ValueError(f"the size '{self.free[0]}' of {list(self.shape)} is free")
        sizes = enumerate(self.shape)
        return tuple(batch if axis == self.batch else int(size) for axis, size in sizes)

    def sized(self, values: Mapping[str, int]) -> TensorSpec:
        """The same with the values of free sizes, by name."""
        sizes = enumerate(self.shape)
        return replace(
            self,
            shape=tuple(
                values.get(size, size) if isinstance(size, str) and axis != self.batch else size
                for axis, size in sizes
            ),
        )


@dataclass(frozen=True)
class SourceTensor:
    """Name and layout of a canonical tensor in a source file."""

    name: str
    layout: str | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SourceTensor:
        return cls(**data)


@dataclass(frozen=True)
class State:
    """Where a state, an input of a stateful model, comes from.

    Attributes:
        output: canonical name of the output that the next inference takes as this input; of the
            same dtype, shape, layout and batch axis.
        carried: whether the items are one sequence, each of which starts from the state that the
            one before it left; else every item starts from the initial state.
    """

    output: str
    carried: bool = False


_TO_LAST = (0, 2, 3, 1)


_TO_FIRST = (0, 3, 1, 2)


_Size = TypeVar("_Size")
_T = TypeVar("_T")


def relayout_shape(
    shape: tuple[_Size, ...], have: str | None, want: str | None
) -> tuple[_Size, ...]:
    """``shape``, which is in layout ``have``, in layout ``want``."""
    if have and want and have != want:
        return tuple(shape[i] for i in (_TO_LAST if want == "NHWC" else _TO_FIRST))
    return tuple(shape)


def _relayout(array: np.ndarray, have: str | None, want: str | None) -> np.ndarray:
    """``array`` in layout ``want``, contiguous; unchanged where a layout is unknown."""
    import numpy as np

    if have and want and have != want:
        array = array.transpose(_TO_LAST if want == "NHWC" else _TO_FIRST)
    return np.asarray(array, order="C")  # ascontiguousarray gives a scalar an axis


@dataclass(frozen=True)
class Model:
    """One verified source file of a model, with the card's description of it.

    Attributes:
        name: the card's name.
        format: ``onnx``, ``tflite``, or another of an adapter's ``formats``.
        path: the file.
        digest: SHA-256 of the file, hexadecimal.
        task: the card's task, such as ``image-classification``. To choose settings by the kind of
            network, inspect the file instead.
        inputs, outputs: by canonical name, dtype, shape and layout as in a feed. Inputs have no
            free size but the batch.
        source_inputs, source_outputs: by canonical name, the file's own names and layouts.
        conversion: for a file that qbench converted from another format: ``source_format``,
            ``tool``, ``versions`` and the check's ``sqnr_db`` by output; else None.
        companions: files next to ``path`` or below its folder that belong to it (external weights),
            by their path from there.
        signature: key of the signature that is meant, in a file with several; else None.
        states: by canonical input, the output that ``Stream.infer`` feeds back into it.
    """

    name: str
    format: str
    path: Path
    digest: str
    task: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    source_inputs: Mapping[str, SourceTensor]
    source_outputs: Mapping[str, SourceTensor]
    conversion: Mapping[str, Any] | None = None
    companions: Mapping[str, Path] = field(default_factory=dict[str, Path])
    signature: str | None = None
    states: Mapping[str, State] = field(default_factory=dict[str, State])

    @property
    def bytes(self) -> int:
        """Total size of the model's files."""
        inside = [file for file in self.path.rglob("*") if file.is_file()]
        files = [*(inside or [self.path]), *self.companions.values()]
        return sum(file.stat().st_size for file in files)

    def source_shapes(self, batch: int) -> dict[str, tuple[int, ...]]:
        """Shapes of the inputs for ``batch`` items, by the file's names and in its layouts."""
        return {
            tensor.name: relayout_shape(
                self.inputs[name].at(batch), self.inputs[name].layout, tensor.layout
            )
            for name, tensor in self.source_inputs.items()
        }

    def to_source(self, feed: Feed) -> Feed:
        """A canonical feed in the file's names and layouts, contiguous."""
        result: Feed = {}
        for name, array in feed.items():
            tensor = self.source_inputs[name]
            result[tensor.name] = _relayout(array, self.inputs[name].layout, tensor.layout)
        return result

    def from_source(self, outputs: Mapping[str, np.ndarray]) -> Feed:
        """The file's outputs in canonical names and layouts."""
        result: Feed = {}
        for name, tensor in self.source_outputs.items():
            result[name] = _relayout(outputs[tensor.name], tensor.layout, self.outputs[name].layout)
        return result

    def going_on(self, feed: Mapping[str, _T]) -> dict[str, _T]:
        """``feed`` without the carried states: for a stream that goes on from its last outputs."""
        carried = {name for name, state in self.states.items() if state.carried}
        return {name: value for name, value in feed.items() if name not in carried}

    def to_json(self) -> dict[str, Any]:
        companions = {name: str(path) for name, path in self.companions.items()}
        content = {**asdict(self), "path": str(self.path), "companions": companions}
        if not self.states:  # keys of artifacts are digests of this
            del content["states"]
        return content

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Model:
        specs = {
            key: {n: TensorSpec.from_json(t) for n, t in data[key].items()}
            for key in ("inputs", "outputs")
        }
        names = {
            key: {n: SourceTensor.from_json(t) for n, t in data[key].items()}
            for key in ("source_inputs", "source_outputs")
        }
        companions = {name: Path(path) for name, path in data["companions"].items()}
        paths = {"path": Path(data["path"]), "companions": companions}
        states = {name: State(**state) for name, state in data.get("states", {}).items()}
        fields: dict[str, Any] = {**data, **paths, **specs, **names, "states": states}
        return cls(**fields)


class Calibration:
    """Items that a quantizer may use; never those that accuracy is measured on.

    Attributes:
        feeds: by canonical input name, all items, ``[items, *TensorSpec.item]``, in the card's
            dtype and layout. Memory-mapped and read-only: copy before changing them.
        labels: class of each item, ``[items]``, as an index into ``scores``; None if the data set
            has none. For accuracy-aware tools.
        scores: canonical output whose maximum is the predicted class; None if labels are None.
    """

    def __init__(
        self, feeds: Feed, labels: np.ndarray | None = None, scores: str | None = None
    ) -> None:
        self.feeds = feeds
        self.labels = labels
        self.scores = scores

    def __len__(self) -> int:
        return len(next(iter(self.feeds.values())))

    def batches(self, inputs: Mapping[str, TensorSpec], size: int = 1) -> Iterator[Feed]:
        """Feeds of ``size`` items each; drops a smaller last batch.

        Args:
            inputs: the model's, by canonical name.
        """
        for start in range(0, len(self) - size + 1, size):
            yield gathered(self.feeds, inputs, range(start, start + size))


def gathered(
    items: Mapping[str, np.ndarray], inputs: Mapping[str, TensorSpec], rows: Sequence[int]
) -> Feed:
    """The feed of some items, contiguous.

    Args:
        items: by canonical name, ``[items, *TensorSpec.item]``.
        rows: the items' indices.

    Raises:
        ValueError: an input without a batch axis differs between the items.
    """
    import numpy as np

    feed: Feed = {}
    for name, array in items.items():
        taken, axis = array[np.asarray(rows)], inputs[name].batch
        if axis is None:
            if any(other.tobytes() != taken[0].tobytes() for other in taken[1:]):
                raise ValueError(
                    f"input '{name}' has no batch axis, so items that differ in it cannot share a "
                    "batch: run at batch 1"
                )
            feed[name] = np.asarray(taken[0], order="C")
        else:
            feed[name] = np.ascontiguousarray(np.moveaxis(taken, 0, axis))
    return feed


def first_batch(
    items: Mapping[str, np.ndarray], inputs: Mapping[str, TensorSpec], batch: int
) -> Feed:
    """The feed of the first ``batch`` items, repeated from the start if there are fewer. Items and
    errors as in :func:`gathered`."""
    count = len(next(iter(items.values())))
    return gathered(items, inputs, [row % count for row in range(batch)])


def scattered(feed: Feed, outputs: Mapping[str, TensorSpec], batch: int) -> Feed:
    """Split the outputs of one inference by item: ``[batch, *item]`` by canonical name.

    An output without a batch axis belongs to each item of the batch.
    """
    import numpy as np

    result: Feed = {}
    for name, array in feed.items():
        axis = outputs[name].batch
        if axis is None:
            result[name] = np.broadcast_to(array, (batch, *array.shape))
        else:
            result[name] = np.moveaxis(array, axis, 0)
    return result


@dataclass(frozen=True)
class PrepareTarget:
    """Everything that decides the content of an artifact.

    Attributes:
        precision: a name of ``qbench.kit.precisions.PRECISIONS``.
        options: all options of that precision, defaults filled in. ``calibration_items`` is already
            applied: use every item given.
        device: kind of device: ``cpu`` or ``cuda``.
        recipe: ``best``: quantize in the best way for this runtime. ``shared``: the model is an
            ONNX file that is already quantized (Q/DQ, made once for all backends): use it
            unchanged.
    """

    precision: str
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    device: str = "cpu"
    recipe: str = "best"


@dataclass(frozen=True)
class RunConfig:
    """How an artifact is opened; its content does not depend on these.

    Attributes:
        device: ``cpu``, ``cuda:0``, ...
        threads: threads that one inference uses. Raise ``Unsupported`` for a number that the
            runtime would not use.
        streams: inferences that may run concurrently.
        batch: items in one inference.
        hints: the runtime's own settings by their own names, unchanged from the suite;
            ``qbench.kit.hints.read_hints`` checks them.
    """

    device: str = "cpu"
    threads: int = 1
    streams: int = 1
    batch: int = 1
    hints: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Provenance:
    """How an artifact was made.

    Attributes:
        file: file in the artifact's folder that ``open`` starts from.
        quantizer: tool and function, such as ``onnxruntime.quantize_static``; None if the weights
            were only copied or converted.
        settings: settings that the tool received (JSON values).
        quantized_ops: number of quantized operators, counted in the tool's result; None if nothing
            was to be quantized. A quantizer that did nothing must not pass: raise PrepareError
            instead of returning 0.
        notes: sentences for the reader, such as ``fp16 is storage only: computed in fp32``.
    """

    file: str
    quantizer: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    quantized_ops: int | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Provenance:
        fields: dict[str, Any] = {**data, "notes": tuple(data.get("notes", ()))}
        return cls(**fields)


@dataclass(frozen=True)
class Artifact:
    """A prepared model: a folder and its record.

    Layout of the folder (complete once ``artifact.json`` exists, which qbench writes last)::

        artifact.json   this class, except ``path``
        <file>, ...     files that ``Adapter.prepare`` wrote
    """

    path: Path
    model: Model
    target: PrepareTarget
    provenance: Provenance

    @property
    def file(self) -> Path:
        return self.path / self.provenance.file

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model.to_json(),
            "target": asdict(self.target),
            "provenance": asdict(self.provenance),
        }

    @classmethod
    def from_json(cls, path: Path, data: Mapping[str, Any]) -> Artifact:
        return cls(
            path=path,
            model=Model.from_json(data["model"]),
            target=PrepareTarget(**data["target"]),
            provenance=Provenance.from_json(data["provenance"]),
        )
