"""Rank configurations that satisfy the limits of a question, and record doubts about each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from qbench.analysis.compare.comparable import energy_groups
from qbench.analysis.recommend.candidates import Candidate, Figure
from qbench.analysis.recommend.limits import Held, hold
from qbench.analysis.recommend.pareto import ACCURACY, FIDELITY, LATENCY, Place, pareto
from qbench.spec.question import Question

_TOLD = ("environment", "recipe", "device", "threads", "streams")
"""Columns that labels contain if they differ."""


class Doubt(NamedTuple):
    """A doubt about a figure: in a word or two, and in detail, which may be empty."""

    word: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.word}: {self.detail}" if self.detail else self.word


@dataclass(frozen=True)
class Choice:
    """A configuration, a case on its machine, with its result for the question.

    Attributes:
        candidate: the case.
        label: a name that distinguishes it within the answer.
        held: the result for each limit, in order; empty if it was not measured.
        objective: the figure to minimize; None if it was not measured.
        pool: number of its pool: configurations of one pool may be ranked; None without an
            objective.
        first: whether it is the first of its pool, or indistinguishable from it.
        more: its excess over the first of its pool, as a share: of the values, and the minimum by
            the intervals; None for the first, and without an interval.
        doubts: reservations that a reader must know.
        front: its place in the answer by latency and accuracy (or fidelity).
    """

    candidate: Candidate
    label: str
    held: tuple[Held, ...]
    objective: Figure | None
    doubts: tuple[Doubt, ...]
    pool: int | None = None
    first: bool = False
    more: tuple[float, float | None] | None = None
    front: Place | None = None

    @property
    def status(self) -> str:
        return str(self.candidate.row.status or "open")

    @property
    def is_measured(self) -> bool:
        return self.status == "ok"

    @property
    def broken(self) -> tuple[Held, ...]:
        return tuple(held for held in self.held if held.state == "broken")

    @property
    def settles(self) -> tuple[str, ...]:
        """Measurements that would decide whether it keeps the limits."""
        if self.status == "open":
            return ("the run, which was interrupted: the same command goes on with it",)
        if not self.is_measured:
            return ()
        told = [held.settles for held in self.held if held.state == "open"]
        if self.candidate.row.loadgen_valid is False:
            told.append("a run that LoadGen calls valid")
        return tuple(told)

    @property
    def sort_key(self) -> tuple[Any, ...]:
        """Sorts the best first, and configurations without a figure last."""
        estimate = None if self.objective is None else self.objective.estimate
        if estimate is None or self.pool is None:
            return (1, 0, 0.0, self.label)
        return (0, self.pool, estimate.value, self.label)


def choices_of(work: Sequence[Candidate], question: Question) -> list[Choice]:
    """Check the candidates of one work against the question, without ranking them."""
    told = zip(work, _labels(work), _pools(work, question), _fronts(work), strict=True)
    return [_choice(c, question, label, pool, front) for c, label, pool, front in told]


def _choice(
    candidate: Candidate, question: Question, label: str, pool: int | None, front: Place | None
) -> Choice:
    if candidate.row.status != "ok":
        return Choice(candidate, label, (), None, ())
    held = tuple(hold(candidate, limit) for limit in question.limits)
    objective = candidate.figures[question.by]
    doubts = _doubts(candidate, question)
    return Choice(candidate, label, held, objective, doubts, pool, front=front)


def _labels(work: Sequence[Candidate]) -> list[str]:
    """Return labels: backend, precision and other columns that differ; with several machines, the
    machine; the run only if one machine has several."""
    runs = {c.measured.run_id: c.measured.machine.key for c in work}
    machines = set(runs.values())
    told = [name for name in _TOLD if len({getattr(c.row, name) for c in work}) > 1]
    labels: list[str] = []
    for candidate in work:
        row, run = candidate.row, candidate.measured
        parts = [row.backend, row.precision, f"[{row.variant}]" if row.variant else ""]
        words = {"threads": "threads ", "streams": "streams "}
        values = {name: getattr(row, name) for name in told}
        extra = [f"{words.get(n, '')}{value}" for n, value in values.items() if value is not None]
        label = ", ".join([" ".join(filter(None, parts)), *extra])
        if len(machines) > 1:
            label += f" on {run.machine.name}"
        if list(runs.values()).count(run.machine.key) > 1:
            label += f" in {run.run_id}"
        labels.append(label)
    return labels


def _pools(work: Sequence[Candidate], question: Question) -> list[int | None]:
    """Return the pool of each candidate. A pool of energies has one method and scope; measured
    energies come first, then larger pools."""
    has = [c.row.status == "ok" and c.figures[question.by].estimate is not None for c in work]
    if question.minimize != "energy":
        return [0 if there else None for there in has]
    groups = energy_groups(c.row for c, there in zip(work, has, strict=True) if there)
    groups.sort(key=lambda group: (not group[0].energy_is_measured, -len(group)))
    pools = {id(row): place for place, group in enumerate(groups) for row in group}
    return [pools.get(id(c.row)) for c in work]


def _fronts(work: Sequence[Candidate]) -> list[Place | None]:
    measured = [c.row for c in work if c.row.status == "ok"]
    quality = ACCURACY if any(row.accuracy is not None for row in measured) else FIDELITY
    if not measured:
        return [None] * len(work)
    places = iter(pareto(measured, [LATENCY, quality]))
    return [next(places) if c.row.status == "ok" else None for c in work]


def _doubts(candidate: Candidate, question: Question) -> tuple[Doubt, ...]:
    row = candidate.row
    doubts: list[Doubt] = []
    if row.noisy:
        doubts.append(Doubt("noisy", str(row.noise_reason)))
    load = candidate.sustained
    if load is not None and load is not row and load.noisy:
        doubts.append(Doubt("noisy under sustained load", str(load.noise_reason)))
    if row.inconclusive:
        width = row.half_width
        known = "" if width is None else f"p10 known to ±{100 * width:.1f} %"
        doubts.append(Doubt("inconclusive", known))
    if row.flags:
        doubts.append(Doubt(str(row.flags)))
    if row.loadgen_valid is False:
        doubts.append(Doubt("not valid by LoadGen"))
    if "energy" in asked_of(question) and row.energy_noise:
        doubts.append(Doubt("its energy may hold the work of others", str(row.energy_noise)))
    return tuple(doubts)


def asked_of(question: Question) -> set[str]:
    """Return the aspects that the question is about."""
    return {question.by, *(limit.aspect for limit in question.limits)}


# --------------------------------------------------------------------------- ranking


def ranked(sure: Sequence[Choice]) -> list[Choice]:
    """Rank configurations, each compared with the first of its pool."""
    ordered = sorted(sure, key=lambda choice: choice.sort_key)
    firsts: dict[int | None, Choice] = {}
    found: list[Choice] = []
    for choice in ordered:
        first = firsts.setdefault(choice.pool, choice)
        if choice.pool is None:
            found.append(choice)
        elif choice is first:
            found.append(replace(choice, first=True))
        else:
            apart, more = against(choice, first)
            found.append(replace(choice, first=not apart, more=more))
    return found


def against(choice: Choice, first: Choice) -> tuple[bool, tuple[float, float | None] | None]:
    """Return whether the two intervals are separate, and the excess of the choice's objective as a
    share: of the values, and its minimum."""
    a, b = first.objective, choice.objective
    assert a is not None and b is not None and a.estimate is not None and b.estimate is not None
    if a.estimate.value <= 0:
        return False, None
    more = b.estimate.value / a.estimate.value - 1
    ends = a.interval, b.interval
    if ends[0] is None or ends[1] is None:
        return False, (more, None)
    (a_low, a_high), (b_low, b_high) = ends[0], ends[1]
    apart = b_low > a_high or b_high < a_low
    return apart, (more, b_low / a_high - 1 if apart and a_high > 0 else None)


def shortfall(choice: Choice) -> tuple[Any, ...]:
    """Sort key: the nearest to the limits first, unmeasured ones last."""
    worst = max((held.excess or 0.0 for held in choice.broken), default=0.0)
    return (not choice.is_measured, len(choice.broken), worst, choice.label)


def closest(choices: Sequence[Choice]) -> Choice | None:
    """Return the measured configuration with the fewest broken limits, then the fewest open ones,
    then the smallest violation of its worst limit."""
    measured = [choice for choice in choices if choice.is_measured]

    def distance(choice: Choice) -> tuple[Any, ...]:
        beyond = max((held.excess or 0.0 for held in choice.held), default=0.0)
        return (len(choice.broken), len(choice.settles), beyond, choice.sort_key)

    return min(measured, key=distance, default=None)
