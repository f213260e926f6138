"""Rewrite ONNX graphs before quantization. Needs onnx."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.version_converter
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

from qbench.kit.onnxfile.graph import captured, real_inputs


def without_weights_as_inputs(model: ModelProto) -> ModelProto:
    """Make weights constant. Callers may replace weights that are listed as inputs, so no tool
    folds, fuses or converts them."""
    inputs = real_inputs(model.graph)
    if len(inputs) < len(model.graph.input):
        del model.graph.input[:]
        model.graph.input.extend(inputs)
        model.ir_version = max(model.ir_version, 4)  # since then weights need not be inputs
    return model


def modernized(model: ModelProto) -> ModelProto:
    """Make weights constant and dense, and the opset at least 13, which adds scales per channel to
    DequantizeLinear."""
    model = _dense(without_weights_as_inputs(model))
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), None)
    if opset is not None and opset < 13:
        model = onnx.version_converter.convert_version(model, 13)
    return model


def _dense(model: ModelProto) -> ModelProto:
    """Replace sparse weights, which the quantizers do not see, by dense ones."""
    graph = model.graph
    for sparse in graph.sparse_initializer:
        values = numpy_helper.to_array(sparse.values)
        places = numpy_helper.to_array(sparse.indices)
        array = np.zeros(tuple(sparse.dims), values.dtype)
        array[np.unravel_index(places, array.shape) if places.ndim == 1 else tuple(places.T)] = (
            values
        )
        graph.initializer.append(numpy_helper.from_array(array, sparse.values.name))
    del graph.sparse_initializer[:]
    return model


def tidied(model: ModelProto) -> ModelProto:
    """Prepare ``model`` for the quantizers.

    - Name every operator, so that it can be excluded.
    - Drop the shapes of weights that torch's exporter records: quantize_dynamic transposes the
      weights of Gemm in place and then fails on the recorded shapes.
    - Make biases of Gemm vectors: at ``[1, channels]`` quantize_static fails per channel.
    """
    graph = model.graph
    for index, node in enumerate(graph.node):
        node.name = node.name or f"{node.op_type}_{index}"
    users = [(name, node.op_type) for node in graph.node for name in node.input]
    biases = {n.input[2] for n in graph.node if n.op_type == "Gemm" and len(n.input) > 2}
    biases -= {name for name, operator in users if operator != "Gemm"} | captured(graph)
    for tensor in graph.initializer:
        if tensor.name in biases and len(tensor.dims) == 2 and tensor.dims[0] == 1:
            del tensor.dims[0]
    weights = {tensor.name for tensor in graph.initializer}
    kept = [value for value in graph.value_info if value.name not in weights]
    del graph.value_info[:]
    graph.value_info.extend(kept)
    return model


def with_products_for_gemm(model: ModelProto) -> ModelProto:
    """Split every Gemm with constant weights into MatMul and Add: the weight-only quantizer only
    handles MatMul. ``alpha`` and ``beta`` are folded into weights and bias. The MatMul keeps the
    Gemm's name, and the last of the two the name of its output."""
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.op_type != "Gemm" or node.input[1] not in constants or _attribute(node, "transA"):
            nodes.append(node)
        else:
            nodes += _product_and_sum(graph, node, constants)
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in graph.node for name in node.input}
    used |= {value.name for value in graph.output} | captured(graph)
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return model


def _product_and_sum(
    graph: GraphProto, gemm: NodeProto, constants: dict[str, onnx.TensorProto]
) -> list[NodeProto]:
    weights = numpy_helper.to_array(constants[gemm.input[1]])
    if _attribute(gemm, "transB"):
        weights = weights.T
    alpha, beta = _attribute(gemm, "alpha", 1.0), _attribute(gemm, "beta", 1.0)
    scaled = np.ascontiguousarray(weights * weights.dtype.type(alpha))
    name = f"{gemm.name}.weights"
    graph.initializer.append(numpy_helper.from_array(scaled, name))
    biased = len(gemm.input) > 2 and gemm.input[2] != ""
    product = f"{gemm.name}.product" if biased else gemm.output[0]
    nodes = [helper.make_node("MatMul", [gemm.input[0], name], [product], gemm.name)]
    if not biased:
        return nodes
    bias = gemm.input[2]
    if beta != 1:
        scale = numpy_helper.from_array(np.asarray(beta, weights.dtype), f"{gemm.name}.beta")
        graph.initializer.append(scale)
        bias = f"{gemm.name}.bias"
        nodes.append(helper.make_node("Mul", [gemm.input[2], scale.name], [bias]))
    nodes.append(helper.make_node("Add", [product, bias], [gemm.output[0]]))
    return nodes


def _attribute(node: NodeProto, name: str, default: float = 0) -> float:
    for attribute in node.attribute:
        if attribute.name == name:
            return helper.get_attribute_value(attribute)
    return default
