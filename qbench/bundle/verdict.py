"""The gate's verdict on a run: a file next to the bundle, as a finished bundle is not changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from qbench.errors import UserError
from qbench.storage import parse_json

SUFFIX = ".gate.json"
"""``<results>/<run id>.gate.json``."""
ANCHORS = ("anchors", "reference")
"""Folders in the results folder whose runs are kept as baselines."""


def verdict_path(bundle: Path) -> Path:
    """Path of the verdict on the bundle in this folder, whether or not there is one."""
    return bundle.with_name(f"{bundle.name}{SUFFIX}")


def read_verdict(bundle: Path) -> dict[str, Any] | None:
    """The verdict on a bundle, as ``qbench gate --json`` prints it; None if it was not judged.

    Raises:
        UserError: the file is damaged, so the verdict is not known.
    """
    path = verdict_path(bundle)
    try:
        verdict = parse_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged: {error}", "`qbench gate` writes it again.") from None
    if not isinstance(verdict, dict):
        raise UserError(f"{path} is damaged: not a JSON object", "`qbench gate` writes it again.")
    return cast("dict[str, Any]", verdict)


def is_valid(bundle: Path) -> bool:
    """False if the gate found the whole run broken; True also for a run that was not judged.

    Raises:
        UserError: the verdict is damaged, so it is not known.
    """
    verdict = read_verdict(bundle)
    return verdict is None or verdict.get("valid") is not False
