"""qbench.analysis.statistics.estimates: published values, values worked out by hand, and
properties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qbench.analysis.statistics import estimates

positive = st.floats(1e-3, 1e12)
trials = st.lists(positive, min_size=1, max_size=20).map(np.asarray)
several = st.lists(positive, min_size=6, max_size=20).map(np.asarray)


# --------------------------------------------------------------------------- means of trials


def test_a_geometric_mean_by_hand():
    assert estimates.geometric_mean(np.array([2.0, 8.0])) == (pytest.approx(4.0), None, None)


def test_an_interval_by_hand():
    """Six logarithms 0, 0, 0, 1, 1, 1: mean 1/2, standard deviation sqrt(6 / 4 / 5); Student's t
    with 5 degrees of freedom has its 97.5 % point at 2.570582 (tables, e.g. NIST 1.3.6.7.2)."""
    estimate = estimates.geometric_mean(np.exp([0.0, 0.0, 0.0, 1.0, 1.0, 1.0]))
    half = 2.570582 * math.sqrt(0.3) / math.sqrt(6)
    assert estimate.value == pytest.approx(math.exp(0.5))
    assert estimate.low == pytest.approx(math.exp(0.5 - half), rel=1e-6)
    assert estimate.high == pytest.approx(math.exp(0.5 + half), rel=1e-6)


@pytest.mark.parametrize("count", range(1, 9))
def test_there_is_no_interval_below_six_trials(count: int):
    estimate = estimates.geometric_mean(np.arange(1.0, count + 1))
    assert (estimate.low is None) == (estimate.high is None) == (count < 6)


@given(trials)
def test_a_mean_lies_among_its_values_and_within_its_interval(values: np.ndarray):
    mean, low, high = estimates.geometric_mean(values)
    assert values.min() * (1 - 1e-9) <= mean <= values.max() * (1 + 1e-9)
    if low is not None and high is not None:
        assert low <= mean * (1 + 1e-12) and mean <= high * (1 + 1e-12)


@given(several, st.floats(1e-3, 1e3), st.randoms())
def test_a_mean_follows_the_unit_and_ignores_the_order(values: np.ndarray, factor: float, random):
    shuffled = values.tolist()
    random.shuffle(shuffled)
    scaled = estimates.geometric_mean(np.asarray(shuffled) * factor)
    for one, other in zip(scaled, estimates.geometric_mean(values), strict=True):
        assert one == pytest.approx(other * factor, rel=1e-6)


def test_an_arithmetic_mean_by_hand():
    """Of values on both sides of 0, with the same standard deviation as above."""
    estimate = estimates.mean(np.array([-0.6, -0.6, -0.6, 0.4, 0.4, 0.4]))
    half = 2.570582 * math.sqrt(0.3) / math.sqrt(6)
    assert estimate == pytest.approx((-0.1, -0.1 - half, -0.1 + half), rel=1e-6)
    assert estimates.mean(np.array([2.0, -8.0])) == (-3.0, None, None)


def test_equal_trials_have_an_interval_without_width():
    assert estimates.geometric_mean(np.full(6, 7.0)) == pytest.approx((7.0, 7.0, 7.0))


@given(
    st.integers(1, 20).flatmap(
        lambda n: st.tuples(*2 * [st.lists(positive, min_size=n, max_size=n)])
    )
)
def test_a_paired_ratio_is_what_a_reader_gets_by_dividing(pair: tuple[list[float], list[float]]):
    base, other = np.asarray(pair[0]), np.asarray(pair[1])
    ratio = estimates.paired_ratio(base, other)
    quotient = estimates.geometric_mean(base).value / estimates.geometric_mean(other).value
    assert ratio.value == pytest.approx(quotient, rel=1e-9)
    inverse = estimates.paired_ratio(other, base)
    assert inverse.value == pytest.approx(1 / ratio.value)
    if ratio.low is not None and ratio.high is not None:
        assert inverse.low == pytest.approx(1 / ratio.high, rel=1e-6)
        assert inverse.high == pytest.approx(1 / ratio.low, rel=1e-6)


def test_pairing_takes_out_what_a_round_does_to_both():
    drift = np.array([1.0, 1.5, 0.7, 2.0, 1.1, 0.9])
    ratio = estimates.paired_ratio(30 * drift, 10 * drift)
    assert ratio == pytest.approx((3.0, 3.0, 3.0))
    apart = estimates.geometric_mean(30 * drift)
    assert apart.low is not None and apart.low < 29


def test_the_interval_holds_the_true_value_95_times_in_100():
    """2000 runs of 10 trials, normal on the logarithmic scale: a binomial standard error of
    0.5 %, so that 93 to 97 % is four of them to each side."""
    rng = np.random.default_rng(20261122)
    held = 0
    for _ in range(2000):
        _, low, high = estimates.geometric_mean(np.exp(rng.normal(1.0, 0.05, 10)))
        assert low is not None and high is not None
        held += low <= math.e <= high
    assert 0.93 <= held / 2000 <= 0.97


# --------------------------------------------------------------------------- proportions

NEWCOMBE = {  # Newcombe, Statistics in Medicine 17 (1998) 857, table I, method 3
    (81, 263): (0.2553, 0.3662),
    (15, 148): (0.0624, 0.1605),
    (0, 20): (0.0000, 0.1611),
    (1, 29): (0.0061, 0.1718),
}


@pytest.mark.parametrize("counts", NEWCOMBE)
def test_wilsons_interval_as_published(counts: tuple[int, int]):
    estimate = estimates.wilson(*counts)
    assert estimate.value == counts[0] / counts[1]
    assert (estimate.low, estimate.high) == pytest.approx(NEWCOMBE[counts], abs=5e-5)


def booleans(both: int, gained: int, lost: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """``other, base`` with these counts."""
    cells = [(True, True)] * both + [(True, False)] * gained
    cells += [(False, True)] * lost + [(False, False)] * neither
    table = np.array(cells, dtype=bool).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def test_a_paired_difference_by_hand():
    """Agresti's approval ratings (Categorical Data Analysis, section 10.1): 794 approved twice,
    150 only at first, 86 only later, 570 never. By hand, with a half in each cell: n = 1602,
    (86.5 - 150.5) / n = -0.039950; variance (237 - 64^2 / n) / n^2 = 9.1352e-5."""
    estimate = estimates.paired_difference(*booleans(794, 86, 150, 570))
    assert estimate.value == -64 / 1600
    half = 1.959964 * math.sqrt(9.1352e-5)
    assert estimate.low == pytest.approx(-0.039950 - half, abs=2e-6)
    assert estimate.high == pytest.approx(-0.039950 + half, abs=2e-6)
    # Wald's own interval, as published there: (-0.059, -0.021)
    assert (estimate.low, estimate.high) == pytest.approx((-0.059, -0.021), abs=1e-3)


cells = st.tuples(*4 * [st.integers(0, 60)]).filter(any)


@given(cells)
@example((0, 10, 0, 0))
@example((0, 0, 1, 0))
def test_a_paired_difference_is_contained_mirrored_and_bounded(counts: tuple[int, int, int, int]):
    other, base = booleans(*counts)
    value, low, high = estimates.paired_difference(other, base)
    assert value == pytest.approx(other.mean() - base.mean())
    assert low is not None and high is not None
    assert -1 <= low <= value <= high <= 1
    back = estimates.paired_difference(base, other)
    assert back == pytest.approx((-value, -high, -low))


def test_outputs_that_never_differ_still_leave_a_doubt():
    _, low, high = estimates.paired_difference(*booleans(40, 0, 0, 0))
    assert low is not None and high is not None
    assert low == -high and 0 < high < 0.06
    wider = estimates.paired_difference(*booleans(10, 0, 0, 0))
    assert wider.high is not None and wider.high > high


# --------------------------------------------------------------------------- pairs of items


def test_mcnemars_exact_test_as_published():
    """Fagerland, Lydersen & Laake, BMC Medical Research Methodology 13 (2013) 91, table 1: airway
    hyper-responsiveness before and after; 1 and 7 changed, the exact p is 0.0703."""
    assert estimates.mcnemar(*booleans(1, 7, 1, 12)) == pytest.approx(0.0703, abs=5e-5)
    assert estimates.mcnemar(*booleans(5, 0, 0, 5)) == 1
    assert estimates.mcnemar(*booleans(9, 0, 6, 2)) == pytest.approx(2 * 0.5**6)


@given(cells)
def test_mcnemars_p_is_a_probability_and_knows_no_side(counts: tuple[int, int, int, int]):
    other, base = booleans(*counts)
    p = estimates.mcnemar(other, base)
    assert 0 < p <= 1
    assert estimates.mcnemar(base, other) == pytest.approx(p)


def test_items_for_one_point_at_five_percent_disagreement():
    assert estimates.items_needed(0.05, 0.01) == 1921  # 1.96^2 * 0.05 / 0.01^2 = 1920.7
    assert estimates.items_needed(0.05, 0.02) == 481
    assert estimates.items_needed(0.01, 0.01) == 385
    for wrong in ((0, 0.01), (1.1, 0.01), (0.05, 0), (math.nan, 0.01)):
        with pytest.raises(ValueError):
            estimates.items_needed(*wrong)


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_the_number_of_items_needed_gives_that_interval(share: float):
    items = estimates.items_needed(share, 0.01)
    changed = round(share * items / 2)
    pair = booleans(items - 2 * changed, changed, changed, 0)
    _, low, high = estimates.paired_difference(*pair)
    assert low is not None and high is not None
    assert (high - low) / 2 == pytest.approx(0.01, rel=0.02)
    assert estimates.disagreement(*pair) == pytest.approx(share, rel=0.02)


# --------------------------------------------------------------------------- bootstrap


def mean_of(values: np.ndarray) -> estimates.Statistic:
    return lambda counts: counts @ values / counts.sum(axis=1)


def test_the_bootstrap_of_a_mean_is_its_standard_error():
    """For means the bootstrap's spread is the plug-in standard error (Efron & Tibshirani,
    section 5.3); SciPy's own bootstrap agrees."""
    from scipy import stats as scipy_stats

    values = np.random.default_rng(3).exponential(size=400)
    estimate = estimates.bootstrap(float(values.mean()), mean_of(values), 400)
    assert estimate.low is not None and estimate.high is not None
    half = 1.96 * values.std() / 20
    assert estimate.low == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert estimate.high == pytest.approx(values.mean() + half, abs=0.15 * half)
    theirs = scipy_stats.bootstrap(
        (values,), np.mean, n_resamples=5000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert (estimate.low, estimate.high) == pytest.approx(tuple(theirs), abs=0.15 * half)


def test_every_resample_counts_every_item_once_in_the_mean():
    seen = []

    def statistic(counts: np.ndarray) -> np.ndarray:
        seen.append(counts)
        return counts[:, 0].astype(float)

    estimates.bootstrap(1.0, statistic, 1500)  # several blocks
    counts = np.concatenate(seen)
    assert len(seen) > 1 and counts.shape == (estimates.RESAMPLES, 1500)
    assert (counts.sum(axis=1) == 1500).all() and counts.min() == 0
    assert counts.mean(axis=0) == pytest.approx(np.ones(1500), abs=0.2)
    assert len({row.tobytes() for row in counts}) == estimates.RESAMPLES


def test_resamples_are_the_same_every_time_and_however_many_are_drawn_at_once(monkeypatch):
    values = np.random.default_rng(4).normal(size=50)
    first = estimates.bootstrap(0.0, mean_of(values), 50)
    assert estimates.bootstrap(0.0, mean_of(values), 50) == first
    monkeypatch.setattr(estimates, "_BLOCK", 50 * 7)
    assert estimates.bootstrap(0.0, mean_of(values), 50) == pytest.approx(first)


def test_pairing_narrows_a_bootstrap_interval():
    rng = np.random.default_rng(5)
    base = rng.normal(size=300)
    other = base + rng.normal(size=300) / 100
    paired = estimates.paired_bootstrap(
        float(other.mean()), float(base.mean()), mean_of(other), mean_of(base), 300
    )
    assert paired.low is not None and paired.high is not None
    assert paired.value == pytest.approx(other.mean() - base.mean())
    assert paired.high - paired.low < 0.01 * 4
    back = estimates.paired_bootstrap(
        float(base.mean()), float(other.mean()), mean_of(base), mean_of(other), 300
    )
    assert back == pytest.approx((-paired.value, -paired.high, -paired.low))


def test_too_few_items_or_too_often_undefined_give_no_interval():
    values = np.arange(9.0)
    assert estimates.bootstrap(4.0, mean_of(values), 9) == (4.0, None, None)
    assert estimates.bootstrap(4.0, lambda counts: np.full(len(counts), np.nan), 50)[1:] == (
        None,
        None,
    )

    def seldom(counts: np.ndarray) -> np.ndarray:
        return np.where(counts[:, 0] > 2, np.nan, 0.5)  # undefined in about 8 of 100

    assert estimates.bootstrap(0.5, seldom, 50) == (0.5, 0.5, 0.5)
