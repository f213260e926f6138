"""Which configuration to take: those that surely keep every limit, those that might, and why the
others don't.

A limit is surely kept if the whole 95 % interval of a figure keeps it. Of what is to be least, only
configurations are told apart whose intervals do not overlap. Configurations are ranked within one
work: a model, issued in one way, on the same data, measured alike; energies only where
``qbench.analysis.comparable`` lets them be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from qbench.analysis.candidates import SUSTAINED, Candidate, Figure, Measured, candidates, read
from qbench.analysis.comparable import energy_groups, same_work
from qbench.analysis.judging import Held, hold
from qbench.analysis.machines import machines_of
from qbench.analysis.pareto import ACCURACY, FIDELITY, LATENCY, Place, pareto
from qbench.bundle import Bundle
from qbench.costs import CostSheet
from qbench.errors import UserError, nearest
from qbench.limits import Limit, Question

_WORK = ("model", "scenario", "scenario_options", "batch_size")


class Doubt(NamedTuple):
    """What speaks against a figure: in a word or two, and in detail, which may be empty."""

    word: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.word}: {self.detail}" if self.detail else self.word


@dataclass(frozen=True)
class Choice:
    """A configuration: a case on its machine, held against the question.

    Attributes:
        candidate: the case.
        label: what tells it from the answer's others.
        held: against each limit, in their order; empty if it was not measured.
        objective: what is to be least; None if it was not measured.
        pool: those of one number may be ranked with each other; None without an objective.
        first: whether it is the first of its pool, or cannot be told from that.
        more: how much more than the first of its pool, as a share: the plain value, and what it is
            at the least by the intervals; None of the first, and where there is no interval.
        doubts: what has to be known before it is relied on.
        front: its place among all of the answer by latency and accuracy (or fidelity).
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
        return str(self.candidate.row["status"] or "open")

    @property
    def is_measured(self) -> bool:
        return self.status == "ok"

    @property
    def broken(self) -> tuple[Held, ...]:
        return tuple(held for held in self.held if held.state == "broken")

    @property
    def settles(self) -> tuple[str, ...]:
        """What would settle whether it keeps the limits."""
        if self.status == "open":
            return ("the run, which was interrupted: the same command goes on with it",)
        if not self.is_measured:
            return ()
        told = [held.settles for held in self.held if held.state == "open"]
        if self.candidate.row["loadgen_valid"] is False:
            told.append("a run that LoadGen calls valid")
        return tuple(told)

    @property
    def sort_key(self) -> tuple[Any, ...]:
        """The best first; without a figure last."""
        estimate = None if self.objective is None else self.objective.estimate
        if estimate is None or self.pool is None:
            return (1, 0, 0.0, self.label)
        return (0, self.pool, estimate.value, self.label)


@dataclass(frozen=True)
class Change:
    """A limit at which the answer becomes another.

    Attributes:
        limit: the one that is moved, the others staying as they are.
        value: in its unit. ``beyond``: from the limit as it is, stricter than ``value`` for
            ``stricter``, at least as loose as ``value`` for ``looser``.
        choice: what is then first; None: nothing surely keeps the limits.
        against: its objective against that of today's first, as a share more or less; None where
            one of the two has none, or there is no first today.
        apart: whether the two can be told apart in it.
    """

    limit: Limit
    direction: Literal["stricter", "looser"]
    value: float
    choice: Choice | None
    against: float | None
    apart: bool


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
    runs = [read(bundle, machines[bundle.begin["host"]["host_id"]]) for bundle in once]
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
        known = {row[column] for run in runs for row in run.rows}
        for name in names:
            if name not in known:
                raise UserError(f"there is no case of {word} '{name}'", nearest(str(name), known))


# --------------------------------------------------------------------------- one work


