"""From a suite to a plan: every case, with its preparation or the reason why it cannot run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from itertools import product
from types import MappingProxyType
from typing import cast

from qbench.bundle.records.run import Data, PartOf
from qbench.data.items import Items
from qbench.errors import NoSource, UserError
from qbench.kit.adapter import Adapter, Ready, Unavailable
from qbench.kit.model import Model, PrepareTarget
from qbench.kit.precisions import PRECISIONS
from qbench.kit.reasons import sentence, short
from qbench.machine.host import usable_cores
from qbench.run.artifacts import ArtifactStore, ClassScores, Preparation
from qbench.run.plan import Plan, Planned
from qbench.run.sources.catalog import Catalog
from qbench.run.workers.environments import BuiltEnvironment, backends_of
from qbench.run.workers.registry import Registry
from qbench.spec.case import EVERY_CASE, Case, Filters, Status
from qbench.spec.judging import Judging
from qbench.spec.models import ModelCard
from qbench.spec.precisions import REFERENCE, SHARED, complete_options
from qbench.spec.scenarios import SCENARIOS, why_not
from qbench.spec.scenarios import complete_options as complete_scenario
from qbench.spec.sizes import InputShapes
from qbench.spec.suite import DEFAULT_ENVIRONMENT, Override, Suite
from qbench.spec.yardsticks import cards as yardstick_cards
from qbench.spec.yardsticks import yardsticks


def make_plan(
    suite: Suite,
    catalog: Catalog,
    registry: Registry,
    probes: Mapping[str, Ready | Unavailable],
    store: ArtifactStore,
    filters: Filters = EVERY_CASE,
    environments: Mapping[str, BuiltEnvironment] | None = None,
    convert: bool = True,
) -> Plan:
    """Decide for every case whether it can run here.

    Args:
        convert: whether to convert models for the cases that need it. Otherwise their preparations
            lack the converted file: enough to show the plan.
        probes: the backends' answers in the default environment, by name.
        environments: the suite's built environments, by name; None to plan without building them.

    Raises:
        UserError: a filter names something that the suite lacks, a file cannot be obtained, or the
            suite leaves no case.
    """
    filters.check(suite)
    runs_in = environments_of(suite, registry)
    planner = _Planner(suite, catalog, registry, probes, store, environments, runs_in, convert)
    shapes = {model: catalog.given_shapes(model) for model in suite.models}
    cases = [case for case in expand(suite, runs_in, shapes) if filters.admit(case)]
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
        catalog.add_card(path, keeps_sizes=True)
    ceilings = tuple(p for p in map(planner.place, wanted) if p.preparation is not None)
    models |= {p.case.model for p in ceilings}
    cases += [p.case for p in ceilings]
    return Plan(
        suite,
        planned,
        cards={case.model: catalog.card(case.model) for case in cases},
        judging={
            case.model: planner.judging(case.model)
            if case.model in models  # the other models' outputs are never judged
            else catalog.card(case.model).judging()
            for case in cases
        },
        data={case.model: _data(case.model, catalog) for case in cases},
        origins={case.model: catalog.origins(case.model) for case in cases},
        references={name: planned for name, planned in references.items() if planned},
        yardsticks=ceilings,
        environments=environments or {},
    )


def check_runnable(plan: Plan) -> None:
    """
    Raises:
        UserError: no case of the plan can run; with the reasons.
    """
    if plan.runnable:
        return
    precisions: dict[tuple[str, str], list[str]] = {}
    for planned in plan.cases:
        reason = planned.case.backend, planned.skip or planned.failure or ""
        of = precisions.setdefault(reason, [])
        if planned.case.precision not in of:
            of.append(planned.case.precision)
    reasons = [
        f"{backend} {', '.join(of)}: {reason}" for (backend, reason), of in precisions.items()
    ]
    shown = "\n  ".join(reasons[:10])
    raise UserError(
        f"suite {plan.suite.name}: none of its {len(plan.cases)} cases can run:\n  {shown}",
        "Mend one of these, or choose other backends, precisions or models.",
    )


def environments_of(suite: Suite, registry: Registry) -> dict[str, list[str]]:
    """The environments that each backend runs in, the default one first; by backend.

    Raises:
        UserError: an environment belongs to no backend of the suite.
    """
    found = {name: [DEFAULT_ENVIRONMENT] for name in suite.backends}
    for name, backends in _backends_by_environment(suite, registry).items():
        if not isinstance(suite.environments[name].prepare, list):
            for backend in backends:
                found[backend].append(name)
    return found


def preparers_of(suite: Suite, registry: Registry) -> dict[tuple[str, str], str]:
    """The environments that only prepare artifacts, by backend and precision.

    Raises:
        UserError: two prepare the same, or an environment belongs to no backend of the suite.
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


