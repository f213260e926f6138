"""The plugin contract: everything that the author of an adapter needs to know.

An adapter teaches qbench one runtime. It is a subclass of :class:`Adapter`, named by an entry
point::

    [project.entry-points."qbench.backends"]
    myruntime = "qbench_myruntime:Backend"

Every step runs in a fresh worker process, in this order of calls:

========== =====================================================================
probe      ``Backend().probe()``: whether the runtime works here, at which precisions
describe   ``import_tools()``, ``describe(path)``: what a file says about its tensors
prepare    ``import_tools()``, ``describe(path)`` to compare the card with the file,
           then ``prepare(model, target, calibration, out)``: convert, calibrate,
           quantize; writes files into the folder ``out``
compile    only for devices that ``probe`` lists in ``compiled``: ``import_runtime()``,
           ``compile(artifact, config, kept, out)``; the result in ``out`` runs on this
           kind of device only, and is opened instead of the prepared artifact
evaluate   ``import_runtime()``, ``open(artifact, config, inspect=True)``,
           ``effective()``, close; ``open(artifact, config)`` again, then ``bind``,
           ``infer``, ``read`` for every evaluation item
measure    ``import_runtime()``, ``open(artifact, config)``, ``stream()``, ``bind``
           once, then ``infer`` many times
explain    ``import_runtime()``, ``open(artifact, config, inspect=True)``, ``profile``;
           ``activations`` of a quantized artifact and of its float32 counterpart
========== =====================================================================

The parent process also imports the adapter's module, for ``supports`` and the class attributes, so
the module must import nothing heavy: ``import_runtime`` imports the runtime.

Python 3.10, standard library only; NumPy arrays come from the caller.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    NamedTuple,
    TypeVar,
)

from qbench.kit.model import (
    Artifact,
    Calibration,
    Feed,
    Model,
    PrepareTarget,
    Provenance,
    RunConfig,
    TensorSpec,
)
from qbench.kit.operators import Activation, EffectivePrecision, Profile
from qbench.kit.precisions import changed_options
from qbench.kit.reasons import Known, Told, sentence

if TYPE_CHECKING:
    import numpy as np

API_VERSION = 2


# --------------------------------------------------------------------------- errors


class Unsupported(Told):
    """The runtime cannot do this, which is no fault: the case is *skipped* with this reason.

    Raise it from ``prepare``, ``open`` or ``effective`` for reasons that only appear there.
    """

    status = "skipped"


class NothingToQuantize(Unsupported):
    """The model has no operator that the precision is for."""

    def __init__(self) -> None:
        super().__init__(
            "there is nothing to quantize: the model has no convolution or matrix product with "
            "weights, outside of branches and loops"
        )


class PrepareError(Told):
    """Converting or quantizing failed. The case is recorded as ``prepare_failed``.

    Args:
        message: what failed, and the tool's own message as ``qbench.kit.reasons.sentence`` gives
            it. Raise it ``from`` the tool's error, whose raw text is then searched for ``messages``
            and kept in the log.
        operator: name or type of the operator that it failed at, if the tool reports it.
    """

    status = "prepare_failed"

    def __init__(self, message: str, operator: str | None = None) -> None:
        super().__init__(f"{message} (operator: {operator})" if operator else message)
        self.operator = operator


@contextmanager
def needs_packages(fix: str) -> Generator[None, None, None]:
    """Turn a missing package into a PrepareError that ends with ``fix``.

    For imports of preparation tools: a host that only measures has the runtime alone.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise PrepareError(f"the package '{error.name}' is not installed: {fix}") from error


# --------------------------------------------------------------------------- answers


class KnownSize(NamedTuple):
    """The value of a free size.

    Attributes:
        value: such as 640.
        source: where it comes from, such as ``imgsz in the file's metadata``.
    """

    value: int
    source: str


Range = tuple[float, float]
"""The smallest and the largest value."""


@dataclass(frozen=True)
class Description:
    """What a source file says about its tensors.

    Attributes:
        inputs, outputs: by the file's own names, in its order. Free sizes have the file's names;
            one without a name is called ``<tensor>.<axis>``. ``batch`` need not be set.
        sizes: values of free sizes that the file itself gives or forces, by the size's name.
        ranges: by input, the smallest and the largest value that the file can take, where it says
            so: the rows of a table that the values select from, the scale of a quantized input, a
            sampling rate that the graph compares the input with.
        notes: sentences for the reader, such as which of several signatures this is.
        quantized: whether the file is quantized (``qbench.kit.onnxfile.quantized``); None: unknown.
    """

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    sizes: Mapping[str, KnownSize] = field(default_factory=dict[str, KnownSize])
    ranges: Mapping[str, Range] = field(default_factory=dict[str, Range])
    notes: tuple[str, ...] = ()
    quantized: bool | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Description:
        return cls(
            {name: TensorSpec.from_json(spec) for name, spec in data["inputs"].items()},
            {name: TensorSpec.from_json(spec) for name, spec in data["outputs"].items()},
            {name: KnownSize(*known) for name, known in data["sizes"].items()},
            {name: (low, high) for name, (low, high) in data["ranges"].items()},
            tuple(data["notes"]),
            data["quantized"],
        )


