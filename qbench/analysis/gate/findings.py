"""Find cases that failed, disappeared, run at another precision, stay inconclusive, or exceed an
absolute limit. Worse figures are found in ``qbench.analysis.gate.figures``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal

from qbench.analysis.table.table import case_rows
from qbench.bundle.bundle import Bundle
from qbench.errors import UserError
from qbench.spec.columns import COLUMNS, INTERVALS, CaseRow
from qbench.spec.gate import GateSettings, Kind
from qbench.spec.question import ColumnLimit

Severity = Literal["regression", "suspicion", "notice", "accepted"]
MEASURED: frozenset[Kind] = frozenset({"slower", "stalls", "memory", "start_up"})
"""Kinds of figures that vary between trials, so that new trials can confirm them."""


@dataclass(frozen=True)
class Figure:
    """Deterioration of a case, with its 95 % interval.

    Attributes:
        value: above 0 is worse. For latency, memory, size and start-up the relative growth (0.03
            is 3 % more); for stalls the difference of shares of calls; for accuracy the loss in
            the metric's unit; for a limit the value itself.
        low, high: None without an interval.
        adjusted_p: after Benjamini & Hochberg over all cases; None without a p-value.
        rounds: pairs of trials, or the smaller number of trials; None for figures without trials.
    """

    value: float
    low: float | None = None
    high: float | None = None
    adjusted_p: float | None = None
    rounds: int | None = None


@dataclass(frozen=True)
class Finding:
    """A problem of one case, or a notice about it.

    Attributes:
        case_id: in the judged run; in the last run, if the case is missing.
        severity: ``regression`` fails; ``suspicion`` would, if new trials confirmed it; ``notice``
            is only reported; ``accepted``: a regression or suspicion that a person accepted.
        says: a sentence with the figures.
        against: the baseline, such as ``environment:baseline`` or ``last``; None if the run itself
            shows the problem.
        counterpart: the id of the case in the same run that it was compared with.
        figure: None if the finding has no figure.
        confirmed: whether new trials show it, too; None if there are none.
        again: the figure of the new trials.
    """

    case_id: str
    label: str
    kind: Kind
    severity: Severity
    says: str
    against: str | None = None
    counterpart: str | None = None
    figure: Figure | None = None
    confirmed: bool | None = None
    again: Figure | None = None


class Night:
    """The judged run: its case table and the labels of its cases."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        rows = case_rows(bundle, bundle.trials_frame())
        self.rows: dict[str, CaseRow] = {row.case_id: row for row in rows}
        self.cases = {entry.case_id: entry.case for entry in bundle.plan.cases}

    def label(self, case_id: str) -> str:
        return self.cases[case_id].label

    @property
    def environments(self) -> list[str]:
        return list(dict.fromkeys(row.environment for row in self.rows.values()))

    def finding(
        self, row: CaseRow, kind: Kind, severity: Severity, says: str, **more: Any
    ) -> Finding:
        return Finding(row.case_id, self.label(row.case_id), kind, severity, says, **more)


@dataclass(frozen=True)
class Before:
    """An earlier result of a case.

    Attributes:
        row: its row of the case table.
        where: in words: ``in environment baseline``, ``in run 20261122-...``.
        against: the baseline's name.
    """

    row: CaseRow
    where: str
    against: str


def broken(night: Night, befores: Mapping[str, Sequence[Before]]) -> list[CaseRow]:
    """Return the cases that should have run and did not: all that are not ok, except skipped cases
    that did not run before either."""
    return [
        row
        for row in night.rows.values()
        if row.status != "ok" and (row.status != "skipped" or _was_ok(befores.get(row.case_id, ())))
    ]


def _was_ok(befores: Iterable[Before]) -> Before | None:
    return next((before for before in befores if before.row.status == "ok"), None)


def failures(night: Night, befores: Mapping[str, Sequence[Before]]) -> Iterator[Finding]:
    """Report cases that failed, or were skipped although they ran before."""
    for row in broken(night, befores):
        before = _was_ok(befores.get(row.case_id, ()))
        what = f"{row.status}: {row.reason}"
        if before is None:
            yield night.finding(row, "failing", "regression", what)
        else:
            says = f"it was ok {before.where}, and is {what}"
            yield night.finding(row, "newly_failing", "regression", says, against=before.against)


