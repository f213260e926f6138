"""The Pareto front, compared with its definition and with properties of any front."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rows import case_row

from qbench.analysis.recommend.pareto import ACCURACY, FIDELITY, LATENCY, Respect, pareto
from qbench.spec.columns import CaseRow

BOTH = (LATENCY, ACCURACY)
SIZE = Respect("artifact_size_mb")


def case(ms: Any, accuracy: Any) -> CaseRow:
    """Each figure is one number (known exactly), three (with its interval), or None."""
    row: dict[str, Any] = {}
    for respect, given_ in ((LATENCY, ms), (ACCURACY, accuracy)):
        value, low, high = given_ if isinstance(given_, tuple) else (given_, given_, given_)
        row |= {respect.value: value, respect.low: low, respect.high: high}
    return case_row(**row)


def test_the_front_is_what_nothing_beats():
    cases = [case(1.0, 0.70), case(2.0, 0.80), case(3.0, 0.75), case(2.0, 0.60), case(4.0, 0.90)]
    assert pareto(cases, BOTH) == ["front", "front", "dominated", "dominated", "front"]


def test_equal_cases_do_not_beat_each_other():
    assert pareto([case(1.0, 0.7), case(1.0, 0.7)], BOTH) == ["front", "front"]


@pytest.mark.parametrize(
    ("slower", "place"),
    [
        (case((2.0, 1.9, 2.1), (0.69, 0.65, 0.73)), "dominated"),  # surely slower
        (case((1.05, 0.98, 1.12), (0.60, 0.56, 0.64)), "dominated"),  # surely less accurate
        (case((1.05, 0.98, 1.12), (0.69, 0.65, 0.73)), "undecided"),  # neither
        (case((9.0, None, None), (0.69, 0.65, 0.73)), "undecided"),  # no interval, no verdict
        (case((9.0, None, None), (0.30, 0.26, 0.34)), "dominated"),  # by its accuracy alone
        (case(None, 0.9), None),
        (case(1.0, None), None),
    ],
)
def test_only_what_intervals_part_is_called_dominated(slower, place):
    best = case((1.0, 0.95, 1.05), (0.70, 0.66, 0.74))
    assert pareto([best, slower], BOTH) == ["front", place]


def test_figures_without_intervals_are_exact():
    rows = [case_row(sqnr_db=db, artifact_size_mb=mb) for db, mb in [(40, 2), (30, 3), (50, 9)]]
    assert pareto(rows, (FIDELITY, SIZE)) == ["front", "dominated", "front"]
    assert pareto(rows, (SIZE,)) == ["front", "dominated", "dominated"]


def test_no_cases():
    assert pareto([], BOTH) == []
    assert pareto([case(None, None)], BOTH) == [None]


# Few numbers, so that they often agree.
numbers = st.integers(1, 9).map(float)
intervals = st.tuples(numbers, numbers, numbers).map(
    lambda three: (sorted(three)[1], sorted(three)[0], sorted(three)[2])
)
figures = st.one_of(st.none(), intervals, numbers.map(lambda value: (value, None, None)))
tables = st.lists(st.builds(case, figures, figures), max_size=12)


def bounds(row: CaseRow, respect: Respect) -> tuple[float, float]:
    low, high = getattr(row, respect.low), getattr(row, respect.high)
    return float("-inf") if low is None else low, float("inf") if high is None else high


@given(tables)
def test_it_is_what_its_definition_says(rows):
    places = pareto(rows, BOTH)
    known = [r for r in rows if r.latency_p50_ms is not None and r.accuracy is not None]

    def beats(a, b):
        x = (a.latency_p50_ms, -a.accuracy)
        y = (b.latency_p50_ms, -b.accuracy)
        return x != y and all(i <= j for i, j in zip(x, y, strict=True))

    def overlap(a, b):
        pairs = [(bounds(a, respect), bounds(b, respect)) for respect in BOTH]
        return all(x[0] <= y[1] and y[0] <= x[1] for x, y in pairs)

    front = [row for row in known if not any(beats(other, row) for other in known)]
    assert bool(front) == bool(known)
    for row, place in zip(rows, places, strict=True):
        if not any(row is one for one in known):
            assert place is None
        elif any(row is one for one in front):
            assert place == "front"
        else:
            near = any(overlap(row, one) for one in front)
            assert place == ("undecided" if near else "dominated")


@given(tables)
def test_a_dominated_case_is_surely_worse_than_one_that_is_nowhere_worse(rows):
    places = pareto(rows, BOTH)
    front = [row for row, place in zip(rows, places, strict=True) if place == "front"]
    for row, place in zip(rows, places, strict=True):
        if place == "dominated":
            assert any(
                one.latency_p50_ms <= row.latency_p50_ms
                and one.accuracy >= row.accuracy
                and (
                    bounds(one, LATENCY)[1] < bounds(row, LATENCY)[0]
                    or bounds(one, ACCURACY)[0] > bounds(row, ACCURACY)[1]
                )
                for one in front
            )


@given(tables, st.randoms())
def test_the_order_of_cases_does_not_matter(rows, random):
    order = list(range(len(rows)))
    random.shuffle(order)
    places = pareto(rows, BOTH)
    assert pareto([rows[i] for i in order], BOTH) == [places[i] for i in order]


@given(st.lists(st.builds(case, numbers, numbers), min_size=1, max_size=12))
def test_of_exact_figures_nothing_is_left_open(rows):
    assert "undecided" not in pareto(rows, BOTH)
