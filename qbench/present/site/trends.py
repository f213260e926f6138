"""Trends over runs: the newest figures of each case on each machine, and their history."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, NamedTuple

import numpy as np

from qbench.analysis.history.point import METRICS, Point
from qbench.analysis.history.sources import CASE_FACTS, SHORT
from qbench.analysis.history.trend import Find, change_points
from qbench.present.site.summary import Summary
from qbench.present.words.named import PageCase

SHOWN_METRICS = ("p50", "throughput", "memory", "accuracy")
"""Those of ``METRICS`` whose trends the site draws."""
DIGITS = 6
"""Significant digits of a figure in a chart."""


class Series(NamedTuple):
    """One case on one machine, over all valid runs.

    Attributes:
        machine: ``host_id``.
        rows: runs and rows of the case, in chronological order.
    """

    case_id: str
    machine: str
    rows: list[tuple[Summary, PageCase]]

    @property
    def newest(self) -> tuple[Summary, PageCase]:
        """The newest run in which it was measured or failed; the newest of all, if it was always
        skipped."""
        ran = (pair for pair in reversed(self.rows) if pair[1].status not in (None, "skipped"))
        return next(ran, self.rows[-1])

    @property
    def label(self) -> str:
        return self.newest[1].label


def all_series(runs: Sequence[Summary]) -> list[Series]:
    """Every case on every machine, ordered by label; only runs that are part of trends."""
    found: dict[tuple[str, str], Series] = {}
    for run in sorted((run for run in runs if run.is_night), key=when):
        for row in run.cases:
            key = row.case_id, run.machine
            found.setdefault(key, Series(*key, [])).rows.append((run, row))
    return sorted(found.values(), key=lambda series: (series.label, series.case_id, series.machine))


def when(run: Summary) -> datetime:
    """Start of a run; the earliest possible time if it cannot be parsed."""
    try:
        started = datetime.fromisoformat(run.started)
    except ValueError:
        return datetime.min.replace(tzinfo=timezone.utc)
    return started if started.tzinfo else started.replace(tzinfo=timezone.utc)


def finder() -> tuple[Find, bool]:
    """The search for change points, and whether it is available: it needs ruptures."""
    from importlib.util import find_spec

    if find_spec("ruptures") is None:
        return (lambda values: []), False
    return change_points, True


def points(series: Series) -> list[Point]:
    """The runs of a series as points of its history, without those that skipped it."""
    label = series.label
    return [
        Point(
            case_id=series.case_id,
            label=label,
            run_id=run.run_id,
            started=when(run),
            host_id=run.machine,
            cpu_model=run.chip,
            metrics={metric.column: getattr(row, metric.column) for metric in METRICS.values()},
            facts=ChainMap(dict(_own_facts(row)), run.history_facts),
            status=row.status or "open",
        )
        for run, row in series.rows
        if row.status != "skipped"
    ]


def _own_facts(row: PageCase) -> Iterator[tuple[str, str]]:
    for column, name in CASE_FACTS.items():
        if (value := getattr(row, column)) is not None:
            text = str(value)
            yield name, text[:SHORT] if column.endswith("_digest") else text


def compact(trend: Mapping[str, Any], places: Mapping[str, int]) -> dict[str, Any]:
    """A series of ``describe`` for the page's script, at a tenth of the size.

    Args:
        places: by run id, its place in the page's list of runs.

    Returns:
        ``nights`` (places), ``values``, ``smoothed`` (indices of these), and ``levels`` (first
        index, level).
    """
    nights = trend["nights"]
    begins = [0, *(change["index"] for change in trend["changes"])] if nights else []
    return {
        "nights": [places[night["run_id"]] for night in nights],
        "values": [_short(night["value"]) for night in nights],
        "smoothed": [index for index, night in enumerate(nights) if night["smoothed"]],
        "levels": [(index, _short(nights[index]["level"])) for index in begins],
    }


def _short(value: float) -> float:
    return float(np.format_float_positional(value, DIGITS, fractional=False))
