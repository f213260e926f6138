"""What the page says: plain values taken from bundles, for the template and the charts."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from qbench import stats
from qbench.analysis.columns import COLUMNS
from qbench.analysis.table import WORST_FIRST, case_table
from qbench.bundle import Bundle
from qbench.console import figure
from qbench.report.charts import chart_data
from qbench.report.ranking import rankings

CONDITIONS = ("environment", "recipe", "device", "scenario", "batch_size", "threads", "streams")
"""Told of a case only where they differ between cases."""
LOG_LINES = 20
SUITE_CHARACTERS = 20_000


@dataclass(frozen=True)
class Run:
    """A bundle with its case table and the letter that the page calls it by."""

    letter: str
    bundle: Bundle

    @cached_property
    def cases(self) -> pd.DataFrame:
        return case_table(self.bundle)


@dataclass(frozen=True)
class Shown:
    """A column of the page's table. ``factor`` brings the value to ``unit``; ``interval`` adds
    ``_low`` and ``_high`` of the column of that name."""

    name: str
    title: str
    unit: str = ""
    factor: float = 1
    form: str = ""
    interval: str = ""


SHOWN = (
    Shown("latency_p50_ms", "p50", "ms", interval="latency_p50"),
    Shown("latency_p99_ms", "p99", "ms", interval="latency_p99"),
    Shown("throughput_ips", "throughput", "items/s", interval="throughput_ips"),
    Shown("speedup", "speed-up", "× fp32", form=".2f", interval="speedup"),
    Shown("accuracy", "accuracy", "%", 100, ".1f", "accuracy"),
    Shown("accuracy_data", "accuracy of"),
    Shown("accuracy_delta", "Δ accuracy", "pp", 100, "+.1f", "accuracy_delta"),
    Shown("accuracy_items_needed", "±1 pp takes", "items"),
    Shown("sqnr_db", "SQNR", "dB", form=".0f"),
    Shown("memory_peak_mb", "peak memory", "MB"),
    Shown("artifact_size_mb", "size", "MB"),
    Shown("cold_start_ms", "cold start", "ms"),
    Shown("energy_mj_per_inference", "energy", "mJ", interval="energy_mj_per_inference"),
    Shown("effective_precision", "ran at"),
    Shown("rounds", "rounds"),
)
_DOCS = {column.name: column.doc for column in COLUMNS}


def page_content(bundles: Sequence[Bundle]) -> dict[str, Any]:
    """All that the template prints, and under ``charts`` what the page's script draws."""
    runs = [Run(_letter(index), bundle) for index, bundle in enumerate(bundles)]
    cases = [{**case, "run": run.letter} for run in runs for case in run.cases.to_dict("records")]
    conditions = [name for name in CONDITIONS if len({case[name] for case in cases}) > 1]
    for case in cases:
        case["status"] = case["status"] or "open"
        case["kind"] = _kind(case, conditions)
        prefix = f"{case['run']} " if len(runs) > 1 else ""
        case["label"] = f"{prefix}{case['backend']} {case['kind']}"
    suites = sorted({str(run.bundle.begin["suite"]) for run in runs})
    return {
        "title": f"qbench: {', '.join(suites)}",
        "runs": [_run_facts(run) for run in runs],
        "counts": _counts(cases),
        "rankings": [line for run in runs for line in _run_rankings(run, cases, len(runs) > 1)],
        "table": _table(cases, conditions, len(runs) > 1),
        "noise": [(c["model"], c["label"], c["noise_reason"]) for c in cases if c["noisy"]],
        "not_measured": [group for run in runs for group in _not_measured(run, cases)],
        "facts": _facts(runs),
        "method": _method(runs, cases),
        "charts": chart_data([(run.letter, run.bundle) for run in runs], cases),
    }


def _letter(index: int) -> str:
    return chr(ord("A") + index) if index < 26 else str(index + 1)


def _kind(case: Mapping[str, Any], conditions: Sequence[str]) -> str:
    """What tells a case from the others of its model and backend."""
    parts = [case["precision"]]
    if case["variant"]:
        parts.append(f"[{case['variant']}]")
    parts += [f"{name.removesuffix('_size')} {case[name]}" for name in conditions]
    return " ".join(str(part) for part in parts)


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


# --------------------------------------------------------------------------- the case table


