"""Layers of ONNX files, with the same name in all artifacts of a model, to compare their
outputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import GraphProto, NodeProto, helper

from qbench.kit.model import Feed
from qbench.kit.onnxfile.graph import FOLLOWING
from qbench.kit.operators import Activation

_CONVOLUTIONS = ("Conv", "ConvInteger", "ConvTranspose", "FusedConv")
_LAYERS = (
    *_CONVOLUTIONS,
    *("Add", "FusedGemm", "FusedMatMul", "Gemm", "MatMul", "MatMulInteger", "MatMulNBits"),
)
# Operators after a layer that some artifacts fuse into it. Mul and Cast scale a quantized product;
# elsewhere Mul is a separate operation.
_CONVERTING = ("DequantizeLinear", "QuantizeLinear")
_FOLLOWING = (*_CONVERTING, *FOLLOWING)


@dataclass(frozen=True)
class Layer:
    """A layer.

    Attributes:
        name: its name in all artifacts of the model.
        kind: its operator's type.
        tensor: the tensor that holds its output.
    """

    name: str
    kind: str
    tensor: str


def layers(graph: GraphProto) -> list[Layer]:
    """List layers in the file's order, which is an order of execution.

    A layer ends after the batch normalization and activation function that only it feeds: these are
    fused into it, and there the tensor's name survives preprocessing and quantization. A quantized
    tensor is read after its DequantizeLinear, so that the integer kernels run as when timed.
    """
    users: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for tensor in node.input:
            users.setdefault(tensor, []).append(node)
    outputs = {value.name for value in graph.output}
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in _CONVERTING and node.input[0] in shapes:
            shapes[node.output[0]] = shapes[node.input[0]]
    found = []
    for node in graph.node:
        if node.op_type in _LAYERS:
            name, tensor = _end(node, users, outputs)
            found.append(Layer(name, _kind(node, shapes), tensor))
    return found


def read_layers(
    stream: Any, shown: Sequence[Layer], feeds: Iterable[Feed]
) -> Iterator[list[Activation]]:
    """Yield the layers' outputs for each feed, from a program that has them as outputs.

    Args:
        stream: a stream with ``read_file``, which returns every output by the file's names.
    """
    for feed in feeds:
        stream.bind(feed)
        stream.infer()
        arrays = stream.read_file()
        yield [Activation(x.name, x.kind, np.array(arrays[x.tensor], np.float32)) for x in shown]


def _end(layer: NodeProto, users: dict[str, list[NodeProto]], outputs: set[str]) -> tuple[str, str]:
    """Return the name and the tensor of the end of ``layer``.

    Quantizing and dequantizing change the tensor that is read, not its name, except for outputs of
    the model: there the dequantized tensor has the name.
    """
    scaled = layer.op_type.endswith("Integer")
    name = tensor = layer.output[0]
    while tensor not in outputs:
        following = users.get(tensor, [])
        converted = [node for node in following if node.op_type in _CONVERTING]
        node = converted[0] if converted else following[0] if len(following) == 1 else None
        if node is None or not (node.op_type in _FOLLOWING or (scaled and node.op_type == "Mul")):
            break
        tensor = node.output[0]
        if node.op_type not in _CONVERTING or tensor in outputs:
            name = tensor
    return name, tensor


def _kind(node: NodeProto, shapes: dict[str, list[int]]) -> str:
    """Return the operator's type, with depthwise (one filter per channel) and grouped convolutions
    marked."""
    groups = next((helper.get_attribute_value(a) for a in node.attribute if a.name == "group"), 1)
    if node.op_type not in _CONVOLUTIONS or groups == 1:
        return node.op_type
    shape = shapes.get(node.input[1])
    depthwise = shape is not None and shape[1] == 1
    return f"{node.op_type} (depthwise)" if depthwise else f"{node.op_type} (grouped)"
