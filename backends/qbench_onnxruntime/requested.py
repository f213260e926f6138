"""Weights of the kernels that ran, read from events of ONNX Runtime's profiler. Standard library
only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from math import prod
from typing import Any

from qbench.kit.requested import RunningWeights

_WEIGHTS_AND_SCALES = {
    "DynamicQuantizeMatMul": (1, 2),
    "MatMulIntegerToFloat": (1, 3),
    "QGemm": (3, 4),
    "QLinearConv": (3, 4),
    "QLinearMatMul": (3, 4),
}
"""Indices of weights and of their scales among a kernel's inputs. (ConvInteger and MatMulInteger
have their scales in a later Mul.)"""
_INTEGER = {*_WEIGHTS_AND_SCALES, "ConvInteger", "MatMulInteger", "MatMulNBits"}
_ADDED = re.compile(r"(_MatMul)?(_quant|_Q4|_Q8)?(_nchwc)?(_token_\d+)?$")
"""Suffixes that quantizers and optimizers add to the name of a node."""


def running_weights(events: Iterable[Mapping[str, Any]]) -> Iterator[RunningWeights]:
    """The weights of each kernel of the events."""
    for event in events:
        name = str(event.get("name", ""))
        if name.endswith("_kernel_time"):
            source = _ADDED.sub("", name.removesuffix("_kernel_time"))
            yield _of_kernel(source, event["args"])


def _of_kernel(name: str, args: Mapping[str, Any]) -> RunningWeights:
    kind = args["op_name"]
    given = [next(iter(tensor.items())) for tensor in args.get("input_type_shape", []) if tensor]
    if kind == "MatMulNBits":
        channels, groups, *_ = given[1][1]
        return RunningWeights((name,), True, channels * groups, channels, given[0][1][-1])
    if kind not in _WEIGHTS_AND_SCALES:
        return RunningWeights((name,), kind in _INTEGER)
    (dtype, shape), (_, scales) = (given[index] for index in _WEIGHTS_AND_SCALES[kind])
    if dtype != "int8":  # activations, which their own Q/DQ had rounded: no weights
        return RunningWeights((name,), False)
    if kind != "QLinearConv" and len(shape) != 2:
        return RunningWeights((name,), True)  # a stack of matrices, or a vector: one scale
    (made,) = args["output_type_shape"][0].values()
    channels = shape[0] if kind == "QLinearConv" else made[-1]
    return RunningWeights((name,), True, prod(scales), channels, prod(shape) // channels)
