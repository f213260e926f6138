"""The page's tables of cases."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from qbench.analysis.compare.comparable import energy_groups
from qbench.present.words import cells
from qbench.present.words.cells import ColumnSpec, specs
from qbench.present.words.energy import described
from qbench.present.words.named import PageCase, doubt_of, with_variant
from qbench.spec.columns import COLUMNS, NAMES, CaseRow

FLOATS = ("fp32", "tf32", "fp16", "bf16", "fp8")
"""Precisions whose effective precision has the same name."""


MAIN = (
    *specs(
        "latency_p50_ms", "latency_p99_ms", "throughput_ips", "speedup", "accuracy", "accuracy_of",
        "accuracy_delta",
    ),
    ColumnSpec("accuracy_items_needed", "±1 pp takes"),
    *specs(
        "sqnr_db", "equal_values", "memory_peak_mb", "artifact_size_mb", "cold_start_ms",
        "energy_mj_per_inference", "roofline_share", "roofline_bound", "floor_us",
        "effective_precision", "rounds",
    ),
)  # fmt: skip
PERCENTILES = specs(
    *(f"latency_{name}_ms" for name in ("p10", "p50", "p90", "p99", "p99_9")),
    "half_width", "samples", "rounds",
)  # fmt: skip
START = (
    *specs(
        "process_start_ms", "import_ms", "load_ms", "first_inference_ms", "cold_start_ms",
        "warmup_calls", "warmup_ms", "io_convert_us", "memory_load_peak_mb",
        "memory_load_anonymous_mb", "memory_load_file_mb",
    ),
    ColumnSpec("memory_peak_mb", "running peak"),
    *specs("memory_anonymous_mb", "memory_file_mb", "memory_process_peak_mb"),
    ColumnSpec("device_memory_mb", "on the device"),
    *specs("cpu_utilization", "instructions_per_inference", "instructions_per_cycle"),
)  # fmt: skip
GPU = (
    *specs(
        "gpu_compute_p50_ms", "gpu_h2d_p50_ms", "gpu_d2h_p50_ms", "gpu_enqueue_p50_ms",
        "gpu_warnings",
    ),
    ColumnSpec("device_memory_mb", "memory"),
    *specs(
        "device_memory_by", "gpu_sm_clock_mhz", "gpu_memory_clock_mhz", "gpu_power_w",
        "gpu_temperature_c", "gpu_throttled",
    ),
)  # fmt: skip
NOISE = (
    *specs("verdict", "doubtful_trials"),
    ColumnSpec("rounds", "of"),
    *specs(
        "clean_share", "run_delay_share", "others_cores", "clock_ghz", "temperature_c",
        "half_width",
    ),
)  # fmt: skip
EFFECTIVE = (
    ColumnSpec("precision", "asked for"),
    *specs(
        "effective_precision", "work", "int8_mac_share", "fallback_ops", "flags", "runtime_notes"
    ),
)
ENERGY = specs(
    "energy_mj_per_inference", "energy_gross_mj_per_inference", "power_w", "idle_w",
    "energy_window_s", "energy_noise",
)  # fmt: skip
SCENARIOS: dict[str, tuple[str, tuple[ColumnSpec, ...]]] = {
    "sustained": (
        "Sustained load",
        specs(
            "sustained_p50_ms", "sustained_p99_ms", "sustained_ratio", "throughput_ips",
            "clock_ghz", "temperature_c",
        ),
    ),
    "paced": (
        "Paced frames",
        (
            *specs("deadline_miss_rate", "late", "dropped", "frames", "deadline_ms", "paced_hz"),
            ColumnSpec("latency_p50_ms", "response p50"),
            ColumnSpec("latency_p99_ms", "response p99"),
            *specs("paced_jitter_ms", "processor_left"),
        ),
    ),
    "pipeline": (
        "Pipeline",
        specs(
            "decode_ms", "preprocess_ms", "inference_ms", "postprocess_ms", "e2e_p50_ms",
            "e2e_p99_ms", "fps",
        ),
    ),
    "mlperf": (
        "MLPerf LoadGen",
        specs(
            "loadgen_verdict", "loadgen_latency_ms", "loadgen_qps", "target_qps",
            "latency_p50_ms", "latency_p99_ms", "loadgen_reason",
        ),
    ),
}  # fmt: skip
"""By the prefix of a scenario's name: title and columns of the figures that only it measures."""
PROSE = ("verdict", "energy_noise", "loadgen_reason", "runtime_notes", "gpu_warnings")
"""Columns of sentences, whose lines are broken."""


def table_of(cases: Sequence[PageCase], columns: Sequence[ColumnSpec]) -> dict[str, Any]:
    """``columns`` (name, title, unit, doc, prose, number, formula) without empty ones, and ``rows``
    of cells. ``formula``: whether the page's glossary has the column."""
    kept = [shown for shown in columns if any(_known(case, shown.name) for case in cases)]
    return {
        "columns": [
            {
                "name": shown.name,
                "title": shown.heading,
                "unit": shown.column.unit,
                "doc": _doc(shown.name, cases),
                "prose": shown.name in PROSE,
                "formula": shown.name in NAMES,
                "number": any(isinstance(getattr(c, shown.name), int | float) for c in cases),
            }
            for shown in kept
        ],
        "rows": [
            {
                **{name: getattr(case, name) for name in ROW},
                "cells": [_cell(case, shown) for shown in kept],
            }
            for case in cases
        ],
    }


