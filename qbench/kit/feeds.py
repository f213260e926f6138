"""Check and convert the arrays that go into and come out of a program. For adapters."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qbench.kit.adapter import Unsupported
from qbench.kit.model import Feed, Model, SourceTensor, TensorSpec


def load_items(files: Mapping[str, str | Path], inputs: Mapping[str, TensorSpec]) -> Feed:
    """Items ``[items, *item]`` by canonical input, memory-mapped.

    Args:
        files: ``.npy`` files by input. An input without one is a state: it starts from zeros.
    """
    given = {name: np.load(file, mmap_mode="r") for name, file in files.items()}
    count = len(next(iter(given.values())))

    def zeros(spec: TensorSpec) -> np.ndarray:
        sizes = [int(size) for size in spec.item]
        return np.broadcast_to(np.zeros((), spec.dtype), (count, *sizes))

    return {name: given[name] if name in given else zeros(inputs[name]) for name in inputs}


def check_feed(
    feed: Feed, inputs: Mapping[str, TensorSpec], batch: int, states: Collection[str] = ()
) -> None:
    """Check that ``feed`` holds ``batch`` items of the card's inputs.

    Args:
        states: inputs that it may leave out.

    Raises:
        ValueError: a name, kind of dtype or shape differs; names the expected and the given one.
    """
    if not set(inputs) - set(states) <= set(feed) <= set(inputs):
        expected, got = ", ".join(inputs), ", ".join(feed) or "none"
        raise ValueError(f"expected the inputs {expected}; got {got}")
    for name, array in feed.items():
        spec = inputs[name]
        if _kind(array.dtype) != _kind(np.dtype(spec.dtype)):
            raise ValueError(f"input '{name}': expected {spec.dtype}, got {array.dtype}")
        if array.shape != (sizes := spec.at(batch)):
            raise ValueError(
                f"input '{name}': expected shape {list(sizes)}, got {list(array.shape)}"
            )


def _kind(dtype: np.dtype) -> str:
    return "i" if dtype.kind in "iu" else dtype.kind


def canonical_specs(
    model: Model, inputs: Mapping[str, TensorSpec], outputs: Mapping[str, TensorSpec]
) -> tuple[dict[str, TensorSpec], dict[str, TensorSpec]]:
    """A file's inputs and outputs by canonical name, with the card's layouts and batch axes.

    Args:
        inputs, outputs: by the file's names.

    Raises:
        ValueError: the file lacks a tensor of the card, or has an input that the card lacks.
    """
    if left := set(inputs) - {tensor.name for tensor in model.source_inputs.values()}:
        raise ValueError(f"the model card leaves out the file's input '{min(left)}'")
    return (
        _canonical("input", model.source_inputs, model.inputs, inputs),
        _canonical("output", model.source_outputs, model.outputs, outputs),
    )


def _canonical(
    kind: str,
    tensors: Mapping[str, SourceTensor],
    card: Mapping[str, TensorSpec],
    specs: Mapping[str, TensorSpec],
) -> dict[str, TensorSpec]:
    for tensor in tensors.values():
        if tensor.name not in specs:
            raise ValueError(f"the file has no {kind} '{tensor.name}'. It has: {', '.join(specs)}.")
    return {
        name: replace(specs[t.name], layout=t.layout, batch=card[name].batch)
        for name, t in tensors.items()
    }


def check_batch(
    inputs: Mapping[str, TensorSpec], outputs: Mapping[str, TensorSpec], batch: int
) -> None:
    """Check that inputs and outputs hold ``batch`` items where they have a batch axis; a free one
    does.

    Raises:
        Unsupported: one is fixed at another batch.
    """
    for spec in inputs.values():
        if (fixed := fixed_batch(spec)) not in (None, batch):
            raise Unsupported(f"the file is fixed at batch {fixed}")
    for name, spec in outputs.items():
        if (fixed := fixed_batch(spec)) not in (None, batch):
            raise Unsupported(
                f"output '{name}' stays at batch {fixed} when the inputs take {batch}"
            )


def fixed_batch(spec: TensorSpec) -> int | None:
    """The size of the batch axis; None if it is free, or there is none."""
    if spec.batch is None or spec.batch >= len(spec.shape):
        return None
    size = spec.shape[spec.batch]
    return size if isinstance(size, int) else None


def stacked(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Join arrays ``[items, ...]`` of the same number of axes along the items.

    Where other sizes differ (rows whose number the values decide), zeros are added at the end.
    """
    largest = tuple(np.max([part.shape[1:] for part in parts], axis=0).tolist())
    return np.concatenate([padded(part, (len(part), *largest)) for part in parts])


def padded(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """``array`` with zeros added at the end of each axis up to ``shape``."""
    if array.shape == shape:
        return array
    more = [(0, max(0, want - have)) for have, want in zip(array.shape, shape, strict=True)]
    return np.pad(array, more)


def convert(array: np.ndarray, have: TensorSpec, want: TensorSpec) -> np.ndarray:
    """Convert ``array`` from ``have`` to ``want``: cast, quantize, dequantize or rescale.

    Quantizes by ``round(x / scale) + zero_point``, half to even, saturated, as ONNX's
    QuantizeLinear and TFLite's Quantize.

    Raises:
        ValueError: real numbers cannot be quantized because the scale is unknown, or integers are
            out of range.
    """
    have_kind, want_type = array.dtype.kind, np.dtype(want.dtype)
    scales = (have.scale, have.zero_point), (want.scale, want.zero_point)
    if None not in (have.scale, want.scale) and scales[0] != scales[1]:
        real = TensorSpec("float32", have.shape)
        return convert(convert(array, have, real), real, want)
    if have_kind == "f" and want_type.kind in "iu":
        if want.scale is None:
            raise ValueError(f"expected {want.dtype}, got {array.dtype}, and the scale is unknown")
        limits = np.iinfo(want_type)
        steps = np.rint(array / np.float32(want.scale)) + (want.zero_point or 0)
        return np.clip(steps, limits.min, limits.max).astype(want_type)
    if have_kind in "iu" and want_type.kind == "f" and have.scale is not None:
        steps = array.astype(np.int32) - (have.zero_point or 0)
        return (steps * np.float32(have.scale)).astype(want_type)
    if have_kind in "iu" and want_type.kind in "iu" and not np.can_cast(array.dtype, want_type):
        limits, low, high = np.iinfo(want_type), array.min(initial=0), array.max(initial=0)
        if low < limits.min or high > limits.max:
            raise ValueError(f"expected {want.dtype}, got {array.dtype} from {low} to {high}")
    return array.astype(want_type, copy=False)


class Clipped(NamedTuple):
    """Real values of an input that the scale of the file's integers cannot hold.

    Attributes:
        share: of the values, 0 to 1.
        low, high: the range that the scale holds.
        least, most: smallest and largest value.
    """

    share: float
    low: float
    high: float
    least: float
    most: float


def clipped(array: np.ndarray, spec: TensorSpec) -> Clipped | None:
    """The values of ``array`` that :func:`convert` saturates; None if none are, or nothing is
    quantized.

    Args:
        spec: of the input in the file.
    """
    kind = np.dtype(spec.dtype).kind
    if array.dtype.kind != "f" or kind not in "iu" or spec.scale is None:
        return None
    limits, zero = np.iinfo(spec.dtype), spec.zero_point or 0
    low, high = ((limit - zero) * spec.scale for limit in (limits.min, limits.max))
    half = abs(spec.scale) / 2  # rounds to a value that is held
    outside = float(((array < low - half) | (array > high + half)).mean())
    if not outside:
        return None
    return Clipped(outside, low, high, float(array.min()), float(array.max()))