def _works(found: Sequence[Candidate]) -> list[list[Candidate]]:
    """The candidates of each work. Those of another run join if they did the same work, measured in
    the same way."""
    works: list[list[Candidate]] = []
    places: dict[tuple[Any, ...], list[Candidate]] = {}
    for candidate in found:
        key = tuple(candidate.row[name] for name in _WORK)
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
    if any(own[0].row[name] != work[0].row[name] for name in _WORK):
        return None
    first, last = own[0].measured.way, work[0].measured.way
    fields = [name for name in dict.fromkeys([*first, *last]) if first.get(name) != last.get(name)]
    pairs = [
        (a.row, b.row) for a in own for b in work if a.row["status"] == b.row["status"] == "ok"
    ]
    by_format = [(a, b) for a, b in pairs if a["source_format"] == b["source_format"]] or pairs
    for a, b in by_format[:1]:
        fields += same_work(a, b)
    return fields


def _apart(work: list[Candidate], works: Sequence[list[Candidate]]) -> list[str]:
    """Why others of the same name are answered apart."""
    notes = []
    for other in works:
        if other is not work and (fields := _differ(work, other)):
            named = ", ".join(sorted({c.measured.run_id for c in other}))
            notes.append(f"{named} is answered apart: it differs in {', '.join(fields)}")
    return notes


def _answer(work: Sequence[Candidate], question: Question, notes: list[str]) -> Answer:
    labels = _labels(work)
    pools = _pools(work, question)
    fronts = _fronts(work)
    choices = [
        _choice(candidate, question, label, pool, front)
        for candidate, label, pool, front in zip(work, labels, pools, fronts, strict=True)
    ]
    sure = [c for c in choices if c.is_measured and not c.settles and not c.broken]
    maybe = [c for c in choices if c.settles and not c.broken]
    fails = [c for c in choices if c.broken or c.status not in ("ok", "open")]
    sure = _ranked(sure)
    row = work[0].row
    return Answer(
        **{name: row[name] for name in _WORK},
        runs=tuple(dict.fromkeys(c.measured.run_id for c in work)),
        sure=tuple(sure),
        maybe=tuple(sorted(maybe, key=lambda c: c.sort_key)),
        fails=tuple(sorted(fails, key=_shortfall)),
        changes=tuple(_changes(sure, choices, question)),
        nearest=None if sure else _nearest(choices),
        notes=tuple(notes + _notes(work, question)),
    )


def _choice(
    candidate: Candidate, question: Question, label: str, pool: int | None, front: Place | None
) -> Choice:
    if candidate.row["status"] != "ok":
        return Choice(candidate, label, (), None, ())
    held = tuple(hold(candidate, limit) for limit in question.limits)
    objective = candidate.figures[question.by]
    doubts = _doubts(candidate, question)
    return Choice(candidate, label, held, objective, doubts, pool, front=front)


_TOLD = ("environment", "recipe", "device", "threads", "streams")


def _labels(work: Sequence[Candidate]) -> list[str]:
    """Machine, backend, precision, and whatever else tells a case from the others; the run only
    where one machine has several."""
    runs = {c.measured.run_id: c.measured.machine.key for c in work}
    machines = set(runs.values())
    told = [name for name in _TOLD if len({c.row[name] for c in work}) > 1]
    labels = []
    for candidate in work:
        row, run = candidate.row, candidate.measured
        parts = [row["backend"], row["precision"], f"[{row['variant']}]" if row["variant"] else ""]
        words = {"threads": "threads ", "streams": "streams "}
        extra = [f"{words.get(n, '')}{row[n]}" for n in told if row[n] is not None]
        label = ", ".join([" ".join(filter(None, parts)), *extra])
        if len(machines) > 1:
            label += f" on {run.machine.name}"
        if list(runs.values()).count(run.machine.key) > 1:
            label += f" in {run.run_id}"
        labels.append(label)
    return labels