def missing(night: Night, last: Night | None, settings: GateSettings) -> Iterator[Finding]:
    """Report cases that ran last time and are missing from this run."""
    if last is None:
        return
    new = [row for case_id, row in night.rows.items() if case_id not in last.rows]
    kind = attrgetter("backend", "precision", "environment")
    changed = night.bundle.begin.suite_digest != last.bundle.begin.suite_digest
    for case_id, row in last.rows.items():
        if case_id in night.rows or row.status != "ok":
            continue
        renamed = [night.label(other.case_id) for other in new if kind(other) == kind(row)]
        says = f"it was ok in run {last.bundle.run_id}, and this run has no such case"
        says += "; the suite was changed" if changed else ""
        says += f"; perhaps it is now '{renamed[0]}'" if renamed else ""
        severity = "regression" if settings.missing == "fail" else "notice"
        yield Finding(case_id, last.label(case_id), "missing", severity, says, "last")


def lost_precision(
    night: Night, befores: Mapping[str, Sequence[Before]], settings: GateSettings
) -> Iterator[Finding]:
    """Report cases whose multiply-accumulates now run mostly at another precision."""
    severity = "regression" if settings.effective_precision == "fail" else "notice"
    for case_id, row in night.rows.items():
        for before in befores.get(case_id, ()):
            was, now = before.row.effective_precision, row.effective_precision
            if None not in (was, now) and was != now:
                says = f"most of it ran at {was} {before.where}, and runs at {now}"
                yield night.finding(
                    row, "effective_precision_lost", severity, says, against=before.against
                )
                break


def inconclusive(
    night: Night, earlier: Iterable[Bundle], settings: GateSettings
) -> Iterator[Finding]:
    """Report cases that were inconclusive in too many consecutive runs, including this one.

    Args:
        earlier: runs, the newest first; read lazily.
    """
    needed = settings.inconclusive_nights
    streak = {case_id for case_id, row in night.rows.items() if row.inconclusive}
    runs = iter(earlier)
    for _ in range((needed or 1) - 1):
        before = next(runs, None) if streak else None
        if before is None:
            return
        rows = Night(before).rows
        streak = {key for key in streak if key in rows and rows[key].inconclusive}
    for case_id in sorted(streak) if needed else ():
        says = f"it has been inconclusive for {needed} runs: more rounds, or a quieter machine"
        yield night.finding(night.rows[case_id], "inconclusive_for_nights", "regression", says)


# --------------------------------------------------------------------------- limits

_REPEATABLE = ("case", "quality")
"""Groups of columns that new trials do not change."""
_MATCHED = ("model", "backend", "environment", "precision", "scenario")


def over_limit(night: Night, settings: GateSettings, exempt: Iterable[str]) -> Iterator[Finding]:
    """Report cases beyond an absolute limit. If the interval of a figure over trials is only partly
    beyond it, the finding is a notice.

    Args:
        exempt: environments of baselines: only limits that name them apply to them.
    """
    exempt = set(exempt)
    for limit in settings.limits:
        for row in night.rows.values():
            wanted = all(getattr(limit, key) in (None, getattr(row, key)) for key in _MATCHED)
            if wanted and (limit.environment or row.environment not in exempt):
                found = _beyond(night, row, limit.bound)
                if found is not None:
                    yield found


def _beyond(night: Night, row: CaseRow, bound: ColumnLimit) -> Finding | None:
    name, limit, is_lower = bound
    value = getattr(row, name)
    if value is None:
        return None
    if isinstance(value, str):
        raise UserError(
            f"there is a limit on {name}, which holds words: {value[:40]}",
            "Limit a column of figures.",
        )
    repeatable = COLUMNS[name].group in _REPEATABLE or name.endswith("size_mb")
    ends = None if repeatable else INTERVALS.get(name)
    low, high = (getattr(row, end) for end in ends) if ends else (None, None)
    if value >= limit if is_lower else value <= limit:
        return None
    if is_lower:
        wholly = (value if high is None else high) < limit
    else:
        wholly = (value if low is None else low) > limit
    says = f"{name} is {value:.4g}, {'below' if is_lower else 'above'} its limit of {limit:g}"
    says += "" if wholly else f", which lies within its interval ({low:.4g} to {high:.4g})"
    severity = "regression" if wholly else "notice"
    figure = Figure(float(value), low, high, rounds=None if repeatable else row.rounds)
    return night.finding(row, "limit", severity, says, figure=figure)


def can_be_confirmed(finding: Finding) -> bool:
    """Whether new trials could confirm or refute it."""
    if finding.kind == "limit":
        return bool(finding.figure and finding.figure.rounds) and finding.severity == "regression"
    return finding.kind in MEASURED and finding.severity == "suspicion"
