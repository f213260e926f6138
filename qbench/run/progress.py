"""Reports of a run's progress."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives a run's progress, and may draw it."""

    def stage(self, name: str, total: int) -> None:
        """A stage of ``total`` steps begins."""

    def working(self, label: str, known: str = "") -> None:
        """A step begins; ``known``: the precision that a case's figure has reached so far."""

    def done(self, label: str, status: str, reason: str) -> None:
        """A step has ended; ``reason``: why its status is not ``ok``, else ""."""

    def total(self, total: int) -> None:
        """The current stage has ``total`` steps now."""

    def note(self, text: str) -> None:
        """A sentence for the user."""


class Silent(Progress):
    """Discards all progress."""
