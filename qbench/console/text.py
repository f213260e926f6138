"""Words, figures and tables of the terminal."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console

STYLES = {"ok": "green", "skipped": "yellow"}
WIDE = 200
"""Columns of characters where the output is no terminal: nothing is left out."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

_MARKS = re.compile(r"[\\`*_\[\]#|~!]")


def printable(words: str) -> str:
    """Without control characters, which would steer the terminal: what is shown may come from
    others, as a bundle's reasons do."""
    return _CONTROL.sub("", words)


def markdown(words: str) -> str:
    """As text in Markdown, in one line: neither its marks nor HTML's do anything."""
    line = " ".join(printable(words).split())
    return _MARKS.sub(r"\\\g<0>", html.escape(line, quote=False))


def styled(words: str, style: str = "") -> Text:
    return Text(printable(words), style=style)


def figure(
    value: float, low: float | None = None, high: float | None = None, sign: str = ""
) -> str:
    """A number with as many digits as are known of it, without an exponent.

    Two significant digits of half its interval, from ``low`` to ``high``; three significant digits
    of its own where there is no interval. The ends of an interval have the same decimals as what
    they are of: ``figure(low, low, high)``.

    Args:
        sign: "+" to have it said of positive numbers, too.
    """
    if not math.isfinite(value):
        return f"{value:g}"
    half = 0.0 if low is None or high is None else (high - low) / 2
    known, significant = (half, 2) if half > 0 and math.isfinite(half) else (abs(value), 3)
    if known == 0:
        return "0"
    digits = significant - 1 - int(f"{known:.{significant - 1}e}".split("e")[1])
    return f"{round(value, digits) + 0.0:{sign},.{max(0, digits)}f}"


def with_interval(value: float, low: float | None, high: float | None, sign: str = "") -> str:
    """``1.234 (1.210 … 1.258)``; without an interval the number alone."""
    text = figure(value, low, high, sign)
    if low is None or high is None:
        return text
    return f"{text} ({figure(low, low, high, sign)} … {figure(high, low, high, sign)})"


def bare_table(title: str | None = None) -> Table:
    """A table to be filled."""
    return Table(
        title=None if title is None else styled(title),
        title_justify="left",
        title_style="bold",
        caption_justify="left",
        header_style="bold",
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )


def fitting(
    below: Callable[[int], Table], ranks: Sequence[int], console: Console, elsewhere: str
) -> Table:
    """A table with as many of its columns as the terminal has room for.

    Args:
        below: the table of the columns with a rank below a number.
        ranks: of all columns; the higher, the sooner one is left out; 0: never.
        elsewhere: what shows them all.
    """
    most = 1 + max(ranks, default=0)
    table, dropped = below(most), 0
    for rank in sorted({rank for rank in ranks if rank}, reverse=True):
        wide = console.options.update(max_width=WIDE * 2)
        if table.__rich_measure__(console, wide).maximum <= console.width:
            break
        table, dropped = below(rank), sum(other >= rank for other in ranks)
    if dropped:
        word = "column is" if dropped == 1 else "columns are"
        table.caption = f"{dropped} {word} left out: widen the terminal, or see {elsewhere}"
    return table


def simple_table(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    """A table of words."""
    table = bare_table()
    for header in headers:
        table.add_column(header, overflow="fold")
    for row in rows:
        table.add_row(*[styled("–" if cell is None else str(cell)) for cell in row])
    return table
