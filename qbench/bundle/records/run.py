"""What the records of a bundle hold at the least: ``begin.json``, ``plan.json``, and the lines of
the ``.jsonl`` files. ``docs/schema/`` has the same as JSON Schema, for other programs.

Bundles come from other machines, so every record is checked whenever it is read. What stands beside
the fields named here is kept and not checked. None means not measured, or not known, never zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from qbench.bundle.records.energy import EnergyRecord
from qbench.bundle.records.gpu import Gpu
from qbench.kit.precisions import PRECISIONS
from qbench.spec.case import Case, Status
from qbench.spec.judging import Judging, Quality
from qbench.spec.scenarios import FIGURES, SCENARIOS, VERDICT, complete_options
from qbench.spec.suite import Rounds
from qbench.spec.system import System

SCHEMA = 4
"""Number of the bundle schema; it grows when a record changes its meaning or requires more."""

RUN_ID = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
"""A run's name, which is its folder's too: it leads nowhere else."""

Count = Annotated[int, Field(ge=0)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Time = Annotated[float, Field(ge=0, allow_inf_nan=False)]
ArtifactKey = Annotated[str, Field(pattern="^[A-Za-z0-9]+$")]
Share = Annotated[float, Field(ge=0, le=1)]
Threads = Annotated[str, Field(pattern="^[0-9]+$")]


class Record(BaseModel):
    """What a record has to hold at the least."""

    model_config = ConfigDict(extra="allow", strict=True)


# --------------------------------------------------------------------------- begin.json


class Cache(Record):
    """One level of the processor's caches; ``instances``: how many of them there are."""

    level: str
    bytes: Count
    instances: Annotated[int, Field(ge=1)] | None


class Host(Record):
    """The fingerprint of the machine; see docs/machines.md for what else is in it."""

    host_id: str
    cpu_model: str | None
    cpu_flags: list[str]
    governor: str | None
    power_mode: str | None
    caches: list[Cache] | None


class CpuPower(Record):
    """The suite's watts for each busy core, and where the figure is from."""

    watts_per_core: float
    source: str


class Settings(Record):
    """The suite's settings that decide how it is measured."""

    rounds: int | Rounds
    cpu_power: CpuPower | None = None


class Environment(Record):
    """An interpreter with its packages that workers ran in, beside the default one.

    Attributes:
        requirements: as the suite asks for them.
        resolved: versions of all packages in it.
        python: its version; "" if it could not be made.
        digest: of all that decides what is in it; None if it could not be made.
        failure: why not; "" if it could.
    """

    requirements: list[str]
    resolved: dict[str, str]
    python: str
    digest: str | None
    failure: str = ""


class Packed(Record):
    """The bundle that this one is a smaller copy of: the SHA-256 of its manifest, and whether the
    copy has its predictions."""

    manifest_sha256: Digest
    predictions: bool


class Redacted(Record):
    """The bundle that this one says no less than, but for whose machine it was: the SHA-256 of its
    manifest."""

    manifest_sha256: Digest


class Begin(Record):
    """``begin.json``: what was asked, of which machine and software.

    Attributes:
        run_key: stands for the whole request; an interrupted run goes on with what has the same.
        started: when, ISO 8601.
        system: what a person says of the machine.
        software: version by package; None: not installed.
        backends: by name, what its probe told.
        environments: by name, beside the default one.
        confirms: the run whose findings this one measures anew; None for most.
        packed: the larger bundle that this one was made from; None for most.
        redacted: the bundle with all names that this one was made from; None for most.
    """

    run_id: Annotated[str, Field(pattern=RUN_ID)]
    run_key: str
    suite: str
    seed: int
    started: str
    host: Host
    system: System | None = None
    software: dict[str, str | None]
    backends: dict[str, dict[str, Any]]
    settings: Settings
    environments: dict[str, Environment] = {}
    confirms: Annotated[str, Field(pattern=RUN_ID)] | None = None
    packed: Packed | None = None
    redacted: Redacted | None = None


# --------------------------------------------------------------------------- plan.json


class Conversion(Record):
    """How the source file came to be, and its closeness to the file it was converted from, in dB by
    output."""

    source_format: str
    sqnr_db: dict[str, float]


class Place(Record):
    """Where a GPU sits on the PCI bus, and whether the case has but a part of it (MIG)."""

    pci_bus_id: str
    mig: bool


class Entry(Record):
    """One case of the plan.

    Attributes:
        case_id: digest of the request, without versions.
        variant: the precision's options that differ from its defaults, short.
        skip: why it cannot run here; None if it can.
        failure: why no source could be given to the backend; None if one could.
        artifact_key, evaluation_id: of its lines in ``prepare.jsonl`` and ``evaluate.jsonl``.
        model_digest, dataset_digest: SHA-256 of the source file, and of items and preprocessing.
        cached_items: where a later ``qbench explain`` finds the preprocessed items.
        gpu: where its GPU sits; None on the processor, and in older bundles.
    """

    case_id: str
    case: Case
    variant: str
    skip: str | None
    failure: str | None
    artifact_key: ArtifactKey | None
    evaluation_id: str | None
    source_format: str | None
    model_digest: str | None
    source_bytes: int | None
    calibration_items: int | None
    dataset_digest: str | None
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
    """The official data set that items were taken from, and how many it has."""

    name: str
    items: int


class Data(Record):
    """The data set that a model was evaluated on."""

    name: str
    part_of: PartOf | None


class Origin(Record):
    """Licence and source of a model or a data set, as its card tells them."""

    licence: str | None
    source: str | None


class Origins(Record):
    """Of a model, and of the data that it was evaluated on; None for made-up inputs."""

    model: Origin
    data: Origin | None


