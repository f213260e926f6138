"""A case, the unit of a run; filters of cases; the status of a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from qbench.errors import check_known
from qbench.kit.model import PrepareTarget, RunConfig
from qbench.spec.precisions import variant
from qbench.spec.scenarios import SCENARIOS, longest_s
from qbench.spec.scenarios import complete_options as complete_scenario
from qbench.spec.suite import DEFAULT_ENVIRONMENT, PositiveInt, Suite
from qbench.storage import digest_json

Status = Literal[
    "ok", "skipped", "prepare_failed", "wrong_output", "error", "crashed", "timeout", "oom"
]
"""``wrong_output``: it ran, and its outputs have nothing to do with float32's, or another program
ran than was asked for; see ``qbench.analysis.quality.plausible``."""


class Case(BaseModel):
    """One configuration to measure, without versions, so that runs of different nights compare.

    Attributes:
        precision, options: the scheme with all its options.
        recipe: ``best``: the backend's own best path to the precision; ``shared``: from the one
            quantized model that all backends are given.
        scenario_options: all options of the scenario.
        streams: simultaneous inferences; 1 unless the scenario has several.
        hints: settings for the runtime, from the suite's overrides.
        input_shapes: the inputs' shapes by name, where they are not the model card's own; the
            batch is called ``N``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    backend: str
    environment: str = DEFAULT_ENVIRONMENT
    precision: str
    options: dict[str, Any] = {}
    recipe: str = "best"
    device: str = "cpu"
    scenario: str = "single-stream"
    scenario_options: dict[str, Any] = complete_scenario("single-stream", {})
    batch_size: PositiveInt = 1
    threads: PositiveInt = 1
    streams: PositiveInt = 1
    hints: dict[str, Any] = {}
    input_shapes: dict[str, list[PositiveInt | str]] = {}

    @property  # not cached: a changed copy would keep it
    def case_id(self) -> str:
        """12 hexadecimal digits of the case's SHA-256. Fields newer than the first bundles count
        only if they are set."""
        unset = {"input_shapes"} if not self.input_shapes else set[str]()
        return digest_json(self.model_dump(mode="json", exclude=unset))[:12]

    @property
    def variant(self) -> str:
        return variant(self.precision, self.options)

    @property
    def scenario_variant(self) -> str:
        """The scenario's options that differ from their defaults, short."""
        fields = SCENARIOS[self.scenario].options.model_fields
        changed = {
            name: value
            for name, value in self.scenario_options.items()
            if name != "rounds" and value != fields[name].default
        }
        return ",".join(f"{name}={value}" for name, value in changed.items())

    @property
    def longest_s(self) -> float:
        """Time that the scenario adds to a trial, in addition to the suite's ``timed_s``."""
        return longest_s(self.scenario, self.scenario_options)

    @property
    def conditions(self) -> tuple[Any, ...]:
        """Equal for cases that may be compared for a speed-up: model, backend and run settings,
        without the precision, its options and recipe."""
        return (self.environment, *self.work)

    @property
    def work(self) -> tuple[Any, ...]:
        """``conditions`` without the environment."""
        return (
            self.model,
            self.backend,
            self.device,
            self.scenario,
            self.scenario_variant,
            self.batch_size,
            self.threads,
            self.streams,
        )

    @property
    def label(self) -> str:
        """A short name for progress and messages."""
        parts = [self.model, self.backend, self.precision]
        parts += [self.environment] if self.environment != DEFAULT_ENVIRONMENT else []
        parts += [self.device] if self.device != "cpu" else []
        parts += [self.variant] if self.variant else []
        parts += [self.recipe] if self.recipe != "best" else []
        parts += [self.scenario] if self.scenario != "single-stream" else []
        parts += [self.scenario_variant] if self.scenario_variant else []
        parts += [f"b{self.batch_size}"] if self.batch_size != 1 else []
        parts += [f"t{self.threads}"] if self.threads != 1 else []
        parts += [f"s{self.streams}"] if self.streams != 1 else []
        return " ".join(parts)

    def target(self) -> PrepareTarget:
        kind = self.device.partition(":")[0]  # an artifact fits a class of devices
        return PrepareTarget(self.precision, self.options, kind, self.recipe)

    def config(self) -> RunConfig:
        return RunConfig(self.device, self.threads, self.streams, self.batch_size, self.hints)


@dataclass(frozen=True)
class Filters:
    """A choice of a suite's cases: those that match every non-empty list.

    Attributes:
        cases: case ids.
    """

    models: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()

    def check(self, suite: Suite) -> None:
        """
        Raises:
            UserError: the suite lacks a name.
        """
        for given, known, what in (
            (self.models, suite.models, "model"),
            (self.backends, suite.backends, "backend"),
            (self.precisions, [p.name for p in suite.precisions], "precision"),
            (self.devices, sorted(suite.all_of("devices")), "device"),
        ):
            for name in given:
                check_known(name, known, f"suite {suite.name} has no {what} '{name}'")

    def admit(self, case: Case) -> bool:
        return all(
            not names or value in names
            for names, value in (
                (self.models, case.model),
                (self.backends, case.backend),
                (self.precisions, case.precision),
                (self.cases, case.case_id),
                (self.devices, case.device),
            )
        )


EVERY_CASE = Filters()
"""Filters that admit every case."""
