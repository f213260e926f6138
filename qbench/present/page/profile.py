"""Where the time of a case's inference goes, operator by operator, where that was recorded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from qbench.present.words.run import Run
from qbench.present.words.traces import rounded
from qbench.text import figure

MOST_KINDS = 7
"""Types of operators of a model that the chart tells apart; the rest are one."""
OTHER = "other types"
NOTHING = "–"

Case = Mapping[str, Any]


def profiles(runs: Sequence[Run], cases: Sequence[Case]) -> list[dict[str, Any]]:
    """For the template: of each profile, the ``cases`` that it holds for (cases that differ in
    threads or streams only are evaluated, and so profiled, once), its ``rows``, what is ``left``
    out of them, ``total``, ``notes`` and, where there is none, the ``reason``."""
    return [
        {
            "cases": [
                {name: case[name] for name in ("model", "label", "anchor")} for case in named
            ],
            "batch": named[0]["batch_size"],
            "runs": profile["runs"],
            "reason": profile["reason"],
            "notes": profile["notes"],
            **_table(profile),
        }
        for profile, named in _recorded(runs, cases)
    ]


def bars(runs: Sequence[Run], cases: Sequence[Case]) -> list[dict[str, Any]]:
    """For the chart: by case, the share of each type of operator (percent of the time; of the
    operators where the runtime tells no times), and what is said of each."""
    recorded = [(p, named) for p, named in _recorded(runs, cases) if p["kinds"]]
    costliest = _costliest(recorded)
    found = []
    for profile, named in recorded:
        kinds = costliest[named[0]["model"]]
        shares, times, counts = _by_kind(profile, kinds)
        for case in named:
            found.append(
                {
                    **{name: case[name] for name in ("run", "model", "backend", "precision")},
                    **{name: case[name] for name in ("condition", "label", "anchor")},
                    "of": "time" if profile["ns"] is not None else "operators",
                    "kinds": [*kinds, OTHER],
                    "share": {kind: rounded(100 * share) for kind, share in shares.items()},
                    "us": {kind: rounded(us) for kind, us in times.items()},
                    "operators": dict(counts),
                }
            )
    return found


def _recorded(
    runs: Sequence[Run], cases: Sequence[Case]
) -> Iterator[tuple[Mapping[str, Any], list[Case]]]:
    """Each profile with the cases that it holds for, in the order of the table."""
    for run in runs:
        evaluations = {e["case_id"]: e["evaluation_id"] for e in run.bundle.plan["cases"]}
        evaluated = run.bundle.evaluated
        named: dict[str, list[Case]] = defaultdict(list)
        for case in cases:
            if case["run"] == run.letter:
                named[str(evaluations[case["case_id"]])].append(case)
        for evaluation, some in named.items():
            profile = evaluated.get(evaluation, {}).get("profile")
            if profile is not None:
                yield profile, some


# --------------------------------------------------------------------------- the table


def _table(profile: Mapping[str, Any]) -> dict[str, Any]:
    """``rows`` of operators, or of their types where the runtime tells no times; ``timed``;
    ``total`` and ``left``, sentences."""
    timed = profile["ns"] is not None
    other = profile["other_operators" if timed else "other_kinds"]
    count = sum(kind["operators"] for kind in profile["kinds"])
    count += profile["other_kinds"]["operators"] if profile["other_kinds"] else 0
    rows = [
        {
            "name": one["name"] if timed else one["kind"],
            "kind": one["kind"],
            "precision": one["precision"] or NOTHING,
            "operators": 1 if timed else one["operators"],
            "us": figure(one["ns"] / 1e3) if timed else NOTHING,
            "share": figure(100 * one["share"]),
            "fallback": bool(one.get("fallback")),
        }
        for one in profile["operators" if timed else "kinds"]
    ]
    total = f"{count} {'operator' if count == 1 else 'operators'}"
    if timed:
        total += f", {figure(profile['ns'] / 1e3)} µs in one inference"
    left = ""
    if other is not None:
        left = f"{other['operators']} other operators"
        if other["ns"] is not None and profile["ns"]:
            share = 100 * other["ns"] / profile["ns"]
            left += f": {figure(other['ns'] / 1e3)} µs, {figure(share)} %"
    return {"timed": timed, "rows": rows, "total": total, "left": left}


# --------------------------------------------------------------------------- the chart


def _costliest(
    recorded: Sequence[tuple[Mapping[str, Any], Sequence[Case]]],
) -> dict[str, list[str]]:
    """By model, the types with the largest shares over its cases, the largest first."""
    sums: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for profile, named in recorded:
        for kind in profile["kinds"]:
            sums[named[0]["model"]][kind["kind"]] += kind["share"]
    return {
        model: sorted(shares, key=lambda kind: -shares[kind])[:MOST_KINDS]
        for model, shares in sums.items()
    }


def _by_kind(
    profile: Mapping[str, Any], kinds: Sequence[str]
) -> tuple[dict[str, float], dict[str, float], dict[str, int]]:
    """Share, microseconds (none where there are no times) and number of operators, by type; those
    of two precisions together, and of other types than ``kinds`` under ``OTHER``."""
    shares: dict[str, float] = defaultdict(float)
    times: dict[str, float] = defaultdict(float)
    counts: dict[str, int] = defaultdict(int)
    for kind in profile["kinds"]:
        name = kind["kind"] if kind["kind"] in kinds else OTHER
        shares[name] += kind["share"]
        counts[name] += kind["operators"]
        if kind["ns"] is not None:
            times[name] += kind["ns"] / 1e3
    rest = profile["other_kinds"]
    if rest is not None:
        shares[OTHER] += max(0.0, 1 - sum(shares.values()))
        counts[OTHER] += rest["operators"]
        if rest["ns"] is not None:
            times[OTHER] += rest["ns"] / 1e3
    return shares, times, counts
