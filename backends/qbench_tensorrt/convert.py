"""Half precision for strongly typed networks: TensorRT runs the types in the ONNX file.

Never imported while measuring. ONNX Runtime's converter makes the float16 network, with casts
around operators that stay float32. For bfloat16 the types of that network are replaced, and the
weights rounded from the source.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.version_converter
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto
from onnx.numpy_helper import from_array, to_array
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from qbench.kit.adapter import PrepareError
from qbench.kit.model import PrepareTarget, Provenance
from qbench.kit.onnxfile import graph
from qbench.kit.onnxfile.tools import FILE, preprocessed, save, tool

# Sums and squares over an axis exceed float16's range (65504) or lose small terms. Softmax is not
# in this list: it subtracts the maximum first, its results are at most 1, and casts around it would
# split the attention that TensorRT fuses. TensorRT's documentation, "Accuracy Considerations",
# names normalization and reductions.
KEPT = (
    *("CumSum", "Exp", "GroupNormalization", "InstanceNormalization", "LayerNormalization", "Log"),
    *("LpNormalization", "MeanVarianceNormalization", "Pow", "RMSNormalization", "ReduceL1"),
    *("ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMean", "ReduceProd", "ReduceSum"),
    *("ReduceSumSquare", "SimplifiedLayerNormalization"),
)
_NEVER_HALVED = tuple(op for op in DEFAULT_OP_BLOCK_LIST if op not in ("Max", "Min"))
_QUANTIZING = ("QuantizeLinear", "DequantizeLinear")
_GREATEST = float(np.finfo(np.float16).max)
_LEAST_NORMAL = float(np.finfo(np.float16).smallest_normal)
_BFLOAT16_OPSET = 22
"""First opset in which Conv and pooling accept bfloat16 (ONNX operator changelog)."""


def convert(path: Path, target: PrepareTarget, out: Path) -> Provenance:
    """Write ``model.onnx`` into ``out`` at fp16 or bf16, with float32 inputs and outputs.

    Raises:
        PrepareError: the converter failed, or there was nothing to convert.
    """
    with tempfile.TemporaryDirectory(prefix="qbench-tensorrt-") as folder:
        source = graph.load(preprocessed(path, Path(folder)))
    if target.precision == "bf16":
        made = halved(source, _BFLOAT16_OPSET, brain=True)
    else:
        made = halved(source)
    save(made.model, out / FILE)
    return Provenance(FILE, settings=made.settings, notes=made.notes)


@dataclass(frozen=True)
class Halved:
    """A network at half precision, the settings that made it, and notes for the reader."""

    model: ModelProto
    settings: dict[str, Any]
    notes: tuple[str, ...]


def halved(model: ModelProto, opset: int = 0, brain: bool = False) -> Halved:
    """``model`` at half precision, with float32 inputs and outputs. Scales of Q and DQ become
    float16, rounded alike in both.

    Args:
        opset: minimum opset of the result.
        brain: bfloat16 instead of float16.

    Raises:
        PrepareError: the converter failed, or there was nothing to convert.
    """
    source = _modernized(_with_weights(model), opset)
    weights = {t.name: to_array(t) for t in source.graph.initializer if _is_float(t)}
    kept = _beyond_range(source.graph, weights)
    with tool("convert_float_to_float16"):
        made = convert_float_to_float16(
            source,
            keep_io_types=True,
            op_block_list=[*_NEVER_HALVED, *KEPT],
            node_block_list=kept,
        )
    if not any(t.data_type == TensorProto.FLOAT16 for t in made.graph.initializer):
        raise PrepareError("convert_float_to_float16 finished but converted no weights")
    _join_casts(made.graph)
    clipped = [] if brain else _clipped(made.graph, weights)
    if brain:
        _retype(made.graph, weights)
    OnnxModel(made).topological_sort()
    with tool("onnx.checker"):
        onnx.checker.check_model(made, full_check=True)
    kinds = sorted({n.op_type for n in made.graph.node} & set(KEPT))
    settings = {
        "function": "onnxruntime.transformers.float16",
        "keep_io_types": True,
        "kept_in_float32": [*kinds, *kept],
        "rounded_to": "bfloat16" if brain else "float16",
    }
    notes = ("inputs and outputs stay float32, with casts", *_notes(kinds, kept, clipped))
    return Halved(made, settings, notes)


def _notes(kinds: list[str], kept: list[str], clipped: list[str]) -> Iterator[str]:
    if kinds or kept:
        count = f" and {len(kept)} operators with very large or small constants" if kept else ""
        yield f"kept in float32: {', '.join(kinds) or 'no type entirely'}{count}"
    if clipped:
        yield f"constants outside float16's range were clipped: {', '.join(clipped[:5])}"


def _with_weights(model: ModelProto) -> ModelProto:
    """``model`` with names for all operators, Constants as weights, and no empty region inputs of
    Resize, whose type need not match bfloat16."""
    empty = {tensor.name for tensor in model.graph.initializer if 0 in tensor.dims}
    nodes = []
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{index}"
        if node.op_type == "Resize" and len(node.input) > 1 and node.input[1] in empty:
            node.input[1] = ""
        values = [a.t for a in node.attribute if a.name == "value"]
        if node.op_type == "Constant" and values:
            values[0].name = node.output[0]
            model.graph.initializer.append(values[0])
        else:
            nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def _modernized(model: ModelProto, opset: int) -> ModelProto:
    have = max(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    if have >= opset:
        return model
    with tool("onnx.version_converter"):
        return onnx.version_converter.convert_version(model, opset)


def _is_float(tensor: TensorProto) -> bool:
    return tensor.data_type == TensorProto.FLOAT


def _beyond_range(graph_: GraphProto, weights: dict[str, np.ndarray]) -> list[str]:
    """Names of operators with a constant that float16 cannot hold: one beyond its range, or a
    scalar below its normal numbers, such as the epsilon of a normalization."""
    return [
        node.name
        for node in graph_.node
        if node.op_type not in _QUANTIZING
        and (
            any(_cannot_be_half(weights[name]) for name in node.input if name in weights)
            or any(_cannot_be_half(to_array(a.t)) for a in node.attribute if _is_float(a.t))
        )
    ]


def _cannot_be_half(values: np.ndarray) -> bool:
    sizes = np.abs(values[np.isfinite(values)])
    too_small = values.size == 1 and sizes.size == 1 and 0 < sizes.flat[0] < _LEAST_NORMAL
    return bool(too_small or (sizes > _GREATEST).any())


def _join_casts(graph_: GraphProto) -> None:
    """Merge casts that the converter made several times under one name, and remove casts to float16
    and back between two float32 operators, where a value could overflow; in place."""
    nodes, made = [], {}
    for node in graph_.node:
        if node.output[0] not in made:
            made[node.output[0]] = node
            nodes.append(node)
    for node in nodes:
        before = made.get(node.input[0]) if _casts_to(node, TensorProto.FLOAT) else None
        if before is not None and _is_narrowing(before):
            node.input[0] = before.input[0]
    used = {name for node in nodes for name in node.input}
    used.update(value.name for value in graph_.output)
    kept = [n for n in nodes if not _is_narrowing(n) or n.output[0] in used]
    del graph_.node[:]
    graph_.node.extend(kept)


def _casts_to(node: NodeProto, kind: int) -> bool:
    return node.op_type == "Cast" and any(a.name == "to" and a.i == kind for a in node.attribute)


def _is_narrowing(node: NodeProto) -> bool:
    """Whether ``node`` is one of the converter's casts from float32 to float16."""
    ours = node.name.endswith("_cast_to_fp16_node") or node.name.startswith("graph_input_cast")
    return ours and _casts_to(node, TensorProto.FLOAT16)


