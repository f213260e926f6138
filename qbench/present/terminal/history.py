"""Trends in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from qbench.present.terminal.tables import bare_table, styled
from qbench.present.words.history import NO_VERDICT, RECENT, change_text, fact_words
from qbench.text import count, figure

BLOCKS = "▁▂▃▄▅▆▇█"
SPARKS = 30
"""Number of runs in a sparkline."""
HEIGHT, WIDEST = 9, 120
"""Size of a plot, in characters."""
MOST_FACTS = 6
_STYLES = {"worse": "red", "better": "green"}


def summary_table(described: Sequence[Mapping[str, Any]]) -> Table:
    """One row for each case and kind of processor that has measurements."""
    rows = [(case, series) for case in described for series in case["series"]]
    several = len({series["machine"] for _, series in rows}) > 1
    unit = described[0]["unit"] if described else ""
    metric = described[0]["metric"] if described else ""
    table = bare_table()
    table.add_column("case", overflow="fold")
    if several:
        table.add_column("processor", overflow="fold")
    table.add_column("nights", justify="right")
    table.add_column(f"{metric} {unit}".strip(), justify="right", no_wrap=True)
    table.add_column(f"{RECENT} nights", justify="right", no_wrap=True)
    table.add_column("trend", no_wrap=True)
    table.add_column("last change point", overflow="fold")
    for case, series in rows:
        values = [night["value"] for night in series["nights"]]
        table.add_row(
            styled(case["label"]),
            *([styled(series["machine"])] if several else []),
            str(len(values)),
            "–" if series["last"] is None else figure(series["last"]),
            change_text(series["recent"], case["relative"]),
            sparkline(values[-SPARKS:]),
            _last_change(series, case["relative"]),
        )
    return table


def _last_change(series: Mapping[str, Any], relative: bool) -> Text:
    if not series["changes"]:
        return styled("")
    change = series["changes"][-1]
    words = f"{change['started'][:10]} {change_text(change['change'], relative)}"
    return styled(words, style=_STYLES.get(change["word"], ""))


def trend_parts(described: Mapping[str, Any], width: int) -> list[Table | Text]:
    """The output of ``qbench history CASE``: for each kind of processor a plot of the runs, and the
    change points with the changes of machine and software."""
    parts: list[Table | Text] = [
        styled(described["label"], style="bold") + styled(f"  {described['case_id']}", style="dim")
    ]
    for series in described["series"]:
        parts.append(styled(_heading(described, series)))
        if series["nights"]:
            parts.append(plot(series, min(width, WIDEST)))
        if series["missing"]:
            last = series["missing"][-1]
            parts.append(
                styled(
                    f"{count(len(series['missing']), 'run')} without the figure, the last on "
                    f"{last['started'][:10]}: {last['status']}",
                    style="yellow",
                )
            )
        if series["changes"]:
            parts.append(_changes_table(series["changes"], described))
    if any(series["changes"] for series in described["series"]):
        parts.append(styled(NO_VERDICT, style="dim"))
    return parts


def _heading(described: Mapping[str, Any], series: Mapping[str, Any]) -> str:
    nights = series["nights"]
    words = [series["machine"]]
    if nights:
        first, newest = (night["started"][:10] for night in (nights[0], nights[-1]))
        words.append(f"{len(nights)} nights, {first} to {newest}")
        last = f"{described['metric']} {figure(series['last'])} {described['unit']}".rstrip()
        words.append(f"{last} last")
    return " · ".join(words)


def _changes_table(changes: Sequence[Mapping[str, Any]], described: Mapping[str, Any]) -> Table:
    table = bare_table("Change points")
    table.add_column("from", no_wrap=True)
    table.add_column("run", overflow="fold")
    table.add_column(f"{described['unit'] or described['metric']}", justify="right", no_wrap=True)
    table.add_column("change", justify="right", no_wrap=True)
    table.add_column("what changed then", overflow="fold")
    for change in changes:
        facts = [fact_words(fact) for fact in change["facts"][:MOST_FACTS]]
        more = len(change["facts"]) - len(facts)
        facts += [f"and {more} more"] if more else []
        table.add_row(
            change["started"][:10],
            styled(change["run_id"]),
            f"{figure(change['before'])} → {figure(change['after'])}",
            styled(
                f"{change_text(change['change'], described['relative'])} {change['word']}",
                style=_STYLES.get(change["word"], ""),
            ),
            styled("\n".join(facts) or "nothing recorded"),
        )
    return table


def sparkline(values: Sequence[float]) -> str:
    """One character for each value, scaled from their minimum to their maximum."""
    if not values:
        return ""
    low, high = min(values), max(values)
    if low == high:
        return BLOCKS[len(BLOCKS) // 2] * len(values)
    last = len(BLOCKS) - 1
    return "".join(BLOCKS[round((value - low) / (high - low) * last)] for value in values)


def plot(series: Mapping[str, Any], width: int) -> Text:
    """Runs from left to right: ``●``, outliers ``○``, change points ``│``. If they do not fit, only
    the last ones, with a note."""
    nights = series["nights"]
    axis = max(len(figure(night["value"])) for night in nights) + 2
    columns = max(10, width - axis)
    first = max(0, len(nights) - columns)
    shown = nights[first:]
    low = min(night["value"] for night in shown)
    high = max(night["value"] for night in shown)
    cuts = {change["index"] - first for change in series["changes"]}
    lines = [
        ["│" if column in cuts else " " for column in range(len(shown))] for _ in range(HEIGHT)
    ]
    for column, night in enumerate(shown):
        share = 0.5 if high == low else (night["value"] - low) / (high - low)
        row = HEIGHT - 1 - round(share * (HEIGHT - 1))
        lines[row][column] = "○" if night["smoothed"] else "●"
    marks = {0: figure(high), HEIGHT - 1: figure(low)} if high > low else {HEIGHT // 2: figure(low)}
    text = "\n".join(
        f"{marks.get(number, ''):>{axis - 2}} ┤{''.join(line).rstrip()}"
        for number, line in enumerate(lines)
    )
    if first:
        text += f"\n{'':>{axis}}the last {columns} nights"
    return Text(text, no_wrap=True, overflow="crop")
