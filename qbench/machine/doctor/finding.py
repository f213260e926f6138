"""What a check of the machine found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["good", "warn", "bad", "unknown"]


@dataclass(frozen=True)
class Finding:
    """One check's result.

    Attributes:
        check: its name.
        status: ``bad``: figures from here are not to be relied on; ``warn``: they will vary more
            than they need to, or something cannot be measured; ``unknown``: it cannot be read.
        found: what was found, with the figure, or why it cannot be read.
        why: why that matters; empty where it is good.
        fix: the command that mends it; None where there is none.
    """

    check: str
    status: Status
    found: str
    why: str = ""
    fix: str | None = None


def judged(check: str, status: Status, found: str, why: str, fix: str | None = None) -> Finding:
    """A finding with ``why`` and ``fix`` only where something is to be mended."""
    if status == "good":
        return Finding(check, status, found)
    return Finding(check, status, found, why, fix)
