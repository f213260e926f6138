"""From a suite to a plan: every case it asks for, and for each one why it cannot run, if so."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Any

from qbench.artifacts import ArtifactStore, Preparation
from qbench.backend import Backend, Model, PrepareTarget, Ready, Unavailable
from qbench.cards import ModelCard
from qbench.catalog import Catalog
from qbench.data.items import Items
from qbench.environments import Made, backends_of
from qbench.errors import NoSource, UserError
from qbench.gpu.card import place
from qbench.host import usable_cores
from qbench.isolate import Interpreter
from qbench.kit.precisions import PRECISIONS
from qbench.precision import REFERENCE, SHARED, complete_options
from qbench.quality import Judging
from qbench.registry import Registry
from qbench.scenario import SCENARIOS, why_not
from qbench.scenario import complete_options as complete_scenario
from qbench.spec.case import EVERY_CASE, Case, Filters
from qbench.storage import digest_json
from qbench.suite import DEFAULT_ENVIRONMENT, Override, Suite
from qbench.yardsticks import cards as yardstick_cards
from qbench.yardsticks import yardsticks

TRIAL_OVERHEAD_S = 0.35
GPU_OVERHEAD_S = 3.0
YARDSTICK_ROUNDS = 3
"""Enough for a ceiling, which is the best of all."""
YARDSTICK_S = 0.3
"""A yardstick's timed window is no longer than this: a call takes milliseconds."""
PREPARE_GUESS_S = 2.0
COMPILE_GUESS_S = 15.0
EVALUATE_GUESS_S = 1.0
"""Guesses for the estimate of a run's length: processor seconds in runs of the suite ``quick``, and
what compilers that try out kernels take for a small network. On a GPU, whose libraries of gigabytes
and whose context every process has to load, none is measured yet."""


