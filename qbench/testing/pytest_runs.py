"""Measuring and judging for the pytest plugin. The heavy imports are here, and not in the plugin,
which every pytest session loads.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

from pydantic import ValidationError

from qbench.analysis.gate.judge import Finding, GateResult
from qbench.analysis.table.table import case_rows
from qbench.bundle.bundle import Bundle
from qbench.errors import MachineryError, UserError, check_known, nearest
from qbench.run.artifacts import ArtifactStore
from qbench.run.gate import judge_bundle, measure_again
from qbench.run.planner import environments_of, expand, make_plan
from qbench.run.progress import Silent
from qbench.run.request import Request
from qbench.run.runner import run_suite
from qbench.run.sources import adhoc
from qbench.run.sources.catalog import Catalog, open_suite
from qbench.run.workers.registry import Registry
from qbench.spec.case import Case, Filters, Status
from qbench.spec.columns import CaseRow
from qbench.spec.gate import GateSettings
from qbench.spec.suite import Suite, suites_dir
from qbench.storage import digest_json
from qbench.text import figure, printable

FIGURES = {
    "latency_p50_ms": "p50 {} ms",
    "latency_p99_ms": "p99 {} ms",
    "speedup": "speed-up {}",
    "accuracy": "accuracy {}",
    "sqnr_db": "SQNR {} dB",
    "memory_peak_mb": "memory {} MB",
}
"""Columns of the case table for the line about a case, with their text."""


class Notes(Silent):
    """Progress that collects the notes and discards the rest."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


@dataclass(frozen=True)
class LoadedSuite:
    """A suite with its models and backends.

    Attributes:
        folder: base of its relative paths.
        notes: sentences for the user.
    """

    suite: Suite
    text: str
    catalog: Catalog
    registry: Registry
    folder: Path
    notes: Notes = field(default_factory=Notes)

    def cases(self) -> dict[str, Case]:
        """All cases of the suite, by the names of their tests: the label, with the id where two
        labels are equal."""
        cases = list(expand(self.suite, environments_of(self.suite, self.registry)))
        often = Counter(case.label for case in cases)
        return {
            case.label if often[case.label] == 1 else f"{case.label} {case.case_id}": case
            for case in cases
        }


def file_suite(path: Path) -> LoadedSuite:
    """Read a suite's file.

    Raises:
        UserError: it is wrong; with the line.
    """
    registry, notes = Registry(), Notes()
    suite, text, catalog, folder = open_suite(path, registry.names, notes.note)
    return LoadedSuite(suite, text, catalog, registry, folder, notes)


def model_suite(
    model: str | Path,
    *,
    folder: Path,
    test: str,
    backend: str,
    precision: str = "fp32",
    rounds: int | None = None,
    gate: Mapping[str, Any] | None = None,
) -> LoadedSuite:
    """A suite of one model on one backend at one precision.

    Args:
        model: file of a model or a card, relative to ``folder``; or the name of a card, shipped
            or in ``folder``.
        test: the test's name; runs of the same test are compared with each other.
        gate: settings as under ``gate:`` in a suite.

    Raises:
        UserError: a name or a file is wrong.
    """
    registry, notes = Registry(), Notes()
    if not isinstance(model, str | Path):
        raise UserError(f"a model must be a file or the name of a card, not {model!r}")
    if rounds is not None and (type(rounds) is not int or rounds < 1):
        raise UserError(f"rounds must be a whole number of at least 1, not {rounds!r}")
    adhoc.check_names([backend], [precision], registry)
    if adhoc.is_model_file(str(folder / model), registry):
        path = folder / model
        suite, text, catalog, _ = adhoc.suite_for_files(
            [path], [backend], [precision], rounds, registry, notes.note
        )
    else:
        catalog = Catalog([folder, suites_dir()], notes.note)
        check_known(
            model,
            catalog.names,
            f"there is no model '{model}': neither a file in {folder}/, nor a card",
        )
        suite, text = adhoc.suite_for_cards([str(model)], [backend], [precision], rounds)
    name = f"{re.sub(r'[^A-Za-z0-9]+', '-', test).strip('-')[-50:]}-{digest_json(test)[:8]}"
    changes = {"name": name.lstrip("-"), "gate": _gate_settings(gate or {})}
    return LoadedSuite(suite.model_copy(update=changes), text, catalog, registry, folder, notes)


def _gate_settings(gate: Mapping[str, Any]) -> GateSettings:
    try:
        return GateSettings.model_validate(gate)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, ("gate", *first["loc"])))
        known = nearest(str(first["loc"][-1]), GateSettings.model_fields) if first["loc"] else ""
        raise UserError(f"{where}: {first['msg']}", known) from None


class NotRun(NamedTuple):
    """A case of a plan without runnable cases."""

    status: Status
    reason: str


