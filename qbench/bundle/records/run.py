"""The records of a bundle: ``begin.json``, ``plan.json``, and each line of the ``.jsonl`` files.
``docs/schema/`` has their JSON Schemas, for other programs.

Bundles come from other machines, so every record is checked whenever it is read. Undeclared
fields are kept, but not checked. None means not measured or not known, never zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Self, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from qbench.bundle.records.energy import EnergyRecord
from qbench.bundle.records.gpu import Gpu
from qbench.kit.precisions import PRECISIONS
from qbench.spec.case import Case, Status
from qbench.spec.judging import Judging, Quality
from qbench.spec.scenarios import FIGURES, SCENARIOS, VERDICT, complete_options
from qbench.spec.suite import Rounds
from qbench.spec.system import System

SCHEMA = 4
"""Version of the bundle schema; it grows when a field changes its meaning or becomes required."""

RUN_ID = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
"""A run id is also the name of its folder, so it cannot be a path."""

Count = Annotated[int, Field(ge=0)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Time = Annotated[float, Field(ge=0, allow_inf_nan=False)]
ArtifactKey = Annotated[str, Field(pattern="^[A-Za-z0-9]+$")]
Share = Annotated[float, Field(ge=0, le=1)]
Threads = Annotated[str, Field(pattern="^[0-9]+$")]


class Record(BaseModel):
    """Required and known fields of a record. Other fields are kept, but not checked."""

    model_config = ConfigDict(extra="allow", strict=True)

    @property
    def extras(self) -> dict[str, Any]:
        """Undeclared fields, as they were read."""
        return self.model_extra or {}


def to_json(record: BaseModel) -> dict[str, Any]:
    """Return a record as it was read: without defaults, with undeclared fields, keys sorted."""
    return _in_order(record.model_dump(mode="json", by_alias=True, exclude_unset=True))


def _in_order(value: Any) -> Any:
    """The value with the keys of all its dicts sorted, as files of a bundle have them."""
    if isinstance(value, dict):
        fields = cast(dict[str, Any], value)
        return {name: _in_order(fields[name]) for name in sorted(fields)}
    return [_in_order(one) for one in cast(list[Any], value)] if isinstance(value, list) else value


# --------------------------------------------------------------------------- begin.json


class Cache(Record):
    """One level of the processor's caches; ``instances``: their number."""

    level: str
    bytes: Count
    instances: Annotated[int, Field(ge=1)] | None


class HostGpu(Record):
    """A GPU of the machine."""

    name: str | None = None


class Host(Record):
    """The fingerprint of the machine; docs/machines.md lists its further fields."""

    host_id: str
    hostname: str | None = None
    cpu_model: str | None
    cpu_flags: list[str]
    cores_usable: int | None = None
    cores_logical: int | None = None
    governor: str | None
    power_mode: str | None
    caches: list[Cache] | None
    system: str | None = None
    os: str | None = None
    kernel: str | None = None
    packages: dict[str, str] | None = None
    gpus: list[HostGpu] | None = None


class CpuPower(Record):
    """Watts for each busy core, from the suite, and the source of the figure."""

    watts_per_core: float
    source: str


class Settings(Record):
    """Settings of the suite that decide how it is measured and judged."""

    rounds: int | Rounds
    cpu_power: CpuPower | None = None
    gate: dict[str, Any] | None = None


class Environment(Record):
    """An interpreter with packages that workers ran in, in addition to the default one.

    Attributes:
        requirements: from the suite.
        resolved: versions of all its packages.
        python: its version; "" if it could not be built.
        digest: of everything that determines its content; None if it could not be built.
        failure: why it could not be built; else "".
    """

    requirements: list[str]
    resolved: dict[str, str]
    python: str
    digest: str | None
    failure: str = ""


class Probe(Record):
    """The probe of a backend; ``version``: of its runtime, None where it is not installed."""

    version: str | None = None


class Packed(Record):
    """The bundle that this one is a smaller copy of: the SHA-256 of its manifest, and whether the
    copy has its predictions."""

    manifest_sha256: Digest
    predictions: bool


class Redacted(Record):
    """The bundle that this one is a copy of, without names of its machine: the SHA-256 of its
    manifest."""

    manifest_sha256: Digest


