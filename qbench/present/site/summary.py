"""The summary of a run: one small file, for comparisons in the browser and for the next build,
which does not need to read the bundle again.

The file is a script that passes its data to the page, since a page that was opened from disk may
load scripts only. Names from bundles are values in it, never keys.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
from qbench.analysis.history.sources import CASE_FACTS, case_label, run_facts
from qbench.analysis.table.trials import FIGURES, Trials
from qbench.bundle.bundle import Bundle
from qbench.present.page.render import harmless, script_json
from qbench.present.page.tables import MAIN
from qbench.present.words.cells import INTERVALS, accuracy_of
from qbench.present.words.named import PageCase
from qbench.spec.columns import CaseRow
from qbench.storage import digest_json, parse_json

_CALL = "qbenchRun("
FIRST_RUN = "A"
"""Letter of a single run on its page, in the anchors of its cases."""
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
"""Columns that identify cases, that they are compared by, and that pages show; including
``accuracy_of``."""


@dataclass(frozen=True)
class Summary:
    """A run, as needed by pages about several runs.

    Attributes:
        run_id: the bundle's; ``names.file_stem`` makes the name of its page.
        suite, started, qbench: the suite, the start (ISO 8601), and the version.
        machine, name, chip: ``host_id``, the machine's name, and its processor.
        complete: whether the run finished.
        valid: False if ``qbench gate`` found the run invalid.
        confirms: the run whose findings it measures again; None for most.
        headline: the sentence on the fastest case.
        counts: statuses with their numbers of cases.
        facts: fields that two runs are compared on: name, value as text, the claims that a
            difference rules out, and whether it belongs to the software.
        history_facts: facts that may explain a change between runs, as text by name.
        cases: only ``COLUMNS`` are kept; the others are None.
        keys, energy_keys: for each case, digests of ``matching.run_keys`` and of
            ``comparable.energy_key``.
        moments: for each case and figure of ``FIGURES``: number of trials, and mean and variance
            of their logarithms; None if a trial does not have the figure.
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
    cases: list[PageCase]
    keys: list[list[str | None]]
    energy_keys: list[str | None]
    moments: list[list[tuple[int, float, float | None] | None]]

    @property
    def is_night(self) -> bool:
        """Whether it is part of trends, by the rule of ``qbench history``."""
        return self.complete and self.valid and not self.confirms


def summarize(
    bundle: Bundle, rows: Sequence[CaseRow], content: Mapping[str, Any], valid: bool
) -> Summary:
    """
    Args:
        rows: the bundle's case table.
        content: of its page (``report.content.page_content``).
        valid: see ``Summary``.
    """
    begin = bundle.begin
    machine = machine_of(bundle)
    cases = []
    for row in rows:
        data = bundle.plan.data[row.model]
        known = row.accuracy is not None
        items = accuracy_of(row.accuracy_items, data and data.part_of) if known else None
        values = {name: getattr(row, name) for name in COLUMNS if name != "accuracy_of"}
        cases.append(_case({**values, "accuracy_of": items}, bundle.run_id))
    return Summary(
        run_id=bundle.run_id,
        suite=begin.suite,
        started=begin.started,
        qbench=begin.software.get("qbench") or "",
        machine=machine.key,
        name=machine.name,
        chip=machine.chip,
        complete=bundle.complete,
        valid=valid,
        confirms=begin.confirms,
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


def _case(values: Mapping[str, Any], run_id: str) -> PageCase:
    """A case of ``COLUMNS``, named as on the site's own pages."""
    unnamed = dict.fromkeys(("kind", "condition", "name", "label", "doubt", "verdict"), "")
    anchor = f"case-{FIRST_RUN}-{values['case_id']}"
    case = PageCase(**values, run_id=run_id, run=FIRST_RUN, anchor=anchor, texts={}, **unnamed)
    return replace(case, label=case_label(case))


def _digest(key: Any) -> str | None:
    return None if key is None else digest_json(repr(key))[:16]


def _moments(
    bundle: Bundle, rows: Sequence[CaseRow]
) -> list[list[tuple[int, float, float | None] | None]]:
    trials = Trials(bundle.trials_frame())
    measured = [row.case_id for row in rows if row.case_id in trials.cases]
    if not measured:
        return [[None] * len(FIGURES) for _ in rows]
    found: dict[str, list[Any]] = {case: [] for case in measured}
    for figure in FIGURES:
        for case, size, mean, variance in zip(
            measured, *(part.tolist() for part in trials.moments(figure, measured)), strict=True
        ):
            known = None if math.isnan(variance) else variance  # of a single trial
            found[case].append(None if np.isnan(mean) else (int(size), mean, known))
    return [found.get(row.case_id, [None] * len(FIGURES)) for row in rows]


# --------------------------------------------------------------------------- as a file


def packed(summary: Summary) -> str:
    """A script that calls ``qbenchRun`` with the summary; ``unpacked`` reads it."""
    content = dict(vars(summary))
    content["history_facts"] = list(summary.history_facts.items())
    content["cases"] = [[getattr(case, name) for name in COLUMNS] for case in summary.cases]
    return f"{_CALL}{script_json(harmless({'columns': COLUMNS, **content}))});\n"


def unpacked(content: bytes) -> Summary:
    """
    Args:
        content: the unchanged result of ``packed``.
    """
    text = content.decode().strip()
    fields = parse_json(text.removeprefix(_CALL).removesuffix(");"))
    columns = fields.pop("columns")
    rows = [dict(zip(columns, case, strict=True)) for case in fields.pop("cases")]
    cases = [_case(row, fields["run_id"]) for row in rows]
    facts = dict(fields.pop("history_facts"))
    return Summary(**fields, cases=cases, history_facts=facts)
