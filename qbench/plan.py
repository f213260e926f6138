"""From a suite to a plan: every case it asks for, and for each one why it cannot run, if so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Any

from pydantic import BaseModel, ConfigDict

from qbench.artifacts import ArtifactStore, Preparation
from qbench.backend import Model, PrepareTarget, Ready, RunConfig, Unavailable
from qbench.catalog import Catalog, Items
from qbench.errors import UserError, nearest
from qbench.host import usable_cores
from qbench.precision import PRECISIONS, REFERENCE, complete_options, variant
from qbench.registry import Registry
from qbench.storage import digest_json
from qbench.suite import Override, Suite

TRIAL_OVERHEAD_S = 0.35
PREPARE_GUESS_S = 2.0
EVALUATE_GUESS_S = 1.0
"""Guesses for the estimate of a run's length: processor seconds in runs of the suite ``quick``."""


class Case(BaseModel):
    """One thing to measure: what was requested, without versions, so that nights compare.

    Attributes:
        precision, options: the scheme, with all its options.
        recipe: ``best``, each backend's own best path to the precision.
        streams: simultaneous inferences; 1 unless the scenario is ``offline``.
        hints: settings for the runtime from the suite's overrides.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    backend: str
    environment: str = "default"
    precision: str
    options: dict[str, Any] = {}
    recipe: str = "best"
    device: str = "cpu"
    scenario: str = "single-stream"
    batch_size: int = 1
    threads: int = 1
    streams: int = 1
    hints: dict[str, Any] = {}

    @cached_property
    def case_id(self) -> str:
        """12 hexadecimal digits that stand for the request."""
        return digest_json(self.model_dump(mode="json"))[:12]

    @property
    def variant(self) -> str:
        return variant(self.precision, self.options)

    @property
    def label(self) -> str:
        """Short, for progress and messages."""
        parts = [self.model, self.backend, self.precision]
        parts += [self.variant] if self.variant else []
        parts += [self.scenario] if self.scenario != "single-stream" else []
        parts += [f"b{self.batch_size}"] if self.batch_size != 1 else []
        parts += [f"t{self.threads}"] if self.threads != 1 else []
        return " ".join(parts)

    def target(self) -> PrepareTarget:
        return PrepareTarget(self.precision, self.options, self.device)

    def config(self) -> RunConfig:
        return RunConfig(self.device, self.threads, self.streams, self.batch_size, self.hints)


@dataclass(frozen=True)
class Planned:
    """A case in a plan.

    Attributes:
        skip: why it cannot run here; None if it can.
        preparation: how its artifact is made; None if it cannot run.
    """

    case: Case
    skip: str | None = None
    preparation: Preparation | None = None

    @property
    def evaluation_id(self) -> str | None:
        """Cases with the same one have the same outputs: artifact, device and settings."""
        if self.preparation is None:
            return None
        return evaluation_id(self.preparation, self.case)


def evaluation_id(preparation: Preparation, case: Case) -> str:
    return digest_json([preparation.key, case.device, case.environment, case.hints])[:12]


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    Attributes:
        tasks: by model, the card's task.
        references: by model, the float32 case that fidelity and accuracy deltas are taken
            against: of the suite's first backend that can run it. Evaluated even when filters
            leave it unmeasured.
    """

    suite: Suite
    cases: tuple[Planned, ...]
    tasks: Mapping[str, str]
    references: Mapping[str, Planned] = field(default_factory=dict)

    @property
    def runnable(self) -> list[Planned]:
        return [planned for planned in self.cases if planned.skip is None]

    def evaluations(self) -> dict[str, Planned]:
        """What has to be evaluated, by evaluation id, the references first."""
        chosen = {p.evaluation_id: p for p in [*self.references.values(), *self.runnable]}
        return {key: planned for key, planned in chosen.items() if key is not None}

    def estimate_minutes(self, store: ArtifactStore) -> float:
        """A rough guess, mostly of what the timed loops will take."""
        suite = self.suite
        trials = len(self.runnable) * suite.rounds
        evaluations = self.evaluations()
        keys = {p.preparation.key: p.preparation for p in evaluations.values() if p.preparation}
        missing = sum(store.find(prep) is None for prep in keys.values())
        measuring = trials * (TRIAL_OVERHEAD_S + suite.warmup_s + suite.timed_s)
        before = missing * PREPARE_GUESS_S + len(evaluations) * EVALUATE_GUESS_S
        return (measuring + before / usable_cores()) / 60

    def estimate_disk_mb(self) -> float:
        """An upper guess of what artifacts take in the cache, in MB."""
        preparations = {
            p.preparation.key: p.preparation.model.path.stat().st_size
            for p in self.evaluations().values()
            if p.preparation
        }
        return sum(preparations.values()) / 1e6

    def to_json(self) -> dict[str, Any]:
        """``plan.json``: what was requested and decided, without this machine's paths."""
        return {
            "cases": [_planned_json(p) for p in self.cases],
            "tasks": dict(self.tasks),
            "references": {name: _planned_json(p) for name, p in self.references.items()},
        }


def _planned_json(planned: Planned) -> dict[str, Any]:
    prep = planned.preparation
    return {
        "case_id": planned.case.case_id,
        "case": planned.case.model_dump(mode="json"),
        "skip": planned.skip,
        "artifact_key": prep.key if prep else None,
        "evaluation_id": planned.evaluation_id,
        "source_format": prep.model.format if prep else None,
        "model_digest": prep.model.digest if prep else None,
        "source_bytes": prep.model.path.stat().st_size if prep else None,
        "calibration_items": prep.calibration_items if prep else None,
    }


