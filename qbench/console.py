"""What the terminal shows: progress of a run, and tables. Drawn with rich, in the parent only."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    import pandas as pd

    from qbench.analysis.explain import Explanation, Kind
    from qbench.plan import Plan

REFRESHES_PER_S = 2
"""Enough to look alive; more would be work beside the measurement."""

STYLES = {"ok": "green", "skipped": "yellow"}

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(words: str) -> str:
    """Without control characters, which would steer the terminal: what is shown may come from
    others, as a bundle's reasons do."""
    return _CONTROL.sub("", words)


def _text(words: str, style: str = "") -> Text:
    return Text(printable(words), style=style)


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
            text = _text(f"{status}: ", style=STYLES.get(status, "red"))
            self._console.print(text + _text(f"{label}: {reason}", style="default"))

    def note(self, text: str) -> None:
        """A sentence about something that takes long."""
        self._console.print(printable(text), markup=False)


class Shown(NamedTuple):
    """A column of the terminal's case table.

    ``rank``: the higher, the sooner the column is left out where the terminal is narrow; 0: never.
    """

    name: str
    title: str
    rank: int


SHOWN = (
    Shown("model", "model", 0),
    Shown("backend", "backend", 0),
    Shown("precision", "precision", 0),
    Shown("latency_p50_ms", "p50 ms", 0),
    Shown("latency_p99_ms", "p99 ms", 6),
    Shown("throughput_ips", "items/s", 5),
    Shown("speedup", "speed-up", 0),
    Shown("memory_peak_mb", "peak MB", 7),
    Shown("artifact_size_mb", "size MB", 4),
    Shown("cold_start_ms", "cold ms", 8),
    Shown("accuracy", "accuracy", 1),
    Shown("accuracy_delta", "Δ pp", 2),
    Shown("sqnr_db", "SQNR dB", 3),
    Shown("effective_precision", "ran at", 2),
)
_WORDS = ("model", "backend", "precision", "effective_precision")
MAX_KINDS = 12
"""Types of operators that an explanation lists."""
WIDE = 200
"""Columns of characters where the output is no terminal: nothing is left out."""


def case_tables(cases: pd.DataFrame, console: Console) -> list[Table | Text]:
    """The terminal's case table: one row per case that ran, then those that did not, by reason."""
    ran = cases[cases["status"] == "ok"]
    rest = cases[cases["status"] != "ok"]
    parts: list[Table | Text] = []
    if len(ran):
        parts.append(_fitting(ran, console))
        parts += _accuracy_notes(ran)
    if len(rest):
        parts.append(_not_run(rest))
    noisy = ran[ran["noisy"] == True]  # noqa: E712  (the column holds None too)
    if len(noisy):
        parts.append(
            _text(
                f"{len(noisy)} of {len(ran)} cases were disturbed while measured (marked *): run "
                "them again on a quieter machine before relying on them.",
                style="yellow",
            )
        )
    return parts


def _accuracy_notes(ran: pd.DataFrame) -> list[Table | Text]:
    """What the accuracies are of, and how many items a finer question would take."""
    notes: list[Table | Text] = []
    judged = ran[ran["accuracy"].notna()]
    for (metric, data), group in judged.groupby(["accuracy_metric", "accuracy_data"], sort=False):
        models = ", ".join(dict.fromkeys(group["model"]))
        text = f"accuracy: {metric} of {data}: {models}"
        needed = group["accuracy_items_needed"].dropna()
        if len(needed) and needed.max() > group["accuracy_items"].max():
            text += f"; to know every Δ to ±1 point would take {int(needed.max()):,} items"
        notes.append(_text(text, style="dim"))
    return notes


def _fitting(ran: pd.DataFrame, console: Console) -> Table:
    """The results with as many columns as the terminal has room for."""
    dropped = 0
    ranks = sorted({column.rank for column in SHOWN if column.rank}, reverse=True)
    table = _results(ran, SHOWN)
    for rank in ranks:
        if (
            table.__rich_measure__(console, console.options.update(max_width=WIDE * 2)).maximum
            <= console.width
        ):
            break
        table = _results(ran, [column for column in SHOWN if column.rank < rank])
        dropped = sum(column.rank >= rank for column in SHOWN)
    if dropped:
        table.caption = f"{dropped} columns left out: widen the terminal, or see the report"
    return table


def _table(title: str | None = None) -> Table:
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        caption_justify="left",
        header_style="bold",
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )


def _results(ran: pd.DataFrame, columns: Sequence[Shown]) -> Table:
    table = _table()
    conditions = _conditions(ran)
    for name, title, _ in columns:
        table.add_column(title, justify="left" if name in _WORDS else "right", no_wrap=True)
        if name == "precision":
            for condition in conditions:
                title = condition.replace("batch_size", "batch")
                table.add_column(title, justify="right", no_wrap=True)
    last = None
    for row in ran.to_dict("records"):
        if last is not None and row["model"] != last:
            table.add_section()
        last = row["model"]
        cells = []
        for name, _, _ in columns:
            cells.append(_cell(row, name))
            if name == "precision":
                cells += [str(row[condition]) for condition in conditions]
        table.add_row(*[_text(cell) for cell in cells])
    return table


def _conditions(ran: pd.DataFrame) -> list[str]:
    """The run conditions that differ between cases."""
    names = ("scenario", "batch_size", "threads", "streams", "environment", "recipe")
    return [name for name in names if ran[name].nunique() > 1]


