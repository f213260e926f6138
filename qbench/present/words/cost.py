"""Figures of ``qbench cost`` as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from qbench.present.words.cells import NOTHING
from qbench.text import figure

if TYPE_CHECKING:
    from qbench.analysis.cost.figures import Costed, CostFigures


class CostColumn(NamedTuple):
    """A figure of ``CostFigures``: its heading, its unit (``{}`` is the currency), the order in
    which it is left out on a narrow terminal (the highest first; 0: never), and its meaning."""

    name: str
    title: str
    unit: str
    rank: int
    doc: str


COST_COLUMNS = (
    CostColumn(
        "throughput_ips", "throughput", "items/s", 1,
        "Of one machine: under sustained load if that was measured, else offline, else the case's.",
    ),
    CostColumn("machines_needed", "machines", "", 0, "Machines that reach the required rate."),
    CostColumn(
        "owned_per_million", "bought, a million", "{}", 0,
        "Of a million inferences: share of the price over lifetime and utilisation, plus energy.",
    ),
    CostColumn(
        "energy_per_million", "energy share", "{}", 3,
        "Power of the whole machine, including idle time, times PUE and tariff.",
    ),
    CostColumn(
        "rented_per_million", "rented, a million", "{}", 0,
        "Hours needed for a million inferences, times the price of an hour.",
    ),
    CostColumn(
        "ips_per_price", "per price", "items/s per {}", 3,
        "Throughput over the purchase price of the whole system.",
    ),
    CostColumn(
        "ips_per_hourly_price", "per hourly price", "items/s per {}/h", 4,
        "Throughput over the rent for an hour.",
    ),
    CostColumn(
        "ips_per_watt", "per watt", "items/s per W", 2,
        "Items per joule, including idle power; only with measured power.",
    ),
    CostColumn(
        "co2_grams_per_million", "CO2, a million", "g", 2,
        "Energy measured at the wall, times PUE and grams per kWh.",
    ),
)  # fmt: skip
"""Each inference is of one item."""


def heading(column: CostColumn, currency: str | None) -> str:
    return f"{column.title} {column.unit.format(currency or '?')}".strip()


def figure_and_interval(figures: CostFigures, column: CostColumn) -> tuple[str, str]:
    """A figure, ``–`` if it is missing, and its interval, "" if it has none."""
    found = getattr(figures, column.name)
    if found is None:
        return NOTHING, ""
    value, low, high = found
    if low == high:  # does not depend on the throughput
        low = high = None
    if column.name == "machines_needed":
        texts = [f"{number:,.0f}" for number in (value, low, high) if number is not None]
    else:
        ends = (low, high)
        texts = [figure(number, *ends) for number in (value, *ends) if number is not None]
    return texts[0], " … ".join(texts[1:])


def cell(figures: CostFigures, column: CostColumn) -> str:
    """``1.23 (1.20 … 1.26)``."""
    value, ends = figure_and_interval(figures, column)
    return f"{value} ({ends})" if ends else value


def by_currency(costs: Sequence[Costed]) -> list[tuple[str | None, list[Costed]]]:
    """Costs by currency; those without a price are listed with the first currency."""
    currencies = sorted({figures.currency for _, figures in costs if figures.currency})
    first = currencies[0] if currencies else None
    return [
        (currency, [cost for cost in costs if (cost.figures.currency or first) == currency])
        for currency in currencies or [None]
    ]


def missing_reasons(costs: Sequence[Costed]) -> list[tuple[str, str, list[str]]]:
    """Why figures are missing: figure, reason, and the names of the machines."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for _, figures in costs:
        for shown in COST_COLUMNS:
            reason = figures.reasons.get(shown.name)
            if reason is not None:
                found.setdefault((shown.title, reason), {})[figures.machine.name] = None
    return [(title, reason, list(machines)) for (title, reason), machines in found.items()]


def input_sources(costs: Sequence[Costed]) -> list[tuple[str, str, str, str]]:
    """Machine, name, value and source of every input, except throughputs and energies, which are
    figures of the cases."""
    rows: dict[tuple[str, str, str, str], None] = {}
    for _, figures in costs:
        for name, value, source in figures.inputs:
            if name not in ("throughput", "energy"):
                rows[figures.machine.name, name.replace("_", " "), value, source] = None
    return sorted(rows)
