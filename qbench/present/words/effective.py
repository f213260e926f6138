"""Effective precision, as the runtime reported it when the outputs were made."""

from __future__ import annotations

from qbench.bundle.records.run import Effective
from qbench.present.words.run import Run
from qbench.text import figure


def effective_columns(run: Run) -> dict[str, dict[str, str]]:
    """By case id, ``work`` (shares of multiply-accumulates by precision; of operators, where those
    are not known) and ``runtime_notes``."""
    found = {}
    for entry in run.bundle.plan.cases:
        evaluated = run.evaluated.get(entry.evaluation_id or "")
        effective = evaluated and evaluated.effective
        if effective is not None:
            notes = "; ".join(effective.notes)
            found[entry.case_id] = {"work": _shares(effective), "runtime_notes": notes}
    return found


def _shares(effective: Effective) -> str:
    """``int8 96.1 %, fp32 3.88 %``."""
    macs = effective.macs or {}
    counts = macs if sum(macs.values()) else effective.operators
    total = sum(counts.values())
    if not total:
        return ""
    ordered = sorted(counts.items(), key=lambda pair: -pair[1])
    shares = ", ".join(f"{name} {figure(100 * n / total)} %" for name, n in ordered if n)
    return shares if counts is macs else f"{shares} of {total:,} operators"
