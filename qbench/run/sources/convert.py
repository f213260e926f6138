"""Conversion of models from formats that no runtime reads: in a worker, checked, and cached.

Layout below ``<cache>/converted``::

    <key>/model.<format>     the converted model
    <key>/conversion.json    its SHA-256, its names for the card's tensors, and ``Model.conversion``
    <key>.failed.json        why the conversion failed, with its limits and qbench's version
    <key>.lock               held during the conversion

The key is a digest of the source, the card's description of its tensors, the samples, and the
versions of converter and tools. The source is the first of the card that an installed converter
accepts; formats that converters produce (TFLite) come last, because such a file has been converted
once already.

A conversion that failed is not tried again until its key, the limits, qbench or a runtime that
checks it changes, or ``qbench cache clean converted``.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np

from qbench import __version__
from qbench.analysis.quality.fidelity import sqnr_db
from qbench.data.download import Report
from qbench.data.items import Items
from qbench.errors import NoSource, UserError
from qbench.kit.adapter import Ready, Unavailable
from qbench.kit.converter import Converter, Source
from qbench.kit.model import Model, SourceTensor
from qbench.kit.reasons import sentence
from qbench.run.workers.isolate import Outcome, run_job, scratch_folder, stop_if_disk_full
from qbench.run.workers.registry import Registry, package_versions
from qbench.spec.models import ModelCard
from qbench.spec.suite import WorkerLimits
from qbench.storage import cache_dir, digest_file, digest_json, new_folder, write_file

GROUP = "qbench.converters"
STORE_VERSION = 2
SAMPLES = 16
"""Maximum number of items to compare source and converted model on."""
LEAST_SQNR_DB = 40.0
"""Minimum agreement of a conversion with its source."""
RECORD = "conversion.json"


@dataclass(frozen=True)
class Verified:
    """A verified source for a converter.

    Attributes:
        source: the converter's input.
        name: the card's name.
        task: the card's task.
        digest: SHA-256 of all files of the source.
    """

    source: Source
    name: str
    task: str
    digest: str


@dataclass(frozen=True)
class Route:
    """A conversion from a source of a card to a format.

    Attributes:
        converter: name of its entry point.
        missing: the package that is not installed; None if there is nothing missing.
    """

    source: str
    form: str
    converter: str
    missing: Unavailable | None


class Converters:
    """The installed converters.

    Args:
        report: receives a sentence before each conversion.
        registry: adapters to run converted models with; None: the installed ones.
        targets: ``module:Class`` by name; None: the installed entry points.
    """

    def __init__(
        self,
        report: Report = lambda text: None,
        registry: Registry | None = None,
        targets: Mapping[str, str] | None = None,
    ) -> None:
        installed = {point.name: point.value for point in entry_points(group=GROUP)}
        self._targets = installed if targets is None else dict(targets)
        self._registry = registry or Registry()
        self._report = report
        self._loaded: dict[str, Converter] = {}
        self._runs: dict[str, str | None] = {}
        self._quantized: dict[str, bool] = {}

    def route(self, card: ModelCard, form: str) -> Route | None:
        """The conversion of the card's model to format ``form``; None if there is none. One with a
        missing package is returned only if there is no other."""
        routes = list(self._routes(card, form))
        return next((r for r in routes if r.missing is None), routes[0] if routes else None)

    def open_route(self, card: ModelCard, form: str) -> Route:
        """``route``, if it is possible here.

        Raises:
            NoSource: there is no route, or a package is missing.
        """
        route = self.route(card, form)
        if route is None:
            raise NoSource(f"{form} cannot be made from {', '.join(card.sources)}")
        if route.missing is not None:
            raise NoSource(
                f"{form} would be made from {route.source}, but {route.missing.reason}: "
                f"{route.missing.fix}"
            )
        return route

    def _routes(self, card: ModelCard, form: str) -> Iterator[Route]:
        routes = [self._load(name).routes for name in self._targets]
        made = {result for forms in routes for results in forms.values() for result in results}
        for source in sorted(card.sources, key=lambda source: source in made):
            for name in sorted(self._targets):
                converter = self._load(name)
                if form in converter.routes.get(source, ()):
                    yield Route(source, form, name, converter.probe(source, form))

    def endings(self) -> dict[str, str]:
        """Source formats by suffix of a file's name, for files without a card."""
        return {
            ending: source
            for name in sorted(self._targets)
            for ending, source in self._load(name).endings.items()
        }

    def readers(self) -> dict[str, str]:
        """``module:Class`` for the job ``describe``, by source format."""
        return {
            source: self._targets[name]
            for name in sorted(self._targets)
            for source in self._load(name).described
        }

    def _load(self, name: str) -> Converter:
        if name not in self._loaded:
            module, _, attribute = self._targets[name].partition(":")
            try:
                self._loaded[name] = getattr(importlib.import_module(module), attribute)()
            except (Exception, SystemExit) as error:  # a third party's module may raise anything
                raise UserError(
                    f"the converter {self._targets[name]} cannot be imported: {sentence(error)}",
                    "Repair or uninstall it.",
                ) from None
        return self._loaded[name]

    def _formats(self, name: str) -> tuple[str, ...]:
        backend = self._registry.load(name)
        return () if isinstance(backend, Unavailable) else tuple(backend.formats)

    # ------------------------------------------------------------------ converting

    def outline(self, route: Route, verified: Verified, samples: Items) -> Model:
        """The model that ``convert`` would make: its format, without a file of its own, a digest
        that stands for the conversion's inputs, and the card's names."""
        key, source = self._key(route, verified, samples), verified.source
        names = {
            side: {n: SourceTensor(t.name or n, t.layout) for n, t in tensors.items()}
            for side, tensors in (("in", source.source_inputs), ("out", source.source_outputs))
        }
        return Model(
            name=verified.name,
            format=route.form,
            path=source.path or Path(os.devnull),  # a model that a library provides
            digest=key,
            task=verified.task,
            inputs=source.inputs,
            outputs=source.outputs,
            source_inputs=names["in"],
            source_outputs=names["out"],
            conversion={"source_format": route.source},
        )

    def is_quantized(self, route: Route, verified: Verified) -> bool:
        """Whether the source is quantized, if there is an adapter here whose own format it is."""
        if verified.digest not in self._quantized:
            self._quantized[verified.digest] = self._ask_quantized(route.source, verified.source)
        return self._quantized[verified.digest]

    def _ask_quantized(self, form: str, source: Source) -> bool:
        own = (name for name in self._registry.names if self._formats(name)[:1] == (form,))
        name = next(own, None)
        if name is None or source.path is None:
            return False
        file = f"model{source.path.suffix}"
        request = {"path": file, "signature": source.options.get("signature")}
        with scratch_folder() as folder:
            target = self._registry.targets[name]
            outcome = run_job("describe", target, request, folder, {file: source.path})
        return bool(outcome.result.get("quantized"))  # a faulty file fails when it is converted

    def find(
        self, route: Route, verified: Verified, samples: Items, limits: WorkerLimits
    ) -> Model | None:
        """The model in ``route.form`` if it was converted before, else None.

        Raises:
            NoSource: its conversion failed before.
        """
        folder = self._folder(self._key(route, verified, samples))
        record = _cached(folder)
        if record is None:
            self._failed(folder, route, limits).refuse()
            return None
        return _model(folder / record["file"], route.form, verified, record)

    def convert(
        self, route: Route, verified: Verified, samples: Items, limits: WorkerLimits
    ) -> Model:
        """The model in ``route.form``, from the cache, or converted and checked now.

        Args:
            limits: of the workers that convert and check, as of those that prepare.

        Raises:
            NoSource: the conversion is impossible here, failed, or changed the outputs.
        """
        from filelock import FileLock

        folder = self._folder(self._key(route, verified, samples))
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            model = self.find(route, verified, samples, limits)
            if model is not None:
                return model
            if folder.exists():  # damaged: convert again
                shutil.rmtree(folder)
            self._report(f"converting {verified.name} from {route.source} to {route.form}")
            failed = self._failed(folder, route, limits)
            with failed.remembered(), new_folder(folder) as out:
                record = self._make(route, verified, samples, limits, out)
        return _model(folder / record["file"], route.form, verified, record)

    def _key(self, route: Route, verified: Verified, samples: Items) -> str:
        converter = self._load(route.converter)
        versions = package_versions(converter.packages)
        described = {**verified.source.to_json(), "path": None, "weights": None, "cache": None}
        order = [list(verified.source.inputs), list(verified.source.outputs)]  # for torch
        return digest_json(
            [
                [STORE_VERSION, route.converter, converter.convert_version, versions],
                [verified.digest, described, route.form, samples.digest],
                order,
            ]
        )[:32]

    @staticmethod
    def _folder(key: str) -> Path:
        return cache_dir() / "converted" / key

    def _failed(self, folder: Path, route: Route, limits: WorkerLimits) -> _Failed:
        under = {
            "qbench": __version__,
            "limits": limits.model_dump(mode="json"),
            "checked by": self._versions_of_readers(route.form),
        }
        return _Failed(folder.with_suffix(".failed.json"), under)

    def _make(
        self,
        route: Route,
        verified: Verified,
        samples: Items,
        limits: WorkerLimits,
        out: Path,
    ) -> dict[str, Any]:
        """Convert in a worker into the folder ``out`` and check the result; return the record."""
        work = cache_dir() / "work"
        with scratch_folder(work) as folder, scratch_folder(work) as checking:
            feeds = _first_items(samples, checking)
            outcome = self._run_converter(route, verified.source, feeds, limits, folder)
            stop_if_disk_full(outcome, folder)
            if outcome.status != "ok":
                raise NoSource(
                    f"converting from {route.source} to {route.form}: {outcome.reason}",
                    outcome.status,
                    outcome.log,
                )
            result = outcome.result
            file = out / f"model.{route.form}"
            (folder / "out" / result["file"]).rename(file)
            reference = {n: np.load(folder / f) for n, f in result["reference"].items()}
            record: dict[str, Any] = {
                "file": file.name,
                "digest": digest_file(file),
                "inputs": result["inputs"],
                "outputs": result["outputs"],
                "conversion": {
                    "source_format": route.source,
                    "source_digest": verified.digest,
                    "tool": result["tool"],
                    "versions": package_versions(self._load(route.converter).packages),
                    "seconds": result["convert_ns"] / 1e9,
                    "notes": result["notes"],
                },
            }
            model = _model(file, route.form, verified, record)
            outputs = self._run_converted(model, feeds, limits, checking)
            if self.is_quantized(route, verified):
                _refuse_inexact(reference, outputs, route)
            record["conversion"] |= {
                "sqnr_db": _compare(reference, outputs, route),
                "items": len(next(iter(reference.values()))),
            }
        (out / RECORD).write_text(json.dumps(record, indent=1))
        return record

    def _run_converter(
        self,
        route: Route,
        source: Source,
        feeds: Mapping[str, Path],
        limits: WorkerLimits,
        folder: Path,
    ) -> Outcome:
        """Run the worker; paths of ``source`` become names in its folder, with their suffix."""
        files = {path.name: path for path in feeds.values()}
        cache = cache_dir() / "downloads" / route.converter
        cache.mkdir(parents=True, exist_ok=True)
        files["cache"] = cache
        named: dict[str, Path] = {"cache": Path("cache")}
        for key, path in (("path", source.path), ("weights", source.weights)):
            if path is not None:
                named[key] = Path(f"source-{key}{path.suffix}")
                files[str(named[key])] = path
        request = {
            "source": replace(source, **named).to_json(),
            "form": route.form,
            "samples": {name: path.name for name, path in feeds.items()},
        }
        target = self._targets[route.converter]
        return _limited_job("convert", target, request, folder, files, limits)

    # ------------------------------------------------------------------ checking

    def _run_converted(
        self, model: Model, feeds: Mapping[str, Path], limits: WorkerLimits, folder: Path
    ) -> dict[str, np.ndarray]:
        """Outputs of the converted model in a runtime that reads it, by canonical name.

        Raises:
            NoSource: there is no such runtime here, or it cannot run the model.
        """
        runner = self._runner(model.format)
        if runner is None:
            raise NoSource(f"no backend here can run {model.format} to check the conversion")
        target, source = self._registry.targets[runner], f"model.{model.format}"
        files = {path.name: path for path in feeds.values()}
        for precision in ("fp32", "as-shipped"):  # a quantized model runs as shipped
            prepared = folder / precision
            prepared.mkdir()
            request: dict[str, Any] = {
                "model": {**model.to_json(), "path": source},
                "target": {"precision": precision},
            }
            inside = {source: model.path}
            outcome = _limited_job("prepare", target, request, prepared, inside, limits)
            stop_if_disk_full(outcome, prepared)
            if outcome.status == "ok":
                break
        batches = (2, 1)  # 1: the batch may be fixed
        if any(spec.batch is None for spec in model.inputs.values()):
            batches = (1,)  # items that differ in such an input cannot share a batch
        for batch in batches if outcome.status == "ok" else ():
            evaluated = folder / f"batch-{batch}"
            evaluated.mkdir()
            request = {
                "artifact": "artifact",
                "config": {"batch": batch},
                "feeds": {name: path.name for name, path in feeds.items()},
            }
            inside = {"artifact": prepared / "out", **files}
            outcome = _limited_job("evaluate", target, request, evaluated, inside, limits)
            stop_if_disk_full(outcome, evaluated)
            if outcome.status == "ok":
                return {n: np.load(evaluated / f) for n, f in outcome.result["outputs"].items()}
            if outcome.status != "skipped":
                break
        status = "prepare_failed" if outcome.status == "skipped" else outcome.status
        said = f"{runner} cannot run the converted model: {outcome.reason}"
        raise NoSource(said, status, outcome.log)

    def _runner(self, form: str) -> str | None:
        """The adapter to check a format with: the one that ranks it highest; None: no adapter."""
        if form not in self._runs:
            readers = self._readers(form)
            self._runs[form] = next(
                (n for n in readers if isinstance(self._registry.probe([n])[n], Ready)), None
            )
        return self._runs[form]

    def _readers(self, form: str) -> list[str]:
        """The adapters that read a format, those that rank it highest first."""
        able = [name for name in self._registry.names if form in self._formats(name)]
        return sorted(able, key=lambda name: self._formats(name).index(form))

    def _versions_of_readers(self, form: str) -> dict[str, str | None]:
        found: dict[str, str | None] = {}
        for name in self._readers(form):
            backend = self._registry.load(name)
            if not isinstance(backend, Unavailable):
                found |= package_versions(backend.runtime_packages)
        return found


