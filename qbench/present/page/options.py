"""Options of a page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qbench.analysis.publish.checks import Publishing
    from qbench.spec.costs import CostSheet
    from qbench.spec.question import Question


@dataclass(frozen=True)
class Options:
    """What a page is asked for, beside the figures.

    Attributes:
        redact: leave out what tells whose machine it was: host name, user, serial numbers.
        costs: what the machines cost; None: nothing is said of money.
        rate_ips: items per second that machines have to reach, for ``costs``; None: what one does.
        question: limits, and what is to be least within them; None: nothing is recommended.
        publish: what a stranger would miss, and what of that has been waived; None: not asked.
    """

    redact: bool = False
    costs: CostSheet | None = None
    rate_ips: float | None = None
    question: Question | None = None
    publish: Publishing | None = None


PLAIN = Options()
"""A page of the figures alone."""