class Plan(Record):
    """``plan.json``: the cases, and what they are judged by.

    Attributes:
        data: by model; None for made-up inputs.
        origins: by model; empty in older bundles.
        cases: all of the suite, those that cannot run too.
        yardsticks: networks that are measured beside them, to know what the machine can reach.
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
                    raise ValueError(f"{name} lacks the model '{entry.case.model}' of a case")
        return self


# --------------------------------------------------------------------------- lines


class Outcome(Record):
    """How a step went; ``reason``: why it is not ok, in a sentence."""

    status: Status
    reason: str


class Prepared(Outcome):
    """A line of ``prepare.jsonl``: one artifact.

    Attributes:
        digest: SHA-256 of its files.
        prepare_ns: how long it took, nanoseconds; without what it was made from.
        provenance: what made it, and how.
        base: key of the artifact that it was made from; None if from the model's source, and in
            older bundles.
        compiled_for: name, compute capability and drivers of the device, batch and hints; None for
            what was not compiled.
    """

    artifact_key: str
    digest: str | None = None
    bytes: int | None = None
    prepare_ns: int | None = None
    provenance: dict[str, Any] | None = None
    base: ArtifactKey | None = None
    compiled_for: dict[str, Any] | None = None


class Effective(Record):
    """What really ran: operators and multiply-accumulates by precision, as the runtime tells.

    Attributes:
        emulated: precisions that the processor has no instructions for.
    """

    precision: str
    operators: dict[str, int]
    macs: dict[str, Count] | None
    weight_bytes: Count | None
    activation_bytes: Count | None
    fallback_ops: int | None
    emulated: list[str] = []


class OperatorTime(Record):
    """One operator of a profile; ``ns``: of one inference, the mean over runs."""

    name: str
    kind: str
    role: str
    precision: str | None
    fallback: bool
    ns: Time
    share: Share


class KindTime(Record):
    """The operators of one type and precision, together.

    Attributes:
        ns: of one inference; None where the runtime tells no times.
        share: of the whole time; of the operators where there are no times.
    """

    kind: str
    role: str
    precision: str | None
    operators: Count
    ns: Time | None
    share: Share


class Others(Record):
    """How many operators are not listed, and their time together."""

    operators: Count
    ns: Time | None


class Profiled(Record):
    """Where the time of an inference goes, in a program that was opened to be looked into: slower
    than the timed ones, and with one thread.

    Attributes:
        runs: inferences that it was found in.
        ns: all operators' time in one inference; None where the runtime tells no times.
        operators: the costliest first; empty where there are no times.
        kinds: all operators by type and precision, the costliest first.
        other_operators, other_kinds: what is in neither list; None if that is nothing.
        notes: what the runtime says of its times.
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


class Evaluated(Outcome):
    """A line of ``evaluate.jsonl``: one artifact's outputs for all evaluation items.

    Attributes:
        outputs: by name, the file in ``predictions/<evaluation_id>/``.
        profile: its operators' times; None if the suite asks for none, and in older bundles.
    """

    evaluation_id: str
    outputs: dict[str, str]
    runtime_version: str | None = None
    effective: Effective | None = None
    quality: Quality | None = None
    profile: Profiled | None = None

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
    """Where a call's time goes, in a pass of its own after the window: copying inputs to the
    device, computing, copying outputs back (all told by the device), and the host's time until all
    was handed over. None for what a call does not have."""

    calls: Annotated[int, Field(ge=1)]
    h2d: Segment | None = None
    compute: Segment | None = None
    d2h: Segment | None = None
    enqueue: Segment | None = None


class Trial(Outcome):
    """A line of ``journal.jsonl``: one fresh process with its timed window. Times are nanoseconds.

    Attributes:
        trial: its name.
        sitting: counts how often the run was gone on with; only trials of one are paired.
        seconds: the whole worker.
        calls, items: in the timed window: a call has a batch of items.
        wall_ns, cpu_ns: the window, and the process's processor time in it.
        phases: start, import, load, bind, first inference, by name.
        memory: bytes by kind and phase.
        warmup: ``calls``, ``ns``, and whether it became ``stable``.
        conditions: what the machine did meanwhile; empty where nothing was read.
        counters: of the processor; None where they cannot be read.
        loop: what the order of the calls tells.
        figures: what only its scenario measures.
        traces: files in ``traces/<trial>/``.
        window: begin and end on the machine's monotonic clock; None where no clock was kept.
        samples_sha256: of its calls as a ``.npy`` file: int64 ``[calls]``, nanoseconds.
        segments: a call's parts; None where the runtime does not tell, and in older bundles.
        device_memory: bytes on the device by purpose, as the runtime counts them; empty where it
            does not.
        gpu: the card meanwhile; None on the processor, and in older bundles.
    """

    trial: Annotated[str, Field(pattern=RUN_ID)]
    case_id: str
    round: int
    sitting: int
    seconds: float
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

    @model_validator(mode="after")
    def _what_went_well_took_time(self) -> Self:
        if self.status == "ok":
            begin, end = self.window or (0, 1)
            known = all(value is not None for value in (self.calls, self.items, self.cpu_ns))
            if not (known and self.wall_ns and self.wall_ns > 0 and end > begin):
                raise ValueError("it is ok, but does not tell its calls, items and times")
            missing = {"conditions", "figures", "loop", "warmup", "window"} - self.model_fields_set
            if missing:
                raise ValueError(f"it is ok, but has no {', '.join(sorted(missing))}")
        for name, value in self.figures.items():
            if name not in FIGURES:
                raise ValueError(f"'{name[:40]}' is no figure of a scenario")
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
"""The files of a bundle that hold records; of ``.jsonl`` files, what each line holds."""
