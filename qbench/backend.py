"""The plugin contract: all that the author of an adapter has to read.

An adapter is one class (a :class:`Backend`) that is named by an entry point::

    [project.entry-points."qbench.backends"]
    myruntime = "qbench_myruntime:Backend"

Its life, always in a fresh worker process, one process for each step:

========== =====================================================================
probe      ``Backend().probe()``: can this runtime work here, at which precisions?
describe   ``import_runtime()``, ``describe(path)``: inputs and outputs of a file
prepare    ``import_runtime()``, ``describe(path)`` to compare the card with the file,
           then ``prepare(model, target, calibration, out)``: convert, calibrate,
           quantize; files are left in the folder ``out``
compile    only where ``probe`` names the device in ``compiled``: ``import_runtime()``,
           ``compile(artifact, config, kept, out)``; what it leaves in ``out`` runs on
           this kind of device alone, and is opened instead of the prepared artifact
evaluate   ``import_runtime()``, ``open(artifact, config, inspect=True)``,
           ``effective()``, close; ``open(artifact, config)`` again, then ``bind``,
           ``infer``, ``read`` for every evaluation item
measure    ``import_runtime()``, ``open(artifact, config)``, ``stream()``, ``bind``
           once, ``infer`` until enough has been measured
explain    ``import_runtime()``, ``open(artifact, config, inspect=True)``,
           ``profile``; ``activations`` of a quantized artifact and its float32 twin
========== =====================================================================

``supports`` and the class attributes are also used by the parent, so the adapter's module
must import nothing heavy when it is imported: the runtime is imported in ``import_runtime``.

This module belongs to the worker kit. It needs nothing but the standard library (and NumPy
arrays that the caller holds), and keeps to Python 3.10.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np

API_VERSION = 1

Feed = dict[str, "np.ndarray"]
"""Arrays by canonical tensor name (the names of the model card), batch axis first."""


# --------------------------------------------------------------------------- errors


class Unsupported(Exception):
    """The runtime cannot do this, and that is no fault: the case is *skipped* with this reason.

    Raise it from ``prepare``, ``open`` or ``effective`` for what can only be known by then, for
    example when the precision read back differs from the one asked for.
    """


class PrepareError(Exception):
    """Converting or quantizing failed. The case is recorded as ``prepare_failed``.

    Args:
        message: the tool's own message, shortened to what a person can act on.
        operator: the operator (name or type) it failed at, where the tool says so.
    """

    def __init__(self, message: str, operator: str | None = None) -> None:
        super().__init__(f"{message} (operator: {operator})" if operator else message)
        self.operator = operator


# --------------------------------------------------------------------------- models


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model.

    Attributes:
        dtype: NumPy's name, such as ``float32`` or ``int8``.
        shape: sizes, the batch first; a name (``"N"``) is a size that is free.
        layout: ``NCHW`` or ``NHWC`` for images, else None.
        scale: step of a quantized tensor, ``real = (q - zero_point) * scale``; None for others.
        zero_point: see ``scale``.
    """

    dtype: str
    shape: tuple[int | str, ...]
    layout: str | None = None
    scale: float | None = None
    zero_point: int | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TensorSpec:
        return cls(**{**data, "shape": tuple(data["shape"])})

    def sized(self, batch: int) -> tuple[int, ...]:
        """The shape with every free size replaced: the first by ``batch``, others by 1.

        A fixed first size of 1 is a batch axis too.
        """
        sizes = [d if isinstance(d, int) else 1 for d in self.shape]
        return (batch, *sizes[1:])


@dataclass(frozen=True)
class SourceTensor:
    """What one source file calls a canonical tensor, and in which layout it wants it."""

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
    """A shape in layout ``have`` as it is in layout ``want``."""
    if have and want and have != want:
        return tuple(shape[i] for i in (_TO_LAST if want == "NHWC" else _TO_FIRST))
    return tuple(shape)


def _relayout(array: np.ndarray, have: str | None, want: str | None) -> np.ndarray:
    """``array`` in layout ``want``, contiguous. Unknown layouts are left as they are."""
    import numpy as np

    if have and want and have != want:
        array = array.transpose(_TO_LAST if want == "NHWC" else _TO_FIRST)
    return np.ascontiguousarray(array)


