"""int8 by explicit Q/DQ, placed where TensorRT fuses it. Never imported while measuring.

TensorRT's documentation, "Working with Quantized Types", "Q/DQ Layer-Placement Recommendations":
quantize all inputs of convolutions and matrix products; do not quantize their outputs, so that
following operators can be fused first (the next operator's Q serves as the output's); one scale per
activation and one per output channel of weights; quantize the residual input of an addition after a
convolution, so that both fuse and the sum is written as int8.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from onnx import GraphProto, ModelProto, NodeProto
from onnxruntime.quantization import QuantType

from qbench.kit.model import Calibration, Model, PrepareTarget, Provenance
from qbench.kit.onnxfile import graph
from qbench.kit.onnxfile.calibration import Reader, quantize_qdq, symmetric_mse_range
from qbench.kit.onnxfile.tools import FILE, count, preprocessed, save
from qbench_tensorrt.convert import halved

WEIGHTED = ("Conv", "ConvTranspose", "MatMul", "Gemm")
_CONVOLUTIONS = ("Conv", "ConvTranspose")
_FLOAT16_SCALES_OPSET = 19
"""First opset with float16 scales of Q and DQ (ONNX operator changelog)."""
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
    """Write ``model.onnx`` into ``out`` with int8 Q/DQ and everything else in float16, as Model
    Optimizer does: in a strongly typed network attention would otherwise run in float32, slower
    than at fp16.

    Args:
        source: the original model, for the names of excluded operators.

    Raises:
        PrepareError: the tool failed or quantized nothing, or there is no such excluded operator.
    """
    with tempfile.TemporaryDirectory(prefix="qbench-tensorrt-") as folder:
        clean = preprocessed(model.path, Path(folder))
        network = graph.load(clean)
        residual = residual_inputs(network.graph)
        excluded = {
            *graph.excluded_nodes(source, network, target.options["excluded_operators"]),
            *unweighted(network.graph),
            *(n.name for n in network.graph.node if n.op_type == "Add" and n.name not in residual),
        }
        settings = quantize_qdq(
            clean,
            out / FILE,
            Reader(model, network, calibration),
            target,
            activations=QuantType.QInt8,
            operators=[*WEIGHTED, "Add"] if residual else WEIGHTED,
            excluded=excluded,
            extra=_EXTRA,
            search=symmetric_mse_range,
        )
    left = {name: place for name, place in residual.items() if name not in excluded}
    quantized = graph.load(out / FILE)
    leave_sums_float(quantized.graph, left)
    rest = halved(quantized, _FLOAT16_SCALES_OPSET)
    save(rest.model, out / FILE)
    notes = ["operators that are not quantized run in float16", *rest.notes]
    if left:
        notes.append(f"{len(left)} residual sums have one quantized input, as TensorRT fuses them")
    return Provenance(
        FILE,
        "onnxruntime.quantize_static",
        {**settings, "rest": rest.settings},
        count("quantize_static", out),
        tuple(notes),
    )


# --------------------------------------------------------------------------- placement of Q/DQ


def unweighted(graph_: GraphProto) -> list[str]:
    """Names of products whose second input is not a constant matrix: products of two activations,
    as in attention, which TensorRT fuses in floating point, and stacks of matrices, for which the
    tool chooses scales along the wrong axis."""
    weights = {tensor.name: tensor for tensor in graph_.initializer}
    return [
        node.name
        for node in graph_.node
        if (node.op_type == "MatMul" and len(getattr(weights.get(node.input[1]), "dims", ())) != 2)
        or (node.op_type in ("Gemm", *_CONVOLUTIONS) and node.input[1] not in weights)
    ]


def residual_inputs(graph_: GraphProto) -> dict[str, int]:
    """Residual sums: by name of an addition of two activations, one of them a convolution's output,
    the index of the input to quantize; the other input is fused with its convolution.

    Of two convolutions the one farther from the network's input is fused: it runs last, when the
    other branch (a shortcut or a projection) is ready to be added. It must feed nothing else.
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
    """Remove Q and DQ from the non-residual input of each sum, in place."""
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
    """Remove unused DQs, then unused Qs, then unused constants, in place."""
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
