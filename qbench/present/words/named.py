"""Cases as pages name and show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from qbench.present.words import cells, traces
from qbench.present.words.effective import effective_columns
from qbench.present.words.run import Run
from qbench.spec.case import Case
from qbench.spec.columns import CaseRow, as_dict

CALLS = ("scenario", "scenario_options", "batch_size", "threads", "streams")
CONDITIONS = ("environment", "recipe", "device", *CALLS)
"""Part of a case's name where they differ between cases."""
NUMBERS = (
    "latency_p50_ms", "latency_p50_low_ms", "latency_p50_high_ms", "latency_p99_ms",
    "accuracy", "accuracy_low", "accuracy_high", "sqnr_db",
    "speedup", "speedup_low", "speedup_high",
    "memory_load_peak_mb", "memory_peak_mb", "artifact_size_mb",
    "process_start_ms", "import_ms", "load_ms", "first_inference_ms",
    "throughput_ips", "e2e_p50_ms", "fps", "sustained_ratio",
)  # fmt: skip
"""Columns of which ``PageCase.texts`` holds the text, if they have a value."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PageCase(CaseRow):
    """A row of the case table, with its names on the page and figures from other records.

    Attributes:
        run: letter of the run.
        kind: precision with its variant, environment, recipe and device where these differ between
            cases.
        condition: scenario, batch size, threads and streams where these differ between cases.
        name: run, backend and ``kind``.
        label: ``name`` and ``condition``.
        anchor: id of its details on the page.
        doubt: why its figures should not be relied on; "" if nothing is known.
        verdict: ``doubt``, or that there is none.
        texts: figures for charts, with unit and interval, by column.
        suspicious: why its place above the roofline needs an explanation.
        accuracy_of, frames, late, dropped, deadline_ms, inference_ms, loadgen_verdict,
        loadgen_reason, work, runtime_notes: see ``cells.ALL_COLUMNS``.
    """

    run: str
    kind: str
    condition: str
    name: str
    label: str
    anchor: str
    doubt: str
    verdict: str
    texts: Mapping[str, str]
    suspicious: str | None = None
    accuracy_of: str | None = None
    frames: int | None = None
    late: int | None = None
    dropped: int | None = None
    deadline_ms: float | None = None
    inference_ms: float | None = None
    loadgen_verdict: str | None = None
    loadgen_reason: str | None = None
    work: str | None = None
    runtime_notes: str | None = None


class _PictureCase(dict[str, Any]):
    """A dict whose items are attributes as well, so that functions of ``CaseRow`` accept it."""

    __getattr__ = dict.__getitem__


def picture_case(case: PageCase, charted: Mapping[str, Any]) -> dict[str, Any]:
    """The dict that pictures are drawn from: a case, and its data for charts."""
    own = {field.name: getattr(case, field.name) for field in fields(case)}
    return _PictureCase({**charted, **own})


def named_cases(runs: Sequence[Run]) -> list[PageCase]:
    """The cases of all runs, each named so that it is distinguished from the others."""
    rows = [(run, row) for run in runs for row in run.cases]
    conditions = varying_conditions(CONDITIONS, [row for _, row in rows])
    of_kind = [name for name in conditions if name not in CALLS]
    of_calls = [name for name in conditions if name in CALLS]
    effective: dict[str, dict[str, dict[str, Any]]] = {
        run.letter: {**effective_columns(run)} for run in runs
    }
    cases = []
    for run, row in rows:
        more: dict[str, Any] = {
            **_from_records(run, row),
            **effective[run.letter].get(row.case_id, {}),
        }
        kind = f"{with_variant(row)} {conditions_text(row, of_kind)}".rstrip()
        condition = conditions_text(row, of_calls)
        name = f"{run.letter} " if len(runs) > 1 else ""
        name += f"{row.backend} {kind}"
        doubt = doubt_of(row)
        case = PageCase(
            **as_dict(replace(row, status=row.status or "open")),
            run=run.letter,
            kind=kind,
            condition=condition,
            name=name,
            label=f"{name} {condition}".strip(),
            anchor=f"case-{run.letter}-{row.case_id}",
            doubt=doubt,
            verdict=doubt or "no doubts",
            texts={},
            **more,
        )
        cases.append(replace(case, texts=cells.texts(case, NUMBERS)))
    return cases


def _from_records(run: Run, row: CaseRow) -> dict[str, Any]:
    """Attributes of ``PageCase`` that come from other records than the case table."""
    trials = run.trials.get(row.case_id, [])
    found: dict[str, Any] = {}
    data = run.bundle.plan.data[row.model]
    if row.accuracy is not None:
        found["accuracy_of"] = cells.accuracy_of(row.accuracy_items, data and data.part_of)
    points = (p for p in run.roof["points"] if p["case_id"] == row.case_id)
    found["suspicious"] = next((point["suspicious"] for point in points), None)
    if row.status != "ok" or not trials:
        return found
    if row.scenario == "paced":
        found |= traces.paced(run.bundle, trials).model_dump()
    elif row.scenario == "pipeline":
        found["inference_ms"] = traces.stages_ms(run.bundle, trials)["inference"]
    elif row.scenario.startswith("mlperf"):
        verdict = {True: "valid", False: "not valid", None: "no run"}[row.loadgen_valid]
        reasons = traces.loadgen_reasons(run.bundle, trials)
        found |= {"loadgen_verdict": verdict, "loadgen_reason": "; ".join(reasons)}
    return found


def varying_conditions(names: Sequence[str], cases: Sequence[CaseRow]) -> list[str]:
    """The conditions that differ between cases, other than those that follow from the scenario."""
    scenarios = {case.scenario for case in cases}

    def differs(name: str) -> bool:
        if name == "scenario":
            return len(scenarios) > 1
        return len({(case.scenario, getattr(case, name)) for case in cases}) > len(scenarios)

    return [name for name in names if differs(name)]


def conditions_text(case: CaseRow, conditions: Sequence[str]) -> str:
    """``offline, batch 4, streams 2``."""
    bare = ("scenario", "scenario_options")
    return ", ".join(
        str(value) if name in bare else f"{name.removesuffix('_size')} {value}"
        for name in conditions
        if (value := getattr(case, name)) is not None
    )


def with_variant(case: CaseRow | Case) -> str:
    """``int8-static [per_channel=False]``."""
    return f"{case.precision} [{case.variant}]" if case.variant else case.precision


def doubt_of(case: CaseRow) -> str:
    """Why the figures of a case should not be relied on; "" if they can be."""
    reasons = [f"noisy: {case.noise_reason}"] if case.noisy else []
    if case.inconclusive:
        width = case.half_width
        known = "" if width is None else f": known to ±{100 * width:.1f} %"
        reasons.append(f"inconclusive{known}")
    return "; ".join(reasons)
