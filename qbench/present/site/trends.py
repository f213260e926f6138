"""Runs in a row: what the newest figures of each case are on each machine, and their trends."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, NamedTuple

import numpy as np

from qbench.analysis.history.point import METRICS, Point
from qbench.analysis.history.sources import CASE_FACTS, SHORT, case_label
from qbench.analysis.history.trend import Find, change_points
from qbench.present.site.summary import Summary

SHOWN_METRICS = ("p50", "throughput", "memory", "accuracy")
"""Of ``METRICS``, those whose trends the site draws."""
DIGITS = 6
"""Significant digits of a figure in a chart."""


class Series(NamedTuple):
    """One case on one machine, over all runs that count.

    Attributes:
        machine: ``host_id``.
        rows: its rows of the runs' case tables with their runs, the oldest first.
    """

    case_id: str
    machine: str
    rows: list[tuple[Summary, Mapping[str, Any]]]

    @property
    def newest(self) -> tuple[Summary, Mapping[str, Any]]:
        """The newest in which it was measured or failed; the newest at all, if it was always
        skipped."""
        ran = (pair for pair in reversed(self.rows) if pair[1]["status"] not in (None, "skipped"))
        return next(ran, self.rows[-1])

    @property
    def label(self) -> str:
        return case_label(self.newest[1])


def all_series(runs: Sequence[Summary]) -> list[Series]:
    """Every case on every machine, by label; runs that are no nights are left out."""
    found: dict[tuple[str, str], Series] = {}
    for run in sorted((run for run in runs if run.is_night), key=when):
        for row in run.cases:
            key = row["case_id"], run.machine
            found.setdefault(key, Series(*key, [])).rows.append((run, row))
    return sorted(found.values(), key=lambda series: (series.label, series.case_id, series.machine))


def when(run: Summary) -> datetime:
    """When it started; the oldest of all where that is no time."""
    try:
        started = datetime.fromisoformat(run.started)
    except ValueError:
        return datetime.min.replace(tzinfo=timezone.utc)
    return started if started.tzinfo else started.replace(tzinfo=timezone.utc)


def finder() -> tuple[Find, bool]:
    """How change points are found, and whether they are: not without ruptures."""
    from importlib.util import find_spec

    if find_spec("ruptures") is None:
        return (lambda values: []), False
    return change_points, True


def points(series: Series) -> list[Point]:
    """Its runs as nights, without those in which it was skipped."""
    label = series.label
    return [
        Point(
            case_id=series.case_id,
            label=label,
            run_id=run.run_id,
            started=when(run),
            host_id=run.machine,
            cpu_model=run.chip,
            metrics={metric.column: row[metric.column] for metric in METRICS.values()},
            facts=ChainMap(dict(_own_facts(row)), run.history_facts),
            status=row["status"] or "open",
        )
        for run, row in series.rows
        if row["status"] != "skipped"
    ]


def _own_facts(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for column, name in CASE_FACTS.items():
        if row[column] is not None:
            text = str(row[column])
            yield name, text[:SHORT] if column.endswith("_digest") else text


def compact(trend: Mapping[str, Any], places: Mapping[str, int]) -> dict[str, Any]:
    """A series of ``describe`` for the page's script, a tenth of the size.

    Args:
        places: by run id, its place in the page's list of runs.

    Returns:
        ``nights`` (places), ``values``, ``smoothed`` (indices into these), ``levels`` (index from
        which on, level), and ``changes`` (indices).
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
