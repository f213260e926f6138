"""The page's tables of cases: what a row and its cells say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qbench.analysis.columns import COLUMNS
from qbench.analysis.comparable import energy_groups
from qbench.console import figure
from qbench.report.energy import described
from qbench.report.sweeps import doubt

Case = Mapping[str, Any]


@dataclass(frozen=True)
class Shown:
    """A column of a table. ``factor`` brings the value to ``unit``; ``interval`` adds ``_low`` and
    ``_high`` of the column of that name."""

    name: str
    title: str
    unit: str = ""
    factor: float = 1
    form: str = ""
    interval: str = ""


def _percent(name: str, title: str) -> Shown:
    return Shown(name, title, "%", 100, ".3g")


MAIN = (
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
    Shown("roofline_share", "of roofline", "%", 100, ".0f"),
    Shown("roofline_bound", "bound by"),
    Shown("floor_us", "floor", "µs"),
    Shown("effective_precision", "ran at"),
    Shown("rounds", "rounds"),
)
PERCENTILES = (
    *(
        Shown(f"latency_{name}_ms", name.replace("_", "."), "ms", interval=f"latency_{name}")
        for name in ("p10", "p50", "p90", "p99", "p99_9")
    ),
    Shown("half_width", "p10 ±", "%", 100, ".1f"),
    Shown("samples", "calls"),
    Shown("rounds", "rounds"),
)
START = (
    Shown("process_start_ms", "process start", "ms"),
    Shown("import_ms", "import", "ms"),
    Shown("load_ms", "load", "ms"),
    Shown("first_inference_ms", "first inference", "ms"),
    Shown("cold_start_ms", "cold start", "ms"),
    Shown("warmup_calls", "warm-up", "calls", form=",.0f"),
    Shown("warmup_ms", "warm-up", "ms"),
    Shown("io_convert_us", "placing inputs", "µs"),
    Shown("memory_load_peak_mb", "load peak", "MB"),
    Shown("memory_load_anonymous_mb", "loaded, own", "MB"),
    Shown("memory_load_file_mb", "loaded, from files", "MB"),
    Shown("memory_peak_mb", "running peak", "MB"),
    Shown("memory_anonymous_mb", "running, own", "MB"),
    Shown("memory_file_mb", "running, from files", "MB"),
    Shown("memory_process_peak_mb", "whole process", "MB"),
    Shown("device_memory_mb", "device", "MB"),
    Shown("cpu_utilization", "cores busy"),
    Shown("instructions_per_inference", "instructions per inference", form=",.0f"),
    Shown("instructions_per_cycle", "per cycle"),
)
NOISE = (
    Shown("doubt", "verdict"),
    Shown("doubtful_trials", "doubtful trials"),
    Shown("rounds", "of"),
    _percent("clean_share", "clean"),
    _percent("run_delay_share", "waited"),
    Shown("others_cores", "others", "cores"),
    Shown("clock_ghz", "clock", "GHz"),
    Shown("temperature_c", "temperature", "°C", form=".0f"),
    Shown("half_width", "p10 ±", "%", 100, ".1f"),
)
ENERGY = (
    Shown("energy_mj_per_inference", "energy", "mJ", interval="energy_mj_per_inference"),
    Shown("energy_gross_mj_per_inference", "gross", "mJ"),
    Shown("power_w", "power", "W"),
    Shown("idle_w", "idle", "W"),
    Shown("energy_window_s", "window", "s"),
    Shown("energy_noise", "disturbed"),
)
SCENARIOS: dict[str, tuple[str, tuple[Shown, ...]]] = {
    "sustained": (
        "Sustained load",
        (
            Shown("sustained_p50_ms", "p50 at the end", "ms"),
            Shown("sustained_p99_ms", "p99 at the end", "ms"),
            Shown("sustained_ratio", "end / begin", "×", form=".2f"),
            Shown("throughput_ips", "throughput", "items/s"),
            Shown("clock_ghz", "clock", "GHz"),
            Shown("temperature_c", "temperature", "°C", form=".0f"),
        ),
    ),
    "paced": (
        "Paced frames",
        (
            _percent("deadline_miss_rate", "missed"),
            Shown("late", "late", "frames"),
            Shown("dropped", "dropped", "frames"),
            Shown("frames", "of", "frames"),
            Shown("deadline_ms", "deadline", "ms"),
            Shown("paced_hz", "results", "per s"),
            Shown("latency_p50_ms", "response p50", "ms"),
            Shown("latency_p99_ms", "response p99", "ms"),
            Shown("paced_jitter_ms", "jitter", "ms"),
            _percent("processor_left", "processor left"),
        ),
    ),
    "pipeline": (
        "Pipeline",
        (
            Shown("decode_ms", "decode", "ms"),
            Shown("preprocess_ms", "preprocess", "ms"),
            Shown("inference_ms", "bind, infer, read", "ms"),
            Shown("postprocess_ms", "postprocess", "ms"),
            Shown("e2e_p50_ms", "frame p50", "ms"),
            Shown("e2e_p99_ms", "frame p99", "ms"),
            Shown("fps", "frames", "per s"),
        ),
    ),
    "mlperf": (
        "MLPerf LoadGen",
        (
            Shown("loadgen_verdict", "LoadGen’s verdict"),
            Shown("loadgen_latency_ms", "latency, early stopping", "ms"),
            Shown("loadgen_qps", "result", "per s"),
            Shown("target_qps", "rate that held", "per s"),
            Shown("latency_p50_ms", "p50", "ms"),
            Shown("latency_p99_ms", "p99", "ms"),
            Shown("loadgen_reason", "because"),
        ),
    ),
}
"""By the word that names of scenarios begin with: a title, and what only they measure."""
OWN_DOCS = {
    "run": "The bundle, as lettered above.",
    "label": "Backend, precision, and the conditions that differ between cases.",
    "doubt": "Whether something speaks against the case's figures, and what.",
    "frames": "Frames that were due in all trials.",
    "late": "Results that came after the deadline.",
    "dropped": "Frames that came while another was being processed.",
    "deadline_ms": "A result is too late so long after its frame was due.",
    "inference_ms": "Placing a frame, the inference, and reading its outputs.",
    "loadgen_verdict": "LoadGen's verdict by the options of the scenario.",
    "loadgen_reason": "Why it is not valid, in LoadGen's words.",
}
PROSE = ("doubt", "energy_noise", "loadgen_reason")
"""Columns of sentences, which are broken into lines."""
DOCS = {column.name: column.doc for column in COLUMNS} | OWN_DOCS


def case_rows(cases: Sequence[Case], columns: Sequence[Shown]) -> dict[str, Any]:
    """``columns`` (name, title, unit, doc, prose, number), none empty, and ``rows`` of cells."""
    kept = [shown for shown in columns if any(_there(case.get(shown.name)) for case in cases)]
    return {
        "columns": [
            {
                "name": shown.name,
                "title": shown.title,
                "unit": shown.unit,
                "doc": _doc(shown.name, cases),
                "prose": shown.name in PROSE,
                "number": any(isinstance(case.get(shown.name), int | float) for case in cases),
            }
            for shown in kept
        ],
        "rows": [
            {
                "model": case["model"],
                "backend": case["backend"],
                "precision": case["precision"],
                "status": case["status"],
                "run": case["run"],
                "case_id": case["case_id"],
                "cells": [_cell(case, shown) for shown in kept],
            }
            for case in cases
        ],
    }


def _there(value: Any) -> bool:
    return value is not None and value != ""


def _doc(name: str, cases: Sequence[Case]) -> str:
    metrics = sorted({str(c["accuracy_metric"]) for c in cases if c["accuracy_metric"]})
    return DOCS[name] + (f" Metric: {', '.join(metrics)}." if name == "accuracy" else "")


def main_table(cases: Sequence[Case], conditions: Sequence[str], with_run: bool) -> dict[str, Any]:
    """The table of all cases; ``choices`` are the values to filter by. Energy stands in it only if
    all energies may be compared."""
    words = [Shown("run", "run")] if with_run else []
    words += [Shown("model", "model"), Shown("backend", "backend"), Shown("precision", "precision")]
    words += [
        Shown(name, "options" if name == "scenario_options" else name.removesuffix("_size"))
        for name in conditions
    ]
    groups = energy_groups(cases)
    measured = groups and groups[0][0]["energy_is_measured"]
    values = [
        Shown(s.name, "energy (proxy)", s.unit, interval=s.interval)
        if s.name.startswith("energy") and not measured
        else s
        for s in MAIN
        if not s.name.startswith("energy") or len(groups) == 1
    ]
    table = case_rows(cases, [*words, Shown("status", "status"), *values])
    filters = ("run", "model", "backend", "precision", "status")
    choices = {name: list(dict.fromkeys(row[name] for row in table["rows"])) for name in filters}
    return {**table, "choices": {name: some for name, some in choices.items() if len(some) > 1}}


_NAMES = (Shown("model", "model"), Shown("label", "case"))


def detail_tables(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """What the main table has no room for, of the cases that went well."""
    good = [case for case in cases if case["status"] == "ok"]
    tables = (
        ("percentiles", "Every percentile with its interval", PERCENTILES),
        ("start", "Start-up, memory and processor", START),
        ("noise", "What each case met while it was measured, and the verdict on it", NOISE),
    )
    return [
        {"id": name, "title": title, **case_rows(good, [*_NAMES, *columns])}
        for name, title, columns in tables
        if good
    ]


def scenario_tables(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """For each kind of scenario with figures of its own, its cases."""
    found = []
    for word, (title, columns) in SCENARIOS.items():
        own = [c for c in cases if c["status"] == "ok" and c["scenario"].startswith(word)]
        if own:
            found.append({"id": word, "title": title, **case_rows(own, [*_NAMES, *columns])})
    return found


def energy_tables(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """A table for each group of cases whose energies may be compared."""
    return [
        {**described(group), **case_rows(group, [*_NAMES, *ENERGY])}
        for group in energy_groups(cases)
    ]


# --------------------------------------------------------------------------- cells


def _cell(case: Case, shown: Shown) -> dict[str, Any]:
    """``text``, ``sort`` (the raw value), ``range`` (the interval) and ``marks``: words that warn,
    each with its reason."""
    value = case.get(shown.name)
    cell = {"text": _text(value, shown), "sort": value, "range": "", "marks": []}
    if shown.name == "precision" and case["variant"]:
        cell["text"] += f" [{case['variant']}]"
    if shown.name == "effective_precision" and case["flags"]:
        cell["text"] += f", {case['flags']}"
    if shown.name == "roofline_share" and case.get("suspicious"):
        cell["marks"].append(("above the roofline", case["suspicious"]))
    if shown.name == "loadgen_verdict" and value == "not valid":
        cell = {**cell, "text": "", "marks": [(value, case["loadgen_reason"])]}
    if shown.name == "status":
        cell["marks"] = _marks(case)
    if shown.interval and value is not None:
        base = shown.interval
        unit = shown.name.removeprefix(base) if base.startswith("latency") else ""
        low, high = (case.get(f"{base}_{end}{unit}") for end in ("low", "high"))
        if low is not None and high is not None:
            cell["range"] = f"{_text(low, shown)} … {_text(high, shown)}"
    return cell


def _marks(case: Case) -> list[tuple[str, str]]:
    marks = []
    if case["noisy"]:
        marks.append(("noisy", case["noise_reason"]))
    if case["inconclusive"]:
        marks.append(("inconclusive", doubt({**case, "noisy": False})))
    if case["loadgen_valid"] is False:
        marks.append(("not valid", case.get("loadgen_reason") or "LoadGen says so"))
    return marks


def _text(value: Any, shown: Shown) -> str:
    if value is None or value == "":
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if shown.form:
        return format(value * shown.factor, shown.form).replace("-", "−")
    return figure(value) if isinstance(value, float) else f"{value:,}"
