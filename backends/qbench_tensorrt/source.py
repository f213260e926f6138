"""Kinds and work of the nodes of a prepared ONNX file, which the layers of an engine refer to.

Written when an engine is compiled, from the file; read when it is inspected, without the onnx
package.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

NODES_FILE = "nodes.json"

_CONVOLUTIONS = frozenset(("Conv", "ConvTranspose"))
_PRODUCTS = frozenset(("Gemm", "MatMul"))
_BITS = {  # of TensorProto's types other than 32-bit ones
    **dict.fromkeys((2, 3, 17, 18, 19, 20), 8),  # 8-bit integers and floats
    **dict.fromkeys((10, 16), 16),  # FLOAT16, BFLOAT16
    **dict.fromkeys((21, 22, 23), 4),  # UINT4, INT4, FLOAT4E2M1
    **dict.fromkeys((7, 11), 64),  # INT64, DOUBLE
}
_OTHERS = frozenset(("Attention", "Einsum", "GRU", "LSTM", "RNN"))


@dataclass(frozen=True)
class Node:
    """One node.

    Attributes:
        kind: its operator.
        macs: multiply-accumulates of one inference at the compiled batch; None if it has none, or
            shapes are unknown.
        weight_bytes: bytes of the constants of a computing node, in their stored type (before a
            DequantizeLinear). None for others.
    """

    kind: str
    macs: int | None = None
    weight_bytes: int | None = None

    @property
    def computes(self) -> bool:
        return self.kind in _CONVOLUTIONS | _PRODUCTS | _OTHERS


def write_nodes(file: Path, shapes: Mapping[str, Sequence[int]], folder: Path) -> None:
    """Write the nodes of ``file``, with inputs of ``shapes``, into ``folder``."""
    import onnx

    from qbench.kit.onnxfile.graph import sized

    graph = sized(onnx.load(file, load_external_data=False), shapes).graph
    known = _shapes(graph)
    weights = _Weights(graph)
    found: dict[str, Node] = {}
    for node in graph.node:
        name = _name(node)
        twice = name in found  # the work of a layer of this name is ambiguous
        work = (None, None) if twice else (_macs(node, known), weights.of(node))
        found[name] = Node(node.op_type, *work)
    data = {name: asdict(node) for name, node in found.items()}
    (folder / NODES_FILE).write_text(json.dumps(data))


def read_nodes(folder: Path) -> dict[str, Node]:
    data: Mapping[str, Any] = json.loads((folder / NODES_FILE).read_text())
    return {name: Node(**node) for name, node in data.items()}


def _name(node: NodeProto) -> str:
    """The name that TensorRT's parser gives a node (``getNodeName`` of onnx-tensorrt)."""
    return node.name or f"node_of_{node.output[0]}"


def _shapes(graph: GraphProto) -> dict[str, list[int]]:
    """Shapes by tensor, where all sizes are known."""
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        dims = kind.shape.dim
        if kind.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            shapes[value.name] = [dim.dim_value for dim in dims]
    return shapes


def _macs(node: NodeProto, shapes: Mapping[str, Sequence[int]]) -> int | None:
    if node.op_type not in _CONVOLUTIONS | _PRODUCTS:
        return None
    first, second = (shapes.get(name) for name in node.input[:2])
    out = shapes.get(node.output[0])
    if first is None or second is None or out is None:
        return None
    if node.op_type == "ConvTranspose":
        return prod(first) * prod(second[1:])
    if node.op_type == "Conv":
        return prod(out) * prod(second[1:])
    flipped = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return prod(out) * (first[-2] if flipped else first[-1])


class _Weights:
    """Sizes of the constants of nodes."""

    def __init__(self, graph: GraphProto) -> None:
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        self._makers = {name: node for node in graph.node for name in node.output}

    def of(self, node: NodeProto) -> int | None:
        """Bytes of the constants of a computing node; None for others."""
        if node.op_type not in _CONVOLUTIONS | _PRODUCTS:
            return None
        return sum(self._bytes(name) for name in node.input)

    def _bytes(self, name: str) -> int:
        """Bytes of a tensor; 0 if it is no constant."""
        maker = self._makers.get(name)
        bits = None
        if maker is not None and maker.op_type == "DequantizeLinear":
            name = maker.input[0]
            maker = self._makers.get(name)
        if maker is not None and maker.op_type == "QuantizeLinear":  # stored as float in the file
            points = self._tensors.get(maker.input[2]) if len(maker.input) > 2 else None
            bits = 8 if points is None else _BITS.get(points.data_type, 32)
            name = maker.input[0]
        tensor = self._tensors.get(name)
        if tensor is None:
            return 0
        return (prod(tensor.dims) * (bits or _BITS.get(tensor.data_type, 32)) + 7) // 8