def _pools(work: Sequence[Candidate], question: Question) -> list[int | None]:
    """For each, the number of those it may be ranked with: of energies, those of one method and
    scope, measured ones first, then the larger pools."""
    has = [c.row["status"] == "ok" and c.figures[question.by].estimate is not None for c in work]
    if question.minimize != "energy":
        return [0 if there else None for there in has]
    groups = energy_groups(c.row for c, there in zip(work, has, strict=True) if there)
    groups.sort(key=lambda group: (not group[0]["energy_is_measured"], -len(group)))
    pools = {id(row): place for place, group in enumerate(groups) for row in group}
    return [pools.get(id(c.row)) for c in work]


def _fronts(work: Sequence[Candidate]) -> list[Place | None]:
    measured = [c.row for c in work if c.row["status"] == "ok"]
    quality = ACCURACY if any(row["accuracy"] is not None for row in measured) else FIDELITY
    if not measured:
        return [None] * len(work)
    places = iter(pareto(measured, [LATENCY, quality]))
    return [next(places) if c.row["status"] == "ok" else None for c in work]


def _doubts(candidate: Candidate, question: Question) -> tuple[Doubt, ...]:
    row = candidate.row
    doubts = []
    if row["noisy"]:
        doubts.append(Doubt("noisy", str(row["noise_reason"])))
    load = candidate.sustained
    if load is not None and load is not row and load["noisy"]:
        doubts.append(Doubt("noisy under sustained load", str(load["noise_reason"])))
    if row["inconclusive"]:
        width = row["half_width"]
        known = "" if width is None else f"p10 known to ±{100 * width:.1f} %"
        doubts.append(Doubt("inconclusive", known))
    if row["flags"]:
        doubts.append(Doubt(str(row["flags"])))
    if row["loadgen_valid"] is False:
        doubts.append(Doubt("not valid by LoadGen"))
    if "energy" in _asked(question) and row["energy_noise"]:
        doubts.append(Doubt("its energy may hold the work of others", str(row["energy_noise"])))
    return tuple(doubts)


def _asked(question: Question) -> set[str]:
    """The aspects that the question is about."""
    return {question.by, *(limit.aspect for limit in question.limits)}


def _notes(work: Sequence[Candidate], question: Question) -> list[str]:
    """What has to be known of all of them."""
    measured = [c for c in work if c.row["status"] == "ok"]
    asked = _asked(question)
    notes = []
    if measured and asked & {"p50", "p99", "throughput", "cost"}:
        loaded = sum(c.sustained is not None for c in measured)
        if loaded == len(measured):
            notes.append("speed is that under sustained load")
        elif loaded:
            notes.append(
                f"of {loaded} of {len(measured)} configurations speed is that under sustained "
                "load; the others were not measured under it, and their speed may not last"
            )
        elif work[0].row["scenario"] in ("single-stream", "offline"):
            notes.append(
                f"none was measured under sustained load (scenario '{SUSTAINED}'): on a machine "
                "that heats up, its speed may not last"
            )
    if "energy" in asked:
        methods = dict.fromkeys(
            f"{c.row['energy_method']} ({c.row['energy_scope']})"
            for c in measured
            if c.row["energy_method"]
        )
        if len(methods) > 1 or len({c.measured.machine.key for c in measured}) > 1:
            notes.append(
                "energies of different methods, scopes or machines are not ranked together"
            )
        notes += [f"energy is by {method}" for method in methods]
    if asked & {"accuracy", "accuracy_drop"}:
        data = [c.row for c in measured if c.row["accuracy_data"]]
        notes += dict.fromkeys(
            f"accuracy is {row['accuracy_metric']} of {row['accuracy_data']}" for row in data
        )
    return notes


# --------------------------------------------------------------------------- ranking


def _ranked(sure: Sequence[Choice]) -> list[Choice]:
    """In order, each with what it is against the first of its pool."""
    ranked = sorted(sure, key=lambda choice: choice.sort_key)
    firsts: dict[int | None, Choice] = {}
    found = []
    for choice in ranked:
        first = firsts.setdefault(choice.pool, choice)
        if choice.pool is None:
            found.append(choice)
        elif choice is first:
            found.append(replace(choice, first=True))
        else:
            apart, more = _against(choice, first)
            found.append(replace(choice, first=not apart, more=more))
    return found


