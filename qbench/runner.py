"""Running a suite: prepare, evaluate, measure in rounds, and leave a bundle.

``run_suite`` reads as the program. Whatever has been done is on disk before the next thing
begins, so that an interrupted run goes on where it was when the same command is given again.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from qbench import __version__
from qbench.analysis.profile import summary
from qbench.artifacts import ArtifactStore, Preparation, Stored, feed_files
from qbench.backend import Ready, RunConfig, Unavailable
from qbench.bundle import Bundle, find_incomplete
from qbench.cards import ModelCard
from qbench.catalog import Catalog
from qbench.energy.measure import EnergyPass, measure_energy
from qbench.energy.sensors import find_sensors
from qbench.energy.settings import EnergySettings
from qbench.energy.wall import WallMeter
from qbench.environments import EnvironmentStore, Made
from qbench.errors import UserError
from qbench.gpu.sharing import refuse_shared
from qbench.gpu.watch import watching
from qbench.host import fingerprint, usable_cores
from qbench.isolate import (
    DISK_FULL,
    Outcome,
    in_parallel,
    run_job,
    scratch_folder,
    stop_if_disk_full,
)
from qbench.lock import alone_in, measuring_lock
from qbench.plan import YARDSTICK_S, Plan, Planned, environments_of, make_plan, preparers_of
from qbench.precision import REFERENCE, flags
from qbench.quality import Quality, Score, find_scores, judge, sqnr_db
from qbench.registry import Registry, package_versions
from qbench.scenario import SCENARIOS
from qbench.schedule import Schedule
from qbench.spec.case import Case, Filters
from qbench.storage import digest_json
from qbench.suite import Suite
from qbench.system import System

KEPT = (
    "digest", "bytes", "prepare_ns", "memory_peak_bytes", "provenance", "versions",
    "calibration_digest", "compiled_for",
)  # fmt: skip
"""What a bundle keeps of an artifact's record."""
SAME_OUTPUTS_DB = 20.0
"""Two openings of an artifact, at other threads or streams, agree by more than this (SQNR); another
computation does not."""
LEAST_COPIED, COPIED_CACHES, MOST_COPIED, COPIES = 1 << 26, 4, 0.2, 10
"""How many bytes are copied to tell the memory's speed: 64 MiB and four times what the caches hold
at the least, but no more than this share of the memory that is free; so many times."""
METERED = ("closed_loop", "paced", "pipeline")
"""Drivers of scenarios whose energy is measured; the others say themselves how long they take."""
PROFILE_RUNS = 20
"""Inferences of an evaluation that are profiled, where the suite asks for it."""
EXPECTED_TOLERANCE = 0.005
"""Runtimes differ by less in float32 accuracy; another preprocessing by more."""


class Progress(Protocol):
    """Told what happens; draws it, or not. ``known`` says how well a case is known so far, and
    ``total`` what a stage's total has become."""

    def stage(self, name: str, total: int) -> None: ...
    def working(self, label: str, known: str = "") -> None: ...
    def done(self, label: str, status: str, reason: str) -> None: ...
    def total(self, total: int) -> None: ...
    def note(self, text: str) -> None: ...


class Silent:
    """Progress that nobody watches."""

    def stage(self, name: str, total: int) -> None: ...
    def working(self, label: str, known: str = "") -> None: ...
    def done(self, label: str, status: str, reason: str) -> None: ...
    def total(self, total: int) -> None: ...
    def note(self, text: str) -> None: ...


@dataclass(frozen=True)
class Request:
    """What to run.

    Attributes:
        suite_text: the suite's file as it was read, kept in the bundle.
        seed: of the order of trials; the suite's if None.
        fresh: begin a new bundle even if an interrupted one could go on.
        strict: a case that is int8 in name only is an error.
        system: what a person says of the machine.
        wall: a meter in the machine's power cord.
        command: how the run was asked for, for the record.
        confirms: the run whose findings this one measures anew; None for most.
        suite_folder: what paths in the suite are relative to.
        allow_shared_gpu: measure though others compute on a GPU that the suite uses.
    """

    suite: Suite
    suite_text: str
    results: Path
    filters: Filters = Filters()
    seed: int | None = None
    fresh: bool = False
    strict: bool = False
    system: System | None = None
    wall: WallMeter | None = None
    command: tuple[str, ...] = ()
    confirms: str | None = None
    suite_folder: Path = Path()
    allow_shared_gpu: bool = False


