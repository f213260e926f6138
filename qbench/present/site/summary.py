"""What the site knows of a run: one small file, for comparisons in the browser and for the next
build, which need not read the bundle again.

The file is a script that hands its data to the page, since a page that was opened from a disk may
load scripts and nothing else. Names from bundles are values in it, never keys.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qbench.analysis.compare.comparable import (
    DIGESTS,
    REQUEST,
    WORK,
    energy_key,
    facts_of,
    is_software,
    spoiled,
)
from qbench.analysis.compare.machines import machine_of
from qbench.analysis.compare.matching import run_keys
from qbench.analysis.history.point import METRICS
from qbench.analysis.history.sources import CASE_FACTS, run_facts
from qbench.analysis.table.trials import FIGURES, Trials
from qbench.bundle.bundle import Bundle
from qbench.present.page.render import harmless, script_json
from qbench.present.page.tables import MAIN
from qbench.present.words.cells import INTERVALS, accuracy_of
from qbench.storage import digest_json, parse_json

_CALL = "qbenchRun("
_SHOWN = [shown.name for shown in MAIN]
_ENDS = [end for name in _SHOWN for end in INTERVALS.get(name, ())]
COLUMNS = tuple(
    dict.fromkeys(
        [
            *("case_id", *WORK, *REQUEST, *DIGESTS, "source_format", "outputs_digest"),
            *("status", "reason", "noisy", "noise_reason", "inconclusive", "half_width"),
            *("loadgen_valid", "flags", "backend_version", "host_id", "energy_method"),
            *("energy_scope", "energy_is_measured", "idle_w"),
            *_SHOWN, *_ENDS, *(metric.column for metric in METRICS.values()), *CASE_FACTS,
        ]
    )
)  # fmt: skip
"""What cases are told apart and compared by, and what pages show: columns of the case table, and
``accuracy_of``."""


@dataclass(frozen=True)
class Summary:
    """A run, as the pages that are of several runs see it.

    Attributes:
        run_id: the bundle's; its page is called by ``names.file_stem`` of it.
        suite, started, qbench: what ran, when (ISO 8601), and with which version.
        machine, name, chip: ``host_id``, the machine's name, and its processor.
        complete: whether the run came to its end.
        valid: False if ``qbench gate`` found the run broken as a whole.
        confirms: the run whose findings it measures again; None for most.
        headline: what its page says is the fastest.
        counts: how many cases have which status.
        facts: fields that two runs are compared on: name, value as text, the claims that a
            difference speaks against, and whether it is of software.
        history_facts: what may explain a change from one night to the next, as text by name.
        cases: rows of the case table, with ``COLUMNS``.
        keys: of each case, digests of ``matching.run_keys``, and of ``comparable.energy_key``.
        moments: of each case, by figure of ``FIGURES``: how many trials, and mean and variance of
            their logarithms; None where a trial does not have the figure.
    """

    run_id: str
    suite: str
    started: str
    qbench: str
    machine: str
    name: str
    chip: str
    complete: bool
    valid: bool
    confirms: str | None
    headline: str
    counts: list[tuple[str, int]]
    facts: list[tuple[str, str, list[str], bool]]
    history_facts: dict[str, str]
    cases: list[dict[str, Any]]
    keys: list[list[str | None]]
    energy_keys: list[str | None]
    moments: list[list[tuple[int, float, float | None] | None]]

    @property
    def is_night(self) -> bool:
        """Whether it counts where runs are put in a row: as ``qbench history`` has it."""
        return self.complete and self.valid and not self.confirms


def summarize(
    bundle: Bundle, rows: Sequence[Mapping[str, Any]], content: Mapping[str, Any], valid: bool
) -> Summary:
    """
    Args:
        rows: the bundle's case table.
        content: its page's (``report.content.page_content``).
        valid: as ``Summary`` has it.
    """
    begin = bundle.begin
    machine = machine_of(bundle)
    cases = [{name: row.get(name) for name in COLUMNS} for row in rows]
    for case in cases:
        data = bundle.plan["data"][case["model"]] or {"part_of": None}
        if case["accuracy"] is not None:
            case["accuracy_of"] = accuracy_of(case["accuracy_items"], data["part_of"])
    return Summary(
        run_id=bundle.run_id,
        suite=str(begin["suite"]),
        started=str(begin["started"]),
        qbench=str(begin["software"].get("qbench") or ""),
        machine=machine.key,
        name=machine.name,
        chip=machine.chip,
        complete=bundle.complete,
        valid=valid,
        confirms=begin.get("confirms"),
        headline=content["answer"][1],
        counts=content["counts"],
        facts=[
            (name, str(value), list(spoiled(name)), is_software(name))
            for name, value in facts_of(bundle).items()
        ],
        history_facts=run_facts(begin),
        cases=cases,
        keys=[[_digest(key(row)) for key in run_keys()] for row in rows],
        energy_keys=[_digest(energy_key(row)) for row in rows],
        moments=_moments(bundle, rows),
    )


def _digest(key: Any) -> str | None:
    return None if key is None else digest_json(repr(key))[:16]


def _moments(
    bundle: Bundle, rows: Sequence[Mapping[str, Any]]
) -> list[list[tuple[int, float, float | None] | None]]:
    trials = Trials(bundle.trials_frame())
    measured = [row["case_id"] for row in rows if row["case_id"] in trials.cases]
    if not measured:
        return [[None] * len(FIGURES) for _ in rows]
    found: dict[str, list[Any]] = {case: [] for case in measured}
    for figure in FIGURES:
        for case, size, mean, variance in zip(
            measured, *(part.tolist() for part in trials.moments(figure, measured)), strict=True
        ):
            known = None if math.isnan(variance) else variance  # of a single trial
            found[case].append(None if np.isnan(mean) else (int(size), mean, known))
    return [found.get(row["case_id"], [None] * len(FIGURES)) for row in rows]


# --------------------------------------------------------------------------- as a file


def packed(summary: Summary) -> str:
    """A script that calls ``qbenchRun`` with the summary; ``unpacked`` reads it."""
    content = dict(vars(summary))
    content["history_facts"] = list(summary.history_facts.items())
    content["cases"] = [[case[name] for name in COLUMNS] for case in summary.cases]
    return f"{_CALL}{script_json(harmless({'columns': COLUMNS, **content}))});\n"


def unpacked(content: bytes) -> Summary:
    """
    Args:
        content: what ``packed`` gave, unchanged.
    """
    text = content.decode().strip()
    fields = parse_json(text.removeprefix(_CALL).removesuffix(");"))
    columns = fields.pop("columns")
    cases = [dict(zip(columns, case, strict=True)) for case in fields.pop("cases")]
    facts = dict(fields.pop("history_facts"))
    return Summary(**fields, cases=cases, history_facts=facts)
