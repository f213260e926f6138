"""The gate's verdict as a JSON record, and its headline."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from qbench.analysis.gate.judge import GateResult


def headline(result: GateResult) -> str:
    """Return the verdict in a sentence."""
    if result.invalid is not None:
        return f"invalid: {result.invalid}"
    failed = {f.case_id for f in result.of("regression")}
    suspected = {f.case_id for f in result.of("suspicion")} - failed
    words = f"{len(failed)} of {len(result.cases)} cases failed" if failed else "passed"
    if suspected:
        words += f"; {len(suspected)} suspected and not confirmed"
    return words


def to_json(result: GateResult) -> dict[str, Any]:
    """Return the whole verdict; ``valid``: whether the run is valid."""
    return {
        **asdict(result),
        "valid": result.invalid is None,
        "exit_code": result.exit_code,
        "verdict": headline(result),
    }