def _data(model: str, catalog: Catalog) -> Data | None:
    split = catalog.card(model).evaluation
    if split is None:
        return None
    data = catalog.dataset(split.dataset)
    whole = data.part_of
    part_of = PartOf(name=whole.name, items=whole.items) if whole else None
    return Data(name=data.name, part_of=part_of)


def expand(
    suite: Suite,
    environments: Mapping[str, list[str]],
    shapes: Mapping[str, InputShapes] = MappingProxyType({}),
) -> Iterator[Case]:
    """Yield every combination that the suite does not exclude.

    Args:
        environments: by backend, as ``environments_of`` returns them.
        shapes: by model, the inputs' shapes that are not its card's own.
    """
    seen = set()
    places = [(backend, name) for backend in suite.backends for name in environments[backend]]
    for model, (backend, environment), choice, recipe, scenario in product(
        suite.models, places, suite.precisions, suite.recipes, suite.scenarios
    ):
        if recipe == "shared" and choice.name not in SHARED:
            continue  # every backend has but one way to the others
        override = suite.overrides.get(backend, Override())
        own = override.options.get(choice.name, {}) if recipe == "best" else {}  # shared: none
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
                input_shapes=shapes.get(model, {}),
            )
            if case.case_id not in seen and not _excluded(suite, case):
                seen.add(case.case_id)
                yield case


_OF_A_PROGRAM = frozenset(("model", "backend", "environment", "precision", "device"))
"""Keys of a case that say which program it runs; the others say how it is measured."""


def _excluded(suite: Suite, case: Case, keys: Set[str] | None = None) -> bool:
    """Whether the suite leaves a case out.

    Args:
        keys: only by entries with none but these keys; None: by all entries.
    """
    return any(
        all(getattr(case, key) == getattr(rule, key) for key in rule.model_fields_set)
        for rule in suite.exclude
        if keys is None or rule.model_fields_set <= keys
    )


