"""What a model's outputs are worth: accuracy by the metrics of its task, and fidelity."""

from qbench.quality.fidelity import sqnr_db
from qbench.quality.judge import Score, find_scores, judge
from qbench.spec.decoders import Decoder
from qbench.spec.judging import Judging, Quality
from qbench.spec.tasks import TASKS

__all__ = ["TASKS", "Decoder", "Judging", "Quality", "Score", "find_scores", "judge", "sqnr_db"]
