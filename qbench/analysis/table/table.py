"""The case table of a bundle: one row per case, computed from its records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

import numpy as np
import pandas as pd

from qbench.analysis.quality.plausible import CLIPPED, FAR, FAR_DB, MUCH_CLIPPED
from qbench.analysis.statistics import estimates
from qbench.analysis.table import roofline
from qbench.analysis.table.context import MS, Context
from qbench.analysis.table.energy import Work, energy_columns
from qbench.analysis.table.gpu import gpu_columns
from qbench.analysis.table.noise import noise_columns
from qbench.analysis.table.roofline import Ceilings
from qbench.bundle.bundle import Bundle
from qbench.bundle.records.run import Data, Effective, Entry, Evaluated, Host, Prepared, Trial
from qbench.bundle.trials import PERCENTILES, percentile_name
from qbench.errors import UserError
from qbench.spec.columns import INTERVALS, NAMES, CaseRow
from qbench.spec.judging import Quality
from qbench.spec.precisions import flags, int8_share
from qbench.spec.sizes import as_text
from qbench.spec.suite import MIN_ROUNDS

WORST_FIRST = (
    *("oom", "timeout", "crashed", "error", "wrong_output", "prepare_failed", "skipped", "ok"),
)


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
    rows = [_row(entry, context) for entry in bundle.plan.cases]
    _add_speedups(rows, context)
    _add_widths(rows, context)
    known: list[dict[str, Any]] = [
        {name: None if value != value else value for name, value in row.items()} for row in rows
    ]
    return [CaseRow(**row) for row in known]


def estimate_of(row: CaseRow, name: str) -> estimates.Estimate | None:
    """A column with its interval; None if it is empty."""
    value = getattr(row, name)
    low, high = INTERVALS[name]
    if value is None:
        return None
    return estimates.Estimate(value, getattr(row, low), getattr(row, high))


def ceilings(bundle: Bundle) -> Ceilings:
    """The ceilings of the bundle's machine, by its yardsticks."""
    return Context(bundle, bundle.trials_frame(), journal=False).ceilings


def _row(entry: Entry, context: Context) -> dict[str, Any]:
    """The columns of one case, without speed-ups and widths."""
    case, case_id = entry.case, entry.case_id
    host = context.bundle.begin.host
    prepared = context.prepared.get(entry.artifact_key or "")
    evaluated = context.evaluated.get(entry.evaluation_id or "")
    effective = evaluated and evaluated.effective
    place = context.trials.of(case_id)
    good = place.stop - place.start
    probe = context.bundle.begin.backends.get(case.backend)
    status, reason = _status(entry, prepared, evaluated, context.outcomes.get(case_id, []))
    row: dict[str, Any] = {
        "model": case.model,
        "task": context.models[case.model].task,
        **_source(entry),
        "input_shapes": _shapes(entry),
        "backend": case.backend,
        "backend_version": (evaluated and evaluated.runtime_version) or (probe and probe.version),
        "environment": case.environment,
        "precision": case.precision,
        "variant": entry.variant or None,
        "quantizer": ((prepared and prepared.provenance) or {}).get("quantizer"),
        "recipe": case.recipe,
        "calibration_items": entry.calibration_items,
        **_effective(effective),
        "device": case.device,
        "scenario": case.scenario,
        "scenario_options": case.scenario_variant or None,
        "batch_size": case.batch_size,
        "threads": case.threads,
        "streams": case.streams,
        "status": status,
        "reason": reason or None,
        "rounds": good,
        "prepare_s": _scaled(_prepare_ns(entry.artifact_key, context.prepared), 1e-9),
        "source_size_mb": _scaled(entry.source_bytes, 1e-6),
        "artifact_size_mb": _scaled(prepared and prepared.bytes, 1e-6),
        "isa": " ".join(host.cpu_flags) or None,
        "power_mode": host.power_mode or host.governor,
        "case_id": case_id,
        "artifact_digest": prepared and prepared.digest,
        "model_digest": entry.model_digest,
        "dataset_digest": entry.dataset_digest,
        "host_id": host.host_id,
        "run_id": context.bundle.run_id,
    }
    if evaluated is not None and evaluated.quality is not None:
        row |= _quality(evaluated.quality, case.precision)
    if evaluated is not None:
        row["flags"] = (
            ", ".join(_flags(case.precision, evaluated, host, row.get("sqnr_db"))) or None
        )
    if row.get("sqnr_db") is not None:
        row["reference"] = context.reference_backends.get(case.model)
    if row.get("accuracy") is not None:
        row["accuracy_data"] = _data(context.data[case.model], row["accuracy_items"])
    if good:
        row |= _speed(case_id, context) | context.medians[case_id]
        if context.records is not None:
            row |= _of_journal(entry, good, context)
        if case.scenario.startswith("mlperf"):  # it makes ready and rehearses, and counts that
            row["instructions_per_inference"] = None
        row |= _energy(entry, effective, context)
        if case.scenario == "single-stream":
            steady = context.estimates["steady"].get(case_id)
            run = context.run(entry, steady and steady.value)
            row |= _roof(run, context.ceilings, row.get("flags"))
    return row


def _prepare_ns(key: str | None, prepared: Mapping[str, Prepared]) -> int | None:
    """Time to prepare an artifact and its bases; None if one is not known."""
    total, seen = 0, set[str]()
    while key is not None and key not in seen:
        seen.add(key)
        record = prepared.get(key)
        if record is None or record.prepare_ns is None:
            return None
        total += record.prepare_ns
        key = record.base
    return total if seen else None