def run_suite(
    request: Request, catalog: Catalog, registry: Registry, progress: Progress | None = None
) -> Bundle:
    """Run a suite, or go on with an interrupted run of it, and return the complete bundle.

    Raises:
        UserError: the request cannot be run: a wrong name or file, every case skipped, another
            run going on.
        MachineryError: the disk is full; the bundle can be gone on with.
        KeyboardInterrupt: as it came; the bundle can be gone on with.
    """
    progress = progress or Silent()
    _check_writable(request.results)
    if request.wall:
        with request.wall.running():
            pass  # one that cannot be used is refused now, and not after all rounds
    with measuring_lock(), alone_in(request.results):
        store = ArtifactStore()
        store.remove_stale()
        probes = registry.probe(request.suite.backends)
        environments = _environments(request, registry, store, progress)
        plan = make_plan(
            request.suite, catalog, registry, probes, store, request.filters, environments
        )
        _check_runnable(plan)
        if not request.allow_shared_gpu:
            refuse_shared({p.case.device: p.gpu for p in plan.runnable if p.gpu})
        bundle = _begin(request, plan, probes, registry)
        run = _Run(plan, bundle, catalog, registry, store, progress, request)
        run.prepare()
        run.evaluate()
        run.measure_memory()
        run.measure()
        run.measure_energy()
        bundle.finish({"finished": _now()})
    return bundle


def _environments(
    request: Request, registry: Registry, store: ArtifactStore, progress: Progress
) -> dict[str, Made]:
    """The suite's environments, those made that are not there yet."""
    asked = request.suite.environments
    if not asked:
        return {}
    runs_in = environments_of(request.suite, registry)
    inside = {backend for backend, names in runs_in.items() if len(names) > 1}
    inside |= {backend for backend, _ in preparers_of(request.suite, registry)}
    targets = {name: registry.targets[name] for name in sorted(inside)}
    progress.stage("environments", len(asked))
    made = EnvironmentStore(store.root, request.suite_folder).make(asked, targets, progress.working)
    for name, environment in made.items():
        status = "prepare_failed" if environment.failure else "ok"
        progress.done(name, status, environment.failure)
        if environment.note:
            progress.note(f"environment {name}: {environment.note}")
    return made


def _check_writable(results: Path) -> None:
    try:
        results.mkdir(parents=True, exist_ok=True)
        with scratch_folder(results):
            pass
    except OSError as error:
        if error.strerror == DISK_FULL:
            raise
        raise UserError(
            f"cannot write to the results folder {results}: {error.strerror}",
            "Give another one with --results.",
        ) from None


def _check_runnable(plan: Plan) -> None:
    if not plan.runnable:
        precisions: dict[tuple[str, str], list[str]] = {}
        for planned in plan.cases:
            why = planned.case.backend, planned.skip or planned.failure or ""
            of = precisions.setdefault(why, [])
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


def _seed(request: Request) -> int:
    return request.suite.seed if request.seed is None else request.seed


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def _begin(
    request: Request,
    plan: Plan,
    probes: Mapping[str, Ready | Unavailable],
    registry: Registry,
) -> Bundle:
    """A new bundle, or the newest interrupted one of the very same request."""
    host = fingerprint()
    software = _software(request.suite, registry)
    system = request.system.model_dump(mode="json") if request.system else None
    described = plan.to_json()
    run_key = digest_json(
        [
            request.suite.digest(),
            request.suite.profile,
            asdict(request.filters),
            _seed(request),
            request.strict,
            request.confirms,
            system,
            {name: made.digest for name, made in plan.environments.items()},
            host["host_id"],
            software,
            described,
        ]
    )
    if not request.fresh:
        bundle = find_incomplete(request.results, run_key)
        if bundle is not None:
            return bundle
    run_id = f"{time.strftime('%Y%m%d-%H%M%S')}-{request.suite.name}-{os.urandom(2).hex()}"
    begin = {
        "run_id": run_id,
        "run_key": run_key,
        "suite": request.suite.name,
        "suite_digest": request.suite.digest(),
        "filters": asdict(request.filters),
        "seed": _seed(request),
        "strict": request.strict,
        "confirms": request.confirms,
        "command": list(request.command),
        "started": _now(),
        "host": host,
        "system": system,
        "software": software,
        "environments": {name: made.to_json() for name, made in plan.environments.items()},
        "backends": {
            name: {"ready": isinstance(p, Ready), **asdict(p)} for name, p in probes.items()
        },
        "plan_digest": digest_json(described),
        "settings": request.suite.model_dump(
            mode="json",
            include={
                "rounds",
                "budget",
                "warmup_s",
                "timed_s",
                "cool_down_s",
                "limits",
                "cpu_power",
                "energy",
                "gate",
            },
        ),
    }
    return Bundle.create(request.results / run_id, begin, described, request.suite_text)


