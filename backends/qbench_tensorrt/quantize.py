"""int8 by explicit Q/DQ, placed as TensorRT fuses it. Never imported while measuring.

From TensorRT's documentation, "Working with Quantized Types", "Q/DQ Layer-Placement
Recommendations": quantize all inputs of convolutions and matrix products; do not quantize their
outputs, so that what follows can be fused first (the next operator's Q is the output's); one scale
for each activation and one for each output channel of weights; quantize the residual input of an
addition behind a convolution, so that both fuse and the sum leaves as int8.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from onnx import GraphProto, ModelProto, NodeProto
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

from qbench.kit.model import Calibration, Model, PrepareTarget, Provenance
from qbench.kit.onnxfile import graph
from qbench.kit.onnxfile.calibration import (
    HISTOGRAM_ITEMS,
    Range,
    Reader,
    mse_ranges,
    overrides,
    recorded,
    symmetric_mse_range,
)
from qbench.kit.onnxfile.tools import FILE, count, preprocessed, save, tool
from qbench_tensorrt.convert import halved

WEIGHTED = ("Conv", "ConvTranspose", "MatMul", "Gemm")
_CONVOLUTIONS = ("Conv", "ConvTranspose")
_METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
    "mse": CalibrationMethod.MinMax,  # the tool has no such method: its ranges are overridden
}
_FLOAT16_SCALES_OPSET = 19
"""Since which Q and DQ have scales in float16 (ONNX operator changelog)."""
_EXTRA = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "QuantizeBias": False,
    "AddQDQPairToWeight": True,
    "DedicatedQDQPair": True,
    "OpTypesToExcludeOutputQuantization": [*WEIGHTED, "Add"],
}


def quantize(
    model: Model, source: ModelProto, target: PrepareTarget, calibration: Calibration, out: Path
) -> Provenance:
    """``model.onnx`` in ``out`` with int8 Q/DQ. The rest is float16, as Model Optimizer makes it:
    in a strongly typed network attention would run in float32 otherwise, slower than at fp16.

    Args:
        source: the model as it came, for the names of operators that are left out.

    Raises:
        PrepareError: the tool failed or quantized nothing, or an excluded operator is not there.
    """
    with tempfile.TemporaryDirectory(prefix="qbench-tensorrt-") as folder:
        clean = preprocessed(model.path, Path(folder))
        network = graph.load(clean)
        reader = Reader(model, network, calibration)
        residual = residual_inputs(network.graph)
        excluded = {
            *graph.excluded_nodes(source, network, target.options["excluded_operators"]),
            *unweighted(network.graph),
            *(n.name for n in network.graph.node if n.op_type == "Add" and n.name not in residual),
        }
        method = str(target.options["calibration_method"])
        operators = [*WEIGHTED, "Add"] if residual else list(WEIGHTED)
        extra = {**_EXTRA, **_calibration(method, reader)}
        with tool("quantize_static"):
            ranges: dict[str, Range] = {}
            if method == "mse":
                ranges = mse_ranges(clean, operators, reader, symmetric_mse_range)
                reader.set_range(0, len(reader))
            quantize_static(
                clean,
                out / FILE,
                reader,
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=_METHODS[method],
                op_types_to_quantize=operators,
                per_channel=target.options["per_channel"],
                nodes_to_exclude=sorted(excluded),
                extra_options={**extra, **overrides(ranges)},
            )
    left = {name: place for name, place in residual.items() if name not in excluded}
    quantized = graph.load(out / FILE)
    leave_sums_float(quantized.graph, left)
    rest = halved(quantized, _FLOAT16_SCALES_OPSET)
    save(rest.model, out / FILE)
    notes = ["what is not quantized is float16", *rest.notes]
    if left:
        notes.append(f"of {len(left)} residual sums one input is quantized, as TensorRT fuses them")
    return Provenance(
        FILE,
        "onnxruntime.quantize_static",
        {
            "skip_symbolic_shape": True,
            "quant_format": "QDQ",
            "activation_type": "QInt8",
            "weight_type": "QInt8",
            "calibrate_method": _METHODS[method].name,
            "calibration_items": len(reader) * reader.batch,
            "op_types_to_quantize": operators,
            "per_channel": target.options["per_channel"],
            "nodes_to_exclude": sorted(excluded),
            **extra,
            **recorded(ranges),
            "rest": rest.settings,
        },
        count("quantize_static", out),
        tuple(notes),
    )


def _calibration(method: str, reader: Reader) -> dict[str, Any]:
    if method in ("entropy", "percentile"):
        return {"CalibStridedMinMax": reader.stride(HISTOGRAM_ITEMS)}
    return {}


# --------------------------------------------------------------------------- what is quantized


def unweighted(graph_: GraphProto) -> list[str]:
    """Names of products without a constant second input of two axes: those of two activations, as
    in attention, which TensorRT fuses in floating point, and stacks of matrices, for which the
    tool takes scales along the wrong axis."""
    weights = {tensor.name: tensor for tensor in graph_.initializer}
    return [
        node.name
        for node in graph_.node
        if (node.op_type == "MatMul" and len(getattr(weights.get(node.input[1]), "dims", ())) != 2)
        or (node.op_type in ("Gemm", *_CONVOLUTIONS) and node.input[1] not in weights)
    ]


def residual_inputs(graph_: GraphProto) -> dict[str, int]:
    """By name of an addition of two activations, of which a convolution makes at least one: the
    place of the input that is quantized, the other being fused into its convolution.

    The convolution that is farther from the network's input is fused: it runs last, when the other
    branch, be it a shortcut or a projection, is there to be added. It must feed nothing else.
    """
    constants = {tensor.name for tensor in graph_.initializer}
    makers = {name: node for node in graph_.node for name in node.output}
    users = [name for node in graph_.node for name in node.input]
    depths: dict[str, int] = {}
    for node in graph_.node:
        depth = 1 + max((depths.get(name, 0) for name in node.input), default=0)
        depths.update(dict.fromkeys(node.output, depth))

    def fusible(name: str) -> bool:
        maker = makers.get(name)
        return maker is not None and maker.op_type in _CONVOLUTIONS and users.count(name) == 1

    found = {}
    for node in graph_.node:
        if node.op_type == "Add" and not constants.intersection(node.input):
            fused = [place for place in (0, 1) if fusible(node.input[place])]
            if fused:
                last = max(fused, key=lambda place: depths[node.input[place]])
                found[node.name] = 1 - last
    return found


def leave_sums_float(graph_: GraphProto, residual: dict[str, int]) -> None:
    """Take the Q and DQ off the input of each sum that is not the residual one, in place."""
    makers = {name: node for node in graph_.node for name in node.output}
    for node in graph_.node:
        if node.name in residual:
            place = 1 - residual[node.name]
            node.input[place] = _before_pair(makers.get(node.input[place]), makers)
    _drop_unused_pairs(graph_)


def _before_pair(dequantize: NodeProto | None, makers: dict[str, NodeProto]) -> str:
    assert dequantize is not None and dequantize.op_type == "DequantizeLinear"
    return makers[dequantize.input[0]].input[0]


def _drop_unused_pairs(graph_: GraphProto) -> None:
    """Without the DQs, then the Qs, and then the constants that nothing uses."""
    for operator in ("DequantizeLinear", "QuantizeLinear"):
        used = {name for node in graph_.node for name in node.input}
        used.update(value.name for value in graph_.output)
        nodes = [n for n in graph_.node if n.op_type != operator or n.output[0] in used]
        del graph_.node[:]
        graph_.node.extend(nodes)
    used = {name for node in graph_.node for name in node.input}
    constants = [tensor for tensor in graph_.initializer if tensor.name in used]
    del graph_.initializer[:]
    graph_.initializer.extend(constants)
