"""Check whether TensorRT accepts a quantized ONNX file: its rules for Q and DQ.

Sources by name of the rule:

- ``type``, ``zero-point``, ``scale``, ``channels``, ``block``: NVIDIA's ONNX parser,
  onnx-tensorrt ``onnxOpImporters.cpp``, ``QuantDequantLinearHelper``. Only INT8, FP8 and 4 bits;
  all zero-points zero, as many as scales; positive scales, one per channel or one per block along
  one axis; 4 bits need an even number of elements.
- ``scale`` (constant), ``axis``, ``activation``, ``weights-only``, ``block``: TensorRT's
  documentation, "Working with Quantized Types" and the operators Quantize and Dequantize. Scales
  are known at build time; an activation has one; blocks are for 4-bit weights with two axes; INT4
  is for weights only; weights have one scale per output channel (K of a convolution).
- ``bias``: the same, and ``IDequantizeLayer``, which accepts no INT32: biases stay floating point.
- ``operator``: onnx-tensorrt ``docs/operators.md``: no DynamicQuantizeLinear, ConvInteger,
  MatMulInteger, QLinearConv or QLinearMatMul, and no operators of ONNX Runtime's own.
- ``pair``: explicit quantization fuses DQ, operator, Q; no layer accepts an integer tensor anywhere
  else.
- ``opset``: ONNX, ``QuantizeLinear``: scales per channel from 13, float8 from 19, int4 from 21.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper
from onnx.numpy_helper import to_array

_Q, _DQ = "QuantizeLinear", "DequantizeLinear"
_STANDARD = ("", "ai.onnx")
_INTEGER_OPERATORS = (
    *("ConvInteger", "DynamicQuantizeLinear", "MatMulInteger"),
    *("QLinearConv", "QLinearMatMul"),
)
_RUNTIME_DOMAINS = ("com.microsoft", "com.ms.internal.nhwc")
_RUNTIME_OPERATORS = (
    *("DequantizeLinear", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "GatherBlockQuantized"),
    *("MatMulBnb4", "MatMulIntegerToFloat", "MatMulNBits", "QAttention", "QGemm", "QMoE"),
    *("QEmbedLayerNormalization", "QuantizeLinear"),
)
_RUNTIME_PREFIXES = ("QLinear", "QOrdered")
_FOUR_BITS = (TensorProto.INT4, TensorProto.FLOAT4E2M1)
_TYPES = (TensorProto.INT8, TensorProto.FLOAT8E4M3FN, *_FOUR_BITS)
_SINCE: dict[int, int] = {
    TensorProto.FLOAT8E4M3FN: 19,
    TensorProto.INT4: 21,
    TensorProto.FLOAT4E2M1: 23,
}
_PER_CHANNEL_SINCE = 13
_BLOCKS_SINCE = 21
_MOVING = (
    *("Concat", "Flatten", "Identity", "MaxPool", "Reshape", "Slice", "Split", "Squeeze"),
    *("Transpose", "Unsqueeze"),
)
"""Operators that only reorder or select integers."""
_BIASED = ("Conv", "ConvTranspose", "Gemm")
_REQUANTIZE = "quantize the float32 model for TensorRT (int8-static, recipe best)"


@dataclass(frozen=True)
class Violation:
    """A reason why TensorRT refuses a file.

    Attributes:
        node: name of the operator, or its type and first output if it has none.
        rule: one of the names above.
        message: the fault, without the node's name.
        fix: the remedy.
    """

    node: str
    rule: str
    message: str
    fix: str

    def __str__(self) -> str:
        return f"{self.node}: {self.message} ({self.fix})"


def check(model: ModelProto) -> list[Violation]:
    """All violations, in the file's order. External weights must have been loaded."""
    opset = max((o.version for o in model.opset_import if o.domain in _STANDARD), default=1)
    return list(_Graph(model.graph, opset).violations())


