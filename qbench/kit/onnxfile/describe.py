"""Describe an ONNX file: its tensors, and what it says about free sizes. Needs onnx."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, numpy_helper

from qbench.kit.adapter import Description, KnownSize, Range
from qbench.kit.onnxfile.graph import check_finite, real_inputs, shape_of, specs

_SAME_SHAPE = ("Cast", "Clip", "DequantizeLinear", "Identity", "QuantizeLinear", "Relu")
"""Operators whose output has the shape of their first input."""
_SAME_VALUES = (
    "Cast",
    "Expand",
    "Flatten",
    "Gather",
    "Identity",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
)
"""Operators whose output has values of their first input only."""
_SELECTING = {"Gather": (1, 0), "GatherBlockQuantized": (1, 0), "EmbedLayerNormalization": (0, 2)}
"""Operators that select rows of a table: positions of the ids and of the table."""


def describe(model: ModelProto) -> Description:
    """What the file says about its tensors.

    Raises:
        PrepareError: its weights hold NaN, so that no input gives numbers.
    """
    check_finite(model)
    if any(value.type.WhichOneof("value") is None for value in model.graph.output):
        model = onnx.shape_inference.infer_shapes(model)
    graph = model.graph
    inputs = specs(real_inputs(graph), graph)
    known = _Known.of(graph)
    for value in real_inputs(graph):
        known.follow(value.name, shape_of(value))
    metadata = {prop.key: prop.value for prop in model.metadata_props}
    for value in real_inputs(graph):
        known.add_image_size(shape_of(value), metadata.get("imgsz", ""))
    outputs = specs(graph.output, graph)
    return Description(inputs, outputs, known.sizes, known.ranges)


@dataclass
class _Known:
    """What the operators that use an input say about it.

    Attributes:
        sizes: values of free sizes, by name.
        ranges: see ``Description``.
    """

    users: Mapping[str, list[NodeProto]]
    producers: Mapping[str, NodeProto]
    constants: Mapping[str, onnx.TensorProto]
    shapes: Mapping[str, tuple[int | str, ...]]
    sizes: dict[str, KnownSize] = field(default_factory=dict[str, KnownSize])
    ranges: dict[str, Range] = field(default_factory=dict[str, Range])

    @classmethod
    def of(cls, graph: GraphProto) -> _Known:
        users: dict[str, list[NodeProto]] = {}
        constants = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            for name in node.input:
                users.setdefault(name, []).append(node)
            if node.op_type == "Constant" and node.attribute[0].HasField("t"):
                constants[node.output[0]] = node.attribute[0].t
        producers = {name: node for node in graph.node for name in node.output}
        return cls(users, producers, constants, {v.name: shape_of(v) for v in graph.value_info})

    def follow(self, name: str, shape: tuple[int | str, ...]) -> None:
        """Learn from the operators that use the input ``name``, also behind those that keep its
        shape."""
        for tensor, node in self._users_behind(name, _SAME_SHAPE):
            if node.op_type in _SAME_SHAPE and node.input[0] == tensor:
                for axis, size in enumerate(self.shapes.get(node.output[0], ())):
                    self._add(shape, axis, size, f"the shape of '{node.output[0]}'")
            for axis, size in self._forced(node, tensor, len(shape)):
                self._add(shape, axis, size, f"the weights of {_title(node)}")
            if node.op_type == "Equal" and not shape:
                self._add_value(name, node)
        self._follow_values(name)

    def _users_behind(self, name: str, passed: Collection[str]) -> Iterator[tuple[str, NodeProto]]:
        """Yield the operators that use the tensor ``name``, also behind operators of the types
        ``passed``, with the tensor that each of them uses."""
        reached, seen = [name], set[str]()
        while reached:
            tensor = reached.pop()
            if tensor in seen:
                continue
            seen.add(tensor)
            for node in self.users.get(tensor, ()):
                yield tensor, node
                if node.op_type in passed and node.input[0] == tensor:
                    reached.extend(node.output)

    def _follow_values(self, name: str) -> None:
        """Learn the range of the input ``name`` from the operators that use its values, also behind
        those that only move them."""
        for tensor, node in self._users_behind(name, _SAME_VALUES):
            if rows := self._rows(node, tensor):
                self._limit(name, (0.0, float(rows - 1)))
            if node.op_type == "QuantizeLinear" and node.input[0] == tensor:
                self._add_scale(name, node)

    def _rows(self, node: NodeProto, ids: str) -> int | None:
        """Rows of the table that ``ids`` select from; None if they select from none."""
        if node.op_type not in _SELECTING:
            return None
        position, table = _SELECTING[node.op_type]
        if list(node.input[position : position + 1]) != [ids]:
            return None
        dims = self._table_dims(node.input[table])
        name = "gather_axis" if node.op_type == "GatherBlockQuantized" else "axis"
        return dims[_attribute(node, name, 0)] if dims else None

    def _table_dims(self, name: str) -> list[int]:
        """Sizes of a constant, also behind operators that keep its shape; [] if it is none."""
        while name not in self.constants:
            node = self.producers.get(name)
            if node is None or node.op_type not in _SAME_SHAPE:
                return []
            name = node.input[0]
        return list(self.constants[name].dims)

    def _limit(self, name: str, new: Range) -> None:
        old = self.ranges.get(name, new)
        self.ranges[name] = (max(old[0], new[0]), min(old[1], new[1]))

    def _add_scale(self, name: str, node: NodeProto) -> None:
        """The real values that a quantized input of this scale can hold."""
        scale, zero = (self.constants.get(n) for n in [*node.input[1:3], ""][:2])
        if scale is None or scale.dims:
            return
        kind = numpy_helper.to_array(zero).dtype if zero is not None else np.dtype(np.uint8)
        if kind.kind not in "iu":
            return
        step = float(numpy_helper.to_array(scale))
        middle = int(numpy_helper.to_array(zero)) if zero is not None else 0
        limits = np.iinfo(kind)
        self._limit(name, ((limits.min - middle) * step, (limits.max - middle) * step))

    def _add_value(self, name: str, node: NodeProto) -> None:
        for other in node.input:
            constant = self.constants.get(other)
            if constant is not None and not constant.dims:
                value = float(numpy_helper.to_array(constant).item())
                self.ranges.setdefault(name, (value, value))

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
