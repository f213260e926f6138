"""The store of prepared models: content-addressed, shared by all runs of a user.

Layout below ``<cache>/artifacts``::

    <key>/artifact.json   what it is, how it was made; its presence marks the folder complete
    <key>/...             the adapter's files

The key is a digest of the source file, the card's names, precision and options, calibration items,
the adapter's ``prepare_version`` and the versions of the tools that prepare. Same key, same
artifact.

An artifact may be made from another one, its base: from a quantized model that several backends
share, or by compiling the base for a device. A compiled artifact's key is a digest of the base, the
device's name, compute capability and drivers, the runtime's versions, batch and hints. The caches
of compilers (how long kernels took on this kind of device) lie below ``<cache>/kept``, in a folder
for each backend, kind of device and runtime.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from qbench.data.items import Items
from qbench.kit.adapter import Adapter, Ready
from qbench.kit.model import Model, PrepareTarget, RunConfig
from qbench.run.workers.environments import BuiltEnvironment
from qbench.run.workers.isolate import Interpreter, Outcome, remove_stale, run_job, scratch_folder
from qbench.run.workers.registry import KIND_OF_DEVICE, package_versions
from qbench.spec.precisions import variant
from qbench.storage import (
    cache_dir,
    digest_file,
    digest_json,
    folder_bytes,
    remove_half_made,
    sync_files,
    sync_folder,
    write_file,
)

RECORD = "artifact.json"
PARTS = (
    "artifacts", "converted", "data", "downloads", "environments", "kept", "kits", "unpacked",
    "work",
)  # fmt: skip
"""The folders of the cache."""
STORE_VERSION = 3


@dataclass(frozen=True)
class Compilation:
    """The target of a compilation.

    Attributes:
        config: device, batch and hints; one thread and one stream.
        device: the device's facts ``KIND_OF_DEVICE``.
        kept: name of the folder with the compiler's caches.
    """

    config: RunConfig
    device: Mapping[str, str]
    kept: str

    def to_json(self) -> dict[str, Any]:
        """The bundle's record of it."""
        config = self.config
        return {**self.device, "batch": config.batch, "hints": dict(config.hints)}


class ClassScores(NamedTuple):
    """The output that accuracy-aware quantizers compare with labels.

    Attributes:
        output: its name; the index of its largest value is the class.
        background: number of leading classes of it that labels do not count.
    """

    output: str
    background: int


@dataclass(frozen=True)
class Preparation:
    """All inputs that determine an artifact.

    Attributes:
        key: SHA-256 of them, the first 32 hexadecimal digits.
        model: the source; with a ``base``, the base's source.
        calibration_items: number of items given to the quantizer; None if it needs none.
        scores: for accuracy-aware quantizers; None if the task has no classes.
        base: the artifact that the backend is given instead of the source; made first. None for
            most.
        compilation: the target that ``base`` is compiled for; None if nothing is compiled.
        versions: of the packages that determine the result; None: not installed.
        interpreter: the Python to make it with; None for the one that qbench runs in.
    """

    key: str
    backend: str
    model: Model
    target: PrepareTarget
    calibration: Items | None
    calibration_items: int | None
    scores: ClassScores | None
    base: Preparation | None
    versions: Mapping[str, str | None]
    interpreter: Interpreter | None = None
    compilation: Compilation | None = None

    @property
    def chain(self) -> list[Preparation]:
        """Its bases in the order in which they are made, followed by itself."""
        return [*(self.base.chain if self.base else ()), self]

    @property
    def label(self) -> str:
        """Short, for progress and messages."""
        parts = [self.model.name, self.backend, self.target.precision]
        parts += [variant(self.target.precision, self.target.options)]
        parts += [self.target.recipe] if self.target.recipe != "best" else []
        if self.compilation:
            config = self.compilation.config
            parts += [f"for {config.device}"] + ([f"b{config.batch}"] if config.batch != 1 else [])
        return " ".join(part for part in parts if part)


@dataclass(frozen=True)
class Stored:
    """A complete artifact in the store."""

    folder: Path
    record: dict[str, Any]

    @property
    def digest(self) -> str:
        """SHA-256 over the adapter's files."""
        return self.record["digest"]

    @property
    def file(self) -> Path:
        """The file that the backend opens."""
        return self.folder / self.record["provenance"]["file"]


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name != RECORD)


def digest_artifact(folder: Path) -> str:
    """SHA-256 over names and contents of an artifact's files."""
    return digest_json([[str(p.relative_to(folder)), digest_file(p)] for p in _files(folder)])


