"""Publishing checks: gaps that make a report less credible to others, each with its remedy.

The checks do not judge whether a result is good. A finding is resolved by measuring, or by filling
in facts that only a person knows; or it is waived with a reason, which the page prints. Until then
the page is a draft.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from packaging.version import InvalidVersion, Version

from qbench.analysis.recompute import not_recomputed
from qbench.analysis.systems import MAY_BE_EMPTY, described
from qbench.analysis.table.table import case_rows
from qbench.bundle.bundle import Bundle
from qbench.bundle.check import find_problems
from qbench.spec.columns import CaseRow
from qbench.spec.suite import MIN_ROUNDS
from qbench.spec.system import missing


@dataclass(frozen=True)
class Finding:
    """A gap in a report.

    Attributes:
        id: of the check that found it, a key of ``CHECKS``.
        missing: the gap, in a sentence.
        run: id of the run, or of several, separated by commas.
        cases: the cases it concerns; empty: the whole run.
        fix: the remedy.
        waived: reason why it is waived; None: it is not, and the page is a draft.
    """

    id: str
    missing: str
    run: str
    cases: tuple[str, ...]
    fix: str
    waived: str | None = None


@dataclass(frozen=True)
class Publishing:
    """Findings and waivers of a page for publication.

    Attributes:
        findings: including waived ones.
        unused: waivers without a finding.
    """

    findings: tuple[Finding, ...]
    unused: tuple[str, ...] = ()

    @classmethod
    def of(cls, findings: Iterable[Finding], waivers: Iterable[str]) -> Publishing:
        """
        Args:
            waivers: ids of all given waivers.
        """
        every = tuple(findings)
        return cls(every, tuple(sorted(set(waivers) - {finding.id for finding in every})))

    @property
    def open(self) -> list[Finding]:
        """Findings that make the page a draft."""
        return [finding for finding in self.findings if finding.waived is None]

    @property
    def waived(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.waived is not None]


def check(bundles: Sequence[Bundle], waivers: Mapping[str, str]) -> list[Finding]:
    """Check bundles that are published together.

    Args:
        waivers: reasons by id of the check.

    Raises:
        UserError: a bundle cannot be read at all.
    """
    runs = [_Run(bundle) for bundle in bundles]
    found = [finding for find in CHECKS.values() for run in runs for finding in find(run)]
    found += _unequal(runs)
    return [replace(finding, waived=waivers.get(finding.id)) for finding in found]


# --------------------------------------------------------------------------- one run


class _Run:
    """A bundle, with its case table read once."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.name = bundle.run_id

    @cached_property
    def cases(self) -> list[CaseRow]:
        return case_rows(self.bundle, self.bundle.trials_frame())

    @property
    def measured(self) -> list[CaseRow]:
        return [case for case in self.cases if case.status == "ok"]

    @cached_property
    def made_up(self) -> set[str]:
        """The models whose evaluation items are random."""
        random = {key for key, record in self.bundle.evaluated.items() if record.data_is_random}
        return {e.case.model for e in self.bundle.plan.cases if e.evaluation_id in random}

    def of(self, id: str, what: str, fix: str, cases: Iterable[CaseRow]) -> list[Finding]:
        """Return a finding about some cases; none if there are no cases."""
        names = tuple(dict.fromkeys(_name(case) for case in cases))
        return [Finding(id, what, self.name, names, fix)] if names else []

    def whole(self, id: str, what: str, fix: str) -> Finding:
        """Return a finding about the whole run."""
        return Finding(id, what, self.name, (), fix)


def _name(case: CaseRow) -> str:
    """Return the name of a case, without default conditions."""
    words = [case.model, case.backend, case.precision, case.variant]
    words += [case.scenario if case.scenario != "single-stream" else None]
    words += [case.scenario_options]
    words += [
        f"{name} {number}"
        for name, number in (("batch", case.batch_size), ("threads", case.threads))
        if number != 1
    ]
    words += [case.environment if case.environment != "default" else None]
    words += [case.recipe if case.recipe != "best" else None]
    return " ".join(str(word) for word in words if word)


