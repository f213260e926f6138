"""Profiles of cases by operator, where they were recorded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from qbench.bundle.records.run import OperatorTime, Profiled
from qbench.present.words.cells import NOTHING
from qbench.present.words.named import PageCase
from qbench.present.words.run import Run
from qbench.present.words.traces import rounded
from qbench.text import count, figure

MOST_KINDS = 7
"""Maximum operator types of a model with a colour of their own; the others are ``OTHER``."""
OTHER = "other types"
BAR = ("run", "model", "backend", "precision", "condition", "label", "anchor")
"""Attributes of a case that its bar has."""


def profiles(runs: Sequence[Run], cases: Sequence[PageCase]) -> list[dict[str, Any]]:
    """For the template, each profile: its ``cases`` (those that differ only in threads or streams
    are evaluated, and so profiled, once), ``rows``, ``left`` (operators that the rows leave out),
    ``total``, ``notes`` and, if there is no profile, the ``reason``."""
    return [
        {
            "cases": [
                {name: getattr(case, name) for name in ("model", "label", "anchor")}
                for case in named
            ],
            "batch": named[0].batch_size,
            "runs": profile.runs,
            "reason": profile.reason,
            "notes": profile.notes,
            **_table(profile),
        }
        for profile, named in _recorded(runs, cases)
    ]


def bars(runs: Sequence[Run], cases: Sequence[PageCase]) -> list[dict[str, Any]]:
    """For the chart, by case: the share of each operator type, in percent of the time, or of the
    number of operators if the runtime reports no times; with times and counts."""
    recorded = [(p, named) for p, named in _recorded(runs, cases) if p.kinds]
    costliest = _costliest(recorded)
    found = []
    for profile, named in recorded:
        kinds = costliest[named[0].model]
        shares, times, counts = _by_kind(profile, kinds)
        for case in named:
            found.append(
                {
                    **{name: getattr(case, name) for name in BAR},
                    "of": "time" if profile.ns is not None else "operators",
                    "kinds": [*kinds, OTHER],
                    "share": {kind: rounded(100 * share) for kind, share in shares.items()},
                    "us": {kind: rounded(us) for kind, us in times.items()},
                    "operators": dict(counts),
                }
            )
    return found


def _recorded(
    runs: Sequence[Run], cases: Sequence[PageCase]
) -> Iterator[tuple[Profiled, list[PageCase]]]:
    """Each profile with its cases, in the order of the table."""
    for run in runs:
        evaluations = {e.case_id: e.evaluation_id for e in run.bundle.plan.cases}
        evaluated = run.bundle.evaluated
        named: dict[str, list[PageCase]] = defaultdict(list)
        for case in cases:
            if case.run == run.letter:
                named[str(evaluations[case.case_id])].append(case)
        for evaluation, some in named.items():
            record = evaluated.get(evaluation)
            if record is not None and record.profile is not None:
                yield record.profile, some


# --------------------------------------------------------------------------- the table


def _table(profile: Profiled) -> dict[str, Any]:
    """``rows`` of operators, or of operator types if the runtime reports no times; ``timed``;
    ``total`` and ``left``, as text."""
    timed = profile.ns is not None
    other = profile.other_operators if timed else profile.other_kinds
    operators = sum(kind.operators for kind in profile.kinds)
    operators += profile.other_kinds.operators if profile.other_kinds else 0
    listed = profile.operators if timed else profile.kinds
    rows = [
        {
            "name": one.name if isinstance(one, OperatorTime) else one.kind,
            "kind": one.kind,
            "precision": one.precision or NOTHING,
            "operators": 1 if isinstance(one, OperatorTime) else one.operators,
            "us": NOTHING if one.ns is None else figure(one.ns / 1e3),
            "share": figure(100 * one.share),
            "fallback": isinstance(one, OperatorTime) and one.fallback,
        }
        for one in listed
    ]
    total = count(operators, "operator")
    if profile.ns is not None:
        total += f", {figure(profile.ns / 1e3)} µs in one inference"
    left = ""
    if other is not None:
        left = f"{other.operators} other operators"
        if other.ns is not None and profile.ns:
            left += f": {figure(other.ns / 1e3)} µs, {figure(100 * other.ns / profile.ns)} %"
    return {"timed": timed, "rows": rows, "total": total, "left": left}


# --------------------------------------------------------------------------- the chart


def _costliest(
    recorded: Sequence[tuple[Profiled, Sequence[PageCase]]],
) -> dict[str, list[str]]:
    """By model, the operator types with the largest total share, in descending order."""
    sums: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for profile, named in recorded:
        for kind in profile.kinds:
            sums[named[0].model][kind.kind] += kind.share
    return {
        model: sorted(shares, key=lambda kind: -shares[kind])[:MOST_KINDS]
        for model, shares in sums.items()
    }


def _by_kind(
    profile: Profiled, kinds: Sequence[str]
) -> tuple[dict[str, float], dict[str, float], dict[str, int]]:
    """Share, microseconds (empty without times) and number of operators by type, over all
    precisions; types other than ``kinds`` are under ``OTHER``."""
    shares: dict[str, float] = defaultdict(float)
    times: dict[str, float] = defaultdict(float)
    counts: dict[str, int] = defaultdict(int)
    for kind in profile.kinds:
        name = kind.kind if kind.kind in kinds else OTHER
        shares[name] += kind.share
        counts[name] += kind.operators
        if kind.ns is not None:
            times[name] += kind.ns / 1e3
    rest = profile.other_kinds
    if rest is not None:
        shares[OTHER] += max(0.0, 1 - sum(shares.values()))
        counts[OTHER] += rest.operators
        if rest.ns is not None:
            times[OTHER] += rest.ns / 1e3
    return shares, times, counts
