"""Values of the case table as text: with their unit, their interval, and as many digits as the
interval supports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from qbench.bundle.records.run import PartOf
from qbench.spec.columns import COLUMNS, INTERVALS, CaseRow, Column
from qbench.text import figure

NOTHING = "–"
"""Stands for a missing value."""
ENDS = frozenset(end for ends in INTERVALS.values() for end in ends)
"""Columns that are shown with the one whose interval they bound."""
_OF_PAGES = (
    Column("page", "run", "", "The bundle, by its letter above.", name="run"),
    Column(
        "page", "case", "", "Backend, precision, and the conditions that differ between cases.",
        name="label",
    ),
    Column(
        "page", "verdict", "", "Whether the figures of the case are in doubt, and why.",
        name="verdict",
    ),
    Column(
        "page", "share of the work", "",
        "Multiply-accumulates by the precision they ran at; else operators.", name="work",
    ),
    Column(
        "page", "the runtime’s notes", "",
        "Notes of the runtime or its adapter about how it was set up.", name="runtime_notes",
    ),
    Column("page", "of", "frames", "Frames that were due in all trials.", name="frames"),
    Column("page", "late", "frames", "Results that came after the deadline.", name="late"),
    Column(
        "page", "dropped", "frames", "Frames that came while another was being processed.",
        name="dropped",
    ),
    Column(
        "page", "deadline", "ms", "A result is late this long after its frame was due.",
        name="deadline_ms",
    ),
    Column(
        "page", "accuracy of", "",
        "Number of items that were evaluated, and size of the official set.", name="accuracy_of",
    ),
    Column(
        "page", "bind, infer, read", "ms",
        "Time to place a frame, run the inference, and read its outputs.", name="inference_ms",
    ),
    Column(
        "page", "LoadGen’s verdict", "", "LoadGen's verdict by the options of the scenario.",
        name="loadgen_verdict",
    ),
    Column(
        "page", "because", "", "Why it is not valid, in LoadGen's words.", name="loadgen_reason"
    ),
)  # fmt: skip
ALL_COLUMNS: Mapping[str, Column] = COLUMNS | {column.name: column for column in _OF_PAGES}
"""Columns of the case table, and those that pages derive from a bundle's other records."""


class ColumnSpec(NamedTuple):
    """A column that a table of cases shows, in the terminal or on a page.

    Attributes:
        name: a key of ``ALL_COLUMNS``.
        title: its heading here; "": the column's own.
        rank: order in which columns are left out on a narrow terminal, the highest first; 0: never;
            None: the column's own.
    """

    name: str
    title: str = ""
    rank: int | None = None

    @property
    def column(self) -> Column:
        return ALL_COLUMNS[self.name]

    @property
    def heading(self) -> str:
        """Heading on a page, where the unit is shown next to it."""
        return self.title or self.column.title

    @property
    def terminal_heading(self) -> str:
        return self.title or f"{self.column.title} {self.column.unit}".strip()

    @property
    def terminal_rank(self) -> int:
        return self.column.rank if self.rank is None else self.rank


def specs(*names: str) -> tuple[ColumnSpec, ...]:
    """Columns under their own headings."""
    return tuple(map(ColumnSpec, names))


def unit(name: str) -> str:
    """Unit that a column is shown in; "" for words and plain numbers."""
    return ALL_COLUMNS[name].unit


def text(case: CaseRow, name: str) -> str:
    """A value in its unit, without the unit's name."""
    value = getattr(case, name)
    if value is None or value == "":
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and unit(name) not in ("%", "pp"):
        return f"{value:,}"
    return _figure(case, name, value) if isinstance(value, int | float) else str(value)


def ends(case: CaseRow, name: str) -> str:
    """The interval of a value, such as ``1.21 … 1.26``; "" without one."""
    low, high = _interval(case, name)
    if getattr(case, name) is None or low is None or high is None:
        return ""
    return f"{_figure(case, name, low)} … {_figure(case, name, high)}"


def format_cell(case: CaseRow, name: str) -> str:
    """Value, unit and interval: ``1.234 ms (1.210 … 1.258)``; an accuracy also with its items."""
    value = text(case, name)
    if value == NOTHING:
        return value
    interval = ends(case, name)
    whole = f"{value} {unit(name)}".rstrip() + (f" ({interval})" if interval else "")
    items = getattr(case, "accuracy_of", None) if name == "accuracy" else None
    return f"{whole}, {items}" if items else whole


def accuracy_of(items: int | None, official: PartOf | None) -> str | None:
    """The items that an accuracy is of: ``n = 650 of 50,000, not the official score``.

    Args:
        items: number of items that were evaluated.
        official: the data set that they belong to; None: unknown.
    """
    if items is None:
        return None
    if official is None:
        return f"n = {items:,}"
    if items == official.items:
        return f"n = {items:,}, the whole set"
    return f"n = {items:,} of {official.items:,}, not the official score"


def texts(case: CaseRow, names: Iterable[str]) -> dict[str, str]:
    """``format_cell`` of those columns that have a value and are not the end of an interval."""
    return {
        name: format_cell(case, name)
        for name in names
        if name not in ENDS and getattr(case, name) is not None
    }


def _interval(case: CaseRow, name: str) -> tuple[float | None, float | None]:
    if name not in INTERVALS:
        return None, None
    low, high = INTERVALS[name]
    return getattr(case, low), getattr(case, high)


def _figure(case: CaseRow, name: str, value: float) -> str:
    """``value``, which is the column's or an end of its interval."""
    factor = 100 if unit(name) in ("%", "pp") else 1
    low, high = (None if end is None else factor * end for end in _interval(case, name))
    shown = figure(factor * value, low, high, "+" if unit(name) == "pp" else "")
    return shown.replace("-", "−")
