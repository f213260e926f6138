"""Other ways to compare A and B that people use, on the same recorded rounds as ``study.py``'s own.

Each answers whether it would call A and B different, at a nominal 5 %.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
from scipy import stats

Samples = Sequence[np.ndarray]
"""The calls of one trial of each round, in ns."""

NOMINAL = 0.05
ROUNDS = 10


def log_quantiles(trials: Samples, quantile: float) -> np.ndarray:
    return np.log([np.quantile(calls, quantile) for calls in trials])


def pooled_t_test(a: Samples, b: Samples) -> bool:
    """Welch's t-test on all calls of all trials, as if they were independent."""
    return _p(stats.ttest_ind(np.concatenate(a), np.concatenate(b), equal_var=False))


def pooled_mann_whitney(a: Samples, b: Samples) -> bool:
    """The same on ranks."""
    return _p(stats.mannwhitneyu(np.concatenate(a), np.concatenate(b)))


def unpaired(a: Samples, b: Samples) -> bool:
    """Welch's t-test on the trials' p10, for designs that run all trials of A before any of B."""
    return _p(stats.ttest_ind(log_quantiles(a, 0.1), log_quantiles(b, 0.1), equal_var=False))


def paired_t_test(quantile: float) -> Callable[[Samples, Samples], bool]:
    """The t-interval on the mean of the rounds' log ratios excludes 0."""
    return lambda a, b: _p(stats.ttest_1samp(_differences(a, b, quantile), 0))


def sign_flip(quantile: float) -> Callable[[Samples, Samples], bool]:
    """All ways to swap A and B within rounds: few give a mean as far from 0 (exact)."""
    signs = np.array(list(product((-1, 1), repeat=ROUNDS)))

    def different(a: Samples, b: Samples) -> bool:
        d = _differences(a, b, quantile)
        means = np.abs(signs @ d)
        return bool(np.mean(means >= abs(d.sum()) * (1 - 1e-12)) < NOMINAL)

    return different


def signed_rank(quantile: float) -> Callable[[Samples, Samples], bool]:
    """The same on ranks (Wilcoxon)."""
    return lambda a, b: _p(stats.wilcoxon(_differences(a, b, quantile), method="exact"))


def sign_test(quantile: float) -> Callable[[Samples, Samples], bool]:
    """How many rounds B is slower in: what ``qbench.analysis.statistics.verdict`` builds on."""
    return lambda a, b: _p(
        stats.binomtest(int(np.sum(_differences(a, b, quantile) > 0)), len(a), 0.5)
    )


def _differences(a: Samples, b: Samples, quantile: float) -> np.ndarray:
    return log_quantiles(b, quantile) - log_quantiles(a, quantile)


def _p(result: object) -> bool:
    return bool(result.pvalue < NOMINAL)  # type: ignore[attr-defined]


PAIRED: dict[str, Callable[[Samples, Samples], bool]] = {
    "all calls pooled, t-test": pooled_t_test,
    "all calls pooled, Mann-Whitney": pooled_mann_whitney,
    **{
        f"rounds, {name} on p{quantile * 100:.0f}": make(quantile)
        for quantile in (0.5, 0.1, 0.01)
        for name, make in (
            ("t-test", paired_t_test),
            ("sign-flip", sign_flip),
            ("signed-rank", signed_rank),
            ("sign test", sign_test),
        )
    },
}
"""Designs that are given A and B of the same rounds."""
IN_TURN = "all of A, then all of B; t-test on p10"
"""Given A of some rounds, and B of the rounds after them."""
