"""Machines side by side on the page, and their costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from qbench.analysis.compare.machines import DRIFT, Cell, Line, Machine, SideBySide, side_by_side
from qbench.analysis.cost.figures import Costed, costs_side_by_side
from qbench.analysis.table.trials import Ratio
from qbench.present.page.options import Options
from qbench.present.page.tables import table_cell
from qbench.present.words import cells
from qbench.present.words.cost import (
    COST_COLUMNS,
    by_currency,
    cell,
    figure_and_interval,
    input_sources,
    missing_reasons,
)
from qbench.present.words.named import PageCase
from qbench.present.words.ranking import sentence, verdicts
from qbench.present.words.run import Run
from qbench.present.words.traces import rounded
from qbench.spec.columns import CaseRow
from qbench.text import count, figure

LONGEST = 26
"""Maximum characters of a machine's name in a heading; the list of machines has the whole."""
MOST_ROWS = 400
"""Maximum rows of a table; ``qbench export`` and ``qbench cost`` give all."""
RATIO_DOC = (
    "Over machine 1, with its 95 % interval: Welch's, on the logarithms over trials, since the two "
    "were not measured in the same rounds."
)
_PERCENT = f"{100 * (DRIFT - 1):.0f} %"
FASTEST_DOC = (
    f"The machine whose 95 % interval is more than {_PERCENT} away from those of all others that "
    "did the same work."
)


class Compared(NamedTuple):
    """Runs by machine, with their costs."""

    side: SideBySide
    costs: list[Costed]


def compared(runs: Sequence[Run], cases: Sequence[PageCase], options: Options) -> Compared | None:
    """The runs by machine, if there are several machines or costs; else None.

    Raises:
        UserError: the cost sheet lacks these machines.
    """
    keys = {run.bundle.begin.host.host_id for run in runs}
    if len(keys) == 1 and options.costs is None:
        return None
    tables = [[case for case in cases if case.run == run.letter] for run in runs]
    side = side_by_side([run.bundle for run in runs], tables)
    if options.costs is None:
        return Compared(side, [])
    return Compared(side, costs_side_by_side(side, options.costs, options.rate_ips))


def section(found: Compared | None, runs: Sequence[Run]) -> dict[str, Any] | None:
    """The section: ``machines``, ``sentences``, ``tables`` of figures side by side, ``best`` and
    ``costs``; None without ``found``."""
    if found is None:
        return None
    side = found.side
    several = len(side.machines) > 1
    return {
        "drift": _PERCENT,
        "machines": [_described(side, machine, runs) for machine in side.machines],
        "sentences": list(sentences(side)) if several else [],
        "tables": _tables(side) if several else [],
        "best": _best(side) if several else [],
        "costs": _costs(found) if found.costs else None,
    }


def chart(found: Compared | None) -> dict[str, Any]:
    """The chart: ``points``, one for each case on each machine; ``machines``, the names that have a
    shape; ``axes``, the known prices, each in one ``currency``, and watts."""
    if found is None or not found.costs:
        return {"points": [], "machines": [], "axes": []}
    points = [point for costed in found.costs if (point := _point(found.side, costed)) is not None]
    currencies = list(dict.fromkeys(point["currency"] for point in points if point["currency"]))
    axes = [
        {"name": name, "title": title.format(currency=currency), "currency": currency}
        for name, title in _AXES.items()
        for currency in (currencies if "{" in title else [None])
        if any(p[name] is not None and currency in (None, p["currency"]) for p in points)
    ]
    return {
        "points": points if axes else [],
        "machines": [_numbered(side_name, n) for n, side_name in _names(found.side)],
        "axes": axes,
    }


# --------------------------------------------------------------------------- machines


def _names(side: SideBySide) -> list[tuple[int, str]]:
    return list(enumerate((machine.name for machine in side.machines), 1))


def _numbered(name: str, number: int) -> str:
    """``1: bench``."""
    return f"{number}: {name if len(name) <= LONGEST else name[: LONGEST - 1] + '…'}"


def _described(side: SideBySide, machine: Machine, runs: Sequence[Run]) -> dict[str, Any]:
    letters = {run.bundle.run_id: run.letter for run in runs}
    devices = dict.fromkeys(row.device for row in side.rows_of(machine))
    return {
        "number": 1 + side.machines.index(machine),
        "name": machine.name,
        "key": machine.key,
        "chips": list(dict.fromkeys(machine.chip_of(device) for device in devices)),
        "runs": [
            {
                "letter": letters[run.run_id],
                "complete": run.complete,
                "stand": run.stand,
                "cases": run.cases,
            }
            for run in side.runs
            if run.machine == machine
        ],
    }


