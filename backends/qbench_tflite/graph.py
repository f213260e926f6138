"""Read back a TFLite interpreter's graph: types, work and placement of its operators.

Needs an interpreter, which reports the file's first subgraph, and the file for the others: those
that loops and branches run.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from qbench.kit.operators import Operator
from qbench_tflite.flatfile import INTEGERS, FileOperator

Subgraphs = Sequence[Sequence[FileOperator]]
"""A file's operators by subgraph, see ``flatfile.operators``."""
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
"""TFLite's operators that have weights or dominate the work."""
CONVERTING = frozenset({"QUANTIZE", "DEQUANTIZE", "CAST"})
_COPYING_NOTHING = frozenset({"EXPAND_DIMS", "RESHAPE", "SHAPE", "SQUEEZE"})
_LOOKUPS = frozenset({"EMBEDDING_LOOKUP", "GATHER", "GATHER_ND"})

Node = Mapping[str, Any]
"""One row of ``Interpreter._get_ops_details()``."""
_Shape = Sequence[int]
_DELEGATE = "DELEGATE"
_INTEGER_WEIGHTS = INTEGERS - {"int16"}
_WORDS = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "int16": "int16"}
_ADDED = ("_quantized", "_dequant")
"""Suffixes that ai-edge-quantizer adds to names of derived tensors."""


def nodes(interpreter: Any) -> list[Node]:
    """The file's own operators in order, without nodes that stand for a delegate."""
    return [n for n in interpreter._get_ops_details() if n["op_name"] != _DELEGATE]


def partitions(interpreter: Any) -> int:
    """Number of parts of an allocated graph that delegates run."""
    return sum(n["op_name"] == _DELEGATE for n in interpreter._get_ops_details())


def tensor_names(interpreter: Any) -> dict[int, str]:
    """Names of tensors in the float32 file."""
    return {
        int(detail["index"]): source_name(detail["name"])
        for detail in interpreter.get_tensor_details()
    }


def source_name(tensor: str) -> str:
    """A tensor's name without ai-edge-quantizer's suffixes."""
    for added in _ADDED:
        tensor = tensor.removesuffix(added)
    return tensor


def operators(interpreter: Any, file: Subgraphs, shapes: Any = None) -> list[Operator]:
    """The operators of a graph. A fallback is an operator that no delegate (XNNPACK) runs. A loop
    with products inside (a recurrent layer) computes, an unknown amount.

    Args:
        interpreter: before ``allocate_tensors``, delegates have no operators yet.
        shapes: an allocated interpreter of the same file without delegates, to read shapes from:
            XNNPACK does not report those of a resized graph. By default ``interpreter``.
    """
    graph = nodes(interpreter)
    # every tensor has one producer among the file's own operators
    producer = {tensor: node for node in graph for tensor in _given(node["outputs"])}
    delegated: set[int] = set()
    for node in interpreter._get_ops_details():
        if node["op_name"] == _DELEGATE:
            delegated.update(_inside(node, producer))
    names = tensor_names(interpreter)
    details = (interpreter if shapes is None else shapes).get_tensor_details()
    sizes = {int(detail["index"]): tuple(map(int, detail["shape"])) for detail in details}
    nbytes = {
        int(detail["index"]): math.prod(map(int, detail["shape"]))
        * np.dtype(detail["dtype"]).itemsize
        for detail in details
    }
    constant = constants(interpreter, graph)
    found = []
    for node in graph:
        operator = _operator(node, names, sizes, node["index"] in delegated)
        inner = Counter(_called(file, file[0][node["index"]]))
        if inner:
            ((precision, _),) = inner.most_common(1)
            operator = replace(operator, role="compute", precision=precision)
            found.append(operator)  # its weights are inside, read once in each round
        else:
            found.append(replace(operator, **_bytes(node, nbytes, constant)))
    return found


def _called(file: Subgraphs, operator: FileOperator) -> Iterator[str]:
    """Precisions of the products in the subgraphs that an operator runs."""
    for index in operator.calls:
        for inner in file[index]:
            if inner.kind in COMPUTING:
                yield _precision(inner.kind, inner.operands, inner.results) or "fp32"
            yield from _called(file, inner)


def quantized(file: Subgraphs) -> int:
    """Number of operators with integer weights, and of products of integers, in all subgraphs: the
    rule of ``qbench.kit.onnxfile.quantized``."""
    return sum(
        (operator.kind in COMPUTING | _LOOKUPS and operator.weights in INTEGERS)
        or (operator.kind in COMPUTING and not INTEGERS.isdisjoint(operator.operands))
        for graph in file
        for operator in graph
    )


def stored(file: Subgraphs) -> list[str]:
    """Storage types (``float16``, ``int8``) of weights that a DEQUANTIZE expands to float32, one
    per computing operator with such weights, in all subgraphs."""
    return [
        operator.weights
        for graph in file
        for operator in graph
        if operator.kind in COMPUTING and operator.expanded and operator.weights is not None
    ]