def _software(suite: Suite, registry: Registry) -> dict[str, str | None]:
    """Versions of qbench and of all that the suite's adapters say decides their results."""
    packages: set[str] = set()
    for name in suite.backends:
        backend = registry.load(name)
        if not isinstance(backend, Unavailable):
            packages |= {*backend.runtime_packages, *backend.prepare_packages}
    return {"qbench": __version__, **package_versions(tuple(sorted(packages)))}


def _known(schedule: Schedule, case: Case) -> str:
    """How well a case is known so far, and how many are not settled, for the progress bar."""
    width, (_, unsettled) = schedule.half_width(case.case_id), schedule.left()
    parts = ["" if width is None else f"±{100 * width:.1f} %"]
    parts += [f"{unsettled} not settled" if unsettled else ""]
    return ", ".join(part for part in parts if part)


class _Run:
    """One sitting of a run."""

    def __init__(
        self,
        plan: Plan,
        bundle: Bundle,
        catalog: Catalog,
        registry: Registry,
        store: ArtifactStore,
        progress: Progress,
        request: Request,
    ) -> None:
        self._plan, self._bundle, self._catalog = plan, bundle, catalog
        self._registry, self._store, self._progress = registry, store, progress
        self._seed, self._strict, self._wall = _seed(request), request.strict, request.wall
        self._limits = plan.suite.limits
        past = [record["sitting"] for record in [*bundle.trials, *bundle.energy]]
        self._sitting = 1 + max(past, default=0)
        self._writing = threading.Lock()
        self._reference_scores: dict[str, Mapping[str, Score] | None] = {}
        self._expected: dict[str, dict[str, np.ndarray]] = {}

    # ------------------------------------------------------------------ prepare

    def prepare(self) -> None:
        """Make every artifact that is not in the store yet, several at a time; but one after the
        other where it is compiled, since compilers measure what is fastest on the device."""
        recorded = self._bundle.prepared
        todo = [
            preparation
            for preparation in self._plan.preparations()
            if preparation.key not in recorded
            or (
                recorded[preparation.key]["status"] == "ok"
                and self._store.check(preparation) is None
            )
        ]
        self._progress.stage("prepare", len(todo))
        longest = max((len(preparation.chain) for preparation in todo), default=0)
        for steps in range(1, longest + 1):  # what others are made from comes first
            now = [p for p in todo if len(p.chain) == steps]
            converted = [p for p in now if p.compilation is None]
            in_parallel(converted, self._prepare_one, usable_cores())
            in_parallel([p for p in now if p.compilation], self._prepare_one, 1)

    def _prepare_one(self, preparation: Preparation) -> None:
        label = preparation.label
        self._progress.working(label)
        outcome = Outcome("ok")
        base = preparation.base
        if self._store.check(preparation) is not None:
            pass
        elif base is not None and self._store.check(base) is None:
            outcome = self._without_base(preparation, self._bundle.prepared[base.key])
        else:
            outcome = self._store.prepare(
                preparation,
                self._registry.targets[preparation.backend],
                self._limits.prepare_timeout_s,
                self._memory_limit(),
            )
            stop_if_disk_full(outcome, self._store.root)
        record = {
            "artifact_key": preparation.key,
            "status": outcome.status,
            "reason": outcome.reason,
            "log": outcome.log,
            "cached": outcome.status == "ok" and not outcome.seconds,
            "base": base.key if base else None,
        }
        stored = self._store.find(preparation)
        if stored is not None:
            record |= {name: stored.record.get(name) for name in KEPT}
        with self._writing:
            self._bundle.add_prepared(record)
        self._progress.done(label, outcome.status, outcome.reason)

    def _without_base(self, preparation: Preparation, base: Mapping[str, Any]) -> Outcome:
        """Of an artifact whose base could not be made: with that one's reason."""
        if preparation.compilation is not None:  # it is the same case's
            return Outcome(base["status"], base["reason"])
        return Outcome("prepare_failed", f"the shared model could not be made: {base['reason']}")

    def _memory_limit(self) -> int | None:
        limit = self._limits.memory_mb
        return None if limit is None else int(limit * 1e6)

    # ------------------------------------------------------------------ evaluate

    def evaluate(self) -> None:
        """Run all evaluation items through every artifact; the references come first."""
        todo = [
            planned
            for key, planned in self._plan.evaluations().items()
            if key not in self._bundle.evaluated and self._is_prepared(planned)
        ]
        self._progress.stage("evaluate", len(todo))
        at_once = 1 if self._plan.suite.profile else usable_cores()  # a profile is a measurement
        references = list(self._plan.references.values())
        on_cpu = all(planned.case.device == "cpu" for one in references for planned in one)
        in_parallel(references, self._evaluate_reference, at_once if on_cpu else 1)
        done = self._bundle.evaluated
        rest = [p for p in todo if p.evaluation_id not in done]
        in_parallel([p for p in rest if p.case.device == "cpu"], self._evaluate_one, at_once)
        # a device's memory is no matter of how many cores there are
        in_parallel([p for p in rest if p.case.device != "cpu"], self._evaluate_one, 1)

    def _is_prepared(self, planned: Planned) -> bool:
        assert planned.preparation
        record = self._bundle.prepared.get(planned.preparation.key)
        return record is not None and record["status"] == "ok"

    def _artifact(self, planned: Planned) -> Stored:
        assert planned.preparation
        stored = self._store.find(planned.preparation)
        assert stored is not None  # it was prepared, or the case would not be here
        return stored

    def _evaluate_reference(self, candidates: Sequence[Planned]) -> None:
        """Evaluate candidates for a model's reference until one goes well."""
        for planned in candidates:
            record = self._bundle.evaluated.get(str(planned.evaluation_id))
            if record is None:
                for preparation in planned.preparation.chain if planned.preparation else ():
                    if preparation.key not in self._bundle.prepared:
                        self._prepare_one(preparation)
                if self._is_prepared(planned):
                    self._evaluate_one(planned)
                    record = self._bundle.evaluated[str(planned.evaluation_id)]
            if record is not None and record["status"] == "ok":
                return

    def _evaluate_one(self, planned: Planned) -> None:
        case, items, stored = planned.case, planned.evaluation, self._artifact(planned)
        assert items is not None
        label = case.label
        profiled = self._plan.suite.profile and planned not in self._plan.yardsticks
        self._progress.working(label)
        config = RunConfig(device=case.device, batch=case.batch_size, hints=case.hints)
        feeds, files = feed_files(items, "feed")
        with scratch_folder(self._store.work_folder) as folder:
            outcome = run_job(
                "evaluate",
                self._registry.targets[case.backend],
                {
                    "artifact": "artifact",
                    "config": asdict(config),
                    "feeds": feeds,
                    "profile_runs": PROFILE_RUNS if profiled else None,
                },
                folder,
                {**files, "artifact": stored.folder},
                self._limits.evaluate_timeout_s,
                self._memory_limit(),
                self._plan.interpreter(case),
            )
            stop_if_disk_full(outcome, folder)
            record: dict[str, Any] = {
                "evaluation_id": planned.evaluation_id,
                "status": outcome.status,
                "reason": outcome.reason,
                "log": outcome.log,
                "seconds": outcome.seconds,
                "dataset_digest": items.digest,
                "data_is_random": items.random,
            }
            outputs = {n: folder / f for n, f in outcome.result.get("outputs", {}).items()}
            if outcome.status == "ok":
                record |= {k: outcome.result[k] for k in ("effective", "runtime_version")}
                if profiled:
                    told = outcome.result["profile"], outcome.result["profile_refusal"]
                    record["profile"] = summary(*told, PROFILE_RUNS)
                record |= self._judge(planned, outputs, items.labels)
                record |= self._strictly(case.precision, record)
            with self._writing:
                self._bundle.add_items(case.model, items.labels, items.chosen)
                self._bundle.add_evaluated(record, outputs)
        self._progress.done(label, record["status"], record["reason"])

    def _judge(
        self, planned: Planned, files: Mapping[str, Path], labels: Path | None
    ) -> dict[str, Any]:
        """Fields of the evaluation's record; an error where the outputs are none."""
        card = self._plan.cards[planned.case.model]
        with self._writing:
            reference = self._bundle.reference(card.name)
        base = self._bundle.outputs(reference) if reference else None
        outputs = {name: np.load(path, mmap_mode="r") for name, path in files.items()}
        truth = None if labels is None else np.load(labels)
        how = self._plan.judging[card.name]
        try:
            if reference and base is not None and reference not in self._reference_scores:
                self._reference_scores[reference] = find_scores(base, truth, how)
            scores = self._reference_scores[reference] if reference else None
            quality = judge(outputs, base, truth, how, scores)
        except ValueError as error:
            return {"status": "error", "reason": str(error)}
        told = planned.case.precision in (REFERENCE, "as-shipped")
        if told and card.expected is not None and card.expected.items == quality.items:
            self._compare_with_card(planned.case, card, quality)
        return {"quality": quality.model_dump(mode="json")}

    def _strictly(self, precision: str, record: Mapping[str, Any]) -> dict[str, str]:
        """An error where the run is strict and the case is not what its name says."""
        found = flags(precision, record["effective"]) if self._strict else []
        if not found or record["status"] != "ok":
            return {}
        counts = record["effective"]["macs"] or record["effective"]["operators"]
        ran = ", ".join(f"{n} {word}" for word, n in counts.items())
        what = "multiply-accumulates" if record["effective"]["macs"] else "operators"
        return {"status": "error", "reason": f"{', '.join(found)}: {what} by precision: {ran}"}

    def _compare_with_card(self, case: Case, card: ModelCard, quality: Quality) -> None:
        """Say so where the model as it came misses what its card expects on the same items."""
        assert card.expected is not None
        if quality.accuracy is not None:
            apart = abs(quality.accuracy - card.expected.value)
            if apart > EXPECTED_TOLERANCE:
                self._progress.note(
                    f"warning: {case.label}: reaches {quality.accuracy:.4f}, its card "
                    f"expects {card.expected.value:.4f} on the same {quality.items} items: check "
                    "its preprocessing"
                )

    # ------------------------------------------------------------------ measure

    def measure_memory(self) -> None:
        """How fast the machine's memory is, for the roofline; once in a run."""
        beside = [p.case for p in self._plan.yardsticks if p.case.device == "cpu"]
        if not beside or self._bundle.bandwidth is not None:
            return
        import psutil

        threads = sorted({case.threads for case in beside})
        target = self._registry.targets[beside[0].backend]
        caches = self._bundle.begin["host"]["caches"] or []
        cached = sum(cache["bytes"] * (cache["instances"] or 1) for cache in caches)
        limit = self._bundle.begin["host"]["cgroup"]["memory_bytes"]
        free = min(psutil.virtual_memory().available, limit or math.inf)
        size = min(max(LEAST_COPIED, COPIED_CACHES * cached), int(MOST_COPIED * free))
        request = {"threads": threads, "bytes": size, "repeats": COPIES}
        self._progress.stage("memory", 1)
        with scratch_folder(self._store.work_folder) as folder:
            outcome = run_job("bandwidth", target, request, folder, timeout_s=60)
        if outcome.status == "ok":
            self._bundle.add_bandwidth(outcome.result)
        self._progress.done("memory bandwidth", outcome.status, outcome.reason)

    def measure(self) -> None:
        """Rounds outermost, each in a fresh random order; a case that failed is not run again."""
        evaluated = self._bundle.evaluated
        good = [
            planned
            for planned in [*self._plan.runnable, *self._plan.yardsticks]
            if evaluated.get(str(planned.evaluation_id), {}).get("status") == "ok"
        ]
        schedule = Schedule(self._plan, good, self._seed)
        for trial in self._bundle.trials:
            schedule.add(trial, self._bundle.samples(trial) if trial["status"] == "ok" else None)
        self._progress.stage("measure", schedule.left()[0])
        done = 0
        while (following := schedule.next()) is not None:
            number, planned = following
            case = planned.case
            self._progress.working(case.label, _known(schedule, case))
            record = self._measure_one(number, planned)
            good_trial = record["status"] == "ok"
            schedule.add(record, self._bundle.samples(record) if good_trial else None)
            done += 1
            self._progress.done(case.label, record["status"], record["reason"])
            self._progress.total(done + sum(schedule.left()))

    def _measure_one(self, number: int, planned: Planned) -> dict[str, Any]:
        """Make one trial and record it."""
        case = planned.case
        time.sleep(self._plan.suite.cool_down_s)
        started = _now()
        with scratch_folder(self._store.work_folder) as folder:
            timed_s = self._plan.suite.timed_s
            if planned in self._plan.yardsticks:
                timed_s = min(timed_s, YARDSTICK_S)
            outcome = self._run_trial(planned, folder, timed_s)
            outcome = self._compared(planned, outcome, folder)
            result = dict(outcome.result)
            result.pop("outputs", None)
            record = {
                "trial": f"r{number:03d}-{case.case_id}",
                "case_id": case.case_id,
                "round": number,
                "sitting": self._sitting,
                "status": outcome.status,
                "reason": outcome.reason,
                "log": outcome.log,
                "started": started,
                "seconds": outcome.seconds,
                **result,
            }
            good = outcome.status == "ok"
            traces = {name: folder / name for name in record.pop("files", [])} if good else {}
            samples = folder / "samples.npy" if good else None
            return self._bundle.add_trial(record, samples, traces)

    def _run_trial(
        self, planned: Planned, folder: Path, timed_s: float, metered: bool = False
    ) -> Outcome:
        """One worker with a timed window of its case's scenario; metered: a window of ``timed_s``
        whatever the scenario's own length is."""
        case, items = planned.case, planned.evaluation
        assert items is not None
        feeds, files = feed_files(items, "feed")
        options = case.scenario_options
        if metered and "duration_s" in options:
            options = {**options, "duration_s": timed_s}
        if case.scenario == "pipeline":
            pipeline = self._catalog.pipeline(self._plan.cards[case.model], options["frames"])
            options, files = {**options, **pipeline.options}, {**files, **pipeline.files}
        with watching(planned.gpu) as watcher:
            outcome = run_job(
                "measure",
                self._registry.targets[case.backend],
                {
                    "artifact": "artifact",
                    "config": asdict(case.config()),
                    "feeds": feeds,
                    "scenario": SCENARIOS[case.scenario].module,
                    "options": options,
                    "warmup_s": self._plan.suite.warmup_s,
                    "timed_s": timed_s,
                    "gpu": planned.gpu,
                },
                folder,
                {**files, "artifact": self._artifact(planned).folder},
                self._limits.trial_timeout_s + self._plan.suite.warmup_s + timed_s + case.longest_s,
                self._memory_limit(),
                self._plan.interpreter(case),
            )
        if outcome.status == "ok":
            gpu = watcher.summary(*outcome.result["window"])
            outcome = replace(outcome, result={**outcome.result, "gpu": gpu})
        stop_if_disk_full(outcome, folder)
        return outcome

    def _compared(self, planned: Planned, outcome: Outcome, folder: Path) -> Outcome:
        """An error instead of a good outcome where the timed program computed something else than
        the evaluated one: its speed would be that of other work."""
        if outcome.status != "ok":
            return outcome
        for name, file in outcome.result["outputs"].items():
            close = sqnr_db(self._first_outputs(planned)[name], np.load(folder / file))
            if not close >= SAME_OUTPUTS_DB:  # NaN is not close either
                return replace(
                    outcome,
                    status="error",
                    reason=f"output '{name}' of the timed program is not what the evaluation gave "
                    f"for the same items ({close:.1f} dB)",
                )
        return outcome

    def _first_outputs(self, planned: Planned) -> dict[str, np.ndarray]:
        """What the evaluation gave for the items that are timed: the first batch."""
        key = str(planned.evaluation_id)
        if key not in self._expected:
            rows = np.arange(planned.case.batch_size)  # as the worker chooses its batch
            self._expected[key] = {
                name: array[rows % len(array)] for name, array in self._bundle.outputs(key).items()
            }
        return self._expected[key]

    # ------------------------------------------------------------------ energy

    def measure_energy(self) -> None:
        """Windows of seconds under this machine's sensors and the wall meter, if the suite asks for
        energy or there is a meter, of the scenarios whose window can be so long."""
        settings = self._plan.suite.energy or (EnergySettings() if self._wall else None)
        if settings is None:
            return
        trials = self._bundle.trials
        measured = {t["case_id"] for t in trials} - {
            t["case_id"] for t in trials if t["status"] != "ok"
        }
        cases = {
            p.case.case_id: p
            for p in self._plan.runnable
            if p.case.case_id in measured and SCENARIOS[p.case.scenario].module in METERED
        }

        def run_window(case_id: str) -> Outcome:
            planned = cases[case_id]
            with scratch_folder(self._store.work_folder) as folder:
                outcome = self._run_trial(planned, folder, settings.window_s, metered=True)
                return self._compared(planned, outcome, folder)

        energy = EnergyPass(
            found=find_sensors(),
            settings=settings,
            run_window=run_window,
            record=self._bundle.add_energy,
            progress=self._progress,
            sitting=self._sitting,
            seed=self._seed,
            wall=self._wall,
        )
        labels = {case_id: planned.case.label for case_id, planned in cases.items()}
        measure_energy(energy, labels, self._bundle.energy)
