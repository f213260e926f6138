"""One sitting of a run: the part from one start of the program to its end or interruption."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from qbench.analysis.quality.judge import Score
from qbench.bundle.bundle import Bundle
from qbench.run.artifacts import ArtifactStore, Stored
from qbench.run.plan import Plan, Planned
from qbench.run.progress import Progress
from qbench.run.request import Request
from qbench.run.sources.catalog import Catalog
from qbench.run.workers.registry import Registry
from qbench.spec.suite import WorkerLimits


@dataclass(frozen=True)
class Sitting:
    """Everything that the stages of a run share.

    Attributes:
        number: 1 for the first sitting; only trials of the same sitting are paired.
        writing: held while a thread writes to the bundle.
        reference_scores: cache of the items' scores of each model's reference evaluation, by
            evaluation id; None where the task has no scores.
        first_outputs: cache of the evaluation's outputs for the timed batch, by evaluation id,
            then by output name.
    """

    plan: Plan
    bundle: Bundle
    store: ArtifactStore
    registry: Registry
    catalog: Catalog
    progress: Progress
    request: Request
    number: int
    writing: threading.Lock = field(default_factory=threading.Lock)
    reference_scores: dict[str, Mapping[str, Score] | None] = field(default_factory=dict)
    first_outputs: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)

    @property
    def limits(self) -> WorkerLimits:
        return self.plan.suite.limits

    def is_prepared(self, planned: Planned) -> bool:
        assert planned.preparation
        record = self.bundle.prepared.get(planned.preparation.key)
        return record is not None and record.status == "ok"

    def artifact(self, planned: Planned) -> Stored:
        """The stored artifact of a prepared case."""
        assert planned.preparation
        stored = self.store.find(planned.preparation)
        assert stored is not None  # it was prepared, or the case would not be here
        return stored


def next_number(bundle: Bundle) -> int:
    """The number of the sitting that begins now."""
    past = [record.sitting for record in [*bundle.trials, *bundle.energy]]
    return 1 + max(past, default=0)
