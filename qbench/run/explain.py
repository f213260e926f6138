"""Explain a slow or inaccurate case: compare its operators and layers with those of its float32
twin."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from operator import attrgetter
from pathlib import Path

from qbench.analysis.explain import Explanation, explain
from qbench.analysis.table.table import case_rows
from qbench.bundle.bundle import Bundle
from qbench.bundle.records.run import Entry
from qbench.errors import UserError, find_by_words
from qbench.machine.host import fingerprint
from qbench.machine.lock import measuring_lock
from qbench.run.artifacts import RECORD, ArtifactStore, digest_artifact
from qbench.run.workers.isolate import run_job, scratch_folder
from qbench.run.workers.registry import Registry
from qbench.spec.precisions import REFERENCE
from qbench.spec.suite import DEFAULT_ENVIRONMENT
from qbench.storage import cache_dir

RUNS = 20
"""Number of profiled inferences."""
ITEMS = 16
"""Number of evaluation items to compare layers on."""
ARTIFACTS = ("artifact", "twin", "prepared", "prepared_twin")
AGAIN = "Run the same suite again, which fills the cache; then repeat this command."
ELSEWHERE = "The figures were measured on another machine; the operators are profiled on this one."


def explain_case(bundle: Bundle, words: Sequence[str], registry: Registry) -> Explanation:
    """Profile a case of a bundle and its float32 twin, compare their layers, and report findings.

    Args:
        words: the case's id, or words that identify it: model, backend, precision, variant.

    Raises:
        UserError: no case or several match, or the artifact is no longer in the cache.
    """
    entry = find_case(bundle, words)
    case = entry.case
    store = ArtifactStore()
    artifact = _artifact(store, bundle, entry)
    twin = _twin(store, bundle, entry)
    folders = {"artifact": artifact, "prepared": _prepared(store, bundle, artifact)}
    if twin:
        folders |= {"twin": twin, "prepared_twin": _prepared(store, bundle, twin)}
    if case.environment != DEFAULT_ENVIRONMENT:
        raise UserError(
            f"{case.label} ran in the environment '{case.environment}', and explain handles the "
            "default environment only",
            "Explain the same case of the default environment.",
        )
    feeds = _feeds(artifact, entry)
    with measuring_lock(), scratch_folder(store.work_folder) as folder:
        files = {f"feed-{index}.npy": path for index, path in enumerate(feeds.values())}
        outcome = run_job(
            "explain",
            _target(registry, case.backend),
            {
                **{name: name if name in folders else None for name in ARTIFACTS},
                "config": asdict(case.config()),
                "feeds": dict(zip(feeds, files, strict=True)),
                "runs": RUNS,
                "items": ITEMS,
            },
            folder,
            {**files, **folders},
        )
    if outcome.status != "ok":
        raise UserError(
            f"{_label(entry)}: {outcome.status}: {outcome.reason}",
            "The worker's last lines:\n" + outcome.log if outcome.log else "",
        )
    rows = case_rows(bundle, bundle.trials_frame())
    row = next(row for row in rows if row.case_id == entry.case_id)
    found = explain(case, row, outcome.result)
    if fingerprint()["host_id"] != bundle.begin.host.host_id:
        return replace(found, notes=[ELSEWHERE, *found.notes])
    return found


def find_case(bundle: Bundle, words: Sequence[str]) -> Entry:
    """The entry of the plan that ``words`` mean; see ``find_by_words``."""
    entries = {entry.case_id: entry for entry in bundle.plan.cases}
    return entries[find_by_words(words, {key: _label(entry) for key, entry in entries.items()})]


def _label(entry: Entry) -> str:
    """The case's label, with the options that differed from the defaults of its time."""
    plain = entry.case.model_copy(update={"options": {}})
    return f"{plain.label} {entry.variant}".rstrip()


def _artifact(store: ArtifactStore, bundle: Bundle, entry: Entry) -> Path:
    label = _label(entry)
    if entry.skip or entry.failure:
        raise UserError(f"{label} was not run: {entry.skip or entry.failure}")
    key = entry.artifact_key or ""
    prepared = bundle.prepared.get(key)
    if prepared is None or prepared.status != "ok":
        raise UserError(f"{label} was not prepared: {prepared and prepared.reason}")
    folder = store.folder / key
    if not (folder / RECORD).is_file():
        raise UserError(f"the artifact of {label} is not in the cache {store.root}", AGAIN)
    if digest_artifact(folder) != prepared.digest:
        raise UserError(f"the artifact of {label} in the cache differs from the bundle's", AGAIN)
    return folder


def _twin(store: ArtifactStore, bundle: Bundle, entry: Entry) -> Path | None:
    """The float32 artifact of the same model and backend; None for float32 itself, or if the cache
    lacks the bundle's artifact."""
    case, prepared = entry.case, bundle.prepared
    if case.precision == REFERENCE:
        return None
    alike = attrgetter("model", "backend", "device")
    if prepared[entry.artifact_key or ""].compiled_for:  # for one batch, and by one runtime
        alike = attrgetter("model", "backend", "device", "batch_size", "environment")
    for other in [*bundle.plan.cases, *bundle.plan.references.get(case.model, [])]:
        key = other.artifact_key
        if alike(other.case) == alike(case) and other.case.precision == REFERENCE and key:
            folder, found = store.folder / key, prepared.get(key)
            if found is None or not (folder / RECORD).is_file():
                continue
            if digest_artifact(folder) == found.digest:
                return folder
    return None


def _prepared(store: ArtifactStore, bundle: Bundle, artifact: Path) -> Path:
    """The artifact that shows the layers: a compiled artifact's base, else the artifact itself."""
    prepared = bundle.prepared
    line = prepared[artifact.name]
    if not line.compiled_for:
        return artifact
    base = line.base or ""
    folder, found = store.folder / base, prepared.get(base)
    there = (folder / RECORD).is_file()
    if found is None or not there or digest_artifact(folder) != found.digest:
        raise UserError(
            f"the base of the compiled artifact {artifact.name} is not in the cache", AGAIN
        )
    return folder


def _feeds(artifact: Path, entry: Entry) -> dict[str, Path]:
    """Files of the cached evaluation items, by input."""
    inputs = json.loads((artifact / RECORD).read_text())["model"]["inputs"]
    folder = cache_dir() / "data" / str(entry.cached_items)
    feeds = {name: folder / f"input-{index}.npy" for index, name in enumerate(inputs)}
    if not all(path.is_file() for path in feeds.values()):
        raise UserError("the evaluation items are not in the cache", AGAIN)
    return feeds


def _target(registry: Registry, backend: str) -> str:
    if backend not in registry.targets:
        raise UserError(f"the adapter '{backend}' is not installed here")
    return registry.targets[backend]