class Begin(Record):
    """``begin.json``: the request, the machine and the software.

    Attributes:
        run_key: digest of the whole request; an interrupted run continues under the same key.
        command: arguments of the command line.
        started: ISO 8601.
        system: the user's description of the machine.
        software: version by package; None: not installed.
        backends: by name.
        environments: by name, without the default one.
        confirms: the run whose findings this one measures again; None for most.
        packed: the larger bundle that this one was made from; None for most.
        redacted: the bundle with all names that this one was made from; None for most.
    """

    run_id: Annotated[str, Field(pattern=RUN_ID)]
    run_key: str
    suite: str
    suite_digest: str | None = None
    plan_digest: str | None = None
    filters: dict[str, list[str]] = {}
    seed: int
    strict: bool = False
    command: list[str] = []
    started: str
    host: Host
    system: System | None = None
    software: dict[str, str | None]
    backends: dict[str, Probe]
    settings: Settings
    environments: dict[str, Environment] = {}
    confirms: Annotated[str, Field(pattern=RUN_ID)] | None = None
    packed: Packed | None = None
    redacted: Redacted | None = None


# --------------------------------------------------------------------------- plan.json


class Conversion(Record):
    """Conversion of the source file: the format it was converted from, and its closeness to that
    file, in dB by output."""

    source_format: str
    sqnr_db: dict[str, float]


class Place(Record):
    """Position of a GPU on the PCI bus, and whether the case has only a part of it (MIG)."""

    pci_bus_id: str
    mig: bool


class Entry(Record):
    """One case of the plan.

    Attributes:
        case_id: digest of the request, without versions.
        variant: the precision's options that differ from its defaults, short.
        skip: why it cannot run here; None if it can.
        failure: why the backend could not be given a source; None if it could.
        failure_status: the status of a case with a failure; None without one, and in older
            bundles, where it is ``prepare_failed``.
        log: last lines of the worker that failed to convert its source; "" in older bundles.
        artifact_key, evaluation_id: of its lines in ``prepare.jsonl`` and ``evaluate.jsonl``.
        model_digest, dataset_digest: SHA-256 of the source file, and of items and preprocessing.
        input_shapes: shapes of the inputs by name, with the values of free sizes; a name stands for
            the batch. None: not recorded.
        cached_items: key under which ``qbench explain`` finds the preprocessed items.
        gpu: position of its GPU; None on the processor, and in older bundles.
    """

    case_id: str
    case: Case
    variant: str
    skip: str | None
    failure: str | None
    failure_status: Status | None = None
    log: str = ""
    artifact_key: ArtifactKey | None
    evaluation_id: str | None
    source_format: str | None
    model_digest: str | None
    source_bytes: int | None
    calibration_items: int | None
    dataset_digest: str | None
    input_shapes: dict[str, list[int | str]] | None = None
    cached_items: Annotated[str, Field(pattern="^[0-9a-f]{32}$")] | None
    conversion: Conversion | None
    gpu: Place | None = None

    @model_validator(mode="after")
    def _words_are_known(self) -> Self:
        if self.case.precision not in PRECISIONS:
            raise ValueError(f"there is no precision '{self.case.precision}'")
        if self.case.scenario not in SCENARIOS:
            raise ValueError(f"there is no scenario '{self.case.scenario}'")
        if complete_options(self.case.scenario, self.case.scenario_options) != (
            self.case.scenario_options
        ):
            raise ValueError("the scenario's options are not all there")
        return self


class PartOf(Record):
    """The official data set that items were taken from, and the number of its items."""

    name: str
    items: int


class Data(Record):
    """The data set that a model was evaluated on."""

    name: str
    part_of: PartOf | None


class Origin(Record):
    """Licence and source of a model or a data set, from its card."""

    licence: str | None
    source: str | None


class Origins(Record):
    """Origins of a model, and of the data that it was evaluated on; None for made-up inputs."""

    model: Origin
    data: Origin | None


class Plan(Record):
    """``plan.json``: the cases, and how they are judged.

    Attributes:
        data: by model; None for made-up inputs.
        origins: by model; empty in older bundles.
        cases: all cases of the suite, including those that cannot run.
        yardsticks: networks that are measured with them, for the ceilings of the machine.
        models: by model, how its outputs are judged.
        references: by model, the float32 cases that outputs may be compared with, the best first.
    """

    data: dict[str, Data | None]
    origins: dict[str, Origins] = {}
    cases: list[Entry]
    yardsticks: list[Entry]
    models: dict[str, Judging]
    references: dict[str, list[Entry]]

    @model_validator(mode="after")
    def _every_model_is_described(self) -> Self:
        for entry in [
            *self.cases,
            *self.yardsticks,
            *(one for some in self.references.values() for one in some),
        ]:
            for name in ("models", "data"):
                if entry.case.model not in getattr(self, name):
                    raise ValueError(
                        f"'{name}' has no entry for the model '{entry.case.model}' of a case"
                    )
        return self


