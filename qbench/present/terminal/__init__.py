"""What the terminal shows: progress of a run, and tables. Drawn with rich, in the parent only."""

from __future__ import annotations

from qbench.present.terminal.backends import backend_tables
from qbench.present.terminal.cases import case_tables
from qbench.present.terminal.plans import explanation_parts, plan_tables
from qbench.present.terminal.progress import RichProgress
from qbench.present.terminal.tables import WIDE, simple_table
from qbench.text import figure, printable, with_interval

__all__ = [
    "WIDE",
    "RichProgress",
    "backend_tables",
    "case_tables",
    "explanation_parts",
    "figure",
    "plan_tables",
    "printable",
    "simple_table",
    "with_interval",
]