@dataclass(frozen=True)
class Planned:
    """A case in a plan.

    Attributes:
        skip: why it cannot run here; None if it can.
        failure: why its model cannot be had (a conversion that failed); None if it can.
        preparation: how its artifact is made; None if it cannot run.
        evaluation: the items it is evaluated on; None if it cannot run.
        gpu: what is known of the GPU that it runs on (``Ready.devices``); None on the processor.
    """

    case: Case
    skip: str | None = None
    failure: str | None = None
    preparation: Preparation | None = None
    evaluation: Items | None = None
    gpu: Mapping[str, Any] | None = None

    @cached_property
    def evaluation_id(self) -> str | None:
        """Cases with the same one have the same outputs: artifact, data, device, batch, hints."""
        if self.preparation is None or self.evaluation is None:
            return None
        case = self.case
        what = [self.preparation.key, self.evaluation.digest]
        how = [case.device, case.environment, case.batch_size, case.hints]
        return digest_json([what, how])[:12]


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    Attributes:
        cards: by model, its card.
        judging: by model, how its outputs are judged.
        data: by model, the evaluation's data set: its ``name``, and ``part_of`` (``name`` and
            ``items``), the official set that it is taken from, or None; None for made-up inputs.
        origins: by model, licence and source of model and data; see ``Catalog.origin``.
        references: by model, the float32 cases that fidelity and accuracy deltas may be taken
            against, those on the CPU first, in the order of the suite's backends: the first whose
            evaluation goes well is the reference. Evaluated even when filters leave it unmeasured.
        yardsticks: what is measured beside the cases to know what the machine could reach.
        environments: the suite's, but for the default one.
    """

    suite: Suite
    cases: tuple[Planned, ...]
    cards: Mapping[str, ModelCard]
    judging: Mapping[str, Judging] = field(default_factory=dict)
    data: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    origins: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    references: Mapping[str, tuple[Planned, ...]] = field(default_factory=dict)
    yardsticks: tuple[Planned, ...] = ()
    environments: Mapping[str, Made] = field(default_factory=dict)

    @property
    def runnable(self) -> list[Planned]:
        return [planned for planned in self.cases if planned.preparation is not None]

    def interpreter(self, case: Case) -> Interpreter | None:
        """Where the case's workers run; None for the default environment."""
        made = self.environments.get(case.environment)
        return made.interpreter if made else None

    def rounds(self, planned: Planned) -> tuple[int, int]:
        """How often a case, or a yardstick, is measured: at least and at most."""
        rounds = self.suite.rounds
        least, most = (rounds, rounds) if isinstance(rounds, int) else (rounds.least, rounds.most)
        own = planned.case.scenario_options["rounds"]
        if planned in self.yardsticks:
            own = YARDSTICK_ROUNDS
        most = most if own is None else min(most, own)
        return min(least, most), most

    def evaluations(self) -> dict[str, Planned]:
        """What is to be evaluated, by evaluation id: the runnable cases, and the first candidate
        for the reference of every model."""
        first = [planned[0] for planned in self.references.values()]
        wanted = [*first, *self.runnable, *self.yardsticks]
        return {str(planned.evaluation_id): planned for planned in wanted}

    def preparations(self) -> list[Preparation]:
        """What is to be prepared; what others are made from comes first."""
        wanted = [p.preparation for p in self.evaluations().values() if p.preparation]
        chains = [preparation.chain for preparation in wanted]
        each = {preparation.key: preparation for chain in chains for preparation in chain}
        return sorted(each.values(), key=lambda preparation: len(preparation.chain))

    def estimate_minutes(self, store: ArtifactStore) -> float:
        """A rough guess, mostly of what the timed loops will take; of the least rounds, where
        there are as many as needed."""
        suite = self.suite
        evaluations = self.evaluations()
        missing = [prep for prep in self.preparations() if store.find(prep) is None]
        compiled = sum(prep.compilation is not None for prep in missing)

        def trial_s(planned: Planned, timed_s: float) -> float:
            overhead_s = GPU_OVERHEAD_S if planned.gpu else TRIAL_OVERHEAD_S
            return overhead_s + suite.cool_down_s + suite.warmup_s + timed_s

        measuring = sum(
            self.rounds(p)[0] * trial_s(p, max(suite.timed_s, p.case.longest_s))
            for p in self.runnable
        )
        measuring += YARDSTICK_ROUNDS * sum(trial_s(p, YARDSTICK_S) for p in self.yardsticks)
        if (energy := suite.energy) is not None:
            once = sum(trial_s(p, energy.window_s) for p in self.runnable)
            measuring += energy.idle_s + energy.windows * once
        before = (len(missing) - compiled) * PREPARE_GUESS_S + len(evaluations) * EVALUATE_GUESS_S
        return (measuring + compiled * COMPILE_GUESS_S + before / usable_cores()) / 60

    def estimate_disk_mb(self) -> float:
        """An upper guess of what artifacts take in the cache, in MB."""
        return sum(p.model.bytes for p in self.preparations()) / 1e6

    def to_json(self) -> dict[str, Any]:
        """``plan.json``: what was requested and decided, without this machine's paths."""
        return {
            "cases": [_planned_json(p) for p in self.cases],
            "yardsticks": [_planned_json(p) for p in self.yardsticks],
            "models": {name: how.model_dump(mode="json") for name, how in self.judging.items()},
            "data": self.data,
            "origins": self.origins,
            "references": {
                name: [_planned_json(p) for p in planned]
                for name, planned in self.references.items()
            },
        }


