"""Find cases that are slower than their baseline, or worse in another figure.

The decision has two stages. In the night's trials a case is *suspicious* if its 95 % interval
excludes zero and the change reaches the threshold. It is a regression if new trials make it
suspicious again, and if its combined p-value (Fisher's method; cases measured once count as p = 1)
*stands* after Benjamini & Hochberg's correction over all cases. Correcting the p-values of the
night's trials alone would miss most single slow cases among a hundred:
``tests/benchmarks/nights.py`` measures both.

Figures that do not vary between trials (accuracy, size) need no second stage. A low percentile of
latency does not show calls that stall occasionally, so the share of stalls has a rule of its own.
"""

# pyright: reportUnknownMemberType=false, reportMissingTypeStubs=false

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from qbench.analysis.compare.compare import Delta, Pair, Ratio
from qbench.analysis.gate.baselines import Against
from qbench.analysis.gate.findings import MEASURED, Figure, Finding, Night
from qbench.analysis.statistics.verdict import Shift, adjusted
from qbench.spec.gate import GateSettings, Kind

LEAST_GROWN_MB = 2.0
"""Minimum growth of memory that counts."""


@dataclass(frozen=True)
class Tested:
    """One figure of one case against one baseline.

    Attributes:
        p_value: unadjusted; see ``figure.adjusted_p``.
        suspicious: its interval excludes zero, and its size is at least the threshold.
        stands: its adjusted p-value is at most q, or it has none.
    """

    pair: Pair
    against: Against
    kind: Kind
    figure: Figure
    p_value: float | None
    suspicious: bool
    stands: bool


@dataclass(frozen=True)
class _Rule:
    """Source, threshold and wording of one kind of figure."""

    figure: Callable[[Pair], tuple[Figure, float | None] | None]
    threshold: Callable[[GateSettings, bool], float | None]
    words: Callable[[Pair, Figure], str]


def look_at(
    against: Against, settings: GateSettings, only: Collection[tuple[str, Kind]] | None = None
) -> list[Tested]:
    """Test every figure of every case against a baseline.

    Args:
        only: the case ids and kinds of figures to test; None: all.
    """
    found: list[Tested] = []
    for kind, rule in RULES.items():
        threshold = rule.threshold(settings, against.paired)
        if threshold is None or (kind in MEASURED and not against.same_machine):
            continue
        rows = [
            (pair, *figure)
            for pair in against.pairs
            if (only is None or (pair.b.case_id, kind) in only)
            and (figure := rule.figure(pair)) is not None
        ]
        adjusted_ps = adjusted_twice([p_value for _, _, p_value in rows])
        found += [
            Tested(
                pair,
                against,
                kind,
                replace(figure, adjusted_p=adjusted_p),
                p_value,
                is_suspicious(figure, threshold),
                adjusted_p is None or adjusted_p <= settings.q,
            )
            for (pair, figure, p_value), adjusted_p in zip(rows, adjusted_ps, strict=True)
        ]
    return found


def is_suspicious(figure: Figure, threshold: float) -> bool:
    """Whether its interval excludes zero, and it is at least the threshold."""
    return figure.low is not None and figure.low > 0 and figure.value >= threshold


def adjusted_twice(
    first: Sequence[float | None], again: Mapping[int, float | None] | None = None
) -> list[float | None]:
    """Adjust the p-values of one figure of all cases (Benjamini & Hochberg).

    Args:
        first: p-values of the run; None without a test, as for a size: left out.
        again: p-values of the confirming run, by index in ``first``, combined with the first by
            Fisher's method. Cases measured once count as 1: only suspicious cases are measured
            again, and that selection must not increase significance. None: no confirming run.
    """
    known = {place: p_value for place, p_value in enumerate(first) if p_value is not None}
    if again is not None:
        known = {place: _fisher(p_value, again.get(place)) for place, p_value in known.items()}
    values = iter(adjusted(list(known.values())).tolist() if known else [])
    return [next(values) if place in known else None for place in range(len(first))]


def _fisher(first: float, again: float | None) -> float:
    """Combine two independent p-values (Fisher, Statistical Methods for Research Workers, 21.1)."""
    from scipy import stats

    if again is None:
        return 1.0
    _, p_value = stats.combine_pvalues([first, again], method="fisher")
    return float(p_value)  # type: ignore[arg-type]


