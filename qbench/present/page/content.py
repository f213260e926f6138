"""The content of a page: plain values for the template and the charts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from qbench.analysis.table.table import WORST_FIRST
from qbench.bundle.bundle import Bundle
from qbench.present.page import about, charts, machine, machines, profile, recommend, tables
from qbench.present.page.answer import answer
from qbench.present.page.details import case_details, glossary
from qbench.present.page.energy import energy_reasons
from qbench.present.page.missing import exclusions, not_measured
from qbench.present.page.options import PLAIN, Options
from qbench.present.words.named import CONDITIONS, PageCase, named_cases, varying_conditions
from qbench.present.words.ranking import Verdict, sentence, verdicts
from qbench.present.words.run import Run, lettered


def page_content(bundles: Sequence[Bundle], options: Options = PLAIN) -> dict[str, Any]:
    """Values for the template; ``charts`` holds the data for the page's script."""
    return content_of(lettered(bundles), options)


def content_of(runs: Sequence[Run], options: Options = PLAIN) -> dict[str, Any]:
    """``page_content`` for runs that were already read."""
    bundles = [run.bundle for run in runs]
    cases = named_cases(runs)
    conditions = varying_conditions(CONDITIONS, cases)
    suites = sorted({run.bundle.begin.suite for run in runs})
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
        "disturbed": sum(bool(case.noisy) for case in cases),
        "inconclusive": sum(bool(case.inconclusive) for case in cases),
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
    """Ids and titles of the page's sections."""
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
    return [(name, title) for name, title, shown in sections if shown]


def _publishing(options: Options) -> dict[str, Any] | None:
    """Findings of the publication check; None if it was not asked for."""
    found = options.publish
    if found is None:
        return None
    return {
        "open": [asdict(finding) for finding in found.open],
        "waived": [asdict(finding) for finding in found.waived],
    }


def _counts(cases: Sequence[PageCase]) -> list[tuple[str, int]]:
    counts = Counter(str(case.status) for case in cases)
    order = ["ok", "open", "skipped", *WORST_FIRST]
    return sorted(counts.items(), key=lambda pair: order.index(pair[0]))


def _verdicts(run: Run, cases: Sequence[PageCase], with_run: bool) -> list[Verdict]:
    """Verdicts on the cases of a run, labelled without the run and the condition: the page shows
    these before the verdict."""
    prefix = f"{run.letter} " if with_run else ""
    own = [case for case in cases if case.run == run.letter]
    return verdicts([replace(case, label=case.name.removeprefix(prefix)) for case in own])