@dataclass(frozen=True)
class Model:
    """One source file of a model, found and verified, with the card's description of it.

    Attributes:
        name: the card's name.
        format: ``onnx``, ``tflite``, or what an adapter declares in ``formats``.
        path: the file.
        digest: SHA-256 of the file, hexadecimal.
        task: the card's task, such as ``image-classification``; transformers and CNNs may
            want different settings, but look at the file rather than at this.
        inputs, outputs: canonical names and what a feed holds: the card's dtype and layout.
        source_inputs, source_outputs: by canonical name, the file's own names and layouts.
        conversion: where qbench made the file from another format: ``source_format``, ``tool``,
            ``versions`` and the check of it, ``sqnr_db`` by output; None for a file as it came.
        companions: files that lie beside ``path`` and belong to it (external weights), by name.
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
    companions: Mapping[str, Path] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Size of its files, or of those in its folder."""
        inside = [file for file in self.path.rglob("*") if file.is_file()]
        files = [*(inside or [self.path]), *self.companions.values()]
        return sum(file.stat().st_size for file in files)

    def to_source(self, feed: Feed) -> Feed:
        """A canonical feed as the file wants it: its names, its layouts, contiguous."""
        result = {}
        for name, array in feed.items():
            tensor = self.source_inputs[name]
            result[tensor.name] = _relayout(array, self.inputs[name].layout, tensor.layout)
        return result

    def from_source(self, outputs: Mapping[str, np.ndarray]) -> Feed:
        """The file's outputs under their canonical names and layouts."""
        result = {}
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
        return cls(**{**data, **paths, **specs, **names})


class Calibration:
    """Items that a quantizer may look at; never those that accuracy is measured on.

    Attributes:
        feeds: by canonical input name, an array of all items, ``[items, ...]``, in the card's
            dtype and layout (memory-mapped: copy what you change).
        labels: ``[items]`` classes as ``scores`` counts them, where the data set has them; for
            accuracy-aware tools.
        scores: the canonical output whose greatest value tells the class; None if labels are None.
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
        """Feeds of ``size`` items each; a last, smaller batch is left out."""
        for start in range(0, len(self) - size + 1, size):
            yield {name: array[start : start + size] for name, array in self.feeds.items()}


# --------------------------------------------------------------------------- requests


@dataclass(frozen=True)
class PrepareTarget:
    """What an artifact depends on.

    Attributes:
        precision: a name of ``qbench.precision.PRECISIONS``.
        options: that precision's options, all of them, defaults filled in; their meaning stands
            in ``qbench.precision``. ``calibration_items`` is applied already: use all the items
            that you are given. ``supports`` refuses a value that the tool does not have.
        device: class of devices: ``cpu`` or ``cuda``.
        recipe: ``best``: quantize in the way that is best on this runtime. ``shared``: the model
            is an ONNX file that is quantized already (Q/DQ, made once for all backends): take
            it as it is and quantize nothing.
    """

    precision: str
    options: Mapping[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    recipe: str = "best"


@dataclass(frozen=True)
class RunConfig:
    """What an artifact does not depend on: how it is opened.

    Attributes:
        device: ``cpu``, ``cuda:0``, ...
        threads: threads that one inference uses. A runtime that cannot be told raises
            ``Unsupported`` for what it would not do.
        streams: inferences that may run at the same time.
        batch: items in one inference.
        hints: the runtime's own settings by their own names, from the suite, given through
            unchanged. An adapter raises ValueError for one that it does not know.
    """

    device: str = "cpu"
    threads: int = 1
    streams: int = 1
    batch: int = 1
    hints: Mapping[str, Any] = field(default_factory=dict)


# --------------------------------------------------------------------------- answers


@dataclass(frozen=True)
class Ready:
    """The runtime works here.

    Attributes:
        version: the runtime's version.
        precisions: by device (``cpu``, ``cuda:0``, ``cuda:1``), the precisions it really computes
            or stores here.
        missing: by device, for precisions that someone may expect but that are not to be had:
            the reason, one sentence.
        isa: instruction sets that matter for the figures, as the runtime reports them, or "".
        devices: by device, what is known of it: for a GPU those of ``qbench.worker.cuda.Device``.
        compiled: devices that artifacts have to be compiled for (``Backend.compile``). What is
            compiled is kept for the device's ``name``, ``compute_capability``, ``driver`` and
            ``driver_release`` and for the versions of the runtime.
    """

    version: str
    precisions: Mapping[str, tuple[str, ...]]
    missing: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    isa: str = ""
    devices: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    compiled: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unavailable:
    """The runtime does not work here.

    Attributes:
        reason: such as ``no CUDA device``.
        fix: such as ``run on a host with an NVIDIA GPU`` or a pip command.
    """

    reason: str
    fix: str


@dataclass(frozen=True)
class Provenance:
    """How an artifact was made.

    Attributes:
        file: the file in the artifact's folder that ``open`` starts from.
        quantizer: tool and function, such as ``onnxruntime.quantize_static``; None if the
            weights were only copied or converted.
        settings: what was really given to the tool (JSON values).
        quantized_ops: operators that the tool really quantized, counted in its result; None
            where nothing was to be quantized. A quantizer that did nothing must not pass:
            raise PrepareError instead of returning 0.
        notes: sentences for the reader, such as ``fp16 is storage only: computed in fp32``.
    """

    file: str
    quantizer: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    quantized_ops: int | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Provenance:
        return cls(**{**data, "notes": tuple(data.get("notes", ()))})


@dataclass(frozen=True)
class Artifact:
    """A prepared model: a folder, and what is known of it.

    Layout of the folder (written by qbench; complete when ``artifact.json`` is there)::

        artifact.json   this class but for ``path``
        <file>, ...     what ``Backend.prepare`` left
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


