"""What the page's figures leave out, and what they hold although something speaks against it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ConfigDict

from qbench.bundle.bundle import Bundle
from qbench.errors import UserError
from qbench.present.words.run import Run
from qbench.spec.suite import Exclusion
from qbench.spec.yamlfile import Strict, parse

LOG_LINES = 20
MOST_NAMED = 12
"""Cases that a sentence names; of more, how many."""

Case = Mapping[str, Any]


def not_measured(run: Run, cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Cases without figures. Those with one reason are one entry: every case for every model."""
    logs = _logs(run)
    models: dict[tuple[str, ...], list[str]] = {}
    for case in cases:
        if case["run"] != run.letter or case["status"] == "ok":
            continue
        log = "" if case["status"] in ("skipped", "open") else logs.get(case["case_id"], "")
        key = (case["status"], case["reason"] or "", log, case["label"])
        models.setdefault(key, []).append(case["model"])
    labels: dict[tuple[Any, ...], list[str]] = {}
    for (*same, label), named in models.items():
        labels.setdefault((*same, tuple(named)), []).append(label)
    return [
        {"status": key[0], "reason": key[1], "log": key[2], "models": key[3], "cases": found}
        for key, found in labels.items()
    ]


def _logs(run: Run) -> dict[str, str]:
    """By case, the last lines that its failed worker printed."""
    prepared = run.bundle.prepared
    failed = {trial["case_id"]: trial for trial in run.journal if trial["status"] != "ok"}
    logs = {}
    for entry in run.bundle.plan["cases"]:
        records = (
            prepared.get(entry["artifact_key"], {}),
            run.evaluated.get(entry["evaluation_id"], {}),
            failed.get(entry["case_id"], {}),
        )
        text = next((str(r["log"]) for r in records if r.get("log")), "")
        logs[entry["case_id"]] = "\n".join(text.splitlines()[-LOG_LINES:])
    return logs


def exclusions(run: Run, cases: Sequence[Case]) -> list[str]:
    """In sentences, what the suite, its filters, an interruption or a failure left out, and what
    was kept although something speaks against it."""
    own = [case for case in cases if case["run"] == run.letter]
    return [
        *_never_planned(run.bundle),
        *_cut(run, own),
        *_failed_trials(run, own),
        *_kept(own),
    ]


class _Excluding(Strict):
    """Of a suite, what it leaves out."""

    model_config = ConfigDict(extra="ignore")

    exclude: list[Exclusion] = []


def _never_planned(bundle: Bundle) -> Iterator[str]:
    for name, values in (bundle.begin.get("filters") or {}).items():
        if values:
            yield f"Of the suite only these {name} were asked for: {', '.join(map(str, values))}."
    try:
        rules = parse(bundle.suite_text, bundle.path / "suite.yaml", _Excluding)[0].exclude
    except UserError:
        yield "The suite’s text cannot be read, so what it leaves out is not known."
        return
    if rules:
        told = "; ".join(
            ", ".join(
                f"{name.removesuffix('_size')} {value}"
                for name, value in rule.model_dump(exclude_none=True).items()
            )
            for rule in rules
        )
        yield f"The suite itself leaves out: {told}."


def _cut(run: Run, cases: Sequence[Case]) -> Iterator[str]:
    if not run.bundle.complete:
        yield "The run was interrupted: what it had not reached has fewer rounds, or none."
    rounds = run.bundle.begin["settings"]["rounds"]
    asked = rounds if isinstance(rounds, int) else rounds["least"]
    fewer = [
        case
        for case in cases
        if case["status"] == "ok"
        and case["rounds"] < min(asked, run.options[case["case_id"]]["rounds"] or asked)
    ]
    if fewer:
        yield (
            f"{_count(fewer, 'case has', 'cases have')} fewer rounds than the {asked} that the "
            f"suite asks for: {_named([(case, str(case['rounds'])) for case in fewer])}."
        )


def _failed_trials(run: Run, cases: Sequence[Case]) -> Iterator[str]:
    """Trials that went wrong are in no figure; those of one reason are told together."""
    named = {case["case_id"]: case for case in cases}
    counts: dict[tuple[str, str], Counter[str]] = {}
    for trial in run.journal:
        if trial["status"] != "ok" and trial["case_id"] in named:
            reasons = counts.setdefault((trial["status"], trial["reason"]), Counter())
            reasons[trial["case_id"]] += 1
    for (status, reason), by_case in counts.items():
        told = _named([(named[case_id], str(count)) for case_id, count in by_case.items()])
        trials = _count(list(by_case.elements()), "trial is", "trials are")
        yield f"{trials} in no figure ({status}: {reason or 'no reason told'}): {told}."


def _kept(cases: Sequence[Case]) -> Iterator[str]:
    good = [case for case in cases if case["status"] == "ok"]
    for word in ("noisy", "inconclusive"):
        marked = [case for case in good if case[word]]
        if marked:
            yield f"{_count(marked, 'case is', 'cases are')} {word}, but in every figure."
    doubtful = sum(case["doubtful_trials"] or 0 for case in good)
    if doubtful:
        trials = sum(case["rounds"] for case in good)
        yield (
            f"Something speaks against {doubtful} of {trials} good trials; none is left out for it."
        )


def _count(some: Sequence[Any], one: str, more: str) -> str:
    return f"{len(some):,} {one if len(some) == 1 else more}"


def _named(cases: Sequence[tuple[Case, str]]) -> str:
    told = [f"{case['model']} {case['label']} ({note})" for case, note in cases[:MOST_NAMED]]
    left = len(cases) - MOST_NAMED
    return ", ".join(told) + (f" and {left:,} more" if left > 0 else "")
