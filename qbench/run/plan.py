"""The plan of a run: every case of the suite, how it is made, or why it cannot run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from qbench.bundle.records.run import Data, Origins
from qbench.data.items import Items
from qbench.machine.gpu.card import place
from qbench.machine.host import usable_cores
from qbench.run.artifacts import ArtifactStore, Preparation
from qbench.run.workers.environments import BuiltEnvironment
from qbench.run.workers.isolate import Interpreter
from qbench.spec.case import Case, Status
from qbench.spec.judging import Judging
from qbench.spec.models import ModelCard
from qbench.spec.suite import Suite
from qbench.storage import digest_json

TRIAL_OVERHEAD_S = 0.35
GPU_OVERHEAD_S = 3.0
YARDSTICK_ROUNDS = 3
"""A ceiling is the best of all trials: few suffice."""
YARDSTICK_S = 0.3
"""Upper bound of a yardstick's timed window: its calls take milliseconds."""
PREPARE_GUESS_S = 2.0
COMPILE_GUESS_S = 15.0
EVALUATE_GUESS_S = 1.0
"""Guesses for the estimate of a run's length. Those on the processor are from runs of the suite
``quick``, and from compilers that try out kernels for a small network. On a GPU, where every
process loads gigabytes of libraries and creates a context, nothing has been measured yet."""


@dataclass(frozen=True)
class Planned:
    """A case in a plan.

    Attributes:
        skip: why it cannot run here; None if it can.
        failure: why its model or environment is not available (a conversion that failed); None if
            it is.
        failure_status: of the case that has a failure.
        log: the last lines of the worker that failed.
        preparation: how its artifact is made; None if it cannot run.
        evaluation: the items to evaluate it on; None if it cannot run.
        gpu: facts of the GPU that it runs on (``Ready.devices``); None on the processor.
    """

    case: Case
    skip: str | None = None
    failure: str | None = None
    failure_status: Status = "prepare_failed"
    log: str = ""
    preparation: Preparation | None = None
    evaluation: Items | None = None
    gpu: Mapping[str, Any] | None = None

    @property
    def refused(self) -> Status | None:
        """The status of a case that cannot run; None if it can."""
        if self.failure is not None:
            return self.failure_status
        return None if self.skip is None else "skipped"

    @cached_property
    def evaluation_id(self) -> str | None:
        """Stands for all that decides outputs: artifact, data, device, batch and hints; None if
        the case cannot run."""
        if self.preparation is None or self.evaluation is None:
            return None
        case = self.case
        inputs = [self.preparation.key, self.evaluation.digest]
        settings = [case.device, case.environment, case.batch_size, case.hints]
        return digest_json([inputs, settings])[:12]


class RoundBounds(NamedTuple):
    """The minimum and the maximum number of rounds; equal where the suite fixes the number."""

    least: int
    most: int


