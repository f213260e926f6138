"""Latency and throughput of cases over batch sizes, threads or streams."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from qbench.present.words.named import PageCase, with_variant
from qbench.present.words.traces import rounded

AXES = ("batch_size", "threads", "streams")
SHORT = {"batch_size": "b", "threads": "t", "streams": "s"}
TEXTS = ("latency_p50_ms", "throughput_ips")
SAME = (
    "run", "model", "backend", "environment", "precision", "variant", "recipe", "device",
    "scenario", "scenario_options",
)  # fmt: skip
"""Columns in which all points of a sweep agree."""
UNPACED = ("single-stream", "offline", "mlperf-single-stream", "mlperf-multi-stream",
           "mlperf-offline")  # fmt: skip
"""Scenarios whose throughput the program determines; in others, a rate or other work does."""


def sweeps(cases: Sequence[PageCase]) -> list[dict[str, Any]]:
    """The lines of throughput-latency charts.

    Each has ``run``, ``model``, ``backend``, ``precision``, ``label``, ``scenario`` (with its
    options), ``axis`` (the column that varies along it) and ``points`` in that order: ``at`` (value
    on the axis), ``ms``, ``ips`` with its interval, ``texts``, ``anchor``, ``label`` (such as
    ``b4 t2``) and ``doubt``. Cases at a single condition have no line.
    """
    groups: dict[tuple[Any, ...], list[PageCase]] = {}
    for case in cases:
        if case.status == "ok" and case.scenario in UNPACED:
            groups.setdefault(tuple(getattr(case, name) for name in SAME), []).append(case)
    lines = []
    for group in groups.values():
        varied = [axis for axis in AXES if len({getattr(case, axis) for case in group}) > 1]
        if not varied:
            continue
        along = max(varied, key=lambda axis: len({getattr(case, axis) for case in group}))
        fixed = [axis for axis in varied if axis != along]
        rows: dict[tuple[int, ...], list[PageCase]] = {}
        for case in group:
            rows.setdefault(tuple(getattr(case, axis) for axis in fixed), []).append(case)
        lines += [_line(row, along, varied) for row in rows.values()]
    return lines


def _line(row: Sequence[PageCase], along: str, varied: Sequence[str]) -> dict[str, Any]:
    ordered = sorted(row, key=attrgetter(along))
    first = ordered[0]
    return {
        **{name: getattr(first, name) for name in ("run", "model", "backend", "precision")},
        "label": f"{first.backend} {with_variant(first)}",
        "scenario": " ".join(filter(None, [first.scenario, first.scenario_options])),
        "axis": along,
        "points": [
            {
                "at": getattr(case, along),
                "ms": rounded(case.latency_p50_ms),
                "ips": rounded(case.throughput_ips),
                "ips_low": rounded(case.throughput_ips_low),
                "ips_high": rounded(case.throughput_ips_high),
                "texts": {name: case.texts[name] for name in TEXTS if name in case.texts},
                "anchor": case.anchor,
                "label": " ".join(f"{SHORT[axis]}{getattr(case, axis)}" for axis in varied),
                "doubt": case.doubt,
            }
            for case in ordered
        ],
    }
