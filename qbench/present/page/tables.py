"""The page's tables of cases: what a row and its cells say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from qbench.analysis.compare.comparable import energy_groups
from qbench.present.words import cells
from qbench.present.words.doubts import doubt
from qbench.present.words.energy import described
from qbench.spec.columns import COLUMNS, NAMES

Case = Mapping[str, Any]

FLOATS = ("fp32", "tf32", "fp16", "bf16", "fp8")
"""Precisions whose effective one has the same name."""


class Shown(NamedTuple):
    """A column of a table: one of the case table's, or of ``OWN_DOCS``, and its short title."""

    name: str
    title: str


MAIN = (
    Shown("latency_p50_ms", "p50"),
    Shown("latency_p99_ms", "p99"),
    Shown("throughput_ips", "throughput"),
    Shown("speedup", "speed-up"),
    Shown("accuracy", "accuracy"),
    Shown("accuracy_of", "accuracy of"),
    Shown("accuracy_delta", "Δ accuracy"),
    Shown("accuracy_items_needed", "±1 pp takes"),
    Shown("sqnr_db", "SQNR"),
    Shown("memory_peak_mb", "peak memory"),
    Shown("artifact_size_mb", "size"),
    Shown("cold_start_ms", "cold start"),
    Shown("energy_mj_per_inference", "energy"),
    Shown("roofline_share", "of roofline"),
    Shown("roofline_bound", "bound by"),
    Shown("floor_us", "floor"),
    Shown("effective_precision", "ran at"),
    Shown("rounds", "rounds"),
)
PERCENTILES = (
    *(
        Shown(f"latency_{name}_ms", name.replace("_", "."))
        for name in ("p10", "p50", "p90", "p99", "p99_9")
    ),
    Shown("half_width", "p10 ±"),
    Shown("samples", "calls"),
    Shown("rounds", "rounds"),
)
START = (
    Shown("process_start_ms", "process start"),
    Shown("import_ms", "import"),
    Shown("load_ms", "load"),
    Shown("first_inference_ms", "first inference"),
    Shown("cold_start_ms", "cold start"),
    Shown("warmup_calls", "warm-up"),
    Shown("warmup_ms", "warm-up"),
    Shown("io_convert_us", "placing inputs"),
    Shown("memory_load_peak_mb", "load peak"),
    Shown("memory_load_anonymous_mb", "loaded, own"),
    Shown("memory_load_file_mb", "loaded, from files"),
    Shown("memory_peak_mb", "running peak"),
    Shown("memory_anonymous_mb", "running, own"),
    Shown("memory_file_mb", "running, from files"),
    Shown("memory_process_peak_mb", "whole process"),
    Shown("device_memory_mb", "on the device"),
    Shown("cpu_utilization", "cores busy"),
    Shown("instructions_per_inference", "instructions per inference"),
    Shown("instructions_per_cycle", "per cycle"),
)
GPU = (
    Shown("gpu_compute_p50_ms", "computing p50"),
    Shown("gpu_h2d_p50_ms", "inputs p50"),
    Shown("gpu_d2h_p50_ms", "outputs p50"),
    Shown("gpu_enqueue_p50_ms", "handing over p50"),
    Shown("gpu_warnings", "warnings"),
    Shown("device_memory_mb", "memory"),
    Shown("device_memory_by", "memory by"),
    Shown("gpu_sm_clock_mhz", "clock"),
    Shown("gpu_memory_clock_mhz", "memory clock"),
    Shown("gpu_power_w", "power"),
    Shown("gpu_temperature_c", "temperature"),
    Shown("gpu_throttled", "throttled"),
)
NOISE = (
    Shown("verdict", "verdict"),
    Shown("doubtful_trials", "doubtful trials"),
    Shown("rounds", "of"),
    Shown("clean_share", "clean"),
    Shown("run_delay_share", "waited"),
    Shown("others_cores", "others"),
    Shown("clock_ghz", "clock"),
    Shown("temperature_c", "temperature"),
    Shown("half_width", "p10 ±"),
)
EFFECTIVE = (
    Shown("precision", "asked for"),
    Shown("effective_precision", "ran at"),
    Shown("work", "share of the work"),
    Shown("int8_mac_share", "in int8"),
    Shown("fallback_ops", "fallback operators"),
    Shown("flags", "flags"),
    Shown("runtime_notes", "the runtime’s notes"),
)
ENERGY = (
    Shown("energy_mj_per_inference", "energy"),
    Shown("energy_gross_mj_per_inference", "gross"),
    Shown("power_w", "power"),
    Shown("idle_w", "idle"),
    Shown("energy_window_s", "window"),
    Shown("energy_noise", "disturbed"),
)
SCENARIOS: dict[str, tuple[str, tuple[Shown, ...]]] = {
    "sustained": (
        "Sustained load",
        (
            Shown("sustained_p50_ms", "p50 at the end"),
            Shown("sustained_p99_ms", "p99 at the end"),
            Shown("sustained_ratio", "end / begin"),
            Shown("throughput_ips", "throughput"),
            Shown("clock_ghz", "clock"),
            Shown("temperature_c", "temperature"),
        ),
    ),
    "paced": (
        "Paced frames",
        (
            Shown("deadline_miss_rate", "missed"),
            Shown("late", "late"),
            Shown("dropped", "dropped"),
            Shown("frames", "of"),
            Shown("deadline_ms", "deadline"),
            Shown("paced_hz", "results"),
            Shown("latency_p50_ms", "response p50"),
            Shown("latency_p99_ms", "response p99"),
            Shown("paced_jitter_ms", "jitter"),
            Shown("processor_left", "processor left"),
        ),
    ),
    "pipeline": (
        "Pipeline",
        (
            Shown("decode_ms", "decode"),
            Shown("preprocess_ms", "preprocess"),
            Shown("inference_ms", "bind, infer, read"),
            Shown("postprocess_ms", "postprocess"),
            Shown("e2e_p50_ms", "frame p50"),
            Shown("e2e_p99_ms", "frame p99"),
            Shown("fps", "frames"),
        ),
    ),
    "mlperf": (
        "MLPerf LoadGen",
        (
            Shown("loadgen_verdict", "LoadGen’s verdict"),
            Shown("loadgen_latency_ms", "latency, early stopping"),
            Shown("loadgen_qps", "result"),
            Shown("target_qps", "rate that held"),
            Shown("latency_p50_ms", "p50"),
            Shown("latency_p99_ms", "p99"),
            Shown("loadgen_reason", "because"),
        ),
    ),
}
"""By the word that names of scenarios begin with: a title, and what only they measure."""
OWN_DOCS = {
    "run": "The bundle, as lettered above.",
    "label": "Backend, precision, and the conditions that differ between cases.",
    "verdict": "Whether something speaks against the case's figures, and what.",
    "work": "Multiply-accumulates by the precision they ran at; else operators.",
    "runtime_notes": "What the runtime or its adapter told of how it was set up.",
    "frames": "Frames that were due in all trials.",
    "late": "Results that came after the deadline.",
    "dropped": "Frames that came while another was being processed.",
    "deadline_ms": "A result is too late so long after its frame was due.",
    "accuracy_of": "How many items were evaluated, and of how many the official set has.",
    "inference_ms": "Placing a frame, the inference, and reading its outputs.",
    "loadgen_verdict": "LoadGen's verdict by the options of the scenario.",
    "loadgen_reason": "Why it is not valid, in LoadGen's words.",
}
PROSE = ("verdict", "energy_noise", "loadgen_reason", "runtime_notes", "gpu_warnings")
"""Columns of sentences, which are broken into lines."""
DOCS = {name: column.doc for name, column in COLUMNS.items()} | OWN_DOCS


