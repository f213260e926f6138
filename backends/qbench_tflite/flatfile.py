"""Read and rewrite a TFLite file as a flatbuffer: all of its subgraphs, of which the interpreter
reports only the first. Never imported while measuring."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

INTEGERS = frozenset({"int2", "int4", "uint4", "int8", "uint8", "int16"})
"""Types of quantized tensors."""


@dataclass(frozen=True)
class FileOperator:
    """One operator of a file.

    Attributes:
        kind: such as ``CONV_2D``; ``CUSTOM`` for one that TFLite does not define.
        operands, results: types of its tensors, such as ``float32`` or ``int4``.
        weights: type of the quantized or half-precision constants that it computes with; None if
            there are none.
        expanded: whether a DEQUANTIZE turns ``weights`` into float32 first.
        calls: subgraphs that it runs (a loop's condition and body), by index.
    """

    kind: str
    operands: tuple[str, ...]
    results: tuple[str, ...]
    weights: str | None
    expanded: bool
    calls: tuple[int, ...]


def parse(content: bytes) -> Any:
    """The file as objects (``schema_py_generated.ModelT``), with current operator codes.

    By the format's rule (``schema.fbs``, OperatorCode), a code is the greater of ``builtin_code``
    and ``deprecated_builtin_code``; old converters leave the first at 0 (ADD), and today's tools
    read only that.
    """
    from ai_edge_litert import schema_py_generated as schema

    model: Any = schema.ModelT.InitFromPackedBuf(content, 0)
    for code in model.operatorCodes:
        code.builtinCode = max(code.builtinCode, code.deprecatedBuiltinCode)
    return model


def packed(model: Any) -> bytes:
    """The content of a file with this model."""
    import flatbuffers

    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def operators(model: Any) -> list[list[FileOperator]]:
    """The operators of each subgraph, in order."""
    kinds, types = _kinds(model), _names("TensorType")
    return [list(_operators(model, graph, kinds, types)) for graph in model.subgraphs]


_MOVING = ("CAST", "EXPAND_DIMS", "RESHAPE", "SLICE", "SQUEEZE", "STRIDED_SLICE", "TRANSPOSE")
"""Operators whose output has values of their first input only."""
_SELECTING = {"EMBEDDING_LOOKUP": (0, 1), "GATHER": (1, 0)}
"""Operators that select rows of a table: positions of the ids and of the table."""


def ranges(model: Any) -> dict[str, tuple[float, float]]:
    """The values that inputs of the first subgraph can take, by the tensor's name, where the
    operators say so: rows of a table, the scale that an input is quantized with."""
    graph, kinds = model.subgraphs[0], _kinds(model)
    roots = {int(index): int(index) for index in _list(graph.inputs)}
    found: dict[int, tuple[float, float]] = {}
    for operator in graph.operators:  # in order: what an operator reads has been written
        kind, inputs = kinds[operator.opcodeIndex], [int(index) for index in operator.inputs]
        if kind in _MOVING and inputs[0] in roots:
            roots |= {int(index): roots[inputs[0]] for index in operator.outputs}
        limits, place = None, 0
        if kind in _SELECTING:
            place, table = _SELECTING[kind]
            axis = getattr(operator.builtinOptions, "axis", 0)
            limits = (0.0, float(graph.tensors[inputs[table]].shape[axis] - 1))
        elif kind == "QUANTIZE":
            limits = _limits(graph.tensors[int(operator.outputs[0])])
        root = roots.get(inputs[place]) if inputs else None
        if limits is not None and root is not None:
            old = found.get(root, limits)
            found[root] = (max(old[0], limits[0]), min(old[1], limits[1]))
    return {graph.tensors[index].name.decode(): limits for index, limits in found.items()}


def _limits(tensor: Any) -> tuple[float, float] | None:
    """The real values that a tensor with one scale can hold; None if it has none or several."""
    dtype = _names("TensorType")[tensor.type]
    if dtype not in ("int8", "uint8", "int16") or not _has_scale(tensor):
        return None
    scales, zeros = tensor.quantization.scale, tensor.quantization.zeroPoint
    if len(scales) != 1:
        return None
    limits, scale, zero = np.iinfo(dtype), float(scales[0]), int(zeros[0])
    return (limits.min - zero) * scale, (limits.max - zero) * scale


def reachable(model: Any, first: int) -> list[int]:
    """Indices of the subgraph ``first`` and of all that it runs."""
    found = [first]
    for index in found:  # grows
        for operator in model.subgraphs[index].operators:
            found += [called for called in dict.fromkeys(_calls(operator)) if called not in found]
    return found


def keep(model: Any, indices: Sequence[int]) -> None:
    """Keep only these subgraphs, in this order, and the data that they read; in place. They run no
    others."""
    place = {old: new for new, old in enumerate(indices)}
    model.subgraphs = [model.subgraphs[index] for index in indices]
    for graph in model.subgraphs:
        for operator in graph.operators:
            for options, name in _fields(operator):
                value = getattr(options, name)
                several = isinstance(value, Sequence | np.ndarray)
                new = [place[int(v)] for v in value] if several else place.get(value, value)
                setattr(options, name, new)
    _drop_unused_data(model)


def expand_halves(model: Any) -> None:
    """Store weights in float32 that the file stores in float16 and expands by DEQUANTIZE, in
    place: quantizers look for float32 constants. Signatures must be set afterwards."""
    kinds = _kinds(model)
    for graph in model.subgraphs:
        halves, left = set[int](), []
        for operator in graph.operators:
            source = int(operator.inputs[0]) if len(_list(operator.inputs)) else -1
            if kinds[operator.opcodeIndex] != "DEQUANTIZE" or not _is_half(model, graph, source):
                left.append(operator)
                continue
            data = model.buffers[graph.tensors[source].buffer].data
            buffer = type(model.buffers[0])()
            buffer.data = np.asarray(data).view(np.float16).astype(np.float32).view(np.uint8)
            graph.tensors[operator.outputs[0]].buffer = len(model.buffers)
            model.buffers.append(buffer)
            halves.add(source)
        graph.operators = left
        others = {int(index) for operator in left for index in _list(operator.inputs)}
        _drop_tensors(graph, halves - others)
    _drop_unused_data(model)


def _is_half(model: Any, graph: Any, index: int) -> bool:
    return graph.tensors[index].type == _HALF and _is_stored(model, graph.tensors[index])


def _drop_tensors(graph: Any, unused: set[int]) -> None:
    """Remove tensors that no operator uses, in place."""
    left = [index for index in range(len(graph.tensors)) if index not in unused]
    place = {old: new for new, old in enumerate(left)} | {-1: -1}
    graph.tensors = [graph.tensors[index] for index in left]
    for owner in (graph, *graph.operators):
        for name in ("inputs", "outputs", "intermediates"):
            if getattr(owner, name, None) is not None:
                setattr(owner, name, [place[int(index)] for index in getattr(owner, name)])


def _drop_unused_data(model: Any) -> None:
    used = {int(tensor.buffer) for graph in model.subgraphs for tensor in graph.tensors}
    used.update(int(entry.buffer) for entry in model.metadata or ())
    for index, buffer in enumerate(model.buffers):
        if index not in used:
            buffer.data, buffer.offset, buffer.size = None, 0, 0


_HALF = 1  # TensorType.FLOAT16


def _operators(
    model: Any, graph: Any, kinds: list[str], types: dict[int, str]
) -> Iterator[FileOperator]:
    dtype = [types[tensor.type] for tensor in graph.tensors]
    stored = {
        index: dtype[index]
        for index, tensor in enumerate(graph.tensors)
        if _is_stored(model, tensor)
        and (dtype[index] == "float16" or (dtype[index] in INTEGERS and _has_scale(tensor)))
    }
    expanded: dict[int, str] = {}
    for operator in graph.operators:
        kind = kinds[operator.opcodeIndex]
        inputs = [int(index) for index in _list(operator.inputs) if index >= 0]
        outputs = [int(index) for index in _list(operator.outputs) if index >= 0]
        weights = [stored[index] for index in inputs if index in stored]
        if kind == "DEQUANTIZE" and weights:
            expanded[outputs[0]] = weights.pop()
        through = [expanded[index] for index in inputs if index in expanded]
        yield FileOperator(
            kind,
            tuple(dtype[index] for index in inputs),
            tuple(dtype[index] for index in outputs),
            weights=next(iter([*weights, *through]), None),
            expanded=bool(through) and not weights,
            calls=tuple(_calls(operator)),
        )


def _is_stored(model: Any, tensor: Any) -> bool:
    buffer = model.buffers[tensor.buffer]
    return (buffer.data is not None and len(buffer.data) > 0) or buffer.offset > 1


def _has_scale(tensor: Any) -> bool:
    return tensor.quantization is not None and len(_list(tensor.quantization.scale)) > 0


def _calls(operator: Any) -> Iterator[int]:
    for options, name in _fields(operator):
        value = getattr(options, name)
        several = isinstance(value, Sequence | np.ndarray)
        yield from (int(index) for index in (value if several else [value]) if index >= 0)


def _fields(operator: Any) -> Iterator[tuple[Any, str]]:
    """Options of an operator that hold indices of subgraphs, and their names."""
    for options in (operator.builtinOptions, operator.builtinOptions2):
        for name in vars(options) if options is not None else ():
            if "ubgraph" in name and getattr(options, name) is not None:
                yield options, name


def _kinds(model: Any) -> list[str]:
    names = _names("BuiltinOperator")
    return [names[code.builtinCode].upper() for code in model.operatorCodes]


def _names(enumeration: str) -> dict[int, str]:
    from ai_edge_litert import schema_py_generated as schema

    members = vars(getattr(schema, enumeration)).items()
    return {value: name.lower() for name, value in members if isinstance(value, int)}


def _list(values: Any) -> Sequence[Any]:
    return () if values is None else values
