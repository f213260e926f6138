"""Records of single scenarios, as plain JSON values for charts: time series of a long load, stages
of a pipeline, rates that a server was probed at.

Bundles check only the fields that every trial has. ``facts`` and files belong to a scenario, so
they are checked here.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from qbench.bundle.bundle import Bundle, read_array
from qbench.bundle.records.run import Trial
from qbench.errors import UserError

DIGITS = 6
MOST_STEPS = 600
"""Maximum steps of a time series on a page; neighbours of longer series are merged."""
MOST_PROBES = 100


class _Facts(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Sustained(_Facts):
    columns: list[str]
    part_s: float = Field(gt=0)


class Paced(_Facts):
    """All frames of paced trials, with the late and dropped ones."""

    frames: int = Field(ge=1)
    late: int = Field(ge=0)
    dropped: int = Field(ge=0)
    deadline_ms: float = Field(gt=0)


class _Pipeline(_Facts):
    stages: list[Literal["decode", "preprocess", "bind", "infer", "read", "postprocess"]]


class _Verdict(_Facts):
    invalid_because: str | None


class _LoadGen(_Facts):
    loadgen: _Verdict | None = None
    no_rate_because: str | None = None


class _Probe(_Facts):
    target_qps: float = Field(gt=0)
    valid: bool
    latency_ms: float = Field(gt=0)
    queries: int


class _Server(_Facts):
    probes: list[_Probe]


def rounded(value: float | None) -> float | None:
    """Rounded to the digits that a chart can show; None if it is not finite."""
    return None if value is None or not np.isfinite(value) else float(f"{value:.{DIGITS}g}")


Kind = TypeVar("Kind", bound=BaseModel)


def _facts(bundle: Bundle, trial: Trial, kind: type[Kind]) -> Kind:
    try:
        return kind.model_validate(trial.facts, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        keys = ".".join(str(key) for key in ("facts", *first["loc"]))
        raise UserError(
            f"{bundle.path / 'journal.jsonl'}: damaged: {keys} of trial {trial.trial}: "
            f"{first['msg']}",
            "Run the suite again.",
        ) from None


def _table(bundle: Bundle, trial: Trial, name: str, columns: int) -> np.ndarray:
    """A file of a trial: ``[rows, columns]``, at least one row."""
    path = bundle.trace(trial.trial, name)
    table = read_array(path)
    if table.ndim != 2 or table.shape[1] != columns or not len(table):
        raise UserError(
            f"{path} is damaged: its shape is {list(table.shape)}, not [rows, {columns}]",
            "Run the suite again.",
        )
    return table


def sustained(bundle: Bundle, trial: Trial) -> dict[str, Any]:
    """The time series of a long load: ``end_s``, ``p50_ms``, ``p99_ms``, ``clock_ghz`` and
    ``temperature_c``, None where the machine does not report it; and ``part_s``, the length of the
    first and the last part. Merged neighbours keep the worst p99."""
    facts = _facts(bundle, trial, _Sustained)
    table = _table(bundle, trial, "series.npy", len(facts.columns))
    times = table[:, facts.columns.index("end_s")] if "end_s" in facts.columns else None
    if times is None or not np.isfinite(times).all():
        raise UserError(
            f"{bundle.trace(trial.trial, 'series.npy')} is damaged: it has no times",
            "Run the suite again.",
        )
    width = -(-len(table) // MOST_STEPS)

    def column(name: str, factor: float = 1, keep: Any = np.nanmean) -> list[float | None] | None:
        if name not in facts.columns:
            return None
        values = table[:, facts.columns.index(name)].astype(float) * factor
        if not np.isfinite(values).any():
            return None
        parts = [values[start : start + width] for start in range(0, len(values), width)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of a part that is all NaN
            return [rounded(keep(part)) for part in parts]

    return {
        "part_s": facts.part_s,
        "end_s": column("end_s", keep=np.max),
        "p50_ms": column("p50_ms"),
        "p99_ms": column("p99_ms", keep=np.nanmax),
        "clock_ghz": column("frequency_khz", 1e-6),
        "temperature_c": column("temperature_c"),
    }


def paced(bundle: Bundle, trials: Sequence[Trial]) -> Paced:
    """The frames of all trials together."""
    facts = [_facts(bundle, trial, Paced) for trial in trials]
    return Paced(
        frames=sum(each.frames for each in facts),
        late=sum(each.late for each in facts),
        dropped=sum(each.dropped for each in facts),
        deadline_ms=facts[0].deadline_ms,
    )


PARTS = {
    "decode": ("decode",),
    "preprocess": ("preprocess",),
    "inference": ("bind", "infer", "read"),
    "postprocess": ("postprocess",),
}
"""Parts of a frame in the chart, with the stages that they consist of."""


def stages_ms(bundle: Bundle, trials: Sequence[Trial]) -> dict[str, float | None]:
    """Median of each of ``PARTS`` over frames, then over trials; None if it was not measured."""
    found: dict[str, list[float]] = {part: [] for part in PARTS}
    for trial in trials:
        names = _facts(bundle, trial, _Pipeline).stages
        table = _table(bundle, trial, "stages.npy", len(names))
        for part, stages in PARTS.items():
            columns = [index for index, name in enumerate(names) if name in stages]
            if columns:
                found[part].append(float(np.median(table[:, columns].sum(axis=1))) * 1e-6)
    return {
        part: rounded(float(np.median(values))) if values else None
        for part, values in found.items()
    }


def loadgen_reasons(bundle: Bundle, trials: Sequence[Trial]) -> list[str]:
    """Distinct reasons why LoadGen's runs are not valid, or why no rate was found."""
    reasons: list[str] = []
    for trial in trials:
        facts = _facts(bundle, trial, _LoadGen)
        verdict = facts.loadgen.invalid_because if facts.loadgen else None
        reasons += [reason for reason in (facts.no_rate_because, verdict) if reason]
    return list(dict.fromkeys(reasons))


def probes(bundle: Bundle, trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """The first ``MOST_PROBES`` rates that a server was probed at, in order: ``qps``, ``ms`` (the
    limited percentile) and ``valid``."""
    found = [probe for trial in trials for probe in _facts(bundle, trial, _Server).probes]
    return [
        {"qps": rounded(p.target_qps), "ms": rounded(p.latency_ms), "valid": p.valid}
        for p in found[:MOST_PROBES]
    ]
