"""Inputs for models without data: made up, or given as arrays. They show speed and closeness to
float32, not accuracy."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from qbench.data.items import Items
from qbench.kit.model import TensorSpec
from qbench.storage import cache_dir, digest_json, new_folder, save_array

ITEMS = 64
"""Number of items for evaluation, and of as many others for calibration."""
_SEEDS = {"evaluation": 0, "calibration": 1}


def made_up(inputs: Mapping[str, TensorSpec], split: str) -> Items:
    """Make reproducible inputs for the split ``evaluation`` or ``calibration``: floats from the
    standard normal distribution, uint8 from 0..255, int8 from -128..127, other integers from
    0..9."""
    shapes = {name: (spec.dtype, list(spec.sized(1)[1:])) for name, spec in inputs.items()}
    seed = _SEEDS[split]
    rng = np.random.RandomState(seed)  # NumPy never changes its stream (NEP 19)
    arrays = {name: _draw(rng, dtype, (ITEMS, *shape)) for name, (dtype, shape) in shapes.items()}
    return kept(arrays, digest_json(["random", 1, seed, ITEMS, shapes]), random=True)


def _draw(rng: np.random.RandomState, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return rng.standard_normal(shape).astype(kind)
    if kind.itemsize == 1 and kind.kind in "iu":
        limits = np.iinfo(kind)
        return rng.randint(limits.min, limits.max + 1, shape).astype(kind)
    return rng.randint(0, 10, shape).astype(kind)


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
