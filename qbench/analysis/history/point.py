"""A point of a trend: one night of one case, from qbench or another tool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple


class Metric(NamedTuple):
    """A figure whose trend can be followed.

    Attributes:
        column: its name in the case table, with the unit: see ``qbench.spec.columns``.
        unit: for readers; "" if it has none.
        less_is_better: None where neither direction is better.
        relative: whether changes are ratios; else they are differences, as of accuracies.
    """

    column: str
    unit: str
    less_is_better: bool | None
    relative: bool = True


METRICS: dict[str, Metric] = {
    "p10": Metric("latency_p10_ms", "ms", True),
    "p50": Metric("latency_p50_ms", "ms", True),
    "p99": Metric("latency_p99_ms", "ms", True),
    "throughput": Metric("throughput_ips", "items/s", False),
    "memory": Metric("memory_peak_mb", "MB", True),
    "size": Metric("artifact_size_mb", "MB", True),
    "load": Metric("load_ms", "ms", True),
    "cold": Metric("cold_start_ms", "ms", True),
    "energy": Metric("energy_mj_per_inference", "mJ", True),
    "accuracy": Metric("accuracy", "", False, relative=False),
}
"""By the name on the command line."""


@dataclass(frozen=True)
class Point:
    """One case in one run.

    Attributes:
        case_id: identifies the series; any text that is the same in every run.
        label: short, for readers: ``digits_cnn onnxruntime int8-static``, or a test's name.
        started: of the run; with a time zone.
        host_id: identifies the machine.
        cpu_model: separates series; None where it is not known: then the host does.
        metrics: value by column of ``METRICS``; None or missing: not measured.
        facts: of the machine and its software, as text by name: ``kernel``, ``microcode``,
            ``packages.numpy``. Shown with a change point where they changed.
        status: as in the case table; other than ``ok``, there are no metrics.
    """

    case_id: str
    label: str
    run_id: str
    started: datetime
    host_id: str
    cpu_model: str | None
    metrics: Mapping[str, float | None]
    facts: Mapping[str, str] = field(default_factory=dict[str, str])
    status: str = "ok"