@dataclass(frozen=True)
class Plan:
    """All decisions about a run before it begins.

    Attributes:
        cards: by model.
        judging: rules to judge outputs by, by model.
        data: the data set of the evaluation, by model; None for random inputs.
        origins: licence and source of model and data, by model.
        references: candidates for the float32 reference of fidelity and accuracy deltas, by model:
            those on the CPU first, in the order of the suite's backends. The first whose evaluation
            succeeds is the reference; it is evaluated even where filters leave it unmeasured.
        yardsticks: networks measured in addition to the cases, to find what the machine can reach.
        environments: the suite's, without the default one, by name.
    """

    suite: Suite
    cases: tuple[Planned, ...]
    cards: Mapping[str, ModelCard]
    judging: Mapping[str, Judging] = field(default_factory=dict)
    data: Mapping[str, Data | None] = field(default_factory=dict)
    origins: Mapping[str, Origins] = field(default_factory=dict)
    references: Mapping[str, tuple[Planned, ...]] = field(default_factory=dict)
    yardsticks: tuple[Planned, ...] = ()
    environments: Mapping[str, BuiltEnvironment] = field(default_factory=dict)

    @property
    def runnable(self) -> list[Planned]:
        return [planned for planned in self.cases if planned.preparation is not None]

    def interpreter(self, case: Case) -> Interpreter | None:
        """The Python of the case's workers; None for the one that qbench runs in."""
        environment = self.environments.get(case.environment)
        return environment.interpreter if environment else None

    def rounds(self, planned: Planned) -> RoundBounds:
        """How often a case, or a yardstick, is measured."""
        rounds = self.suite.rounds
        least, most = (rounds, rounds) if isinstance(rounds, int) else (rounds.least, rounds.most)
        own = planned.case.scenario_options["rounds"]
        if planned in self.yardsticks:
            own = YARDSTICK_ROUNDS
        most = most if own is None else min(most, own)
        return RoundBounds(min(least, most), most)

    def evaluations(self) -> dict[str, Planned]:
        """The cases to evaluate, by evaluation id: the runnable ones, the yardsticks, and each
        model's first candidate for the reference."""
        first = [planned[0] for planned in self.references.values()]
        wanted = [*first, *self.runnable, *self.yardsticks]
        return {str(planned.evaluation_id): planned for planned in wanted}

    def preparations(self) -> list[Preparation]:
        """The artifacts to make; bases first."""
        wanted = [p.preparation for p in self.evaluations().values() if p.preparation]
        chains = [preparation.chain for preparation in wanted]
        each = {preparation.key: preparation for chain in chains for preparation in chain}
        return sorted(each.values(), key=lambda preparation: len(preparation.chain))

    def estimate_minutes(self, store: ArtifactStore) -> float:
        """A rough estimate of the run's length, mostly of its timed loops, with the minimum number
        of rounds."""
        suite = self.suite
        evaluations = self.evaluations()
        missing = [prep for prep in self.preparations() if store.find(prep) is None]
        compiled = sum(prep.compilation is not None for prep in missing)

        def trial_s(planned: Planned, timed_s: float) -> float:
            overhead_s = GPU_OVERHEAD_S if planned.gpu else TRIAL_OVERHEAD_S
            return overhead_s + suite.cool_down_s + suite.warmup_s + timed_s

        measuring = sum(
            self.rounds(p).least * trial_s(p, max(suite.timed_s, p.case.longest_s))
            for p in self.runnable
        )
        measuring += YARDSTICK_ROUNDS * sum(trial_s(p, YARDSTICK_S) for p in self.yardsticks)
        if (energy := suite.energy) is not None:
            once = sum(trial_s(p, energy.window_s) for p in self.runnable)
            measuring += energy.idle_s + energy.windows * once
        before = (len(missing) - compiled) * PREPARE_GUESS_S + len(evaluations) * EVALUATE_GUESS_S
        return (measuring + compiled * COMPILE_GUESS_S + before / usable_cores()) / 60

    def estimate_disk_mb(self) -> float:
        """A rough upper bound of the artifacts' size in the cache, MB of 1e6 bytes."""
        return sum(p.model.bytes for p in self.preparations()) / 1e6

    def to_json(self) -> dict[str, Any]:
        """``plan.json``: the requests and decisions, without paths of this machine."""
        return {
            "cases": [_planned_json(p) for p in self.cases],
            "yardsticks": [_planned_json(p) for p in self.yardsticks],
            "models": {name: how.model_dump(mode="json") for name, how in self.judging.items()},
            "data": {n: data and data.model_dump(mode="json") for n, data in self.data.items()},
            "origins": {n: both.model_dump(mode="json") for n, both in self.origins.items()},
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
        "failure_status": planned.failure_status if planned.failure else None,
        "log": planned.log,
        "artifact_key": prep.key if prep else None,
        "evaluation_id": planned.evaluation_id,
        "source_format": prep.model.format if prep else None,
        "model_digest": prep.model.digest if prep else None,
        "source_bytes": prep.model.bytes if prep else None,
        "conversion": prep.model.conversion if prep else None,
        "calibration_items": prep.calibration_items if prep else None,
        "dataset_digest": planned.evaluation.digest if planned.evaluation else None,
        "input_shapes": {n: list(s.shape) for n, s in prep.model.inputs.items()} if prep else None,
        "cached_items": _folder(planned.evaluation) if planned.evaluation else None,
        "gpu": place(planned.gpu) if planned.gpu else None,
    }


def _folder(items: Items) -> str:
    """The name of the items' folder in the cache of data."""
    return next(iter(items.feeds.values())).parent.name
