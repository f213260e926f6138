"""The result of a check of the machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["good", "warn", "bad", "unknown"]


@dataclass(frozen=True)
class Finding:
    """Result of one check.

    Attributes:
        check: its name.
        status: ``bad``: results of this machine are unreliable; ``warn``: they vary more than
            necessary, or something cannot be measured; ``unknown``: the check could not be made.
        found: the observation with its value, or why it is unknown.
        why: why it matters; "" if the status is good.
        fix: the command that fixes it; None if there is none.
    """

    check: str
    status: Status
    found: str
    why: str = ""
    fix: str | None = None


def judged(check: str, status: Status, found: str, why: str, fix: str | None = None) -> Finding:
    """Return a finding, without ``why`` and ``fix`` if the status is good."""
    if status == "good":
        return Finding(check, status, found)
    return Finding(check, status, found, why, fix)
