"""The rule between two cases: exact tests against SciPy's, and verdicts on planted changes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from qbench.analysis.statistics.verdict import (
    Decision,
    Rule,
    Verdict,
    adjusted,
    decide,
    paired_shift,
    stall_share,
)

RULE = Rule()


def until_decided(latency: np.ndarray, stalls: np.ndarray) -> Decision:
    for look in RULE.looks:
        decision = decide(latency[:look], stalls[:look], RULE)
        if decision.decided:
            return decision
    raise AssertionError("the last look decides")


def noise(seed: int, size: float) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, size, RULE.looks[-1])


NO_STALLS = np.zeros(RULE.looks[-1])


@pytest.mark.parametrize("rounds", [6, 10, 25, 40])
def test_value_and_interval_are_those_of_the_sign_test(rounds: int):
    for seed in range(20):
        values = np.random.default_rng(seed).normal(0.3, 1, rounds)
        shift = paired_shift(values)
        expected = stats.quantile_test(values, q=0, p=0.5)
        interval = expected.confidence_interval(0.95)
        assert shift.p_value == pytest.approx(expected.pvalue)
        assert (shift.low, shift.high) == (interval.low, interval.high)


def test_the_p_value_of_a_single_round():
    assert paired_shift(np.array([0.2])).p_value == 1


def test_six_rounds_are_the_fewest_with_an_interval():
    # of 2^5 ways to toss five coins, 2 are all of one side: more than 5 %
    assert paired_shift(np.arange(1.0, 6.0)).low is None
    six = paired_shift(np.arange(1.0, 7.0))
    assert (six.low, six.high) == (1.0, 6.0)


def test_no_difference_at_all_is_no_change():
    shift = paired_shift(np.zeros(6))
    assert (shift.value, shift.low, shift.high, shift.p_value) == (0, 0, 0, 1)
    decision = decide(np.zeros(6), np.zeros(6), RULE)
    assert decision.verdict is Verdict.NO_CHANGE and decision.decided


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        (0.03, Verdict.REGRESSION),
        (-0.03, Verdict.IMPROVEMENT),
        (0.0, Verdict.NO_CHANGE),
        (0.006, Verdict.NO_CHANGE),  # real, but below the guard
    ],
)
def test_the_verdict_on_a_quiet_machine(change: float, verdict: Verdict):
    for seed in range(20):
        decision = until_decided(noise(seed, 0.004) + change, NO_STALLS)
        assert decision.verdict is verdict
        assert decision.rounds <= RULE.looks[1]


def test_too_much_noise_is_inconclusive_and_no_change_is_not_claimed():
    decision = until_decided(noise(1, 0.3), NO_STALLS)
    assert decision.verdict is Verdict.INCONCLUSIVE
    assert decision.rounds == RULE.looks[-1]


def test_rare_disturbances_do_not_hide_a_change():
    """Every fifth round is off by 30 %, up or down: a t-test finds nothing."""
    for seed in range(10):
        values = noise(seed, 0.005) + 0.03
        values[::10] += 0.3
        values[5::10] -= 0.3
        assert stats.ttest_1samp(values[:20], 0).pvalue > RULE.level  # type: ignore[attr-defined]
        assert until_decided(values, NO_STALLS).verdict is Verdict.REGRESSION


def test_stalls_alone_are_a_regression():
    decision = until_decided(noise(2, 0.004), np.abs(noise(3, 0.01)) + 0.04)
    assert decision.verdict is Verdict.REGRESSION
    assert decision.because == ("stalls",)


def test_faster_but_with_stalls_is_a_regression():
    decision = until_decided(noise(2, 0.004) - 0.1, np.full(RULE.looks[-1], 0.05))
    assert decision.verdict is Verdict.REGRESSION
    assert decision.because == ("latency", "stalls")


def test_whatever_the_noise_is_equal_cases_seldom_pass_the_level():
    """All sequences of signs, each as likely as any other: the share that passes at some look."""
    ways, passed, rounds = {0: 1.0}, 0.0, 0  # by how often B was slower so far
    for look in RULE.looks:
        for _ in range(look - rounds):
            ways = {
                slower: (ways.get(slower, 0.0) + ways.get(slower - 1, 0.0)) / 2
                for slower in range(max(ways) + 2)
            }
        rounds = look
        for slower in list(ways):
            signs = np.where(np.arange(look) < slower, 1.0, -1.0)
            if paired_shift(signs).p_value < RULE.level:
                passed += ways.pop(slower)
    assert passed == pytest.approx(0.017, abs=0.001)
    assert passed + sum(ways.values()) == pytest.approx(1)


@pytest.mark.parametrize("size", [0.005, 0.02, 0.05])
def test_looking_often_raises_few_false_alarms(size: int):
    """Noise of a shared machine: one in three rounds is far off, and stalls come and go. At most
    2 % of comparisons may alarm; at that rate more than 12 of 300 alarm once in 100 times."""
    random = np.random.default_rng(7)
    alarms = 0
    for _ in range(300):
        latency = random.normal(0, size, 40) * np.where(random.random(40) < 0.3, 6, 1)
        stalls = random.normal(0, 0.03, 40)
        alarms += bool(until_decided(latency, stalls).because)
    assert alarms <= 12


def test_a_stall_is_slow_between_neighbours_that_are_not():
    calls = np.full(400, 1000.0)
    calls[::20] = 2000
    assert stall_share(calls) == pytest.approx(0.05)


def test_a_slow_stretch_is_no_stall():
    calls = np.full(400, 1000.0)
    calls[100:200] = 2000
    assert stall_share(calls) == 0


def test_few_calls_have_no_stalls():
    assert stall_share(np.array([1.0, 9.0, 1.0])) == 0


def test_adjusted_p_values_are_benjamini_and_hochbergs():
    # the example of their paper (JRSS B 1995, table 1), as adjusted values
    p_values = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240]
    p_values += [0.4262, 0.5719, 0.6528, 0.7590, 1.0000]
    assert int(np.sum(adjusted(p_values) <= 0.05)) == 4
