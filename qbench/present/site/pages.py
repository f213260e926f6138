"""What the site's own pages say: plain values made of the runs' summaries, for their templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qbench.analysis.compare.comparable import energy_groups
from qbench.analysis.history.point import METRICS, Point
from qbench.present.page.tables import MAIN, Shown, case_rows
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
from qbench.present.terminal import figure
from qbench.present.words.history import NO_VERDICT, RECENT, describe, fact_words, told

Row = Mapping[str, Any]
SUBJECTS = ("model", "backend")
"""What has a page of its own: the values of these columns."""
FIRST_RUN = "A"
"""What the page of a single run calls it, in the anchors of its cases."""
FACTS = 3
"""What changed beside a change point, told in the table of trends."""
_NOTE = "Each point is one run; hollow: taken for an outlier. The line is the median"
_CUT = " between change points, which are dotted. "
_NOT_CUT = ". Change points were not looked for: that takes the package ruptures. "


def run_page(run_id: str) -> str:
    return f"runs/{file_stem(run_id)}.html"


def data_file(run_id: str) -> str:
    return f"data/{file_stem(run_id)}.js"


def subject_page(subject: str, name: str) -> str:
    return f"{subject}s/{file_stem(name)}.html"


class Site:
    """All runs of the site, and what follows from them.

    Args:
        runs: one for each run id, in any order.
        problems: folders that were left out, and why.
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
        return sorted({str(series.newest[1][subject]) for series in self.series})

    # ------------------------------------------------------------------ the runs

    def index(self) -> dict[str, Any]:
        before = _before(self.runs)
        rows = [self._run(run, before.get(run.run_id)) for run in self.runs]
        names = {subject: self.names(subject) for subject in SUBJECTS}
        counts = [
            _count(len(self.runs), "run"),
            _count(len(self.machines), "machine"),
            *(_count(len(names[subject]), subject) for subject in SUBJECTS),
            _count(len({series.case_id for series in self.series}), "case"),
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
        """What can be found: its kind, what it is called, and where it is."""
        cases = {series.case_id: series for series in self.series}
        return [
            *(("run", f"{run.run_id} {run.suite}", run_page(run.run_id)) for run in self.runs),
            *((kind, name, subject_page(kind, name)) for kind in SUBJECTS for name in names[kind]),
            *(("case", series.label, _case_address(series)) for series in cases.values()),
        ]

    # ------------------------------------------------------------------ a model, a backend

    def subject(self, subject: str, name: str) -> dict[str, Any]:
        """The page of a model, or of a backend: its cases' newest figures, and their trends."""
        own = [series for series in self.series if series.newest[1][subject] == name]
        newest = [
            {
                **series.newest[1],
                "run": FIRST_RUN,
                "anchor": f"case-{FIRST_RUN}-{series.case_id}",
                "label": series.label,
            }
            for series in own
        ]
        table = case_rows(newest, _shown(newest, subject))
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
            "about": f"A {subject}: {_count(len({s.case_id for s in own}), 'case')} on "
            f"{_count(len({s.machine for s in own}), 'machine')}.",
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
        """The machine's, with the processor where that has changed."""
        chips = {run.chip for run, _ in series.rows}
        name = self.machines[series.machine]
        return name if len(chips) == 1 else f"{name}, {trend['machine']}"

    def _trend(self, series: Series, metric: str) -> dict[str, Any]:
        """As ``history.describe.describe``, of this machine alone; without ``series`` where the
        case was always skipped."""
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
            "model": row["model"],
            "backend": row["backend"],
            "machine": self._series_name(series, trend),
            "runs": len(trend["nights"]),
            "until": trend["nights"][-1]["started"][:16].replace("T", " "),
            "last": trend["last"],
            "last_text": figure(trend["last"]),
            "recent": trend["recent"],
            "recent_text": told(trend["recent"], relative=True),
            "changed": change["started"][:10] if change else "",
            "change": told(change["change"], relative=True) if change else "",
            "word": change["word"] if change else "",
            "facts": [fact_words(fact) for fact in change["facts"][:FACTS]] if change else [],
        }

    # ------------------------------------------------------------------ two runs

    def comparison(self) -> dict[str, Any]:
        """What the page that compares two runs has to know beforehand."""
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
    "suite": ("suite", "What was run.", False),
    "machine": ("machine", "The system's name, or the host's.", False),
    "state": ("state", "Whether the run came to its end, and was not found broken.", False),
    "cases": ("cases", "Cases that went well, of all.", True),
    "headline": ("fastest", "What the run's page says of it.", False),
    "compare": ("compare", "Two runs side by side.", False),
    "measured": ("measured", "The day of the newest run with it; it leads to that run.", False),
    "runs": ("runs", "Runs that have the case.", True),
    "case": ("case", "It leads to the model's page.", False),
    "until": ("last run", "When the last run with it began.", False),
    "last": ("last p50", "The median of a call in the last run.", True),
    "recent": (f"over {RECENT} runs", "How much the level has changed.", True),
    "changed": ("last change point", "The first day of a new level.", False),
    "facts": ("what changed then", "In machine and software, about that day.", False),
}


def _columns(*names: str) -> list[dict[str, Any]]:
    """Columns as ``tables.case_rows`` describes them."""
    units = {"last": "ms"}
    return [
        {"name": name, "title": title, "unit": units.get(name, ""), "doc": doc, "number": number}
        for name, (title, doc, number) in ((name, _TITLES[name]) for name in names)
    ]


def _shown(rows: Sequence[Row], subject: str) -> list[Shown]:
    """The columns of a table of newest figures; energy only if all of them may be compared."""
    other = [name for name in SUBJECTS if name != subject]
    told_of = [
        name
        for name in ("environment", "recipe", "device", "scenario", "scenario_options",
                     "batch_size", "threads", "streams")
        if len({row[name] for row in rows}) > 1
    ]  # fmt: skip
    words = [*other, "precision", *told_of, "status"]
    energies = len(energy_groups(_with_gross(rows))) == 1
    return [
        *(Shown(name, name.replace("_", " ").removesuffix(" size")) for name in words),
        *(shown for shown in MAIN if energies or not shown.name.startswith("energy")),
    ]


def _with_gross(rows: Sequence[Row]) -> list[Row]:
    """As ``energy_groups`` reads them; the energy with its idle share is not kept."""
    return [{**row, "energy_gross_mj_per_inference": None} for row in rows]


def _state(run: Summary) -> str:
    if not run.complete:
        return "incomplete"
    if not run.valid:
        return "broken as a whole"
    return "confirms another" if run.confirms else "complete"


def _before(runs: Sequence[Summary]) -> dict[str, str]:
    """By run, the last one before it of the same suite on the same machine.

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
    """By ``host_id``, the newest name; where two machines have one, with some of its digest.

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
    return f"{subject_page('model', str(series.newest[1]['model']))}#case-{series.case_id}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