def _cell(row: Mapping[Any, Any], name: str) -> str:
    value = row[name]
    if value is None:
        return "–"
    if name == "precision":
        mark = " *" if row["noisy"] else ""
        return f"{value} [{row['variant']}]{mark}" if row["variant"] else f"{value}{mark}"
    if name == "effective_precision":
        return f"{value}, {row['flags']}" if row["flags"] else str(value)
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
    """Cases without figures, those with the same reason in one row."""
    variants = rest["variant"].map(lambda variant: f" [{variant}]" if variant else "")
    shown = rest.assign(
        status=rest["status"].fillna("open"), precision=rest["precision"] + variants
    )
    return reasons_table("Not measured", shown)


def reasons_table(title: str, cases: pd.DataFrame) -> Table:
    """Cases (columns ``status, backend, precision, model, reason``), grouped by reason."""
    table = _table(title)
    for name in ("status", "backend", "precisions", "models", "reason"):
        table.add_column(name, overflow="fold", no_wrap=name in ("status", "backend"))
    keys = ["status", "backend", "reason"]
    for (status, backend, reason), group in cases.groupby(keys, sort=False, dropna=False):
        models = list(dict.fromkeys(group["model"]))
        precisions = list(dict.fromkeys(group["precision"]))
        table.add_row(
            _text(str(status), style=STYLES.get(str(status), "red")),
            _text(str(backend)),
            _text(", ".join(precisions)),
            _text(", ".join(models) if len(models) <= 3 else f"{len(models)} models"),
            _text(str(reason)),
        )
    return table


def plan_tables(plan: Plan) -> tuple[Table, Table | None]:
    """What a plan would run, and what it would skip."""
    cells: dict[tuple[str, str], list[str]] = {}
    for planned in plan.runnable:
        case = planned.case
        row = cells.setdefault((case.model, case.backend), [])
        name = case.precision + (f" [{case.variant}]" if case.variant else "")
        if name not in row:
            row.append(name)
    counts = Counter((p.case.model, p.case.backend) for p in plan.runnable)
    rows = [(*key, ", ".join(names), counts[key]) for key, names in cells.items()]
    runs = simple_table(["model", "backend", "precisions", "cases"], rows)
    skipped = [p for p in plan.cases if p.preparation is None]
    if not skipped:
        return runs, None
    import pandas as pd

    fields = [
        (
            "skipped" if p.failure is None else "prepare_failed",
            p.case.backend,
            p.case.precision,
            p.case.model,
            p.skip or p.failure,
        )
        for p in skipped
    ]
    names = ["status", "backend", "precision", "model", "reason"]
    return runs, reasons_table("Not run", pd.DataFrame(fields, columns=names))


def explanation_parts(found: Explanation) -> list[Table | Text]:
    """What ``qbench explain`` prints: the figures, the operators beside float32's, the layers, the
    reasons, and what to try."""
    row = found.row
    facts = [f"ran at {row['effective_precision']}" if row["effective_precision"] else ""]
    facts += [row["flags"] or ""]
    if row["latency_p50_ms"] is not None:
        facts.append(f"p50 {figure(row['latency_p50_ms'])} ms")
    if row["speedup"] is not None:
        facts.append(f"{row['speedup']:.2f}x float32's speed")
    if row["accuracy_delta"] is not None:
        facts.append(f"accuracy {100 * row['accuracy_delta']:+.1f} points")
    if row["sqnr_db"] is not None:
        facts.append(f"SQNR {row['sqnr_db']:.1f} dB")
    parts: list[Table | Text] = [_text(found.case.label, style="bold")]
    parts.append(_text(" · ".join(fact for fact in facts if fact)))
    if found.kinds:
        parts.append(_kinds_table("Operators", found.kinds, found.ns))
    if found.twin_kinds:
        parts.append(_kinds_table("Operators in float32", found.twin_kinds, found.twin_ns))
    if found.worst_layers:
        rows = [
            (layer.name, layer.kind, f"{layer.sqnr_db:.1f}", f"{layer.drop_db:.1f}")
            for layer in found.worst_layers
        ]
        table = simple_table(["layer", "kind", "SQNR dB", "lost here, dB"], rows)
        table.title = "Where the outputs part from float32's"
        parts.append(table)
    for note in found.notes:
        parts.append(_text(note, style="dim"))
    if not found.findings:
        parts.append(_text("Nothing stands out.", style="bold"))
    for finding in found.findings:
        parts.append(_text("Why  ", style="bold") + _text(finding.reason, style="default"))
        parts.append(_text("Try  ", style="bold") + _text(finding.advice, style="default"))
    return parts


def _kinds_table(title: str, kinds: Sequence[Kind], ns: float | None) -> Table:
    rows = [
        (
            kind.kind if kind.role != "convert" else f"{kind.kind} (converts)",
            kind.precision,
            kind.operators,
            None if kind.ns is None else figure(kind.ns / 1e6),
            f"{100 * kind.share:.0f} %",
            None if kind.gmacs_per_s is None else figure(kind.gmacs_per_s),
            kind.fallback or None,
        )
        for kind in kinds[:MAX_KINDS]
    ]
    share = "share" if ns is not None else "share of operators"
    table = simple_table(
        ["type", "runs at", "operators", "ms", share, "GMAC/s", "outside the fast path"], rows
    )
    table.title = title if ns is None else f"{title}: {figure(ns / 1e6)} ms in all"
    rest = len(kinds) - len(rows)
    table.caption = f"{len(kinds)} types; the {rest} that take least are left out" if rest else None
    return table


def simple_table(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    """A table of words."""
    table = _table()
    for header in headers:
        table.add_column(header, overflow="fold")
    for row in rows:
        table.add_row(*[_text("–" if cell is None else str(cell)) for cell in row])
    return table
