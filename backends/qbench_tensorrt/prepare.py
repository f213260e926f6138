"""Prepare portable artifacts: choose the tool for a precision, and check the result by the rules.

Runs without a GPU. Never imported while measuring.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import ModelProto, TensorProto

from qbench.kit.adapter import PrepareError, Unsupported
from qbench.kit.model import Calibration, Model, PrepareTarget, Provenance
from qbench.kit.onnxfile import graph
from qbench.kit.onnxfile.tools import copy
from qbench_tensorrt import rules
from qbench_tensorrt.io import Io

_PASSED = (
    *(TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.BOOL),
    *(TensorProto.INT8, TensorProto.INT32, TensorProto.INT64, TensorProto.UINT8),
)
"""Types of inputs and outputs that the ONNX parser of TensorRT 10 maps to ``nvinfer1::DataType``;
int64 stays int64 since 10.0."""


def prepare(
    model: Model, target: PrepareTarget, calibration: Calibration | None, out: Path
) -> Provenance:
    """Write ``model.onnx`` and ``io.json`` into ``out``."""
    source = graph.load(model.path, weights=False)
    graph.check_names(model, source)
    _check_types(source)
    provenance = _make(model, source, target, calibration, out)
    made = graph.load(out / provenance.file)
    _check_rules(made, original=provenance.quantizer is None)
    Io.of(made).write(out)
    return provenance


def _make(
    model: Model,
    source: ModelProto,
    target: PrepareTarget,
    calibration: Calibration | None,
    out: Path,
) -> Provenance:
    if (copied := copy(model, source, target, out)) is not None:
        return copied
    if target.precision in ("fp16", "bf16"):
        from qbench_tensorrt.convert import convert

        return convert(model.path, target, out)
    if target.precision == "int8-static":
        from qbench_tensorrt.quantize import quantize

        if calibration is None:
            raise PrepareError("int8-static needs calibration items, but got none")
        return quantize(model, source, target, calibration, out)
    from qbench_tensorrt import modelopt

    return modelopt.quantize(model, source, target, calibration, out)


def _check_types(source: ModelProto) -> None:
    """Raise Unsupported for an input or output of a type that TensorRT lacks."""
    for value in (*graph.real_inputs(source.graph), *source.graph.output):
        kind = value.type.tensor_type.elem_type
        if kind not in _PASSED:
            word = onnx.TensorProto.DataType.Name(kind).lower()  # type: ignore[arg-type]
            raise Unsupported(f"'{value.name}' is of type {word}, which TensorRT does not have")


def _check_rules(made: ModelProto, original: bool) -> None:
    """Raise for a file that TensorRT would refuse: Unsupported if it is the ``original`` file, else
    PrepareError."""
    violations = rules.check(made)
    if not violations:
        return
    of_each = {v.rule: v for v in reversed(violations)}  # the first violation of each rule
    text = "; ".join(str(v) for v in violations if of_each.get(v.rule) is v)
    if more := len(violations) - len(of_each):
        text += f"; and {more} like these"
    if original:
        raise Unsupported(f"TensorRT refuses this file: {text}")
    raise PrepareError(f"TensorRT would refuse the quantized file: {text}", violations[0].node)
