"""Weights of the operators of an opened file. Needs an interpreter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from qbench.kit.requested import RunningWeights
from qbench_tflite import graph

_CHANNELS = {
    "CONV_2D": 0,
    "CONV_3D": 4,
    "DEPTHWISE_CONV_2D": 3,
    "FULLY_CONNECTED": 0,
    "TRANSPOSE_CONV": 0,
}
"""Axis of output channels of the weights, the second input of these operators."""


PER_CHANNEL_PRODUCTS = (
    "fully connected layers keep one scale per output channel: ai-edge-quantizer ignores "
    "per_channel there"
)


def running_weights(interpreter: Any, per_channel: bool) -> Iterator[RunningWeights]:
    """The weights of convolutions and matrix products, also those that a DEQUANTIZE unpacks.

    Operators have their type and the names of their outputs in the float32 file, as
    ``excluded_operators`` may have them.

    Args:
        per_channel: as asked for.
    """
    nodes = graph.nodes(interpreter)
    unpacked = {
        int(node["outputs"][0]): int(node["inputs"][0])
        for node in nodes
        if node["op_name"] == "DEQUANTIZE"
    }
    details = {int(detail["index"]): detail for detail in interpreter.get_tensor_details()}
    names = graph.tensor_names(interpreter)
    constants = graph.constants(interpreter, nodes)
    for node in nodes:
        axis = _CHANNELS.get(node["op_name"])
        if axis is None:
            continue
        weights = unpacked.get(int(node["inputs"][1]), int(node["inputs"][1]))
        if weights not in constants:  # a product of two activations
            continue
        detail = details[weights]
        output = names[int(node["outputs"][0])]
        shape, scales = detail["shape"], detail["quantization_parameters"]["scales"]
        if node["op_name"] == "FULLY_CONNECTED" and not per_channel:
            scales = ()  # PER_CHANNEL_PRODUCTS: the tool's choice, which the provenance names
        yield RunningWeights(
            (output, *output.split(";"), node["op_name"]),
            np.dtype(detail["dtype"]).kind in "iu",
            len(scales) or None,
            int(shape[axis]),
            int(np.prod(shape)) // int(shape[axis]),
        )