# --------------------------------------------------------------------------- lines


class Outcome(Record):
    """The outcome of a step; ``reason``: why it is not ok, in a sentence."""

    status: Status
    reason: str


class Prepared(Outcome):
    """A line of ``prepare.jsonl``: one artifact.

    Attributes:
        digest: SHA-256 of its files.
        prepare_ns: duration in nanoseconds, without that of its base.
        provenance: tools and settings that made it.
        base: key of the artifact that it was made from; None if it was made from the model's
            source, and in older bundles.
        compiled_for: name, compute capability and drivers of the device, batch and hints; None if
            it was not compiled.
        log: last lines of the worker.
    """

    artifact_key: str
    digest: str | None = None
    bytes: int | None = None
    prepare_ns: int | None = None
    provenance: dict[str, Any] | None = None
    base: ArtifactKey | None = None
    compiled_for: dict[str, Any] | None = None
    log: str = ""


class Effective(Record):
    """Effective precision: operators and multiply-accumulates by precision, as the runtime reports.

    Attributes:
        precision: of most of them; None if the runtime does not report it.
        emulated: precisions that the processor has no instructions for.
        sums_in_16_bits: whether its int8 sums saturate on x86 processors without VNNI; None in
            older bundles.
        notes: remarks of the runtime or its adapter on its set-up.
    """

    precision: str | None
    operators: dict[str, int]
    macs: dict[str, Count] | None
    weight_bytes: Count | None
    activation_bytes: Count | None
    fallback_ops: int | None
    emulated: list[str] = []
    sums_in_16_bits: bool | None = None
    notes: list[str] = []


class OperatorTime(Record):
    """One operator of a profile; ``ns``: time in one inference, mean over runs."""

    name: str
    kind: str
    role: str
    precision: str | None
    fallback: bool
    ns: Time
    share: Share


class KindTime(Record):
    """The operators of one type and precision together.

    Attributes:
        ns: time in one inference; None where the runtime reports no times.
        share: of the whole time; of the operators where there are no times.
    """

    kind: str
    role: str
    precision: str | None
    operators: Count
    ns: Time | None
    share: Share


class Others(Record):
    """Number of operators that are not listed, and their time together."""

    operators: Count
    ns: Time | None


class Profiled(Record):
    """Time of an inference by operator, from a program that was opened for inspection: slower than
    the timed ones, and with one thread.

    Attributes:
        runs: number of profiled inferences.
        ns: time of all operators in one inference; None where the runtime reports no times.
        operators: the costliest first; empty where there are no times.
        kinds: all operators by type and precision, the costliest first.
        other_operators, other_kinds: the rest, which is not listed; None if there is none.
        notes: remarks of the runtime on its times.
        reason: why there is no profile; "" if there is one.
    """

    runs: Annotated[int, Field(ge=1)]
    ns: Time | None
    operators: list[OperatorTime]
    other_operators: Others | None
    kinds: list[KindTime]
    other_kinds: Others | None
    notes: list[str]
    reason: str


class ClippedInput(Record):
    """Values of a float input that the scale of the file's integers cannot hold.

    Attributes:
        share: of the values.
        low, high: the range that the scale holds.
        least, most: smallest and largest value.
    """

    share: Share
    low: float
    high: float
    least: float
    most: float


class Evaluated(Outcome):
    """A line of ``evaluate.jsonl``: one artifact's outputs for all evaluation items.

    Attributes:
        outputs: by name, the file in ``predictions/<evaluation_id>/``.
        clipped: by name of the input; empty if the scales hold all values, and in older bundles.
        scales: (scale, zero-point) of outputs, by name, where the file has one; empty in older
            bundles. Those of integers are dequantized before they are compared.
        profile: its operators' times; None if the suite does not profile, and in older bundles.
        log: last lines of the worker.
    """

    evaluation_id: str
    outputs: dict[str, str]
    runtime_version: str | None = None
    effective: Effective | None = None
    quality: Quality | None = None
    clipped: dict[str, ClippedInput] = {}
    scales: dict[str, Annotated[tuple[float, int], BeforeValidator(tuple)]] = {}  # JSON has lists
    profile: Profiled | None = None
    data_is_random: bool = False
    log: str = ""

    @model_validator(mode="after")
    def _what_went_well_was_judged(self) -> Self:
        if self.status == "ok" and (self.quality is None or not self.outputs):
            raise ValueError("it is ok, but has no outputs or no quality")
        return self


class Segment(Record):
    """One part of a call, in nanoseconds, over all calls of the pass; ``cov``: standard deviation
    over mean, None where the mean is 0."""

    p50_ns: Time
    p90_ns: Time
    p99_ns: Time
    mean_ns: Time
    cov: Time | None


