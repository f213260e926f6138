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
from qbench.suite import Rounds


@dataclass
class _State:
    """What is known of a case so far.

    Attributes:
        p10_ns: by (sitting, round), of its good trials; the median of one with too few calls.
        quiet: good trials that the machine did not disturb.
        seconds: what its trials have taken.
        broken: a trial failed: it is not run again.
        base: the float32 case of the same conditions; None if there is none, or it is one.
    """

    planned: Planned
    least: int
    most: int
    base: str | None = None
    p10_ns: dict[tuple[int, int], float] = field(default_factory=dict)
    made: set[int] = field(default_factory=set)
    quiet: int = 0
    seconds: float = 0.0
    broken: bool = False


class Schedule:
    """Hands out trials. Every trial that was made is told to ``add``, those of an earlier sitting
    too, before the first ``next``.

    A case is settled after its least rounds when half the interval of its p10, and of its p10's
    paired ratio to float32's, is at most the suite's target, and as many of its trials were
    undisturbed as the least rounds are. A float32 case goes on as long as one that is compared
    with it.
    """

    def __init__(self, plan: Plan, cases: Sequence[Planned], seed: int) -> None:
        rounds = plan.suite.rounds
        self._target = rounds.target if isinstance(rounds, Rounds) else None
        self._budget, self._seed = plan.suite.budget, seed
        self._states = {p.case.case_id: _State(p, *plan.rounds(p)) for p in cases}
        bases = {s.planned.case.conditions: i for i, s in self._states.items() if _is_base(s)}
        for state in self._states.values():
            if not _is_base(state):
                state.base = bases.get(state.planned.case.conditions)
        self._round = -1
        self._queue: list[str] = []

    def add(self, trial: Mapping[str, Any], samples_ns: np.ndarray | None) -> None:
        """A trial's record, and its samples if it went well."""
        state = self._states.get(trial["case_id"])
        if state is None:
            return  # a filter, or an evaluation that failed, leaves the case out now
        state.made.add(trial["round"])
        state.seconds += trial["seconds"]
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
        wanted |= {base for i in wanted if (base := self._states[i].base) is not None}
        order = [i for i in self._states if i in wanted and not self._states[i].broken]
        random.Random(f"{self._seed}/{self._round}").shuffle(order)
        least = max((self._states[i].least for i in order), default=0)
        if self._round >= least:
            disturbed = {
                state.planned.case.conditions
                for state in map(self._states.__getitem__, order)
                if state.quiet < state.least
            }
            order.sort(key=lambda i: self._states[i].planned.case.conditions not in disturbed)
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
        """How well a case is known: the wider of its two relative half-widths; None below
        ``stats.MIN_ROUNDS`` trials."""
        state = self._states[case_id]
        base = self._states[state.base] if state.base else None
        return settled_to(state.p10_ns, base.p10_ns if base and not base.broken else None)

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
            if state.most >= stats.MIN_ROUNDS
        )
        return least, unsettled if self._target is not None else 0


def settled_to(
    p10_ns: Mapping[tuple[int, int], float], base_ns: Mapping[tuple[int, int], float] | None
) -> float | None:
    """The wider of two relative half-widths: of the interval of p10, and of its paired ratio to the
    base's; None where there are too few trials for one of them.

    Args:
        p10_ns, base_ns: by (sitting, round); None if there is nothing to compare with.
    """
    widths = [stats.half_width(np.array(list(p10_ns.values())))]
    if base_ns is not None:
        both = sorted(set(p10_ns) & set(base_ns))
        widths.append(stats.half_width(np.array([p10_ns[k] / base_ns[k] for k in both])))
    known = [width for width in widths if width is not None]
    return max(known) if len(known) == len(widths) else None


def _is_base(state: _State) -> bool:
    return state.planned.case.precision == REFERENCE
