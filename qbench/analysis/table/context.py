"""Inputs of the case table: a bundle's records, read once, and statistics of its trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from qbench.analysis.table import roofline
from qbench.analysis.table.roofline import Ceilings
from qbench.analysis.table.trials import Trials
from qbench.bundle.bundle import Bundle
from qbench.bundle.records.run import Entry, Evaluated, Trial
from qbench.bundle.trials import PERCENTILES, percentile_name
from qbench.spec.precisions import REFERENCE
from qbench.spec.suite import DEFAULT_ENVIRONMENT, Rounds

MS = 1e-6
"""Milliseconds in a nanosecond."""


class Context:
    """A bundle's records, read once, and statistics of the trials of all cases.

    Args:
        journal: whether to read the journal.
    """

    def __init__(self, bundle: Bundle, trials: pd.DataFrame, journal: bool) -> None:
        self.bundle = bundle
        self.prepared = bundle.prepared
        self.evaluated = bundle.evaluated
        self.models = bundle.plan.models
        self.data = bundle.plan.data
        self.reference_backends = {
            name: _reference_backend(entries, self.evaluated)
            for name, entries in bundle.plan.references.items()
        }
        self.outcomes: dict[str, list[tuple[str, str]]] = {}
        """Status and reason of each trial, by case."""
        outcomes = trials[["case_id", "status", "reason"]].to_numpy(object).tolist()
        for case_id, status, reason in outcomes:
            self.outcomes.setdefault(case_id, []).append((status, reason))
        self.trials = Trials(trials)
        figures = [*map(percentile_name, PERCENTILES), "steady", "throughput"]
        self.estimates = {name: self.trials.estimates(name) for name in figures}
        self.medians = self.trials.medians(_resources(self.trials.columns))
        self.ceilings = Ceilings.of(
            [self.run(entry, self.best_ns(entry)) for entry in bundle.plan.yardsticks],
            bundle.bandwidth,
            bundle.begin.host.caches,
        )
        self.cpu_power = bundle.begin.settings.cpu_power
        self.energy = bundle.energy
        rounds = bundle.begin.settings.rounds
        self.target = rounds.target if isinstance(rounds, Rounds) else None
        self.records: dict[str, list[Trial]] | None = {} if journal else None
        """The journal's records of successful trials, by case; None: not read."""
        if self.records is not None:
            for trial in bundle.trials:
                if trial.status == "ok":
                    self.records.setdefault(trial.case_id, []).append(trial)
        self.cases = {entry.case_id: entry.case for entry in bundle.plan.cases}
        self.conditions = {case_id: case.conditions for case_id, case in self.cases.items()}
        self.bases = {
            self.conditions[case_id]: case_id
            for case_id, case in self.cases.items()
            if case.precision == REFERENCE
        }

    def run(self, entry: Entry, p10_ns: float | None) -> roofline.Run:
        """Return a case or a yardstick as input of the roofline."""
        evaluated = self.evaluated.get(entry.evaluation_id or "")
        return roofline.Run.of(entry.case, evaluated and evaluated.effective, p10_ns)

    def best_ns(self, entry: Entry) -> float | None:
        """Return the best trial's p10, for a ceiling: with a disturbed trial, cases would appear to
        exceed it."""
        values = self.trials.figures["steady"][self.trials.of(entry.case_id)]
        return float(values.min()) if len(values) else None

    def base(self, case_id: str) -> str | None:
        """Return the float32 case of the same conditions; None if there is none or it is this."""
        base = self.bases.get(self.conditions[case_id])
        return None if base == case_id else base

    def in_default(self, case_id: str) -> str | None:
        """Return the same case in the default environment; None if there is none or it is this."""
        if self.cases[case_id].environment == DEFAULT_ENVIRONMENT:
            return None
        moved = self.cases[case_id].model_copy(update={"environment": DEFAULT_ENVIRONMENT})
        return moved.case_id if moved.case_id in self.cases else None

    def all_good(self, case_id: str) -> bool:
        """Whether the case has trials, and none of them failed."""
        outcomes = self.outcomes.get(case_id, [])
        return bool(outcomes) and all(status == "ok" for status, _ in outcomes)


def _reference_backend(
    candidates: Sequence[Entry], evaluated: Mapping[str, Evaluated]
) -> str | None:
    """Return the backend of the evaluation that ``Bundle.reference`` chooses."""
    for entry in candidates:
        found = evaluated.get(entry.evaluation_id or "")
        if found is not None and found.status == "ok":
            return entry.case.backend
    return None


def _resources(of: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return start-up times, memory and work, ``[trials]`` each, by the column of the case table
    that is their median."""
    units = {"bytes": ("mb", 1e-6), "ns": ("ms", MS)}
    names = {"start_ns": "process_start_ms", "cold_ns": "cold_start_ms"}
    plain = [
        "start_ns", "import_ns", "load_ns", "first_inference_ns", "cold_ns", "warmup_ns",
        "memory_load_peak_bytes", "memory_load_anonymous_bytes", "memory_load_file_bytes",
        "memory_peak_bytes", "memory_anonymous_bytes", "memory_file_bytes",
        "memory_process_peak_bytes",
    ]  # fmt: skip
    found: dict[str, np.ndarray] = {}
    for column in plain:
        stem, _, unit = column.rpartition("_")
        word, factor = units[unit]
        found[names.get(column, f"{stem}_{word}")] = of[column] * factor
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            **found,
            "io_convert_us": of["bind_ns"] * 1e-3,
            "cpu_utilization": of["cpu_ns"] / of["wall_ns"],
            "instructions_per_inference": of["instructions"] / of["items"],
            "instructions_per_cycle": of["instructions"] / of["cycles"],
            "warmup_calls": of["warmup_calls"],
        }
