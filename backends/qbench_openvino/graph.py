"""Products of an ``openvino.Model``, with their weights and work.

A *product* is a convolution, a matrix product or an attention: an operator of
multiply-accumulates. Needs no import of OpenVINO.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from qbench.kit.adapter import NothingToQuantize, PrepareError
from qbench_openvino.runtime import read_info

CONVOLUTIONS = (
    "Convolution",
    "GroupConvolution",
    "ConvolutionBackpropData",
    "GroupConvolutionBackpropData",
)
WEIGHTED = (*CONVOLUTIONS, "MatMul")
_PRODUCTS = (*WEIGHTED, "ScaledDotProductAttention")
_PASSED = {"Convert", "FakeQuantize", "Multiply", "Reshape", "Subtract", "Transpose"}
"""Operators that may stand between a stored weight and the operator that uses it."""

INTEGERS = ("i8", "u8", "i4", "u4")


def products(model: Any) -> list[Any]:
    """Operators of ``model`` that multiply and accumulate, in order of execution."""
    return [op for op in model.get_ordered_ops() if op.get_type_name() in _PRODUCTS]


def quantized(model: Any) -> list[Any]:
    """Products whose weights are stored as integers of 8 bits or fewer, or pass a FakeQuantize, as
    in a file from quantization-aware training."""
    found = []
    for op in products(model):
        path = _weight_path(op) if op.get_type_name() in WEIGHTED else []
        behind = any(node.get_type_name() == "FakeQuantize" for node in path)
        if path and (stored_type(op) in INTEGERS or behind):
            found.append(op)
    return found


def has_fused_products(execution: Any, model: Any) -> bool:
    """Whether the plugin put quantized products of ``model`` into generated code.

    Args:
        execution: the execution graph of ``model``.
    """
    names: set[str] = set()
    for op in quantized(model):
        names.update(one.get_friendly_name() for one in (op, bias_of(op)) if one is not None)
    return any(
        not names.isdisjoint(read_info(node, "originalLayersNames").split(","))
        for node in execution.get_ordered_ops()
        if read_info(node, "layerType") == "Subgraph"
    )


def check_weights(model: Any) -> None:
    """Check that the model has weights that NNCF can quantize.

    Raises:
        PrepareError: some hold NaN or an infinite number.
        NothingToQuantize: there are none.
    """
    paths = {op: _weight_path(op) for op in products(model) if op.get_type_name() in WEIGHTED}
    if not any(paths.values()):
        raise NothingToQuantize
    for op, path in paths.items():
        if path and path[-1].get_element_type().is_real() and not np.isfinite(path[-1].data).all():
            raise PrepareError(
                f"the weights of '{op.get_friendly_name()}' hold NaN or infinity: mend the file"
            )


def stored_type(op: Any) -> str:
    """Stored type of the weight of ``op``; "" if its second input is no weight."""
    path = _weight_path(op)
    return path[-1].get_element_type().get_type_name() if path else ""


def bits_of(op: Any) -> int:
    """Bits of a stored weight of ``op``."""
    return int(_weight_path(op)[-1].get_element_type().bitwidth)


def scales_of(op: Any) -> tuple[int | None, int, int]:
    """Number of scales of the stored weight of ``op``, of output channels that should have their
    own, and of weights of each; the scales are None for a stack of matrices, and if the weight is
    not stored as integers."""
    shape = list(op.input_value(1).get_shape())
    kind = op.get_type_name()
    channels = shape[1] if kind == "ConvolutionBackpropData" else shape[0]
    if kind == "MatMul":
        channels = prod(shape) // depth(op)
    length = prod(shape) // channels
    multiply = next((n for n in _weight_path(op) if n.get_type_name() == "Multiply"), None)
    if multiply is None or (kind == "MatMul" and len(shape) > 2):
        return None, channels, length
    return prod(multiply.input_value(1).get_shape()), channels, length


def _weight_path(op: Any) -> list[Any]:
    """Nodes from the second input of ``op`` to a stored constant; [] if there is none."""
    node = op.input_value(1).get_node()
    path = [node]
    while node.get_type_name() in _PASSED:
        node = node.input_value(0).get_node()
        path.append(node)
    return path if node.get_type_name() == "Constant" else []


def is_constant(output: Any) -> bool:
    """Whether ``output`` is stored, possibly converted: a bias, a scale."""
    node = output.get_node()
    while node.get_type_name() in _PASSED:
        node = node.input_value(0).get_node()
    return node.get_type_name() == "Constant"


def depth(matmul: Any) -> int:
    """Number of products in one output of a MatMul with weights."""
    shape = list(matmul.input_value(1).get_shape())
    transposed = matmul.get_attributes()["transpose_b"]
    return shape[-1] if transposed or len(shape) == 1 else shape[-2]


def is_depthwise(op: Any) -> bool:
    """Whether ``op`` is a grouped convolution with one input channel per group."""
    if op.get_type_name() != "GroupConvolution":
        return False
    return op.input_value(1).get_shape()[2] == 1


def bias_of(op: Any) -> Any | None:
    """The Add of a constant that is the only reader of ``op``, possibly after a FakeQuantize (ONNX
    Runtime quantizes between a product and its bias); None if there is none."""
    for _ in range(2):
        readers = list(op.output(0).get_target_inputs())
        if len(readers) != 1:
            return None
        op = readers[0].get_node()
        if op.get_type_name() == "Add":
            return op if any(is_constant(op.input_value(i)) for i in (0, 1)) else None
        if op.get_type_name() != "FakeQuantize":
            return None
    return None


def macs(op: Any) -> int | None:
    """Multiply-accumulates of a product in one inference; None if a size is free."""
    ports = [op.input_value(i) for i in range(op.get_input_size())] + [op.output(0)]
    if any(port.get_partial_shape().is_dynamic for port in ports):
        return None
    first, second, *_ = [list(port.get_shape()) for port in ports]
    result = list(op.output(0).get_shape())
    kind = op.get_type_name()
    if kind == "Convolution":  # weights [O, I, ...]
        return prod(result) * prod(second[1:])
    if kind == "GroupConvolution":  # weights [G, O/G, I/G, ...]
        return prod(result) * prod(second[2:])
    if kind == "ConvolutionBackpropData":  # weights [I, O, ...]
        return prod(first) * prod(second[1:])
    if kind == "GroupConvolutionBackpropData":  # weights [G, I/G, O/G, ...]
        return prod(first) * prod(second[2:])
    if kind == "MatMul":
        transposed = op.get_attributes()["transpose_a"] and len(first) > 1
        return prod(result) * first[-2 if transposed else -1]
    # attention: queries [..., L, E], keys [..., S, E], values [..., S, V]
    return prod(first[:-1]) * second[-2] * (first[-1] + result[-1])