def _against(choice: Choice, first: Choice) -> tuple[bool, tuple[float, float | None] | None]:
    """Whether their intervals are apart, and how much more the choice's objective is, as a share:
    its value, and its least."""
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


def _shortfall(choice: Choice) -> tuple[Any, ...]:
    """The nearest first; what was not measured last."""
    worst = max((held.excess or 0.0 for held in choice.broken), default=0.0)
    return (not choice.is_measured, len(choice.broken), worst, choice.label)


def _nearest(choices: Sequence[Choice]) -> Choice | None:
    """Of the measured ones: with the fewest limits broken, then the fewest open, then the least
    beyond its worst limit."""
    measured = [choice for choice in choices if choice.is_measured]

    def distance(choice: Choice) -> tuple[Any, ...]:
        beyond = max((held.excess or 0.0 for held in choice.held), default=0.0)
        return (len(choice.broken), len(choice.settles), beyond, choice.sort_key)

    return min(measured, key=distance, default=None)


# --------------------------------------------------------------------------- what would change it


def _changes(sure: Sequence[Choice], choices: Sequence[Choice], question: Question) -> list[Change]:
    """For each limit, the nearest stricter and the nearest looser value with another first."""
    first = sure[0] if sure else None
    if first is not None and first.pool is None:
        return []  # none of them has the figure that is to be least
    rivals = [c for c in choices if c.is_measured and c.candidate.row["loadgen_valid"] is not False]
    if first is not None:
        rivals = [c for c in rivals if c.pool == first.pool]
    found = []
    for place, limit in enumerate(question.limits):
        if first is not None and (stricter := _stricter(sure, first, place, limit)):
            found.append(stricter)
        if looser := _looser(rivals, first, place, limit):
            found.append(looser)
    return found


def _stricter(sure: Sequence[Choice], first: Choice, place: int, limit: Limit) -> Change | None:
    """Where the first no longer surely keeps the limit."""
    worst = first.held[place].worst
    assert worst is not None  # it is sure
    if worst <= 0 or (limit.of.unit == "%" and worst >= 100):
        return None  # no limit can be stricter than that
    left = [
        c for c in sure if c.pool == first.pool and _stays_within(c.held[place].worst, worst, limit)
    ]
    return _change(limit, "stricter", worst, left[0] if left else None, first)


def _stays_within(worst: float | None, value: float, limit: Limit) -> bool:
    """Whether it surely keeps a limit that is a little stricter than ``value``."""
    assert worst is not None
    return worst > value if limit.of.least else worst < value


def _looser(
    rivals: Sequence[Choice], first: Choice | None, place: int, limit: Limit
) -> Change | None:
    """Where one that keeps all other limits would come before the first."""
    better: list[tuple[float, Choice]] = []
    for choice in rivals:
        own = choice.held[place]
        others = [held for other, held in enumerate(choice.held) if other != place]
        if own.state == "kept" or own.worst is None or any(h.state != "kept" for h in others):
            continue
        if first is None or choice.sort_key < first.sort_key:
            better.append((own.worst, choice))
    if not better:
        return None
    sign = -1 if limit.of.least else 1
    value, choice = min(better, key=lambda pair: (sign * pair[0], pair[1].sort_key))
    return _change(limit, "looser", value, choice, first)


def _change(
    limit: Limit,
    direction: Literal["stricter", "looser"],
    value: float,
    choice: Choice | None,
    first: Choice | None,
) -> Change:
    if choice is None or first is None or choice.pool is None:
        return Change(limit, direction, value, choice, None, False)
    apart, more = _against(choice, first)
    return Change(limit, direction, value, choice, more[0] if more else None, apart)
