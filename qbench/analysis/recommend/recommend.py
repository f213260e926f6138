"""Recommend configurations: those that certainly keep every limit, those that might, and why the
others do not.

A limit is certainly kept if the whole 95 % interval of a figure satisfies it. Configurations are
distinguished in the objective only if their intervals do not overlap. They are ranked within one
work: a model with one scenario, on the same data, measured in the same way; energies only if
``qbench.analysis.compare.comparable`` allows it.
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
    """The answer for one work. Every configuration is in one of the three lists.

    Attributes:
        model, scenario, scenario_options, batch_size: the work.
        runs: ids of the runs with this work.
        sure: configurations that keep every limit, the best first, grouped by pool.
        maybe: configurations that might; the best first.
        fails: configurations that do not, or were not measured; the nearest first.
        changes: limits at which the answer changes.
        nearest: the configuration nearest to the limits, if none is sure; None if nothing was
            measured.
        notes: remarks on all configurations.
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
        """The first configuration of the first pool, and those indistinguishable from it."""
        return tuple(c for c in self.sure if c.first and c.pool == self.sure[0].pool)


@dataclass(frozen=True)
class Recommendation:
    """The answers, grouped by model."""

    question: Question
    currency: str | None
    answers: tuple[Answer, ...]

    @property
    def is_sure(self) -> bool:
        """Whether every model has a configuration that certainly keeps the limits."""
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
    """Like ``recommend``, for runs that were already read.

    Raises:
        UserError: as for ``recommend``.
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
    """Group candidates by work, across runs that did the same work, measured in the same way."""
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
    """Return the fields in which two runs' candidates did different work; None if the requests
    already differ."""
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
    elif of_own and of_work:  # the digests of their files are not comparable
        fields += same_work(next(iter(of_own.values())), next(iter(of_work.values())))
    return fields


def _apart(work: list[Candidate], works: Sequence[list[Candidate]]) -> list[str]:
    """Return why others of the same name have a separate answer."""
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
    """Return remarks on all configurations of an answer."""
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