class FeedFiles(NamedTuple):
    """Items as a worker's request names them.

    Attributes:
        names: file in the worker's folder, by input name; numbered, because an input's name may
            hold anything, slashes included.
        files: the same files' paths, by name.
    """

    names: dict[str, str]
    files: dict[str, Path]


def feed_files(items: Items, prefix: str) -> FeedFiles:
    """The feeds of ``items``, named ``<prefix>-<number>.npy``."""
    names = {name: f"{prefix}-{index}.npy" for index, name in enumerate(items.feeds)}
    return FeedFiles(names, {names[name]: path for name, path in items.feeds.items()})


def model_files(model: Model) -> tuple[dict[str, Any], dict[str, Path]]:
    """A model as a worker's request describes it, and its files by their names there."""
    # Keras distinguishes its two kinds of files by their suffix.
    ending = model.path.suffix if model.format == "keras" else f".{model.format}"
    source = f"source/model{ending}"
    companions = {name: f"source/{name}" for name in model.companions}
    files = {companions[name]: path for name, path in model.companions.items()}
    described = {**model.to_json(), "path": source, "companions": companions}
    return described, {source: model.path, **files}


class ArtifactStore:
    """The artifacts in one cache folder."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or cache_dir()

    @property
    def folder(self) -> Path:
        return self.root / "artifacts"

    @property
    def work_folder(self) -> Path:
        """The folder for workers' files, on the store's file system: results are moved, not
        copied."""
        return self.root / "work"

    def remove_stale(self) -> None:
        """Remove incomplete files of killed processes of this machine."""
        remove_stale(self.work_folder)
        for part in ("converted", "data", "environments", "kits", "unpacked"):
            remove_half_made(self.root / part)

    def preparation(
        self,
        backend: Adapter,
        model: Model,
        target: PrepareTarget,
        calibration: Items | None,
        scores: ClassScores | None = None,
        base: Preparation | None = None,
        environment: BuiltEnvironment | None = None,
    ) -> Preparation:
        """The preparation of ``model``, or of the artifact ``base``, by ``backend``.

        Args:
            environment: where to prepare; None: the environment that qbench runs in.
        """
        wanted = target.options.get("calibration_items")
        items = min(wanted or calibration.count, calibration.count) if calibration else None
        described = model.to_json()
        del described["path"], described["conversion"]  # the file's digest stands for both
        described["companions"] = {n: digest_file(p) for n, p in model.companions.items()}
        packages = backend.prepare_packages
        versions = environment.versions(packages) if environment else package_versions(packages)
        key = digest_json(
            [
                STORE_VERSION,
                backend.name,
                backend.prepare_version,
                described,
                asdict(target),
                [calibration.digest, items, scores] if calibration else None,
                versions,
                base.key if base else None,
            ]
        )[:32]
        if base is not None:
            items = base.calibration_items
        return Preparation(
            key,
            backend.name,
            model,
            target,
            calibration,
            items,
            scores,
            base,
            versions,
            environment.interpreter if environment else None,
        )

    def compilation(
        self,
        backend: Adapter,
        base: Preparation,
        config: RunConfig,
        ready: Ready,
        environment: BuiltEnvironment | None,
    ) -> Preparation:
        """The compilation of ``base`` for ``config.device``.

        Args:
            ready: the backend's probe in ``environment``.
            environment: where to compile; None: the environment that qbench runs in.
        """
        device = {fact: ready.devices[config.device][fact] for fact in KIND_OF_DEVICE}
        packages = backend.runtime_packages
        found = environment.versions(packages) if environment else package_versions(packages)
        versions = {**found, "runtime": ready.version}
        config = RunConfig(config.device, batch=config.batch, hints=config.hints)
        kept = digest_json([backend.name, device, versions])[:32]
        compilation = Compilation(config, device, kept)
        key = digest_json(
            [base.key, backend.name, backend.prepare_version, versions, compilation.to_json()]
        )[:32]
        return replace(
            base,
            key=key,
            calibration=None,
            base=base,
            versions=versions,
            interpreter=environment.interpreter if environment else None,
            compilation=compilation,
        )

    def find(self, preparation: Preparation) -> Stored | None:
        """The stored artifact; None if it has not been made."""
        folder = self.folder / preparation.key
        try:
            return Stored(folder, json.loads((folder / RECORD).read_text()))
        except FileNotFoundError:
            return None
        except ValueError:  # damaged: make it again
            shutil.rmtree(folder)
            return None

    def check(self, preparation: Preparation) -> Stored | None:
        """``find``, but remove an artifact whose files have changed since it was stored."""
        stored = self.find(preparation)
        if stored is not None and digest_artifact(stored.folder) != stored.digest:
            shutil.rmtree(stored.folder)
            return None
        return stored

    def prepare(
        self,
        preparation: Preparation,
        target: str,
        timeout_s: float,
        memory_limit_bytes: int | None,
    ) -> Outcome:
        """Make the artifact in a worker and store it if that succeeded. Its base is in the store.

        Args:
            target: ``module:Class`` of the adapter.
        """
        request, files = self._job(preparation)
        compilation = preparation.compilation
        with scratch_folder(self.work_folder) as folder:
            if compilation is not None:
                self._lend(compilation, folder / "kept")
            outcome = run_job(
                "prepare" if compilation is None else "compile",
                target,
                request,
                folder,
                files,
                timeout_s,
                memory_limit_bytes,
                preparation.interpreter,
            )
            if outcome.status == "ok":
                self._keep(folder / "out", preparation)
                if compilation is not None:
                    self._take_back(compilation, folder / "kept", folder / "kept-before")
        return outcome

    def _job(self, preparation: Preparation) -> tuple[dict[str, Any], dict[str, Path]]:
        """The request of the job that makes the artifact, and the job's files."""
        model = preparation.model
        if preparation.base is not None:
            base = self.find(preparation.base)
            assert base is not None  # made first
            if preparation.compilation is not None:
                config = asdict(preparation.compilation.config)
                request = {"artifact": "artifact", "config": config, "kept": "kept"}
                return request, {"artifact": base.folder}
            model = replace(model, path=base.file, digest=digest_file(base.file), companions={})
        described, files = model_files(model)
        request: dict[str, Any] = {"model": described, "target": asdict(preparation.target)}
        items = preparation.calibration
        if items is not None:
            request["calibration"], feeds = feed_files(items, "calibration")
            files |= feeds
            request["calibration_items"] = preparation.calibration_items
            request["calibration_scores"] = preparation.scores
            if items.labels is not None and preparation.scores is not None:  # they are classes
                request["calibration_labels"] = "calibration-labels.npy"
                files["calibration-labels.npy"] = items.labels
        return request, files

    def _lend(self, compilation: Compilation, folder: Path) -> None:
        """Copy the compiler's caches into ``folder``."""
        kept = self.root / "kept" / compilation.kept
        if kept.is_dir():
            shutil.copytree(kept, folder)
        else:
            folder.mkdir()

    def _take_back(self, compilation: Compilation, folder: Path, before: Path) -> None:
        """Replace the compiler's caches with ``folder``; the previous ones go to ``before``.

        A kill in between, or another machine that does the same in a shared cache, loses only
        what a compiler can measure again."""
        kept = self.root / "kept" / compilation.kept
        kept.parent.mkdir(parents=True, exist_ok=True)
        sync_files(folder)
        with suppress(FileNotFoundError):
            kept.rename(before)
        try:
            folder.rename(kept)
        except OSError:
            if not kept.is_dir():
                raise
        sync_folder(kept.parent)

    def _keep(self, out: Path, preparation: Preparation) -> None:
        """Complete the record and move the folder into the store."""
        record = json.loads((out / RECORD).read_text())
        record["backend"] = preparation.backend
        record["versions"] = preparation.versions
        if preparation.compilation is not None:
            record["compiled_for"] = preparation.compilation.to_json()
        if preparation.calibration is not None:
            record["calibration_digest"] = preparation.calibration.digest
        record["bytes"] = sum(path.stat().st_size for path in _files(out))
        record["digest"] = digest_artifact(out)
        sync_files(out)
        write_file(out / RECORD, json.dumps(record, indent=1))
        target = self.folder / preparation.key
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            out.rename(target)
        except OSError:
            if not (target / RECORD).exists():
                raise
        sync_folder(target.parent)

    def sizes(self) -> dict[str, int]:
        """Size of each folder of the cache, in bytes."""
        return {
            part: folder_bytes(self.root / part) if (self.root / part).is_dir() else 0
            for part in PARTS
        }

    def clean(self, parts: list[str]) -> int:
        """Remove folders of the cache; returns the number of bytes freed."""
        freed = sum(self.sizes()[part] for part in parts)
        for part in parts:
            shutil.rmtree(self.root / part, ignore_errors=True)
        return freed
