"""Export a bundle as a file of pytest-benchmark, for ``pytest-benchmark compare`` and other
readers.

A benchmark is a measured case; its rounds are the timed calls of all its trials, each one
iteration. pytest-benchmark does not know the process as a unit, so its ``stddev`` is not the
uncertainty of the figure: ``extra_info`` has our intervals.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import numpy as np

from qbench.analysis.table.table import case_rows
from qbench.bundle.bundle import Bundle
from qbench.bundle.records.run import to_json
from qbench.errors import UserError
from qbench.spec.columns import CaseRow
from qbench.text import printable

VERSION = "5.3.1"
"""The version of pytest-benchmark whose fields these are."""
NS = 1e9
"""Nanoseconds in a second, as a divisor: 1e-9 is not exact in binary."""
TOLD = (
    "case_id", "run_id", "model", "backend", "backend_version", "environment", "precision",
    "effective_precision", "flags", "scenario", "batch_size", "threads", "streams", "rounds",
    "noisy", "latency_p10_ms", "latency_p50_ms", "latency_p50_low_ms", "latency_p50_high_ms",
    "latency_p99_ms", "throughput_ips", "cold_start_ms", "memory_peak_mb", "artifact_size_mb",
    "accuracy_metric", "accuracy", "accuracy_delta", "sqnr_db", "outputs_digest",
)  # fmt: skip
"""Columns of the case table that ``extra_info`` holds, where they were measured."""


def pytest_benchmark_json(bundle: Bundle) -> bytes:
    """The file's content.

    Raises:
        UserError: no case was measured, or the bundle is damaged.
    """
    names = benchmark_names(bundle)
    benchmarks = []
    for row in case_rows(bundle, bundle.trials_frame()):
        if row.status != "ok":
            continue  # pytest-benchmark leaves failed benchmarks out
        values = seconds(bundle, row.case_id)
        benchmarks.append(
            {
                **fields(bundle, row, names[row.case_id]),
                "options": {"timer": "time.perf_counter_ns"},
                "stats": {**stats(values), "data": values.tolist(), "iterations": 1},
            }
        )
    if not benchmarks:
        raise UserError(
            f"no case of {bundle.run_id} was measured: there is nothing to export",
            "`qbench show` tells why.",
        )
    content = {
        "machine_info": _machine_info(to_json(bundle.begin.host)),
        "commit_info": _commit_info(bundle.begin.suite),
        "benchmarks": benchmarks,
        "datetime": _started(bundle),
        "version": VERSION,
    }
    return json.dumps(content, indent=1, allow_nan=False).encode() + b"\n"


def session_benchmark(bundle: Bundle, row: CaseRow, name: str) -> Any:
    """A case as a result of pytest-benchmark's own fixture (``pytest_benchmark.stats.Metadata``):
    it appears in the session's table, is saved with the others, and can be compared with
    exports."""
    from pytest_benchmark.stats import Metadata

    timed = SimpleNamespace(**fields(bundle, row, name), cprofile_stats=None, has_error=False)
    made = Metadata(timed, iterations=1, options={})
    for value in seconds(bundle, row.case_id).tolist():
        made.update(value)
    return made


def fields(bundle: Bundle, row: CaseRow, name: str) -> dict[str, Any]:
    """The fields of a benchmark other than its timings. pytest-benchmark compares by ``fullname``,
    which is the same for all runs of a suite."""
    return {
        "group": printable(row.model),
        "name": name,
        "fullname": f"{printable(bundle.begin.suite)}.qbench.yaml::{name}",
        "params": {"model": row.model, "backend": row.backend, "precision": row.precision},
        "param": name,
        "extra_info": {name: value for name in TOLD if (value := getattr(row, name)) is not None},
    }


def seconds(bundle: Bundle, case_id: str) -> np.ndarray:
    """``[calls]`` of all trials of a case, in their order."""
    names = [trial.trial for trial in bundle.trials if trial.case_id == case_id]
    return np.concatenate([bundle.samples(name) for name in names]) / NS


def benchmark_names(bundle: Bundle) -> dict[str, str]:
    """Labels by case id; with the id where two cases have the same label."""
    labels = {entry.case_id: printable(entry.case.label) for entry in bundle.plan.cases}
    often = Counter(labels.values())
    return {
        case_id: label if often[label] == 1 else f"{label} {case_id}"
        for case_id, label in labels.items()
    }


def stats(values: np.ndarray) -> dict[str, Any]:
    """The fields of pytest-benchmark's ``Stats``, as its version ``VERSION`` defines them.

    Quartiles are the medians of the halves for an even number of values, and method 3 of
    Wikipedia's article "Quartile" for an odd one. ``ld15iqr`` and ``hd15iqr`` are the lowest and
    the highest value within 1.5 interquartile ranges of the quartiles. ``outliers`` counts values
    beyond one standard deviation of the mean, and beyond these fences.

    Args:
        values: ``[calls]`` seconds, at least one.
    """
    values = np.sort(values)
    rounds, total = len(values), float(values.sum())
    mean = total / rounds
    stddev = float(values.std(ddof=1)) if rounds > 1 else 0.0
    q1 = _quartile(values)
    q3 = -_quartile(-values[::-1])
    low, high = q1 - 1.5 * (q3 - q1), q3 + 1.5 * (q3 - q1)
    beyond_stddev = int(np.sum((values < mean - stddev) | (values > mean + stddev)))
    beyond_fences = int(np.sum((values < low) | (values > high)))
    return {
        "min": float(values[0]),
        "max": float(values[-1]),
        "mean": mean,
        "stddev": stddev,
        "rounds": rounds,
        "median": float(np.median(values)),
        "iqr": q3 - q1,
        "q1": q1,
        "q3": q3,
        "iqr_outliers": beyond_fences,
        "stddev_outliers": beyond_stddev,
        "outliers": f"{beyond_stddev};{beyond_fences}",
        "ld15iqr": float(values[np.searchsorted(values, low, side="left")]),
        "hd15iqr": float(values[np.searchsorted(values, high, side="right") - 1]),
        "ops": rounds / total,
        "total": total,
    }


def _quartile(values: np.ndarray) -> float:
    """The first quartile of sorted values."""
    rounds = len(values)
    if rounds == 1:
        return float(values[0])
    if rounds % 2 == 0:
        return float(np.median(values[: rounds // 2]))
    whole, rest = divmod(rounds, 4)
    if rest == 1:
        return float(0.25 * values[whole - 1] + 0.75 * values[whole])
    return float(0.75 * values[whole] + 0.25 * values[whole + 1])


def _machine_info(host: Mapping[str, Any]) -> dict[str, Any]:
    """The machine of the bundle, under the names that pytest-benchmark and py-cpuinfo give."""
    facts = {
        "node": host.get("hostname"),
        "processor": "",
        "machine": host.get("architecture"),
        "python_compiler": host.get("python_compiler"),
        "python_implementation": host.get("python_implementation"),
        "python_implementation_version": host.get("python"),
        "python_version": host.get("python"),
        "release": host.get("kernel"),
        "system": host.get("system"),
        "cpu": {
            "brand_raw": host["cpu_model"],
            "arch_string_raw": host.get("architecture"),
            "count": host.get("cores_logical"),
            "flags": host["cpu_flags"],
        },
    }
    facts["cpu"] = {key: value for key, value in facts["cpu"].items() if value is not None}
    return {key: value for key, value in facts.items() if value is not None}


def _commit_info(suite: str) -> dict[str, Any]:
    """As pytest-benchmark writes it outside of a repository: a bundle belongs to no commit."""
    return {
        "id": "unversioned",
        "time": None,
        "author_time": None,
        "dirty": False,
        "project": suite,
        "branch": "(unknown)",
    }


def _started(bundle: Bundle) -> str:
    started = bundle.begin.started
    try:
        return datetime.fromisoformat(started).astimezone(timezone.utc).isoformat()
    except (ValueError, OverflowError):
        raise UserError(
            f"{bundle.path / 'begin.json'}: damaged: started: "
            f"'{printable(started[:40])}' is not a time",
            "Run the suite again.",
        ) from None
