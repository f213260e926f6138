"""The order of trials: in rounds, each in a new random order, until every case is settled or its
budget is spent."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from qbench.analysis.statistics import estimates
from qbench.analysis.table import noise
from qbench.bundle.records.run import Trial
from qbench.bundle.trials import percentile
from qbench.run.plan import Plan, Planned
from qbench.spec.precisions import REFERENCE
from qbench.spec.suite import DEFAULT_ENVIRONMENT, MIN_ROUNDS, Rounds


@dataclass
class _State:
    """The trials of a case so far.

    Attributes:
        bases: ids of the cases that it is compared with, which are measured as often: float32
            under the same conditions, and the same case in the default environment.
        p10_ns: 10th percentile of each successful trial (the median where it has too few calls),
            by sitting and round.
        made: rounds of its trials.
        quiet: number of successful trials that nothing on the machine disturbed.
        seconds: length of its trials with the rest before each.
        broken: a trial failed; there will be no more.
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


class Next(NamedTuple):
    """The next trial."""

    number: int
    planned: Planned


class Left(NamedTuple):
    """The remaining work.

    Attributes:
        trials: missing to the minimum number of rounds of every case.
        unsettled: number of cases that are not settled; 0 where the number of rounds is fixed.
    """

    trials: int
    unsettled: int


class Schedule:
    """Hands out trials. Pass every trial to ``add``; those of earlier sittings before the first
    ``next``.

    A case is settled after its minimum number of rounds when the half-width of its p10's interval,
    and of its p10's paired ratios to float32's and to that of the same case in the default
    environment, is at most the suite's target, and it has that number of undisturbed trials. A
    case is measured as long as a case that is compared with it.
    """

    def __init__(self, plan: Plan, cases: Sequence[Planned], seed: int) -> None:
        rounds = plan.suite.rounds
        self._target = rounds.target if isinstance(rounds, Rounds) else None
        self._budget, self._seed = plan.suite.budget, seed
        self._rest_s = plan.suite.cool_down_s
        self._states = {p.case.case_id: _State(p, *plan.rounds(p)) for p in cases}
        by_id = {case_id: state.planned.case for case_id, state in self._states.items()}
        floats = {c.conditions: i for i, c in by_id.items() if c.precision == REFERENCE}
        for case_id, state in self._states.items():
            case = by_id[case_id]
            in_default = case.model_copy(update={"environment": DEFAULT_ENVIRONMENT})
            wanted = floats.get(case.conditions), in_default.case_id
            state.bases = [i for i in wanted if i in self._states and i != case_id]
        self._round = -1
        self._queue: list[str] = []

    def add(self, trial: Trial, samples_ns: np.ndarray | None) -> None:
        """Add a trial.

        Args:
            samples_ns: latency of each call; None if the trial failed.
        """
        state = self._states.get(trial.case_id)
        if state is None:
            return  # a filter or a failed evaluation excludes the case now
        state.made.add(trial.round)
        state.seconds += trial.seconds + self._rest_s
        if samples_ns is None:
            state.broken = True
            return
        steady = percentile(samples_ns, 10) or percentile(samples_ns, 50)
        assert steady is not None  # there is at least one call
        state.p10_ns[trial.sitting, trial.round] = steady
        state.quiet += not noise.disturbed(trial, state.planned.case)

    def next(self) -> Next | None:
        """The next trial; None when all are made."""
        while True:
            while self._queue:
                state = self._states[self._queue.pop(0)]
                if not state.broken and self._round not in state.made:
                    return Next(self._round, state.planned)
            self._round += 1
            self._queue = self._open()
            if not self._queue:
                return None

    def _open(self) -> list[str]:
        """The cases of a new round, in random order. In a round above the minimum, disturbed cases
        come first, together with the cases that they are compared with."""
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
        """Whether a case needs another round within its limits."""
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
        """The largest relative half-width of a case's intervals; None below ``MIN_ROUNDS``
        trials."""
        state = self._states[case_id]
        bases = [self._states[base] for base in state.bases]
        return settled_to(state.p10_ns, [base.p10_ns for base in bases if not base.broken])

    def left(self) -> Left:
        """The remaining work."""
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
        return Left(least, unsettled if self._target is not None else 0)


def settled_to(
    p10_ns: Mapping[tuple[int, int], float], bases: Sequence[Mapping[tuple[int, int], float]]
) -> float | None:
    """The largest relative half-width of the intervals of p10 and of its paired ratios to the
    bases'; None where one of them has too few trials.

    Args:
        p10_ns: by sitting and round; ``bases`` likewise.
    """
    widths = [estimates.half_width(np.array(list(p10_ns.values())))]
    for base_ns in bases:
        both = sorted(set(p10_ns) & set(base_ns))
        widths.append(estimates.half_width(np.array([p10_ns[k] / base_ns[k] for k in both])))
    known = [width for width in widths if width is not None]
    return max(known) if len(known) == len(widths) else None