EFFECTIVE = ("fp32", "tf32", "fp16", "bf16", "fp8", "int8", "int16", "int4")
"""The words for what operators really compute in."""


@dataclass(frozen=True)
class Operator:
    """One operator of an opened program, as the runtime runs it: after fusions and conversions.

    Attributes:
        name: what the runtime calls it.
        kind: the runtime's type for it, such as ``QLinearConv``.
        role: ``compute`` (convolutions, matrix products and the like, that have weights or
            dominate the work), ``convert`` (quantize, dequantize, cast, reorder), or ``other``.
        precision: what it computes in, one of ``EFFECTIVE``; None where that says nothing.
        macs: multiply-accumulates of one inference (a whole batch); None if it has none, or if
            they cannot be told.
        weight_bytes: bytes of the constants that one inference reads here, each once, in the type
            that they are kept in while it runs; of a table that is looked up in, the rows that are
            taken. None if it cannot be told.
        activation_bytes: bytes of its other inputs and of its outputs, each once, in the types they
            have; 0 if it copies nothing (a reshape). None if it cannot be told.
        fallback: whether the fast path did not take it (another provider, outside the delegate).
        layers: names of the source's layers that were fused into it, where the runtime tells.
        ns: mean time of one inference, in nanoseconds; None where it is not measured.
    """

    name: str
    kind: str
    role: str
    precision: str | None = None
    macs: int | None = None
    weight_bytes: int | None = None
    activation_bytes: int | None = None
    fallback: bool = False
    layers: tuple[str, ...] = ()
    ns: float | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Operator:
        return cls(**{**data, "layers": tuple(data["layers"])})


@dataclass(frozen=True)
class EffectivePrecision:
    """What really runs, read back from the opened program; never the name that was asked for.

    Attributes:
        precision: what most of the multiply-accumulates run at (of the operators, where their
            number is not known): one of ``EFFECTIVE``. Where floating point runs at another
            precision than was asked for, qbench skips the case; a case that asked for int8 and
            runs less than half of them in int8 is flagged. fp16 as a mere storage format runs
            as ``fp32``.
        operators: computing operators by the precision they run at.
        macs: their multiply-accumulates by precision; None where they cannot be told.
        fallback_ops: operators that the fast path did not take (another provider, outside the
            delegate); 0 where there is only one path, None where the runtime does not tell.
        notes: sentences for the reader.
        weight_bytes: the sum of those of all operators, so what one inference reads of weights at
            least. Weights that several operators share count at each.
        activation_bytes: the sum of those of all operators. With the weights, the bytes that
            operators and caches exchange; how much of it reaches memory, the caches decide.
    """

    precision: str
    operators: Mapping[str, int]
    macs: Mapping[str, int] | None = None
    fallback_ops: int | None = None
    notes: tuple[str, ...] = ()
    weight_bytes: int | None = None
    activation_bytes: int | None = None

    @classmethod
    def of(cls, operators: Iterable[Operator], notes: Iterable[str] = ()) -> EffectivePrecision:
        """The summary of a program's operators.

        ``macs`` is None as soon as one computing operator does not tell its own, and bytes as soon
        as any operator does not. A program without computing operators runs at the commonest
        precision of the others.
        """
        every = list(operators)
        computing = [op for op in every if op.role == "compute" and op.precision is not None]
        counts = Counter(str(op.precision) for op in computing)
        macs: Counter[str] | None = Counter()
        for op in computing:
            if op.macs is None:
                macs = None
                break
            macs[str(op.precision)] += op.macs
        others = Counter(op.precision for op in every if op.precision is not None)
        most = (macs or counts or others).most_common(1)
        return cls(
            precision=most[0][0] if most else "fp32",
            operators=dict(counts),
            macs=None if macs is None else dict(macs),
            fallback_ops=sum(op.fallback for op in every),
            notes=tuple(notes),
            weight_bytes=_total(op.weight_bytes for op in every),
            activation_bytes=_total(op.activation_bytes for op in every),
        )


