"""The stage that makes artifacts, and the environments that they and the cases need."""

from __future__ import annotations

from qbench.bundle.records.run import Prepared
from qbench.machine.host import usable_cores
from qbench.run.artifacts import ArtifactStore, Preparation
from qbench.run.planner import environments_of, preparers_of
from qbench.run.progress import Progress
from qbench.run.request import Request
from qbench.run.stages.sitting import Sitting
from qbench.run.workers.environments import BuiltEnvironment, EnvironmentStore
from qbench.run.workers.isolate import Outcome, in_parallel, stop_if_disk_full
from qbench.run.workers.registry import Registry

KEPT = (
    "digest", "bytes", "prepare_ns", "memory_peak_bytes", "provenance", "versions",
    "calibration_digest", "compiled_for",
)  # fmt: skip
"""Fields of an artifact's record that the bundle repeats."""


def build_environments(
    request: Request, registry: Registry, store: ArtifactStore, progress: Progress
) -> dict[str, BuiltEnvironment]:
    """Build the suite's environments that are not in the cache; return all of them by name."""
    environments = request.suite.environments
    if not environments:
        return {}
    runs_in = environments_of(request.suite, registry)
    inside = {backend for backend, names in runs_in.items() if len(names) > 1}
    inside |= {backend for backend, _ in preparers_of(request.suite, registry)}
    targets = {name: registry.targets[name] for name in sorted(inside)}
    progress.stage("environments", len(environments))
    built = EnvironmentStore(store.root, request.suite_folder).build(
        environments, targets, progress.working
    )
    for name, environment in built.items():
        status = "prepare_failed" if environment.failure else "ok"
        progress.done(name, status, environment.failure)
        if environment.note:
            progress.note(f"environment {name}: {environment.note}")
    return built


def prepare(sitting: Sitting) -> None:
    """Make every artifact that is not in the store yet.

    Several at a time, but compilations one after the other: compilers measure kernels on the
    device. An artifact is made after its base."""
    recorded = sitting.bundle.prepared
    todo = [
        preparation
        for preparation in sitting.plan.preparations()
        if preparation.key not in recorded
        or (recorded[preparation.key].status == "ok" and sitting.store.check(preparation) is None)
    ]
    sitting.progress.stage("prepare", len(todo))

    def make(preparation: Preparation) -> None:
        prepare_one(sitting, preparation)

    longest = max((len(preparation.chain) for preparation in todo), default=0)
    for steps in range(1, longest + 1):
        now = [p for p in todo if len(p.chain) == steps]
        in_parallel([p for p in now if p.compilation is None], make, usable_cores())
        in_parallel([p for p in now if p.compilation], make, 1)


def prepare_one(sitting: Sitting, preparation: Preparation) -> None:
    """Make one artifact, unless it is in the store, and record it."""
    sitting.progress.working(preparation.label)
    outcome = _make(sitting, preparation)
    base = preparation.base
    record = {
        "artifact_key": preparation.key,
        "status": outcome.status,
        "reason": outcome.reason,
        "log": outcome.log,
        "cached": outcome.status == "ok" and not outcome.seconds,
        "base": base.key if base else None,
    }
    stored = sitting.store.find(preparation)
    if stored is not None:
        record |= {name: stored.record.get(name) for name in KEPT}
    with sitting.writing:
        sitting.bundle.add_prepared(record)
    sitting.progress.done(preparation.label, outcome.status, outcome.reason)


def _make(sitting: Sitting, preparation: Preparation) -> Outcome:
    store, base = sitting.store, preparation.base
    if store.check(preparation) is not None:
        return Outcome("ok")
    if base is not None and store.check(base) is None:
        return _without_base(preparation, sitting.bundle.prepared[base.key])
    outcome = store.prepare(
        preparation,
        sitting.registry.targets[preparation.backend],
        sitting.limits.prepare_timeout_s,
        sitting.limits.memory_bytes,
    )
    stop_if_disk_full(outcome, store.root)
    return outcome


def _without_base(preparation: Preparation, base: Prepared) -> Outcome:
    """The outcome of an artifact whose base could not be made, with the base's reason."""
    if preparation.compilation is not None:  # the base belongs to the same case
        return Outcome(base.status, base.reason)
    return Outcome("prepare_failed", f"the shared model could not be made: {base.reason}")
