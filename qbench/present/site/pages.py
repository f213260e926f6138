"""The content of the site's own pages: plain values for their templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qbench.analysis.compare.comparable import energy_groups
from qbench.analysis.history.point import METRICS, Point
from qbench.present.page.tables import MAIN, table_of
from qbench.present.site.names import file_stem
from qbench.present.site.rules import comparison_rules
from qbench.present.site.summary import Summary
from qbench.present.site.trends import (
    SHOWN_METRICS,
    Series,
    all_series,
    compact,
    finder,
    points,
    when,
)
from qbench.present.words.cells import ColumnSpec, specs
from qbench.present.words.history import NO_VERDICT, RECENT, change_text, describe, fact_words
from qbench.present.words.named import CONDITIONS, PageCase
from qbench.text import count, figure

SUBJECTS = ("model", "backend")
"""Columns whose values have pages of their own."""
FACTS = 3
"""Maximum number of changes that the table of trends lists for a change point."""
_NOTE = "Each point is one run; hollow: taken for an outlier. The line is the median"
_CUT = " between change points, which are dotted. "
_NOT_CUT = ". Change points were not computed: that requires the package ruptures. "


def run_page(run_id: str) -> str:
    return f"runs/{file_stem(run_id)}.html"


def data_file(run_id: str) -> str:
    return f"data/{file_stem(run_id)}.js"


def subject_page(subject: str, name: str) -> str:
    return f"{subject}s/{file_stem(name)}.html"


class Site:
    """All runs of the site, and the content of its pages.

    Args:
        runs: one for each run id, in any order.
        problems: folders that were left out, with the reasons.
    """

    def __init__(self, runs: Sequence[Summary], problems: Sequence[tuple[str, str]]) -> None:
        self.runs = sorted(runs, key=when, reverse=True)
        self.problems = problems
        self.series = all_series(runs)
        self.machines = _machine_names(self.runs)
        self._find, self._cut = finder()
        self._points: dict[tuple[str, str], list[Point]] = {}
        self._trends: dict[tuple[str, str, str], Any] = {}

    def names(self, subject: str) -> list[str]:
        """The models, or the backends, of all series."""
        return sorted({getattr(series.newest[1], subject) for series in self.series})

    # ------------------------------------------------------------------ the runs

    def index(self) -> dict[str, Any]:
        before = _before(self.runs)
        rows = [self._run(run, before.get(run.run_id)) for run in self.runs]
        names = {subject: self.names(subject) for subject in SUBJECTS}
        counts = [
            count(len(self.runs), "run"),
            count(len(self.machines), "machine"),
            *(count(len(names[subject]), subject) for subject in SUBJECTS),
            count(len({series.case_id for series in self.series}), "case"),
        ]
        newest = f"; the newest is of {rows[0]['started']}" if rows else ""
        return {
            "title": "qbench: runs",
            "counted": f"{', '.join(counts)}{newest}.",
            "subjects": [
                (
                    f"{subject.capitalize()}s",
                    [(n, subject_page(subject, n)) for n in names[subject]],
                )
                for subject in SUBJECTS
                if names[subject]
            ],
            "runs": rows,
            "columns": _columns(
                "started", "run", "suite", "machine", "state", "cases", "headline", "compare"
            ),
            "choices": {
                name: list(dict.fromkeys(row[name] for row in rows))
                for name in ("suite", "machine", "day", "state")
            },
            "problems": self.problems,
            "charts": {"search": self._search(names)},
        }

    def _run(self, run: Summary, before: str | None) -> dict[str, Any]:
        counts = dict(run.counts)
        return {
            "run_id": run.run_id,
            "address": run_page(run.run_id),
            "suite": run.suite,
            "started": run.started[:16].replace("T", " "),
            "day": run.started[:10],
            "machine": self.machines[run.machine],
            "chip": run.chip,
            "state": _state(run),
            "ok": counts.get("ok", 0),
            "cases": len(run.cases),
            "headline": run.headline,
            "before": before,
        }

    def _search(self, names: Mapping[str, Sequence[str]]) -> list[tuple[str, str, str]]:
        """Search entries: kind, name and address."""
        cases = {series.case_id: series for series in self.series}
        return [
            *(("run", f"{run.run_id} {run.suite}", run_page(run.run_id)) for run in self.runs),
            *((kind, name, subject_page(kind, name)) for kind in SUBJECTS for name in names[kind]),
            *(("case", series.label, _case_address(series)) for series in cases.values()),
        ]

    # ------------------------------------------------------------------ a model, a backend

    def subject(self, subject: str, name: str) -> dict[str, Any]:
        """The page of a model, or of a backend: its cases' newest figures, and their trends."""
        own = [series for series in self.series if getattr(series.newest[1], subject) == name]
        newest = [series.newest[1] for series in own]
        table = table_of(newest, _columns_of_cases(newest, subject))
        first: set[str] = set()
        rows = []
        for series, row in zip(own, table["rows"], strict=True):
            run, _ = series.newest
            rows.append(
                {
                    **row,
                    "id": None if series.case_id in first else f"case-{series.case_id}",
                    "machine": self.machines[series.machine],
                    "started": run.started,
                    "day": run.started[:10],
                    "address": f"../{run_page(run.run_id)}#{row['anchor']}",
                    "runs": len(series.rows),
                }
            )
            first.add(series.case_id)
        own_columns = _columns("machine", "measured", "runs")
        filters = ("machine", "model", "backend", "precision", "status")
        return {
            "title": name,
            "about": f"A {subject}: {count(len({s.case_id for s in own}), 'case')} on "
            f"{count(len({s.machine for s in own}), 'machine')}.",
            "columns": [*own_columns, *table["columns"]],
            "rows": rows,
            "choices": {
                column: list(dict.fromkeys(row[column] for row in rows)) for column in filters
            },
            "note": _NOTE + (_CUT if self._cut else _NOT_CUT) + NO_VERDICT,
            "charts": self._charts(own),
        }

    def _charts(self, own: Sequence[Series]) -> dict[str, Any]:
        runs = {run.run_id: run for series in own for run, _ in series.rows}
        places = {run_id: place for place, run_id in enumerate(runs)}
        cases: dict[str, dict[str, Any]] = {}
        for series in own:
            case = cases.setdefault(series.case_id, {"label": series.label, "metrics": {}})
            for metric in SHOWN_METRICS:
                for trend in self._trend(series, metric)["series"]:
                    if trend["nights"]:
                        shown = {"machine": self._series_name(series, trend)}
                        case["metrics"].setdefault(metric, []).append(
                            shown | compact(trend, places)
                        )
        return {
            "runs": [(run.run_id, run.started) for run in runs.values()],
            "metrics": [(name, METRICS[name].unit) for name in SHOWN_METRICS],
            "cases": [
                {"label": case["label"], "metrics": list(case["metrics"].items())}
                for case in cases.values()
                if case["metrics"]
            ],
        }

    def _series_name(self, series: Series, trend: Mapping[str, Any]) -> str:
        """The machine's name, with the processor if that has changed."""
        chips = {run.chip for run, _ in series.rows}
        name = self.machines[series.machine]
        return name if len(chips) == 1 else f"{name}, {trend['machine']}"

    def _trend(self, series: Series, metric: str) -> dict[str, Any]:
        """``history.describe.describe`` for this machine alone; without ``series`` if the case was
        always skipped."""
        own = series.case_id, series.machine
        key = *own, metric
        if own not in self._points:
            self._points[own] = points(series)
        if key not in self._trends:
            nights = self._points[own]
            self._trends[key] = describe(nights, metric, self._find) if nights else {"series": []}
        return self._trends[key]

    # ------------------------------------------------------------------ trends

    def trends(self) -> dict[str, Any]:
        rows = [
            self._trend_row(series, trend)
            for series in self.series
            for trend in self._trend(series, SHOWN_METRICS[0])["series"]
            if trend["nights"]
        ]
        return {
            "title": "qbench: trends",
            "no_verdict": NO_VERDICT,
            "cut": self._cut,
            "columns": _columns(
                "case", "machine", "runs", "until", "last", "recent", "changed", "facts"
            ),
            "rows": rows,
            "choices": {
                name: list(dict.fromkeys(row[name] for row in rows))
                for name in ("machine", "model", "backend")
            },
            "charts": {},
        }

    def _trend_row(self, series: Series, trend: Mapping[str, Any]) -> dict[str, Any]:
        row = series.newest[1]
        change = trend["changes"][-1] if trend["changes"] else None
        return {
            "label": series.label,
            "address": _case_address(series),
            "model": row.model,
            "backend": row.backend,
            "machine": self._series_name(series, trend),
            "runs": len(trend["nights"]),
            "until": trend["nights"][-1]["started"][:16].replace("T", " "),
            "last": trend["last"],
            "last_text": figure(trend["last"]),
            "recent": trend["recent"],
            "recent_text": change_text(trend["recent"], relative=True),
            "changed": change["started"][:10] if change else "",
            "change": change_text(change["change"], relative=True) if change else "",
            "word": change["word"] if change else "",
            "facts": [fact_words(fact) for fact in change["facts"][:FACTS]] if change else [],
        }

    # ------------------------------------------------------------------ two runs

    def comparison(self) -> dict[str, Any]:
        """The runs and the rules for the page that compares two runs."""
        return {
            "title": "qbench: two runs compared",
            "charts": {
                "runs": [
                    {
                        "run_id": run.run_id,
                        "file": data_file(run.run_id),
                        "page": run_page(run.run_id),
                        "label": f"{run.run_id} on {self.machines[run.machine]}"
                        + ("" if run.complete else " (incomplete)"),
                    }
                    for run in self.runs
                ],
                "rules": comparison_rules(),
            },
        }