def _planned_json(planned: Planned) -> dict[str, Any]:
    prep = planned.preparation
    return {
        "case_id": planned.case.case_id,
        "case": planned.case.model_dump(mode="json"),
        "variant": planned.case.variant,
        "skip": planned.skip,
        "failure": planned.failure,
        "artifact_key": prep.key if prep else None,
        "evaluation_id": planned.evaluation_id,
        "source_format": prep.model.format if prep else None,
        "model_digest": prep.model.digest if prep else None,
        "source_bytes": prep.model.bytes if prep else None,
        "conversion": prep.model.conversion if prep else None,
        "calibration_items": prep.calibration_items if prep else None,
        "dataset_digest": planned.evaluation.digest if planned.evaluation else None,
        "cached_items": _folder(planned.evaluation) if planned.evaluation else None,
        "gpu": place(planned.gpu) if planned.gpu else None,
    }


def _folder(items: Items) -> str:
    """Where in the cache of data they lie."""
    return next(iter(items.feeds.values())).parent.name


def make_plan(
    suite: Suite,
    catalog: Catalog,
    registry: Registry,
    probes: Mapping[str, Ready | Unavailable],
    store: ArtifactStore,
    filters: Filters = EVERY_CASE,
    environments: Mapping[str, Made] | None = None,
) -> Plan:
    """Decide for every case whether it can run here.

    Args:
        environments: the suite's, as they were made; None to plan without making them.

    Raises:
        UserError: a filter names something that is not there, a file cannot be had, or the suite
            leaves no case at all.
    """
    filters.check(suite)
    runs_in = environments_of(suite, registry)
    planner = _Planner(suite, catalog, registry, probes, store, environments, runs_in)
    cases = [case for case in expand(suite, runs_in) if filters.admit(case)]
    if not cases:
        raise UserError(
            f"suite {suite.name}: its exclusions and the filters leave no case",
            "Loosen 'exclude' or the --model, --backend, --precision and --device options.",
        )
    planned = tuple(planner.place(case) for case in cases)
    models = {p.case.model for p in planned if p.preparation is not None}
    references = {name: planner.references(name) for name in sorted(models)}
    runnable = [p.case for p in planned if p.preparation]
    wanted = yardsticks(runnable, probes) if suite.roofline else []
    for path in yardstick_cards():
        catalog.add_card(path)
    beside = tuple(p for p in map(planner.place, wanted) if p.preparation is not None)
    models |= {p.case.model for p in beside}
    cases += [p.case for p in beside]
    return Plan(
        suite,
        planned,
        cards={case.model: catalog.card(case.model) for case in cases},
        judging={
            case.model: planner.judging(case.model)
            if case.model in models  # of the others nothing is judged, nor their data needed
            else catalog.card(case.model).judging()
            for case in cases
        },
        data={case.model: _data(case.model, catalog) for case in cases},
        origins={case.model: catalog.origin(case.model) for case in cases},
        references={name: planned for name, planned in references.items() if planned},
        yardsticks=beside,
        environments=environments or {},
    )


def environments_of(suite: Suite, registry: Registry) -> dict[str, list[str]]:
    """By backend, the environments that it runs in, the default one first.

    Raises:
        UserError: an environment is of no backend of the suite.
    """
    found = {name: [DEFAULT_ENVIRONMENT] for name in suite.backends}
    for name, backends in _backends_by_environment(suite, registry).items():
        if not isinstance(suite.environments[name].prepare, list):
            for backend in backends:
                found[backend].append(name)
    return found


def preparers_of(suite: Suite, registry: Registry) -> dict[tuple[str, str], str]:
    """By backend and precision, the environment that does nothing but prepare it.

    Raises:
        UserError: two do, or an environment is of no backend of the suite.
    """
    found: dict[tuple[str, str], str] = {}
    for name, backends in _backends_by_environment(suite, registry).items():
        prepare = suite.environments[name].prepare
        for backend, precision in product(backends, prepare if isinstance(prepare, list) else ()):
            other = found.setdefault((backend, precision), name)
            if other != name:
                raise UserError(
                    f"the environments {other} and {name} both prepare {precision} for {backend}",
                    "Leave it to one of them.",
                )
    return found