def sentences(side: SideBySide) -> Iterable[str]:
    """For each machine after the first: the number of cases in which it is faster or slower by more
    than machines drift, by their intervals, and the ratios."""
    for place, machine in enumerate(side.machines[1:], 1):
        ratios = [
            speed
            for line in side.lines
            if (held := line.cells[place]) is not None and (speed := _speed(line, held)) is not None
        ]
        name = _numbered(machine.name, place + 1)
        if not ratios:
            yield f"Machine {name} has no case that may be compared with machine 1."
            continue
        known = [ratio for ratio in ratios if ratio.low is not None and ratio.high is not None]
        faster = [ratio.value for ratio in known if ratio.low is not None and ratio.low > DRIFT]
        slower = [
            ratio.value for ratio in known if ratio.high is not None and ratio.high < 1 / DRIFT
        ]
        parts = []
        for word, some in (("faster", faster), ("slower", slower)):
            if some:
                parts.append(f"{word} than machine 1 in {len(some)} ({_span(some)} times as fast)")
        if undecided := len(known) - len(faster) - len(slower):
            parts.append(f"within {_PERCENT} of machine 1, or undecided, in {undecided}")
        if unknown := len(ratios) - len(known):
            parts.append(f"without an interval in {unknown}, for too few rounds")
        yield (
            f"Machine {name}, of {count(len(ratios), 'case')} that did the same work: "
            f"{'; '.join(parts)}."
        )


