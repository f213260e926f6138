"""Which case of a model is the fastest, said only where the rounds' intervals allow it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qbench.console import figure
from qbench.stats import MIN_ROUNDS

SAME_WORK = ("model", "scenario", "batch_size", "threads", "streams")
"""Latencies are ranked between cases that agree in these."""

Case = Mapping[str, Any]


def rankings(cases: Sequence[Case]) -> list[dict[str, str]]:
    """For every model and way of issuing calls: ``model``, ``conditions`` and a sentence, ``text``.

    Args:
        cases: rows of one case table, each with its ``label``.
    """
    groups: dict[tuple[Any, ...], list[Case]] = {}
    for case in cases:
        groups.setdefault(tuple(case[key] for key in SAME_WORK), []).append(case)
    several = len(groups) > len({case["model"] for case in cases})
    lines = []
    for key, group in groups.items():
        told = dict(zip(SAME_WORK[1:], key[1:], strict=True)) if several else {}
        lines.append(
            {
                "model": str(key[0]),
                "conditions": ", ".join(f"{n.removesuffix('_size')} {v}" for n, v in told.items()),
                "text": _sentence([case for case in group if case["status"] == "ok"]),
            }
        )
    return lines


def _sentence(good: Sequence[Case]) -> str:
    ranked = sorted(good, key=lambda case: case["latency_p50_ms"])
    if not ranked:
        return "no case was measured."
    best, others = ranked[0], ranked[1:]
    if not others:
        return f"only one case was measured, {_named(best)}."
    if any(case["latency_p50_low_ms"] is None for case in ranked):
        fewest = min(case["rounds"] for case in ranked)
        return (
            f"{fewest} {'round is' if fewest == 1 else 'rounds are'} too few to rank "
            f"({MIN_ROUNDS} are needed); "
            f"the lowest median is that of {_named(best)}."
        )
    near = [c for c in others if c["latency_p50_low_ms"] <= best["latency_p50_high_ms"]]
    if near:
        return f"within noise of each other: {'; '.join(_named(case) for case in [best, *near])}."
    return f"fastest is {_named(best)}; next is {_named(others[0])}."


def _named(case: Case) -> str:
    """A case with the figures that a reader weighs."""
    median = f"{figure(case['latency_p50_ms'])} ms"
    if case["latency_p50_low_ms"] is not None:
        ends = (case["latency_p50_low_ms"], case["latency_p50_high_ms"])
        median += f" ({' … '.join(figure(end) for end in ends)})"
    parts = [f"p50 {median}"]
    if case["accuracy"] is not None:
        parts.append(f"accuracy {100 * case['accuracy']:.1f} %")
    elif case["sqnr_db"] is not None:
        parts.append(f"SQNR {case['sqnr_db']:.0f} dB")
    if case["noisy"]:
        parts.append("noisy")
    return f"{case['label']}: {', '.join(parts)}"
