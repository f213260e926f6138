"""The case table of a bundle: one row per case, computed from its records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from qbench import stats
from qbench.analysis import roofline
from qbench.analysis.columns import NAMES
from qbench.analysis.energy import energy_columns
from qbench.analysis.noise import case_noise, noise_columns
from qbench.analysis.roofline import Ceilings
from qbench.bundle import PERCENTILES, Bundle, percentile_name
from qbench.errors import UserError
from qbench.plan import Case
from qbench.precision import REFERENCE, flags, int8_share
from qbench.schedule import settled_to
from qbench.suite import DEFAULT_ENVIRONMENT, Rounds

MS = 1e-6
"""Milliseconds in a nanosecond."""
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


def ceilings(bundle: Bundle) -> Ceilings:
    """What the bundle's yardsticks tell of its machine."""
    return _Context(bundle).ceilings


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
        self.ceilings = Ceilings.of(
            [self.run(entry, min) for entry in bundle.plan["yardsticks"]],
            bundle.bandwidth,
            bundle.begin["host"]["caches"],
        )
        settings = bundle.begin["settings"]
        self.cpu_power = settings.get("cpu_power")
        self.energy = bundle.energy
        rounds = settings["rounds"]
        self.target = None if isinstance(rounds, int) else Rounds(**rounds).target
        self.records: dict[str, list[dict[str, Any]]] = {}
        for trial in bundle.trials:
            if trial["status"] == "ok":
                self.records.setdefault(trial["case_id"], []).append(trial)
        self.cases = {e["case_id"]: Case(**e["case"]) for e in bundle.plan["cases"]}
        self.bases = {
            case.conditions: case_id
            for case_id, case in self.cases.items()
            if case.precision == REFERENCE
        }

    def run(
        self, entry: Mapping[str, Any], of_trials: Callable[[list[float]], float]
    ) -> roofline.Run:
        """A case, or a yardstick, as the roofline sees it.

        Args:
            of_trials: what the trials' p10s come to: of a ceiling the best, since a disturbed one
                would make honest cases look too fast.
        """
        effective = self.evaluated.get(entry["evaluation_id"], {}).get("effective")
        values = list(self.p10_ns(entry["case_id"]).values())
        return roofline.Run.of(entry["case"], effective, of_trials(values) if values else None)

    def p10_ns(self, case_id: str) -> dict[tuple[int, int], float]:
        """By (sitting, round), of the good trials; the median of one with too few calls."""
        good = self.good(case_id)
        if not len(good):
            return {}
        steady = good["p10_ns"].astype(float).fillna(good["p50_ns"].astype(float))
        keys = zip(good["sitting"].astype(int), good["round"].astype(int), strict=True)
        return dict(zip(keys, steady, strict=True))

    def trials(self, case_id: str) -> pd.DataFrame:
        return self.by_case.get(case_id, pd.DataFrame(columns=["status", "reason"]))

    def all_good(self, case_id: str | None) -> bool:
        """Whether there is such a case and none of its trials failed."""
        return case_id in self.cases and bool((self.trials(case_id)["status"] == "ok").all())

    def good(self, case_id: str) -> pd.DataFrame:
        trials = self.trials(case_id)
        return trials[trials["status"] == "ok"]


def _mean(values: list[float]) -> float:
    return stats.geometric_mean(np.array(values)).value


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
        "scenario_options": context.cases[entry["case_id"]].scenario_variant or None,
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
        "power_mode": host["power_mode"] or host["governor"],
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
        records = context.records.get(entry["case_id"], [])
        if len(records) != len(good):
            raise UserError(
                f"{context.bundle.path}: the journal and trials.parquet disagree on the good "
                f"trials of case {entry['case_id']}",
                "`qbench verify` says what was changed; another run has to replace it.",
            )
        row |= _speed(good) | _resources(good) | _figures(records)
        if case["scenario"].startswith("mlperf"):  # it makes ready and rehearses, and counts that
            row["instructions_per_inference"] = None
        effective = evaluated.get("effective") or {}
        row |= energy_columns(
            context.energy,
            {**case, "case_id": entry["case_id"]},
            good,
            context.cpu_power,
            effective.get("macs"),
            _moved_bytes(effective),
        )
        noise = case_noise(records, case)
        row |= {"noisy": bool(noise), "noise_reason": noise, **noise_columns(records, case)}
        row |= _settled(entry["case_id"], context)
        if case["scenario"] == "single-stream":
            row |= _roof(context.run(entry, _mean), context.ceilings, row.get("flags"))
    return row


