"""Trends as plain JSON values, for scripts, the terminal and the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from qbench.analysis.history.point import METRICS, Point
from qbench.analysis.history.trend import Change, Find, Trend, difference, trends

RECENT = 7
"""Number of nights over which a summary gives the change."""
NO_VERDICT = (
    "A change point is a reason to look, and no verdict: two nights see the machine at two times. "
    "Measure both versions interleaved: as two environments of one run."
)


def describe(points: Sequence[Point], metric: str, find: Find | None = None) -> dict[str, Any]:
    """The trend of one case; ``find`` as in ``trends``.

    Returns:
        ``case_id``, ``label``, ``metric``, ``unit``, and ``series``, one for each kind of processor
        on which the figure was measured or the case failed: ``machine``, ``nights`` (``run_id``,
        ``started``, ``value``, ``level``, and ``smoothed``: whether the night was treated as an
        outlier), ``missing`` nights with their ``status``, ``last``, ``recent`` (the change over
        ``RECENT`` nights) and ``changes``. Changes are shares (0.05: 5 % more), of accuracies
        differences.
    """
    newest = max(points, key=lambda point: point.started)
    return {
        "case_id": newest.case_id,
        "label": newest.label,
        "metric": metric,
        "unit": METRICS[metric].unit,
        "relative": METRICS[metric].relative,
        "series": [_series(trend) for trend in trends(points, metric, find) if _tells(trend)],
    }


def _tells(trend: Trend) -> bool:
    """Whether the figure was measured, or the case failed: not every case has an energy or an
    accuracy."""
    return bool(trend.points) or any(point.status != "ok" for point in trend.missing)


def _series(trend: Trend) -> dict[str, Any]:
    nights = zip(trend.points, trend.values, trend.levels, trend.smoothed, strict=True)
    return {
        "machine": trend.machine,
        "last": float(trend.values[-1]) if len(trend.values) else None,
        "recent": trend.recent(RECENT),
        "nights": [
            {
                **_run(point),
                "value": float(value),
                "level": float(level),
                "smoothed": bool(smoothed),
            }
            for point, value, level, smoothed in nights
        ],
        "missing": [{**_run(point), "status": point.status} for point in trend.missing],
        "changes": [_change(trend, change) for change in trend.changes],
    }


def _run(point: Point) -> dict[str, str]:
    return {"run_id": point.run_id, "started": point.started.isoformat(timespec="seconds")}


def _change(trend: Trend, change: Change) -> dict[str, Any]:
    size = difference(change.before, change.after, trend.metric)
    return {
        **_run(trend.points[change.at]),
        "index": change.at,
        "before": change.before,
        "after": change.after,
        "change": size,
        "word": _word(size, trend.metric.less_is_better),
        "facts": [asdict(fact) for fact in change.facts],
    }


def _word(size: float, less_is_better: bool | None) -> str:
    if less_is_better is None or size == 0:
        return "changed"
    return "better" if (size < 0) == less_is_better else "worse"


def change_text(change: float | None, relative: bool) -> str:
    """A change as text: ``+5.1 %``; of a share in points."""
    if change is None:
        return "–"
    return f"{100 * change:+.1f} {'%' if relative else 'points'}"


def fact_words(fact: dict[str, Any]) -> str:
    """Such as ``packages.onnxruntime 1.22.0 → 1.23.0 (a night before)``."""
    before, after = fact["before"] or "nothing known", fact["after"] or "nothing known"
    nights = fact["nights"]
    when = ""
    if nights:
        count = "a night" if abs(nights) == 1 else f"{abs(nights)} nights"
        when = f" ({count} {'before' if nights < 0 else 'after'})"
    return f"{fact['name']} {before} → {after}{when}"
