"""The errors that qbench shows to a person. Each says what is wrong and what to do next."""

from __future__ import annotations


class UserError(Exception):
    """The user's input is wrong (exit code 2).

    Args:
        message: what is wrong, and where (``file:line``) if it stands in a file.
        fix: what to do next.
    """

    exit_code = 2

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.message}\n  {self.fix}" if self.fix else self.message


class MachineryError(UserError):
    """qbench could not do its work: the disk is full, another run is measuring (exit code 3)."""

    exit_code = 3


class NoSource(Exception):
    """A backend cannot be given this model, which is no fault of the suite: the case's outcome.

    Args:
        reason: one sentence.
        status: ``skipped``, or ``prepare_failed`` where a conversion was tried and failed.
    """

    def __init__(self, reason: str, status: str = "skipped") -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status


def nearest(name: str, known: object) -> str:
    """A sentence naming the known name closest to ``name``, and then all of them."""
    import difflib

    names = sorted(str(k) for k in known)  # type: ignore[attr-defined]
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"Did you mean '{close[0]}'? " if close else ""
    return f"{hint}Known: {', '.join(names) if names else '(none)'}."