def _table(
    cases: Sequence[Mapping[str, Any]], conditions: Sequence[str], with_run: bool
) -> dict[str, Any]:
    """``columns`` (title, unit, doc, kind), ``rows`` of cells, and the values to choose from."""
    proxy = all(case["energy_is_measured"] is False for case in cases if case["energy_method"])
    words = [Shown("run", "run")] if with_run else []
    words += [Shown("model", "model"), Shown("backend", "backend"), Shown("precision", "precision")]
    words += [Shown(name, name.removesuffix("_size")) for name in conditions]
    words += [Shown("status", "status")]
    values = [s for s in SHOWN if any(case[s.name] is not None for case in cases)]
    columns = []
    for shown in (*words, *values):
        title = "energy (proxy)" if shown.name.startswith("energy") and proxy else shown.title
        doc = _DOCS.get(shown.name, "The bundle, as lettered above.")
        metrics = sorted({str(c["accuracy_metric"]) for c in cases if c["accuracy_metric"]})
        if shown.name == "accuracy":
            doc += f" Metric: {', '.join(metrics)}."
        columns.append(
            {
                "name": shown.name,
                "title": title,
                "unit": shown.unit,
                "doc": doc,
                "number": any(isinstance(case[shown.name], int | float) for case in cases),
            }
        )
    rows = [
        {
            "model": case["model"],
            "backend": case["backend"],
            "precision": case["precision"],
            "status": case["status"],
            "run": case["run"],
            "case_id": case["case_id"],
            "cells": [_cell(case, shown) for shown in (*words, *values)],
        }
        for case in cases
    ]
    filters = ("run", "model", "backend", "precision", "status")
    choices = {name: list(dict.fromkeys(row[name] for row in rows)) for name in filters}
    return {
        "columns": columns,
        "rows": rows,
        "choices": {name: found for name, found in choices.items() if len(found) > 1},
    }


def _cell(case: Mapping[str, Any], shown: Shown) -> dict[str, Any]:
    """``text``, ``sort`` (the raw value), ``range`` (the interval) and ``noise`` (a reason)."""
    value = case[shown.name]
    cell = {"text": _text(value, shown), "sort": value, "range": "", "noise": ""}
    if shown.name == "precision" and case["variant"]:
        cell["text"] += f" [{case['variant']}]"
    if shown.name == "effective_precision" and case["flags"]:
        cell["text"] += f", {case['flags']}"
    if shown.name == "status" and case["noisy"]:
        cell["noise"] = case["noise_reason"]
    if shown.interval and value is not None:
        base = shown.interval
        unit = shown.name.removeprefix(base) if base.startswith("latency") else ""
        low, high = (case.get(f"{base}_{end}{unit}") for end in ("low", "high"))
        if low is not None and high is not None:
            cell["range"] = f"{_text(low, shown)} … {_text(high, shown)}"
    return cell


def _text(value: Any, shown: Shown) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if shown.form:
        return format(value * shown.factor, shown.form).replace("-", "−")
    return figure(value) if isinstance(value, float) else f"{value:,}"


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


HOST_FACTS = {
    "hostname": "host name",
    "cpu_model": "processor",
    "cores_physical": "cores, physical",
    "cores_logical": "cores, logical",
    "cores_usable": "cores, usable by the run",
    "cpu_flags": "instruction sets that matter",
    "microcode": "microcode",
    "architecture": "architecture",
    "memory_bytes": "memory",
    "governor": "frequency governor",
    "hypervisor": "virtual machine",
    "os": "operating system",
    "kernel": "kernel",
    "python": "Python",
    "host_id": "machine's digest",
}


def _facts(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """Machine and software: a name and its value in each run."""
    rows = [
        (title, [_fact(key, run.bundle.begin["host"].get(key)) for run in runs])
        for key, title in HOST_FACTS.items()
    ]
    software = [run.bundle.begin.get("software") or {} for run in runs]
    names = dict.fromkeys(name for versions in software for name in versions)
    rows += [(name, [_fact(name, versions.get(name)) for versions in software]) for name in names]
    return rows


def _fact(key: str, value: Any) -> str:
    if value is None:
        return "–"
    if key == "memory_bytes":
        return f"{value / 1e9:.1f} GB"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _method(runs: Sequence[Run], cases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    settings = [run.bundle.begin.get("settings") or {} for run in runs]
    numbers = {
        key: ", ".join(dict.fromkeys(f"{s[key]:g}" for s in settings if key in s)) or "–"
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
