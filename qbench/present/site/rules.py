"""The rules of comparing two runs, for the script that compares them in the browser."""

from __future__ import annotations

from typing import Any

import numpy as np

from qbench.analysis.compare.comparable import DIGESTS, REQUEST, WORK
from qbench.analysis.statistics import estimates
from qbench.analysis.table.trials import FIGURES, ROUNDING
from qbench.spec.suite import MIN_ROUNDS


def comparison_rules() -> dict[str, Any]:
    """The constants of ``analysis.compare.compare_runs``.

    ``quantile``: the 97.5 % point of Student's distribution as coefficients of a polynomial in
    1 / (degrees of freedom), the constant first; valid from ``MIN_ROUNDS`` - 1 degrees on.
    """
    return {
        "work": WORK,
        "request": REQUEST,
        "digests": DIGESTS,
        "figures": FIGURES,
        "least_rounds": MIN_ROUNDS,
        "rounding": ROUNDING,
        "quantile": _quantile().tolist(),
    }


def _quantile() -> np.ndarray:
    """Smooth in the inverse of the degrees of freedom, so 13 coefficients reach 1e-9."""
    from scipy import special

    def point(inverse: np.ndarray) -> np.ndarray:
        return special.stdtrit(1 / inverse, (1 + estimates.CONFIDENCE) / 2)

    least = 1 / (MIN_ROUNDS - 1)
    fitted = np.polynomial.Chebyshev.interpolate(point, 12, [1e-9, least])
    return fitted.convert(kind=np.polynomial.Polynomial).coef