def case_rows(cases: Sequence[Case], columns: Sequence[Shown]) -> dict[str, Any]:
    """``columns`` (name, title, unit, doc, prose, number, formula), none empty, and ``rows`` of
    cells. ``formula``: whether the page's glossary holds the column."""
    kept = [shown for shown in columns if any(_there(case.get(shown.name)) for case in cases)]
    return {
        "columns": [
            {
                "name": shown.name,
                "title": shown.title,
                "unit": cells.unit(shown.name),
                "doc": _doc(shown.name, cases),
                "prose": shown.name in PROSE,
                "formula": shown.name in NAMES,
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
                "anchor": case["anchor"],
                "label": case["label"],
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
        Shown(s.name, "energy (proxy)") if s.name.startswith("energy") and not measured else s
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
        ("gpu", "GPU", GPU),
    )
    found = []
    for name, title, columns in tables:
        told = [c for c in good if any(_there(c.get(shown.name)) for shown in columns)]
        if told:
            table = case_rows(told, [*_NAMES, *columns])
            found.append({"id": name, "title": title, **table})
    return found


def noise_table(cases: Sequence[Case]) -> dict[str, Any]:
    """What each case met while it was measured, and the verdict on it."""
    good = [
        {**case, "verdict": case["doubt"] or "nothing speaks against it"}
        for case in cases
        if case["status"] == "ok"
    ]
    return {"title": "Noise, by case", **case_rows(good, [*_NAMES, *NOISE])}


def effective_table(cases: Sequence[Case]) -> dict[str, Any]:
    """What was asked for and what ran, of the cases whose runtime told it."""
    told = [case for case in cases if case["effective_precision"] is not None]
    return {"title": "Effective precision, by case", **case_rows(told, [*_NAMES, *EFFECTIVE])}


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
    cell: dict[str, Any] = {
        "text": cells.text(case, shown.name),
        "sort": value,
        "range": cells.ends(case, shown.name),
        "marks": [],
    }
    if shown.name == "precision" and case["variant"]:
        cell["text"] += f" [{case['variant']}]"
    if shown.name == "effective_precision" and case["flags"]:
        cell["marks"].append((case["flags"], DOCS["flags"]))
    if shown.name == "effective_precision" and otherwise(case):
        cell["marks"].append(("not as asked", f"{case['precision']} was asked for"))
    if shown.name == "roofline_share" and case.get("suspicious"):
        cell["marks"].append(("above the roofline", case["suspicious"]))
    if shown.name == "loadgen_verdict" and value == "not valid":
        cell = {**cell, "text": "", "marks": [(value, case["loadgen_reason"])]}
    if shown.name == "status":
        cell["marks"] = _marks(case)
    return cell


def otherwise(case: Case) -> bool:
    """Whether a floating-point case computed in another precision than was asked for."""
    ran = case["effective_precision"]
    return case["precision"] in FLOATS and ran is not None and ran != case["precision"]


def _marks(case: Case) -> list[tuple[str, str]]:
    marks = []
    if case["noisy"]:
        marks.append(("noisy", case["noise_reason"]))
    if case["inconclusive"]:
        marks.append(("inconclusive", doubt({**case, "noisy": False})))
    if case["loadgen_valid"] is False:
        marks.append(("not valid", case.get("loadgen_reason") or "LoadGen says so"))
    return marks
