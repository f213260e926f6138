"""Read and check ONNX files, and count multiply-adds. Needs onnx."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from math import prod
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper
from onnx.external_data_helper import uses_external_data

from qbench.kit.adapter import NothingToQuantize, PrepareError, Unsupported
from qbench.kit.model import UNKNOWN_RANK, Model, Shape, TensorSpec
from qbench.kit.onnxfile.external import inside
from qbench.kit.reasons import sentence

_CONVOLUTIONS = ("Conv", "ConvTranspose", "FusedConv")
_PRODUCTS = ("MatMul", "Gemm", "FusedMatMul", "FusedGemm")
_WEIGHTED = (*_CONVOLUTIONS, *_PRODUCTS)
_NAME = re.compile(r"[A-Za-z_][\w.-]*")
"""A free size's name that a user can type."""
_EIGHT_BITS = (TensorProto.INT8, TensorProto.UINT8)


def load(path: Path, weights: bool = True) -> ModelProto:
    """Load the model in ``path``.

    Args:
        weights: whether to load external weights. Single numbers, such as scales, always are.

    Raises:
        PrepareError: the file is not ONNX or is truncated, or weights are outside its folder.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError as error:
        raise PrepareError("not a valid ONNX file: truncated, or not ONNX") from error
    except OSError as error:
        raise PrepareError(f"the ONNX file cannot be read: {sentence(error)}") from error
    if not model.graph.node:  # protobuf reads an empty file, and some garbage, as an empty model
        raise PrepareError("not a valid ONNX file: it holds no operators")
    for tensor in _tensors(model.graph):
        if uses_external_data(tensor) and (weights or prod(tensor.dims) == 1):
            _take_in(tensor, path.parent)
    return model


def _take_in(tensor: TensorProto, folder: Path) -> None:
    """Read a tensor's external data. (onnx's own reader refuses links, and a worker's folder holds
    links.)"""
    place = _place_of(tensor)
    try:
        with (folder / place["location"]).open("rb") as file:
            file.seek(int(place.get("offset", 0)))
            data = file.read(int(place.get("length", -1)))
    except (OSError, ValueError) as error:
        raise PrepareError(
            f"the weights of '{tensor.name}' cannot be read: {sentence(error)}"
        ) from error
    if len(data) < int(place.get("length", 1)):
        raise PrepareError(
            f"the weights of '{tensor.name}' cannot be read: {place['location']} is truncated"
        )
    tensor.raw_data = data
    tensor.data_location = TensorProto.DEFAULT
    del tensor.external_data[:]


def _place_of(tensor: TensorProto) -> dict[str, str]:
    """Return location, offset and length of external data; the location is checked."""
    place = {entry.key: entry.value for entry in tensor.external_data}
    return {**place, "location": inside(place.get("location", ""))}


def has_external_weights(model: ModelProto) -> bool:
    return any(uses_external_data(tensor) for tensor in _tensors(model.graph))


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """Yield the weights, and the constants in attributes, of a graph and its subgraphs."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                yield attribute.t
            elif attribute.type == AttributeProto.GRAPH:
                yield from _tensors(attribute.g)
            yield from attribute.tensors
            for inner in attribute.graphs:
                yield from _tensors(inner)


def real_inputs(graph: GraphProto) -> list[onnx.ValueInfoProto]:
    """Return the inputs without weights, which old files list as inputs."""
    weights = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in weights]


def check_names(model: Model, source: ModelProto) -> None:
    """Check that the card's source names are in the file.

    Raises:
        PrepareError: a name is missing; the message lists the file's names.
    """
    for kind, names, values in (
        ("input", model.source_inputs, real_inputs(source.graph)),
        ("output", model.source_outputs, source.graph.output),
    ):
        have = [value.name for value in values]
        for tensor in names.values():
            if tensor.name not in have:
                known = ", ".join(have)
                raise PrepareError(f"the file has no {kind} '{tensor.name}'. It has: {known}.")


def specs(values: Iterable[onnx.ValueInfoProto], graph: GraphProto) -> dict[str, TensorSpec]:
    """Return the specs of inputs or outputs of ``graph``, by the file's names. The dtype of what is
    no tensor of numbers is ``string``, ``sequence``, ``map``, ``optional`` or ``sparse_tensor``."""
    quantized = quantized_io(graph)
    return {value.name: _spec(value, quantized) for value in values}


def _spec(value: onnx.ValueInfoProto, quantized: Mapping[str, tuple[float, int]]) -> TensorSpec:
    kind = str(value.type.WhichOneof("value")).removesuffix("_type")
    if kind != "tensor":
        return TensorSpec(kind, UNKNOWN_RANK)
    element = value.type.tensor_type.elem_type
    if element not in TensorProto.DataType.values() or element == TensorProto.UNDEFINED:
        raise PrepareError(f"not a valid ONNX file: '{value.name}' has no type of elements")
    if element == TensorProto.STRING:
        return TensorSpec("string", shape_of(value))
    scale, zero_point = quantized.get(value.name, (None, None))
    dtype = onnx.helper.tensor_dtype_to_np_dtype(element).name
    return TensorSpec(dtype, shape_of(value), scale=scale, zero_point=zero_point)


