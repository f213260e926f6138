"""How a model's outputs are scored, and the scores of an evaluation: both are kept in the
bundle."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt

from qbench.spec.decoders import Decoder
from qbench.spec.tasks import TaskName


class Fidelity(BaseModel):
    """Closeness of one output to the reference's. Integers with a known scale are dequantized
    first; of other integers (class indices) only the equal values are counted.

    Attributes:
        sqnr_db: signal to quantization noise ratio over all items, in dB; None for integers.
        cosine: mean over items of the cosine similarity; None for integers.
        equal: share of values that equal the reference's; None for floating-point outputs.
        max_abs_difference: largest difference between corresponding values, in the output's unit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sqnr_db: float | None = None
    cosine: float | None = None
    equal: float | None = None
    max_abs_difference: float


class Metric(BaseModel):
    """One metric's value with its 95 % interval; None where there are too few items for one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    low: float | None
    high: float | None


class Quality(BaseModel):
    """Scores of one evaluation.

    Attributes:
        items: number of evaluated items.
        metric: None if there are no labels; then so are the accuracies.
        accuracy: the metric's value, with its 95 % interval: Wilson's for a share of items, else
            by the bootstrap over items.
        accuracy_delta: accuracy minus the float32 reference's on the same items, with its 95 %
            interval (Agresti and Min's for matched pairs, or the paired bootstrap); None for the
            reference itself.
        accuracy_delta_p: McNemar's exact p-value; None where the metric is not a share of items.
        items_needed: number of items that would give the delta an interval of ±1 point at the
            disagreement seen; None where the metric is not a share of items.
        metrics: all metrics of the task, including the chosen one.
        classes: number of classes that an item is sorted into; None if the task has none, and in
            older bundles.
        constant: the metric's value if every item were given the most frequent class of the
            labels; None where the metric is not a share of items, and in older bundles.
        sqnr_db: signal to quantization noise of the outputs against the reference, of the worst
            output; None for the reference itself, and if all outputs are integers without a scale.
        cosine: mean over items of the cosine similarity to the reference, of the worst output.
        equal_values: share of equal values of integer outputs without a scale, of the worst
            output; None if there are none, and in older bundles.
        max_abs_difference: the largest difference of two values, of the worst output.
        agreement: share of items with the reference's top class, of pixels in segmentation; None
            if the task has no classes.
        fidelity: by output.
        outputs_digest: SHA-256 over all outputs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    items: int
    metric: str | None = None
    accuracy: float | None = None
    accuracy_low: float | None = None
    accuracy_high: float | None = None
    accuracy_delta: float | None = None
    accuracy_delta_low: float | None = None
    accuracy_delta_high: float | None = None
    accuracy_delta_p: float | None = None
    items_needed: int | None = None
    metrics: dict[str, Metric] = {}
    classes: int | None = None
    constant: float | None = None
    sqnr_db: float | None = None
    cosine: float | None = None
    equal_values: float | None = None
    max_abs_difference: float | None = None
    agreement: float | None = None
    fidelity: dict[str, Fidelity] = {}
    outputs_digest: str


class Judging(BaseModel):
    """How a model's outputs are scored.

    Attributes:
        task: one of ``TASKS``.
        metric: the metric of ``accuracy``; None if labels are not used.
        scores: the output with one score for each class; None if the task does not classify items.
        output: the output that the metrics of other tasks use: classes of pixels, anomaly scores or
            embeddings; None where there is none, and for detection, whose decoder reads all.
        background: number of leading classes of ``scores`` that the labels do not count.
        class_axis: axis of ``output`` that holds a score for each class of a pixel.
        classes: number of classes of the data set; None if not known.
        decoder: of a detector.
        ragged: outputs with a number of rows that the values decide; missing rows count as zeros.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: TaskName
    metric: str | None = None
    scores: str | None = None
    output: str | None = None
    background: NonNegativeInt = 0
    class_axis: int = -1
    classes: PositiveInt | None = None
    decoder: Decoder | None = None
    ragged: list[str] = []

    def answer(self) -> dict[str, Any] | None:
        """How the answer for one item is read from the outputs, as
        ``qbench.kit.pipeline.answers.reader`` takes it; None where single items have no answer,
        as with embeddings, which are scored in pairs.

        Raises:
            ValueError: the decoder is not installed here.
        """
        if self.decoder is not None:
            options = self.decoder.complete()
            return {"kind": "boxes", "decoder": self.decoder.target(), "options": options}
        if self.scores is not None:
            return {"kind": "class", "output": self.scores, "background": self.background}
        if self.output is not None and self.task == "semantic-segmentation":
            return {"kind": "pixels", "output": self.output, "class_axis": self.class_axis}
        if self.output is not None and self.task == "anomaly-detection":
            return {"kind": "anomaly", "output": self.output}
        return None
