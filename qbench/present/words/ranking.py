"""The best case of a model, named only if the intervals allow it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from qbench.present.words.cells import format_cell
from qbench.present.words.named import PageCase
from qbench.spec.columns import INTERVALS
from qbench.spec.suite import MIN_ROUNDS
from qbench.text import count

SAME_WORK = ("model", "scenario", "scenario_options", "batch_size", "threads", "streams")
"""Cases are ranked with others that agree in these."""


class Measure(NamedTuple):
    """The figure that cases are ranked by: a column, its title, and whether more is better. Only
    figures with an interval are ranked."""

    name: str
    title: str
    most: bool = False

    @property
    def ends(self) -> tuple[str, str] | None:
        """The columns of its interval."""
        return INTERVALS.get(self.name)


LATENCY = Measure("latency_p50_ms", "p50")
RATE = Measure("throughput_ips", "throughput", True)
MEASURES = {
    "offline": RATE,
    "mlperf-offline": RATE,
    "sustained": Measure("sustained_p50_ms", "sustained p50"),
    "mlperf-server": Measure("loadgen_qps", "rate", True),
}
"""By scenario, where it is not the latency."""


@dataclass(frozen=True)
class Verdict:
    """The ranking of the cases of one model that were called in one way.

    Attributes:
        model: its name.
        conditions: the way it was called, if ways differ.
        by: the figure that the cases are ranked by.
        ranked: cases that have the figure, the best first.
        near: the others whose interval overlaps that of the best.
        reason: why there is no ranking; "" if there is one.
    """

    model: str
    conditions: str
    by: Measure
    ranked: list[PageCase]
    near: Sequence[PageCase] = ()
    reason: str = ""

    @property
    def best(self) -> Sequence[PageCase]:
        """The best case and those within noise of it, if they are surely better than the others and
        share backend and precision; else empty."""
        best = [*self.ranked[:1], *self.near]
        alike = len({(case.backend, case.precision) for case in best}) == 1
        return best if alike and not self.reason and len(best) < len(self.ranked) else ()

    @property
    def in_doubt(self) -> bool:
        """Whether the figures that decide are in doubt."""
        named = self.ranked[:1] + (list(self.near) or self.ranked[1:2])
        return any(_marks(case) for case in named)

    @property
    def lead(self) -> float | None:
        """Lower bound of the ratio of the best case to the others: between the facing ends of the
        two intervals. None without ``best``."""
        if not self.best or self.by.ends is None:
            return None
        low, high = self.by.ends
        rest = [case for case in self.ranked if case not in self.best]
        if self.by.most:
            return getattr(self.ranked[0], low) / max(getattr(case, high) for case in rest)
        return min(getattr(case, low) for case in rest) / getattr(self.ranked[0], high)


def verdicts(cases: Sequence[PageCase]) -> list[Verdict]:
    """One for every model and way of issuing calls.

    Args:
        cases: of one run.
    """
    groups: dict[tuple[Any, ...], list[PageCase]] = {}
    for case in cases:
        groups.setdefault(tuple(getattr(case, key) for key in SAME_WORK), []).append(case)
    found = []
    for key, group in groups.items():
        good = [case for case in group if case.status == "ok"]
        if not good and len({other[1:] for other in groups}) > 1:
            continue  # a scenario that this model cannot run; "Not measured" gives the reason
        by = MEASURES.get(str(key[1]), LATENCY)
        found.append(_verdict(str(key[0]), group[0].condition, by, good))
    return found


def _verdict(model: str, conditions: str, by: Measure, good: Sequence[PageCase]) -> Verdict:
    known = [case for case in good if getattr(case, by.name) is not None]
    ranked = sorted(known, key=lambda case: getattr(case, by.name), reverse=by.most)
    verdict = Verdict(model, conditions, by, ranked)
    if not ranked:
        return replace(
            verdict, reason=f"no case has a {by.title}" if good else "no case was measured"
        )
    if len(ranked) == 1:
        return replace(verdict, reason="only one case was measured")
    if by.ends is None:
        return replace(verdict, reason=f"{by.title} has no interval")
    low, high = by.ends
    if any(getattr(case, low) is None for case in ranked):
        fewest = count(min(case.rounds for case in ranked), "round is", "rounds are")
        return replace(verdict, reason=f"{fewest} too few to rank ({MIN_ROUNDS} are needed)")
    best = ranked[0]
    if by.most:
        near = [case for case in ranked[1:] if getattr(case, high) >= getattr(best, low)]
    else:
        near = [case for case in ranked[1:] if getattr(case, low) <= getattr(best, high)]
    return replace(verdict, near=near)


def sentence(verdict: Verdict) -> str:
    """The verdict as a sentence."""
    by, ranked = verdict.by, verdict.ranked
    if not ranked:
        return f"{verdict.reason}."
    best = ranked[0]
    if len(ranked) == 1:
        return f"{verdict.reason}, {_named(best, by)}."
    if verdict.reason:
        extreme = "highest" if by.most else "lowest"
        figure = "median" if by is LATENCY else by.title
        return f"not ranked: {verdict.reason}; the {extreme} {figure} is of {_named(best, by)}."
    named = [best, *(verdict.near or ranked[1:2])]
    rest = _doubtful([case for case in ranked if case not in named])
    if verdict.near:
        names = "; ".join(_named(case, by) for case in named)
        return f"within noise of each other: {names}{rest}."
    word = "fastest, by figures in doubt, is" if verdict.in_doubt else "fastest is"
    return f"{word} {_named(best, by)}; next is {_named(ranked[1], by)}{rest}."


def _doubtful(others: Sequence[PageCase]) -> str:
    """Doubts about cases that the sentence does not name."""
    marks = Counter(mark for case in others for mark in _marks(case))
    if not marks:
        return ""
    listed = ", ".join(f"{number} {mark}" for mark, number in marks.items())
    return f" (of the others: {listed})"


def _marks(case: PageCase) -> list[str]:
    return [
        mark
        for mark, there in (
            ("noisy", case.noisy),
            ("inconclusive", case.inconclusive),
            ("not valid by LoadGen", case.loadgen_valid is False),
        )
        if there
    ]


def _named(case: PageCase, by: Measure) -> str:
    """A case with its deciding figure and its accuracy."""
    parts = [f"{by.title} {format_cell(case, by.name)}"]
    if case.accuracy is not None:
        parts.append(f"accuracy {format_cell(case, 'accuracy')}")
    elif case.sqnr_db is not None:
        parts.append(f"SQNR {format_cell(case, 'sqnr_db')}")
    return f"{case.label}: {', '.join([*parts, *_marks(case)])}"
