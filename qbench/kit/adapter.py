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

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

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

API_VERSION = 1


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


# --------------------------------------------------------------------------- requests


# --------------------------------------------------------------------------- answers


@dataclass(frozen=True)
class Ready:
    """The runtime works here.

    Attributes:
        version: the runtime's version.
        precisions: by device (``cpu``, ``cuda:0``, ``cuda:1``), the precisions it really computes
            or stores here.
        emulated: by device, the precisions among them that the processor has no instructions for;
            the runtime computes them with others, as a rule more slowly than fp32.
        missing: by device, for precisions that someone may expect but that are not to be had:
            the reason, one sentence.
        isa: instruction sets that matter for the figures, as the runtime reports them, or "".
        devices: by device, what is known of it: for a GPU those of ``qbench.kit.cuda.Device``.
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
    emulated: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Unavailable:
    """The runtime does not work here.

    Attributes:
        reason: such as ``no CUDA device``.
        fix: such as ``run on a host with an NVIDIA GPU`` or a pip command.
    """

    reason: str
    fix: str


# --------------------------------------------------------------------------- the protocols


class Stream(Protocol):
    """One lane of inference: inputs placed, run, outputs read. Used by one thread only."""

    def bind(self, feed: Feed) -> None:
        """Place the inputs (canonical names, dtypes, layouts; ``batch`` items) for every
        following ``infer``. Conversion and copying happen here, so it is timed apart. The caller
        may change its arrays afterwards: copy, or keep a copy.

        Raises:
            ValueError: another name, dtype or shape (``qbench.kit.feeds.check_feed`` tells).
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
