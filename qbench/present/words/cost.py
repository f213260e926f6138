"""Costs as words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from qbench.text import figure

if TYPE_CHECKING:
    from qbench.analysis.cost.figures import Costed, CostFigures


class Shown(NamedTuple):
    """A figure of ``CostFigures``: what it is called, its unit (``{}``: the currency), how soon it
    is left out where the terminal is narrow (0: never), and a sentence on it."""

    name: str
    title: str
    unit: str
    rank: int
    doc: str


SHOWN = (
    Shown(
        "throughput_ips", "throughput", "items/s", 1,
        "Of one machine: under sustained load where that was measured, else offline, else its own.",
    ),
    Shown("machines_needed", "machines", "", 0, "Whole ones, to reach the required rate."),
    Shown(
        "owned_per_million", "bought, a million", "{}", 0,
        "Of a million inferences: the price's share over lifetime and utilisation, and energy.",
    ),
    Shown(
        "energy_per_million", "of it energy", "{}", 3,
        "Power of the whole machine, idle time counted in, times PUE and tariff.",
    ),
    Shown(
        "rented_per_million", "rented, a million", "{}", 0,
        "Hours that serve a million inferences, times the price of an hour.",
    ),
    Shown(
        "ips_per_price", "per price", "items/s per {}", 3,
        "Throughput over the purchase price of the whole system.",
    ),
    Shown(
        "ips_per_hourly_price", "per hourly price", "items/s per {}/h", 4,
        "Throughput over the price of an hour, rented.",
    ),
    Shown(
        "ips_per_watt", "per watt", "items/s per W", 2,
        "Items per joule, idle power included: of measured power only.",
    ),
    Shown(
        "co2_grams_per_million", "CO2, a million", "g", 2,
        "Energy measured at the wall, times PUE and grams per kWh.",
    ),
)  # fmt: skip
"""A million inferences, each of one item."""


def heading(shown: Shown, currency: str | None) -> str:
    return f"{shown.title} {shown.unit.format(currency or '?')}".strip()


def said(figures: CostFigures, shown: Shown) -> tuple[str, str]:
    """A figure, ``–`` where there is none, and its interval, "" likewise."""
    found = getattr(figures, shown.name)
    if found is None:
        return "–", ""
    value, low, high = found
    if low == high:  # the same for all that the throughput may be
        low = high = None
    if shown.name == "machines_needed":
        texts = [f"{number:,.0f}" for number in (value, low, high) if number is not None]
    else:
        ends = (low, high)
        texts = [figure(number, *ends) for number in (value, *ends) if number is not None]
    return texts[0], " … ".join(texts[1:])


def cell(figures: CostFigures, shown: Shown) -> str:
    """The two together."""
    value, ends = said(figures, shown)
    return f"{value} ({ends})" if ends else value


def by_currency(costs: Sequence[Costed]) -> list[tuple[str | None, list[Costed]]]:
    """Those in one currency together; what has no price stands with the first of them."""
    currencies = sorted({figures.currency for _, figures in costs if figures.currency})
    first = currencies[0] if currencies else None
    return [
        (currency, [cost for cost in costs if (cost.figures.currency or first) == currency])
        for currency in currencies or [None]
    ]


def said_reasons(costs: Sequence[Costed]) -> list[tuple[str, str, list[str]]]:
    """Why figures are missing: the figure, the reason, and the machines it holds for."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for _, figures in costs:
        for shown in SHOWN:
            reason = figures.reasons.get(shown.name)
            if reason is not None:
                found.setdefault((shown.title, reason), {})[figures.machine.name] = None
    return [(title, reason, list(machines)) for (title, reason), machines in found.items()]


def said_sources(costs: Sequence[Costed]) -> list[tuple[str, str, str, str]]:
    """Machine, input, value and source of all that went in, but for the throughputs, which are the
    cases' own."""
    rows: dict[tuple[str, str, str, str], None] = {}
    for _, figures in costs:
        for name, value, source in figures.inputs:
            if name not in ("throughput", "energy"):
                rows[figures.machine.name, name.replace("_", " "), value, source] = None
    return sorted(rows)


def precision(row: Mapping[str, object]) -> str:
    return f"{row['precision']} [{row['variant']}]" if row["variant"] else str(row["precision"])


def called(row: Mapping[str, object], conditions: Sequence[str]) -> str:
    """Such as ``offline, batch 8``: what differs between cases."""
    bare = ("scenario", "scenario_options", "environment", "recipe")
    return ", ".join(
        str(row[name]) if name in bare else f"{name.removesuffix('_size')} {row[name]}"
        for name in conditions
        if row[name] is not None
    )
