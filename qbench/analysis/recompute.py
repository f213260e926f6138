"""Recompute the derived figures of a bundle from its raw samples, predictions and readings."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from io import BytesIO
from typing import Any, cast

import numpy as np
import pandas as pd

from qbench.analysis.quality.fidelity import judged_outputs
from qbench.analysis.quality.judge import Score, find_scores, score_outputs
from qbench.bundle.bundle import Bundle
from qbench.bundle.records.energy import Alignment, Idle, Reading, Window
from qbench.errors import UserError
from qbench.machine.energy.integral import Kind, NoReading, joules

TOLERANCE = 1e-9
"""Relative tolerance: another machine may add floating-point numbers in another order."""
LATER = {"classes", "constant", "equal_values"}
"""Fields of ``Quality`` that older bundles do not have, so nothing can be compared with them."""
CaseRound = tuple[str | None, int | None]
BASELINE: CaseRound = (None, None)
"""Case and round of the energy pass's idle window."""


def recompute(bundle: Bundle) -> list[str]:
    """Return the derived figures that do not follow from the raw data, one line each."""
    found: list[str] = []
    for check in (_samples, _trials, _quality, _energy):
        try:
            found += check(bundle)
        except UserError as error:  # damaged: report it, and continue with the other checks
            found.append(error.message)
    return found


def not_recomputed(bundle: Bundle) -> str:
    """Return the figures that ``recompute`` cannot check, and the reason; "" if none."""
    if bundle.has_predictions:
        return ""
    assert bundle.begin.packed is not None
    original = bundle.begin.packed.manifest_sha256
    return (
        "accuracy and fidelity cannot be recomputed: the predictions were left out when this "
        f"bundle was packed, from the one whose manifest is {original}"
    )


def _samples(bundle: Bundle) -> list[str]:
    """Compare the samples with the journal: digest and number for each trial, and their total."""
    found: list[str] = []
    calls = 0
    for trial in bundle.trials:
        if trial.status != "ok":
            continue
        samples = bundle.samples(trial.trial)
        calls += len(samples)
        if len(samples) != trial.calls:
            found.append(f"trial {trial.trial}: the journal says {trial.calls} calls")
        saved = BytesIO()
        np.save(saved, samples)
        if hashlib.sha256(saved.getvalue()).hexdigest() != trial.samples_sha256:
            found.append(f"trial {trial.trial}: its samples are not those of the journal")
    try:
        rows = len(pd.read_parquet(bundle.path / "samples.parquet", columns=["latency_ns"]))
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        return [*found, f"samples.parquet is missing or damaged: {error}"]
    if rows != calls:
        found.append(f"samples.parquet has {rows} calls, the good trials have {calls}")
    return found


def _trials(bundle: Bundle) -> list[str]:
    fresh = bundle.compute_trials()
    try:
        stored = pd.read_parquet(bundle.path / "trials.parquet")
        trials = list(stored["trial"])
        columns = fresh.select_dtypes("number").columns
        numbers = stored[columns].apply(pd.to_numeric).astype(float)
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [f"trials.parquet is missing or damaged: {error}"]
    if trials != list(fresh["trial"]):
        return ["trials.parquet does not list the journal's trials"]
    found: list[str] = []
    for column in columns:
        same = np.isclose(
            numbers[column].to_numpy(),
            fresh[column].to_numpy(float),
            rtol=TOLERANCE,
            atol=0,
            equal_nan=True,
        )
        found += [
            f"trials.parquet: {column} of {trial} differs" for trial in np.array(trials)[~same]
        ]
    return found


