"""Costs of cases on their machines, as tables, with the sources of the inputs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from qbench.present.terminal.cases import CONDITIONS
from qbench.present.terminal.tables import bare_table, fitting, simple_table, styled
from qbench.present.words.cost import (
    COST_COLUMNS,
    CostColumn,
    by_currency,
    cell,
    heading,
    input_sources,
    missing_reasons,
)
from qbench.present.words.named import conditions_text, varying_conditions, with_variant
from qbench.text import figure

if TYPE_CHECKING:
    from qbench.analysis.cost.figures import Costed

NAME_WIDTH = 24
"""Maximum characters of a machine's name in a line."""


def cost_parts(costs: Sequence[Costed], console: Console) -> list[Table | Text]:
    """The table with a note, the reasons for missing figures, and the sources of the inputs."""
    parts: list[Table | Text] = [
        _table(some, currency, console) for currency, some in by_currency(costs)
    ]
    rate = costs[0].figures.rate_ips
    load = "one machine at full load" if rate is None else f"{figure(rate)} items/s"
    parts.append(styled(f"a million inferences of one item each, at {load}", style="dim"))
    missing = missing_reasons(costs)
    if missing:
        rows = [(title, ", ".join(machines), reason) for title, reason, machines in missing]
        parts.append(simple_table(["figure", "machines", "reason"], rows, "Missing figures"))
    sources = input_sources(costs)
    if sources:
        headers = ["machine", "input", "value", "source"]
        parts.append(simple_table(headers, sources, "Sources"))
    return parts


def _table(costs: Sequence[Costed], currency: str | None, console: Console) -> Table:
    kept = [
        s for s in COST_COLUMNS if any(getattr(cost.figures, s.name) is not None for cost in costs)
    ]
    ranks = [shown.rank for shown in kept]
    return fitting(partial(_filled, costs, currency), kept, ranks, console, "--json")


def _filled(costs: Sequence[Costed], currency: str | None, columns: Sequence[CostColumn]) -> Table:
    table = bare_table("Cost of an inference")
    conditions = varying_conditions(CONDITIONS, [row for row, _ in costs])
    for name in ("model", "backend", "precision", *(["conditions"] if conditions else [])):
        table.add_column(name, overflow="fold")
    table.add_column("machine", overflow="fold", max_width=NAME_WIDTH)
    for column in columns:
        table.add_column(heading(column, currency), justify="right")
    last = None
    for row, figures in costs:
        if last is not None and row.model != last:
            table.add_section()
        last = row.model
        words = [row.model, row.backend, with_variant(row)]
        words += [conditions_text(row, conditions)] if conditions else []
        cells = [cell(figures, column) for column in columns]
        table.add_row(*map(styled, [*words, figures.machine.name, *cells]))
    return table
