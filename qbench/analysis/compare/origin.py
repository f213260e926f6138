"""The origin of figures, in a line that a table or a picture carries wherever it is taken."""

from __future__ import annotations

from collections.abc import Sequence

from qbench.analysis.compare.machines import machine_of
from qbench.bundle.bundle import Bundle
from qbench.spec.columns import CaseRow
from qbench.text import count

DOUBTED = "?"
"""The mark of a case that is noisy or inconclusive."""


def origin(bundle: Bundle, cases: Sequence[CaseRow]) -> str:
    """Run, machine, rounds and version: ``ID: two cores of a server (AMD EPYC, 2 cores), 6 to 12
    rounds, qbench 0.1.0``.

    Args:
        cases: the rows of its case table that are shown.
    """
    begin = bundle.begin
    cores = begin.host.cores_usable or begin.host.cores_logical
    parts = [machine_of(bundle).chip, count(cores, "core") if cores else ""]
    machine = ", ".join(filter(None, parts))
    system_name = begin.system and begin.system.system_name
    named = f"{system_name} ({machine})" if system_name else machine
    version = begin.software.get("qbench")
    parts = [named, rounds(cases), f"qbench {version}" if version else ""]
    return f"{bundle.run_id}: {', '.join(filter(None, parts))}"


def rounds(cases: Sequence[CaseRow]) -> str:
    """``12 rounds``, ``6 to 12 rounds``; "" of none."""
    counts = [case.rounds for case in cases if case.rounds]
    if not counts:
        return ""
    least, most = min(counts), max(counts)
    return f"{least} to {most} rounds" if least < most else count(most, "round")


def doubts(cases: Sequence[CaseRow], sign: str = DOUBTED) -> str:
    """The meaning of ``sign``, if it is used; else ""."""
    number = sum(bool(case.noisy or case.inconclusive) for case in cases)
    return f"{sign}: noisy or inconclusive, {number} of {len(cases)} cases" if number else ""