def shape_of(value: onnx.ValueInfoProto) -> Shape:
    """Return the shape of a tensor. A size of 0 or less is free, as a name is; free sizes without a
    name (PaddlePaddle calls each ``?``) are called ``<tensor>.<axis>``."""
    if not value.type.tensor_type.HasField("shape"):
        return UNKNOWN_RANK
    dims = value.type.tensor_type.shape.dim
    return tuple(
        dim.dim_value
        if dim.dim_value > 0
        else (dim.dim_param if _NAME.fullmatch(dim.dim_param) else f"{value.name}.{axis}")
        for axis, dim in enumerate(dims)
    )


def symbols(graph: GraphProto) -> dict[str, list[tuple[str, int]]]:
    """Return input and axis of the inputs' free sizes, by the file's name for the size."""
    found: dict[str, list[tuple[str, int]]] = {}
    for value in real_inputs(graph):
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.dim_param:
                found.setdefault(dim.dim_param, []).append((value.name, axis))
    return found


def quantized_io(graph: GraphProto) -> dict[str, tuple[float, int]]:
    """Return scale and zero-point of 8-bit inputs of a DequantizeLinear and 8-bit outputs of a
    QuantizeLinear, by name."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    inputs = {v.name for v in graph.input if v.type.tensor_type.elem_type in _EIGHT_BITS}
    outputs = {v.name for v in graph.output if v.type.tensor_type.elem_type in _EIGHT_BITS}
    found = {}
    for node in graph.node:
        name = None
        if node.op_type == "DequantizeLinear" and node.input[0] in inputs:
            name = node.input[0]
        elif node.op_type == "QuantizeLinear" and node.output[0] in outputs:
            name = node.output[0]
        if name is None or node.input[1] not in constants:
            continue
        scale = numpy_helper.to_array(constants[node.input[1]])
        zero = constants.get(node.input[2]) if len(node.input) > 2 else None
        if scale.size == 1:
            offset = int(numpy_helper.to_array(zero).item()) if zero is not None else 0
            found[name] = (float(scale.item()), offset)
    return found


def lists_weights_as_inputs(model: ModelProto) -> bool:
    return len(real_inputs(model.graph)) < len(model.graph.input)


def captured(graph: GraphProto) -> set[str]:
    """Return the names of tensors that branches and loop bodies read from the graph around them."""
    found: set[str] = set()
    for node in graph.node:
        for inner in _subgraphs(node):
            own = {value.name for value in (*inner.initializer, *inner.input)}
            own.update(name for n in inner.node for name in n.output)
            read = {name for n in inner.node for name in n.input} | captured(inner)
            found |= read.union(value.name for value in inner.output) - own
    return found - {""}


def _subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def stacked_weights(model: ModelProto) -> set[str]:
    """Return the names of constant factors of MatMul that are no matrix on the right: a stack of
    matrices, a vector, or a factor on the left. ONNX Runtime multiplies these as integers only with
    one scale for the whole tensor."""
    ranks = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}
    return {
        name
        for node in model.graph.node
        if node.op_type == "MatMul"
        for place, name in enumerate(node.input)
        if name in ranks and (place, ranks[name]) != (1, 2)
    }


def activation_products(model: ModelProto) -> list[str]:
    """Return the names of matrix products of two activations, as in attention."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [
        node.name
        for node in model.graph.node
        if node.op_type in _PRODUCTS and not weights.intersection(node.input[:2])
    ]


def check_weights(model: ModelProto) -> None:
    """Check that the model has weights that the quantizers take.

    Raises:
        PrepareError: some hold NaN or an infinite number.
        NothingToQuantize: there are none.
        Unsupported: all of them are float64.
    """
    kinds = {tensor.data_type for _, tensor in _weights(model)}
    if not kinds:
        raise NothingToQuantize
    check_finite(model)
    if kinds == {TensorProto.DOUBLE}:
        raise Unsupported(
            "the weights are float64, which the quantizers leave as they are: save the model in "
            "float32"
        )


def check_finite(model: ModelProto) -> None:
    """Check the weights of convolutions and matrix products, except external ones that are not
    loaded.

    Raises:
        PrepareError: some hold NaN or an infinite number.
    """
    for node, tensor in _weights(model):
        values = None if uses_external_data(tensor) else numpy_helper.to_array(tensor)
        if values is not None and values.dtype.kind == "f" and not np.isfinite(values).all():
            name = node.name or node.output[0]
            raise PrepareError(f"the weights of '{name}' hold NaN or infinity: mend the file")


def _weights(model: ModelProto) -> Iterator[tuple[NodeProto, TensorProto]]:
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t"):
            constants[node.output[0]] = node.attribute[0].t
        if node.op_type in _WEIGHTED:
            yield from ((node, constants[name]) for name in node.input[:2] if name in constants)


