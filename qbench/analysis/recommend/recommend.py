"""Which configuration to take: those that surely keep every limit, those that might, and why the
others don't.

A limit is surely kept if the whole 95 % interval of a figure keeps it. Of what is to be least, only
configurations are told apart whose intervals do not overlap. Configurations are ranked within one
work: a model, issued in one way, on the same data, measured alike; energies only where
``qbench.analysis.compare.comparable`` lets them be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from qbench.analysis.compare.comparable import same_work
from qbench.analysis.compare.machines import machines_of
from qbench.analysis.recommend.candidates import (
    SHORT,
    SUSTAINED,
    Candidate,
    Measured,
    candidates,
    read,
)
from qbench.analysis.recommend.ranking import (
    Choice,
    asked_of,
    choices_of,
    closest,
    ranked,
    shortfall,
)
from qbench.analysis.recommend.sensitivity import Change, changes_of
from qbench.bundle.bundle import Bundle
from qbench.errors import UserError, check_known
from qbench.spec.costs import CostSheet
from qbench.spec.question import Question

_WORK = attrgetter("model", "scenario", "scenario_options", "batch_size")


@dataclass(frozen=True)
class Answer:
    """What is to be said of one work. Every configuration is in one of the three lists.

    Attributes:
        model, scenario, scenario_options, batch_size: the work.
        runs: ids of the runs it was done in.
        sure: keep every limit, the best first; those of one pool together.
        maybe: might; the best first.
        fails: don't, or were not measured; the nearest first.
        changes: what would change the answer.
        nearest: if none is sure, the one that comes nearest; None if nothing was measured.
        notes: what has to be known of all of them.
    """

    model: str
    scenario: str
    scenario_options: str | None
    batch_size: int
    runs: tuple[str, ...]
    sure: tuple[Choice, ...]
    maybe: tuple[Choice, ...]
    fails: tuple[Choice, ...]
    changes: tuple[Change, ...]
    nearest: Choice | None
    notes: tuple[str, ...]

    @property
    def best(self) -> tuple[Choice, ...]:
        """The first of the first pool, and what cannot be told from it."""
        return tuple(c for c in self.sure if c.first and c.pool == self.sure[0].pool)


@dataclass(frozen=True)
class Recommendation:
    """The answers, a model's together."""

    question: Question
    currency: str | None
    answers: tuple[Answer, ...]

    @property
    def is_sure(self) -> bool:
        """Whether for every model there is a configuration that surely keeps the limits."""
        models = {answer.model for answer in self.answers}
        return models == {answer.model for answer in self.answers if answer.sure}


def recommend(
    bundles: Sequence[Bundle], question: Question, costs: CostSheet | None = None
) -> Recommendation:
    """
    Raises:
        UserError: a bundle is damaged, the question names what no bundle has, or asks for costs
            that are not given.
    """
    once = {bundle.run_id: bundle for bundle in bundles}.values()
    machines = {machine.key: machine for machine in machines_of(once)}
    if costs is not None:
        costs.check(list(machines.values()))
    runs = [read(bundle, machines[bundle.begin.host.host_id]) for bundle in once]
    return choose(runs, question, costs)


def choose(
    runs: Sequence[Measured], question: Question, costs: CostSheet | None = None
) -> Recommendation:
    """``recommend`` of runs that have been read.

    Raises:
        UserError: as there.
    """
    if question.minimize == "cost" and costs is None:
        raise UserError("no costs are given", "Give a file: --costs costs.yaml.")
    _check(runs, question)
    found = candidates(runs, question, costs)
    works = _works(found)
    answers = [_answer(work, question, _apart(work, works)) for work in works]
    models = list(dict.fromkeys(answer.model for answer in answers))
    answers.sort(key=lambda answer: models.index(answer.model))
    currency = None if costs is None else costs.currency
    return Recommendation(question, currency, tuple(answers))


def _check(runs: Sequence[Measured], question: Question) -> None:
    """
    Raises:
        UserError: the question names what no run has.
    """
    asked: list[tuple[str, str, Sequence[Any]]] = [
        ("model", "model", question.models),
        ("scenario", "scenario", [question.scenario] if question.scenario else []),
        ("batch_size", "batch", [question.batch_size] if question.batch_size else []),
    ]
    for column, word, names in asked:
        known = {getattr(row, column) for run in runs for row in run.rows}
        for name in names:
            check_known(name, known, f"there is no case of {word} '{name}'")