class Segments(Record):
    """Parts of a call's time, from a separate pass after the window: copying inputs to the device,
    computing, copying outputs back (all timed by the device), and the host's time until everything
    was handed over. None for parts that a call does not have."""

    calls: Annotated[int, Field(ge=1)]
    h2d: Segment | None = None
    compute: Segment | None = None
    d2h: Segment | None = None
    enqueue: Segment | None = None


class Trial(Outcome):
    """A line of ``journal.jsonl``: one fresh process with its timed window. Times are nanoseconds.

    Attributes:
        trial: its name.
        sitting: number of times the run was started or resumed; only trials of one are paired.
        seconds: duration of the whole worker.
        calls, items: in the timed window: a call has a batch of items.
        wall_ns, cpu_ns: duration of the window, and the process's processor time in it.
        phases: start, import, load, bind, first inference, by name.
        memory: bytes by kind and phase.
        warmup: ``calls``, ``ns``, and whether it became ``stable``.
        conditions: machine conditions around the window; empty where nothing was read.
        counters: of the processor; None where they cannot be read.
        loop: statistics of the order of the calls.
        figures: figures of its scenario.
        facts: further facts of its scenario.
        traces: files in ``traces/<trial>/``.
        window: begin and end on the machine's monotonic clock; None where no clock was kept.
        log: last lines of the worker.
        samples_sha256: of its calls as a ``.npy`` file: int64 ``[calls]``, nanoseconds.
        segments: a call's parts; None where the runtime has none, and in older bundles.
        device_memory: bytes on the device by purpose, as the runtime counts them; else empty.
        gpu: state of the card around the window; None on the processor, and in older bundles.
    """

    trial: Annotated[str, Field(pattern=RUN_ID)]
    case_id: str
    round: int
    sitting: int
    seconds: float
    started: str | None = None
    runtime_version: str | None = None
    calls: int | None = None
    items: int | None = None
    wall_ns: int | None = None
    cpu_ns: int | None = None
    phases: dict[str, int | float | None] = {}
    memory: dict[str, int | float | None] = {}
    warmup: dict[str, Any] = {}
    conditions: dict[str, int | float | None] = {}
    counters: dict[str, int] | None = None
    loop: dict[str, float | None] = {}
    figures: dict[str, int | float | bool | None] = {}
    traces: list[str] = []
    window: Annotated[list[int], Field(min_length=2, max_length=2)] | None = None
    samples_sha256: str | None = None
    segments: Segments | None = None
    device_memory: dict[str, Count] = {}
    gpu: Gpu | None = None
    facts: dict[str, Any] = {}
    log: str = ""

    @model_validator(mode="after")
    def _what_went_well_took_time(self) -> Self:
        if self.status == "ok":
            begin, end = self.window or (0, 1)
            known = all(value is not None for value in (self.calls, self.items, self.cpu_ns))
            if not (known and self.wall_ns and self.wall_ns > 0 and end > begin):
                raise ValueError("a trial with status ok lacks its calls, items or times")
            missing = {"conditions", "figures", "loop", "warmup", "window"} - self.model_fields_set
            if missing:
                raise ValueError(f"a trial with status ok has no {', '.join(sorted(missing))}")
        for name, value in self.figures.items():
            if name not in FIGURES:
                raise ValueError(f"'{name[:40]}' is not a figure of a scenario")
            if value is not None and isinstance(value, bool) != (name == VERDICT):
                raise ValueError(f"the figure {name} is not {value!r}")
            if value is not None and not math.isfinite(value):
                raise ValueError(f"the figure {name} is not a finite number")
        return self


class Bandwidth(Record):
    """``bandwidth.json``: bytes per second of the machine's memory by threads, of each repeat."""

    copied: Annotated[dict[Threads, list[float]], Field(alias="copy")]
    read: dict[Threads, list[float]]


class Manifest(Record):
    """``manifest.json``, written last: the SHA-256 of every other file, by its path."""

    run_id: Annotated[str, Field(pattern=RUN_ID)]
    files: dict[str, Digest]


FILES: Mapping[str, type[BaseModel]] = {
    "begin.json": Begin,
    "plan.json": Plan,
    "prepare.jsonl": Prepared,
    "evaluate.jsonl": Evaluated,
    "journal.jsonl": Trial,
    "energy.jsonl": EnergyRecord,
    "bandwidth.json": Bandwidth,
    "manifest.json": Manifest,
}
"""The record of each file of a bundle; of ``.jsonl`` files, of each line."""