@dataclass(frozen=True)
class Ready:
    """The runtime works on this machine.

    Attributes:
        version: the runtime's version.
        precisions: by device (``cpu``, ``cuda:0``, ``cuda:1``), the precisions that it computes or
            stores here.
        emulated: by device, precisions among these that the processor has no instructions for; the
            runtime computes them with other instructions, usually more slowly than fp32.
        missing: by device, the reason, one sentence, for each precision that a user may expect and
            that the device lacks.
        isa: instruction sets that affect results, as the runtime reports them, or "".
        devices: by device, its facts; for a GPU those of ``qbench.kit.cuda.Device``.
        compiled: devices that artifacts must be compiled for (``Adapter.compile``). Compiled
            artifacts are cached by the device's ``name``, ``compute_capability``, ``driver`` and
            ``driver_release`` and by the runtime's versions.
    """

    version: str
    precisions: Mapping[str, tuple[str, ...]]
    missing: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])
    isa: str = ""
    devices: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    compiled: tuple[str, ...] = ()
    emulated: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])


@dataclass(frozen=True)
class Unavailable:
    """The runtime does not work on this machine.

    Attributes:
        reason: such as ``no CUDA device``.
        fix: the next step, such as ``run on a host with an NVIDIA GPU`` or a pip command.
    """

    reason: str
    fix: str


# --------------------------------------------------------------------------- programs


class Stream(ABC):
    """One lane of inference: bind inputs, run, read outputs. Used by one thread at a time.

    Attributes:
        infer: run one batch on the bound inputs, which stay unchanged, and return when the outputs
            are readable. This call is timed: no allocation, no conversion, no clock of its own. A
            method, or the runtime's bound call, set in ``__init__`` (which saves a Python frame).
            It also feeds back ``Model.states``, best by swapping buffers
            (``qbench.kit.feedback.Turns``).
    """

    infer: Callable[[], None]

    @abstractmethod
    def bind(self, feed: Feed) -> None:
        """Place the inputs for all following calls of ``infer``: copy and convert here, since this
        is timed separately. The caller may change its arrays afterwards.

        Args:
            feed: canonical names, dtypes and layouts, of the shapes ``TensorSpec.at(batch)``. A
                given state is that of the next ``infer``; later ones take what the one before gave.
                After the first feed, states may be left out: they go on.

        Raises:
            ValueError: another name, dtype or shape (see ``qbench.kit.feeds.check_feed``).
        """

    @abstractmethod
    def read(self) -> Feed:
        """Outputs of the last ``infer`` by canonical name. The next ``infer`` may overwrite them:
        copy to keep."""

    def segments(self, calls: int) -> Mapping[str, np.ndarray] | None:
        """Times of the parts of ``calls`` more inferences, one after the other; None if unknown.

        For devices with memory of their own, where ``infer`` copies inputs to the device, computes,
        and copies outputs back. Called after the timed window, never inside it.

        Returns:
            ``[calls]`` float64, nanoseconds, by part: ``h2d``, ``compute``, ``d2h`` (from events on
            the device) and ``enqueue`` (on the host, until all work is handed over).
        """
        return None


_ProgramT = TypeVar("_ProgramT", bound="Program")


class Program(ABC):
    """An opened artifact, ready to run: nothing compiles lazily after the first ``infer``.

    A context manager, which calls ``close`` at its end.

    Attributes:
        inputs, outputs: by canonical name, dtype, layout and shape in the *artifact* (a model with
            quantized inputs reports int8 with scale and zero-point, though feeds keep the card's
            dtype).
        example: a feed for what can only be inspected by running it, as branches of an If; set
            before ``effective``. None: there is none, so zeros have to do.
    """

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    example: Feed | None = None

    @abstractmethod
    def stream(self) -> Stream:
        """A new stream; up to ``RunConfig.streams`` of them share the weights."""

    @abstractmethod
    def effective(self) -> EffectivePrecision:
        """The precision that the program executes at. Only called if opened with ``inspect``."""

    def mismatch(self) -> str | None:
        """Where the opened program is not what the artifact's target asked for, in one sentence: an
        excluded operator that runs quantized, another group size, one scale for a whole tensor;
        None if it is nowhere. Called after ``effective``. The case is then ``wrong_output``."""
        return None

    def profile(self, feed: Feed, runs: int) -> Profile | None:
        """Mean time by operator over ``runs`` inferences, after one that is not counted; None if
        the runtime reports nothing about operators. Only called if opened with ``inspect``.

        Raises:
            Unsupported: this program's operators cannot be reported.
            RuntimeError: all times are zero: nothing was measured.
        """
        return None

    def device_memory_bytes(self) -> Mapping[str, int] | None:
        """Bytes held on the device, by purpose (``weights``, ``activations``, ``io``); None if
        unknown."""
        return None

    def close(self) -> None:
        """Free the runtime's memory; the program and its streams are unusable afterwards."""
        return

    def __enter__(self: _ProgramT) -> _ProgramT:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


