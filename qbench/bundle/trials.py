"""The table of trials (``trials.parquet``): its columns and its checks."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pandas as pd

from qbench.spec.case import Status

PERCENTILES: dict[float, int] = {10: 10, 50: 1, 90: 10, 99: 100, 99.9: 1000}
"""Percentiles of a trial, and the minimum number of calls for each: with fewer, a percentile would
be the maximum or the minimum."""


def percentile(samples: np.ndarray, point: float) -> float | None:
    """Return a percentile of a trial's calls, in their unit; None if there are too few calls."""
    return float(np.percentile(samples, point)) if len(samples) >= PERCENTILES[point] else None


def percentile_name(point: float) -> str:
    """Return the column name of a percentile: ``p50``, ``p99_9``."""
    return f"p{point:g}".replace(".", "_")


TRIAL_COLUMNS = [
    "trial", "case_id", "round", "sitting", "status", "reason", "started", "calls", "wall_ns",
    "items", "cpu_ns", "instructions", "cycles", "runtime_version",
    "p10_ns", "p50_ns", "p90_ns", "p99_ns", "p99_9_ns",
    "start_ns", "import_ns", "load_ns", "bind_ns", "first_inference_ns", "cold_ns",
    "warmup_calls", "warmup_ns", "warmup_stable",
    "memory_baseline_bytes", "memory_load_peak_bytes", "memory_load_anonymous_bytes",
    "memory_load_file_bytes", "memory_peak_bytes", "memory_anonymous_bytes", "memory_file_bytes",
    "memory_process_peak_bytes",
]  # fmt: skip


_WORDS = ["trial", "case_id", "status", "reason", "started", "runtime_version"]


def check_trials(frame: pd.DataFrame) -> None:
    """
    Raises:
        ValueError, TypeError: a figure or a status is impossible for a trial.
    """
    for column in frame.columns.difference(_WORDS):
        pd.to_numeric(frame[column])
    if unknown := set(frame["status"]) - set(get_args(Status)):
        raise ValueError(f"there is no status {', '.join(map(repr, unknown))}")
    good = frame[frame["status"] == "ok"]
    if not (good[["calls", "items", "wall_ns"]].astype(float) > 0).all(axis=None):
        raise ValueError("a good trial has no calls or items, or took no time")
