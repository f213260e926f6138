"""A prepared model of the catalogue with its feeds, for the benchmarks to measure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from qbench.data.items import Items
from qbench.kit.adapter import Unavailable
from qbench.kit.model import Artifact, Feed, PrepareTarget, RunConfig
from qbench.run.artifacts import ArtifactStore, Stored, feed_files
from qbench.run.sources.catalog import Catalog
from qbench.run.workers.isolate import Outcome, run_job, scratch_folder
from qbench.run.workers.registry import Registry
from qbench.spec.precisions import complete_options
from qbench.spec.scenarios import SCENARIOS
from qbench.spec.scenarios import complete_options as scenario_options
from qbench.spec.suite import suites_dir


@dataclass(frozen=True)
class Prepared:
    """An artifact in the store, and how to run trials of it.

    Attributes:
        target: ``module:Class`` of the adapter.
    """

    stored: Stored
    items: Items
    target: str
    work: Path

    @property
    def artifact(self) -> Artifact:
        return Artifact.from_json(self.stored.folder, self.stored.record)

    def feed(self) -> Feed:
        """The first item, as a batch of one."""
        return {name: np.load(path, mmap_mode="r")[:1] for name, path in self.items.feeds.items()}

    def slowed(self, target: str) -> Prepared:
        """The same artifact run by the adapter ``target``."""
        return replace(self, target=target)

    @contextmanager
    def trial(
        self,
        warmup_s: float,
        timed_s: float,
        config: RunConfig | None = None,
        scenario: str = "single-stream",
        options: Mapping[str, Any] | None = None,
    ) -> Iterator[tuple[Outcome, Path]]:
        """One fresh process of the job ``measure``: how it ended, and its working folder with
        ``samples.npy``, which is gone afterwards."""
        feeds, files = feed_files(self.items, "feed")
        message: Mapping[str, Any] = {
            "artifact": "artifact",
            "config": asdict(config or RunConfig()),
            "feeds": feeds,
            "warmup_s": warmup_s,
            "timed_s": timed_s,
            "scenario": SCENARIOS[scenario].module,
            "options": scenario_options(scenario, dict(options or {})),
        }
        with scratch_folder(self.work) as folder:
            outcome = run_job(
                "measure", self.target, message, folder, {**files, "artifact": self.stored.folder}
            )
            assert outcome.status == "ok", f"{outcome.reason}\n{outcome.log}"
            yield outcome, folder

    def samples(self, warmup_s: float, timed_s: float, **how: Any) -> np.ndarray:
        """The samples of one trial, in nanoseconds; ``how`` as ``trial`` takes it."""
        with self.trial(warmup_s, timed_s, **how) as (_, folder):
            return np.load(folder / "samples.npy")


def prepare(model: str, backend: str, precision: str = "fp32") -> Prepared:
    """``model`` of the shipped catalogue as ``backend`` prepares it at ``precision``."""
    registry, catalog, store = Registry(), Catalog([suites_dir()]), ArtifactStore()
    adapter = registry.load(backend)
    assert not isinstance(adapter, Unavailable), adapter
    card = catalog.card(model)
    source = catalog.model(card, next(f for f in adapter.formats if f in card.sources))
    items = catalog.items(card, "evaluation")
    assert items is not None, f"{model} has no items"
    calibration = catalog.items(card, "calibration") if precision.startswith("int8") else None
    preparation = store.preparation(
        adapter, source, PrepareTarget(precision, complete_options(precision, {})), calibration
    )
    if store.check(preparation) is None:
        outcome = store.prepare(preparation, registry.targets[backend], 600, None)
        assert outcome.status == "ok", outcome.reason
    stored = store.find(preparation)
    assert stored is not None
    return Prepared(stored, items, registry.targets[backend], store.work_folder)
