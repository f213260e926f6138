"""Cases and conditions by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qbench.present.words import cells, traces
from qbench.present.words.doubts import doubt
from qbench.present.words.effective import effective_columns
from qbench.present.words.run import Run

Case = Mapping[str, Any]


def told_conditions(names: Sequence[str], cases: Sequence[Case]) -> list[str]:
    """The conditions that have to be told of these cases: those that differ between them, but not
    what follows from the name of the scenario."""
    scenarios = {case["scenario"] for case in cases}

    def differs(name: str) -> bool:
        if name == "scenario":
            return len(scenarios) > 1
        return len({(case["scenario"], case[name]) for case in cases}) > len(scenarios)

    return [name for name in names if differs(name)]


NUMBERS = (
    "latency_p50_ms", "latency_p50_low_ms", "latency_p50_high_ms", "latency_p99_ms",
    "accuracy", "accuracy_low", "accuracy_high", "sqnr_db",
    "speedup", "speedup_low", "speedup_high",
    "memory_load_peak_mb", "memory_peak_mb", "artifact_size_mb",
    "process_start_ms", "import_ms", "load_ms", "first_inference_ms",
    "throughput_ips", "e2e_p50_ms", "fps", "sustained_ratio",
)  # fmt: skip


CALLS = ("scenario", "scenario_options", "batch_size", "threads", "streams")


CONDITIONS = ("environment", "recipe", "device", *CALLS)
"""Told of a case only where they differ between cases."""


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
        case["texts"] = cells.texts(case, NUMBERS)
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
