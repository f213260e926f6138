"""Reading ONNX files: are they whole, what do they hold, where is the work. Needs onnx."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path

import onnx
import onnx.version_converter
from google.protobuf.message import DecodeError
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from qbench.backend import PrepareError, TensorSpec
from qbench_onnxruntime.options import FileFacts

_CONVOLUTIONS = ("Conv", "ConvTranspose", "FusedConv")
_PRODUCTS = ("MatMul", "Gemm", "FusedMatMul", "FusedGemm")
_INTEGER_OPS = (
    "ConvInteger",
    "DynamicQuantizeLSTM",
    "DynamicQuantizeMatMul",
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "QAttention",
    "QGemm",
    "QLinearConv",
    "QLinearMatMul",
)
_QUANTIZED_SIGNS = (*_INTEGER_OPS, "DequantizeLinear", "MatMulNBits", "QuantizeLinear")
_EIGHT_BITS = (TensorProto.INT8, TensorProto.UINT8)


def load(path: Path, weights: bool = True) -> ModelProto:
    """The model in ``path``; with ``weights`` also those kept in files of their own.

    Raises:
        PrepareError: it is no ONNX file, or not a whole one.
    """
    try:
        model = onnx.load(path, load_external_data=weights)
    except DecodeError as error:
        raise PrepareError(f"not a valid ONNX file: {error} (truncated or not ONNX)") from error
    except (onnx.checker.ValidationError, OSError) as error:
        raise PrepareError(f"the ONNX file or its weights cannot be read: {error}") from error
    if not model.graph.node:  # protobuf reads an empty file, and some garbage, as an empty model
        raise PrepareError("not a valid ONNX file: it holds no operators")
    return model


def has_external_weights(model: ModelProto) -> bool:
    return any(t.data_location == TensorProto.EXTERNAL for t in model.graph.initializer)


def real_inputs(graph: GraphProto) -> list[onnx.ValueInfoProto]:
    """Inputs that a caller feeds (old files list the weights as inputs too)."""
    weights = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in weights]


def describe(model: ModelProto) -> tuple[dict[str, TensorSpec], dict[str, TensorSpec]]:
    """Inputs and outputs by the file's names. The first free size of each is called ``N``."""
    quantized = _quantized_io(model.graph)
    inputs = {v.name: _spec(v, quantized) for v in real_inputs(model.graph)}
    return inputs, {v.name: _spec(v, quantized) for v in model.graph.output}


def _spec(value: onnx.ValueInfoProto, quantized: Mapping[str, tuple[float, int]]) -> TensorSpec:
    tensor = value.type.tensor_type
    shape: list[int | str] = []
    for axis, dim in enumerate(tensor.shape.dim):
        if dim.HasField("dim_value"):
            shape.append(dim.dim_value)
        elif "N" not in shape:
            shape.append("N")
        else:
            shape.append(dim.dim_param if dim.dim_param not in ("", *shape) else f"D{axis}")
    scale, zero_point = quantized.get(value.name, (None, None))
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    return TensorSpec(dtype, tuple(shape), scale=scale, zero_point=zero_point)


def is_quantized(model: ModelProto) -> bool:
    return any(node.op_type in _QUANTIZED_SIGNS for node in model.graph.node)


def facts(model: ModelProto) -> FileFacts:
    """What ``open`` must know of the file. See ``FileFacts``."""
    return FileFacts(_batch_symbols(model.graph), _quantized_io(model.graph))


def _batch_symbols(graph: GraphProto) -> tuple[str, ...]:
    first, other = set(), set()
    for value in real_inputs(graph):
        dims = value.type.tensor_type.shape.dim
        first.update(dim.dim_param for dim in dims[:1] if dim.dim_param)
        other.update(dim.dim_param for dim in dims[1:] if dim.dim_param)
    return tuple(sorted(first - other))


