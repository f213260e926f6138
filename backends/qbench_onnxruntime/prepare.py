"""Prepare artifacts: choose the tool for a precision. Never imported while measuring."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx

from qbench.kit.adapter import PrepareError
from qbench.kit.model import Calibration, Model, PrepareTarget, Provenance
from qbench.kit.onnxfile import graph, rewrite
from qbench.kit.onnxfile.tools import FILE, copy, preprocessed, save, tool
from qbench_onnxruntime import quantize
from qbench_onnxruntime.options import FileFacts


def prepare(
    model: Model, target: PrepareTarget, calibration: Calibration | None, out: Path
) -> Provenance:
    """Write ``model.onnx`` and ``io.json`` into ``out``."""
    source = graph.load(model.path, weights=False)
    graph.check_names(model, source)
    provenance = copy(model, source, target, out)
    if provenance is None and target.precision == "fp16":
        provenance = _to_fp16(model.path, out)
    elif provenance is None:
        provenance = _quantize(model, source, target, calibration, out)
    facts(graph.load(out / FILE, weights=False)).write(out)
    return provenance


def facts(model: onnx.ModelProto) -> FileFacts:
    """Facts of the file that ``open`` needs."""
    return FileFacts(
        graph.symbols(model.graph),
        graph.quantized_io(model.graph),
        _float_between_quantized(model.graph),
    )


def _float_between_quantized(graph: onnx.GraphProto) -> bool:
    """Whether ``WeightBiasQuantization`` would quantize weights of the file."""
    unpacked = {n.output[0] for n in graph.node if n.op_type == "DequantizeLinear"}
    return any(
        node.op_type in ("Conv", "ConvTranspose", "Gemm")
        and node.input[0] in unpacked
        and node.input[1] not in unpacked
        for node in graph.node
    )


def _to_fp16(path: Path, out: Path) -> Provenance:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with tool("convert_float_to_float16"):
        converted = convert_float_to_float16(
            rewrite.without_weights_as_inputs(graph.load(path)), keep_io_types=True
        )
    halves = [t for t in converted.graph.initializer if t.data_type == onnx.TensorProto.FLOAT16]
    if not halves:
        raise PrepareError("convert_float_to_float16 finished but converted no weights")
    save(converted, out / FILE)
    settings = {"function": "onnxruntime.transformers.float16", "keep_io_types": True}
    note = "inputs and outputs stay float32; the effective precision shows what computes in fp16"
    return Provenance(FILE, settings=settings, notes=(note,))


def _quantize(
    model: Model,
    source: onnx.ModelProto,
    target: PrepareTarget,
    calibration: Calibration | None,
    out: Path,
) -> Provenance:
    with tempfile.TemporaryDirectory(prefix="qbench-ort-") as folder:
        clean = preprocessed(model.path, Path(folder))
        graph.check_weights(graph.load(clean))
        if target.precision in ("w8", "w4"):
            from qbench_onnxruntime.weight_only import weight_only

            return weight_only(clean, target, model.source_shapes(1), out)
        if target.precision == "int8-dynamic":
            return quantize.dynamic(clean, source, model, target, out)
        if calibration is None:
            raise PrepareError("int8-static needs calibration items, but got none")
        return quantize.static(clean, source, model, target, calibration, out)