class _Graph:
    """A graph and facts of its tensors; a subgraph also knows the outer graph's."""

    def __init__(self, graph: GraphProto, opset: int, outer: _Graph | None = None) -> None:
        self.graph, self.opset = graph, opset
        self.tensors: dict[str, TensorProto] = dict(outer.tensors) if outer else {}
        self.constant: set[str] = set(outer.constant) if outer else set()
        self.makers: dict[str, NodeProto] = dict(outer.makers) if outer else {}
        self.users: dict[str, list[tuple[NodeProto, int]]] = {}
        self.types = {v.name: v.type.tensor_type.elem_type for v in graph.input}
        self.outputs = {value.name for value in graph.output}
        self.tensors.update((tensor.name, tensor) for tensor in graph.initializer)
        self.constant.update(tensor.name for tensor in graph.initializer)
        for node in graph.node:
            if node.op_type == "Constant" and (tensor := _constant(node)) is not None:
                self.tensors[node.output[0]] = tensor
            # a node's subgraph may read any tensor, so the node's inputs do not make it constant
            inner = any(a.type == AttributeProto.GRAPH for a in node.attribute)
            if not inner and all(name in self.constant for name in node.input if name):
                self.constant.update(node.output)
            self.makers.update((name, node) for name in node.output)
            for place, name in enumerate(node.input):
                self.users.setdefault(name, []).append((node, place))

    def violations(self) -> Iterator[Violation]:
        for node in self.graph.node:
            yield from self._operator(node)
            if node.op_type in (_Q, _DQ) and node.domain in _STANDARD:
                yield from self._quantization(node)
            for attribute in node.attribute:
                if attribute.type == AttributeProto.GRAPH:
                    yield from _Graph(attribute.g, self.opset, self).violations()

    # ------------------------------------------------------------------ the rules

    def _operator(self, node: NodeProto) -> Iterator[Violation]:
        ours = node.domain in _STANDARD and node.op_type in _INTEGER_OPERATORS
        theirs = node.domain in _RUNTIME_DOMAINS and (
            node.op_type in _RUNTIME_OPERATORS or node.op_type.startswith(_RUNTIME_PREFIXES)
        )
        if ours or theirs:
            prefix = f"{node.domain}." if theirs else ""
            yield _violation(
                node, "operator", f"TensorRT has no {prefix}{node.op_type}", _REQUANTIZE
            )

    def _quantization(self, node: NodeProto) -> Iterator[Violation]:
        kind = self._type(node)
        if kind == TensorProto.INT32:
            yield _violation(
                node,
                "bias",
                "a bias of int32 is dequantized, and TensorRT has no such layer",
                "leave biases in floating point (QuantizeBias=False)",
            )
            return
        if kind not in _TYPES:
            stated = "no type is given, which means uint8" if kind is None else _name_of(kind)
            yield _violation(
                node,
                "type",
                f"quantized to {stated}; TensorRT takes int8, float8e4m3fn and 4 bits"
                if kind is not None
                else f"{stated} in ONNX and int8 in TensorRT",
                _REQUANTIZE,
            )
        yield from self._zero_points(node)
        yield from self._scales(node)
        yield from self._granularity(node, kind)
        yield from self._pair(node)
        yield from self._bias(node)
        since = _SINCE.get(kind or 0, 0)
        if self.opset < since:
            yield self._too_old(node, f"{_name_of(kind or 0)} needs", since)

    def _zero_points(self, node: NodeProto) -> Iterator[Violation]:
        name = _input(node, 2)
        if not name:
            return
        zeros, scales = self._value(name), self._value(node.input[1])
        if zeros is None:
            yield _violation(
                node, "zero-point", "the zero-point is not constant", "make it a constant 0"
            )
        elif np.any(zeros.astype(np.float32) != 0):
            yield _violation(
                node,
                "zero-point",
                "the zero-point is not 0; TensorRT only quantizes symmetrically",
                _REQUANTIZE,
            )
        elif scales is not None and zeros.size != scales.size:
            yield _violation(
                node,
                "zero-point",
                f"{zeros.size} zero-points for {scales.size} scales",
                "give each scale its own zero-point",
            )

    def _scales(self, node: NodeProto) -> Iterator[Violation]:
        if node.input[1] not in self.constant:
            yield _violation(
                node,
                "scale",
                "the scale is computed at run time; TensorRT needs a constant",
                _REQUANTIZE,
            )
            return
        scales = self._value(node.input[1])
        if scales is None:
            return
        values = scales.astype(np.float32)
        if not values.size or not np.all(np.isfinite(values) & (values > 0)):
            yield _violation(
                node,
                "scale",
                "a scale is not a positive finite number",
                "calibrate again; a tensor that is always 0 needs no quantization",
            )

    def _granularity(self, node: NodeProto, kind: int | None) -> Iterator[Violation]:
        """One scale, one per channel, or one per block."""
        shape, size = self._shape(node.input[1]), 1
        if shape is not None:
            size = int(np.prod(shape, dtype=np.int64))
        weights = node.input[0] in self.constant
        if kind == TensorProto.INT4 and not weights:
            yield _violation(
                node, "weights-only", "int4 is for weights, not activations", "use int8 or fp8"
            )
        data = self._shape(node.input[0])
        if kind in _FOUR_BITS and data and np.prod(data) % 2:
            yield _violation(
                node, "block", "4 bits need an even number of elements", "exclude this operator"
            )
        if shape is None or size == 1:
            return
        if not weights:
            yield _violation(
                node,
                "activation",
                f"an activation has {size} scales; TensorRT takes one per tensor",
                "quantize activations per tensor",
            )
        elif len(shape) == 1 and not _attribute(node, "block_size", 0):
            if self.opset < _PER_CHANNEL_SINCE:
                yield self._too_old(node, "a scale per channel needs", _PER_CHANNEL_SINCE)
            yield from self._channels(node, data, size)
        else:
            if self.opset < _BLOCKS_SINCE:
                yield self._too_old(node, "blocks need", _BLOCKS_SINCE)
            yield from self._blocks(node, kind, data, shape)

    def _channels(self, node: NodeProto, data: list[int] | None, size: int) -> Iterator[Violation]:
        if data is None:
            return
        axis = _attribute(node, "axis", 1)
        axis += len(data) if axis < 0 else 0
        if not 0 <= axis < len(data) or data[axis] != size:
            yield _violation(
                node,
                "channels",
                f"{size} scales along axis {axis} of a tensor of {data}",
                "use one scale per channel of that axis",
            )
            return
        for user, wanted in self._channel_axes(node.output[0], axis, len(data)):
            if wanted != axis:
                yield _violation(
                    node,
                    "axis",
                    f"scales along axis {axis} of the weights of {user.op_type} "
                    f"'{_name(user)}'; TensorRT takes them along its output channels, axis "
                    f"{wanted}",
                    "quantize weights per output channel, or per tensor",
                )

    def _channel_axes(self, tensor: str, axis: int, rank: int) -> Iterator[tuple[NodeProto, int]]:
        """Operators that use ``tensor`` as a weight, and the axis of their output channels; follows
        the DQ after a Q, and transpositions."""
        for user, place in self.users.get(tensor, []):
            if user.op_type in (_DQ, "Cast", "Identity") and place == 0:
                yield from self._channel_axes(user.output[0], axis, rank)
            elif user.op_type == "Transpose":
                order = list(_attribute(user, "perm", [])) or list(reversed(range(rank)))
                inner = self._channel_axes(user.output[0], order.index(axis), rank)
                yield from ((node, order[wanted]) for node, wanted in inner)
            elif user.op_type == "Conv" and place == 1:
                yield user, 0
            elif user.op_type == "ConvTranspose" and place == 1:
                yield user, 1
            elif user.op_type == "MatMul":
                yield user, rank - 1 if place == 1 else rank - 2
            elif user.op_type == "Gemm" and place == 1:
                yield user, 0 if _attribute(user, "transB", 0) else 1

    def _blocks(
        self, node: NodeProto, kind: int | None, data: list[int] | None, shape: list[int]
    ) -> Iterator[Violation]:
        if kind not in _FOUR_BITS:
            message, fix = "only 4-bit weights can have blocks", "use one scale per channel"
        elif data is None:
            return
        elif len(data) != 2 or len(shape) != 2:
            message, fix = f"blocks of a tensor of {data}; two axes are needed", "exclude it"
        else:
            parts = [n // s if s and n % s == 0 else 0 for n, s in zip(data, shape, strict=True)]
            if 0 not in parts and sorted(parts)[0] == 1 and sorted(parts)[1] > 1:
                return
            message = f"scales of {shape} for weights of {data}"
            fix = "use blocks of one size that divides one axis"
        yield _violation(node, "block", message, fix)

    def _pair(self, node: NodeProto) -> Iterator[Violation]:
        """A Q needs following DQs; a DQ needs a Q, a stored weight or an integer input before
        it."""
        if node.op_type == _Q:
            yield from self._ends(node)
            return
        name = node.input[0]
        while (maker := self.makers.get(name)) is not None and maker.op_type in _MOVING:
            name = maker.input[0]
        if maker is None or name in self.tensors or maker.op_type == _Q:
            return
        yield _violation(
            node,
            "pair",
            f"dequantizes the output of {maker.op_type} '{_name(maker)}' instead of a "
            "QuantizeLinear's",
            _REQUANTIZE,
        )

    def _ends(self, node: NodeProto) -> Iterator[Violation]:
        tensors = [node.output[0]]
        for tensor in tensors:
            users = self.users.get(tensor, [])
            if not users and tensor not in self.outputs:
                yield _violation(node, "pair", "its output is unused", "remove it, or add its DQ")
            for user, _ in users:
                if user.op_type in _MOVING:
                    tensors.extend(user.output[:1])
                elif user.op_type != _DQ:
                    yield _violation(
                        node,
                        "pair",
                        f"{user.op_type} '{_name(user)}' takes its integers without a "
                        "DequantizeLinear",
                        "insert a DequantizeLinear between them",
                    )
                elif self._differ(node, user):
                    yield _violation(
                        node,
                        "pair",
                        f"its scale differs from that of '{_name(user)}', which dequantizes it",
                        "give both the same scale",
                    )

    def _differ(self, one: NodeProto, other: NodeProto) -> bool:
        """Whether two nodes are known to have different scales."""
        if one.input[1] == other.input[1]:
            return False
        mine, theirs = self._value(one.input[1]), self._value(other.input[1])
        if mine is None or theirs is None:
            return False
        return not np.array_equal(np.float32(mine).ravel(), np.float32(theirs).ravel())

    def _bias(self, node: NodeProto) -> Iterator[Violation]:
        if node.op_type == _DQ:
            for user, place in self.users.get(node.output[0], []):
                if user.op_type in _BIASED and place == 2:
                    yield _violation(
                        node,
                        "bias",
                        f"the bias of {user.op_type} '{_name(user)}' is quantized",
                        "leave biases in floating point (QuantizeBias=False)",
                    )

    def _too_old(self, node: NodeProto, what: str, since: int) -> Violation:
        message = f"{what} opset {since}, and the file has {self.opset}"
        return _violation(node, "opset", message, f"save the model with opset {since} or later")

    # ------------------------------------------------------------------ facts of tensors

    def _type(self, node: NodeProto) -> int | None:
        """The integer type of a Q or DQ; None if the file does not specify it."""
        zero = _input(node, 2)
        if zero in self.tensors:
            return self.tensors[zero].data_type
        if node.op_type == _Q:
            return _attribute(node, "output_dtype", 0) or None
        name = node.input[0]
        if name in self.tensors:
            return self.tensors[name].data_type
        if name in self.types:
            return self.types[name]
        maker = self.makers.get(name)
        if maker is not None and maker.op_type in _MOVING:
            maker = self.makers.get(maker.input[0])
        return self._type(maker) if maker is not None and maker.op_type == _Q else None

    def _value(self, name: str) -> np.ndarray | None:
        """A constant's value, if it is stored, or copied or converted from a stored one."""
        if name in self.tensors:
            return to_array(self.tensors[name])
        maker = self.makers.get(name)
        if maker is not None and maker.op_type in ("Cast", "Identity"):
            return self._value(maker.input[0])
        return None

    def _shape(self, name: str) -> list[int] | None:
        """A constant's shape, also after a Q."""
        if name in self.tensors:
            return list(self.tensors[name].dims)
        maker = self.makers.get(name)
        if maker is None:
            return None
        if maker.op_type in (_Q, "Cast", "Identity"):
            return self._shape(maker.input[0])
        return None


def _violation(node: NodeProto, rule: str, message: str, fix: str) -> Violation:
    return Violation(_name(node), rule, message, fix)


def _name(node: NodeProto) -> str:
    return node.name or f"{node.op_type} of '{node.output[0]}'"


def _name_of(kind: int) -> str:
    return TensorProto.DataType.Name(kind).lower()  # type: ignore[arg-type]


def _input(node: NodeProto, place: int) -> str:
    return node.input[place] if len(node.input) > place else ""


def _attribute(node: NodeProto, name: str, default: Any) -> Any:
    for attribute in node.attribute:
        if attribute.name == name:
            return helper.get_attribute_value(attribute)
    return default


def _constant(node: NodeProto) -> TensorProto | None:
    """The tensor of a Constant; None if it is sparse or a string."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.TENSOR:
            return attribute.t
        if attribute.type in (AttributeProto.FLOAT, AttributeProto.FLOATS):
            return onnx.numpy_helper.from_array(
                np.asarray(helper.get_attribute_value(attribute), np.float32)
            )
        if attribute.type in (AttributeProto.INT, AttributeProto.INTS):
            return onnx.numpy_helper.from_array(
                np.asarray(helper.get_attribute_value(attribute), np.int64)
            )
    return None
