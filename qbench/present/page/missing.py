"""Cases and trials that the figures leave out, and doubtful ones that they include."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import ConfigDict

from qbench.bundle.bundle import Bundle
from qbench.errors import UserError
from qbench.present.words.named import PageCase
from qbench.present.words.run import Run
from qbench.spec.suite import Exclusion
from qbench.spec.yamlfile import Strict, parse
from qbench.text import count, names

LOG_LINES = 20
MOST_NAMED = 12
"""Maximum number of cases that a sentence names."""


def not_measured(run: Run, cases: Sequence[PageCase]) -> list[dict[str, Any]]:
    """Cases without figures, grouped by reason, models and cases."""
    logs = _logs(run)
    models: dict[tuple[str, ...], list[str]] = {}
    for case in cases:
        if case.run != run.letter or case.status == "ok":
            continue
        log = "" if case.status in ("skipped", "open") else logs.get(case.case_id, "")
        key = (str(case.status), case.reason or "", log, case.label)
        models.setdefault(key, []).append(case.model)
    labels: dict[tuple[Any, ...], list[str]] = {}
    for (*same, label), named in models.items():
        labels.setdefault((*same, tuple(named)), []).append(label)
    return [
        {"status": key[0], "reason": key[1], "log": key[2], "models": key[3], "cases": found}
        for key, found in labels.items()
    ]


def _logs(run: Run) -> dict[str, str]:
    """By case id, the last lines of the log of its failed worker."""
    prepared = run.bundle.prepared
    failed = {trial.case_id: trial for trial in run.journal if trial.status != "ok"}
    logs = {}
    for entry in run.bundle.plan.cases:
        records = (
            prepared.get(entry.artifact_key or ""),
            run.evaluated.get(entry.evaluation_id or ""),
            failed.get(entry.case_id),
        )
        text = entry.log or next((record.log for record in records if record and record.log), "")
        logs[entry.case_id] = "\n".join(text.splitlines()[-LOG_LINES:])
    return logs


def exclusions(run: Run, cases: Sequence[PageCase]) -> list[str]:
    """Sentences on the cases and trials that the suite, its filters, an interruption or a failure
    left out, and on doubtful ones that were kept."""
    own = [case for case in cases if case.run == run.letter]
    return [
        *_never_planned(run.bundle),
        *_cut(run, own),
        *_failed_trials(run, own),
        *_kept(own),
    ]


class _Excluding(Strict):
    """The exclusions of a suite."""

    model_config = ConfigDict(extra="ignore")

    exclude: list[Exclusion] = []


def _never_planned(bundle: Bundle) -> Iterator[str]:
    for name, values in bundle.begin.filters.items():
        if values:
            yield f"Only these {name} of the suite were selected: {', '.join(values)}."
    try:
        rules = parse(bundle.suite_text, bundle.path / "suite.yaml", _Excluding)[0].exclude
    except UserError:
        yield "The suite’s text cannot be read, so its exclusions are not known."
        return
    if rules:
        listed = "; ".join(
            ", ".join(
                f"{name.removesuffix('_size')} {value}"
                for name, value in rule.model_dump(exclude_none=True).items()
            )
            for rule in rules
        )
        yield f"The suite excludes: {listed}."


def _cut(run: Run, cases: Sequence[PageCase]) -> Iterator[str]:
    if not run.bundle.complete:
        yield "The run was interrupted: cases that it had not reached have fewer rounds, or none."
    rounds = run.bundle.begin.settings.rounds
    asked = rounds if isinstance(rounds, int) else rounds.least
    fewer = [
        case
        for case in cases
        if case.status == "ok"
        and case.rounds < min(asked, run.requests[case.case_id].scenario_options["rounds"] or asked)
    ]
    if fewer:
        yield (
            f"{count(len(fewer), 'case has', 'cases have')} fewer rounds than the {asked} of the "
            f"suite: {_named([(case, str(case.rounds)) for case in fewer])}."
        )


def _failed_trials(run: Run, cases: Sequence[PageCase]) -> Iterator[str]:
    """Failed trials, which are in no figure, by reason."""
    named = {case.case_id: case for case in cases}
    counts: dict[tuple[str, str], Counter[str]] = {}
    for trial in run.journal:
        if trial.status != "ok" and trial.case_id in named:
            reasons = counts.setdefault((trial.status, trial.reason), Counter())
            reasons[trial.case_id] += 1
    for (status, reason), by_case in counts.items():
        listed = _named([(named[case_id], str(number)) for case_id, number in by_case.items()])
        trials = count(by_case.total(), "trial is", "trials are")
        yield f"{trials} in no figure ({status}: {reason or 'reason unknown'}): {listed}."


def _kept(cases: Sequence[PageCase]) -> Iterator[str]:
    good = [case for case in cases if case.status == "ok"]
    for word in ("noisy", "inconclusive"):
        marked = [case for case in good if getattr(case, word)]
        if marked:
            yield f"{count(len(marked), 'case is', 'cases are')} {word}, but in every figure."
    doubtful = sum(case.doubtful_trials or 0 for case in good)
    if doubtful:
        trials = sum(case.rounds for case in good)
        yield f"{doubtful} of {trials} successful trials are doubtful; none is left out for it."


def _named(cases: Sequence[tuple[PageCase, str]]) -> str:
    return names([f"{case.model} {case.label} ({note})" for case, note in cases], MOST_NAMED)
