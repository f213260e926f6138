"""Words, figures and tables of the terminal."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

STYLES = {"ok": "green", "skipped": "yellow"}
WIDE = 200
"""Columns of characters where the output is no terminal: nothing is left out."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(words: str) -> str:
    """Without control characters, which would steer the terminal: what is shown may come from
    others, as a bundle's reasons do."""
    return _CONTROL.sub("", words)


def styled(words: str, style: str = "") -> Text:
    return Text(printable(words), style=style)


def figure(value: float) -> str:
    """A number to three significant digits, without an exponent."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = 2 - int(f"{abs(value):e}".split("e")[1])
    return f"{round(value, digits):,.{max(0, digits)}f}"


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


def simple_table(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    """A table of words."""
    table = bare_table()
    for header in headers:
        table.add_column(header, overflow="fold")
    for row in rows:
        table.add_row(*[styled("–" if cell is None else str(cell)) for cell in row])
    return table