@dataclass(frozen=True)
class Filters:
    """Which of a suite's cases to run: those that fit every non-empty list."""

    models: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()

    def check(self, suite: Suite) -> None:
        """Raise UserError for a name that the suite does not have."""
        for given, known, what in (
            (self.models, suite.models, "model"),
            (self.backends, suite.backends, "backend"),
            (self.precisions, [p.name for p in suite.precisions], "precision"),
        ):
            for name in given:
                if name not in known:
                    raise UserError(
                        f"suite {suite.name} has no {what} '{name}'", nearest(name, known)
                    )

    def admit(self, case: Case) -> bool:
        return all(
            not names or value in names
            for names, value in (
                (self.models, case.model),
                (self.backends, case.backend),
                (self.precisions, case.precision),
            )
        )


def make_plan(
    suite: Suite,
    catalog: Catalog,
    registry: Registry,
    probes: Mapping[str, Ready | Unavailable],
    store: ArtifactStore,
    filters: Filters = Filters(),
) -> Plan:
    """Decide for every case whether it can run here.

    Raises:
        UserError: a filter names something that is not there, a file cannot be had, or the suite
            leaves no case at all.
    """
    filters.check(suite)
    planner = _Planner(suite, catalog, registry, probes, store)
    cases = [case for case in _expand(suite) if filters.admit(case)]
    if not cases:
        raise UserError(
            f"suite {suite.name}: its exclusions and the filters leave no case",
            "Loosen 'exclude' or the --model, --backend and --precision options.",
        )
    planned = tuple(planner.place(case) for case in cases)
    models = {p.case.model for p in planned if p.skip is None}
    references = {name: planner.reference(name) for name in sorted(models)}
    return Plan(
        suite,
        planned,
        tasks={case.model: catalog.card(case.model).task for case in cases},
        references={name: p for name, p in references.items() if p is not None},
    )


def _expand(suite: Suite) -> Iterator[Case]:
    """Every combination that the suite does not exclude."""
    seen = set()
    for model, backend, choice, scenario in product(
        suite.models, suite.backends, suite.precisions, suite.scenarios
    ):
        override = suite.overrides.get(backend, Override())
        options = complete_options(
            choice.name, {**choice.options, **override.options.get(choice.name, {})}
        )
        for batch, threads, streams in product(
            override.batch_sizes or suite.batch_sizes,
            override.threads or suite.threads,
            suite.streams if scenario == "offline" else [1],
        ):
            case = Case(
                model=model,
                backend=backend,
                precision=choice.name,
                options=options,
                scenario=scenario,
                batch_size=batch,
                threads=threads,
                streams=streams,
                hints=override.hints,
            )
            if case.case_id not in seen and not _excluded(suite, case):
                seen.add(case.case_id)
                yield case


def _excluded(suite: Suite, case: Case) -> bool:
    return any(
        all(getattr(case, key) == getattr(rule, key) for key in rule.model_fields_set)
        for rule in suite.exclude
    )


class _Planner:
    def __init__(
        self,
        suite: Suite,
        catalog: Catalog,
        registry: Registry,
        probes: Mapping[str, Ready | Unavailable],
        store: ArtifactStore,
    ) -> None:
        self._suite, self._catalog, self._registry = suite, catalog, registry
        self._probes, self._store = probes, store
        self._models: dict[tuple[str, str], Model] = {}
        self._calibration: dict[str, Items | None] = {}

    def reference(self, model: str) -> Planned | None:
        """The float32 case of the suite's first backend that can run it."""
        for backend in self._suite.backends:
            override = self._suite.overrides.get(backend, Override())
            planned = self.place(
                Case(model=model, backend=backend, precision=REFERENCE, hints=override.hints)
            )
            if planned.skip is None:
                return planned
        return None

    def place(self, case: Case) -> Planned:
        """The case with its preparation, or with the reason why it cannot run."""
        backend = self._registry.load(case.backend)
        probe = self._probes[case.backend]
        if isinstance(backend, Unavailable):
            return Planned(case, f"{backend.reason}. {backend.fix}")
        if isinstance(probe, Unavailable):
            return Planned(case, f"{probe.reason}. {probe.fix}")
        card = self._catalog.card(case.model)
        form = next((f for f in backend.formats if f in card.sources), None)
        if form is None:
            return Planned(
                case,
                f"{case.backend} reads {' or '.join(backend.formats)}; the card has only "
                f"{', '.join(card.sources)}",
            )
        if case.precision not in probe.precisions.get(case.device, ()):
            reason = probe.missing.get(case.device, {}).get(case.precision)
            return Planned(
                case, reason or f"{case.backend} does not offer {case.precision} on {case.device}"
            )
        if case.threads * case.streams > usable_cores():
            return Planned(
                case,
                f"{case.threads * case.streams} threads on {usable_cores()} cores: such figures "
                "jump between two levels",
            )
        calibration = None
        if PRECISIONS[case.precision].calibrated:
            calibration = self._calibration_items(case.model)
            if calibration is None:
                return Planned(case, "the model's card names no calibration items")
        model = self._model(case.model, form)
        reason = backend.supports(model, case.target())
        if reason is not None:
            return Planned(case, reason)
        return Planned(
            case, None, self._store.preparation(backend, model, case.target(), calibration)
        )

    def _model(self, name: str, form: str) -> Model:
        if (name, form) not in self._models:
            self._models[name, form] = self._catalog.model(self._catalog.card(name), form)
        return self._models[name, form]

    def _calibration_items(self, name: str) -> Items | None:
        if name not in self._calibration:
            self._calibration[name] = self._catalog.items(self._catalog.card(name), "calibration")
        return self._calibration[name]
