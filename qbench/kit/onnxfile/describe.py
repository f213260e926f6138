"""Describe an ONNX file: its tensors, and what it says about free sizes. Needs onnx."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import onnx
from onnx import GraphProto, ModelProto, NodeProto, numpy_helper

from qbench.kit.adapter import Description, KnownSize
from qbench.kit.onnxfile.graph import real_inputs, shape_of, specs

_SAME_SHAPE = ("Cast", "Clip", "DequantizeLinear", "Identity", "QuantizeLinear", "Relu")
"""Operators whose output has the shape of their first input."""


def describe(model: ModelProto) -> Description:
    """What the file says about its tensors."""
    graph = model.graph
    inputs = specs(real_inputs(graph), graph)
    known = _Known.of(graph)
    for value in real_inputs(graph):
        known.follow(value.name, shape_of(value))
    metadata = {prop.key: prop.value for prop in model.metadata_props}
    for value in real_inputs(graph):
        known.add_image_size(shape_of(value), metadata.get("imgsz", ""))
    outputs = specs(graph.output, graph)
    return Description(inputs, outputs, known.sizes, known.rows, known.values)


@dataclass
class _Known:
    """What the operators that use an input say about it.

    Attributes:
        sizes: values of free sizes, by name.
        rows: rows of the table that an input selects from, by input.
        values: what a scalar input is compared with, by input.
    """

    users: Mapping[str, list[NodeProto]]
    constants: Mapping[str, onnx.TensorProto]
    shapes: Mapping[str, tuple[int | str, ...]]
    sizes: dict[str, KnownSize] = field(default_factory=dict[str, KnownSize])
    rows: dict[str, int] = field(default_factory=dict[str, int])
    values: dict[str, float] = field(default_factory=dict[str, float])

    @classmethod
    def of(cls, graph: GraphProto) -> _Known:
        users: dict[str, list[NodeProto]] = {}
        constants = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            for name in node.input:
                users.setdefault(name, []).append(node)
            if node.op_type == "Constant" and node.attribute[0].HasField("t"):
                constants[node.output[0]] = node.attribute[0].t
        return cls(users, constants, {v.name: shape_of(v) for v in graph.value_info})

    def follow(self, name: str, shape: tuple[int | str, ...]) -> None:
        """Learn from the operators that use the input ``name``, also behind those that keep its
        shape."""
        reached, seen = [name], set()
        while reached:
            tensor = reached.pop()
            if tensor in seen:
                continue
            seen.add(tensor)
            for node in self.users.get(tensor, ()):
                if node.op_type in _SAME_SHAPE and node.input[0] == tensor:
                    reached.append(node.output[0])
                    for axis, size in enumerate(self.shapes.get(node.output[0], ())):
                        self._add(shape, axis, size, f"the shape of '{node.output[0]}'")
                for axis, size in self._forced(node, tensor, len(shape)):
                    self._add(shape, axis, size, f"the weights of {_title(node)}")
                if node.op_type == "Equal" and not shape:
                    self._add_value(name, node)
                if node.op_type == "Gather" and list(node.input[1:2]) == [tensor]:
                    table = self.constants.get(node.input[0])
                    axis = _attribute(node, "axis", 0)
                    if table is not None and table.dims:
                        rows = table.dims[axis]
                        self.rows[name] = min(rows, self.rows.get(name, rows))

    def _add_value(self, name: str, node: NodeProto) -> None:
        for other in node.input:
            constant = self.constants.get(other)
            if constant is not None and not constant.dims:
                self.values.setdefault(name, float(numpy_helper.to_array(constant).item()))

    def _add(self, shape: tuple[int | str, ...], axis: int, size: int | str, source: str) -> None:
        name = shape[axis] if -len(shape) <= axis < len(shape) else 0
        if isinstance(name, str) and isinstance(size, int):
            self.sizes.setdefault(name, KnownSize(size, source))

    def _forced(self, node: NodeProto, tensor: str, rank: int) -> Iterator[tuple[int, int]]:
        """Yield axes of ``tensor`` whose sizes the weights of ``node`` decide."""
        if node.input[0] != tensor or len(node.input) < 2:
            return
        weights = self.constants.get(node.input[1])
        if weights is None:
            return
        dims = list(weights.dims)
        match node.op_type:
            case "Conv" if len(dims) > 2:
                yield 1, dims[1] * _attribute(node, "group", 1)
            case "ConvTranspose" if len(dims) > 2:
                yield 1, dims[0]
            case "BatchNormalization" | "InstanceNormalization" if dims and rank > 1:
                yield 1, dims[0]
            case "MatMul" if dims:
                yield rank - 1, dims[-2] if len(dims) > 1 else dims[0]
            case "Gemm" if len(dims) == 2 and not _attribute(node, "transA", 0):
                yield 1, dims[1] if _attribute(node, "transB", 0) else dims[0]
            case "LSTM" | "GRU" | "RNN" if len(dims) == 3:
                yield 2, dims[2]
            case _:
                pass

    def add_image_size(self, shape: tuple[int | str, ...], text: str) -> None:
        """Learn height and width of an image ``[N, C, H, W]`` from Ultralytics' ``imgsz``, such as
        ``[640, 640]``."""
        found = re.fullmatch(r"\[(\d{1,6}), ?(\d{1,6})\]", text.strip())
        if found and len(shape) == 4:
            for axis, size in ((2, int(found[1])), (3, int(found[2]))):
                self._add(shape, axis, size, "imgsz in the file's metadata")


def _attribute(node: NodeProto, name: str, default: int) -> int:
    return next((a.i for a in node.attribute if a.name == name), default)


def _title(node: NodeProto) -> str:
    return f"{node.op_type} '{node.name}'" if node.name else node.op_type
