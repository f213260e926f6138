"""Tables of the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from qbench.text import count, printable

if TYPE_CHECKING:
    from rich.console import Console

Column = TypeVar("Column")
STYLES = {"ok": "green", "skipped": "yellow"}
WIDE = 200
"""Characters in a line if the output is not a terminal: nothing is left out."""


def styled(words: str, style: str = "") -> Text:
    return Text(printable(words), style=style)


def bare_table(title: str | None = None) -> Table:
    """An empty table in the common style."""
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
    table_of: Callable[[Sequence[Column]], Table],
    columns: Sequence[Column],
    ranks: Sequence[int],
    console: Console,
    elsewhere: str,
) -> Table:
    """A table with as many of its columns as fit the terminal.

    Args:
        table_of: makes the table of some of the columns.
        ranks: of the columns; the highest are left out first; 0: never.
        elsewhere: the place that shows all columns.
    """
    kept, table = columns, table_of(columns)
    for limit in sorted({rank for rank in ranks if rank}, reverse=True):
        wide = console.options.update(max_width=WIDE * 2)
        if table.__rich_measure__(console, wide).maximum <= console.width:
            break
        kept = [column for column, rank in zip(columns, ranks, strict=True) if rank < limit]
        table = table_of(kept)
    if dropped := len(columns) - len(kept):
        left_out = count(dropped, "column is", "columns are")
        table.caption = f"{left_out} left out: widen the terminal, or see {elsewhere}"
    return table


def simple_table(
    headers: Sequence[str], rows: Sequence[Sequence[Any]], title: str | None = None
) -> Table:
    """A table of words; None is shown as a dash."""
    table = bare_table(title)
    for header in headers:
        table.add_column(header, overflow="fold")
    for row in rows:
        table.add_row(*[styled("–" if cell is None else str(cell)) for cell in row])
    return table
