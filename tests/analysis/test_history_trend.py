"""Trends of made-up nights: levels, change points, and their context."""

from __future__ import annotations

import statistics
from datetime import datetime, timedelta, timezone
from math import exp

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qbench.analysis.history.point import Point
from qbench.analysis.history.trend import change_points, hampel, trends
from qbench.present.words.history import describe, fact_words

FIRST = datetime(2026, 1, 1, 2, 0, tzinfo=timezone.utc)
P50 = "latency_p50_ms"


def night(number: int, value: float | None, cpu: str | None = "a cpu", **fields) -> Point:
    known = {
        "case_id": "c1",
        "label": "net fake fp32",
        "run_id": f"run-{number:03d}",
        "host_id": "host-1",
        "facts": {"kernel": "6.1"},
        "metrics": {P50: value},
        **fields,
    }
    return Point(started=FIRST + timedelta(days=number), cpu_model=cpu, **known)


def noisy(levels: list[float], seed: int = 1, share: float = 0.01) -> list[float]:
    """Levels in ms with normal noise of one per cent."""
    rng = np.random.default_rng(seed)
    return [level * exp(rng.normal(0, share)) for level in levels]


def test_a_step_is_found_with_its_size_and_the_night():
    values = noisy([1.0] * 30 + [1.1] * 30)
    (trend,) = trends([night(n, v) for n, v in enumerate(values)], "p50")
    (change,) = trend.changes
    assert abs(change.at - 30) <= 1
    assert change.after / change.before == pytest.approx(1.1, rel=0.01)
    assert trend.levels[0] == pytest.approx(1.0, rel=0.01)
    assert trend.levels[-1] == pytest.approx(1.1, rel=0.01)


def test_changes_of_that_night_are_listed_and_others_not():
    values = noisy([1.0] * 30 + [1.3] * 30)

    def facts(number: int) -> dict[str, str]:
        found = {"kernel": "6.1", "packages.onnxruntime": "1.22" if number < 30 else "1.23"}
        found["microcode"] = "0x1" if number < 50 else "0x2"
        return found if number != 5 else {**found, "governor": "powersave"}

    points = [night(n, v, facts=facts(n)) for n, v in enumerate(values)]
    (trend,) = trends(points, "p50")
    (change,) = trend.changes
    (fact,) = change.facts
    assert (fact.name, fact.before, fact.after) == ("packages.onnxruntime", "1.22", "1.23")
    assert change.at + fact.nights == 30
    (told,) = describe(points, "p50")["series"][0]["changes"]
    assert told["word"] == "worse"
    assert told["change"] == pytest.approx(0.3, abs=0.02)
    assert fact_words(told["facts"][0]).startswith("packages.onnxruntime 1.22 → 1.23")


def test_a_new_machine_and_a_new_package_are_listed():
    values = noisy([1.0] * 20 + [0.8] * 20)
    points = [
        night(n, v, host_id="old" if n < 20 else "new", facts={} if n < 20 else {"packages.x": "1"})
        for n, v in enumerate(values)
    ]
    (trend,) = trends(points, "p50")
    told = {(f.name, f.before, f.after) for f in trend.changes[0].facts}
    assert told == {("host", "old", "new"), ("packages.x", None, "1")}
    assert describe(points, "p50")["series"][0]["changes"][0]["word"] == "better"


def test_a_fact_that_changes_every_night_is_listed_once():
    values = noisy([1.0] * 30 + [1.3] * 30)
    points = [night(n, v, facts={"commit": f"{n:07d}"}) for n, v in enumerate(values)]
    (trend,) = trends(points, "p50")
    (fact,) = trend.changes[0].facts
    at = trend.changes[0].at
    assert (fact.before, fact.after, fact.nights) == (f"{at - 1:07d}", f"{at:07d}", 0)


def test_processors_are_never_mixed():
    """Taken together, the nights of two machines by turns would be a step every night or two."""
    slow, fast = noisy([2.0] * 40, seed=1), noisy([1.0] * 40, seed=2)
    points = [night(2 * n, v, "slow cpu") for n, v in enumerate(slow)]
    points += [night(2 * n + 1, v, "fast cpu") for n, v in enumerate(fast)]
    found = trends(points, "p50")
    assert [trend.machine for trend in found] == ["fast cpu", "slow cpu"]  # the newest first
    assert [len(trend.points) for trend in found] == [40, 40]
    assert all(not trend.changes for trend in found)
    assert min(found[1].values) > max(found[0].values)


