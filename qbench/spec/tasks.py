"""The tasks of models: the form of their labels, and their metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

from qbench.errors import nearest
from qbench.spec.datasets import Truth


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        metrics: the first is the default; none: there is no right answer.
        labels: the labels that a data set needs, as in ``labels.npy``:

            - ``classes``: int64 ``[items]``; for anomaly detection 1 is an anomaly, 0 is normal.
            - ``boxes``: float32 ``[boxes, 6]`` of item, class, x1, y1, x2, y2; the corners are
              shares of width and height of the model's input picture.
            - ``masks``: uint8 ``[items, height, width]`` of classes; 255 is not counted.
            - ``scores``: float32 ``[pairs]``; the items 2k and 2k + 1 make pair k.

            None if the task has no metrics.
        classifies: the outputs hold one score for each class of an item.
    """

    metrics: tuple[str, ...] = ()
    labels: Truth | None = None
    classifies: bool = False


TASKS: Mapping[str, Task] = {
    "image-classification": Task(("top1", "top5"), "classes", classifies=True),
    "text-classification": Task(("accuracy", "f1"), "classes", classifies=True),
    "keyword-spotting": Task(("top1",), "classes", classifies=True),
    "object-detection": Task(("mAP50", "mAP50-95"), "boxes"),
    "semantic-segmentation": Task(("mIoU",), "masks"),
    "anomaly-detection": Task(("auc",), "classes"),
    "embedding": Task(("spearman",), "scores"),
    "other": Task(),
    "unknown": Task(),
}
"""By name, as in cards. ``other``: fidelity only; ``unknown``: a file without a card."""


def _known(task: str) -> str:
    if task not in TASKS:
        raise ValueError(f"there is no task '{task}'. {nearest(task, TASKS)}")
    return task


TaskName = Annotated[str, AfterValidator(_known)]