def _limited_job(
    job: str,
    target: str,
    request: Mapping[str, Any],
    folder: Path,
    files: Mapping[str, Path],
    limits: WorkerLimits,
) -> Outcome:
    return run_job(
        job, target, request, folder, files, limits.prepare_timeout_s, limits.memory_bytes
    )


class _Failed:
    """The memory of a conversion that failed.

    Args:
        path: its file.
        under: circumstances under which it would fail again, JSON values.
    """

    def __init__(self, path: Path, under: Mapping[str, Any]) -> None:
        self._path = path
        self._under = under

    def refuse(self) -> None:
        """
        Raises:
            NoSource: the conversion failed before under the same circumstances.
        """
        try:
            record = json.loads(self._path.read_text())
            same = record["under"] == self._under
            reason, status, log = (str(record[key]) for key in ("reason", "status", "log"))
        except (OSError, ValueError, KeyError, TypeError):
            return
        if same:
            said = f"failed in an earlier run (retry: qbench cache clean converted): {reason}"
            raise NoSource(said, status, log)

    @contextmanager
    def remembered(self) -> Iterator[None]:
        """Remember a failure of the block. Refusals may depend on the machine: forgotten."""
        try:
            yield
        except NoSource as no:
            if no.status != "skipped" or isinstance(no, _Inexact):
                record = {"reason": no.reason, "status": no.status, "log": no.log}
                write_file(self._path, json.dumps({**record, "under": self._under}))
            raise
        self._path.unlink(missing_ok=True)


