"""What a case does at several batch sizes, threads or streams: latency against throughput."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qbench.present.words.traces import rounded

AXES = ("batch_size", "threads", "streams")
SHORT = {"batch_size": "b", "threads": "t", "streams": "s"}
TEXTS = ("latency_p50_ms", "throughput_ips")
SAME = (
    "run", "model", "backend", "environment", "precision", "variant", "recipe", "device",
    "scenario", "scenario_options",
)  # fmt: skip
"""What the points of one sweep have in common."""
UNPACED = ("single-stream", "offline", "mlperf-single-stream", "mlperf-multi-stream",
           "mlperf-offline")  # fmt: skip
"""Scenarios whose throughput is the program's: elsewhere a rate or other work decides it."""

Case = Mapping[str, Any]


def sweeps(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """The lines of throughput-latency charts.

    Each has ``run``, ``model``, ``backend``, ``precision``, ``label``, ``scenario`` (with its
    options), ``axis`` (what grows along it) and ``points`` in that order: ``at`` (the value on the
    axis), ``ms``, ``ips`` with its interval, ``texts``, ``anchor``, ``label`` (such as ``b4 t2``)
    and ``doubt`` (why it should not be relied on, or ""). Of a case at one condition there is none.
    """
    groups: dict[tuple[Any, ...], list[Case]] = {}
    for case in cases:
        if case["status"] == "ok" and case["scenario"] in UNPACED:
            groups.setdefault(tuple(case[name] for name in SAME), []).append(case)
    lines = []
    for group in groups.values():
        varied = [axis for axis in AXES if len({case[axis] for case in group}) > 1]
        if not varied:
            continue
        along = max(varied, key=lambda axis: len({case[axis] for case in group}))
        fixed = [axis for axis in varied if axis != along]
        rows: dict[tuple[int, ...], list[Case]] = {}
        for case in group:
            rows.setdefault(tuple(case[axis] for axis in fixed), []).append(case)
        lines += [_line(row, along, varied) for row in rows.values()]
    return lines


def _line(row: Sequence[Case], along: str, varied: Sequence[str]) -> dict[str, Any]:
    ordered = sorted(row, key=lambda case: case[along])
    first = ordered[0]
    names = [first["backend"], first["precision"]]
    names += [f"[{first['variant']}]"] if first["variant"] else []
    return {
        **{name: first[name] for name in ("run", "model", "backend", "precision")},
        "label": " ".join(names),
        "scenario": " ".join(filter(None, [first["scenario"], first["scenario_options"]])),
        "axis": along,
        "points": [
            {
                "at": case[along],
                "ms": rounded(case["latency_p50_ms"]),
                "ips": rounded(case["throughput_ips"]),
                "ips_low": rounded(case["throughput_ips_low"]),
                "ips_high": rounded(case["throughput_ips_high"]),
                "texts": {name: case["texts"][name] for name in TEXTS if name in case["texts"]},
                "anchor": case["anchor"],
                "label": _short(case, varied),
                "doubt": doubt(case),
            }
            for case in ordered
        ],
    }


def _short(case: Case, axes: Sequence[str]) -> str:
    """Such as ``b4 t2``."""
    return " ".join(f"{SHORT[axis]}{case[axis]}" for axis in axes)


def doubt(case: Case) -> str:
    """Why a case's figures should not be relied on; "" if nothing speaks against them."""
    reasons = [f"noisy: {case['noise_reason']}"] if case["noisy"] else []
    if case["inconclusive"]:
        width = case["half_width"]
        known = "" if width is None else f": known to ±{100 * width:.1f} %"
        reasons.append(f"inconclusive{known}")
    return "; ".join(reasons)