def _quality(bundle: Bundle) -> list[str]:
    """Recompute accuracy and fidelity from predictions and labels."""
    found: list[str] = []
    if not_recomputed(bundle):
        return found
    candidates = [entry for entries in bundle.plan.references.values() for entry in entries]
    models = {
        entry.evaluation_id: entry.case.model
        for entry in [*bundle.plan.cases, *bundle.plan.yardsticks, *candidates]
    }
    references: dict[str, Mapping[str, Score] | None] = {}  # scores of references, computed once
    for key, record in bundle.evaluated.items():
        if record.quality is None:
            continue
        if key not in models:
            found.append(f"evaluate.jsonl: damaged: evaluation {key} is none of the plan's")
            continue
        model = models[key]
        base = bundle.reference(model)
        # float32 outputs that are wrong themselves were judged before there was a reference
        compared = base and base != key and (record.status == "ok" or record.quality.fidelity)
        reference = judged_outputs(bundle, base) if base and compared else None
        labels = bundle.labels(model)
        how = bundle.plan.models[model]
        try:
            if base and base not in references:
                references[base] = find_scores(judged_outputs(bundle, base), labels, how)
            scores = references[base] if base else None
            fresh = score_outputs(judged_outputs(bundle, key), reference, labels, how, scores)
            fresh = fresh.model_copy(update=dict.fromkeys(LATER - record.quality.model_fields_set))
        except (ValueError, KeyError, IndexError, MemoryError) as error:
            found.append(f"evaluation {key} of {model}: damaged: {error}")
            continue
        found += [
            f"{model}, evaluation {key}: {difference}"
            for difference in _differences(fresh.model_dump(), record.quality.model_dump())
        ]
    return found


def _energy(bundle: Bundle) -> list[str]:
    """Recompute joules and watts of every window from its sensor's readings. A wall meter has one
    series for a sitting, in the record that follows its windows."""
    found: list[str] = []
    spans: dict[tuple[int, CaseRound], tuple[int | None, int | None]] = {}
    for record in bundle.energy:
        read: list[tuple[CaseRound, Reading, str | None]] = []
        if isinstance(record, Idle | Window):
            case_round = (record.case_id, record.round) if isinstance(record, Window) else BASELINE
            spans[record.sitting, case_round] = record.begin_ns, record.end_ns
            read = [(case_round, reading, reading.series) for reading in record.sensors]
        elif isinstance(record, Alignment):
            read = [(BASELINE, record.idle, record.series)] if record.idle else []
            read += [((r.case_id, r.round), r, record.series) for r in record.windows]
        for (case_id, number), reading, file in read:
            begin, end = spans.get((record.sitting, (case_id, number)), (None, None))
            if file is None or begin is None or end is None:
                continue
            used = _joules(bundle, file, reading.kind, begin, end)
            fresh = {
                "joules": used,
                "watts": None if used is None else used / ((end - begin) * 1e-9),
            }
            of = "idle" if case_id is None else f"window {number} of {case_id}"
            stored = {"joules": reading.joules, "watts": reading.watts}
            found += _differences(fresh, stored, f"energy/{file}, {of}: ")
    return found


def _joules(bundle: Bundle, file: str, kind: Kind, begin_ns: int, end_ns: int) -> float | None:
    series = np.asarray(bundle.energy_series(file), dtype=np.float64)
    if series.ndim != 2 or series.shape[1] != 2:
        raise UserError(f"{bundle.path}/energy/{file} is damaged: not a list of times and values")
    try:
        return joules(series, kind, begin_ns, end_ns)
    except NoReading:
        return None


def _differences(fresh: Mapping[str, Any], stored: Mapping[str, Any], at: str = "") -> list[str]:
    """Return the differences between two nested mappings, one line each."""
    found: list[str] = []
    for name in {**fresh, **stored}:
        value, other = fresh.get(name), stored.get(name)
        if isinstance(value, dict) and isinstance(other, dict):
            inner, others = cast("dict[str, Any]", value), cast("dict[str, Any]", other)
            found += _differences(inner, others, f"{at}{name}.")
            continue
        if isinstance(value, float) and isinstance(other, float):
            same = bool(np.isclose(value, other, rtol=1e-6))
        else:
            same = value == other
        if not same:
            found.append(f"{at}{name} is {value}, recorded {other}")
    return found