# --------------------------------------------------------------------------- parts


_TITLES = {
    "started": ("started", "When the run began.", False),
    "run": ("run", "The bundle's id; it leads to the run's page.", False),
    "suite": ("suite", "The suite that was run.", False),
    "machine": ("machine", "The system's name, or the host's.", False),
    "state": ("state", "Whether the run is complete and valid.", False),
    "cases": ("cases", "Successful cases, of all.", True),
    "headline": ("fastest", "The answer on the run's page.", False),
    "compare": ("compare", "Two runs side by side.", False),
    "measured": ("measured", "The day of the newest run with it; it leads to that run.", False),
    "runs": ("runs", "Runs that have the case.", True),
    "case": ("case", "It leads to the model's page.", False),
    "until": ("last run", "When the last run with it began.", False),
    "last": ("last p50", "The median of a call in the last run.", True),
    "recent": (f"over {RECENT} runs", "Change of the level.", True),
    "changed": ("last change point", "The first day of a new level.", False),
    "facts": ("what changed then", "Changes of machine and software around that day.", False),
}


def _columns(*names: str) -> list[dict[str, Any]]:
    """Columns in the form of ``tables.table_of``."""
    units = {"last": "ms"}
    return [
        {"name": name, "title": title, "unit": units.get(name, ""), "doc": doc, "number": number}
        for name, (title, doc, number) in ((name, _TITLES[name]) for name in names)
    ]