def _total(amounts: Iterable[int | None]) -> int | None:
    """Their sum; None as soon as one is not known."""
    known = list(amounts)
    return None if None in known else sum(amount or 0 for amount in known)


@dataclass(frozen=True)
class Profile:
    """Where the time of an inference goes.

    Attributes:
        operators: in the order of execution. Either all have ``ns`` or none has; a runtime whose
            interface gives no times still gives structure, precision and placement.
        notes: sentences for the reader, such as what the runtime does not tell.
    """

    operators: tuple[Operator, ...]
    notes: tuple[str, ...] = ()


class Activation(NamedTuple):
    """The output of one layer for one feed.

    Attributes:
        name: as the float32 artifact of the same model calls it, so that two can be compared.
        kind: the layer's type, such as ``Conv`` or ``DEPTHWISE_CONV_2D``.
        values: float32; dequantized where the layer's output is quantized.
    """

    name: str
    kind: str
    values: np.ndarray


# --------------------------------------------------------------------------- the protocols


class Stream(Protocol):
    """One lane of inference: inputs placed, run, outputs read. Used by one thread only."""

    def bind(self, feed: Feed) -> None:
        """Place the inputs (canonical names, dtypes, layouts; ``batch`` items) for every
        following ``infer``. Conversion and copying happen here, so it is timed apart. The caller
        may change its arrays afterwards: copy, or keep a copy.

        Raises:
            ValueError: another name, dtype or shape (``qbench.worker.feeds.check_feed`` tells).
        """
        ...

    def infer(self) -> None:
        """Run one batch; return when the outputs are readable. The timed call: no allocation,
        no conversion, no clock of its own. It leaves the bound inputs as they are."""
        ...

    def read(self) -> Feed:
        """The outputs of the last ``infer`` under canonical names. The buffers may be reused by
        the next ``infer``: the caller copies what it keeps."""
        ...

    # A stream on a device with a memory of its own may have one more method. ``infer`` there
    # copies the inputs to the device, computes, and copies the outputs back:
    #
    # def segments(self, calls: int) -> Mapping[str, np.ndarray]:
    #     """Times of ``calls`` more inferences, made one after the other: by ``h2d, compute, d2h``
    #     (from events on the device) and ``enqueue`` (the host, until all was handed over), each
    #     ``[calls]`` float64, nanoseconds. Called after the timed window, never within it."""


class Program(Protocol):
    """An opened artifact, ready to run: nothing compiles lazily after the first ``infer``.

    A context manager: leaving it frees the runtime's memory. One that knows how much memory it
    holds on a device tells it in ``device_memory_bytes()``: by purpose (such as ``weights``,
    ``activations``, ``io``), bytes.

    Attributes:
        inputs, outputs: by canonical name, dtype, layout and shape as the *artifact* has them (a
            model whose inputs were quantized reports int8 with scale and zero-point, though feeds
            keep the card's dtype).
    """

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]

    def stream(self) -> Stream:
        """A new stream; up to ``RunConfig.streams`` of them share the weights."""
        ...

    def effective(self) -> EffectivePrecision:
        """What really runs. Only called on a program that was opened with ``inspect=True``."""
        ...

    def profile(self, feed: Feed, runs: int) -> Profile:
        """Time by operator, the mean of ``runs`` inferences after one that does not count. Only
        called on a program that was opened with ``inspect=True``.

        Raises:
            Unsupported: the adapter cannot tell anything about operators.
            RuntimeError: the runtime's times are all zero, so they were not measured.
        """
        ...

    def __enter__(self) -> Program: ...

    def __exit__(self, *exc: object) -> None: ...


