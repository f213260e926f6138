"""The nodes of a prepared ONNX file, as the layers of an engine name them: kinds and work.

Written when an engine is compiled, where the file is at hand; read, without the onnx package, where
the engine is looked at.
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
_OTHERS = frozenset(("Attention", "Einsum", "GRU", "LSTM", "RNN"))


@dataclass(frozen=True)
class Node:
    """One node.

    Attributes:
        kind: its operator.
        macs: multiply-accumulates of one inference at the compiled batch; None if it has none, or
            if shapes do not tell.
    """

    kind: str
    macs: int | None = None

    @property
    def computes(self) -> bool:
        return self.kind in _CONVOLUTIONS | _PRODUCTS | _OTHERS


def write_nodes(file: Path, shapes: Mapping[str, Sequence[int]], folder: Path) -> None:
    """Leave the nodes of ``file``, with inputs of ``shapes``, in ``folder``."""
    import onnx
    from onnx import shape_inference

    model = onnx.load(file, load_external_data=False)
    for value in model.graph.input:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if value.name in shapes:
                dim.dim_value = shapes[value.name][axis]
    del model.graph.value_info[:]  # a free size there would win over the one that follows now
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    graph = shape_inference.infer_shapes(model, data_prop=True).graph
    known = _shapes(graph)
    found: dict[str, Node] = {}
    for node in graph.node:
        name = _name(node)
        twice = name in found  # nobody can tell whose work a layer of that name does
        found[name] = Node(node.op_type, None if twice else _macs(node, known))
    data = {name: asdict(node) for name, node in found.items()}
    (folder / NODES_FILE).write_text(json.dumps(data))


def read_nodes(folder: Path) -> dict[str, Node]:
    data: Mapping[str, Any] = json.loads((folder / NODES_FILE).read_text())
    return {name: Node(**node) for name, node in data.items()}


def _name(node: NodeProto) -> str:
    """As TensorRT's parser names a node (``getNodeName`` of onnx-tensorrt)."""
    return node.name or f"node_of_{node.output[0]}"


def _shapes(graph: GraphProto) -> dict[str, list[int]]:
    """Shapes that are known to the last size."""
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if all(dim.HasField("dim_value") for dim in dims):
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
