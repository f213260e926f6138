"""Which trial comes next: rounds outermost, each in a fresh random order, until every case is
settled or what it may cost is spent."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qbench import stats
from qbench.analysis import noise
from qbench.bundle import percentile
from qbench.plan import Plan, Planned
from qbench.precision import REFERENCE
from qbench.spec.case import Case
from qbench.suite import DEFAULT_ENVIRONMENT, MIN_ROUNDS, Rounds


@dataclass
class _State:
    """What is known of a case so far.

    Attributes:
        p10_ns: by (sitting, round), of its good trials; the median of one with too few calls.
        quiet: good trials that the machine did not disturb.
        seconds: what its trials have taken, with the rest before each.
        broken: a trial failed: it is not run again.
        bases: the cases that it is compared with, and which have to be measured as often: float32
            of the same conditions, and the same case in the default environment.
    """

    planned: Planned
    least: int
    most: int
    bases: list[str] = field(default_factory=list)
    p10_ns: dict[tuple[int, int], float] = field(default_factory=dict)
    made: set[int] = field(default_factory=set)
    quiet: int = 0
    seconds: float = 0.0
    broken: bool = False


class Schedule:
    """Hands out trials. Every trial that was made is told to ``add``, those of an earlier sitting
    too, before the first ``next``.

    A case is settled after its least rounds when half the interval of its p10, and of its p10's
    paired ratios to float32's and to that of the same case in the default environment, is at most
    the suite's target, and as many of its trials were undisturbed as the least rounds are. A case
    goes on as long as one that is compared with it.
    """

    def __init__(self, plan: Plan, cases: Sequence[Planned], seed: int) -> None:
        rounds = plan.suite.rounds
        self._target = rounds.target if isinstance(rounds, Rounds) else None
        self._budget, self._seed = plan.suite.budget, seed
        self._rest_s = plan.suite.cool_down_s
        self._states = {p.case.case_id: _State(p, *plan.rounds(p)) for p in cases}
        floats = {s.planned.case.conditions: i for i, s in self._states.items() if _is_base(s)}
        for case_id, state in self._states.items():
            wanted = floats.get(state.planned.case.conditions), _in_default(state.planned.case)
            state.bases = [i for i in wanted if i in self._states and i != case_id]
        self._round = -1
        self._queue: list[str] = []

    def add(self, trial: Mapping[str, Any], samples_ns: np.ndarray | None) -> None:
        """A trial's record, and its samples if it went well."""
        state = self._states.get(trial["case_id"])
        if state is None:
            return  # a filter, or an evaluation that failed, leaves the case out now
        state.made.add(trial["round"])
        state.seconds += trial["seconds"] + self._rest_s
        if samples_ns is None:
            state.broken = True
            return
        steady = percentile(samples_ns, 10) or percentile(samples_ns, 50)
        assert steady is not None  # there is at least one call
        state.p10_ns[trial["sitting"], trial["round"]] = steady
        state.quiet += not noise.disturbed(trial, state.planned.case.model_dump())

    def next(self) -> tuple[int, Planned] | None:
        """The next trial's round and case; None when there is no more to do."""
        while True:
            while self._queue:
                state = self._states[self._queue.pop(0)]
                if not state.broken and self._round not in state.made:
                    return self._round, state.planned
            self._round += 1
            self._queue = self._open()
            if not self._queue:
                return None

    def _open(self) -> list[str]:
        """The cases of a new round in their order; of an extra round, disturbed ones first, with
        those that they are compared with, so that these stay in random order."""
        spent = sum(state.seconds for state in self._states.values())
        limit = self._budget.run_minutes
        over = limit is not None and spent >= 60 * limit
        wanted = {i for i, s in self._states.items() if self._wants(s, over)}
        while more := {base for i in wanted for base in self._states[i].bases} - wanted:
            wanted |= more  # a base has bases of its own
        order = [i for i in self._states if i in wanted and not self._states[i].broken]
        random.Random(f"{self._seed}/{self._round}").shuffle(order)
        least = max((self._states[i].least for i in order), default=0)
        if self._round >= least:
            disturbed = {
                state.planned.case.work
                for state in map(self._states.__getitem__, order)
                if state.quiet < state.least
            }
            order.sort(key=lambda i: self._states[i].planned.case.work not in disturbed)
        return order

    def _wants(self, state: _State, over: bool) -> bool:
        """Whether a case wants another round, and may have it."""
        if state.broken or self._round >= state.most:
            return False
        if self._round < state.least:
            return True
        limit = self._budget.case_minutes
        if over or (limit is not None and state.seconds >= 60 * limit):
            return False
        return not self._settled(state)

    def _settled(self, state: _State) -> bool:
        if self._target is None:
            return True
        width = self.half_width(state.planned.case.case_id)
        return width is not None and width <= self._target and state.quiet >= state.least

    def half_width(self, case_id: str) -> float | None:
        """How well a case is known: the widest of its relative half-widths; None below
        ``MIN_ROUNDS`` trials."""
        state = self._states[case_id]
        bases = [self._states[base] for base in state.bases]
        return settled_to(state.p10_ns, [base.p10_ns for base in bases if not base.broken])

    def left(self) -> tuple[int, int]:
        """Trials that are left of the least rounds, and cases that are not settled."""
        least = sum(
            len(set(range(state.least)) - state.made)
            for state in self._states.values()
            if not state.broken
        )
        unsettled = sum(
            not state.broken and not self._settled(state) and len(state.made) < state.most
            for state in self._states.values()
            if state.most >= MIN_ROUNDS
        )
        return least, unsettled if self._target is not None else 0


def settled_to(
    p10_ns: Mapping[tuple[int, int], float], bases: Sequence[Mapping[tuple[int, int], float]]
) -> float | None:
    """The widest of the relative half-widths of p10's interval and of its paired ratios to the
    bases'; None where there are too few trials for one of them.

    Args:
        p10_ns: by (sitting, round); ``bases`` likewise.
    """
    widths = [stats.half_width(np.array(list(p10_ns.values())))]
    for base_ns in bases:
        both = sorted(set(p10_ns) & set(base_ns))
        widths.append(stats.half_width(np.array([p10_ns[k] / base_ns[k] for k in both])))
    known = [width for width in widths if width is not None]
    return max(known) if len(known) == len(widths) else None


def _in_default(case: Case) -> str:
    """The id of the same case in the default environment."""
    return case.model_copy(update={"environment": DEFAULT_ENVIRONMENT}).case_id


def _is_base(state: _State) -> bool:
    return state.planned.case.precision == REFERENCE
