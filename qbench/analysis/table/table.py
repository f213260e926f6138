"""The case table of a bundle: one row per case, computed from its records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

import numpy as np
import pandas as pd

from qbench.analysis.statistics import estimates
from qbench.analysis.table import roofline
from qbench.analysis.table.context import MS, Context
from qbench.analysis.table.energy import energy_columns
from qbench.analysis.table.gpu import gpu_columns
from qbench.analysis.table.noise import noise_columns
from qbench.analysis.table.roofline import Ceilings
from qbench.bundle.bundle import Bundle
from qbench.bundle.trials import PERCENTILES, percentile_name
from qbench.errors import UserError
from qbench.spec.columns import COLUMNS, NAMES, CaseRow
from qbench.spec.precisions import flags, int8_share
from qbench.spec.suite import MIN_ROUNDS

WORST_FIRST = ("oom", "timeout", "crashed", "error", "prepare_failed", "skipped", "ok")


def case_table(bundle: Bundle) -> pd.DataFrame:
    """``case_rows`` as a table with the columns of ``qbench.spec.columns``."""
    rows = case_rows(bundle, bundle.trials_frame())
    return pd.DataFrame(map(attrgetter(*NAMES), rows), columns=list(NAMES), dtype=object)


def case_rows(bundle: Bundle, trials: pd.DataFrame, journal: bool = True) -> list[CaseRow]:
    """One row for each case of the plan, in its order.

    Args:
        trials: the bundle's ``trials_frame``.
        journal: whether to read the journal, which takes most of the time for a thousand cases.
            Without it noise, and the figures of some scenarios, are None.

    Raises:
        UserError: the bundle is damaged.
    """
    context = Context(bundle, trials, journal)
    rows = [_row(entry, context) for entry in bundle.plan["cases"]]
    _add_speedups(rows, context)
    _add_widths(rows, context)
    return [CaseRow(**{name: _known(value) for name, value in row.items()}) for row in rows]


def _known(value: Any) -> Any:
    return None if value != value else value


def ceilings(bundle: Bundle) -> Ceilings:
    """What the bundle's yardsticks tell of its machine."""
    return Context(bundle, bundle.trials_frame(), journal=False).ceilings


