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
    """Optional parts of a page.

    Attributes:
        redact: leave out host names, users, paths and serial numbers.
        costs: adds what inferences cost; None: no costs.
        rate_ips: with ``costs``: required items per second; None: one machine at full load.
        question: adds a recommendation; None: none.
        publish: adds the findings of ``qbench report --publish``; None: not checked.
    """

    redact: bool = False
    costs: CostSheet | None = None
    rate_ips: float | None = None
    question: Question | None = None
    publish: Publishing | None = None


PLAIN = Options()
"""No optional parts."""
