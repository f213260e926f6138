"""8-bit weights and activations with onnxruntime.quantization. Never imported while measuring.

Measured on a 2-core AVX512-VNNI machine with onnxruntime 1.31.1; see the constants below.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from onnxruntime.quantization import (
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from qbench.kit.adapter import Unsupported
from qbench.kit.model import Calibration, Model, PrepareTarget, Provenance
from qbench.kit.onnxfile import graph
from qbench.kit.onnxfile.calibration import (
    HISTOGRAM_ITEMS,
    Range,
    Reader,
    mse_range,
    mse_ranges,
    overrides,
    recorded,
)
from qbench.kit.onnxfile.tools import FILE, count, percent, tool

# What static int8 quantizes in networks made of convolutions. The tool's own default adds average
# pooling and softmax: no faster, and 0.3 to 0.8 points worse on resnet8 and dscnn_kws. Conv,
# MatMul and Gemm alone leave float islands between them: 1.58x instead of 1.80x on resnet8, and
# 0.85x instead of 1.24x on dscnn_kws.
CONVOLUTION_OPS = (
    *("Conv", "ConvTranspose", "MatMul", "Gemm", "Add", "Relu", "Clip", "Concat", "MaxPool"),
    *("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten"),
)
# ... and in transformers: residual sums stay float32, and so do products of two activations
# (everywhere). On a trained ViT of width 64 that gave 1.12x fp32's speed and 38.0 dB, against
# 0.85x and 34.6 dB with those products quantized (width 384: 2.7x against 2.6x). Leaving the
# outputs of MatMul unquantized makes ONNX Runtime unpack the weights and compute in float32.
# Embeddings (Gather) stay float32 too: avgwordvec_sst2 shrinks to a quarter with them, but runs at
# 0.79x instead of 0.93x (static) and 0.86x instead of 0.88x (dynamic) of fp32's speed.
PRODUCT_OPS = ("Conv", "MatMul", "Gemm", "Relu", "Clip")
DYNAMIC_OPS = ("MatMul", "Gemm")

_METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
    "mse": CalibrationMethod.MinMax,  # the tool has no such method: its ranges are overridden
}
_SATURATION = (
    "uint8 by int8 products: on x86 processors without VNNI sums may saturate, so accuracy holds "
    "for the machine it was measured on"
)


def dynamic(clean: Path, source: onnx.ModelProto, target: PrepareTarget, out: Path) -> Provenance:
    """Weights ahead, activations at run time.

    Args:
        clean: the preprocessed model; ``source``: the model as it came, for its names.
    """
    preprocessed = graph.load(clean)
    every = bool(target.options["all_operators"])
    share = graph.product_share(preprocessed)
    if share < 0.5 and not every:
        raise Unsupported(
            "dynamic int8 quantizes matrix products only; they are "
            f"{percent(share)} of this model's multiply-adds, the rest is convolutions or "
            "products of activations (it has no fast kernel for ConvInteger): use "
            "int8-static, or all_operators to see for yourself"
        )
    settings: dict[str, Any] = {
        "op_types_to_quantize": None if every else list(DYNAMIC_OPS),
        "per_channel": target.options["per_channel"],
        "nodes_to_exclude": graph.excluded_nodes(
            source, preprocessed, target.options["excluded_operators"]
        ),
    }
    with tool("quantize_dynamic"):
        quantize_dynamic(clean, out / FILE, weight_type=QuantType.QInt8, **settings)
    notes = [f"matrix products only: {percent(share)} of the multiply-adds"]
    if every:
        notes = ["every operator that the tool takes"]
        if settings["per_channel"]:
            notes.append("convolutions (ConvInteger) have one scale for each weight all the same")
    return Provenance(
        FILE,
        "onnxruntime.quantize_dynamic",
        {"skip_symbolic_shape": True, "weight_type": "QInt8", **settings},
        count("quantize_dynamic", out),
        (*notes, _SATURATION),
    )


def static(
    clean: Path,
    source: onnx.ModelProto,
    model: Model,
    target: PrepareTarget,
    calibration: Calibration,
    out: Path,
) -> Provenance:
    """Weights and activations ahead, as QDQ. ``clean`` and ``source`` as in :func:`dynamic`."""
    preprocessed = graph.load(clean)
    products = graph.product_share(preprocessed) >= 0.5
    operators = list(PRODUCT_OPS if products else CONVOLUTION_OPS)
    method = str(target.options["calibration_method"])
    reader = Reader(model, preprocessed, calibration)
    excluded = graph.excluded_nodes(source, preprocessed, target.options["excluded_operators"])
    settings: dict[str, Any] = {
        "op_types_to_quantize": operators,
        "per_channel": target.options["per_channel"],
        "nodes_to_exclude": sorted({*excluded, *graph.activation_products(preprocessed)}),
    }
    extra: dict[str, Any] = {}
    ranges: dict[str, Range] = {}
    if method in ("entropy", "percentile"):
        extra["CalibStridedMinMax"] = reader.stride(HISTOGRAM_ITEMS)
    if method == "percentile":
        # the tool's default takes ranges symmetric to zero: half of uint8 is lost after a Relu
        extra["CalibTensorRangeSymmetric"] = False
    with tool("quantize_static"):
        if method == "mse":
            ranges = mse_ranges(clean, operators, reader, mse_range)
            reader.set_range(0, len(reader))
        quantize_static(
            clean,
            out / FILE,
            reader,
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=_METHODS[method],
            extra_options={**extra, **overrides(ranges)},
            **settings,
        )
    return Provenance(
        FILE,
        "onnxruntime.quantize_static",
        {
            "skip_symbolic_shape": True,
            "quant_format": "QDQ",
            "activation_type": "QUInt8",
            "weight_type": "QInt8",
            "calibrate_method": _METHODS[method].name,
            "calibration_items": len(reader) * reader.batch,
            **settings,
            **extra,
            **recorded(ranges),
        },
        count("quantize_static", out),
        (_SATURATION,),
    )
