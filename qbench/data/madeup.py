"""Inputs for models without data: made up, or given as arrays. They show speed and closeness to
float32, not accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import NamedTuple

import numpy as np

from qbench.data.items import Items
from qbench.errors import UserError
from qbench.kit.adapter import Range
from qbench.kit.model import TensorSpec
from qbench.storage import cache_dir, digest_json, new_folder, save_array

ITEMS = 64
"""Number of items for evaluation, and of as many others for calibration."""
BUDGET_VALUES = 2**27
"""Maximum number of values of a split, each of which takes up to 16 bytes while it is drawn; there
are fewer items where they are large."""
LEAST_ITEMS = 4
COUNTS = (1.0, 9.0)
"""Range of integers that are scalars: models divide by a rate or a number."""
_SEEDS = {"evaluation": 0, "calibration": 1}


class _Drawn(NamedTuple):
    """How the values of an input are drawn.

    Attributes:
        kind: ``noise``, ``mask``, ``positions``, ``zeros`` or ``range``.
        range: smallest and largest value; None if unknown.
    """

    dtype: str
    shape: list[int]
    kind: str
    range: Range | None


def made_up(
    inputs: Mapping[str, TensorSpec],
    split: str,
    ranges: Mapping[str, Range] | None = None,
) -> Items:
    """Make reproducible inputs for the split ``evaluation`` or ``calibration``.

    - Values are drawn evenly from their range. Without one, floats are from the standard normal
      distribution, uint8 from 0..255, int8 from -128..127, other integers from 0..9, scalars from
      1..9.
    - Inputs without a batch axis have one value for all items, if others have such an axis: items
      that differ in one could not share a batch.
    - Of an input with ``mask`` in its name, and of bools, a beginning is 1 and the rest 0, as for
      sentences of different lengths; one with ``position`` in its name counts from 0, one with
      ``token_type`` is 0.

    Args:
        ranges: by input, where they are known.

    Raises:
        UserError: an item is too large.
    """
    drawn = {name: _how(name, spec, (ranges or {}).get(name)) for name, spec in inputs.items()}
    values = sum(prod(how.shape) for how in drawn.values())
    count = min(ITEMS, BUDGET_VALUES // max(1, values))
    if count < LEAST_ITEMS:
        shapes = ", ".join(f"{name} {how.shape}" for name, how in drawn.items())
        raise UserError(
            f"one item of the inputs has {values:,} values: {shapes}",
            f"Made-up items may have {BUDGET_VALUES // LEAST_ITEMS:,}: give smaller sizes by "
            "--shape or --size.",
        )
    seed = _SEEDS[split]
    rng = np.random.RandomState(seed)  # NumPy never changes its stream (NEP 19)
    arrays = {name: _draw(rng, how, count) for name, how in drawn.items()}
    shared = [n for n, spec in inputs.items() if spec.batch is None]
    if len(shared) < len(inputs):
        for name in shared:
            arrays[name][1:] = arrays[name][0]
    plain = {name: (how.dtype, how.shape) for name, how in drawn.items()}
    kinds = {name: how[2:] for name, how in drawn.items() if how.kind != "noise"}
    made_of = [plain, *([kinds] if kinds else []), *([shared] if shared else [])]
    digest = digest_json(["random", 1, seed, count, *made_of])
    return kept(arrays, digest, random=True)


def _how(name: str, spec: TensorSpec, range: Range | None) -> _Drawn:
    word, dtype = name.lower(), np.dtype(spec.dtype)
    kind = "noise"
    if dtype.kind == "b" or "mask" in word:
        kind = "mask"
    elif dtype.kind in "iu" and "position" in word:
        kind = "positions"
    elif dtype.kind in "iu" and "token_type" in word:
        kind = "zeros"
    elif range is not None:
        kind = "range"
    elif dtype.kind in "iu" and not spec.item:
        kind, range = "range", COUNTS
    shape = [int(size) for size in spec.item]
    return _Drawn(spec.dtype, shape, kind, range if kind in ("range", "positions") else None)


def _draw(rng: np.random.RandomState, how: _Drawn, items: int) -> np.ndarray:
    dtype, shape = np.dtype(how.dtype), (items, *how.shape)
    *outer, last = shape if how.shape else (items, 1)
    match how.kind:
        case "mask":
            array = np.arange(last) < rng.randint(1, last + 1, (*outer, 1))
        case "positions":
            rows = last if how.range is None else int(how.range[1]) + 1
            array = np.broadcast_to(np.arange(last) % rows, (*outer, last))
        case "zeros":
            array = np.zeros(shape)
        case "range":
            array = _between(rng, dtype, shape, how.range)
        case _:
            array = _noise(rng, dtype, shape)
    return array.reshape(shape).astype(dtype)


def _between(
    rng: np.random.RandomState, dtype: np.dtype, shape: tuple[int, ...], limits: Range | None
) -> np.ndarray:
    assert limits is not None
    low, high = limits
    if dtype.kind == "f":
        return rng.uniform(low, high, shape)
    return rng.randint(int(low), int(high) + 1, shape, np.int64)


def _noise(rng: np.random.RandomState, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    if dtype.kind == "f":
        return rng.standard_normal(shape)
    if dtype.itemsize == 1:
        limits = np.iinfo(dtype)
        return rng.randint(limits.min, limits.max + 1, shape)
    return rng.randint(0, 10, shape)


def kept(arrays: Mapping[str, np.ndarray], digest: str, random: bool = False) -> Items:
    """Store arrays ``[items, ...]`` by input in the cache.

    Args:
        digest: identifies them.
    """
    key = digest_json([digest, list(arrays)])
    folder = cache_dir() / "data" / key[:32]
    if not folder.is_dir():
        with new_folder(folder) as out:
            for index, array in enumerate(arrays.values()):
                save_array(out / f"input-{index}.npy", array)
    feeds = {name: folder / f"input-{index}.npy" for index, name in enumerate(arrays)}
    count = len(next(iter(arrays.values())))
    return Items(feeds, None, count, key, random)
