"""The case table of a bundle: one row per case, computed from its records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from qbench import stats
from qbench.analysis.columns import NAMES
from qbench.bundle import Bundle
from qbench.precision import REFERENCE, flags, int8_share

MS = 1e-6
"""Milliseconds in a nanosecond."""
NOISY_CPU_SHARE = 0.9
"""A single-threaded trial that had the processor for less than this share of its wall time was
put off it: its latencies hold waiting, not work."""

MORE_THAN_ASKED = 1.1
"""More processor time than this times the threads asked for: the runtime did not keep to them."""

WORST_FIRST = ("oom", "timeout", "crashed", "error", "prepare_failed", "skipped", "ok")


def case_table(bundle: Bundle) -> pd.DataFrame:
    """One row for each case of the plan, with the columns of ``qbench.analysis.columns``.

    Missing values are None: not measured.
    """
    context = _Context(bundle)
    rows = [_row(entry, context) for entry in bundle.plan["cases"]]
    _add_speedups(rows, context)
    table = pd.DataFrame(rows, columns=list(NAMES), dtype=object)
    return table.where(table.notna(), None)


class _Context:
    """The bundle's records, read once."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.prepared = bundle.prepared
        self.evaluated = bundle.evaluated
        self.models = bundle.plan["models"]
        self.data = bundle.plan["data"]
        self.reference_backends = {
            name: _reference_backend(bundle, name) for name in bundle.plan["references"]
        }
        self.by_case = dict(tuple(bundle.trials_frame().groupby("case_id")))
        self.cpu_power = bundle.begin["settings"].get("cpu_power")

    def trials(self, case_id: str) -> pd.DataFrame:
        return self.by_case.get(case_id, pd.DataFrame(columns=["status", "reason"]))

    def good(self, case_id: str) -> pd.DataFrame:
        trials = self.trials(case_id)
        return trials[trials["status"] == "ok"]


def _reference_backend(bundle: Bundle, model: str) -> str | None:
    chosen = bundle.reference(model)
    entries = bundle.plan["references"][model]
    backends = [e["case"]["backend"] for e in entries if e["evaluation_id"] == chosen]
    return backends[0] if chosen and backends else None


def _row(entry: Mapping[str, Any], context: _Context) -> dict[str, Any]:
    """One case's row, all but the speed-ups."""
    case = entry["case"]
    host = context.bundle.begin["host"]
    prepared = context.prepared.get(entry["artifact_key"], {})
    evaluated = context.evaluated.get(entry["evaluation_id"], {})
    good = context.good(entry["case_id"])
    backend = context.bundle.begin["backends"].get(case["backend"], {})
    status, reason = _status(entry, prepared, evaluated, context.trials(entry["case_id"]))
    row: dict[str, Any] = {
        **{key: case[key] for key in _CASE_KEYS},
        "variant": entry["variant"] or None,
        "task": context.models[case["model"]]["task"],
        "backend_version": evaluated.get("runtime_version") or backend.get("version"),
        **_source(entry),
        "calibration_items": entry["calibration_items"],
        "quantizer": (prepared.get("provenance") or {}).get("quantizer"),
        **_effective(case["precision"], evaluated.get("effective")),
        "status": status,
        "reason": reason or None,
        "rounds": len(good),
        "prepare_s": _scaled(prepared.get("prepare_ns"), 1e-9),
        "source_size_mb": _scaled(entry["source_bytes"], 1e-6),
        "artifact_size_mb": _scaled(prepared.get("bytes"), 1e-6),
        "isa": " ".join(host["cpu_flags"]) or None,
        "power_mode": host["governor"],
        "case_id": entry["case_id"],
        "artifact_digest": prepared.get("digest"),
        "model_digest": entry["model_digest"],
        "dataset_digest": entry["dataset_digest"],
        "host_id": host["host_id"],
        "run_id": context.bundle.run_id,
    }
    row |= _quality(evaluated.get("quality"), case["precision"])
    if row.get("sqnr_db") is not None:
        row["reference"] = context.reference_backends.get(case["model"])
    if row.get("accuracy") is not None:
        row["accuracy_data"] = _data(context.data[case["model"]], row["accuracy_items"])
    if len(good):
        row |= _speed(good, case["batch_size"]) | _resources(good)
        row |= _energy(good, case["batch_size"], context.cpu_power)
        noise = _noise(good, case)
        row |= {"noisy": bool(noise), "noise_reason": noise}
    return row