def worse(night: Night, tested: Sequence[Tested]) -> Iterator[Finding]:
    """Yield worse figures: suspicions of measured ones, which noise can cause, else regressions."""
    for one in tested:
        if one.suspicious and (one.kind in MEASURED or one.stands):
            row = one.pair.b
            severity = "suspicion" if one.kind in MEASURED else "regression"
            says = RULES[one.kind].words(one.pair, one.figure) + f", against {one.against.where}"
            versions = row.backend_version, one.pair.a.backend_version
            if None not in versions and versions[0] != versions[1]:
                says += f"; {row.backend} is {versions[0]} here, and {versions[1]} there"
            if one.pair.claim == "same work":
                says += f" (not the same artifact: {', '.join(one.pair.differs)})"
            yield night.finding(
                row,
                one.kind,
                severity,
                says,
                against=one.against.name,
                counterpart=one.pair.a.case_id if one.against.paired else None,
                figure=one.figure,
            )


# --------------------------------------------------------------------------- figures


def _growth(ratio: Ratio | None) -> tuple[Figure, float | None] | None:
    if ratio is None:
        return None
    low, high = (None if end is None else end - 1 for end in (ratio.low, ratio.high))
    return Figure(ratio.value - 1, low, high, rounds=ratio.rounds or None), ratio.p_value


def _memory(pair: Pair) -> tuple[Figure, float | None] | None:
    """Growth below ``LEAST_GROWN_MB`` depends on how the page cache holds a library's pages, which
    differs between installations of the same version."""
    before, after = pair.a.memory_peak_mb, pair.b.memory_peak_mb
    if before is None or after is None or after - before < LEAST_GROWN_MB:
        return None
    return _growth(pair.memory)


def _size(pair: Pair) -> tuple[Figure, float | None] | None:
    """Growth of an artifact; sizes do not vary, so the interval is the value."""
    if pair.size is None:
        return None
    growth = pair.size.value - 1
    return Figure(growth, growth, growth), None


def _stalls(shift: Shift | None, pair: Pair) -> tuple[Figure, float | None] | None:
    if shift is None:
        return None
    rounds = pair.decision.rounds if pair.decision else None
    return Figure(shift.value, shift.low, shift.high, rounds=rounds), shift.p_value


def _lost(delta: Delta | None) -> tuple[Figure, float | None] | None:
    if delta is None:
        return None
    low = None if delta.high is None else -delta.high
    high = None if delta.low is None else -delta.low
    return Figure(-delta.value, low, high), delta.p_value


def _percent(figure: Figure, more: str) -> str:
    """``3.1 % more (2.5 to 3.8 %; 20 rounds, p 0.0004)``"""
    notes: list[str] = []
    if figure.low is not None and figure.high is not None and figure.low != figure.high:
        notes.append(f"{100 * figure.low:.1f} to {100 * figure.high:.1f} %")
    rounds = [f"{figure.rounds} rounds"] if figure.rounds else []
    p_value = [] if figure.adjusted_p is None else [f"adjusted p {figure.adjusted_p:.2g}"]
    notes += [", ".join(rounds + p_value)] if rounds or p_value else []
    return f"{100 * figure.value:.1f} % {more}" + (f" ({'; '.join(notes)})" if notes else "")


def _points(figure: Figure) -> str:
    """``1.5 points (0.6 to 2.4)``"""
    shown = f"{100 * figure.value:.2f} points"
    if figure.low is not None and figure.high is not None:
        shown += f" ({100 * figure.low:.2f} to {100 * figure.high:.2f})"
    return shown


def _slowdown_guard(settings: GateSettings, paired: bool) -> float | None:
    return settings.slowdown if paired else settings.unpaired_slowdown


def _accuracy_guard(settings: GateSettings, paired: bool) -> float | None:
    points = settings.accuracy_drop_points
    return None if points is None else points / 100


RULES: Mapping[Kind, _Rule] = {
    "slower": _Rule(
        lambda pair: _growth(pair.latency),
        _slowdown_guard,
        lambda pair, figure: f"{pair.percentile} of its latency is {_percent(figure, 'higher')}",
    ),
    "stalls": _Rule(
        lambda pair: _stalls(pair.stalls, pair),
        lambda settings, _: settings.stalls,
        lambda _, figure: f"{_percent(figure, 'more of its calls stall')}",
    ),
    "accuracy": _Rule(
        lambda pair: _lost(pair.accuracy_delta),
        _accuracy_guard,
        lambda pair, figure: f"{pair.b.accuracy_metric} is lower by {_points(figure)}",
    ),
    "memory": _Rule(
        _memory,
        lambda settings, _: settings.memory_growth,
        lambda _, figure: f"its peak of memory is {_percent(figure, 'higher')}",
    ),
    "size": _Rule(
        _size,
        lambda settings, _: settings.size_growth,
        lambda _, figure: f"its artifact is {_percent(figure, 'larger')}",
    ),
    "start_up": _Rule(
        lambda pair: _growth(pair.load),
        lambda settings, _: settings.start_growth,
        lambda _, figure: f"loading and compiling takes {_percent(figure, 'longer')}",
    ),
}
