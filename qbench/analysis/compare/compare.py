"""Compare two sets of cases: two runs, or two environments, backends or precisions of one run.

Cases of one run were measured in the same rounds, so each round gives one difference: such a
comparison is *paired* and gives verdicts. Two runs saw the machine at two times. With any test, 20
to 48 of 100 such comparisons of equal versions show a difference at a nominal 5 %
(``docs/method.md``), so they give intervals and never a verdict.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from qbench.analysis.compare.comparable import (
    Comparability,
    NotComparable,
    compare_bundles,
    energy_ratio,
    same_artifact,
    same_work,
)
from qbench.analysis.compare.matching import Column, Matches, match_runs, match_within, values_of
from qbench.analysis.compare.predictions import Delta, Deltas, Predictions
from qbench.analysis.statistics import verdict
from qbench.analysis.statistics.verdict import Decision, Shift, Verdict
from qbench.analysis.table.table import case_rows, estimate_of
from qbench.analysis.table.trials import (
    FIGURES,
    Ratio,
    Trials,
    ratio_of_estimates,
    ratio_of_shift,
    welch_ratios,
)
from qbench.bundle.bundle import Bundle
from qbench.errors import check_known
from qbench.spec.case import Filters
from qbench.spec.columns import CaseRow

P1_CALLS = 100
"""Minimum number of calls in a trial for a 1st percentile, which on the machine of
``docs/method.md`` is steadier than the 10th, and finds small changes sooner."""
FALSE_SHARE = 0.05
"""Maximum share of false alarms among the alarms of all pairs (Benjamini & Hochberg's q)."""
ALL = Filters()


@dataclass(frozen=True)
class Pair:
    """Two cases that did the same work, A's and B's.

    Attributes:
        a, b: their rows of the case table; of two runs without the columns that need the journal:
            noise and figures of scenarios.
        claim: ``same artifact``: the same prepared files, run in the same way, the environment
            aside where environments are compared; else ``same work``.
        differs: columns on which the artifacts differ (``comparable.same_artifact``).
        percentile: the percentile of ``latency``: ``p1`` of the samples if paired and every trial
            has 100 calls; else ``p10``, and ``p50`` below 10 calls.
        latency: ratio of that low percentile, which gates use. None where no rounds are shared.
        p50, p99: of a call's latency; p99 is None where a trial has below 100 calls.
        throughput: items per second; the only ratio of which above 1 is better.
        memory: peak over the process with its runtime imported.
        size: of the prepared files.
        load: loading and compiling the artifact: start-up.
        energy: per inference; None for the reason in ``energy_reason``. Its interval is derived
            from those of both sides.
        stalls: B's share of stalls minus A's (``decide.stall_share``); None unless paired.
        accuracy_delta: None where one of the two has no accuracy.
        decision: from the paired rounds of this pair alone; None unless paired.
        p_value: of the decision: twice the smaller one of latency and stalls (Bonferroni).
        adjusted_p: the same after Benjamini & Hochberg over all pairs of the comparison.
        outputs_changed: whether the outputs differ although the artifact is the same; None where it
            is not, or outputs are not known.
    """

    a: CaseRow
    b: CaseRow
    claim: Literal["same artifact", "same work"]
    differs: tuple[str, ...]
    percentile: Literal["p1", "p10", "p50"] | None
    latency: Ratio | None
    p50: Ratio | None
    p99: Ratio | None
    throughput: Ratio | None
    memory: Ratio | None
    size: Ratio | None
    load: Ratio | None
    energy: Ratio | None
    energy_reason: str | None
    stalls: Shift | None
    accuracy_delta: Delta | None
    decision: Decision | None
    p_value: float | None
    adjusted_p: float | None
    outputs_changed: bool | None

    @property
    def verdict(self) -> Verdict | None:
        """The verdict of the decision, if it stands after adjustment over all pairs; None unless
        paired."""
        if self.decision is None:
            return None
        alarm = self.decision.verdict in (Verdict.REGRESSION, Verdict.IMPROVEMENT)
        if alarm and (self.adjusted_p is None or self.adjusted_p >= FALSE_SHARE):
            return Verdict.INCONCLUSIVE
        return self.decision.verdict


@dataclass(frozen=True)
class Refusal:
    """Two cases with the same request that must not be compared.

    Attributes:
        a, b: their rows.
        fields: the columns that prevent it: ``status`` where one did not run, ``model`` where the
            same file has two names, else those of ``comparable.same_work``.
        reason: in a sentence.
    """

    a: CaseRow
    b: CaseRow
    fields: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Comparison:
    """The comparison of two sides.

    Every case of A is in ``pairs``, ``refused`` or ``only_a``, and likewise of B. Within one run a
    case may be in several pairs, as fp32 is with two variants of int8.

    Attributes:
        a_label, b_label: run ids, or the values of the column of one bundle.
        paired: from the same rounds of one run.
        comparability: of machine, software and settings of two runs; None within one.
        only_a, only_b: rows without a counterpart.
        column, run_id: the column whose values are compared, and the run; None for two runs.
    """

    a_label: str
    b_label: str
    paired: bool
    comparability: Comparability | None
    pairs: tuple[Pair, ...]
    only_a: tuple[CaseRow, ...]
    only_b: tuple[CaseRow, ...]
    refused: tuple[Refusal, ...]
    column: Column | None = None
    run_id: str | None = None


def compare_runs(a: Bundle, b: Bundle, filters: Filters = ALL) -> Comparison:
    """Compare two runs, unpaired: Welch's intervals on the logarithms of trials' figures, no
    verdicts.

    Raises:
        UserError: a bundle is damaged, or a filter names something that neither has.
    """
    _check(filters, [a, b])
    first, last = (_Side(bundle, filters, journal=False) for bundle in (a, b))
    matches = match_runs(first.rows, last.rows)
    agreed, refused = _sorted_out(matches)
    figures = _unpaired_figures(first, last, agreed)
    deltas = Deltas(Predictions(a), Predictions(b))
    pairs = [
        _pair(rows, found, (first, last), deltas, None)
        for rows, found in zip(agreed, figures, strict=True)
    ]
    return Comparison(
        a.run_id,
        b.run_id,
        False,
        compare_bundles(a, b),
        tuple(pairs),
        tuple(matches.only_a),
        tuple(matches.only_b),
        tuple(refused),
    )


def compare_within(
    bundle: Bundle, column: Column, a: str, b: str, filters: Filters = ALL
) -> Comparison:
    """Compare two values of a column of one bundle, paired by round and sitting: each two cases
    that are equal in all other fields.

    Raises:
        UserError: the bundle is damaged, or has no case with such a value or of a filter.
    """
    for value in (a, b):
        known = values_of(bundle)[column]
        check_known(value, known, f"{bundle.run_id} has no {column} '{value}'")
    _check(filters, [bundle])
    side = _Side(bundle, filters, journal=True)
    first, last = ([row for row in side.rows if getattr(row, column) == value] for value in (a, b))
    matches = match_within(first, last, column, side.cases)
    agreed, refused = _sorted_out(matches)
    predictions = Predictions(bundle)
    deltas = Deltas(predictions, predictions)
    pairs = [
        _pair(rows, _paired_figures(side, rows), (side, side), deltas, column) for rows in agreed
    ]
    return Comparison(
        a,
        b,
        True,
        None,
        tuple(_adjusted(pairs)),
        tuple(matches.only_a),
        tuple(matches.only_b),
        tuple(refused),
        column,
        bundle.run_id,
    )


# --------------------------------------------------------------------------- what is compared


class _Side:
    """A bundle, read once; ``journal``: see ``case_rows``."""

    def __init__(self, bundle: Bundle, filters: Filters, journal: bool) -> None:
        frame = bundle.trials_frame()
        entries = {entry.case_id: entry for entry in bundle.plan.cases}
        self.bundle = bundle
        self.rows = case_rows(bundle, frame, journal)
        if filters != ALL:
            admitted = {k for k, entry in entries.items() if filters.admit(entry.case)}
            self.rows = [row for row in self.rows if row.case_id in admitted]
        self.cases = {key: entry.case for key, entry in entries.items()}
        self.evaluations = {key: str(entry.evaluation_id) for key, entry in entries.items()}
        self.trials = Trials(frame)
        self._low: dict[int, tuple[float, float]] = {}

    def low_and_stalls(self, places: Sequence[int]) -> np.ndarray:
        """``[trials, 2]``: the logarithm of p1, and the share of stalls, of the raw samples."""
        for place in places:
            if place not in self._low:
                samples = self.bundle.samples(self.trials.names[place])
                self._low[place] = (
                    float(np.log(np.percentile(samples, 1))),
                    verdict.stall_share(samples),
                )
        return np.array([self._low[place] for place in places])


def _check(filters: Filters, bundles: Iterable[Bundle]) -> None:
    """
    Raises:
        UserError: a filter names something that no bundle has.
    """
    cases = [entry.case for bundle in bundles for entry in bundle.plan.cases]
    for what, names in (
        ("model", filters.models),
        ("backend", filters.backends),
        ("precision", filters.precisions),
    ):
        known = {getattr(case, what) for case in cases}
        for name in names:
            check_known(name, known, f"there is no {what} '{name}' to compare")


def _sorted_out(matches: Matches) -> tuple[list[tuple[CaseRow, CaseRow]], list[Refusal]]:
    """The pairs that may be compared, and the refused ones."""
    agreed: list[tuple[CaseRow, CaseRow]] = []
    refused: list[Refusal] = []
    for a, b in matches.pairs:
        if a.status != "ok" or b.status != "ok":
            refused.append(Refusal(a, b, ("status",), _not_measured(a, b)))
        elif fields := same_work(a, b):
            told = ", ".join(
                f"{name} {_shown(a, name)} against {_shown(b, name)}" for name in fields
            )
            refused.append(Refusal(a, b, tuple(fields), f"not the same work: {told}"))
        else:
            agreed.append((a, b))
    return agreed, refused


def _not_measured(a: CaseRow, b: CaseRow) -> str:
    told = {
        side: f"{row.status or 'open'}: {row.reason}"
        for side, row in (("A", a), ("B", b))
        if row.status != "ok"
    }
    if len(set(told.values())) == 1 and len(told) == 2:
        return f"A and B {told['A']}"
    return "; ".join(f"{side} {reason}" for side, reason in told.items())


def _shown(row: CaseRow, name: str) -> str:
    value = getattr(row, name)
    if value is None:
        return "not known"
    return str(value)[:12] if name.endswith("_digest") else str(value)


# --------------------------------------------------------------------------- figures


@dataclass(frozen=True)
class _Figures:
    """Statistics of the trials of a pair."""

    ratios: Mapping[str, Ratio | None]
    percentile: Literal["p1", "p10", "p50"] | None
    latency: Ratio | None
    decision: Decision | None = None


def _unpaired_figures(
    a: _Side, b: _Side, pairs: Sequence[tuple[CaseRow, CaseRow]]
) -> list[_Figures]:
    cases = [(first.case_id, last.case_id) for first, last in pairs]
    ratios = {name: welch_ratios(a.trials, b.trials, cases, name) for name in FIGURES}
    found: list[_Figures] = []
    for values in zip(*ratios.values(), strict=True):
        of: dict[str, Ratio | None] = dict(zip(FIGURES, values, strict=True))
        name = "p10" if of["p10"] else "p50"
        found.append(_Figures(of, name, of[name]))
    return found


def _paired_figures(side: _Side, pair: tuple[CaseRow, CaseRow]) -> _Figures:
    trials = side.trials
    a, b = trials.pairs(*(row.case_id for row in pair))
    if not a:
        return _Figures(dict.fromkeys(FIGURES), None, None)
    ratios = {name: trials.paired_ratio(name, a, b) for name in FIGURES}
    difference = side.low_and_stalls(b) - side.low_and_stalls(a)
    name: Literal["p1", "p10", "p50"] = "p10" if ratios["p10"] else "p50"
    latency = trials.logs[name][b] - trials.logs[name][a]
    if trials.columns["calls"][a + b].min() >= P1_CALLS:
        name, latency = "p1", difference[:, 0]
    decision = verdict.decide(latency, difference[:, 1])
    return _Figures(ratios, name, ratio_of_shift(decision.latency, len(a)), decision)


def _pair(
    rows: tuple[CaseRow, CaseRow],
    figures: _Figures,
    sides: tuple[_Side, _Side],
    deltas: Deltas,
    column: Column | None,
) -> Pair:
    a, b = rows
    differs = same_artifact(a, b)
    same = not [name for name in differs if not name == column == "environment"]
    energy, reason = energy_of(a, b)
    decision = figures.decision
    changed = None
    if same and a.outputs_digest is not None and b.outputs_digest is not None:
        changed = a.outputs_digest != b.outputs_digest
    return Pair(
        a=a,
        b=b,
        claim="same artifact" if same else "same work",
        differs=tuple(differs),
        percentile=figures.percentile,
        latency=figures.latency,
        **{name: figures.ratios[name] for name in FIGURES if name != "p10"},
        size=_size(a, b),
        energy=energy,
        energy_reason=reason,
        stalls=None if decision is None else decision.stalls,
        accuracy_delta=deltas.of(
            a, b, *(side.evaluations[row.case_id] for side, row in zip(sides, rows, strict=True))
        ),
        decision=decision,
        p_value=None if decision is None else _p_value(decision),
        adjusted_p=None,
        outputs_changed=changed,
    )


def _p_value(decision: Decision) -> float:
    return min(1.0, 2 * min(decision.latency.p_value, decision.stalls.p_value))


def _size(a: CaseRow, b: CaseRow) -> Ratio | None:
    first, last = a.artifact_size_mb, b.artifact_size_mb
    return Ratio(last / first, None, None, False, 0, None) if first and last else None


def energy_of(a: CaseRow, b: CaseRow) -> tuple[Ratio | None, str | None]:
    """B's energy over A's, or the reason why they must not be compared."""
    try:
        energy_ratio(a, b)  # refuses what must not be divided
    except NotComparable as reason:
        return None, str(reason)
    first, last = (estimate_of(row, "energy_mj_per_inference") for row in (a, b))
    assert first is not None and last is not None  # or they would not be comparable
    return ratio_of_estimates(first, last), None


def _adjusted(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs with p-values adjusted over all of them."""
    known = [pair.p_value for pair in pairs if pair.p_value is not None]
    if not known:
        return list(pairs)
    adjusted = iter(verdict.adjusted(known).tolist())
    return [
        pair if pair.p_value is None else replace(pair, adjusted_p=next(adjusted)) for pair in pairs
    ]
