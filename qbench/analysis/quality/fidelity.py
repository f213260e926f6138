"""Fidelity: how close outputs are to the float32 reference's. Needs no labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from qbench.bundle.bundle import Bundle
from qbench.kit.feeds import padded
from qbench.spec.judging import Fidelity

MAX_SQNR_DB = 200.0
"""Upper limit of a ratio, also reported for identical outputs: beyond float64."""
_BLOCK = 4_000_000
"""Number of values that are compared at a time, to bound the memory."""

Outputs = Mapping[str, np.ndarray]
"""By output name, ``[items, ...]``."""


def compare(reference: Outputs, outputs: Outputs) -> dict[str, Fidelity]:
    """The fidelity of every output.

    Raises:
        ValueError: names or shapes differ from the reference's.
    """
    if set(outputs) != set(reference):
        raise ValueError(f"the outputs are {sorted(outputs)}, the reference's {sorted(reference)}")
    for name, array in outputs.items():
        if array.shape != reference[name].shape:
            raise ValueError(
                f"output '{name}' has the shape {list(array.shape)}, the reference's "
                f"{list(reference[name].shape)}"
            )
    return {name: _of_one(reference[name], array) for name, array in outputs.items()}


def of_equal_rows(reference: np.ndarray, array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both with zeros for the rows that only the other has."""
    sizes = zip(reference.shape, array.shape, strict=True)
    largest = tuple(max(pair) for pair in sizes)
    return padded(reference, largest), padded(array, largest)


def _of_one(reference: np.ndarray, array: np.ndarray) -> Fidelity:
    difference = max_abs_difference(reference, array)
    if array.dtype.kind != "f" and reference.dtype.kind != "f":
        equal = float(np.equal(reference, array).mean()) if array.size else 1.0
        return Fidelity(equal=equal, max_abs_difference=difference)
    return Fidelity(
        sqnr_db=sqnr_db(reference, array),
        cosine=cosine(reference, array),
        max_abs_difference=difference,
    )


def judged_outputs(bundle: Bundle, evaluation_id: str) -> Outputs:
    """The outputs of an evaluation as they are compared and scored."""
    return dequantized(bundle.outputs(evaluation_id), bundle.evaluated[evaluation_id].scales)


def dequantized(outputs: Outputs, scales: Mapping[str, tuple[float, int]]) -> Outputs:
    """The outputs as float32 where they are integers with a known scale.

    Args:
        scales: (scale, zero-point) by name of the output.
    """
    return {
        name: (array.astype(np.float32) - scales[name][1]) * np.float32(scales[name][0])
        if name in scales and array.dtype.kind != "f"
        else array
        for name, array in outputs.items()
    }


def sqnr_db(reference: np.ndarray, outputs: np.ndarray) -> float:
    """``10 log10(sum(reference^2) / sum((reference - outputs)^2))`` over all items, in dB."""
    signal = noise = 0.0
    for exact, got in _blocks(reference, outputs):
        signal += float(np.sum(exact**2))
        noise += float(np.sum((exact - got) ** 2))
    if noise == 0:
        return MAX_SQNR_DB
    if signal == 0:
        return -MAX_SQNR_DB
    return float(np.clip(10 * np.log10(signal / noise), -MAX_SQNR_DB, MAX_SQNR_DB))


def cosine(reference: np.ndarray, outputs: np.ndarray) -> float:
    """Mean over items of the cosine of the angle between outputs and reference: 1 for two zero
    vectors, 0 for a zero vector and another one."""
    return float(np.concatenate([_cosines(a, b) for a, b in _blocks(reference, outputs)]).mean())


def _cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    both_zero = ~a.any(axis=1) & ~b.any(axis=1)
    dots = np.sum(a * b, axis=1)
    return np.where(both_zero, 1.0, dots / np.where(norms == 0, 1.0, norms))


def max_abs_difference(reference: np.ndarray, outputs: np.ndarray) -> float:
    """Largest absolute difference between corresponding values."""
    return max(float(np.abs(a - b).max(initial=0.0)) for a, b in _blocks(reference, outputs))


def _blocks(reference: np.ndarray, outputs: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Blocks of corresponding items of both, as float64 ``[items, values]``."""
    items = len(reference)
    step = max(1, _BLOCK * items // max(reference.size, 1))
    for start in range(0, items, step):
        rows = slice(start, start + step)
        count = len(reference[rows])
        yield (
            reference[rows].astype(np.float64).reshape(count, -1),
            outputs[rows].astype(np.float64).reshape(count, -1),
        )
