"""Trends as one self-contained HTML page, with the style and the escaping of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qbench.present.words.history import NO_VERDICT, RECENT, change_text, fact_words
from qbench.storage import write_file
from qbench.text import figure

CHART = ("table", "drawing", "trend")
"""Scripts that draw a trend; only helpers of the first are used."""
PARTS = (*CHART, "history")


def write_page(
    described: Sequence[Mapping[str, Any]],
    metric: str,
    unit: str,
    notes: Sequence[str],
    path: Path,
) -> None:
    """Write the page; it loads no further files.

    Args:
        described: cases as ``describe`` gives them, of one metric.
        notes: sentences on sources that were left out.

    Raises:
        OSError: ``path`` cannot be written.
    """
    from qbench.present.page.render import fill

    write_file(path, fill("page/history.html.j2", PARTS, _content(described, metric, unit, notes)))


def _content(
    described: Sequence[Mapping[str, Any]], metric: str, unit: str, notes: Sequence[str]
) -> dict[str, Any]:
    cases = [_case(case) for case in described]
    return {
        "title": f"qbench: history of {described[0]['label']}"
        if len(described) == 1
        else "qbench: history",
        "metric": metric,
        "unit": unit,
        "recent": RECENT,
        "no_verdict": NO_VERDICT,
        "notes": list(notes),
        "cases": cases,
        "any_change": any(series["changes"] for case in cases for series in case["series"]),
        "charts": {"metric": metric, "unit": unit, "cases": list(described)},
    }


def _case(case: Mapping[str, Any]) -> dict[str, Any]:
    """A case with its figures as text."""
    return {
        "case_id": case["case_id"],
        "label": case["label"],
        "series": [_series(series, case["relative"]) for series in case["series"]],
    }


def _series(series: Mapping[str, Any], relative: bool) -> dict[str, Any]:
    nights = [
        {
            **_run(night),
            "value": figure(night["value"]),
            "off": False,
            "remark": "taken for an outlier" if night["smoothed"] else "",
        }
        for night in series["nights"]
    ]
    missing = [
        {**_run(night), "value": "–", "off": True, "remark": night["status"]}
        for night in series["missing"]
    ]
    both = sorted([*nights, *missing], key=lambda night: night["started"])
    return {
        "machine": series["machine"],
        "count": len(nights),
        "until": both[-1]["started"],
        "last": "–" if series["last"] is None else figure(series["last"]),
        "recent": change_text(series["recent"], relative),
        "nights": both,
        "missing": missing,
        "changes": [
            {
                **_run(change),
                "before": figure(change["before"]),
                "after": figure(change["after"]),
                "told": change_text(change["change"], relative),
                "word": change["word"],
                "facts": [fact_words(fact) for fact in change["facts"]],
            }
            for change in series["changes"]
        ],
    }


def _run(night: Mapping[str, Any]) -> dict[str, str]:
    return {"run_id": night["run_id"], "started": night["started"][:16].replace("T", " ")}
