"""Find the nearest values of each limit at which another configuration comes first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from qbench.analysis.recommend.ranking import Choice, against
from qbench.spec.question import Limit, Question


@dataclass(frozen=True)
class Change:
    """A value of one limit at which the answer changes.

    Attributes:
        limit: the limit that is changed, with all others unchanged.
        direction: ``stricter``: the answer changes for limits stricter than ``value``; ``looser``:
            for ``value`` itself and looser ones.
        value: in the limit's unit.
        choice: the new first configuration; None: none certainly keeps the limits.
        against: its objective relative to that of the current first, as a share more or less; None
            without a current first, or if the two must not be compared.
        apart: whether the intervals of the two objectives are separate.
    """

    limit: Limit
    direction: Literal["stricter", "looser"]
    value: float
    choice: Choice | None
    against: float | None
    apart: bool


def changes_of(
    sure: Sequence[Choice], choices: Sequence[Choice], question: Question
) -> list[Change]:
    """Find, for each limit, the nearest stricter and looser value at which another comes first."""
    first = sure[0] if sure else None
    if first is not None and first.pool is None:
        return []  # none of them has the objective's figure
    rivals = [c for c in choices if c.is_measured and c.candidate.row.loadgen_valid is not False]
    found: list[Change] = []
    for place, limit in enumerate(question.limits):
        if first is not None and (stricter := _stricter(sure, first, place, limit)):
            found.append(stricter)
        if looser := _looser(rivals, first, place, limit):
            found.append(looser)
    return found


def _stricter(sure: Sequence[Choice], first: Choice, place: int, limit: Limit) -> Change | None:
    """Find the value at which the first no longer certainly keeps the limit."""
    worst = first.held[place].worst
    assert worst is not None  # it is sure
    if worst <= 0 or (limit.of.unit == "%" and worst >= 100):
        return None  # no stricter limit is possible
    left = [c for c in sure if _stays_within(c.held[place].worst, worst, limit)]
    return _change(limit, "stricter", worst, left[0] if left else None, first)


def _stays_within(worst: float | None, value: float, limit: Limit) -> bool:
    """Whether it certainly keeps a limit slightly stricter than ``value``."""
    assert worst is not None
    return worst > value if limit.of.least else worst < value


def _looser(
    rivals: Sequence[Choice], first: Choice | None, place: int, limit: Limit
) -> Change | None:
    """Find the value at which one that keeps all other limits comes before the first."""
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
    if choice is None or first is None or choice.pool is None or choice.pool != first.pool:
        return Change(limit, direction, value, choice, None, False)
    apart, more = against(choice, first)
    return Change(limit, direction, value, choice, more[0] if more else None, apart)
