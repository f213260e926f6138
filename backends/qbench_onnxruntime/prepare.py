"""Making artifacts: which way a precision goes, and those that need no quantizer.

Never imported while measuring.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import onnx
from onnxruntime.quantization.shape_inference import quant_pre_process

from qbench.backend import (
    Calibration,
    Model,
    PrepareError,
    PrepareTarget,
    Provenance,
    Unsupported,
)
from qbench_onnxruntime import graph, quantize, rewrite
from qbench_onnxruntime.tools import FILE, save, tool


def prepare(
    model: Model, target: PrepareTarget, calibration: Calibration | None, out: Path
) -> Provenance:
    """Make ``model.onnx`` and ``io.json`` in ``out``. See ``qbench.backend.Backend.prepare``."""
    source = graph.load(model.path, weights=False)
    _check_names(model, source)
    arrives_quantized = graph.is_quantized(source)
    if target.recipe == "shared":
        if not arrives_quantized:
            raise PrepareError("recipe shared: the file should be quantized already, and is not")
        provenance = _copy(model.path, source, out)
    elif target.precision == "as-shipped":
        if not arrives_quantized:
            raise Unsupported("the file is not quantized: as-shipped is for files that are")
        provenance = _copy(model.path, source, out)
    elif arrives_quantized:
        raise Unsupported("the file arrives quantized: ask for as-shipped")
    elif target.precision == "fp32":
        provenance = _copy(model.path, source, out)
    elif target.precision == "fp16":
        provenance = _to_fp16(model.path, out)
    else:
        provenance = _quantize(model, source, target, calibration, out)
    graph.facts(graph.load(out / FILE, weights=False)).write(out)
    return provenance


def _check_names(model: Model, source: onnx.ModelProto) -> None:
    """The card's source names must be the file's."""
    for kind, names, values in (
        ("input", model.source_inputs, graph.real_inputs(source.graph)),
        ("output", model.source_outputs, source.graph.output),
    ):
        have = [value.name for value in values]
        for tensor in names.values():
            if tensor.name not in have:
                known = ", ".join(have)
                raise PrepareError(f"the file has no {kind} '{tensor.name}'. It has: {known}.")


def _copy(path: Path, source: onnx.ModelProto, out: Path) -> Provenance:
    quantized = graph.count_quantized(source) or None
    if graph.has_external_weights(source):
        save(graph.load(path), out / FILE)
        return Provenance(FILE, quantized_ops=quantized, notes=("weights were put in one file",))
    if graph.lists_weights_as_inputs(source):
        save(rewrite.without_weights_as_inputs(source), out / FILE)
        note = "weights that were listed as inputs were made constants"
        return Provenance(FILE, quantized_ops=quantized, notes=(note,))
    shutil.copyfile(path, out / FILE)
    return Provenance(FILE, quantized_ops=quantized)


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
    note = "inputs and outputs stay float32; see the effective precision for what computes"
    return Provenance(FILE, settings=settings, notes=(note,))


def _quantize(
    model: Model,
    source: onnx.ModelProto,
    target: PrepareTarget,
    calibration: Calibration | None,
    out: Path,
) -> Provenance:
    with tempfile.TemporaryDirectory(prefix="qbench-ort-") as folder:
        modern, clean = Path(folder, "modern.onnx"), Path(folder, "preprocessed.onnx")
        with tool("onnx.version_converter"):
            save(rewrite.modernized(graph.load(model.path)), modern)
        with tool("quant_pre_process"):
            quant_pre_process(modern, clean, skip_symbolic_shape=True)
        save(rewrite.tidied(graph.load(clean)), clean)
        if target.precision in ("w8", "w4"):
            from qbench_onnxruntime.weight_only import weight_only

            return weight_only(clean, target, out)
        if target.precision == "int8-dynamic":
            return quantize.dynamic(clean, source, target, out)
        if calibration is None:
            raise PrepareError("int8-static needs calibration items and was given none")
        return quantize.static(clean, source, model, target, calibration, out)
