"""The gate's verdict file of a bundle: where it is, and whether it still holds."""

from __future__ import annotations

from pathlib import Path

from qbench.bundle.bundle import Bundle
from qbench.storage import parse_json


def verdict_path(bundle: Bundle) -> Path:
    """Where the gate keeps its verdict on a run."""
    return bundle.path.with_name(f"{bundle.path.name}.gate.json")


def is_valid(bundle: Bundle) -> bool:
    """False if the gate has called the run invalid; True if it has not, or was not asked."""
    try:
        verdict = parse_json(verdict_path(bundle).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return True
    return not (isinstance(verdict, dict) and verdict.get("valid") is False)
