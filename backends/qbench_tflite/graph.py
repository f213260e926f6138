"""Read back what a TFLite interpreter's graph consists of: numbers and placement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from qbench.backend import EffectivePrecision

COMPUTING = frozenset(
    {
        "BATCH_MATMUL",
        "BIDIRECTIONAL_SEQUENCE_LSTM",
        "CONV_2D",
        "CONV_3D",
        "CONV_3D_TRANSPOSE",
        "DEPTHWISE_CONV_2D",
        "FULLY_CONNECTED",
        "LSTM",
        "SVDF",
        "TRANSPOSE_CONV",
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
        "UNIDIRECTIONAL_SEQUENCE_RNN",
    }
)
"""TFLite's operators with weights, or that otherwise dominate the work."""

_Node = Mapping[str, Any]
_DELEGATE = "DELEGATE"
_INTEGER_WEIGHTS = frozenset({"int8", "uint8", "int4"})


@dataclass(frozen=True)
class Operator:
    """One operator of the main subgraph.

    Attributes:
        name: TFLite's name, such as ``CONV_2D``.
        precision: what it computes in: ``fp32``, ``int8``, ``int16x8``, ...; from the types of its
            operands as the interpreter has them.
        stored: type of the weights in the file, where that differs from what the operator is
            given (``float16`` behind a DEQUANTIZE), else None.
        delegated: whether a delegate (XNNPACK) took it; before ``allocate_tensors``, none has.
    """

    name: str
    precision: str
    stored: str | None
    delegated: bool

    @property
    def computes(self) -> bool:
        return self.name in COMPUTING


def operators(interpreter: Any) -> list[Operator]:
    """The operators of the file's first subgraph, in their order."""
    nodes = interpreter._get_ops_details()
    graph = [node for node in nodes if node["op_name"] != _DELEGATE]
    # Every tensor has one producer among the file's own operators.
    producer = {int(tensor): node for node in graph for tensor in node["outputs"]}
    delegated: set[int] = set()
    for node in nodes:
        if node["op_name"] == _DELEGATE:
            delegated.update(_inside(node, producer))
    return [
        Operator(
            node["op_name"],
            _precision(node),
            _stored(node, producer),
            node["index"] in delegated,
        )
        for node in graph
    ]


def effective(graph: list[Operator]) -> EffectivePrecision:
    """What runs, and where, from the operators of an allocated interpreter."""
    counts = Counter(op.precision for op in graph if op.computes)
    outside = Counter(op.name for op in graph if not op.delegated)
    notes = []
    if not any(op.delegated for op in graph):
        notes.append("no delegate took any operator: TFLite's own, slower kernels run them all")
    elif outside:
        parts = ", ".join(f"{count} {name}" for name, count in sorted(outside.items()))
        notes.append(f"outside XNNPACK: {parts}")
    if any(op.stored == "float16" and op.precision == "fp32" for op in graph):
        notes.append("fp16 is storage only: computed in fp32")
    if not counts:
        notes.append("the graph has no convolution or matrix product")
    precision = counts.most_common(1)[0][0] if counts else "fp32"
    return EffectivePrecision(precision, dict(counts), outside.total(), tuple(notes))


def _inside(delegate: Mapping[str, Any], producer: Mapping[int, _Node]) -> Iterator[int]:
    """Indices of the operators that a DELEGATE node stands for.

    The interpreter lists its outer inputs and outputs only. What leads from the ones to the
    others is inside: were it not, its result would be one of the inputs.
    """
    inputs = {int(tensor) for tensor in delegate["inputs"]}
    open_tensors = [int(tensor) for tensor in delegate["outputs"]]
    seen: set[int] = set()
    while open_tensors:
        tensor = open_tensors.pop()
        node = producer.get(tensor)
        if tensor in inputs or node is None or node["index"] in seen:
            continue
        seen.add(node["index"])
        yield node["index"]
        open_tensors.extend(int(operand) for operand in node["inputs"])


def _precision(node: _Node) -> str:
    result = _names(node["result_types"])
    operands = _names(node["operand_types"])
    if "int16" in result:
        return "int16x8"
    if _INTEGER_WEIGHTS.intersection(result):
        return "int8"
    if "float32" in result:
        # Float in and out around integer weights: activations are quantized at run time.
        return "int8" if _INTEGER_WEIGHTS.intersection(operands) else "fp32"
    return {"float16": "fp16", "bfloat16": "bf16"}.get(result[0], result[0]) if result else "fp32"


def _stored(node: _Node, producer: Mapping[int, _Node]) -> str | None:
    for tensor in node["inputs"]:
        source = producer.get(int(tensor))
        if source is not None and source["op_name"] == "DEQUANTIZE":
            types = _names(source["operand_types"])
            if types and types[0] == "float16":
                return types[0]
    return None


def _names(types: list[Any]) -> list[str]:
    return [np.dtype(kind).name for kind in types]
