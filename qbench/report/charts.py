"""What the page's charts are drawn from, as plain JSON values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qbench.bundle import Bundle

FIELDS = (
    "run", "label", "kind", "model", "backend", "precision", "noisy", "noise_reason", "rounds",
    "effective_precision", "accuracy_metric",
)  # fmt: skip
NUMBERS = (
    "latency_p50_ms", "latency_p50_low_ms", "latency_p50_high_ms", "latency_p99_ms",
    "accuracy", "accuracy_low", "accuracy_high", "sqnr_db",
    "speedup", "speedup_low", "speedup_high",
    "memory_load_peak_mb", "memory_peak_mb", "artifact_size_mb",
    "import_ms", "load_ms", "first_inference_ms",
)  # fmt: skip
DIGITS = 6
MOST_POINTS, FEWEST_POINTS = 500, 50
"""Points of a trial's distribution."""
ALL_POINTS = 200_000
"""Points of all distributions together, unless ``FEWEST_POINTS`` for each are more."""


def chart_data(
    runs: Sequence[tuple[str, Bundle]], cases: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """``cases``: those that went well, each with ``trials``, its distributions by round;
    and in ``runs``, ``backends`` and ``precisions`` the names that colours and shapes go by."""
    trials = {
        (letter, trial["case_id"], trial["round"]): (bundle, trial)
        for letter, bundle in runs
        for trial in bundle.trials
        if trial["status"] == "ok"
    }
    points = max(FEWEST_POINTS, min(MOST_POINTS, ALL_POINTS // max(1, len(trials))))
    curves: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for (letter, case_id, number), (bundle, trial) in trials.items():
        curve = {"round": number + 1, "ms": _quantiles_ms(bundle.samples(trial), points)}
        curves.setdefault((letter, case_id), []).append(curve)
    return {
        "runs": [letter for letter, _ in runs],
        "backends": sorted({str(case["backend"]) for case in cases}),
        "precisions": list(dict.fromkeys(str(case["precision"]) for case in cases)),
        "cases": [
            {
                **{name: case[name] for name in FIELDS},
                **{name: _rounded(case[name]) for name in NUMBERS},
                "trials": curves.get((case["run"], case["case_id"]), []),
            }
            for case in cases
            if case["status"] == "ok"
        ],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{DIGITS}g}")


def _quantiles_ms(samples_ns: np.ndarray, points: int) -> list[float]:
    """At most ``points`` samples in ascending order, evenly spaced in rank, both ends included."""
    ordered = np.sort(samples_ns)
    if len(ordered) > points:
        ordered = ordered[np.linspace(0, len(ordered) - 1, points).round().astype(int)]
    return [float(f"{value:.4g}") for value in ordered * 1e-6]
