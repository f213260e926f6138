"""Candidates of a recommendation: the cases of runs, with the figures that limits apply to.

All figures are from the case's own machine, including accuracy: int8 kernels differ between
processors. If the same work was also measured under sustained load, its speed is the sustained one:
that of a short window may not last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np

from qbench.analysis.compare.comparable import facts_of, spoiled
from qbench.analysis.compare.machines import Machine
from qbench.analysis.cost.figures import cost_of
from qbench.analysis.statistics import estimates
from qbench.analysis.statistics.estimates import Estimate
from qbench.analysis.statistics.verdict import paired_shift
from qbench.analysis.table.gpu import device_memory
from qbench.analysis.table.table import case_rows, estimate_of
from qbench.bundle.bundle import Bundle
from qbench.bundle.records.run import Trial
from qbench.spec.columns import CaseRow
from qbench.spec.costs import CostSheet
from qbench.spec.precisions import REFERENCE
from qbench.spec.question import ASPECTS, Question
from qbench.spec.suite import MIN_ROUNDS
from qbench.text import count

SUSTAINED = "sustained"
SHORT = ("single-stream", "offline")
"""Scenarios that call without pause, for which ``sustained`` is the long version."""
_COLUMNS = {"p50": "latency_p50_ms", "p99": "latency_p99_ms", "throughput": "throughput_ips"}
_SPREADS = {
    "memory_process_peak_mb": ("memory_process_peak_bytes", 1e-6),
    "cold_start_ms": ("cold_ns", 1e-6),
}
"""Columns that are medians over trials: the value of a trial, and the factor of its unit."""
_SUSTAINED = {"p50": "sustained_p50_ms", "p99": "sustained_p99_ms"}


class Figure(NamedTuple):
    """Value of one aspect of a case.

    Attributes:
        estimate: in the aspect's unit; None if unknown. Without an interval it decides nothing,
            unless ``exact``.
        rounds: number of trials behind it; 0 if it does not come from trials.
        reason: why there is no figure, or none that decides; else "".
        exact: whether it has no uncertainty, such as the size of a file.
        of: ``sustained`` for sustained load; else "".
    """

    estimate: Estimate | None
    rounds: int = 0
    reason: str = ""
    exact: bool = False
    of: str = ""

    @property
    def interval(self) -> tuple[float, float] | None:
        """Low and high end; both the value, if it is exact; None without an interval."""
        if self.estimate is None:
            return None
        value, low, high = self.estimate
        if self.exact:
            return value, value
        return None if low is None or high is None else (low, high)


@dataclass(frozen=True)
class Measured:
    """Data of a bundle that a recommendation needs.

    Attributes:
        machine: the machine that it was measured on.
        run_id: of the bundle.
        rows: its case table.
        spreads: by case, the median over trials of each column of ``_SPREADS`` and
            ``_SUSTAINED``, with its interval.
        way: settings and software that affect how calls are measured, by name.
    """

    machine: Machine
    run_id: str
    rows: Sequence[CaseRow]
    spreads: Mapping[str, Mapping[str, Estimate]] = field(
        default_factory=dict[str, Mapping[str, Estimate]]
    )
    way: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Candidate:
    """A case that can be recommended.

    Attributes:
        measured: its run.
        row: its row of the case table.
        sustained: the row of the same work under sustained load; None if there is no such case.
        figures: by aspect.
    """

    measured: Measured
    row: CaseRow
    sustained: CaseRow | None
    figures: Mapping[str, Figure]


def read(bundle: Bundle, machine: Machine) -> Measured:
    """Read a bundle of ``machine``.

    Raises:
        UserError: the bundle is damaged.
    """
    frame = bundle.trials_frame()
    good = frame[frame["status"] == "ok"]
    values = {
        column: good[name].to_numpy(float) * factor for column, (name, factor) in _SPREADS.items()
    }
    spreads: dict[str, dict[str, Estimate]] = {}
    for case_id, places in good.groupby("case_id").indices.items():
        spreads[str(case_id)] = {
            column: median(of[places]) for column, of in values.items() if not _gaps(of[places])
        }
    of_load: dict[tuple[str, str], list[float]] = {}
    trials = bundle.trials
    for trial in trials:
        for column in _SUSTAINED.values():
            value = trial.figures.get(column)
            if trial.status == "ok" and value is not None:
                of_load.setdefault((trial.case_id, column), []).append(float(value))
    for (case_id, column), found in of_load.items():
        spreads.setdefault(case_id, {})[column] = median(np.array(found))
    on_device: dict[str, list[Trial]] = {}
    for trial in trials:
        if trial.status == "ok" and (trial.gpu or trial.device_memory):
            on_device.setdefault(trial.case_id, []).append(trial)
    for case_id, own in on_device.items():
        known, _ = device_memory(own)
        if known:
            spreads.setdefault(case_id, {})["device_memory_mb"] = median(np.array(known) * 1e-6)
    way = {name: value for name, value in facts_of(bundle).items() if "choice" in spoiled(name)}
    return Measured(machine, bundle.run_id, case_rows(bundle, frame), spreads, way)


def _gaps(values: np.ndarray) -> bool:
    return not len(values) or bool(np.isnan(values).any())


def median(values: np.ndarray) -> Estimate:
    """Return the median over trials, with the interval between order statistics that inverts the
    sign test; no interval below 6 trials."""
    shift = paired_shift(values)
    return Estimate(shift.value, shift.low, shift.high)


# --------------------------------------------------------------------------- candidates


def candidates(
    runs: Iterable[Measured], question: Question, costs: CostSheet | None
) -> list[Candidate]:
    """Return the cases that the question is about. A sustained case is not a candidate itself if
    another candidate uses its figures."""
    found: list[Candidate] = []
    for run in runs:
        rows = [row for row in run.rows if not question.models or row.model in question.models]
        if question.batch_size is not None:
            rows = [row for row in rows if row.batch_size == question.batch_size]
        loads = {_load(row): row for row in rows if row.scenario == SUSTAINED}
        counterparts = {_load(row) for row in rows if row.scenario in SHORT}
        for row in rows:
            sustained = loads.get(_load(row)) if row.scenario in SHORT else None
            if question.scenario not in (None, row.scenario):
                continue
            if row.scenario == SUSTAINED:
                if question.scenario is None and _load(row) in counterparts:
                    continue
                sustained = row
            figures = _figures(row, sustained, run)
            if question.minimize == "cost" and row.status == "ok":
                figures["cost"] = _cost(row, run, question, costs)
            found.append(Candidate(run, row, sustained, figures))
    return found


_load = attrgetter(
    "model", "backend", "environment", "precision", "variant", "recipe", "device", "batch_size",
    "threads", "streams",
)  # fmt: skip
"""Columns that are equal in a case and its sustained counterpart."""


def _figures(row: CaseRow, sustained: CaseRow | None, run: Measured) -> dict[str, Figure]:
    """Return the figures by aspect, without the cost; empty if the case was not measured."""
    if row.status != "ok":
        return {}
    return {
        **{name: _speed(name, row, sustained, run) for name in ("p50", "p99", "throughput")},
        "accuracy": _accuracy(row),
        "accuracy_drop": _drop(row),
        "memory": _over_trials(row, "memory_process_peak_mb", run, "not kept by this kernel"),
        "device_memory": _on_device(row, run),
        "cold_start": _over_trials(row, "cold_start_ms", run, "not measured"),
        "size": _exact(row.artifact_size_mb, "what was prepared has no size"),
        "energy": _energy(row),
    }


def _speed(name: str, row: CaseRow, sustained: CaseRow | None, run: Measured) -> Figure:
    """Return a figure of speed: under sustained load, if measured."""
    if row.scenario == "mlperf-server" and name != "throughput":
        return Figure(
            None, reason="each case runs at the rate it can hold, so these do not compare"
        )
    if sustained is None:
        return _of_trials(name, row)
    if sustained.status != "ok":
        status = sustained.status or "not measured yet"
        return Figure(None, reason=f"sustained load: {status}: {sustained.reason}", of=SUSTAINED)
    if name == "throughput":
        return _of_trials(name, sustained)._replace(of=SUSTAINED)
    column = _SUSTAINED[name]
    figure = _over_trials(sustained, column, run, "below 100 calls in the last part of the load")
    return figure._replace(of=SUSTAINED)


def _of_trials(name: str, row: CaseRow) -> Figure:
    found = estimate_of(row, _COLUMNS[name])
    if found is None:
        few = "a trial has fewer than 100 calls: a longer timed_s gives a p99"
        return Figure(None, row.rounds, few if name == "p99" else "not measured")
    return _enough(found, row.rounds)


def _on_device(row: CaseRow, run: Measured) -> Figure:
    if row.device == "cpu":
        return _exact(0.0, "")
    return _over_trials(row, "device_memory_mb", run, "neither NVML nor the runtime tells it")


def _over_trials(row: CaseRow, column: str, run: Measured, why_none: str) -> Figure:
    value = getattr(row, column)
    if value is None:
        return Figure(None, row.rounds, why_none)
    found = run.spreads.get(row.case_id, {}).get(column)
    return _enough(found or Estimate(value, None, None), row.rounds)


def _enough(estimate: Estimate, rounds: int) -> Figure:
    if estimate.low is not None:
        return Figure(estimate, rounds)
    more = MIN_ROUNDS - rounds
    if more <= 0:
        return Figure(estimate, rounds, "not every trial has it, so it has no interval")
    few = f"{count(more, 'more round')} for an interval, it has {rounds}"
    return Figure(estimate, rounds, few)


def _exact(value: float | None, why_none: str) -> Figure:
    if value is None:
        return Figure(None, reason=why_none)
    return Figure(Estimate(value, None, None), exact=True)


def _accuracy(row: CaseRow) -> Figure:
    """Return the accuracy, in per cent."""
    if row.accuracy is None:
        return Figure(None, reason=_NO_LABELS)
    return _of_items([row.accuracy, row.accuracy_low, row.accuracy_high], row)


_NO_LABELS = "its accuracy was not measured on this machine, and another's does not hold here"


def _drop(row: CaseRow) -> Figure:
    """Return the loss of accuracy against float32 on the same items, in points."""
    if row.accuracy is None:
        return Figure(None, reason=_NO_LABELS)
    if row.precision == REFERENCE and row.sqnr_db is None:  # it is the reference itself
        return _exact(0.0, "")
    if row.accuracy_delta is None:
        return Figure(
            None,
            reason="it has no float32 counterpart to lose accuracy against; "
            f"a limit such as '{ASPECTS['accuracy'].example}' is on the accuracy itself",
        )
    gained = (row.accuracy_delta, row.accuracy_delta_high, row.accuracy_delta_low)
    return _of_items([None if value is None else -value for value in gained], row)


def _of_items(shares: Sequence[float | None], row: CaseRow) -> Figure:
    value, low, high = (None if share is None else 100 * share for share in shares)
    assert value is not None
    if low is None or high is None:
        few = f"{estimates.MIN_ITEMS} items or more for an interval, it has {row.accuracy_items}"
        return Figure(Estimate(value, None, None), reason=few)
    return Figure(Estimate(value, low, high))


def _energy(row: CaseRow) -> Figure:
    """Return the energy of an inference, by the row's method and scope; a proxy decides nothing."""
    estimate = estimate_of(row, "energy_mj_per_inference")
    if estimate is None:
        return Figure(None, reason=row.energy_reason or "not measured")
    if not row.energy_is_measured:
        return Figure(estimate, reason="a proxy, and no measurement: a sensor or a wall meter")
    if estimate.low is None:
        return Figure(estimate, reason="six windows or more for an interval (energy: windows)")
    return Figure(estimate)


def _cost(row: CaseRow, run: Measured, question: Question, costs: CostSheet | None) -> Figure:
    """Return the cost of a million inferences, in the sheet's currency."""
    if costs is None:
        return Figure(None, reason="no costs are given (--costs FILE)")
    found = cost_of(row, run.machine, costs, question.rate_ips, run.rows)
    if found.cost_per_million is None:
        told = [found.reasons.get(f"{way}_per_million", "") for way in ("owned", "rented")]
        return Figure(None, reason="; ".join(filter(None, told)) or "no price is known")
    estimate = found.cost_per_million
    return Figure(
        estimate, reason="" if estimate.low is not None else "too few rounds for an interval"
    )