def _incomplete(run: _Run) -> Iterator[Finding]:
    """The run is complete."""
    if not run.bundle.complete:
        yield run.whole(
            "incomplete",
            "the run was interrupted: cases or rounds are missing",
            "Give the command of the run again: it goes on where it was.",
        )


def _modified(run: _Run) -> Iterator[Finding]:
    """The bundle's files are unchanged since the run."""
    problems = find_problems(run.bundle) if run.bundle.complete else []
    if problems:
        more = f" (1 of {len(problems)} problems)" if len(problems) > 1 else ""
        yield run.whole(
            "modified",
            f"the bundle is not as it was left: {problems[0]}{more}",
            "`qbench verify` lists all problems; get a sound copy, or run the suite again.",
        )


def _recomputable(run: _Run) -> Iterator[Finding]:
    """Every figure can be recomputed from the bundle."""
    reason = not_recomputed(run.bundle)
    if reason:
        yield run.whole("recomputable", reason, "Pack the bundle with its predictions.")


def _version(run: _Run) -> Iterator[Finding]:
    """The run was measured with a released version of qbench."""
    version = run.bundle.begin.software.get("qbench")
    try:
        parsed = Version(str(version))
        released = not (parsed.is_prerelease or parsed.local)  # a local part: uncommitted changes
    except InvalidVersion:
        released = False
    if not released:
        yield run.whole(
            "development-version",
            f"qbench {version or 'of unknown version'} measured it, which others cannot install",
            "Run the suite with a released version.",
        )


def _system(run: _Run) -> Iterator[Finding]:
    """The system is described as MLPerf requires."""
    empty = [name for name in missing(described(run.bundle)) if name not in MAY_BE_EMPTY]
    if empty:
        count = f"{len(empty)} fields of the system are" if len(empty) > 1 else "a field is"
        yield run.whole(
            "system-fields",
            f"{count} not filled in, which only a person knows: {', '.join(empty)}",
            'Start from suites/templates/system.yaml, and run with --system FILE ("N/A" where '
            "there is none).",
        )


def _rounds(run: _Run) -> Iterator[Finding]:
    """Every case has enough rounds for an interval."""
    few = [case for case in run.measured if case.rounds < MIN_ROUNDS]
    yield from run.of(
        "rounds",
        f"fewer than {MIN_ROUNDS} rounds, so there is no interval",
        f"Run with --rounds {MIN_ROUNDS} or more; 10 is usual.",
        few,
    )


def _noisy(run: _Run) -> Iterator[Finding]:
    """No case was disturbed while it was measured."""
    yield from run.of(
        "noisy",
        "something else was at work while they were measured, in a quarter of the trials or more",
        "Quiet the machine (`qbench doctor` says how), and run again.",
        [case for case in run.measured if case.noisy],
    )


def _inconclusive(run: _Run) -> Iterator[Finding]:
    """Every case reached the precision that the suite asks for."""
    yield from run.of(
        "inconclusive",
        "their interval is wider than the suite's target",
        "Allow more rounds (rounds: {most: ...}, budget), or quiet the machine.",
        [case for case in run.measured if case.inconclusive],
    )


def _reasons(run: _Run) -> Iterator[Finding]:
    """Every case without figures has a reason."""
    silent = [case for case in run.cases if case.status not in ("ok", None) and not case.reason]
    yield from run.of(
        "reasons",
        "they have no figures, and no reason is recorded",
        "Look at the worker's log (`qbench show`), and run them again.",
        silent,
    )


def _energy(run: _Run) -> Iterator[Finding]:
    """Reported energy was measured."""
    reported = [case for case in run.measured if case.energy_is_measured is not None]
    if not any(case.energy_is_measured for case in reported):
        yield from run.of(
            "energy-proxy",
            "their energy is estimated by proxies only",
            "Measure it (docs/energy.md): this machine's sensors, or a wall meter.",
            reported,
        )