def _cached(folder: Path) -> dict[str, Any] | None:
    """The record of an earlier conversion; None if there is none, or it is damaged."""
    try:
        record = json.loads((folder / RECORD).read_text())
        whole = digest_file(folder / record["file"]) == record["digest"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if whole else None


def _first_items(items: Items, folder: Path) -> dict[str, Path]:
    """The first items of each input as files in ``folder``, by canonical name."""
    result = {}
    for index, (name, path) in enumerate(items.feeds.items()):
        result[name] = folder / f"sample-{index}.npy"
        np.save(result[name], np.load(path, mmap_mode="r")[:SAMPLES])
    return result


class _Inexact(NoSource):
    """The conversion of a quantized file gives other values."""


def _refuse_inexact(
    reference: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray], route: Route
) -> None:
    """
    Raises:
        _Inexact: the converted file of a quantized one is another model.
    """
    for name, exact in reference.items():
        if not np.array_equal(exact, outputs[name]):
            raise _Inexact(
                f"the {route.source} file is quantized, and its conversion to {route.form} rounds "
                f"differently ('{name}'): it is not the shipped model"
            )


def _compare(
    reference: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray], route: Route
) -> dict[str, float]:
    """SQNR in dB, by output.

    Raises:
        NoSource: an output differs too much, or in shape.
    """
    for name, exact in reference.items():
        if exact.shape != outputs[name].shape:
            raise NoSource(
                f"converted from {route.source} to {route.form}, output '{name}' has shape "
                f"{list(outputs[name].shape)}, in the source {list(exact.shape)}",
                "prepare_failed",
            )
    found = {name: sqnr_db(exact, outputs[name]) for name, exact in reference.items()}
    worst = min(found, key=lambda name: found[name])
    if not found[worst] >= LEAST_SQNR_DB:
        raise NoSource(
            f"converted from {route.source} to {route.form}, output '{worst}' agrees with the "
            f"source's to {found[worst]:.1f} dB only; {LEAST_SQNR_DB:.0f} dB are required",
            "prepare_failed",
        )
    return found


def _model(path: Path, form: str, verified: Verified, record: Mapping[str, Any]) -> Model:
    return Model(
        name=verified.name,
        format=form,
        path=path,
        digest=record["digest"],
        task=verified.task,
        inputs=verified.source.inputs,
        outputs=verified.source.outputs,
        source_inputs={n: SourceTensor.from_json(t) for n, t in record["inputs"].items()},
        source_outputs={n: SourceTensor.from_json(t) for n, t in record["outputs"].items()},
        conversion=record["conversion"],
    )