def test_hosts_stand_for_processors_that_are_not_known():
    points = [night(n, 1.0, None, host_id=f"host-{n % 2}") for n in range(6)]
    assert [len(trend.points) for trend in trends(points, "p50")] == [3, 3]


def test_energies_by_two_methods_are_two_series():
    points = [
        night(
            n, 1.0, metrics={"energy_mj_per_inference": 1.0}, facts={"energy_method": f"m{n % 2}"}
        )
        for n in range(6)
    ]
    found = trends(points, "energy")
    assert sorted(trend.machine for trend in found) == ["a cpu, m0", "a cpu, m1"]


def test_single_slow_nights_are_no_change():
    values = noisy([1.0] * 60)
    for disturbed in (7, 23, 24, 41):
        values[disturbed] *= 1.8
    (trend,) = trends([night(n, v) for n, v in enumerate(values)], "p50")
    assert not trend.changes
    assert trend.smoothed[[7, 23, 24, 41]].all()
    assert trend.smoothed.sum() <= 8


def test_sizes_have_no_noise_and_still_a_trend():
    sizes = [2.5] * 15 + [2.6] * 15
    points = [night(n, 1.0, metrics={"artifact_size_mb": v}) for n, v in enumerate(sizes)]
    (trend,) = trends(points, "size")
    assert [(c.at, c.before, c.after) for c in trend.changes] == [(15, 2.5, 2.6)]


def test_accuracy_changes_by_points():
    shares = [0.91] * 15 + [0.89] * 15
    points = [night(n, 1.0, metrics={"accuracy": v}) for n, v in enumerate(shares)]
    (change,) = describe(points, "accuracy")["series"][0]["changes"]
    assert change["change"] == pytest.approx(-0.02)
    assert change["word"] == "worse"


def test_nights_without_the_figure_are_counted_apart():
    points = [night(n, 1.0) for n in range(3)]
    points.append(night(3, None, metrics={}, status="crashed"))
    points.append(night(4, 0.0))  # none that has a logarithm
    (trend,) = trends(points, "p50")
    assert [p.run_id for p in trend.points] == ["run-000", "run-001", "run-002"]
    assert [p.status for p in trend.missing] == ["crashed", "ok"]


@pytest.mark.parametrize("nights", [0, 1, 2, 3, 9, 10])
def test_short_series(nights: int):
    points = [night(n, 1.0 + n % 2) for n in range(nights)]
    found = trends(points, "p50")
    assert len(found) == (1 if nights else 0)
    assert all(len(trend.levels) == nights for trend in found)


def test_the_change_over_the_last_nights():
    values = [1.0, 1.0, 1.0, 5.0, 5.0, 5.0, 5.0, 2.0, 2.0, 2.0]
    (trend,) = trends([night(n, v) for n, v in enumerate(values)], "p50")
    assert trend.recent(7) == pytest.approx(1.0)  # from 1 to 2
    assert trend.recent(8) is None


# --------------------------------------------------------------------------- statistics

FLOATS = st.floats(-100, 100).map(lambda value: round(value, 3))


@given(st.lists(FLOATS, max_size=40))
def test_hampel_is_its_definition(values: list[float]):
    """Against the definition, written out with the standard library."""
    found = hampel(np.array(values))
    assert len(found) == len(values)
    for index, value in enumerate(values):
        window = values[max(0, index - 5) : index + 6]
        middle = statistics.median(window)
        spread = 1.4826 * statistics.median(abs(other - middle) for other in window)
        limit = 3 * max(spread, 1e-3)
        if abs(abs(value - middle) - limit) > 1e-9:  # on the edge, rounding decides
            assert found[index] == (abs(value - middle) > limit)


@given(st.lists(st.floats(-1, 1), min_size=10, max_size=40))
def test_cuts_lie_inside_and_in_order(values: list[float]):
    cuts = change_points(np.array(values))
    assert cuts == sorted(set(cuts))
    assert all(4 <= cut <= len(values) - 4 for cut in cuts)


def test_noise_alone_seldom_changes_level():
    """At a penalty of 4 ln n; the benchmark counts on heavy tails."""
    rng = np.random.default_rng(0)
    alarms = sum(bool(change_points(rng.normal(0, 0.01, 90))) for _ in range(100))
    assert alarms <= 20
