"""What the case table is made of: a bundle's records, read once, and what its trials come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from qbench.analysis.table import roofline
from qbench.analysis.table.roofline import Ceilings
from qbench.analysis.table.trials import Trials
from qbench.bundle.bundle import Bundle
from qbench.bundle.trials import PERCENTILES, percentile_name
from qbench.spec.case import Case
from qbench.spec.precisions import REFERENCE
from qbench.spec.suite import DEFAULT_ENVIRONMENT, Rounds

MS = 1e-6
"""Milliseconds in a nanosecond."""


class Context:
    """The bundle's records, read once, and what trials come to, of all cases at once; ``journal``
    says whether it is read."""

    def __init__(self, bundle: Bundle, trials: pd.DataFrame, journal: bool) -> None:
        self.bundle = bundle
        self.prepared = bundle.prepared
        self.evaluated = bundle.evaluated
        self.models = bundle.plan["models"]
        self.data = bundle.plan["data"]
        self.reference_backends = {
            name: _reference_backend(entries, self.evaluated)
            for name, entries in bundle.plan["references"].items()
        }
        self.outcomes: dict[str, list[tuple[str, str]]] = {}
        """By case, the status and the reason of each trial."""
        outcomes = trials[["case_id", "status", "reason"]].to_numpy(object).tolist()
        for case_id, status, reason in outcomes:
            self.outcomes.setdefault(case_id, []).append((status, reason))
        self.trials = Trials(trials)
        figures = [*map(percentile_name, PERCENTILES), "steady", "throughput"]
        self.estimates = {name: self.trials.estimates(name) for name in figures}
        self.medians = self.trials.medians(_resources(self.trials.columns))
        self.ceilings = Ceilings.of(
            [self.run(entry, self.best_ns(entry)) for entry in bundle.plan["yardsticks"]],
            bundle.bandwidth,
            bundle.begin["host"]["caches"],
        )
        settings = bundle.begin["settings"]
        self.cpu_power = settings.get("cpu_power")
        self.energy = bundle.energy
        rounds = settings["rounds"]
        self.target = None if isinstance(rounds, int) else Rounds(**rounds).target
        self.records: dict[str, list[dict[str, Any]]] | None = {} if journal else None
        """By case, the journal's records of its good trials; None: not read."""
        if self.records is not None:
            for trial in bundle.trials:
                if trial["status"] == "ok":
                    self.records.setdefault(trial["case_id"], []).append(trial)
        entries = bundle.plan["cases"]  # which are checked
        self.cases = {e["case_id"]: Case.model_construct(**e["case"]) for e in entries}
        self.conditions = {case_id: case.conditions for case_id, case in self.cases.items()}
        self.bases = {
            self.conditions[case_id]: case_id
            for case_id, case in self.cases.items()
            if case.precision == REFERENCE
        }

    def run(self, entry: Mapping[str, Any], p10_ns: float | None) -> roofline.Run:
        """A case, or a yardstick, as the roofline sees it."""
        effective = self.evaluated.get(entry["evaluation_id"], {}).get("effective")
        return roofline.Run.of(entry["case"], effective, p10_ns)

    def best_ns(self, entry: Mapping[str, Any]) -> float | None:
        """The best trial's p10: what a ceiling is, since a disturbed one would make honest cases
        look too fast."""
        values = self.trials.figures["steady"][self.trials.of(entry["case_id"])]
        return float(values.min()) if len(values) else None

    def base(self, case_id: str) -> str | None:
        """The float32 case of the same conditions; None if there is none, or it is one."""
        base = self.bases.get(self.conditions[case_id])
        return None if base == case_id else base

    def in_default(self, case_id: str) -> str | None:
        """The same case in the default environment; None if there is none, or it is one."""
        if self.cases[case_id].environment == DEFAULT_ENVIRONMENT:
            return None
        moved = self.cases[case_id].model_copy(update={"environment": DEFAULT_ENVIRONMENT})
        return moved.case_id if moved.case_id in self.cases else None

    def all_good(self, case_id: str) -> bool:
        """Whether the case has trials, and none of them failed."""
        outcomes = self.outcomes.get(case_id, [])
        return bool(outcomes) and all(status == "ok" for status, _ in outcomes)


def _reference_backend(
    candidates: Sequence[Mapping[str, Any]], evaluated: Mapping[str, Mapping[str, Any]]
) -> str | None:
    """The backend of the evaluation that ``Bundle.reference`` names."""
    for entry in candidates:
        if evaluated.get(entry["evaluation_id"], {}).get("status") == "ok":
            return entry["case"]["backend"]
    return None


def _resources(of: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Start-up times, memory and work of each trial, as the columns of which the table has the
    medians."""
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