# --------------------------------------------------------------------------- adapters


class Only(NamedTuple):
    """The values, next to its default, that an adapter accepts of an option.

    Attributes:
        values: accepted values.
        reason: one sentence for any other value, which replaces ``{value}``.
    """

    values: tuple[Any, ...]
    reason: str


class Adapter(ABC):
    """One runtime. Created without arguments; holds no state except the imported runtime.

    Attributes:
        name: name in suites; equal to the entry point's.
        api_version: version of this contract that the adapter is written for (``API_VERSION``).
        prepare_version: raise it whenever ``prepare`` makes something else of the same input, so
            that cached artifacts are prepared again.
        formats: source formats that it prepares from, the best first.
        precisions: by kind of device (``cpu``, ``cuda``), the precisions that it offers on some
            machine.
        missing: by kind of device, reasons for precisions that it offers on no machine.
        options: options of precisions that its quantizer has. None accepts every value, ``Only``
            some. ``w8.group_size`` goes before ``group_size``. Every option that is not listed is
            refused unless it has its default: an ignored option is a wrong figure under a right
            name.
        modules: modules that ``import_runtime`` imports: the runtime's first, then the adapter's
            own that runs it.
        fix: how to install the runtime, such as a pip command.
        runtime_packages: distributions whose versions decide how an artifact runs.
        prepare_packages: distributions whose versions decide the content of an artifact.
        shareable: precisions whose artifact is one ONNX file with Q/DQ operators that other
            runtimes read. ``recipe: shared`` gives all backends the file of the first backend with
            such a precision. Empty for most.
        feeds_back: whether its streams feed back ``Model.states``; else such models are skipped.
        messages: what messages of the runtime and its tools mean, in a sentence each, the most
            specific first; others are shortened to their first sentence.
    """

    name: ClassVar[str]
    api_version: ClassVar[int]
    prepare_version: ClassVar[int] = 1
    formats: ClassVar[tuple[str, ...]]
    precisions: ClassVar[Mapping[str, tuple[str, ...]]] = {"cpu": ("fp32",)}
    missing: ClassVar[Mapping[str, Mapping[str, str]]] = {}
    options: ClassVar[Mapping[str, Only | None]] = {}
    modules: ClassVar[tuple[str, ...]]
    fix: ClassVar[str] = "Reinstall the runtime."
    runtime_packages: ClassVar[tuple[str, ...]]
    prepare_packages: ClassVar[tuple[str, ...]]
    shareable: ClassVar[tuple[str, ...]] = ()
    feeds_back: ClassVar[bool] = False
    messages: ClassVar[tuple[Known, ...]] = ()

    def probe(self) -> Ready | Unavailable:
        """Whether the runtime works here; never raises, and takes two seconds at most.

        Runs in a process of its own, so a crash is an answer too. By default the runtime works if
        it can be imported, on the CPU, at all ``precisions``.
        """
        version = self.try_import()
        if isinstance(version, Unavailable):
            return version
        missing = {"cpu": self.missing.get("cpu", {})}
        return Ready(version, {"cpu": self.precisions["cpu"]}, missing)

    def try_import(self) -> str | Unavailable:
        """The runtime's version, or the reason why it cannot be imported. For ``probe``."""
        try:
            return self.import_runtime()
        except ModuleNotFoundError as error:
            return Unavailable(f"the package '{error.name}' is not installed", self.fix)
        except Exception as error:  # a damaged installation fails in many ways
            return Unavailable(f"{self.name} cannot be imported: {sentence(error)}", self.fix)

    def supports(self, model: Model, target: PrepareTarget) -> str | None:
        """None, or one sentence on why this model cannot be prepared for this target.

        Runs in the parent, without the runtime. Called for each available format in the order of
        ``formats`` until one is supported. By default it checks device, format, precision and
        options against the class attributes.
        """
        if target.device not in self.precisions:
            kinds = " and ".join(self.precisions)
            return f"{self.name} runs on {kinds} only, not on {target.device}"
        shared = target.recipe == "shared"
        if shared and model.format != "onnx":
            return "a shared Q/DQ model is an ONNX file"
        if model.format not in self.formats:
            return f"{self.name} reads {', '.join(self.formats)}, not {model.format}"
        if target.precision not in self.precisions[target.device]:
            reasons = self.missing.get(target.device, {})
            return reasons.get(target.precision, f"{self.name} has no {target.precision}")
        if shared:
            return None
        for option, value in changed_options(target.precision, target.options).items():
            names = (f"{target.precision}.{option}", option)
            name = next((name for name in names if name in self.options), None)
            if name is None:
                return f"{self.name} has no option {option}"
            only = self.options[name]
            if only is not None and value not in only.values:
                return only.reason.format(value=value)
        return None

    def import_runtime(self) -> str:
        """Import the runtime and the adapter's module that runs it; the runtime's version.

        Timed as the import phase. ``open`` is timed as loading, so nothing may be left to import.
        """
        for module in self.modules:
            import_module(module)
        return str(sys.modules[self.modules[0].partition(".")[0]].__version__)

    def import_tools(self) -> str:
        """Import the modules that ``describe`` and ``prepare`` need; the version to record.

        Override it if they work without the runtime.
        """
        return self.import_runtime()

    def describe(self, path: Path) -> Description:
        """What a source file says about its inputs and outputs. For models without a card, and to
        compare a card with its file.

        Raises:
            PrepareError: not a file of this format.
            Unsupported: this format cannot be described; ``prepare`` then checks the names itself.
        """
        raise Unsupported(f"{self.name} does not describe files: write a model card")

    def extract(self, path: Path, signature: str, out: Path) -> None:
        """Write the part of a source file that one of its signatures names as a file of its own,
        which ``describe`` and ``prepare`` are given instead. Its tensors have the names of the
        signature.

        Raises:
            PrepareError: the file has no such signature.
            Unsupported: files of this format have none.
        """
        raise Unsupported(f"{self.name} reads files without signatures")

    def prepare(
        self, model: Model, target: PrepareTarget, calibration: Calibration | None, out: Path
    ) -> Provenance:
        """Write the artifact's files into the empty folder ``out``.

        By default it copies a file that ``describe`` can read: enough for a runtime that loads
        source files and quantizes nothing.

        Args:
            calibration: given if the precision needs it (``int8-static``), else None.

        Raises:
            PrepareError: the tool failed, or did nothing though it reported success.
            Unsupported: this target cannot be made, for a reason that only appears here.
        """
        from shutil import copyfile  # not in a process that measures

        if target.precision not in ("fp32", "as-shipped"):
            raise Unsupported(f"{self.name} only copies files, so it makes no {target.precision}")
        with suppress(Unsupported):
            self.describe(model.path)
        for name, path in {**model.companions, model.path.name: model.path}.items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            copyfile(path, out / name)
        return Provenance(model.path.name)

    def compile(
        self, artifact: Artifact, config: RunConfig, kept: Path, out: Path
    ) -> Provenance | None:
        """Compile a prepared artifact for ``config.device`` and ``config.batch`` into the empty
        folder ``out``; None if the runtime compiles nothing ahead.

        Needed if ``probe`` lists devices in ``compiled``. Threads and streams are 1.

        Args:
            kept: folder that outlives the worker, for a cache (of timings, say) that the next
                compilation on the same kind of device and runtime finds again.

        Raises:
            PrepareError, Unsupported: as ``prepare``.
            ValueError: a wrong hint.
        """
        return None

    @abstractmethod
    def open(self, artifact: Artifact, config: RunConfig, inspect: bool = False) -> Program:
        """Load an artifact, ready to run.

        Args:
            inspect: open it so that ``effective`` and ``profile`` work (profiling on, graph kept),
                at the cost of speed; a timed program is opened without.

        Raises:
            Unsupported: this configuration is impossible (a batch that the file cannot take).
            ValueError: a wrong hint.
        """

    def activations(
        self, artifact: Artifact, config: RunConfig, feeds: Iterable[Feed]
    ) -> Iterator[list[Activation]] | None:
        """For each feed, the outputs of the layers in order of execution; None if the runtime does
        not expose them.

        Shows where a quantized model departs from its float32 counterpart; speed does not matter.
        ``artifact`` is always the prepared one, also where programs are compiled from it.

        Raises:
            Unsupported: this artifact does not expose its layers.
        """
        return None
