"""Models, tensors and artifacts as adapters see them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


Feed = dict[str, "np.ndarray"]
"""Arrays by canonical tensor name (the model card's), batch axis first."""


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model.

    Attributes:
        dtype: NumPy's name, such as ``float32`` or ``int8``.
        shape: sizes, the batch first; a name (``"N"``) stands for a free size.
        layout: ``NCHW`` or ``NHWC`` for images, else None.
        scale: step of a quantized tensor, ``real = (q - zero_point) * scale``; None if it is not
            quantized.
        zero_point: see ``scale``.
    """

    dtype: str
    shape: tuple[int | str, ...]
    layout: str | None = None
    scale: float | None = None
    zero_point: int | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TensorSpec:
        fields: dict[str, Any] = {**data, "shape": tuple(data["shape"])}
        return cls(**fields)

    def sized(self, batch: int) -> tuple[int, ...]:
        """The shape with the first size replaced by ``batch`` and other free sizes by 1."""
        sizes = [d if isinstance(d, int) else 1 for d in self.shape]
        return (batch, *sizes[1:])


@dataclass(frozen=True)
class SourceTensor:
    """Name and layout of a canonical tensor in a source file."""

    name: str
    layout: str | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SourceTensor:
        return cls(**data)


_TO_LAST = (0, 2, 3, 1)


_TO_FIRST = (0, 3, 1, 2)


def relayout_shape(
    shape: tuple[int | str, ...], have: str | None, want: str | None
) -> tuple[int | str, ...]:
    """``shape``, which is in layout ``have``, in layout ``want``."""
    if have and want and have != want:
        return tuple(shape[i] for i in (_TO_LAST if want == "NHWC" else _TO_FIRST))
    return tuple(shape)


def _relayout(array: np.ndarray, have: str | None, want: str | None) -> np.ndarray:
    """``array`` in layout ``want``, contiguous; unchanged where a layout is unknown."""
    import numpy as np

    if have and want and have != want:
        array = array.transpose(_TO_LAST if want == "NHWC" else _TO_FIRST)
    return np.ascontiguousarray(array)


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
        inputs, outputs: by canonical name, the card's dtype, shape and layout, as in a feed.
        source_inputs, source_outputs: by canonical name, the file's own names and layouts.
        conversion: for a file that qbench converted from another format: ``source_format``,
            ``tool``, ``versions`` and the check's ``sqnr_db`` by output; else None.
        companions: files next to ``path`` or below its folder that belong to it (external weights),
            by their path from there.
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

    @property
    def bytes(self) -> int:
        """Total size of the model's files."""
        inside = [file for file in self.path.rglob("*") if file.is_file()]
        files = [*(inside or [self.path]), *self.companions.values()]
        return sum(file.stat().st_size for file in files)

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

    def to_json(self) -> dict[str, Any]:
        companions = {name: str(path) for name, path in self.companions.items()}
        return {**asdict(self), "path": str(self.path), "companions": companions}

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
        fields: dict[str, Any] = {**data, **paths, **specs, **names}
        return cls(**fields)


class Calibration:
    """Items that a quantizer may use; never those that accuracy is measured on.

    Attributes:
        feeds: by canonical input name, all items, ``[items, ...]``, in the card's dtype and layout.
            Memory-mapped and read-only: copy before changing them.
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

    def batches(self, size: int = 1) -> Iterator[Feed]:
        """Feeds of ``size`` items each; drops a smaller last batch."""
        for start in range(0, len(self) - size + 1, size):
            yield {name: array[start : start + size] for name, array in self.feeds.items()}


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