def _source(entry: Mapping[str, Any]) -> dict[str, Any]:
    conversion = entry["conversion"] or {}
    decibels = conversion.get("sqnr_db", {}).values()
    return {
        "source_format": entry["source_format"],
        "converted_from": conversion.get("source_format"),
        "conversion_sqnr_db": min(decibels, default=None),
    }


def _effective(precision: str, effective: Mapping[str, Any] | None) -> dict[str, Any]:
    if effective is None:
        return {}
    return {
        "effective_precision": effective["precision"],
        "int8_mac_share": int8_share(effective),
        "fallback_ops": effective["fallback_ops"],
        "flags": ", ".join(flags(precision, effective)) or None,
    }


_AGAINST_FLOAT32 = (
    "accuracy_delta", "accuracy_delta_low", "accuracy_delta_high", "accuracy_delta_p",
    "items_needed", "sqnr_db", "cosine", "max_abs_difference", "agreement",
)  # fmt: skip

_CASE_KEYS = (
    "model", "backend", "environment", "precision", "recipe", "device", "scenario",
    "batch_size", "threads", "streams",
)  # fmt: skip


def _status(
    entry: Mapping[str, Any],
    prepared: Mapping[str, Any],
    evaluated: Mapping[str, Any],
    trials: pd.DataFrame,
) -> tuple[str | None, str | None]:
    """The worst that happened to a case, and its reason; None while nothing has happened yet."""
    if entry["skip"] is not None:
        return "skipped", entry["skip"]
    if entry["failure"] is not None:
        return "prepare_failed", entry["failure"]
    for record in (prepared, evaluated):
        if record.get("status", "ok") != "ok":
            return record["status"], record["reason"]
    if trials.empty:
        return None, "not measured yet: the run was interrupted"
    worst = min(trials["status"], key=WORST_FIRST.index)
    return worst, trials.loc[trials["status"] == worst, "reason"].iloc[0]


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None or value != value else value * factor


def _quality(quality: Mapping[str, Any] | None, precision: str) -> dict[str, Any]:
    if quality is None:
        return {}
    if precision == "as-shipped":  # another model than the float32 one
        quality = {k: v for k, v in quality.items() if k not in _AGAINST_FLOAT32}
    names = {
        "metric": "accuracy_metric",
        "items": "accuracy_items",
        "items_needed": "accuracy_items_needed",
    }
    return {names.get(key, key): value for key, value in quality.items()}


def _data(data: Mapping[str, Any] | None, items: int) -> str | None:
    """Which items an accuracy is of, so that a part is not taken for the official set."""
    if data is None:
        return None
    official = data["part_of"]
    if official is None:
        return f"{data['name']}: {items} items"
    if official["items"] == items:
        return f"{official['name']}: all {items} items"
    return f"{items} of the {official['items']} items of {official['name']} ({data['name']})"


def _speed(good: pd.DataFrame, batch: int) -> dict[str, Any]:
    row: dict[str, Any] = {"samples": int(good["calls"].sum())}
    for point in ("p10", "p50", "p90", "p99"):
        values = good[f"{point}_ns"].to_numpy(float) * MS
        if np.isnan(values).any():  # a trial had too few calls for it
            continue
        estimate = stats.geometric_mean(values)
        row[f"latency_{point}_ms"] = estimate.value
        if point in ("p50", "p99"):
            row[f"latency_{point}_low_ms"] = estimate.low
            row[f"latency_{point}_high_ms"] = estimate.high
    rates = good["calls"].to_numpy(float) * batch / (good["wall_ns"].to_numpy(float) * 1e-9)
    rate = stats.geometric_mean(rates)
    row |= {
        "throughput_ips": rate.value,
        "throughput_ips_low": rate.low,
        "throughput_ips_high": rate.high,
    }
    return row