def _row(entry: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """One case's row, all but the speed-ups."""
    case = entry["case"]
    host = context.bundle.begin["host"]
    prepared = context.prepared.get(entry["artifact_key"], {})
    evaluated = context.evaluated.get(entry["evaluation_id"], {})
    case_id = entry["case_id"]
    place = context.trials.of(case_id)
    good = place.stop - place.start
    backend = context.bundle.begin["backends"].get(case["backend"], {})
    status, reason = _status(entry, prepared, evaluated, context.outcomes.get(case_id, []))
    row: dict[str, Any] = {
        **{key: case[key] for key in _CASE_KEYS},
        "variant": entry["variant"] or None,
        "scenario_options": context.cases[case_id].scenario_variant or None,
        "task": context.models[case["model"]]["task"],
        "backend_version": evaluated.get("runtime_version") or backend.get("version"),
        **_source(entry),
        "calibration_items": entry["calibration_items"],
        "quantizer": (prepared.get("provenance") or {}).get("quantizer"),
        **_effective(case["precision"], evaluated.get("effective")),
        "status": status,
        "reason": reason or None,
        "rounds": good,
        "prepare_s": _scaled(_prepare_ns(entry["artifact_key"], context.prepared), 1e-9),
        "source_size_mb": _scaled(entry["source_bytes"], 1e-6),
        "artifact_size_mb": _scaled(prepared.get("bytes"), 1e-6),
        "isa": " ".join(host["cpu_flags"]) or None,
        "power_mode": host["power_mode"] or host["governor"],
        "case_id": case_id,
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
    if good:
        row |= _speed(case_id, context) | context.medians[case_id]
        if context.records is not None:
            row |= _of_journal(case_id, case, good, context)
        if case["scenario"].startswith("mlperf"):  # it makes ready and rehearses, and counts that
            row["instructions_per_inference"] = None
        row |= _energy(entry, evaluated.get("effective") or {}, context)
        if case["scenario"] == "single-stream":
            steady = context.estimates["steady"].get(case_id)
            run = context.run(entry, steady and steady.value)
            row |= _roof(run, context.ceilings, row.get("flags"))
    return row


def _prepare_ns(key: str | None, prepared: Mapping[str, Mapping[str, Any]]) -> int | None:
    """How long an artifact took, with those that it was made from; None if one is not known."""
    total, seen = 0, set()
    while key is not None and key not in seen:
        seen.add(key)
        record = prepared.get(key, {})
        if record.get("prepare_ns") is None:
            return None
        total += record["prepare_ns"]
        key = record.get("base")
    return total if seen else None


def _of_journal(
    case_id: str, case: Mapping[str, Any], good: int, context: Context
) -> dict[str, Any]:
    """What only the journal tells of a case's good trials.

    Raises:
        UserError: it has other trials than the table of trials.
    """
    assert context.records is not None
    records = context.records.get(case_id, [])
    if len(records) != good:
        raise UserError(
            f"{context.bundle.path}: the journal and trials.parquet disagree on the good "
            f"trials of case {case_id}",
            "`qbench verify` says what was changed; another run has to replace it.",
        )
    return {**_figures(records), **noise_columns(records, case), **gpu_columns(records)}


def _energy(
    entry: Mapping[str, Any], effective: Mapping[str, Any], context: Context
) -> dict[str, Any]:
    case_id, columns = entry["case_id"], context.trials.columns
    place = context.trials.of(case_id)
    return energy_columns(
        context.energy,
        {**entry["case"], "case_id": case_id},
        {name: columns[name][place] for name in ("cpu_ns", "wall_ns", "items")},
        context.cpu_power,
        effective.get("macs"),
        _moved_bytes(effective),
        entry.get("gpu"),
    )


def _roof(run: roofline.Run, ceilings: Ceilings, flagged: str | None) -> dict[str, Any]:
    """The roofline's columns, and its flag beside those that are there."""
    roof = roofline.roofline(run, ceilings)
    columns = roofline.columns(run, ceilings)
    if roof is None or roof.suspicious is None:
        return columns
    return {**columns, "flags": ", ".join(filter(None, [flagged, roofline.ABOVE]))}


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
    outcomes: Sequence[tuple[str, str]],
) -> tuple[str | None, str | None]:
    """The worst that happened to a case, and its reason; None while nothing has happened yet."""
    if entry["skip"] is not None:
        return "skipped", entry["skip"]
    if entry["failure"] is not None:
        return "prepare_failed", entry["failure"]
    for record in (prepared, evaluated):
        if record.get("status", "ok") != "ok":
            return record["status"], record["reason"]
    if not outcomes:
        return None, "not measured yet: the run was interrupted"
    return min(outcomes, key=lambda outcome: WORST_FIRST.index(outcome[0]))


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
    named = {names.get(key, key): value for key, value in quality.items()}
    return {name: value for name, value in named.items() if name in COLUMNS}


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


def _speed(case_id: str, context: Context) -> dict[str, Any]:
    """Those figures that no trial had too few calls for."""
    calls = context.trials.columns["calls"][context.trials.of(case_id)]
    row: dict[str, Any] = {"samples": int(calls.sum())}
    for point in map(percentile_name, PERCENTILES):
        if case_id in context.estimates[point]:
            row |= _estimated(f"latency_{point}", "_ms", context.estimates[point][case_id], MS)
    return row | _estimated("throughput_ips", "", context.estimates["throughput"][case_id])


def _estimated(
    name: str, unit: str, estimate: estimates.Estimate, factor: float = 1.0
) -> dict[str, Any]:
    """The three columns of an estimate."""
    return {
        f"{name}{unit}": estimate.value * factor,
        f"{name}_low{unit}": _scaled(estimate.low, factor),
        f"{name}_high{unit}": _scaled(estimate.high, factor),
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


def _add_speedups(rows: list[dict[str, Any]], context: Context) -> None:
    """Against float32 of the same model, backend and conditions, paired by round and sitting."""
    by_id = {row["case_id"]: row for row in rows}
    pairs = [
        (base, row["case_id"])
        for row in rows
        if (base := context.base(row["case_id"])) is not None
        and row["status"] == by_id[base]["status"] == "ok"
        and row["precision"] != "as-shipped"
    ]
    p50 = context.trials.paired_estimates("p50", pairs)
    p10 = context.trials.paired_estimates("p10", pairs)
    for (_, case_id), ratio, steady in zip(pairs, p50, p10, strict=True):
        if ratio is not None:
            by_id[case_id] |= _estimated("speedup", "", ratio)
        if steady is not None:  # else a trial had too few calls for it
            by_id[case_id]["speedup_p10"] = steady.value


def _add_widths(rows: list[dict[str, Any]], context: Context) -> None:
    """How well the cases are known, as ``qbench.run.schedule`` has it, and whether that is as well
    as the suite wants."""
    measured = [row for row in rows if row["rounds"]]
    pairs: list[tuple[str, str]] = []
    for row in measured:
        case_id = row["case_id"]
        for base in {context.base(case_id), context.in_default(case_id)}:
            if base is not None and context.all_good(base):
                pairs.append((base, case_id))
    known: dict[str, list[estimates.Estimate | None]] = {}
    for (_, case_id), ratio in zip(
        pairs, context.trials.paired_estimates("steady", pairs), strict=True
    ):
        known.setdefault(case_id, []).append(ratio)
    for row in measured:
        case_id = row["case_id"]
        widths = [
            None if one is None or one.high is None else one.high / one.value - 1
            for one in [context.estimates["steady"].get(case_id), *known.get(case_id, [])]
        ]
        width = None if None in widths else max(w for w in widths if w is not None)
        row["half_width"] = width
        most = context.cases[case_id].scenario_options["rounds"]
        if context.target is not None and (most is None or most >= MIN_ROUNDS):
            row["inconclusive"] = width is None or width > context.target
