"""What a model's outputs are worth: accuracy where there are labels, fidelity without."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
from pydantic import BaseModel, ConfigDict

from qbench import stats

MAX_SQNR_DB = 200.0
"""A ratio above this, that of identical outputs included, is given as this: beyond float64."""


class Quality(BaseModel):
    """What one evaluation found.

    Attributes:
        items: how many were evaluated.
        metric: None if there are no labels; then so are the accuracies.
        accuracy: share of items that were right, 0 to 1, with its 95 % interval.
        accuracy_delta: accuracy less the float32 reference's on the same items, with its
            interval; None for the reference itself.
        sqnr_db: signal to quantization noise of the outputs against the reference, of the worst
            output; None for the reference itself.
        cosine: mean over items of the cosine similarity to the reference, of the worst output.
        agreement: share of items with the reference's top class; None if the task has no classes.
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
    sqnr_db: float | None = None
    cosine: float | None = None
    agreement: float | None = None
    outputs_digest: str


Outputs = Mapping[str, np.ndarray]


class Judging(BaseModel):
    """How a model's outputs are judged; kept in the bundle, so that they can be judged again.

    Attributes:
        task: the card's.
        metric: None if there are no labels, or nothing is to be made of them.
        scores: the output that holds one score for each class; None if the task has no classes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    metric: str | None = None
    scores: str | None = None


def judge(
    outputs: Outputs, reference: Outputs | None, labels: np.ndarray | None, how: Judging
) -> Quality:
    """Judge all outputs of an evaluation.

    Args:
        outputs: by name, ``[items, ...]``.
        reference: the float32 reference's; None if this is the reference.
        labels: ``[items]`` integers, or None.

    Raises:
        ValueError: outputs hold values that are no numbers, or do not fit the labels.
    """
    for name, array in outputs.items():
        bad = int(np.sum(~np.isfinite(array.astype(np.float64)).reshape(len(array), -1).all(1)))
        if bad:
            raise ValueError(
                f"output '{name}' holds NaN or infinity in {bad} of {len(array)} items"
            )
    fields: dict[str, float | str | None] = {}
    metric, scores = how.metric, how.scores
    if metric is not None and labels is not None and scores is not None:
        right = _right(outputs[scores], labels)
        fields |= _named("accuracy", stats.wilson(int(right.sum()), len(right)), metric=metric)
        if reference is not None:
            base = _right(reference[scores], labels)
            fields |= _named("accuracy_delta", stats.paired_difference(right, base))
    if reference is not None:
        fields["sqnr_db"] = min(sqnr_db(reference[n], outputs[n]) for n in outputs)
        fields["cosine"] = min(cosine(reference[n], outputs[n]) for n in outputs)
        if scores is not None:
            same = _classes(outputs[scores]) == _classes(reference[scores])
            fields["agreement"] = float(np.mean(same))
    items = len(next(iter(outputs.values())))
    return Quality.model_validate(
        {"items": items, "outputs_digest": digest_outputs(outputs), **fields}
    )


def _named(name: str, estimate: stats.Estimate, **more: str) -> dict[str, float | str | None]:
    value, low, high = estimate
    return {name: value, f"{name}_low": low, f"{name}_high": high, **more}


def _classes(scores: np.ndarray) -> np.ndarray:
    """The top class of each item, from ``[items, ..., classes]``."""
    return scores.reshape(len(scores), -1).argmax(axis=1)


def _right(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    if len(scores) != len(labels):
        raise ValueError(f"{len(scores)} outputs for {len(labels)} labels")
    classes = scores.reshape(len(scores), -1).shape[1]
    if labels.max(initial=0) >= classes:
        raise ValueError(f"a label is {labels.max()}, but the model has only {classes} classes")
    return _classes(scores) == labels


def sqnr_db(reference: np.ndarray, outputs: np.ndarray) -> float:
    """``10 log10(sum(reference^2) / sum((reference - outputs)^2))`` over all items, in dB."""
    exact = reference.astype(np.float64)
    noise = float(np.sum((exact - outputs.astype(np.float64)) ** 2))
    signal = float(np.sum(exact**2))
    if noise == 0:
        return MAX_SQNR_DB
    if signal == 0:
        return -MAX_SQNR_DB
    return float(np.clip(10 * np.log10(signal / noise), -MAX_SQNR_DB, MAX_SQNR_DB))


def cosine(reference: np.ndarray, outputs: np.ndarray) -> float:
    """Mean over items of the cosine of the angle between outputs and reference; two zero vectors
    have 1, a zero and another 0."""
    a = reference.astype(np.float64).reshape(len(reference), -1)
    b = outputs.astype(np.float64).reshape(len(outputs), -1)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    both_zero = ~a.any(axis=1) & ~b.any(axis=1)
    dots = np.sum(a * b, axis=1)
    return float(np.mean(np.where(both_zero, 1.0, dots / np.where(norms == 0, 1.0, norms))))


def digest_outputs(outputs: Outputs) -> str:
    """SHA-256 over names, dtypes, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(outputs):
        array = np.ascontiguousarray(outputs[name])
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
