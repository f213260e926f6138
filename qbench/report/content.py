"""What the page says: plain values taken from bundles, for the template and the charts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from qbench.analysis.table.table import WORST_FIRST
from qbench.bundle.bundle import Bundle
from qbench.console.cases import told_conditions
from qbench.report import (
    PLAIN,
    Options,
    about,
    cells,
    charts,
    machine,
    machines,
    profile,
    recommend,
    tables,
    traces,
)
from qbench.report.answer import answer
from qbench.report.details import case_details, glossary
from qbench.report.effective import effective_columns
from qbench.report.energy import energy_reasons
from qbench.report.missing import exclusions, not_measured
from qbench.report.ranking import Verdict, sentence, verdicts
from qbench.report.run import Run, lettered
from qbench.report.sweeps import doubt

CALLS = ("scenario", "scenario_options", "batch_size", "threads", "streams")
CONDITIONS = ("environment", "recipe", "device", *CALLS)
"""Told of a case only where they differ between cases."""


def page_content(bundles: Sequence[Bundle], options: Options = PLAIN) -> dict[str, Any]:
    """All that the template prints, and under ``charts`` what the page's script draws."""
    return content_of(lettered(bundles), options)


def content_of(runs: Sequence[Run], options: Options = PLAIN) -> dict[str, Any]:
    """``page_content`` of runs that have been read."""
    bundles = [run.bundle for run in runs]
    cases = named_cases(runs)
    conditions = told_conditions(CONDITIONS, cases)
    suites = sorted({str(run.bundle.begin["suite"]) for run in runs})
    found = {run.letter: _verdicts(run, cases, len(runs) > 1) for run in runs}
    compared = machines.compared(runs, cases, options)
    side_by_side = machines.section(compared, runs)
    recommended = recommend.recommended(runs, options)
    content = {
        "title": f"qbench: {', '.join(suites)}",
        "publish": _publishing(options),
        "runs": [about.run_facts(run) for run in runs],
        "answer": answer(
            runs,
            cases,
            [verdict for some in found.values() for verdict in some],
            side_by_side["sentences"] if side_by_side else [],
        ),
        "counts": _counts(cases),
        "rankings": [
            {
                "model": f"{letter} {verdict.model}" if len(runs) > 1 else verdict.model,
                "conditions": verdict.conditions,
                "text": sentence(verdict),
            }
            for letter, some in found.items()
            for verdict in some
        ],
        "disturbed": sum(bool(case["noisy"]) for case in cases),
        "inconclusive": sum(bool(case["inconclusive"]) for case in cases),
        "recommend": recommend.section(recommended, runs),
        "machines": side_by_side,
        "table": tables.main_table(cases, conditions, len(runs) > 1),
        "details": tables.detail_tables(cases),
        "case_details": case_details(runs, cases),
        "scenarios": tables.scenario_tables(cases),
        "energy": tables.energy_tables(cases),
        "energy_reasons": energy_reasons(cases),
        "floors": [{"run": run.letter, **floor} for run in runs for floor in run.floors],
        "effective": tables.effective_table(cases),
        "profile": profile.profiles(runs, cases),
        "not_measured": [group for run in runs for group in not_measured(run, cases)],
        "exclusions": [(run.letter, exclusions(run, cases)) for run in runs],
        "noise": tables.noise_table(cases),
        "method": about.method(runs, cases),
        "glossary": glossary(cases),
        "facts": machine.facts(bundles),
        "mlperf": machine.mlperf_fields(bundles),
        "differences": machine.differences([run.letter for run in runs], bundles),
        "charts": {
            **charts.chart_data(runs, cases),
            "profile": profile.bars(runs, cases),
            "costs": machines.chart(compared),
            "recommend": recommend.chart(recommended, runs),
        },
    }
    return {**content, "contents": _contents(content)}