def _roof(run: roofline.Run, ceilings: Ceilings, flagged: str | None) -> dict[str, Any]:
    """The roofline's columns, and its flag beside those that are there."""
    roof = roofline.roofline(run, ceilings)
    columns = roofline.columns(run, ceilings)
    if roof is None or roof.suspicious is None:
        return columns
    return {**columns, "flags": ", ".join(filter(None, [flagged, roofline.ABOVE]))}


def _settled(case_id: str, context: _Context) -> dict[str, Any]:
    """How well the case is known, and whether that is as well as the suite wants."""
    case = context.cases[case_id]
    in_default = case.model_copy(update={"environment": DEFAULT_ENVIRONMENT}).case_id
    wanted = {context.bases.get(case.conditions), in_default} - {None, case_id}
    bases = [context.p10_ns(base) for base in wanted if context.all_good(base)]
    width = settled_to(context.p10_ns(case_id), [base for base in bases if base])
    most = case.scenario_options["rounds"]
    if context.target is None or (most is not None and most < stats.MIN_ROUNDS):
        return {"half_width": width}
    return {"half_width": width, "inconclusive": width is None or width > context.target}


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


def _speed(good: pd.DataFrame) -> dict[str, Any]:
    row: dict[str, Any] = {"samples": int(good["calls"].sum())}
    for point in map(percentile_name, PERCENTILES):
        values = good[f"{point}_ns"].to_numpy(float) * MS
        if np.isnan(values).any():  # a trial had too few calls for it
            continue
        row |= _estimated(f"latency_{point}", "_ms", stats.geometric_mean(values))
    rates = good["items"].to_numpy(float) / (good["wall_ns"].to_numpy(float) * 1e-9)
    return row | _estimated("throughput_ips", "", stats.geometric_mean(rates))


def _estimated(name: str, unit: str, estimate: stats.Estimate) -> dict[str, Any]:
    """The three columns of an estimate."""
    return {
        f"{name}{unit}": estimate.value,
        f"{name}_low{unit}": estimate.low,
        f"{name}_high{unit}": estimate.high,
    }


def _resources(good: pd.DataFrame) -> dict[str, Any]:
    """Start-up times and memory: medians over trials."""
    values = {
        "io_convert_us": (good["bind_ns"], 1e-3),
        "process_start_ms": (good["start_ns"], MS),
        "import_ms": (good["import_ns"], MS),
        "load_ms": (good["load_ns"], MS),
        "first_inference_ms": (good["first_inference_ns"], MS),
        "cold_start_ms": (good["cold_ns"], MS),
        "memory_load_peak_mb": (good["memory_load_peak_bytes"], 1e-6),
        "memory_load_anonymous_mb": (good["memory_load_anonymous_bytes"], 1e-6),
        "memory_load_file_mb": (good["memory_load_file_bytes"], 1e-6),
        "memory_peak_mb": (good["memory_peak_bytes"], 1e-6),
        "memory_anonymous_mb": (good["memory_anonymous_bytes"], 1e-6),
        "memory_file_mb": (good["memory_file_bytes"], 1e-6),
        "memory_process_peak_mb": (good["memory_process_peak_bytes"], 1e-6),
        "cpu_utilization": (good["cpu_ns"].astype(float) / good["wall_ns"].astype(float), 1),
        "instructions_per_inference": (
            good["instructions"].astype(float) / good["items"].astype(float),
            1,
        ),
        "instructions_per_cycle": (
            good["instructions"].astype(float) / good["cycles"].astype(float),
            1,
        ),
        "warmup_calls": (good["warmup_calls"], 1),
        "warmup_ms": (good["warmup_ns"], MS),
    }
    return {
        name: _scaled(float(series.astype(float).median()), factor)
        for name, (series, factor) in values.items()
    }


def _moved_bytes(effective: Mapping[str, Any]) -> int | None:
    """What a call reads and writes, as if no cache kept it from one operator to the next."""
    weights, others = effective.get("weight_bytes"), effective.get("activation_bytes")
    return None if weights is None or others is None else weights + others


def _figures(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What only the case's scenario measures: the median over trials; of a verdict, whether all
    say so."""
    row: dict[str, Any] = {}
    for name in sorted({name for record in records for name in record["figures"]}):
        values = [record["figures"].get(name) for record in records]
        known = [value for value in values if value is not None]
        if not known:
            row[name] = None
        elif isinstance(known[0], bool):
            row[name] = all(known)
        else:
            row[name] = float(np.median(known))
    return row


def _add_speedups(rows: list[dict[str, Any]], context: _Context) -> None:
    """Against float32 of the same model, backend and conditions, paired by round and sitting."""
    by_id = {row["case_id"]: row for row in rows}
    for row in rows:
        base = by_id.get(context.bases.get(context.cases[row["case_id"]].conditions, ""))
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