@dataclass(frozen=True)
class Measured:
    """A run and the gate's verdict.

    Attributes:
        bundle: None if no case could run.
        rows: rows of the case table, by case id; ``NotRun`` if there is no bundle.
        judged: None if the run was not judged.
        notes: sentences for the user.
    """

    bundle: Bundle | None
    rows: Mapping[str, CaseRow | NotRun]
    judged: GateResult | None
    notes: tuple[str, ...] = ()

    def failure(self, case_id: str) -> str | None:
        """Why the case fails, with its figures and the next steps; None if it passes."""
        row = self.rows[case_id]
        if self.judged is None or self.bundle is None:
            return None if row.status == "skipped" else why(row)
        found = [f for f in self.judged.of("regression") if f.case_id == case_id]
        if not found:
            return None
        return _text(found, [figures(row)] if measures(row) else [], self.bundle)

    def failure_of_all(self) -> str | None:
        """Why the whole run fails: it is invalid, or cases of the last run are missing; None if it
        passes."""
        if self.judged is None or self.bundle is None:
            return None
        gone = [f for f in self.judged.of("regression") if f.case_id not in self.rows]
        invalid = [f"the run is invalid: {self.judged.invalid}"] if self.judged.invalid else []
        return _text(gone, invalid, self.bundle) if gone or invalid else None


def measure(
    wanted: LoadedSuite,
    results: Path,
    command: str,
    rounds: int | None = None,
    chosen: Collection[str] | None = None,
    gated: bool = True,
) -> Measured:
    """Run a suite, or some of its cases, and judge it by its gate, with a confirming run.

    Args:
        command: the bundle's record of the command.
        rounds: None: the suite's.
        chosen: case ids; None: all.
        gated: whether to judge the run.

    Raises:
        UserError, MachineryError: as ``run_suite``, except if all chosen cases are skipped.
    """
    suite = wanted.suite if rounds is None else wanted.suite.model_copy(update={"rounds": rounds})
    filters = Filters() if chosen is None else Filters(cases=tuple(sorted(chosen)))
    request = Request(
        suite, wanted.text, results, filters, command=(command,), suite_folder=wanted.folder
    )

    def again(cases: Sequence[str]) -> Bundle:
        return measure_again(bundle, cases, suite.gate, request, *by)

    by = (wanted.catalog, wanted.registry, wanted.notes)
    try:
        bundle = run_suite(request, *by)
        judged = judge_bundle(bundle, suite.gate, results, again) if gated else None
    except OSError as error:
        raise MachineryError(
            f"cannot use {error.filename or 'a file'}: {error.strerror}",
            "Make room, or name another folder: --qbench-results for bundles, QBENCH_CACHE for the "
            "cache.",
        ) from None
    except UserError as error:
        rows = {} if isinstance(error, MachineryError) else _reasons(request, wanted)
        if not rows:
            raise
        return Measured(None, rows, None, tuple(map(printable, wanted.notes.texts)))
    rows = {row.case_id: row for row in case_rows(bundle, bundle.trials_frame())}
    notes = (*wanted.notes.texts, *(judged.notes if judged else ()))
    return Measured(bundle, rows, judged, tuple(map(printable, notes)))


def _reasons(request: Request, wanted: LoadedSuite) -> dict[str, NotRun]:
    """Why cases do not run, by case id, if no case can; else nothing."""
    probes = wanted.registry.probe(request.suite.backends)
    plan = make_plan(
        request.suite, wanted.catalog, wanted.registry, probes, ArtifactStore(), request.filters
    )
    if plan.runnable:
        return {}
    return {
        planned.case.case_id: NotRun(
            planned.refused or "skipped", planned.failure or planned.skip or ""
        )
        for planned in plan.cases
    }


def why(row: CaseRow | NotRun) -> str:
    """Why a case has no figures."""
    reason = row.reason or ""
    return printable(reason if row.status == "skipped" else f"{row.status}: {reason}")


def measures(row: CaseRow | NotRun) -> TypeGuard[CaseRow]:
    """Whether a row has figures."""
    return row.status == "ok"


def figures(row: CaseRow) -> str:
    """A case's figures in one line, latencies with their interval, if there is one."""
    parts = []
    for column, words in FIGURES.items():
        value = getattr(row, column)
        if value is None:
            continue
        stem = column.removesuffix("_ms")
        low, high = (getattr(row, f"{stem}_{end}_ms", None) for end in ("low", "high"))
        interval = "" if low is None or high is None else f" ({figure(low)} to {figure(high)})"
        parts.append(words.format(f"{figure(value)}{interval}"))
    parts.append("1 round" if row.rounds == 1 else f"{row.rounds} rounds")
    parts += ["noisy"] if row.noisy else []
    return ", ".join(parts)


def _text(found: list[Finding], lines: list[str], bundle: Bundle) -> str:
    """Findings, figures and the next steps."""
    lead = [f"{finding.kind.replace('_', ' ')}: {finding.says}" for finding in found]
    again = [f"  new trials: {f.again.value:+.1%}" for f in found if f.again and f.confirmed]
    path = bundle.path
    steps = [f"`qbench gate {path}` has all findings, `qbench show {path}` all figures"]
    meant = next((finding for finding in found if finding.figure), None)
    if meant is not None:
        steps.append(
            f"a change that is meant: `qbench accept {meant.case_id} --until DATE --reason ...`"
        )
    return printable("\n".join([*lead, *again, *lines, "next: " + "\n      ".join(steps)]))
