"""Check and adapt ONNX models made by tf2onnx. For workers only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from qbench.kit.adapter import PrepareError
from qbench.kit.reasons import sentence

DOMAINS = ("", "ai.onnx", "ai.onnx.ml")


def save(proto: Any, path: Path) -> None:
    """Write the model, with free sizes named ``N`` (the first axis) or after their axis.

    Raises:
        PrepareError: not a valid model, or one with operators that tf2onnx failed to convert, which
            it only logs.
    """
    known = {opset.domain for opset in proto.opset_import if opset.domain in DOMAINS}
    for node in proto.graph.node:
        schema = node.domain in known and onnx.defs.has(node.op_type, domain=node.domain)
        if not schema:
            raise PrepareError(f"tf2onnx has no ONNX operator for {node.op_type}")
    for value in (*proto.graph.input, *proto.graph.output):
        for axis, size in enumerate(value.type.tensor_type.shape.dim):
            if not size.HasField("dim_value"):
                size.dim_param = f"d{axis}" if axis else "N"
    try:
        onnx.checker.check_model(proto)
    except onnx.checker.ValidationError as error:
        raise PrepareError(f"tf2onnx made an invalid model: {sentence(error)}") from error
    onnx.save_model(proto, path)


def fix_inputs(proto: Any, values: Mapping[str, np.ndarray]) -> None:
    """Turn inputs into constants, in place: tf2onnx makes inputs of tensors that a function
    captures (mean and variance of a Normalization layer)."""
    for value in list(proto.graph.input):
        if value.name in values:
            proto.graph.input.remove(value)
            tensor = onnx.numpy_helper.from_array(values[value.name], value.name)
            proto.graph.initializer.append(tensor)


def free_batch(proto: Any) -> bool:
    """Free the batch of a model that is fixed at 1, in place, if ONNX's shape inference then finds
    a free batch in every output. Returns whether it changed the model.

    Reshapes to constant shapes that begin with 1 are the usual obstacle; their 1 becomes -1.
    """
    changed = type(proto)()
    changed.CopyFrom(proto)
    graph = changed.graph
    for value in graph.input:
        sizes = value.type.tensor_type.shape.dim
        if not sizes or sizes[0].dim_value != 1:
            return False
        sizes[0].dim_param = "N"
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        tensor = constants.get(node.input[1]) if node.op_type == "Reshape" else None
        if tensor is not None:
            shape = onnx.numpy_helper.to_array(tensor).copy()
            if len(shape) and shape[0] == 1 and -1 not in shape:
                shape[0] = -1
                tensor.CopyFrom(onnx.numpy_helper.from_array(shape, tensor.name))
    del graph.value_info[:]
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        inferred = onnx.shape_inference.infer_shapes(changed, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError:
        return False
    for before, value in zip(proto.graph.output, inferred.graph.output, strict=True):
        sizes = value.type.tensor_type.shape.dim
        others = [size.dim_value for size in before.type.tensor_type.shape.dim[1:]]
        if not sizes or sizes[0].HasField("dim_value"):
            return False
        if [size.dim_value for size in sizes[1:]] != others:
            return False
    proto.CopyFrom(inferred)
    return True


def float_ends(proto: Any, quantized: Mapping[str, tuple[str, float, int]]) -> None:
    """Make quantized inputs and outputs floating-point, in place: the model then quantizes and
    dequantizes them itself.

    Args:
        quantized: by tensor name, its new name, scale and zero-point.
    """
    graph = proto.graph
    for values, inward in ((graph.input, True), (graph.output, False)):
        for value in values:
            if value.name not in quantized:
                continue
            old, (new, scale, zero_point) = value.name, quantized[value.name]
            dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            numbers = {"scale": np.array(scale, np.float32), "zero": np.array(zero_point, dtype)}
            for what, number in numbers.items():
                graph.initializer.append(onnx.numpy_helper.from_array(number, f"{new}_{what}"))
            kind, ends = (
                ("QuantizeLinear", (new, old)) if inward else ("DequantizeLinear", (old, new))
            )
            node = onnx.helper.make_node(
                kind, [ends[0], f"{new}_scale", f"{new}_zero"], [ends[1]], name=f"{new}_{kind}"
            )
            graph.node.insert(0 if inward else len(graph.node), node)
            value.name = new
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