# --------------------------------------------------------------------------- one work


def _works(found: Sequence[Candidate]) -> list[list[Candidate]]:
    """The candidates of each work. Those of another run join if they did the same work, measured in
    the same way."""
    works: list[list[Candidate]] = []
    places: dict[tuple[Any, ...], list[Candidate]] = {}
    for candidate in found:
        key = _WORK(candidate.row)
        places.setdefault((*key, candidate.measured.run_id), []).append(candidate)
    for own in places.values():
        for work in works:
            if _differ(own, work) == []:
                work += own
                break
        else:
            works.append(list(own))
    return works


def _differ(own: Sequence[Candidate], work: Sequence[Candidate]) -> list[str] | None:
    """On which fields two runs' candidates did other work; None if they were not even asked to do
    the same."""
    if _WORK(own[0].row) != _WORK(work[0].row):
        return None
    first, last = own[0].measured.way, work[0].measured.way
    fields = [name for name in dict.fromkeys([*first, *last]) if first.get(name) != last.get(name)]
    of_own, of_work = (
        {str(c.row.source_format): c.row for c in some if c.row.status == "ok"}
        for some in (own, work)
    )
    shared = sorted(of_own.keys() & of_work.keys())
    if shared:
        fields += same_work(of_own[shared[0]], of_work[shared[0]])
    elif of_own and of_work:  # whose files' digests say nothing
        fields += same_work(next(iter(of_own.values())), next(iter(of_work.values())))
    return fields


def _apart(work: list[Candidate], works: Sequence[list[Candidate]]) -> list[str]:
    """Why others of the same name are answered apart."""
    notes: list[str] = []
    for other in works:
        if other is not work and (fields := _differ(work, other)):
            named = ", ".join(sorted({c.measured.run_id for c in other}))
            notes.append(f"{named} is answered apart: it differs in {', '.join(fields)}")
    return notes


def _answer(work: Sequence[Candidate], question: Question, notes: list[str]) -> Answer:
    choices = choices_of(work, question)
    sure = [c for c in choices if c.is_measured and not c.settles and not c.broken]
    maybe = [c for c in choices if c.settles and not c.broken]
    fails = [c for c in choices if c.broken or c.status not in ("ok", "open")]
    sure = ranked(sure)
    row = work[0].row
    return Answer(
        model=row.model,
        scenario=row.scenario,
        scenario_options=row.scenario_options,
        batch_size=row.batch_size,
        runs=tuple(dict.fromkeys(c.measured.run_id for c in work)),
        sure=tuple(sure),
        maybe=tuple(sorted(maybe, key=lambda c: c.sort_key)),
        fails=tuple(sorted(fails, key=shortfall)),
        changes=tuple(changes_of(sure, choices, question)),
        nearest=None if sure else closest(choices),
        notes=tuple(notes + _notes(choices, question)),
    )


def _notes(choices: Sequence[Choice], question: Question) -> list[str]:
    """What has to be known of all of them."""
    measured = [choice.candidate for choice in choices if choice.is_measured]
    asked = asked_of(question)
    notes: list[str] = []
    if measured and asked & {"p50", "p99", "throughput", "cost"}:
        loaded = sum(c.sustained is not None for c in measured)
        if loaded == len(measured):
            notes.append("speed is that under sustained load")
        elif loaded:
            notes.append(
                f"of {loaded} of {len(measured)} configurations speed is that under sustained "
                "load; the others were not measured under it, and their speed may not last"
            )
        elif measured[0].row.scenario in SHORT:
            notes.append(
                f"none was measured under sustained load (scenario '{SUSTAINED}'): on a machine "
                "that heats up, its speed may not last"
            )
    if "energy" in asked:
        methods = dict.fromkeys(
            f"{c.row.energy_method} ({c.row.energy_scope})" for c in measured if c.row.energy_method
        )
        if len({choice.pool for choice in choices if choice.pool is not None}) > 1:
            notes.append(
                "some were found in ways that must not be compared: each way is ranked apart"
            )
        notes += [f"energy is by {method}" for method in methods]
    if asked & {"accuracy", "accuracy_drop"}:
        data = [c.row for c in measured if c.row.accuracy_data]
        notes += dict.fromkeys(
            f"accuracy is {row.accuracy_metric} of {row.accuracy_data}" for row in data
        )
    return notes
