"""Errors that qbench shows to users. Each names the problem and the next step."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager


class UserError(Exception):
    """The user's input is wrong (exit code 2).

    Args:
        message: the problem, with its place (``file:line``) if it is in a file.
        fix: the next step.
    """

    exit_code = 2

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.message}\n  {self.fix}" if self.fix else self.message


class MachineryError(UserError):
    """qbench could not do its work, such as when the disk is full or another run is measuring (exit
    code 3)."""

    exit_code = 3


@contextmanager
def as_user_error(kind: type[Exception]) -> Iterator[None]:
    """Turn an exception with ``message`` and ``fix`` into a UserError. Code that cannot import this
    module has its own exceptions."""
    try:
        yield
    except kind as error:
        raise UserError(error.message, error.fix) from None  # type: ignore[attr-defined]


class NoSource(Exception):
    """A backend cannot run this model: an outcome of the case, not an error of the suite.

    Args:
        reason: one sentence.
        status: ``skipped``, or how a conversion failed.
        log: the last lines of the conversion's worker.
    """

    def __init__(self, reason: str, status: str = "skipped", log: str = "") -> None:
        super().__init__(reason)
        self.reason, self.status, self.log = reason, status, log


def check_known(name: object, known: Collection[object], message: str) -> None:
    """
    Raises:
        UserError: ``name`` is not in ``known``: ``message``, and the nearest known name.
    """
    if name not in known:
        raise UserError(message, nearest(str(name), known))


def nearest(name: str, known: object) -> str:
    """Return a sentence with the known name closest to ``name``, and one with all known names."""
    import difflib

    names = sorted(str(k) for k in known)  # type: ignore[attr-defined]
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"Did you mean '{close[0]}'? " if close else ""
    return f"{hint}Known: {', '.join(names) if names else '(none)'}."


LISTED = 20
"""Maximum number of cases that a message names."""


def find_by_words(words: Sequence[str], labels: Mapping[str, str]) -> str:
    """Return the id of the case that ``words`` name: its id, or words of its label. Of several
    labels that contain these words, the shortest is chosen: ``fp32`` and not ``fp32 offline``.

    Args:
        labels: by case id.

    Raises:
        UserError: no case fits, or several do.
    """
    given = " ".join(words)
    wanted = _words(given)
    found = [case_id for case_id in labels if wanted == [case_id]]
    if not found:
        sizes = {case_id: len(_words(label)) for case_id, label in labels.items()}
        found = [key for key, label in labels.items() if {*wanted} <= {*_words(label)}]
        least = min((sizes[key] for key in found), default=0)
        shortest = [key for key in found if sizes[key] == least]
        found = shortest if len(shortest) == 1 else found
    if len(found) != 1:
        what, listed = ("several cases fit", found) if found else ("no case fits", [*labels])
        lines = [f"{case_id}  {labels[case_id]}" for case_id in listed[:LISTED]]
        lines += [f"and {len(listed) - LISTED} more"] if len(listed) > LISTED else []
        shown = "\n  ".join(lines or ["(there are none)"])
        raise UserError(f"{what} '{given}'", f"Give an id:\n  {shown}")
    return found[0]


def _words(label: str) -> list[str]:
    return label.replace("/", " ").split()