def _span(values: Sequence[float]) -> str:
    low, high = (figure(end) for end in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _speed(line: Line, held: Cell) -> Ratio | None:
    """Speed over the first machine's: above 1 is faster."""
    if line.decided_by == "throughput_ips" or held.p50 is None:
        return held.throughput
    p50 = held.p50
    low, high = (None if end is None else 1 / end for end in (p50.high, p50.low))
    return replace(p50, value=1 / p50.value, low=low, high=high)


def _best(side: SideBySide) -> list[dict[str, Any]]:
    """The best case on each machine, for every model and way of calling it."""
    found: dict[tuple[str, str], list[str]] = {}
    for place, machine in enumerate(side.machines):
        rows = [replace(_page_case(row), label=_label(row)) for row in side.rows_of(machine)]
        for verdict in verdicts(rows):
            key = verdict.model, verdict.conditions
            row = found.setdefault(key, [cells.NOTHING] * len(side.machines))
            row[place] = sentence(verdict)
    return [
        {"model": model, "conditions": conditions, "texts": texts}
        for (model, conditions), texts in found.items()
    ]


# --------------------------------------------------------------------------- tables


def _tables(side: SideBySide) -> list[dict[str, Any]]:
    """A table for each figure that machines are compared by."""
    by_latency = [line for line in side.lines if line.decided_by == "latency_p50_ms"]
    made = [
        _table(side, by_latency, "Median latency of a call", "latency_p50_ms", "p50"),
        _table(side, side.lines, "Throughput", "throughput_ips", "throughput"),
        _table(side, side.lines, "Energy of an inference", "energy_mj_per_inference", "energy"),
        _table(side, side.lines, "Accuracy, measured on each machine", "accuracy", ""),
        _table(side, side.lines, "Peak memory", "memory_peak_mb", ""),
    ]
    return [table for table in made if table is not None]


def _table(
    side: SideBySide, lines: Sequence[Line], title: str, name: str, ratio: str
) -> dict[str, Any] | None:
    """A table of the column ``name`` by machine, with ``ratio``, an attribute of ``Cell``, over the
    first machine; None if no machine has the figure."""
    kept = [
        line
        for line in lines
        if any(c and c.ok and getattr(c.row, name) is not None for c in line.cells)
    ]
    if not kept:
        return None
    columns = [_column("model", "model"), _column("label", "case")]
    for number, machine in _names(side):
        doc = f"{title}. {machine}."
        columns.append(_column(name, _numbered(machine, number), cells.unit(name), doc, True))
        if ratio and number > 1:
            columns.append(_column(ratio, "over 1", "×", RATIO_DOC, True))
    decides = [line for line in kept if name == line.decided_by]
    if decides:
        columns.append(_column("fastest", "fastest", "", FASTEST_DOC))
    return {
        "id": f"machines-{name}",
        "title": title,
        "columns": columns,
        "rows": [
            {
                "cells": [
                    *_line_cells(line, name, ratio),
                    *([_fastest(line) if name == line.decided_by else _NONE] if decides else []),
                ]
            }
            for line in kept[:MOST_ROWS]
        ],
        "left_out": max(0, len(kept) - MOST_ROWS),
    }


def _column(
    name: str, title: str, unit: str = "", doc: str = "", number: bool = False
) -> dict[str, Any]:
    return {
        "name": name,
        "title": title,
        "unit": unit,
        "doc": doc or title,
        "prose": False,
        "number": number,
    }


def _line_cells(line: Line, name: str, ratio: str) -> list[dict[str, Any]]:
    head = next(held.row for held in line.cells if held)
    found = [_words(head.model), _words(_label(head))]
    for place, held in enumerate(line.cells):
        found.append(_value(held, name))
        if ratio and place:
            found.append(_ratio(line, held, ratio))
    return found


def _fastest(line: Line) -> dict[str, Any]:
    return _NONE if line.fastest is None else _words(f"machine {line.fastest + 1}")


def _page_case(row: CaseRow) -> PageCase:
    """The rows of ``side`` are the page's cases; see ``compared``."""
    assert isinstance(row, PageCase)
    return row


def _label(row: CaseRow) -> str:
    """The case's label without the letter of its run, since a line has several runs."""
    case = _page_case(row)
    return case.label.removeprefix(f"{case.run} ")


def _words(text: str) -> dict[str, Any]:
    return table_cell(text, text)


_NONE = table_cell(cells.NOTHING)


def _value(held: Cell | None, name: str) -> dict[str, Any]:
    if held is None:
        return _NONE
    row = held.row
    if not held.ok:
        return table_cell("", marks=[(row.status, row.reason or "not measured yet")])
    marks = [("noisy", row.noise_reason)] if row.noisy and name != "accuracy" else []
    return table_cell(cells.text(row, name), getattr(row, name), cells.ends(row, name), marks)


def _ratio(line: Line, held: Cell | None, name: str) -> dict[str, Any]:
    if held is None or not held.ok or line.cells[0] is None or not line.cells[0].ok:
        return _NONE
    found: Ratio | None = getattr(held, name)
    if found is None:
        why = held.reason or (held.energy_reason if name == "energy" else None)
        return table_cell(cells.NOTHING, marks=[("not compared", why)] if why else [])
    ends = (found.low, found.high)
    interval = " … ".join(figure(end, *ends) for end in ends if end is not None)
    return table_cell(figure(found.value, *ends), found.value, interval)


# --------------------------------------------------------------------------- costs


def _costs(found: Compared) -> dict[str, Any]:
    """Cost tables, one for each currency, with the reasons for missing figures and the sources."""
    costs = found.costs
    rate = costs[0].figures.rate_ips
    return {
        "rate": None if rate is None else figure(rate),
        "tables": [
            _cost_table(found.side, some, currency) for currency, some in by_currency(costs)
        ],
        "reasons": missing_reasons(costs),
        "sources": input_sources(costs),
    }


def _cost_table(side: SideBySide, costs: Sequence[Costed], currency: str | None) -> dict[str, Any]:
    kept = [s for s in COST_COLUMNS if any(getattr(c.figures, s.name) is not None for c in costs)]
    names = [_column("model", "model"), _column("label", "case"), _column("machine", "machine")]
    rows = []
    for row, figures in costs[:MOST_ROWS]:
        number = 1 + side.machines.index(figures.machine)
        words = [row.model, _label(row), _numbered(figures.machine.name, number)]
        values = []
        for shown in kept:
            value = getattr(figures, shown.name)
            text, ends = figure_and_interval(figures, shown)
            values.append(table_cell(text, None if value is None else value.value, ends))
        rows.append({"cells": [*map(_words, words), *values]})
    return {
        "id": f"costs-{currency or 'none'}",
        "title": "Cost of an inference",
        "columns": [
            *names,
            *(_column(s.name, s.title, s.unit.format(currency or "?"), s.doc, True) for s in kept),
        ],
        "rows": rows,
        "left_out": max(0, len(costs) - MOST_ROWS),
    }


_AXES = {
    "price": "purchase price, {currency}",
    "hourly_price": "price of an hour, {currency}",
    "watts": "power under load, W",
}


def _point(side: SideBySide, costed: Costed) -> dict[str, Any] | None:
    """A case on its machine; prices and watts follow from throughput per price and per watt."""
    row, figures = costed
    case = _page_case(row)
    ips = figures.throughput_ips
    if ips is None:
        return None
    over = {
        "price": figures.ips_per_price,
        "hourly_price": figures.ips_per_hourly_price,
        "watts": figures.ips_per_watt if figures.watts_scope == "wall" else None,
    }
    number = 1 + side.machines.index(figures.machine)
    return {
        **{name: getattr(case, name) for name in ("run", "model", "backend", "precision")},
        "anchor": case.anchor,
        "label": _label(row),
        "machine": _numbered(figures.machine.name, number),
        "currency": figures.currency,
        "doubt": case.doubt,
        "ips": rounded(ips.value),
        "ips_low": rounded(ips.low),
        "ips_high": rounded(ips.high),
        **{
            name: None if each is None else rounded(ips.value / each.value)
            for name, each in over.items()
        },
        "texts": {
            shown.name: f"{cell(figures, shown)} {shown.unit.format(figures.currency)}".strip()
            for shown in COST_COLUMNS
            if getattr(figures, shown.name) is not None
        },
    }
