"""Progress of a run, as bars in the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from qbench.present.terminal.tables import STYLES, styled
from qbench.text import printable

REFRESHES_PER_S = 2
"""Low, since drawing takes processor time during measurements."""


class RichProgress:
    """``qbench.run.progress.Progress`` as bars on a console.

    If the console is not a terminal: one line for each stage and for each failure."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description:<9}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[now]}", markup=False),
            console=console,
            refresh_per_second=REFRESHES_PER_S,
            disable=not console.is_terminal,
        )
        self._task: Any = None

    def __enter__(self) -> RichProgress:
        self._bars.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bars.stop()

    def stage(self, name: str, total: int) -> None:
        if self._task is not None:
            self._bars.update(self._task, now="")
        self._task = self._bars.add_task(name, total=total, now="")
        if not self._console.is_terminal:
            self._console.print(f"{name}: {total} to do", markup=False)

    def working(self, label: str, known: str = "") -> None:
        self._bars.update(self._task, now=f"{label}  {known}" if known else label)

    def total(self, total: int) -> None:
        self._bars.update(self._task, total=total)

    def done(self, label: str, status: str, reason: str) -> None:
        self._bars.advance(self._task)
        if reason:
            text = styled(f"{status}: ", style=STYLES.get(status, "red"))
            self._console.print(text + styled(f"{label}: {reason}", style="default"))

    def note(self, text: str) -> None:
        """Print a sentence about a long-running step."""
        self._console.print(printable(text), markup=False)
