"""Rows of the case table, made by hand."""

from __future__ import annotations

from typing import Any

from qbench.spec.columns import CaseRow


def case_row(**columns: Any) -> CaseRow:
    """A row with these columns; the others that every row has are of one small case."""
    every: dict[str, Any] = {
        "model": "net", "backend": "fake", "environment": "default", "precision": "fp32",
        "recipe": "best", "device": "cpu", "scenario": "single-stream", "batch_size": 1,
        "threads": 1, "streams": 1, "case_id": "c1", "host_id": "h1", "run_id": "r1",
    }  # fmt: skip
    return CaseRow(**{**every, **columns})