def _contents(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The page's sections, by the id and the title that links to them have."""
    sections = (
        ("answer", "Answer", True),
        ("recommend", "Recommendation", content["recommend"]),
        ("machines", "Machines", content["machines"]),
        ("cases", "Cases", True),
        ("charts", "Charts", content["charts"]["cases"]),
        ("scenarios", "Scenarios", content["scenarios"]),
        ("energy", "Energy", content["energy"]),
        ("roofline", "Roofline", content["charts"]["roofs"] or content["floors"]),
        ("effective", "Effective precision", content["effective"]["rows"]),
        ("profile", "Operator profile", content["profile"]),
        ("missing", "Not measured", True),
        ("noise", "Noise", content["noise"]["rows"]),
        ("method", "Method", True),
        ("machine", "Machine and software", True),
        ("reproduce", "How to reproduce", True),
    )
    return [(name, title) for name, title, there in sections if there]


def _publishing(options: Options) -> dict[str, Any] | None:
    """What is missing before a stranger could believe the page; None where nobody asks."""
    found = options.publish
    if found is None:
        return None
    return {
        "open": [asdict(finding) for finding in found.open],
        "waived": [asdict(finding) for finding in found.waived],
    }


def named_cases(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """The case tables' rows, each with its ``run``, what its trials left, and what it is called
    beside the others: ``kind`` and ``condition``, ``name`` (without the condition), ``label``; and
    the ``texts`` of its figures for charts, with unit and interval."""
    cases = []
    for run in runs:
        effective = effective_columns(run)
        cases += [
            {**case, "run": run.letter, **_left(run, case), **effective.get(case["case_id"], {})}
            for case in run.cases
        ]
    conditions = told_conditions(CONDITIONS, cases)
    for case in cases:
        case["status"] = case["status"] or "open"
        case["kind"] = _kind(case, [name for name in conditions if name not in CALLS])
        case["condition"] = _told(case, [name for name in conditions if name in CALLS])
        prefix = f"{case['run']} " if len(runs) > 1 else ""
        case["name"] = f"{prefix}{case['backend']} {case['kind']}"
        case["label"] = f"{case['name']} {case['condition']}".strip()
        case["anchor"] = f"case-{case['run']}-{case['case_id']}"
        case["texts"] = cells.texts(case, charts.NUMBERS)
    return cases


def _left(run: Run, case: Mapping[str, Any]) -> dict[str, Any]:
    """What only the trials' own records tell of a case: keys of ``tables.SCENARIOS``, ``doubt``,
    ``accuracy_of`` and ``suspicious``."""
    trials = run.trials.get(case["case_id"], [])
    found: dict[str, Any] = {"doubt": doubt(case)}
    data = run.bundle.plan["data"][case["model"]] or {"part_of": None}
    if case["accuracy"] is not None:
        found["accuracy_of"] = cells.accuracy_of(case["accuracy_items"], data["part_of"])
    points = (p for p in run.roof["points"] if p["case_id"] == case["case_id"])
    found["suspicious"] = next((point["suspicious"] for point in points), None)
    if case["status"] != "ok" or not trials:
        return found
    if case["scenario"] == "paced":
        found |= traces.paced(run.bundle, trials).model_dump()
    elif case["scenario"] == "pipeline":
        found["inference_ms"] = traces.stages_ms(run.bundle, trials)["inference"]
    elif case["scenario"].startswith("mlperf"):
        verdict = {True: "valid", False: "not valid", None: "no run"}[case["loadgen_valid"]]
        reasons = traces.loadgen_reasons(run.bundle, trials)
        found |= {"loadgen_verdict": verdict, "loadgen_reason": "; ".join(reasons)}
    return found


def _told(case: Mapping[str, Any], conditions: Sequence[str]) -> str:
    """Such as ``offline, batch 4, streams 2``."""
    bare = ("scenario", "scenario_options")
    return ", ".join(
        str(case[name]) if name in bare else f"{name.removesuffix('_size')} {case[name]}"
        for name in conditions
        if case[name] is not None
    )


def _kind(case: Mapping[str, Any], conditions: Sequence[str]) -> str:
    """What tells a case from the others of its model and backend."""
    parts = [case["precision"]]
    if case["variant"]:
        parts.append(f"[{case['variant']}]")
    return " ".join(str(part) for part in [*parts, _told(case, conditions)] if part)


def _counts(cases: Sequence[Mapping[str, Any]]) -> list[tuple[str, int]]:
    counts = Counter(case["status"] for case in cases)
    order = ["ok", "open", "skipped", *WORST_FIRST]
    return sorted(counts.items(), key=lambda pair: order.index(pair[0]))


def _verdicts(run: Run, cases: Sequence[Mapping[str, Any]], with_run: bool) -> list[Verdict]:
    """On the run's own cases, which go by their names here, without its letter: it and the
    condition are told before."""
    prefix = f"{run.letter} " if with_run else ""
    own = [case for case in cases if case["run"] == run.letter]
    return verdicts([{**case, "label": case["name"].removeprefix(prefix)} for case in own])