def notes(graph: Sequence[Operator], storage: Sequence[str]) -> list[str]:
    """Notes for the reader of an allocated graph; ``storage`` is from :func:`stored`."""
    outside = Counter(op.kind for op in graph if op.fallback)
    result = []
    if all(op.fallback for op in graph):
        result.append("no delegate runs any operator: TFLite's own, slower kernels run all of them")
    elif outside:
        parts = ", ".join(f"{count} {kind}" for kind, count in sorted(outside.items()))
        result.append(f"outside XNNPACK: {parts}")
    if "float16" in storage:
        result.append("fp16 is storage only: computed in fp32")
    if any(kind in _INTEGER_WEIGHTS for kind in storage):
        result.append("integer weights are storage only: computed in fp32")
    if not any(op.role == "compute" for op in graph):
        result.append("the graph has no convolution or matrix product")
    if any(op.role == "compute" and op.kind not in COMPUTING for op in graph):
        result.append("the work inside loops and branches (recurrent layers) is not counted")
    return result


# --------------------------------------------------------------------------- one operator


def _operator(
    node: Node, names: Mapping[int, str], shapes: Mapping[int, _Shape], delegated: bool
) -> Operator:
    kind = node["op_name"]
    outputs = _given(node["outputs"])
    name = names.get(outputs[0], kind) if outputs else kind
    computes = kind in COMPUTING
    return Operator(
        name=name,
        kind=kind,
        role="compute" if computes else "convert" if kind in CONVERTING else "other",
        precision=None
        if kind in CONVERTING
        else _precision(kind, _names(node["operand_types"]), _names(node["result_types"])),
        macs=_macs(kind, [shapes.get(int(t), ()) for t in node["inputs"]], shapes[outputs[0]])
        if computes
        else None,
        fallback=not delegated,
        # the converter joins the names of fused layers
        layers=tuple(part for part in name.split(";") if part),
    )


def _bytes(node: Node, sizes: Mapping[int, int], constant: frozenset[int]) -> dict[str, int]:
    """``weight_bytes`` and ``activation_bytes`` of an operator. 4-bit weights count as 8-bit ones,
    as LiteRT reports them."""
    made = _given(node["outputs"])
    if node["op_name"] in _COPYING_NOTHING or constant.issuperset(made):
        return {"weight_bytes": 0, "activation_bytes": 0}
    read = _given(node["inputs"])
    weights = sum(sizes[tensor] for tensor in read if tensor in constant)
    given = sum(sizes[tensor] for tensor in read if tensor not in constant)
    written = sum(sizes[tensor] for tensor in made)
    if node["op_name"] in _LOOKUPS:
        weights = min(weights, written)
    return {"weight_bytes": weights, "activation_bytes": given + written}


def constants(interpreter: Any, graph: Sequence[Node]) -> frozenset[int]:
    """Tensors that no inference changes: stored ones, and their expansions."""
    changing = {int(detail["index"]) for detail in interpreter.get_input_details()}
    for node in graph:
        if node["op_name"] != "DEQUANTIZE" or int(node["inputs"][0]) in changing:
            changing.update(_given(node["outputs"]))
    return frozenset(int(d["index"]) for d in interpreter.get_tensor_details()) - changing


def _precision(kind: str, operands: Sequence[str], results: Sequence[str]) -> str | None:
    if _INTEGER_WEIGHTS.intersection(results):
        return "int8"
    if "float32" in results and kind in COMPUTING:
        # float inputs and outputs with integer weights: activations are quantized at run time
        return "int8" if _INTEGER_WEIGHTS.intersection(operands) else "fp32"
    return next((_WORDS[kind] for kind in results if kind in _WORDS), None)


def _macs(kind: str, inputs: Sequence[_Shape], output: _Shape) -> int | None:
    """Multiply-accumulates of one inference; None for recurrent operators and the like.

    Layouts of weights by TFLite's operator (``schema.fbs``): CONV_2D ``[out, h, w, in]``,
    DEPTHWISE_CONV_2D ``[1, h, w, out]``, CONV_3D ``[d, h, w, in, out]``, FULLY_CONNECTED ``[out,
    in]``, TRANSPOSE_CONV ``[out, h, w, in]``, whose second and third operands are weights and
    input.
    """
    if kind == "CONV_2D":
        return math.prod(output) * math.prod(inputs[1][1:])
    if kind == "DEPTHWISE_CONV_2D":
        return math.prod(output) * math.prod(inputs[1][1:3])
    if kind == "CONV_3D":
        return math.prod(output) * math.prod(inputs[1][:4])
    if kind == "FULLY_CONNECTED":
        return math.prod(output) * inputs[1][1]
    if kind == "BATCH_MATMUL":
        # [m, k] or, transposed, [k, m]; the output is [m, n]
        return math.prod(output) * (inputs[0][-1] * inputs[0][-2] // max(output[-2], 1))
    if kind == "TRANSPOSE_CONV":
        return math.prod(inputs[2]) * math.prod(inputs[1][:3])
    if kind == "CONV_3D_TRANSPOSE":
        return math.prod(inputs[2]) * math.prod(inputs[1][:4])
    return None


def _inside(delegate: Node, producer: Mapping[int, Node]) -> Iterator[int]:
    """Indices of the operators that a DELEGATE node stands for.

    The interpreter lists only its outer inputs and outputs. Operators on the way from inputs to
    outputs are inside; otherwise their results would be among the inputs.
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
        open_tensors.extend(_given(node["inputs"]))


def _given(tensors: Sequence[Any]) -> list[int]:
    """Indices of an operator's tensors without -1, which stands for an omitted input, or for an
    output that nothing reads."""
    return [int(tensor) for tensor in tensors if tensor >= 0]


def _names(types: Sequence[Any]) -> list[str]:
    return [np.dtype(kind).name for kind in types]