def _clipped(graph_: GraphProto, weights: dict[str, np.ndarray]) -> list[str]:
    return [
        tensor.name
        for tensor in graph_.initializer
        if tensor.data_type == TensorProto.FLOAT16
        and (np.abs(weights[tensor.name][np.isfinite(weights[tensor.name])]) > _GREATEST).any()
    ]


def _retype(graph_: GraphProto, weights: dict[str, np.ndarray]) -> None:
    """Replace float16 by bfloat16, in place; values are rounded from ``weights``."""
    import ml_dtypes

    half, brain = TensorProto.FLOAT16, TensorProto.BFLOAT16
    for tensor in graph_.initializer:
        if tensor.data_type == half:
            values = weights.get(tensor.name, to_array(tensor))
            tensor.CopyFrom(from_array(values.astype(ml_dtypes.bfloat16), tensor.name))
    for value in (*graph_.value_info, *graph_.input, *graph_.output):
        if value.type.tensor_type.elem_type == half:
            value.type.tensor_type.elem_type = brain
    for node in graph_.node:
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype") and attribute.i == half:
                attribute.i = brain
            elif attribute.type == AttributeProto.TENSOR and attribute.t.data_type == half:
                values = to_array(attribute.t).astype(ml_dtypes.bfloat16)
                attribute.t.CopyFrom(from_array(values, attribute.t.name))
            elif attribute.type == AttributeProto.GRAPH:
                _retype(attribute.g, weights)