def excluded_nodes(source: ModelProto, clean: ModelProto, wanted: Iterable[str]) -> list[str]:
    """Find the operators that a user excludes, by name in the preprocessed model.

    Preprocessing renames and fuses: an operator of the source is searched by its name, then by its
    output, then by the output of its only user, which it was fused with.

    Args:
        wanted: names of nodes or types of operators in ``source``, or of the last tensors of its
            layers (as ``qbench explain`` shows them); also types that only fusion makes (Gemm of
            MatMul and Add).

    Raises:
        PrepareError: there is no such operator; the message lists similar names.
    """
    names = {node.name for node in clean.graph.node}
    source_makers = {out: node for node in source.graph.node for out in node.output}
    makers = {out: node.name for node in clean.graph.node for out in node.output}
    users: dict[str, list[NodeProto]] = {}
    for node in source.graph.node:
        for tensor in node.input:
            users.setdefault(tensor, []).append(node)
    found = set()
    for name in wanted:
        chosen = (
            [n for n in source.graph.node if n.name == name]
            or [n for n in source.graph.node if n.op_type == name]
            or _layer(name, source_makers)
        )
        places = {_place(node, names, makers, users) for node in chosen} - {None}
        places = places or {n.name for n in clean.graph.node if n.op_type == name}
        if not places:
            known = {w for n in source.graph.node for w in (n.name, n.op_type) if w}
            near = ", ".join(get_close_matches(name, sorted(known), n=5, cutoff=0.3))
            raise PrepareError(
                f"excluded_operators: '{name}' is folded into a constant, so it is not quantized"
                if chosen
                else f"excluded_operators: the file has no operator '{name}', neither a name nor "
                f"a type; near: {near or ', '.join(sorted({n.op_type for n in source.graph.node}))}"
            )
        found |= places
    return sorted(str(name) for name in found)


FOLLOWING = ("BatchNormalization", "Cast", "Clip", "Relu")
"""Operators that are fused into the layer before them."""


def _layer(tensor: str, makers: Mapping[str, NodeProto]) -> list[NodeProto]:
    """Return the operator whose layer ends with ``tensor``; empty if there is no such tensor."""
    node = makers.get(tensor)
    while node is not None and node.op_type in FOLLOWING and node.input[0] in makers:
        node = makers[node.input[0]]
    return [] if node is None else [node]


def _place(
    node: NodeProto,
    names: set[str],
    makers: Mapping[str, str],
    users: Mapping[str, list[NodeProto]],
) -> str | None:
    if node.name in names:
        return node.name
    tensor = node.output[0]
    while tensor not in makers:
        following = users.get(tensor, [])
        if len(following) != 1 or following[0].input[0] != tensor:  # or it is folded into weights
            return None
        tensor = following[0].output[0]
    return makers[tensor]


def sized(model: ModelProto, shapes: Mapping[str, Sequence[int]]) -> ModelProto:
    """Return a copy with inputs of these shapes, and what follows from them for other tensors."""
    copy = ModelProto()
    copy.CopyFrom(model)
    for value in copy.graph.input:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if value.name in shapes:
                dim.dim_value = shapes[value.name][axis]
    del copy.graph.value_info[:]  # a free size there would override the inferred one
    for value in copy.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        return onnx.shape_inference.infer_shapes(copy, data_prop=True)
    except onnx.shape_inference.InferenceError:  # a runtime may take the file nevertheless
        return copy


def product_share(model: ModelProto, shapes: Mapping[str, Sequence[int]]) -> float:
    """Return the share (0 to 1) of matrix products with constant weights in all multiply-adds.

    The rest are convolutions and products of two activations. For an unknown shape, the size of the
    weights replaces the multiply-adds (a lower bound).

    Args:
        shapes: of the inputs, by name.
    """
    dynamic = total = 0
    for node, amount, constant in _multiply_adds(sized(model, shapes).graph):
        total += amount
        if node.op_type in _PRODUCTS and constant:
            dynamic += amount
    return dynamic / total if total else 0.0


def _multiply_adds(graph: GraphProto) -> Iterator[tuple[NodeProto, int, bool]]:
    """Yield each computing operator, its multiply-adds, and whether its weights are constant."""
    weights = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.input, *graph.output)
        if all(dim.dim_value > 0 for dim in value.type.tensor_type.shape.dim)
    }
    shapes.update(weights)
    for node in graph.node:
        if node.op_type not in _WEIGHTED:
            continue
        factor, out = shapes.get(node.input[1]), shapes.get(node.output[0])
        constant = node.input[1] in weights
        if not factor:
            continue
        if not out:
            yield node, prod(factor), constant
        elif node.op_type == "ConvTranspose":
            positions = prod(shapes.get(node.input[0], [1, 1])[2:])
            yield node, prod(factor) * positions, constant
        elif node.op_type in _CONVOLUTIONS:
            yield node, prod(out) * prod(factor[1:]), constant
        else:
            transposed = any(a.name == "transB" and a.i for a in node.attribute)
            inner = factor[-1] if transposed or len(factor) == 1 else factor[-2]
            yield node, prod(out) * inner, constant
