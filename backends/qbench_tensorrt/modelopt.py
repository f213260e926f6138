"""fp8 and 4-bit weights by NVIDIA's Model Optimizer, in a separate environment.

Never imported while measuring. nvidia-modelopt pins onnx and onnxruntime-gpu, so it cannot share an
environment with qbench's own packages. It calibrates on the processor, so it needs no GPU.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from onnx import ModelProto

from qbench.kit.adapter import PrepareError, Unsupported
from qbench.kit.model import Calibration, Model, PrepareTarget, Provenance
from qbench.kit.onnxfile import graph, rewrite
from qbench.kit.onnxfile.calibration import Reader
from qbench.kit.onnxfile.tools import FILE, count, percent, preprocessed, save, tool
from qbench_tensorrt.convert import halved

SNIPPET = (
    'environments: {modelopt: {requirements: ["nvidia-modelopt[onnx]==0.47.*"], '
    "backends: [tensorrt], prepare: [fp8, w4]}}"
)
"""Lines of a suite that prepare these precisions."""

DEFAULT_GROUP = 128
"""Weights along the input that share a scale, as in Model Optimizer's own recipes."""


def quantize(
    model: Model,
    source: ModelProto,
    target: PrepareTarget,
    calibration: Calibration | None,
    out: Path,
) -> Provenance:
    """Write ``model.onnx`` into ``out`` at fp8 or w4.

    Raises:
        Unsupported: Model Optimizer is not installed here.
        PrepareError: it failed, or quantized nothing.
    """
    try:
        from modelopt.onnx.quantization import (  # pyright: ignore[reportMissingImports]
            quantize as optimize,
        )
    except ModuleNotFoundError as error:
        raise Unsupported(
            f"{target.precision} needs nvidia-modelopt in a separate environment; add to the "
            f"suite: {SNIPPET}"
        ) from error
    with tempfile.TemporaryDirectory(prefix="qbench-tensorrt-") as folder:
        clean = preprocessed(model.path, Path(folder))
        network = graph.load(clean)
        if target.precision == "fp8":
            if calibration is None:
                raise PrepareError("fp8 needs calibration items, but got none")
            reader = Reader(model, network, calibration)
            given: dict[str, Any] = {"calibration_data_reader": reader}
            settings = _fp8(source, network, target)
            recorded = {**settings, "calibration_items": len(reader) * reader.batch}
        else:
            network = rewrite.with_products_for_gemm(network)
            save(network, clean)
            given, settings = {}, _w4(network, model, target)
            recorded = settings
        with tool("modelopt.onnx.quantization"):
            optimize(
                str(clean),
                output_path=str(out / FILE),
                calibration_eps=["cpu"],
                log_level="ERROR",
                use_external_data_format=clean.stat().st_size > 1_900_000_000,
                **settings,
                **given,
            )
    if target.precision == "w4":  # it leaves activations in float32
        rest = halved(graph.load(out / FILE))
        save(rest.model, out / FILE)
        recorded = {**recorded, "rest": rest.settings}
    return Provenance(
        FILE,
        "modelopt.onnx.quantization.quantize",
        recorded,
        count("modelopt.onnx.quantization", out),
        ("operators that are not quantized run in float16; inputs and outputs stay float32",),
    )


def _fp8(source: ModelProto, network: ModelProto, target: PrepareTarget) -> dict[str, Any]:
    excluded = target.options["excluded_operators"]
    return {
        "quantize_mode": "fp8",
        "calibration_method": "max",
        "high_precision_dtype": "fp16",
        "nodes_to_exclude": graph.excluded_nodes(source, network, excluded),
    }


def _w4(network: ModelProto, model: Model, target: PrepareTarget) -> dict[str, Any]:
    """Settings for rounding to nearest: other methods need calibration items, which w4 lacks.

    Raises:
        Unsupported: most of the work is not matrix products, or the group size is -1.
    """
    share = graph.product_share(network, model.source_shapes(1))
    if share < 0.5:
        raise Unsupported(
            "4-bit weights are for matrix products only; they are "
            f"{percent(share)} of this model's multiply-adds, the rest is convolutions or products "
            "of activations"
        )
    group = target.options["group_size"]
    if group == -1:
        raise Unsupported("group_size -1: Model Optimizer needs the size of the groups")
    return {
        "quantize_mode": "int4",
        "calibration_method": "rtn_dq",
        "block_size": group or DEFAULT_GROUP,
    }