def _quantized_io(graph: GraphProto) -> dict[str, tuple[float, int]]:
    """Scale and zero-point of 8-bit inputs that go into a DequantizeLinear, and of 8-bit outputs
    that come out of a QuantizeLinear."""
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


def count_quantized(model: ModelProto) -> int:
    """Convolutions and matrix products that have 8-bit weights or are integer operators."""
    graph = model.graph
    small = {t.name for t in graph.initializer if t.data_type in _EIGHT_BITS}
    unpacked = {
        node.output[0]
        for node in graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in small
    }
    return sum(
        node.op_type in _INTEGER_OPS
        or (
            node.op_type in (*_CONVOLUTIONS, *_PRODUCTS)
            and any(name in unpacked for name in node.input[1:2])
        )
        for node in graph.node
    )


def lists_weights_as_inputs(model: ModelProto) -> bool:
    return len(real_inputs(model.graph)) < len(model.graph.input)


def without_weights_as_inputs(model: ModelProto) -> ModelProto:
    """``model`` with constant weights. Those that are inputs too could be replaced by a caller,
    so that nothing folds, fuses or converts them."""
    inputs = real_inputs(model.graph)
    if len(inputs) < len(model.graph.input):
        del model.graph.input[:]
        model.graph.input.extend(inputs)
        model.ir_version = max(model.ir_version, 4)  # from here on weights need not be inputs
    return model


def modernized(model: ModelProto) -> ModelProto:
    """``model`` with constant weights and of opset 13 at least: before that, DequantizeLinear
    knows no scale per channel."""
    model = without_weights_as_inputs(model)
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), None)
    if opset is not None and opset < 13:
        model = onnx.version_converter.convert_version(model, 13)
    return model


def tidied(model: ModelProto) -> ModelProto:
    """``model`` as the quantizers need it.

    - Every operator has a name, by which it can be left out.
    - No shapes are noted for weights, as torch's exporter does: quantize_dynamic transposes the
      weights of Gemm in place and then trips over what was noted.
    - Biases of Gemm are vectors: at ``[1, channels]`` quantize_static fails per channel.
    """
    graph = model.graph
    for index, node in enumerate(graph.node):
        node.name = node.name or f"{node.op_type}_{index}"
    users = [(name, node.op_type) for node in graph.node for name in node.input]
    biases = {n.input[2] for n in graph.node if n.op_type == "Gemm" and len(n.input) > 2}
    biases -= {name for name, operator in users if operator != "Gemm"}
    for tensor in graph.initializer:
        if tensor.name in biases and len(tensor.dims) == 2 and tensor.dims[0] == 1:
            del tensor.dims[0]
    weights = {tensor.name for tensor in graph.initializer}
    kept = [value for value in graph.value_info if value.name not in weights]
    del graph.value_info[:]
    graph.value_info.extend(kept)
    return model


def activation_products(model: ModelProto) -> list[str]:
    """Names of the matrix products that multiply two activations, as in attention."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [
        node.name
        for node in model.graph.node
        if node.op_type in _PRODUCTS and not weights.intersection(node.input[:2])
    ]


def product_share(model: ModelProto) -> float:
    """The share, 0 to 1, of the multiply-adds that are matrix products with constant weights.

    The rest are convolutions and products of two activations. Free sizes count as 1; where a
    shape is not known, the size of the weights stands for the multiply-adds (a lower bound).
    """
    dynamic = total = 0
    for node, amount, constant in _multiply_adds(model.graph):
        total += amount
        if node.op_type in _PRODUCTS and constant:
            dynamic += amount
    return dynamic / total if total else 0.0


def _multiply_adds(graph: GraphProto) -> Iterator[tuple[NodeProto, int, bool]]:
    """Per computing operator: multiply-adds of one item, and whether its weights are constant."""
    weights = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    shapes = {
        value.name: [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.input, *graph.output)
    }
    shapes.update(weights)
    for node in graph.node:
        if node.op_type not in (*_CONVOLUTIONS, *_PRODUCTS):
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
