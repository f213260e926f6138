"""A run of a page: its bundle, read once, with its case table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, count
from string import ascii_uppercase
from typing import Any

from qbench.analysis.table import roofline
from qbench.analysis.table.roofline import Ceilings
from qbench.analysis.table.table import case_rows, ceilings
from qbench.bundle.bundle import Bundle
from qbench.bundle.records.run import Evaluated, Trial
from qbench.spec.case import Case
from qbench.spec.columns import CaseRow


@dataclass(frozen=True)
class Run:
    """A bundle and its letter on the page."""

    letter: str
    bundle: Bundle

    @cached_property
    def cases(self) -> list[CaseRow]:
        """The rows of its case table."""
        return case_rows(self.bundle, self.bundle.trials_frame())

    @cached_property
    def journal(self) -> list[Trial]:
        """All trials in chronological order."""
        return self.bundle.trials

    @cached_property
    def evaluated(self) -> dict[str, Evaluated]:
        """The last record of each evaluation, by its id."""
        return self.bundle.evaluated

    @cached_property
    def trials(self) -> dict[str, list[Trial]]:
        """The successful trials of each case, in chronological order."""
        found: dict[str, list[Trial]] = {}
        for trial in self.journal:
            if trial.status == "ok":
                found.setdefault(trial.case_id, []).append(trial)
        return found

    @cached_property
    def requests(self) -> dict[str, Case]:
        """The cases of the plan by their ids."""
        return {entry.case_id: entry.case for entry in self.bundle.plan.cases}

    @cached_property
    def _ceilings(self) -> Ceilings:
        return ceilings(self.bundle)

    @cached_property
    def roof(self) -> dict[str, list[dict[str, Any]]]:
        """Cases under their machine's ceilings; see ``roofline_chart``."""
        p10_ms = {case.case_id: case.latency_p10_ms for case in self.cases}
        runs = {}
        for entry in self.bundle.plan.cases:
            if entry.case.scenario == "single-stream":
                evaluated = self.evaluated.get(entry.evaluation_id or "")
                took = p10_ms[entry.case_id]
                p10_ns = None if took is None else 1e6 * took
                effective = evaluated and evaluated.effective
                runs[entry.case_id] = roofline.Run.of(entry.case, effective, p10_ns)
        return roofline.roofline_chart(runs, self._ceilings)

    @property
    def floors(self) -> list[dict[str, Any]]:
        """The cost of a call on an empty network: ``backend``, ``environment``, ``device``,
        ``threads``, ``us``."""
        return [
            {
                "backend": backend,
                "environment": environment,
                "device": device,
                "threads": threads,
                "us": ns * 1e-3,
            }
            for (backend, environment, device, threads), ns in sorted(self._ceilings.floors.items())
        ]


def lettered(bundles: Sequence[Bundle]) -> list[Run]:
    """Runs A, B, C, ..."""
    letters = chain(ascii_uppercase, map(str, count(27)))
    return list(map(Run, letters, bundles))