def _made_up(run: _Run) -> Iterator[Finding]:
    """Models ran on real data."""
    yield from run.of(
        "made-up-data",
        "their inputs are made up: nothing is known of accuracy, and speed may depend on data",
        "Give the model's card a data set (docs/data-sets.md).",
        [case for case in run.measured if case.model in run.made_up],
    )


def _unlabelled(run: _Run) -> Iterator[Finding]:
    """Accuracy is known."""
    silent = [
        case for case in run.measured if case.accuracy is None and case.model not in run.made_up
    ]
    yield from run.of(
        "unlabelled",
        "no accuracy is known: their items have no labels",
        "Give the data set's card its labels; fidelity to float32 alone is no accuracy.",
        silent,
    )


def _official(run: _Run) -> Iterator[Finding]:
    """The share of the official data set is known."""
    silent = {model for model, data in run.bundle.plan.data.items() if data and not data.part_of}
    yield from run.of(
        "official-set",
        "nothing says whether their items are the whole of an official data set, or a part",
        "Say it in the data set's card (part_of: {name: ..., items: ...}), or waive it for data of "
        "your own.",
        [c for c in run.measured if c.model in silent and c.accuracy is not None],
    )


def _licences(run: _Run) -> Iterator[Finding]:
    """Models and data sets have a licence and a source."""
    origins = run.bundle.plan.origins
    lacking: dict[str, list[str]] = defaultdict(list)
    for model in dict.fromkeys(case.model for case in run.measured):
        told = origins.get(model)
        if told is None:
            lacking["the bundle is an older one, without licences and sources"].append(model)
            continue
        for what, card in (("model", told.model), ("data set", told.data)):
            gaps = [key for key in ("licence", "source") if card and not getattr(card, key)]
            if gaps:
                lacking[f"the {what}'s card has no {' and no '.join(gaps)}"].append(model)
    for reason, models in lacking.items():
        yield Finding(
            "licences",
            reason,
            run.name,
            tuple(models),
            "Fill in licence and homepage in the card, and run again; or waive it, and state both.",
        )


CHECKS: Mapping[str, Callable[[_Run], Iterator[Finding]]] = {
    "incomplete": _incomplete,
    "modified": _modified,
    "recomputable": _recomputable,
    "development-version": _version,
    "system-fields": _system,
    "rounds": _rounds,
    "noisy": _noisy,
    "inconclusive": _inconclusive,
    "reasons": _reasons,
    "energy-proxy": _energy,
    "made-up-data": _made_up,
    "unlabelled": _unlabelled,
    "official-set": _official,
    "licences": _licences,
}
"""The checks of one run by id; each docstring states the condition that the check verifies."""


# --------------------------------------------------------------------------- all runs


UNEQUAL = "unequal-artifacts"
IDS = (*CHECKS, UNEQUAL)
"""Ids of all checks, including those over all runs."""
_DIGESTS = {
    "model_digest": "the model's file",
    "dataset_digest": "the data",
    "artifact_digest": "the artifact",
}


def _unequal(runs: Sequence[_Run]) -> Iterator[Finding]:
    """Cases with the same name, of several runs or of several environments, ran the same artifact
    on the same data."""
    groups: dict[tuple[tuple[str, str], ...], list[tuple[_Run, CaseRow]]] = defaultdict(list)
    for run in runs:
        cases = {entry.case_id: entry.case for entry in run.bundle.plan.cases}
        for case in run.measured:
            fields = sorted(vars(cases[case.case_id]).items())
            key = tuple((name, repr(value)) for name, value in fields if name != "environment")
            groups[key].append((run, case))
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for group in groups.values():
        differing = [
            words
            for name, words in _DIGESTS.items()
            if len({getattr(c, name) for _, c in group}) > 1
        ]
        if differing:
            names = dict.fromkeys(run.name for run, _ in group)
            found[", ".join(names), " and ".join(differing)].append(_name(group[0][1]))
    for (named, what), cases in found.items():
        yield Finding(
            UNEQUAL,
            f"these cases are called the same, but {what} differ",
            named,
            tuple(cases),
            "Prepare them with the same versions, or say in a waiver why they may be compared.",
        )
