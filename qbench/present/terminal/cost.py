"""The terminal's table of what cases cost on their machines, and where the inputs come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from qbench.present.terminal.cases import CONDITIONS
from qbench.present.terminal.tables import bare_table, fitting, simple_table, styled
from qbench.present.words.cost import (
    SHOWN,
    Shown,
    by_currency,
    called,
    cell,
    heading,
    precision,
    said_reasons,
    said_sources,
)
from qbench.present.words.named import told_conditions
from qbench.text import figure

if TYPE_CHECKING:
    from qbench.analysis.cost.figures import Costed


NAME_WIDTH = 24
"""Characters of a machine's name in a line."""


def cost_parts(costs: Sequence[Costed], console: Console) -> list[Table | Text]:
    """The table, what its figures are, why some are missing, and the sources."""
    parts: list[Table | Text] = [
        _table(some, currency, console) for currency, some in by_currency(costs)
    ]
    rate = costs[0].figures.rate_ips
    load = "one machine at full load" if rate is None else f"{figure(rate)} items/s"
    parts.append(styled(f"a million inferences: of one item each, at {load}", style="dim"))
    missing = said_reasons(costs)
    if missing:
        rows = [(title, ", ".join(machines), reason) for title, reason, machines in missing]
        parts.append(_titled("Not to be had", simple_table(["figure", "machines", "reason"], rows)))
    sources = said_sources(costs)
    if sources:
        headers = ["machine", "input", "value", "source"]
        parts.append(_titled("Sources", simple_table(headers, sources)))
    return parts


def _titled(title: str, table: Table) -> Table:
    table.title, table.title_justify, table.title_style = styled(title), "left", "bold"
    return table


def _table(costs: Sequence[Costed], currency: str | None, console: Console) -> Table:
    kept = [s for s in SHOWN if any(getattr(cost.figures, s.name) is not None for cost in costs)]

    def below(rank: int) -> Table:
        return _filled(costs, currency, [shown for shown in kept if shown.rank < rank])

    return fitting(below, [shown.rank for shown in kept], console, "--json")


def _filled(costs: Sequence[Costed], currency: str | None, columns: Sequence[Shown]) -> Table:
    table = bare_table("What an inference costs")
    told = told_conditions(CONDITIONS, [row for row, _ in costs])
    for name in ("model", "backend", "precision", *(["called"] if told else [])):
        table.add_column(name, overflow="fold")
    table.add_column("machine", overflow="fold", max_width=NAME_WIDTH)
    for shown in columns:
        table.add_column(heading(shown, currency), justify="right")
    last = None
    for row, figures in costs:
        if last is not None and row["model"] != last:
            table.add_section()
        last = row["model"]
        words = [
            row["model"],
            row["backend"],
            precision(row),
            *([called(row, told)] if told else []),
        ]
        cells = [cell(figures, shown) for shown in columns]
        table.add_row(*map(styled, [*map(str, words), figures.machine.name, *cells]))
    return table