ROW = ("model", "backend", "precision", "status", "run", "case_id", "anchor", "label")
"""Attributes of a case that its row has in addition to its cells."""


def _known(case: PageCase, name: str) -> bool:
    return getattr(case, name) not in (None, "")


def _doc(name: str, cases: Sequence[PageCase]) -> str:
    metrics = sorted({case.accuracy_metric for case in cases if case.accuracy_metric})
    doc = cells.ALL_COLUMNS[name].doc
    return doc + (f" Metric: {', '.join(metrics)}." if name == "accuracy" else "")


def main_table(
    cases: Sequence[PageCase], conditions: Sequence[str], with_run: bool
) -> dict[str, Any]:
    """The table of all cases; ``choices`` are the values of its filters. It has the energy only if
    all energies are comparable."""
    words = specs(*(["run"] if with_run else []), "model", "backend", "precision", *conditions)
    groups = energy_groups(cases)
    measured = groups and groups[0][0].energy_is_measured
    values = [
        ColumnSpec(shown.name, "energy (proxy)")
        if shown.name.startswith("energy") and not measured
        else shown
        for shown in MAIN
        if not shown.name.startswith("energy") or len(groups) == 1
    ]
    table = table_of(cases, [*words, ColumnSpec("status"), *values])
    filters = ("run", "model", "backend", "precision", "status")
    choices = {name: list(dict.fromkeys(row[name] for row in table["rows"])) for name in filters}
    return {**table, "choices": {name: some for name, some in choices.items() if len(some) > 1}}


_NAMES = specs("model", "label")


def detail_tables(cases: Sequence[PageCase]) -> list[dict[str, Any]]:
    """Further tables of the successful cases."""
    good = [case for case in cases if case.status == "ok"]
    tables = (
        ("percentiles", "Every percentile with its interval", PERCENTILES),
        ("start", "Start-up, memory and processor", START),
        ("gpu", "GPU", GPU),
    )
    found = []
    for name, title, columns in tables:
        some = [case for case in good if any(_known(case, shown.name) for shown in columns)]
        if some:
            found.append({"id": name, "title": title, **table_of(some, [*_NAMES, *columns])})
    return found


def noise_table(cases: Sequence[PageCase]) -> dict[str, Any]:
    """Disturbances of each case while it was measured, and the verdict on them."""
    good = [case for case in cases if case.status == "ok"]
    return {"title": "Noise, by case", **table_of(good, [*_NAMES, *NOISE])}


def effective_table(cases: Sequence[PageCase]) -> dict[str, Any]:
    """Requested and effective precision of cases whose runtime reported it."""
    known = [case for case in cases if case.effective_precision is not None]
    return {"title": "Effective precision, by case", **table_of(known, [*_NAMES, *EFFECTIVE])}


def scenario_tables(cases: Sequence[PageCase]) -> list[dict[str, Any]]:
    """The cases of each kind of scenario that has figures of its own."""
    found = []
    for prefix, (title, columns) in SCENARIOS.items():
        own = [c for c in cases if c.status == "ok" and c.scenario.startswith(prefix)]
        if own:
            found.append({"id": prefix, "title": title, **table_of(own, [*_NAMES, *columns])})
    return found


def energy_tables(cases: Sequence[PageCase]) -> list[dict[str, Any]]:
    """A table for each comparable group of energies."""
    return [
        {**described(group), **table_of(group, [*_NAMES, *ENERGY])}
        for group in energy_groups(cases)
    ]


# --------------------------------------------------------------------------- cells


Mark = tuple[str | None, str | None]
"""A warning on a figure, and its reason."""


def table_cell(
    text: str, sort: Any = None, ends: str = "", marks: Iterable[Mark] = ()
) -> dict[str, Any]:
    """``text``, ``sort`` (the raw value), ``range`` (the interval) and ``marks``."""
    return {"text": text, "sort": sort, "range": ends, "marks": list(marks)}


def _cell(case: PageCase, shown: ColumnSpec) -> dict[str, Any]:
    value = getattr(case, shown.name)
    cell = table_cell(cells.text(case, shown.name), value, cells.ends(case, shown.name))
    if shown.name == "precision":
        cell["text"] = with_variant(case)
    if shown.name == "effective_precision" and case.flags:
        cell["marks"].append((case.flags, COLUMNS["flags"].doc))
    if shown.name == "effective_precision" and otherwise(case):
        cell["marks"].append(("not as asked", f"{case.precision} was asked for"))
    if shown.name == "roofline_share" and case.suspicious:
        cell["marks"].append(("above the roofline", case.suspicious))
    if shown.name == "loadgen_verdict" and value == "not valid":
        cell = table_cell("", value, cell["range"], [(value, case.loadgen_reason)])
    if shown.name == "status":
        cell["marks"] = _marks(case)
    return cell


def otherwise(case: CaseRow) -> bool:
    """Whether a floating-point case computed in another precision than was asked for."""
    ran = case.effective_precision
    return case.precision in FLOATS and ran is not None and ran != case.precision


def _marks(case: PageCase) -> list[Mark]:
    marks: list[Mark] = []
    if case.noisy:
        marks.append(("noisy", case.noise_reason))
    if case.inconclusive:
        marks.append(("inconclusive", doubt_of(replace(case, noisy=False))))
    if case.loadgen_valid is False:
        marks.append(("not valid", case.loadgen_reason or "by LoadGen"))
    return marks