class _Planner:
    """Places cases; asks backends, environments and the catalog at most once for each answer."""

    def __init__(
        self,
        suite: Suite,
        catalog: Catalog,
        registry: Registry,
        probes: Mapping[str, Ready | Unavailable],
        store: ArtifactStore,
        environments: Mapping[str, BuiltEnvironment] | None,
        runs_in: Mapping[str, list[str]],
        convert: bool,
    ) -> None:
        self._suite, self._catalog, self._registry = suite, catalog, registry
        self._probes, self._store = dict(probes), store
        self._environments, self._runs_in = environments or {}, runs_in
        self._convert = convert
        self._preparers = preparers_of(suite, registry)
        self._probes_in: dict[tuple[str, str], Ready | Unavailable] = {}
        self._models: dict[tuple[str, str], Model] = {}

    def judging(self, model: str) -> Judging:
        """The rules by which the model's outputs are judged."""
        card = self._catalog.card(model)
        items = self._catalog.items(card, "evaluation")
        return card.judging(items.classes if items else None)

    def references(self, model: str) -> tuple[Planned, ...]:
        """The runnable float32 cases of the model on the suite's backends, without those that the
        suite excludes: on the CPU first, then in the default environment before others, then in
        the suite's order."""
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
                    input_shapes=self._catalog.given_shapes(model),
                )
                for environment in self._runs_in[backend]
                for device in override.devices or self._suite.devices
            ]
        cases = [case for case in cases if not _excluded(self._suite, case, _OF_A_PROGRAM)]
        cases.sort(key=lambda case: (case.device != "cpu", case.environment != DEFAULT_ENVIRONMENT))
        at_hand = [case for case in cases if not self._needs_conversion(case)]
        found = map(self.place, at_hand)
        placed = tuple(planned for planned in found if planned.preparation is not None)
        if placed:
            return placed
        others = (self.place(case) for case in cases if case not in at_hand)
        first = next((planned for planned in others if planned.preparation is not None), None)
        return () if first is None else (first,)

    def _needs_conversion(self, case: Case) -> bool:
        """Whether the case needs a conversion that no case of the plan needs."""
        backend, card = self._registry.load(case.backend), self._catalog.card(case.model)
        if isinstance(backend, Unavailable):
            return False
        for form in self._forms(backend, card):
            own = self._catalog.has(card, form) or (case.model, form) in self._models
            if own and not _unsupported(backend, self._model(case.model, form), case.target()):
                return False
        return True

    def place(self, case: Case) -> Planned:
        """The case with its preparation, or with the reason why it cannot run."""
        backend = self._registry.load(case.backend)
        if isinstance(backend, Unavailable):
            return _refused(case, f"{backend.reason}. {backend.fix}")
        built = self._environments.get(case.environment)
        if built is not None and built.failure:
            return Planned(case, failure=short(f"environment {case.environment}: {built.failure}"))
        probe = self._probe_in(case.backend, case.environment)
        refusal = _refusal(case, probe)
        if isinstance(probe, Unavailable) or refusal is not None:
            if built is None and case.environment != DEFAULT_ENVIRONMENT:
                refusal = (
                    f"not known until `qbench run` has built the environment {case.environment}; "
                    f"in the default environment: {refusal}"
                )
            return _refused(case, refusal)
        if case.threads * case.streams > usable_cores():
            return _refused(
                case,
                f"{case.threads * case.streams} threads on {usable_cores()} cores: the latency "
                "would jump between two levels",
            )
        if case.batch_size > 1 and self._has_no_batch(case.model):
            return _refused(case, "the model has no batch axis: it runs at batch 1 only")
        if case.batch_size > 1 and (carried := self._carried(case.model)):
            return _refused(
                case,
                f"the state '{carried}' goes from one item to the next, so items cannot share a "
                "batch: it runs at batch 1 only",
            )
        reason = why_not(case.scenario, built.resolved if built else None)
        if reason is None and case.scenario == "pipeline":
            card, packages = self._catalog.card(case.model), built.resolved if built else None
            reason = self._catalog.no_pipeline(card, case.batch_size, packages)
        if reason is not None:
            return _refused(case, reason)
        try:
            if case.recipe == "shared":
                preparation = self._shared(case, backend)
            else:
                preparation = self._own(case, backend)
            if case.device in probe.compiled:
                preparation = self._store.compilation(
                    backend, preparation, case.config(), probe, built
                )
        except NoSource as no:
            if no.status == "skipped":
                return _refused(case, no.reason)
            status = cast("Status", no.status)
            return Planned(case, None, short(no.reason), status, no.log)
        evaluation = self._catalog.items(self._catalog.card(case.model), "evaluation")
        gpu = probe.devices.get(case.device)
        return Planned(case, preparation=preparation, evaluation=evaluation, gpu=gpu)

    def _has_no_batch(self, model: str) -> bool:
        specs = self._catalog.card(model).input_specs.values()
        return all(spec.batch is None for spec in specs)

    def _carried(self, model: str) -> str | None:
        """A state that is carried from item to item; None if there is none."""
        states = self._catalog.card(model).fed_back
        return next((name for name, state in states.items() if state.carried), None)

    def _own(self, case: Case, backend: Adapter) -> Preparation:
        """The preparation by the backend itself, from a source that it supports: a file of the card
        if there is one, else a converted one.

        Raises:
            NoSource: there is no such source.
        """
        card, preparer = self._catalog.card(case.model), self._prepared_in(case)
        if preparer is not None and preparer.failure:
            name = self._preparers[case.backend, case.precision]
            raise NoSource(f"environment {name}: {preparer.failure}", "prepare_failed")
        refusals = []
        for form in self._forms(backend, card):
            try:
                if not self._catalog.has(card, form):
                    quantized = self._catalog.converts_quantized(card, form)
                    if quantized and case.precision != "as-shipped":
                        raise NoSource("the file is quantized: ask for as-shipped")
                    if not quantized and case.precision == "as-shipped":
                        continue  # a converted file is not the shipped one
                model = self._outline(case.model, form)
                reason = _unsupported(backend, model, case.target())
                if reason is not None:
                    raise NoSource(reason)
                calibration = self._calibration(case)
                if self._convert:
                    model = self._model(case.model, form)
            except NoSource as no:
                refusals.append(no)
                continue
            return self._store.preparation(
                backend,
                model,
                case.target(),
                calibration,
                self._calibration_scores(case.model),
                environment=preparer,
            )
        if refusals:  # a failure says more than a refusal; the last attempt got furthest
            raise next((no for no in refusals if no.status != "skipped"), refusals[-1])
        raise NoSource(
            f"{case.backend} takes {', '.join(backend.formats)}; there is only "
            f"{', '.join(card.sources)} of this model"
        )

    def _forms(self, backend: Adapter, card: ModelCard) -> list[str]:
        """The backend's formats that the card has or a converter makes; those of the card first."""
        forms = [form for form in backend.formats if self._catalog.can_give(card, form)]
        return sorted(forms, key=lambda form: not self._catalog.has(card, form))

    def _calibration(self, case: Case) -> Items | None:
        """The items to calibrate the precision with; None if it needs none.

        Raises:
            NoSource: it needs some, and the model's card names none.
        """
        if not PRECISIONS[case.precision].calibrated:
            return None
        items = self._catalog.items(self._catalog.card(case.model), "calibration")
        if items is None:
            raise NoSource("the model's card names no calibration items")
        return items

    def _calibration_scores(self, model: str) -> ClassScores | None:
        """The output to compare with the labels of calibration items; None where the labels are
        not classes of an output."""
        how = self.judging(model)
        if how.scores is None or how.metric not in ("top1", "accuracy"):
            return None
        return ClassScores(how.scores, how.background)

    def _shared(self, case: Case, backend: Adapter) -> Preparation:
        """The preparation from the quantized model that all backends share.

        Raises:
            NoSource: no adapter here makes such a model, or this backend cannot read it.
        """
        everyone = dict.fromkeys([*self._suite.backends, *self._registry.names])
        maker = next((name for name in everyone if self._makes(name, case.precision)), None)
        if maker is None:
            raise NoSource(f"no adapter here makes a {case.precision} model for all backends")
        shared = {
            "backend": maker,
            "recipe": "best",
            "hints": {},
            "device": self._made_on(maker, case),
        }
        placed = self.place(case.model_copy(update=shared))
        if placed.preparation is None:
            reason = placed.failure or placed.skip
            said = f"{maker} cannot make the shared model: {reason}"
            raise NoSource(said, str(placed.refused), placed.log)
        base = next(p for p in reversed(placed.preparation.chain) if p.compilation is None)
        model = base.model
        reason = _unsupported(backend, model, case.target())
        if model.format not in backend.formats:
            reason = f"{case.backend} cannot read the shared model, which is {model.format}"
        if reason is not None:
            raise NoSource(reason)
        return self._store.preparation(backend, model, case.target(), None, base=base)

    def _made_on(self, maker: str, case: Case) -> str:
        """The device that the shared model is made for: the CPU, so that one model serves all
        devices, or the case's own if the maker offers the precision on that alone."""
        probe = self._probe(maker)
        able = isinstance(probe, Ready) and case.precision in probe.precisions.get("cpu", ())
        return "cpu" if able else case.device

    def _makes(self, name: str, precision: str) -> bool:
        """Whether an adapter makes models that all backends share, and works here."""
        backend = self._registry.load(name)
        able = not isinstance(backend, Unavailable) and precision in backend.shareable
        return able and isinstance(self._probe(name), Ready)

    def _prepared_in(self, case: Case) -> BuiltEnvironment | None:
        """The environment that the case's artifact is prepared in; None for the default one."""
        environment = self._suite.environments.get(case.environment)
        if environment and environment.prepare:
            return self._environments.get(case.environment)
        return self._environments.get(self._preparers.get((case.backend, case.precision), ""))

    def _probe_in(self, name: str, environment: str) -> Ready | Unavailable:
        """An adapter's probe in an environment; in the default one if that is not built yet."""
        built = self._environments.get(environment)
        if built is None:
            return self._probe(name)
        if (name, environment) not in self._probes_in:
            answer = self._registry.probe_in(name, built.interpreter)
            self._probes_in[name, environment] = answer
        return self._probes_in[name, environment]

    def _probe(self, name: str) -> Ready | Unavailable:
        if name not in self._probes:
            self._probes |= self._registry.probe([name])
        return self._probes[name]

    def _outline(self, name: str, form: str) -> Model:
        """The model, without converting it."""
        card = self._catalog.card(name)
        if (name, form) in self._models or self._catalog.has(card, form):
            return self._model(name, form)
        return self._catalog.outline(card, form, self._suite.limits)

    def _model(self, name: str, form: str) -> Model:
        if (name, form) not in self._models:
            card = self._catalog.card(name)
            self._models[name, form] = self._catalog.model(card, form, self._suite.limits)
        return self._models[name, form]


def _refused(case: Case, reason: str | None) -> Planned:
    return Planned(case, short(reason or ""))


def _refusal(case: Case, probe: Ready | Unavailable) -> str | None:
    """Why the backend does not offer the case's precision on its device; None if it does."""
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
    for device, reasons in probe.missing.items():  # why there is no such device
        if device.partition(":")[0] == kind and case.precision in reasons:
            return reasons[case.precision]
    return f"{case.backend} does not run on {case.device}"


def _unsupported(backend: Adapter, model: Model, target: PrepareTarget) -> str | None:
    """Why the backend cannot prepare or run the model for the target; None if it can."""
    if model.states and not backend.feeds_back:
        first = next(iter(model.states.values()))
        return f"{backend.name} does not feed the model's states back ('{first.output}')"
    try:
        return backend.supports(model, target)
    except Exception as error:  # a third party's code
        return f"its adapter failed in supports(): {sentence(error)}"