def _of_journal(entry: Entry, good: int, context: Context) -> dict[str, Any]:
    """The columns that need the journal's records of a case's good trials.

    Raises:
        UserError: it has other trials than the table of trials.
    """
    assert context.records is not None
    records = context.records.get(entry.case_id, [])
    if len(records) != good:
        raise UserError(
            f"{context.bundle.path}: the journal and trials.parquet disagree on the good "
            f"trials of case {entry.case_id}",
            "`qbench verify` says what was changed; another run has to replace it.",
        )
    return {**_figures(records), **noise_columns(records, entry.case), **gpu_columns(records)}


def _energy(entry: Entry, effective: Effective | None, context: Context) -> dict[str, Any]:
    columns, place = context.trials.columns, context.trials.of(entry.case_id)
    return energy_columns(
        context.energy,
        entry.case,
        entry.case_id,
        Work(*(columns[name][place] for name in ("cpu_ns", "wall_ns", "items"))),
        context.cpu_power,
        effective and effective.macs,
        _moved_bytes(effective),
        entry.gpu,
    )


def _roof(run: roofline.Run, ceilings: Ceilings, flagged: str | None) -> dict[str, Any]:
    """The roofline's columns, with its flag added to the others."""
    roof = roofline.roofline(run, ceilings)
    columns = roofline.columns(run, ceilings)
    if roof is None or roof.suspicious is None:
        return columns
    return {**columns, "flags": ", ".join(filter(None, [flagged, roofline.ABOVE]))}


def _shapes(entry: Entry) -> str | None:
    """Such as ``image Nx3x224x224``."""
    shapes = entry.input_shapes or {}
    return ", ".join(f"{name} {as_text(shape)}" for name, shape in shapes.items()) or None


def _source(entry: Entry) -> dict[str, Any]:
    conversion = entry.conversion
    return {
        "source_format": entry.source_format,
        "converted_from": conversion and conversion.source_format,
        "conversion_sqnr_db": min(conversion.sqnr_db.values(), default=None)
        if conversion
        else None,
    }


def _effective(effective: Effective | None) -> dict[str, Any]:
    if effective is None:
        return {}
    return {
        "effective_precision": effective.precision,
        "int8_mac_share": int8_share(effective.macs),
        "fallback_ops": effective.fallback_ops,
    }


def _flags(precision: str, evaluated: Evaluated, host: Host, sqnr_db: float | None) -> list[str]:
    effective = evaluated.effective
    found = flags(precision, effective, host.cpu_flags) if effective else []
    if sqnr_db is not None and sqnr_db < FAR_DB:
        found.append(FAR)
    if any(one.share >= MUCH_CLIPPED for one in evaluated.clipped.values()):
        found.append(CLIPPED)
    return found


def _status(
    entry: Entry,
    prepared: Prepared | None,
    evaluated: Evaluated | None,
    outcomes: Sequence[tuple[str, str]],
) -> tuple[str | None, str | None]:
    """The worst outcome of a case, and its reason; None where there is none yet."""
    if entry.skip is not None:
        return "skipped", entry.skip
    if entry.failure is not None:
        return entry.failure_status or "prepare_failed", entry.failure
    for record in (prepared, evaluated):
        if record is not None and record.status != "ok":
            return record.status, record.reason
    if not outcomes:
        return None, "not measured yet: the run was interrupted"
    return min(outcomes, key=lambda outcome: WORST_FIRST.index(outcome[0]))


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None or value != value else value * factor


def _quality(quality: Quality, precision: str) -> dict[str, Any]:
    columns = {
        "accuracy_metric": quality.metric,
        "accuracy": quality.accuracy,
        "accuracy_low": quality.accuracy_low,
        "accuracy_high": quality.accuracy_high,
        "accuracy_items": quality.items,
        "outputs_digest": quality.outputs_digest,
    }
    if precision == "as-shipped":  # another model than the float32 one
        return columns
    return columns | {
        "accuracy_delta": quality.accuracy_delta,
        "accuracy_delta_low": quality.accuracy_delta_low,
        "accuracy_delta_high": quality.accuracy_delta_high,
        "accuracy_delta_p": quality.accuracy_delta_p,
        "accuracy_items_needed": quality.items_needed,
        "sqnr_db": quality.sqnr_db,
        "cosine": quality.cosine,
        "equal_values": quality.equal_values,
        "max_abs_difference": quality.max_abs_difference,
        "agreement": quality.agreement,
    }


def _data(data: Data | None, items: int) -> str | None:
    """The evaluated items in words, so that a part is not taken for the official set."""
    if data is None:
        return None
    official = data.part_of
    if official is None:
        return f"{data.name}: {items} items"
    if official.items == items:
        return f"{official.name}: all {items} items"
    return f"{items} of the {official.items} items of {official.name} ({data.name})"


def _speed(case_id: str, context: Context) -> dict[str, Any]:
    """The figures for which every trial had enough calls."""
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


def _moved_bytes(effective: Effective | None) -> int | None:
    """Bytes that a call reads and writes, as if caches kept nothing between operators."""
    if effective is None or effective.weight_bytes is None or effective.activation_bytes is None:
        return None
    return effective.weight_bytes + effective.activation_bytes


def _figures(records: Sequence[Trial]) -> dict[str, Any]:
    """The figures of the case's scenario: the median over trials; of a verdict, whether all agree
    that it is true."""
    row: dict[str, Any] = {}
    for name in sorted({name for record in records for name in record.figures}):
        known = [value for record in records if (value := record.figures.get(name)) is not None]
        if not known:
            row[name] = None
        elif isinstance(known[0], bool):
            row[name] = all(known)
        else:
            row[name] = float(np.median(known))
    return row


def _add_speedups(rows: list[dict[str, Any]], context: Context) -> None:
    """Add the speed-ups over float32 of the same model, backend and conditions, paired by round and
    sitting."""
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
    """Add the half widths of the cases, as in ``qbench.run.schedule``, and whether they miss the
    suite's target."""
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
