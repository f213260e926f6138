"""Which case of a model is the best, said only where the rounds' intervals allow it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from qbench.present.words import cells
from qbench.spec.suite import MIN_ROUNDS

SAME_WORK = ("model", "scenario", "scenario_options", "batch_size", "threads", "streams")
"""Cases are ranked that agree in these."""

Case = Mapping[str, Any]


class Measure(NamedTuple):
    """What cases are ranked by: a column with its title. ``most``: whether more is better. Without
    an interval nothing is ranked."""

    name: str
    title: str
    most: bool = False

    @property
    def ends(self) -> tuple[str, str] | None:
        """The columns of its interval."""
        return cells.INTERVALS.get(self.name)


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
    """What can be said of the cases of one model that were called in one way.

    Attributes:
        model: its name.
        conditions: the way it was called, where that has to be told.
        by: what the cases are ranked by.
        ranked: those that have it, the best first.
        near: those of the others whose interval meets the best's.
        reason: why this is no ranking; "" if it is one.
    """

    model: str
    conditions: str
    by: Measure
    ranked: list[Case]
    near: Sequence[Case] = ()
    reason: str = ""

    @property
    def best(self) -> Sequence[Case]:
        """The best case with those that cannot be told from it, if they are surely better than the
        rest, and are one backend's at one precision; else none: no name can be given."""
        best = [*self.ranked[:1], *self.near]
        alike = len({(case["backend"], case["precision"]) for case in best}) == 1
        return best if alike and not self.reason and len(best) < len(self.ranked) else ()

    @property
    def in_doubt(self) -> bool:
        """Whether something speaks against the figures that it rests on."""
        named = self.ranked[:1] + (list(self.near) or self.ranked[1:2])
        return any(_marks(case) for case in named)

    @property
    def lead(self) -> float | None:
        """How many times as good as the rest the very best is at the least: between the ends of
        the two intervals that face each other. None where there is no ``best``."""
        if not self.best or self.by.ends is None:
            return None
        low, high = self.by.ends
        rest = [case for case in self.ranked if case not in self.best]
        if self.by.most:
            return self.ranked[0][low] / max(case[high] for case in rest)
        return min(case[low] for case in rest) / self.ranked[0][high]


def verdicts(cases: Sequence[Case]) -> list[Verdict]:
    """One for every model and way of issuing calls.

    Args:
        cases: rows of one case table, each with its ``label``, and in ``condition`` what has to be
            told of the way it was called.
    """
    groups: dict[tuple[Any, ...], list[Case]] = {}
    for case in cases:
        groups.setdefault(tuple(case[key] for key in SAME_WORK), []).append(case)
    found = []
    for key, group in groups.items():
        good = [case for case in group if case["status"] == "ok"]
        if not good and len({other[1:] for other in groups}) > 1:
            continue  # a scenario that this model cannot do; "Not measured" says why
        by = MEASURES.get(str(key[1]), LATENCY)
        found.append(_verdict(str(key[0]), str(group[0]["condition"]), by, good))
    return found


def _verdict(model: str, conditions: str, by: Measure, good: Sequence[Case]) -> Verdict:
    known = [case for case in good if case[by.name] is not None]
    ranked = sorted(known, key=lambda case: case[by.name], reverse=by.most)
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
    if any(case[low] is None for case in ranked):
        fewest = min(case["rounds"] for case in ranked)
        words = "round is" if fewest == 1 else "rounds are"
        reason = f"{fewest} {words} too few to rank ({MIN_ROUNDS} are needed)"
        return replace(verdict, reason=reason)
    best = ranked[0]
    if by.most:
        near = [case for case in ranked[1:] if case[high] >= best[low]]
    else:
        near = [case for case in ranked[1:] if case[low] <= best[high]]
    return replace(verdict, near=near)


def sentence(verdict: Verdict) -> str:
    """What the figures allow to be said."""
    by, ranked = verdict.by, verdict.ranked
    if not ranked:
        return f"{verdict.reason}."
    best = ranked[0]
    if len(ranked) == 1:
        return f"{verdict.reason}, {_named(best, by)}."
    if verdict.reason:
        extreme = "highest" if by.most else "lowest"
        least = f"the {extreme} {'median' if by is LATENCY else by.title} is that of"
        return f"not ranked: {verdict.reason}; {least} {_named(best, by)}."
    named = [best, *(verdict.near or ranked[1:2])]
    rest = _doubtful([case for case in ranked if case not in named])
    if verdict.near:
        names = "; ".join(_named(case, by) for case in named)
        return f"within noise of each other: {names}{rest}."
    word = "fastest, by figures in doubt, is" if verdict.in_doubt else "fastest is"
    return f"{word} {_named(best, by)}; next is {_named(ranked[1], by)}{rest}."


def _doubtful(others: Sequence[Case]) -> str:
    """What has to be known of cases that are not named."""
    marks = Counter(mark for case in others for mark in _marks(case))
    if not marks:
        return ""
    told = ", ".join(f"{count} {mark}" for mark, count in marks.items())
    return f" (of the others: {told})"


def _marks(case: Case) -> list[str]:
    return [
        mark
        for mark, there in (
            ("noisy", case["noisy"]),
            ("inconclusive", case["inconclusive"]),
            ("not valid by LoadGen", case["loadgen_valid"] is False),
        )
        if there
    ]


def _named(case: Case, by: Measure) -> str:
    """A case with the figures that a reader weighs."""
    parts = [f"{by.title} {cells.said(case, by.name)}"]
    if case["accuracy"] is not None:
        parts.append(f"accuracy {cells.said(case, 'accuracy')}")
    elif case["sqnr_db"] is not None:
        parts.append(f"SQNR {cells.said(case, 'sqnr_db')}")
    return f"{case['label']}: {', '.join([*parts, *_marks(case)])}"