def _columns_of_cases(rows: Sequence[PageCase], subject: str) -> list[ColumnSpec]:
    """The columns of a table of newest figures; energy only if all energies are comparable."""
    other = [name for name in SUBJECTS if name != subject]
    conditions = [name for name in CONDITIONS if len({getattr(row, name) for row in rows}) > 1]
    energies = len(energy_groups(rows)) == 1
    return [
        *specs(*other, "precision", *conditions, "status"),
        *(shown for shown in MAIN if energies or not shown.name.startswith("energy")),
    ]


def _state(run: Summary) -> str:
    if not run.complete:
        return "incomplete"
    if not run.valid:
        return "broken as a whole"
    return "confirms another" if run.confirms else "complete"


def _before(runs: Sequence[Summary]) -> dict[str, str]:
    """By run id, the previous run of the same suite on the same machine.

    Args:
        runs: the newest first.
    """
    found: dict[str, str] = {}
    last: dict[tuple[str, str], str] = {}
    for run in reversed(runs):
        key = run.suite, run.machine
        if key in last:
            found[run.run_id] = last[key]
        last[key] = run.run_id
    return found


def _machine_names(runs: Sequence[Summary]) -> dict[str, str]:
    """By ``host_id``, the newest name, with part of the digest if two machines share it.

    Args:
        runs: the newest first.
    """
    names: dict[str, str] = {}
    for run in runs:
        names.setdefault(run.machine, run.name)
    taken = list(names.values())
    return {
        key: name if taken.count(name) == 1 else f"{name} ({key[:6]})"
        for key, name in names.items()
    }


def _case_address(series: Series) -> str:
    return f"{subject_page('model', series.newest[1].model)}#case-{series.case_id}"
