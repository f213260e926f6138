"""8-bit weights and activations with onnxruntime.quantization. Never imported while measuring.

Figures below: a 2-core AVX512-VNNI machine with onnxruntime 1.31.1.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from qbench.kit.adapter import Unsupported
from qbench.kit.model import Calibration, Model, PrepareTarget, Provenance
from qbench.kit.onnxfile import graph
from qbench.kit.onnxfile.calibration import Reader, mse_range, quantize_qdq
from qbench.kit.onnxfile.tools import FILE, count, percent, save, tool

# Operators that static int8 quantizes in convolutional networks. The tool's own default adds
# average pooling and softmax: no faster, and 0.3 to 0.8 points less accurate on resnet8 and
# dscnn_kws. Conv, MatMul and Gemm alone leave float islands between them: 1.58x instead of 1.80x on
# resnet8, and 0.85x instead of 1.24x on dscnn_kws.
CONVOLUTION_OPS = (
    *("Conv", "ConvTranspose", "MatMul", "Gemm", "Add", "Relu", "Clip", "Concat", "MaxPool"),
    *("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten"),
)
# The same in transformers: residual sums stay float32, and so do products of two activations (in
# all networks). On a trained ViT of width 64 that gave 1.12x fp32's speed and 38.0 dB, against
# 0.85x and 34.6 dB with those products quantized (width 384: 2.7x against 2.6x). Leaving the
# outputs of MatMul unquantized makes ONNX Runtime unpack the weights and compute in float32.
# Embeddings (Gather) stay float32 too: avgwordvec_sst2 shrinks to a quarter with them, but runs at
# 0.79x instead of 0.93x (static) and 0.86x instead of 0.88x (dynamic) of fp32's speed.
PRODUCT_OPS = ("Conv", "MatMul", "Gemm", "Relu", "Clip")
DYNAMIC_OPS = ("MatMul", "Gemm")


def dynamic(
    clean: Path, source: onnx.ModelProto, model: Model, target: PrepareTarget, out: Path
) -> Provenance:
    """int8 weights now, activations at run time.

    Args:
        clean: the preprocessed model.
        source: the original model, for its operators' names.
    """
    preprocessed = graph.load(clean)
    every = bool(target.options["all_operators"])
    share = graph.product_share(preprocessed, model.source_shapes(1))
    if share < 0.5 and not every:
        raise Unsupported(
            "dynamic int8 quantizes matrix products only; they are "
            f"{percent(share)} of this model's multiply-adds, and convolutions have no fast "
            "integer kernel: use int8-static, or try all_operators"
        )
    settings: dict[str, Any] = {
        "op_types_to_quantize": None if every else list(DYNAMIC_OPS),
        "per_channel": target.options["per_channel"],
        "nodes_to_exclude": graph.excluded_nodes(
            source, preprocessed, target.options["excluded_operators"]
        ),
    }
    stacked = _apart(preprocessed) if settings["per_channel"] else []
    with tool("quantize_dynamic"):
        if stacked:
            save(preprocessed, clean)
        _quantize_dynamic(clean, out / FILE, settings, leave=stacked)
        if stacked:
            whole = {**settings, "per_channel": False}
            others = [n.name for n in graph.load(out / FILE).graph.node if n.name not in stacked]
            _quantize_dynamic(out / FILE, out / FILE, whole, leave=others)
    notes = [f"matrix products only: {percent(share)} of the multiply-adds"]
    if every:
        notes = ["all operators that the tool can quantize"]
        if settings["per_channel"]:
            notes.append("convolutions (ConvInteger) still have one scale per weight tensor")
    if stacked:
        notes.append(f"{len(stacked)} products with stacks of matrices have one scale per tensor")
    return Provenance(
        FILE,
        "onnxruntime.quantize_dynamic",
        {"skip_symbolic_shape": True, "weight_type": "QInt8", **settings},
        count("quantize_dynamic", out),
        tuple(notes),
    )


def _quantize_dynamic(source: Path, file: Path, settings: dict[str, Any], leave: list[str]) -> None:
    excluded = [*settings["nodes_to_exclude"], *leave]
    quantize_dynamic(
        source, file, weight_type=QuantType.QInt8, **{**settings, "nodes_to_exclude": excluded}
    )


def _apart(model: onnx.ModelProto) -> list[str]:
    """Names of the products whose weights need one scale per tensor. Each gets its activation
    through an Identity, in place, so that a second call of the tool quantizes it on its own."""
    weights = graph.stacked_weights(model)
    nodes: list[onnx.NodeProto] = []
    found = []
    for node in model.graph.node:
        if node.op_type == "MatMul" and node.input[1] in weights:
            apart = f"{node.name}.activation"
            nodes.append(onnx.helper.make_node("Identity", [node.input[0]], [apart], apart))
            node.input[0] = apart
            found.append(node.name)
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return found


def static(
    clean: Path,
    source: onnx.ModelProto,
    model: Model,
    target: PrepareTarget,
    calibration: Calibration,
    out: Path,
) -> Provenance:
    """int8 weights and activations, as Q/DQ. ``clean`` and ``source`` as in :func:`dynamic`."""
    preprocessed = graph.load(clean)
    products = graph.product_share(preprocessed, model.source_shapes(1)) >= 0.5
    excluded = graph.excluded_nodes(source, preprocessed, target.options["excluded_operators"])
    # by default the tool takes percentile ranges symmetric to zero, which wastes half of uint8
    # after a Relu
    by_percentile = target.options["calibration_method"] == "percentile"
    settings = quantize_qdq(
        clean,
        out / FILE,
        Reader(model, preprocessed, calibration),
        target,
        activations=QuantType.QUInt8,
        operators=PRODUCT_OPS if products else CONVOLUTION_OPS,
        excluded={*excluded, *graph.activation_products(preprocessed)},
        extra={"CalibTensorRangeSymmetric": False} if by_percentile else {},
        search=mse_range,
    )
    return Provenance(
        FILE,
        "onnxruntime.quantize_static",
        settings,
        count("quantize_static", out),
    )
