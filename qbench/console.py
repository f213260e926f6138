"""What the terminal shows: progress of a run, and tables. Drawn with rich, in the parent only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    import pandas as pd

REFRESHES_PER_S = 2
"""Enough to look alive; more would be work beside the measurement."""

STYLES = {"ok": "green", "skipped": "yellow"}


class RichProgress:
    """``runner.Progress`` as bars on the standard error stream.

    Where that is no terminal, one line for each stage and each thing that went wrong."""

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

    def working(self, label: str) -> None:
        self._bars.update(self._task, now=label)

    def done(self, label: str, status: str, reason: str) -> None:
        self._bars.advance(self._task)
        if reason:
            text = Text(f"{status}: ", style=STYLES.get(status, "red"))
            self._console.print(text + Text(f"{label}: {reason}", style="default"))

    def note(self, text: str) -> None:
        """A sentence about something that takes long."""
        self._console.print(text, markup=False)


SHOWN: dict[str, str] = {
    "model": "model",
    "backend": "backend",
    "precision": "precision",
    "latency_p50_ms": "p50 ms",
    "latency_p99_ms": "p99 ms",
    "throughput_ips": "items/s",
    "speedup": "speed-up",
    "memory_peak_mb": "peak MB",
    "artifact_size_mb": "size MB",
    "cold_start_ms": "cold ms",
    "accuracy": "accuracy",
    "accuracy_delta": "Δ pp",
    "sqnr_db": "SQNR dB",
    "effective_precision": "ran at",
}
_WORDS = ("model", "backend", "precision", "effective_precision")


def case_tables(cases: pd.DataFrame) -> list[Table | Text]:
    """The terminal's case table: one row per case that ran, then those that did not, by reason."""
    ran = cases[cases["status"] == "ok"]
    rest = cases[cases["status"] != "ok"]
    parts: list[Table | Text] = []
    if len(ran):
        parts.append(_results(ran))
    if len(rest):
        parts.append(_not_run(rest))
    noisy = ran[ran["noisy"] == True]  # noqa: E712  (the column holds None too)
    if len(noisy):
        parts.append(
            Text(
                f"{len(noisy)} of {len(ran)} cases were disturbed while measured (marked *): run "
                "them again on a quieter machine before relying on them.",
                style="yellow",
            )
        )
    return parts


def _results(ran: pd.DataFrame) -> Table:
    table = Table(header_style="bold", row_styles=["", ""], pad_edge=False)
    conditions = _conditions(ran)
    for name, title in SHOWN.items():
        table.add_column(title, justify="left" if name in _WORDS else "right", no_wrap=True)
        if name == "precision":
            for condition in conditions:
                table.add_column(condition.replace("batch_size", "batch"), justify="right")
    last = None
    for row in ran.to_dict("records"):
        if last is not None and row["model"] != last:
            table.add_section()
        last = row["model"]
        cells = []
        for name in SHOWN:
            cells.append(_cell(row, name))
            if name == "precision":
                cells += [str(row[condition]) for condition in conditions]
        table.add_row(*[Text(cell) for cell in cells])
    return table


def _conditions(ran: pd.DataFrame) -> list[str]:
    """The run conditions that differ between cases."""
    names = ("scenario", "batch_size", "threads", "streams", "environment", "recipe")
    return [name for name in names if ran[name].nunique() > 1]


def _cell(row: dict[str, Any], name: str) -> str:
    value = row[name]
    if value is None:
        return "–"
    if name == "precision":
        mark = " *" if row["noisy"] else ""
        return f"{value} [{row['variant']}]{mark}" if row["variant"] else f"{value}{mark}"
    if name == "accuracy":
        return f"{100 * value:.1f} %"
    if name == "accuracy_delta":
        return f"{100 * value:+.1f}"
    if name == "speedup":
        return f"{value:.2f}x"
    if name == "sqnr_db":
        return f"{value:.0f}"
    return figure(value) if isinstance(value, float) else str(value)


def figure(value: float) -> str:
    """A number to three significant digits, without an exponent."""
    if value == 0:
        return "0"
    digits = 2 - int(f"{abs(value):e}".split("e")[1])
    return f"{round(value, digits):,.{max(0, digits)}f}"


def _not_run(rest: pd.DataFrame) -> Table:
    table = Table(title="Not measured", title_justify="left", header_style="bold", pad_edge=False)
    table.add_column("status", no_wrap=True)
    table.add_column("backend", no_wrap=True)
    table.add_column("precision", no_wrap=True)
    table.add_column("models")
    table.add_column("reason", overflow="fold")
    keys = ["status", "backend", "precision", "reason"]
    shown = rest.assign(status=rest["status"].fillna("open"))
    for (status, backend, precision, reason), group in shown.groupby(
        keys, sort=False, dropna=False
    ):
        models = list(dict.fromkeys(group["model"]))
        table.add_row(
            Text(str(status), style=STYLES.get(str(status), "red")),
            Text(str(backend)),
            Text(str(precision)),
            Text(", ".join(models) if len(models) <= 3 else f"{len(models)} models"),
            Text(str(reason)),
        )
    return table


def simple_table(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    """A table of words."""
    table = Table(header_style="bold", pad_edge=False)
    for header in headers:
        table.add_column(header, overflow="fold")
    for row in rows:
        table.add_row(*[Text("–" if cell is None else str(cell)) for cell in row])
    return table
