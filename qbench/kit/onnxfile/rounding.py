"""Simulate 8-bit weights in NumPy: what weights-only quantization costs if nothing goes wrong."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto, numpy_helper

LEVELS = 255
"""Steps between the smallest and the largest weight of a channel, at 8 bits."""


def round_weights(model: ModelProto) -> int:
    """Round the weights of convolutions and matrix products to 8 bits, in place: asymmetric, one
    scale for each output channel, stored as float32 again.

    Returns:
        The number of rounded weights.
    """
    axes = {node.input[1]: axis for node in model.graph.node if (axis := _axis(node)) is not None}
    weights = [w for w in model.graph.initializer if w.name in axes and len(w.dims) > 1]
    for tensor in weights:
        array = numpy_helper.to_array(tensor)
        if array.dtype.kind == "f":
            rounded = rounded_to_8_bits(array, axes[tensor.name]).astype(array.dtype)
            tensor.CopyFrom(numpy_helper.from_array(rounded, tensor.name))
    return len(weights)


def rounded_to_8_bits(weights: np.ndarray, axis: int) -> np.ndarray:
    """``weights`` on a grid of 256 values for each index of ``axis``; the grid holds zero."""
    others = tuple(i for i in range(weights.ndim) if i != axis % weights.ndim)
    low = np.minimum(weights.min(others, keepdims=True), 0)
    high = np.maximum(weights.max(others, keepdims=True), 0)
    scale = np.where(high > low, (high - low) / LEVELS, 1)
    zero = np.round(-low / scale)
    return (np.clip(np.round(weights / scale) + zero, 0, LEVELS) - zero) * scale


def _axis(node: NodeProto) -> int | None:
    """The axis of output channels of a node's weights; None for other nodes."""
    if node.op_type == "Gemm":
        return 0 if any(a.name == "transB" and a.i for a in node.attribute) else 1
    return {"Conv": 0, "ConvTranspose": 1, "MatMul": -1}.get(node.op_type)
