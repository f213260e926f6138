"""Renders bundles as a page for readers; never measures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qbench.analysis.publish.checks import Publishing
    from qbench.bundle.bundle import Bundle
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


def write_report(bundles: list[Bundle], path: Path, options: Options = PLAIN) -> None:
    """Write one self-contained, interactive HTML page about ``bundles`` (at least one).

    The page loads nothing from anywhere. Bundles may be incomplete. The file is replaced whole.

    Raises:
        UserError: a bundle is damaged.
        OSError: ``path`` cannot be written.
    """
    from qbench.report.render import render
    from qbench.storage import write_file

    write_file(path, render(bundles, options))