def _backends_by_environment(suite: Suite, registry: Registry) -> dict[str, tuple[str, ...]]:
    loaded = {name: registry.load(name) for name in suite.backends}
    adapters = {n: a for n, a in loaded.items() if not isinstance(a, Unavailable)}
    return {
        n: backends_of(n, environment, adapters) for n, environment in suite.environments.items()
    }


def _data(model: str, catalog: Catalog) -> dict[str, Any] | None:
    split = catalog.card(model).evaluation
    if split is None:
        return None
    data = catalog.dataset(split.dataset)
    return {
        "name": data.name,
        "part_of": data.part_of.model_dump(mode="json") if data.part_of else None,
    }


def expand(suite: Suite, environments: Mapping[str, list[str]]) -> Iterator[Case]:
    """Every combination that the suite does not exclude.

    Args:
        environments: by backend.
    """
    seen = set()
    places = [(backend, name) for backend in suite.backends for name in environments[backend]]
    for model, (backend, environment), choice, recipe, scenario in product(
        suite.models, places, suite.precisions, suite.recipes, suite.scenarios
    ):
        if recipe == "shared" and choice.name not in SHARED:
            continue  # there is only one way to these
        override = suite.overrides.get(backend, Override())
        own = override.options.get(choice.name, {}) if recipe == "best" else {}  # shared: for all
        options = complete_options(choice.name, {**choice.options, **own})
        how = SCENARIOS[scenario.name]
        for device, batch, threads, streams in product(
            override.devices or suite.devices,
            override.batch_sizes or suite.batch_sizes,
            override.threads or suite.threads,
            suite.streams if how.streams else [1],
        ):
            case = Case(
                model=model,
                backend=backend,
                environment=environment,
                precision=choice.name,
                options=options,
                recipe=recipe,
                device=device,
                scenario=scenario.name,
                scenario_options=complete_scenario(scenario.name, scenario.options),
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
        environments: Mapping[str, Made] | None,
        runs_in: Mapping[str, list[str]],
    ) -> None:
        self._suite, self._catalog, self._registry = suite, catalog, registry
        self._probes, self._store = dict(probes), store
        self._environments, self._runs_in = environments or {}, runs_in
        self._preparers = preparers_of(suite, registry)
        self._probes_in: dict[tuple[str, str], Ready | Unavailable] = {}
        self._models: dict[tuple[str, str], Model] = {}

    def judging(self, model: str) -> Judging:
        """How the model's outputs are judged."""
        card = self._catalog.card(model)
        items = self._catalog.items(card, "evaluation")
        return card.judging(items.classes if items else None)

    def references(self, model: str) -> tuple[Planned, ...]:
        """The float32 cases of the suite's backends that can run it: those on the CPU first, those
        in the default environment before others, then in the suite's order."""
        cases = []
        for backend in self._suite.backends:
            override = self._suite.overrides.get(backend, Override())
            cases += [
                Case(
                    model=model,
                    backend=backend,
                    environment=environment,
                    precision=REFERENCE,
                    device=device,
                    batch_size=min(override.batch_sizes or self._suite.batch_sizes),
                    hints=override.hints,
                )
                for environment in self._runs_in[backend]
                for device in override.devices or self._suite.devices
            ]
        cases.sort(key=lambda case: (case.device != "cpu", case.environment != DEFAULT_ENVIRONMENT))
        found = map(self.place, cases)
        return tuple(planned for planned in found if planned.preparation is not None)

    def place(self, case: Case) -> Planned:
        """The case with its preparation, or with the reason why it cannot run."""
        backend = self._registry.load(case.backend)
        if isinstance(backend, Unavailable):
            return Planned(case, f"{backend.reason}. {backend.fix}")
        made = self._environments.get(case.environment)
        if made is not None and made.failure:
            return Planned(case, failure=f"environment {case.environment}: {made.failure}")
        probe = self._probe_in(case.backend, case.environment)
        refusal = _refusal(case, probe)
        if isinstance(probe, Unavailable) or refusal is not None:
            if made is None and case.environment != DEFAULT_ENVIRONMENT:
                refusal = (
                    f"not known before the environment {case.environment} is made, which `qbench "
                    f"run` does; in the default one: {refusal}"
                )
            return Planned(case, refusal)
        if case.threads * case.streams > usable_cores():
            return Planned(
                case,
                f"{case.threads * case.streams} threads on {usable_cores()} cores: such figures "
                "jump between two levels",
            )
        reason = why_not(case.scenario, made.resolved if made else None)
        if reason is None and case.scenario == "pipeline":
            reason = self._catalog.no_pipeline(self._catalog.card(case.model), case.batch_size)
        if reason is not None:
            return Planned(case, reason)
        try:
            if case.recipe == "shared":
                preparation = self._shared(case, backend)
            else:
                preparation = self._own(case, backend)
            if case.device in probe.compiled:
                preparation = self._store.compilation(
                    backend, preparation, case.config(), probe, made
                )
        except NoSource as no:
            if no.status == "skipped":
                return Planned(case, no.reason)
            return Planned(case, failure=no.reason)
        evaluation = self._catalog.items(self._catalog.card(case.model), "evaluation")
        gpu = probe.devices.get(case.device)
        return Planned(case, preparation=preparation, evaluation=evaluation, gpu=gpu)

    def _own(self, case: Case, backend: Backend) -> Preparation:
        """How the backend itself makes the artifact, from a source that it supports: one of the
        card's if it can, else a converted one.

        Raises:
            NoSource: there is none.
        """
        card, preparer = self._catalog.card(case.model), self._prepared_in(case)
        if preparer is not None and preparer.failure:
            name = self._preparers[case.backend, case.precision]
            raise NoSource(f"environment {name}: {preparer.failure}", "prepare_failed")
        refusals = []
        for form in sorted(backend.formats, key=lambda form: form not in card.sources):
            if form not in card.sources and case.precision == "as-shipped":
                continue  # a converted file is no longer the one that was shipped
            if not self._catalog.can_give(card, form):
                continue
            try:
                model = self._model(case.model, form)
            except NoSource as no:
                refusals.append(no)
                continue
            reason = _unsupported(backend, model, case.target())
            if reason is None:
                return self._store.preparation(
                    backend,
                    model,
                    case.target(),
                    self._calibration(case),
                    self._calibration_scores(case.model),
                    environment=preparer,
                )
            refusals.append(NoSource(reason))
        if refusals:  # a failure says more than a refusal, and the last has come furthest
            raise next((no for no in refusals if no.status != "skipped"), refusals[-1])
        raise NoSource(
            f"{case.backend} takes {', '.join(backend.formats)}; there is only "
            f"{', '.join(card.sources)} of this model"
        )

    def _calibration(self, case: Case) -> Items | None:
        """The items that the precision is calibrated on; None if it needs none.

        Raises:
            NoSource: it needs some, and the card has none.
        """
        if not PRECISIONS[case.precision].calibrated:
            return None
        items = self._catalog.items(self._catalog.card(case.model), "calibration")
        if items is None:
            raise NoSource("the model's card names no calibration items")
        return items

    def _calibration_scores(self, model: str) -> tuple[str, int] | None:
        """The output whose greatest value is compared with the labels of calibration items, and how
        many leading classes of it they do not count; None where labels are no classes of it."""
        how = self.judging(model)
        if how.scores is None or how.metric not in ("top1", "accuracy"):
            return None
        return how.scores, how.background

    def _shared(self, case: Case, backend: Backend) -> Preparation:
        """How the artifact is made of the quantized model that all backends share.

        Raises:
            NoSource: nobody here makes such a model, or this backend cannot read it.
        """
        maker = next(filter(self._makes(case.precision), self._everyone()), None)
        if maker is None:
            raise NoSource(f"no adapter here makes a {case.precision} model for all")
        made = {
            "backend": maker,
            "recipe": "best",
            "hints": {},
            "device": self._made_on(maker, case),
        }
        placed = self.place(case.model_copy(update=made))
        if placed.preparation is None:
            status = "prepare_failed" if placed.failure else "skipped"
            reason = placed.failure or placed.skip
            raise NoSource(f"{maker} cannot make the shared model: {reason}", status)
        base = next(p for p in reversed(placed.preparation.chain) if p.compilation is None)
        model = base.model
        reason = _unsupported(backend, model, case.target())
        if model.format not in backend.formats:
            reason = f"{case.backend} cannot read the shared model, which is {model.format}"
        if reason is not None:
            raise NoSource(reason)
        return self._store.preparation(backend, model, case.target(), None, base=base)

    def _made_on(self, maker: str, case: Case) -> str:
        """The device that the shared model is made as if for: one for all devices, if it can be."""
        probe = self._probe(maker)
        able = isinstance(probe, Ready) and case.precision in probe.precisions.get("cpu", ())
        return "cpu" if able else case.device

    def _everyone(self) -> list[str]:
        """The suite's backends, and after them the other installed ones."""
        return list(dict.fromkeys([*self._suite.backends, *self._registry.names]))

    def _makes(self, precision: str) -> Callable[[str], bool]:
        def makes(name: str) -> bool:
            backend = self._registry.load(name)
            able = not isinstance(backend, Unavailable) and precision in backend.shareable
            return able and isinstance(self._probe(name), Ready)

        return makes

    def _prepared_in(self, case: Case) -> Made | None:
        """The environment that the case's artifact is prepared in; None for the default one."""
        asked = self._suite.environments.get(case.environment)
        if asked and asked.prepare:
            return self._environments.get(case.environment)
        return self._environments.get(self._preparers.get((case.backend, case.precision), ""))

    def _probe_in(self, name: str, environment: str) -> Ready | Unavailable:
        """What an adapter says in an environment; of one that has not been made, as in the
        default one."""
        made = self._environments.get(environment)
        if made is None:
            return self._probe(name)
        if (name, environment) not in self._probes_in:
            answer = self._registry.probe_in(name, made.interpreter)
            self._probes_in[name, environment] = answer
        return self._probes_in[name, environment]

    def _probe(self, name: str) -> Ready | Unavailable:
        if name not in self._probes:
            self._probes |= self._registry.probe([name])
        return self._probes[name]

    def _model(self, name: str, form: str) -> Model:
        if (name, form) not in self._models:
            self._models[name, form] = self._catalog.model(self._catalog.card(name), form)
        return self._models[name, form]


def _refusal(case: Case, probe: Ready | Unavailable) -> str | None:
    """Why the case's precision is not to be had on its device; None if it is."""
    if isinstance(probe, Unavailable):
        return f"{probe.reason}. {probe.fix}"
    if case.precision in probe.precisions.get(case.device, ()):
        return None
    reason = probe.missing.get(case.device, {}).get(case.precision)
    if reason is not None:
        return reason
    if case.device in probe.precisions:
        return f"{case.backend} does not offer {case.precision} on {case.device}"
    kind = case.target().device
    if any(device.partition(":")[0] == kind for device in probe.precisions):
        here = ", ".join(probe.precisions)
        return f"there is no {case.device} for {case.backend} here, only {here}"
    for device, reasons in probe.missing.items():  # why there is none at all
        if device.partition(":")[0] == kind and case.precision in reasons:
            return reasons[case.precision]
    return f"{case.backend} does not run on {case.device}"


def _unsupported(backend: Backend, model: Model, target: PrepareTarget) -> str | None:
    """Why the backend cannot prepare the model so; None if it can."""
    try:
        return backend.supports(model, target)
    except Exception as error:  # a third party's code
        return f"its adapter failed in supports(): {type(error).__name__}: {error}"
