"""What the page says: plain values taken from bundles, for the template and the charts."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from qbench import stats
from qbench.analysis.table import WORST_FIRST
from qbench.bundle import Bundle
from qbench.console.cases import told_conditions
from qbench.report import PLAIN, Options, cells, charts, machine, tables, traces
from qbench.report.energy import energy_reasons
from qbench.report.ranking import rankings
from qbench.report.run import Run, lettered
from qbench.report.sweeps import doubt

CALLS = ("scenario", "scenario_options", "batch_size", "threads", "streams")
CONDITIONS = ("environment", "recipe", "device", *CALLS)
"""Told of a case only where they differ between cases."""
LOG_LINES = 20
SUITE_CHARACTERS = 20_000


def page_content(bundles: Sequence[Bundle], options: Options = PLAIN) -> dict[str, Any]:
    """All that the template prints, and under ``charts`` what the page's script draws."""
    runs = lettered(bundles)
    cases = named_cases(runs)
    conditions = told_conditions(CONDITIONS, cases)
    suites = sorted({str(run.bundle.begin["suite"]) for run in runs})
    return {
        "title": f"qbench: {', '.join(suites)}",
        "runs": [_run_facts(run) for run in runs],
        "counts": _counts(cases),
        "rankings": [line for run in runs for line in _run_rankings(run, cases, len(runs) > 1)],
        "table": tables.main_table(cases, conditions, len(runs) > 1),
        "details": tables.detail_tables(cases),
        "disturbed": sum(bool(case["noisy"]) for case in cases),
        "inconclusive": sum(bool(case["inconclusive"]) for case in cases),
        "scenarios": tables.scenario_tables(cases),
        "energy": tables.energy_tables(cases),
        "energy_reasons": energy_reasons(cases),
        "floors": [{"run": run.letter, **floor} for run in runs for floor in run.floors],
        "not_measured": [group for run in runs for group in _not_measured(run, cases)],
        "facts": machine.facts(bundles),
        "mlperf": machine.mlperf_fields(bundles),
        "differences": machine.differences([run.letter for run in runs], bundles),
        "method": _method(runs, cases),
        "charts": charts.chart_data(runs, cases),
    }


def named_cases(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """The case tables' rows, each with its ``run``, what its trials left, and what it is called
    beside the others: ``kind`` and ``condition``, ``name`` (without the condition), ``label``; and
    the ``texts`` of its figures for charts, with unit and interval."""
    cases = [{**case, "run": run.letter, **_left(run, case)} for run in runs for case in run.cases]
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
    """What only the trials' own records tell of a case: keys of ``tables.SCENARIOS``, ``doubt`` and
    ``suspicious``."""
    trials = run.trials.get(case["case_id"], [])
    found: dict[str, Any] = {"doubt": doubt(case)}
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


def _run_rankings(
    run: Run, cases: Sequence[Mapping[str, Any]], with_run: bool
) -> list[dict[str, str]]:
    prefix = f"{run.letter} " if with_run else ""
    own = [case for case in cases if case["run"] == run.letter]
    lines = rankings([{**case, "label": case["label"].removeprefix(prefix)} for case in own])
    return [{**line, "model": f"{prefix}{line['model']}"} for line in lines]


# --------------------------------------------------------------------------- what was not measured


def _not_measured(run: Run, cases: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Cases without figures. Those with one reason are one entry: every case for every model."""
    logs = _logs(run.bundle)
    models: dict[tuple[str, ...], list[str]] = {}
    for case in cases:
        if case["run"] != run.letter or case["status"] == "ok":
            continue
        log = "" if case["status"] in ("skipped", "open") else logs.get(case["case_id"], "")
        key = (case["status"], case["reason"] or "", log, case["label"])
        models.setdefault(key, []).append(case["model"])
    labels: dict[tuple[Any, ...], list[str]] = {}
    for (*same, label), named in models.items():
        labels.setdefault((*same, tuple(named)), []).append(label)
    return [
        {"status": key[0], "reason": key[1], "log": key[2], "models": key[3], "cases": found}
        for key, found in labels.items()
    ]


def _logs(bundle: Bundle) -> dict[str, str]:
    """By case, the last lines that its failed worker printed."""
    prepared, evaluated = bundle.prepared, bundle.evaluated
    failed = {t["case_id"]: t for t in bundle.trials if t["status"] != "ok"}
    logs = {}
    for entry in bundle.plan["cases"]:
        records = (
            prepared.get(entry["artifact_key"], {}),
            evaluated.get(entry["evaluation_id"], {}),
            failed.get(entry["case_id"], {}),
        )
        text = next((str(r["log"]) for r in records if r.get("log")), "")
        logs[entry["case_id"]] = "\n".join(text.splitlines()[-LOG_LINES:])
    return logs


# --------------------------------------------------------------------------- about the runs


def _run_facts(run: Run) -> dict[str, Any]:
    """The header's facts, and how to run the same again."""
    begin = run.bundle.begin
    host = begin["host"]
    filters = {key: value for key, value in (begin.get("filters") or {}).items() if value}
    return {
        "letter": run.letter,
        "run_id": run.bundle.run_id,
        "suite": begin["suite"],
        "cases": len(run.cases),
        "started": str(begin.get("started") or "").replace("T", " "),
        "cpu": host.get("cpu_model") or "an unnamed processor",
        "cores": host.get("cores_usable") or host.get("cores_logical"),
        "os": host.get("os") or host.get("system") or "an unnamed system",
        "complete": run.bundle.complete,
        "command": shlex.join(["qbench", *(str(part) for part in begin.get("command") or [])]),
        "digest": begin.get("suite_digest"),
        "seed": begin.get("seed"),
        "filters": "; ".join(f"{k}: {', '.join(map(str, v))}" for k, v in filters.items()),
        "software": begin.get("software") or {},
        "suite_text": _suite_text(run.bundle),
    }


def _suite_text(bundle: Bundle) -> str:
    try:
        text = (bundle.path / "suite.yaml").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return text[:SUITE_CHARACTERS]


def _method(runs: Sequence[Run], cases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    settings = [run.bundle.begin["settings"] for run in runs]
    numbers = {
        key: ", ".join(dict.fromkeys(_setting(s[key]) for s in settings if key in s)) or "–"
        for key in ("rounds", "warmup_s", "timed_s")
    }
    return {
        **numbers,
        "least_rounds": stats.MIN_ROUNDS,
        "confidence": f"{100 * stats.CONFIDENCE:g} %",
        "metrics": sorted({str(c["accuracy_metric"]) for c in cases if c["accuracy_metric"]}),
        "energy": sorted({str(c["energy_method"]) for c in cases if c["energy_method"]}),
        "proxy": any(case["energy_is_measured"] is False for case in cases),
        "random_data": any(
            record.get("data_is_random") for run in runs for record in run.bundle.evaluated.values()
        ),
    }


def _setting(value: Any) -> str:
    """A number, or how rounds are decided."""
    if isinstance(value, Mapping):
        target = f"until p10 is known to {100 * value['target']:g} %" if "target" in value else ""
        return f"{value.get('least', '–')} to {value.get('most', '–')}, {target}"
    return f"{value:g}" if isinstance(value, int | float) else str(value)
