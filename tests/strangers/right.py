"""What strangers' models compute, without any of the runtimes that qbench measures.

ONNX files run in the reference evaluator of the ``onnx`` package, which is written in NumPy; what
it lacks is written out here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

Arrays = Mapping[str, np.ndarray]


def right_outputs(path: Path, feeds: Arrays) -> dict[str, np.ndarray]:
    """The outputs by name for one inference."""
    model = onnx.load(path)
    names = [output.name for output in model.graph.output]
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    if path.stem == "group_query":
        return group_query(feeds, weights)
    if path.stem == "nbits":
        return nbits(feeds["x"], weights)
    outputs = ReferenceEvaluator(str(path)).run(None, dict(feeds))
    return dict(zip(names, outputs, strict=True))


def group_query(feeds: Arrays, weights: Arrays) -> dict[str, np.ndarray]:
    """One token's attention to 5 others, of a buffer for 8, and to itself: 4 heads of 8, of which
    each two share keys and values."""
    x = feeds["x"][0]  # [1, 32]
    q = (x @ weights["wq"]).reshape(4, 1, 8)
    k, v = ((x @ weights[name]).reshape(2, 1, 8) for name in ("wk", "wv"))
    keys = np.concatenate([feeds["past_keys"][0, :, :5], k], axis=1)
    values = np.concatenate([feeds["past_values"][0, :, :5], v], axis=1)
    scores = q @ np.repeat(keys, 2, axis=0).transpose(0, 2, 1) / np.sqrt(8)
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    y = (shares @ np.repeat(values, 2, axis=0)).reshape(1, 1, 32)
    return {"y": y}


def nbits(x: np.ndarray, weights: Arrays) -> dict[str, np.ndarray]:
    """4-bit weights, two a byte, the lower half first; 8 stands for zero."""
    packed = weights["w"].reshape(8, 16)
    low, high = packed & 15, packed >> 4
    values = np.stack([low, high], axis=-1).reshape(8, 32).astype(np.float32) - 8
    return {"y": x @ (values * weights["s"][:, None]).T}
