"""Waivers of publishing checks, each with a reason: from the command line or a YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from qbench.analysis.publish.checks import IDS
from qbench.errors import UserError, nearest
from qbench.spec.yamlfile import Strict, load


def _said(reason: str) -> str:
    reason = " ".join(reason.split())
    if not reason:
        raise ValueError("a waiver needs its reason, which the page prints")
    return reason


Reason = Annotated[str, Field(max_length=500), AfterValidator(_said)]


class Waivers(Strict):
    """A file of waivers; ``waive``: reasons by id of the check."""

    waive: dict[str, Reason]


def load_waivers(path: Path) -> dict[str, str]:
    """
    Raises:
        UserError: the file cannot be read, or names an unknown check.
    """
    waivers, lines = load(path, Waivers)
    for name in waivers.waive:
        if name not in IDS:
            raise UserError(f"{lines.at('waive', name)}: there is no check '{name}'", _near(name))
    return dict(waivers.waive)


def parse_waiver(text: str) -> tuple[str, str]:
    """Parse ``ID=REASON`` into id and reason.

    Raises:
        UserError: the form is wrong, or there is no such check.
    """
    name, _, reason = text.partition("=")
    name, reason = name.strip(), " ".join(reason.split())
    if name not in IDS:
        raise UserError(f"--waive: there is no check '{name}'", _near(name))
    if not reason:
        raise UserError(
            f"--waive {name}: a waiver needs its reason, which the page prints",
            f"--waive '{name}=REASON'",
        )
    return name, reason


def _near(name: str) -> str:
    return nearest(name, IDS)
