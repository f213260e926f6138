"""What a model's outputs are worth: accuracy by the metrics of its task, and fidelity."""

from qbench.quality.judge import Judging, Quality, judge, sqnr_db

__all__ = ["Judging", "Quality", "judge", "sqnr_db"]
