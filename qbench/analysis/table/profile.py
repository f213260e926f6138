"""Summarize a profile for the bundle: the costliest operators, and all operators by type."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from qbench.analysis.explain import Kind, by_kind
from qbench.bundle.records.run import KindTime
from qbench.kit.operators import Operator

MOST_OPERATORS, MOST_KINDS = 30, 20
"""Maximum numbers of operators and of types that are listed; the rest is summed up."""
LONGEST = 200
"""Maximum characters of an operator's name: runtimes join the names of fused layers."""


def summary(profile: Mapping[str, Any] | None, refusal: str, runs: int) -> dict[str, Any]:
    """Return a profile in the form of ``qbench.bundle.records.run.Profiled``.

    Args:
        profile: ``qbench.kit.operators.Profile`` as JSON; None if there is none.
        refusal: why there is none; "" if there is one.
        runs: number of profiled inferences.
    """
    operators = [Operator.from_json(one) for one in profile["operators"]] if profile else []
    times = [one.ns for one in operators if one.ns is not None and 0 <= one.ns < math.inf]
    timed = len(times) == len(operators) and sum(times) > 0
    if not timed:
        operators = [replace(one, ns=None) for one in operators]
    costliest = sorted(operators, key=lambda one: -(one.ns or 0)) if timed else []
    kinds = by_kind(operators)
    return {
        "runs": runs,
        "ns": sum(times) if timed else None,
        "operators": [_operator(one, sum(times)) for one in costliest[:MOST_OPERATORS]],
        "other_operators": _together(costliest[MOST_OPERATORS:]),
        "kinds": [_kind(kind) for kind in kinds[:MOST_KINDS]],
        "other_kinds": _kinds_together(kinds[MOST_KINDS:]),
        "notes": list(profile["notes"]) if profile else [],
        "reason": refusal,
    }


def _operator(one: Operator, total_ns: float) -> dict[str, Any]:
    assert one.ns is not None
    return {
        "name": one.name if len(one.name) <= LONGEST else f"{one.name[: LONGEST - 3]}...",
        "kind": one.kind,
        "role": one.role,
        "precision": one.precision,
        "fallback": one.fallback,
        "ns": one.ns,
        "share": one.ns / total_ns,
    }


def _together(rest: Sequence[Operator]) -> dict[str, Any] | None:
    return {"operators": len(rest), "ns": sum(one.ns or 0 for one in rest)} if rest else None


def _kind(kind: Kind) -> dict[str, Any]:
    return {name: getattr(kind, name) for name in KindTime.model_fields}


def _kinds_together(rest: Sequence[Kind]) -> dict[str, Any] | None:
    if not rest:
        return None
    times = [kind.ns for kind in rest if kind.ns is not None]
    ns = sum(times) if times else None
    return {"operators": sum(kind.operators for kind in rest), "ns": ns}
