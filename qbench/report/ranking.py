"""Which case of a model is the best, said only where the rounds' intervals allow it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from qbench.console import figure
from qbench.stats import MIN_ROUNDS

SAME_WORK = ("model", "scenario", "scenario_options", "batch_size", "threads", "streams")
"""Cases are ranked that agree in these."""

Case = Mapping[str, Any]


class Measure(NamedTuple):
    """What cases are ranked by. ``low`` and ``high``: the columns of its interval, or "" where
    there is none, and then nothing is ranked. ``most``: whether more is better."""

    name: str
    title: str
    unit: str
    low: str = ""
    high: str = ""
    most: bool = False


LATENCY = Measure("latency_p50_ms", "p50", "ms", "latency_p50_low_ms", "latency_p50_high_ms")
RATE = Measure(
    "throughput_ips", "throughput", "items/s", "throughput_ips_low", "throughput_ips_high", True
)
MEASURES = {
    "offline": RATE,
    "mlperf-offline": RATE,
    "sustained": Measure("sustained_p50_ms", "sustained p50", "ms"),
    "mlperf-server": Measure("loadgen_qps", "rate", "queries/s", most=True),
}
"""By scenario, where it is not the latency."""


def rankings(cases: Sequence[Case]) -> list[dict[str, str]]:
    """For every model and way of issuing calls: ``model``, ``conditions`` and a sentence, ``text``.

    Args:
        cases: rows of one case table, each with its ``label``, and in ``condition`` what has to be
            told of the way it was called.
    """
    groups: dict[tuple[Any, ...], list[Case]] = {}
    for case in cases:
        groups.setdefault(tuple(case[key] for key in SAME_WORK), []).append(case)
    lines = []
    for key, group in groups.items():
        good = [case for case in group if case["status"] == "ok"]
        if not good and len({other[1:] for other in groups}) > 1:
            continue  # a scenario that this model cannot do; "Not measured" says why
        by = MEASURES.get(str(key[1]), LATENCY)
        conditions = str(group[0]["condition"])
        lines.append({"model": str(key[0]), "conditions": conditions, "text": _sentence(good, by)})
    return lines


def _sentence(good: Sequence[Case], by: Measure) -> str:
    if not good:
        return "no case was measured."
    known = [case for case in good if case[by.name] is not None]
    if not known:
        return f"no case has a {by.title}."
    ranked = sorted(known, key=lambda case: case[by.name], reverse=by.most)
    best, others = ranked[0], ranked[1:]
    if not others:
        return f"only one case was measured, {_named(best, by)}."
    extreme = "highest" if by.most else "lowest"
    least = f"the {extreme} {'median' if by is LATENCY else by.title} is that of"
    if not by.low:
        return f"{by.title} has no interval, so this is no ranking; {least} {_named(best, by)}."
    if any(case[by.low] is None for case in ranked):
        fewest = min(case["rounds"] for case in ranked)
        return (
            f"{fewest} {'round is' if fewest == 1 else 'rounds are'} too few to rank "
            f"({MIN_ROUNDS} are needed); {least} {_named(best, by)}."
        )
    if by.most:
        near = [c for c in others if c[by.high] >= best[by.low]]
    else:
        near = [c for c in others if c[by.low] <= best[by.high]]
    named = [best, *(near or others[:1])]
    rest = _doubtful([case for case in ranked if case not in named])
    if near:
        names = "; ".join(_named(case, by) for case in named)
        return f"within noise of each other: {names}{rest}."
    sure = not any(_marks(case) for case in named)
    verdict = "fastest is" if sure else "fastest, by figures in doubt, is"
    return f"{verdict} {_named(best, by)}; next is {_named(others[0], by)}{rest}."


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
    value = f"{figure(case[by.name])} {by.unit}"
    if by.low and case[by.low] is not None:
        ends = (case[by.low], case[by.high])
        value += f" ({' … '.join(figure(end) for end in ends)})"
    parts = [f"{by.title} {value}"]
    if case["accuracy"] is not None:
        parts.append(f"accuracy {100 * case['accuracy']:.1f} %")
    elif case["sqnr_db"] is not None:
        parts.append(f"SQNR {case['sqnr_db']:.0f} dB")
    return f"{case['label']}: {', '.join([*parts, *_marks(case)])}"