class Backend(Protocol):
    """An adapter. Made without arguments; holds no state between calls but the imported runtime.

    Attributes:
        name: the name in suites; equal to the entry point's.
        api_version: the version of this contract that it was written for (``API_VERSION``).
        prepare_version: raise it whenever ``prepare`` would make something else of the same
            input, so that cached artifacts are made anew.
        formats: source formats it can prepare from, the best first.
        runtime_packages: distributions whose versions decide how an artifact runs.
        prepare_packages: distributions whose versions decide what ``prepare`` makes.
        shareable: precisions whose artifact is one ONNX file with Q/DQ operators that other
            runtimes read too. ``recipe: shared`` gives all backends the one that the first
            backend with such a precision makes. Empty for most.
    """

    name: str
    api_version: int
    prepare_version: int
    formats: tuple[str, ...]
    runtime_packages: tuple[str, ...]
    prepare_packages: tuple[str, ...]
    shareable: tuple[str, ...]

    def probe(self) -> Ready | Unavailable:
        """Whether the runtime works here. Takes at most a second or two and never raises; it runs
        in a process of its own, so that a crash is an answer too."""
        ...

    def supports(self, model: Model, target: PrepareTarget) -> str | None:
        """None, or one sentence on why this model cannot be prepared so. Runs in the parent:
        cheap, and without the runtime. What ``probe`` declared is already checked. Asked for
        each of ``formats`` that can be had, in their order, until one is supported."""
        ...

    def import_runtime(self) -> str:
        """Import the runtime, and the adapter's own module that runs it, and return the runtime's
        version. Timed as the import phase; ``open`` is timed as loading, so nothing is left to be
        imported there."""
        ...

    # An adapter whose ``describe`` and ``prepare`` work where its runtime does not (without the
    # device) has one more method, which these two steps call in place of ``import_runtime``:
    #
    # def import_tools(self) -> str:
    #     """Import what ``describe`` and ``prepare`` use, and return the version that counts."""

    def describe(self, path: Path) -> tuple[Mapping[str, TensorSpec], Mapping[str, TensorSpec]]:
        """Inputs and outputs of a source file, in its order and by its own names; the first free
        size of a tensor is called ``N``, others by other names. For models without a card, and to
        compare a card with its file.

        Raises:
            PrepareError: the file is none of this format.
            Unsupported: it cannot be told for this format; ``prepare`` then looks at names itself.
        """
        ...

    def prepare(
        self, model: Model, target: PrepareTarget, calibration: Calibration | None, out: Path
    ) -> Provenance:
        """Make the artifact's files in the empty folder ``out``.

        Args:
            calibration: given when the precision needs it (``int8-static``), else None.

        Raises:
            PrepareError: the tool failed, or did nothing though it said it had.
            Unsupported: this cannot be had, for a reason found only now.
        """
        ...

    # An adapter whose probe names devices in ``compiled`` has one more method:
    #
    # def compile(self, artifact: Artifact, config: RunConfig, kept: Path, out: Path) -> Provenance:
    #     """Make of a prepared artifact what runs on ``config.device`` at ``config.batch``, in the
    #     empty folder ``out``. What it leaves in the folder ``kept`` (a cache of timings), the next
    #     compilation for the same kind of device and runtime finds there. Threads and streams are
    #     1. Raises as ``prepare``."""

    def open(self, artifact: Artifact, config: RunConfig, inspect: bool = False) -> Program:
        """Load and compile.

        Args:
            inspect: open it so that ``effective`` works (profiling on, graph kept), at the price
                of speed; a timed program is opened without.

        Raises:
            Unsupported: this configuration cannot be had (a batch that the file cannot take).
            ValueError: an unknown name in ``config.hints``.
        """
        ...

    def activations(
        self, artifact: Artifact, config: RunConfig, feeds: Iterable[Feed]
    ) -> Iterator[list[Activation]]:
        """For each feed, the outputs of the layers in the order of execution. For explaining
        where a quantized model parts from its float32 twin; as slow as it has to be. Given what
        ``prepare`` made, also where that is compiled for a device.

        Raises:
            Unsupported: the runtime does not show what is between inputs and outputs.
        """
        ...