def _resources(good: pd.DataFrame) -> dict[str, Any]:
    """Start-up times and memory: medians over trials."""
    values = {
        "io_convert_us": (good["bind_ns"], 1e-3),
        "import_ms": (good["import_ns"], MS),
        "load_ms": (good["load_ns"], MS),
        "first_inference_ms": (good["first_inference_ns"], MS),
        "cold_start_ms": (good["cold_ns"], MS),
        "memory_load_peak_mb": (good["memory_load_peak_bytes"], 1e-6),
        "memory_peak_mb": (good["memory_peak_bytes"], 1e-6),
        "memory_process_peak_mb": (good["memory_process_peak_bytes"], 1e-6),
        "cpu_utilization": (good["cpu_ns"].astype(float) / good["wall_ns"].astype(float), 1),
    }
    return {
        name: _scaled(float(series.astype(float).median()), factor)
        for name, (series, factor) in values.items()
    }


def _energy(good: pd.DataFrame, batch: int, cpu_power: Mapping[str, Any] | None) -> dict[str, Any]:
    """Processor time times the suite's watts per core: a proxy, good for ratios on one machine."""
    if cpu_power is None:
        return {}
    watts = cpu_power["watts_per_core"]
    cpu_s = good["cpu_ns"].to_numpy(float) * 1e-9
    if not (cpu_s > 0).all():  # windows shorter than the processor clock's step
        return {}
    wall_s = good["wall_ns"].to_numpy(float) * 1e-9
    estimate = stats.geometric_mean(1e3 * watts * cpu_s / (good["calls"].to_numpy(float) * batch))
    return {
        "energy_mj_per_inference": estimate.value,
        "energy_mj_per_inference_low": estimate.low,
        "energy_mj_per_inference_high": estimate.high,
        "power_w": float(np.median(watts * cpu_s / wall_s)),
        "energy_window_s": float(np.median(wall_s)),
        "energy_method": f"proxy: cpu time x {watts:g} W per core ({cpu_power['source']})",
        "energy_scope": "process",
        "energy_is_measured": False,
    }


def _noise(good: pd.DataFrame, case: Mapping[str, Any]) -> str | None:
    """Why the case's figures are doubtful; None if nothing speaks against them."""
    reasons = []
    cores = good["cpu_ns"].astype(float) / good["wall_ns"].astype(float)
    asked = case["threads"] * case["streams"]
    if asked == 1 and (off := int((cores < NOISY_CPU_SHARE).sum())):
        reasons.append(
            f"the processor was taken away in {off} of {len(good)} trials "
            f"(least cpu/wall {cores.min():.2f})"
        )
    if (cores > asked * MORE_THAN_ASKED).any():
        threads = "1 thread was" if asked == 1 else f"{asked} threads were"
        reasons.append(f"{cores.max():.1f} cores were busy though {threads} asked for")
    cold = int((good["warmup_stable"] == False).sum())  # noqa: E712  (None: could not tell)
    if cold:
        reasons.append(f"not stable after warm-up in {cold} of {len(good)} trials")
    return "; ".join(reasons) or None


def _add_speedups(rows: list[dict[str, Any]], context: _Context) -> None:
    """Against float32 of the same model, backend and conditions, paired by round and sitting."""
    bases = {_conditions(row): row for row in rows if row["precision"] == REFERENCE}
    for row in rows:
        base = bases.get(_conditions(row))
        if base is None or row["status"] != "ok" or base["status"] != "ok" or row is base:
            continue
        pairs = context.good(base["case_id"]).merge(
            context.good(row["case_id"]), on=["round", "sitting"], suffixes=("_base", "_this")
        )
        if pairs.empty or row["precision"] == "as-shipped":
            continue
        ratio = stats.paired_ratio(*_pair(pairs, "p50_ns"))
        row |= {"speedup": ratio.value, "speedup_low": ratio.low, "speedup_high": ratio.high}
        base_p10, this_p10 = _pair(pairs, "p10_ns")
        if not np.isnan(base_p10 + this_p10).any():  # else a trial had too few calls for it
            row["speedup_p10"] = stats.paired_ratio(base_p10, this_p10).value


def _pair(pairs: pd.DataFrame, name: str) -> tuple[np.ndarray, np.ndarray]:
    return pairs[f"{name}_base"].to_numpy(float), pairs[f"{name}_this"].to_numpy(float)


def _conditions(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[key] for key in _CASE_KEYS if key not in ("precision", "recipe"))
