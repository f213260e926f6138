"""Making the portable artifact: which way a precision goes. Runs anywhere, without a GPU.

Never imported while measuring. Whatever is made is checked by the rules before it is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
from onnx import ModelProto, TensorProto

from qbench.kit.adapter import PrepareError, Unsupported
from qbench.kit.model import Calibration, Model, PrepareTarget, Provenance, TensorSpec
from qbench.kit.onnxfile import graph
from qbench.kit.onnxfile.tools import copy
from qbench_tensorrt import rules
from qbench_tensorrt.io import Io

_PASSED = (
    *(TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.BOOL),
    *(TensorProto.INT8, TensorProto.INT32, TensorProto.INT64, TensorProto.UINT8),
)
"""What inputs and outputs may be: ``nvinfer1::DataType``, as the ONNX parser of TensorRT 10 maps
to it. int64 is passed as it is since 10.0."""


def describe(path: Path) -> tuple[Mapping[str, TensorSpec], Mapping[str, TensorSpec]]:
    """See ``qbench.kit.adapter.Backend.describe``."""
    return graph.describe(graph.load(path, weights=False))


def prepare(
    model: Model, target: PrepareTarget, calibration: Calibration | None, out: Path
) -> Provenance:
    """Make ``model.onnx`` and ``io.json`` in ``out``. See
    ``qbench.kit.adapter.Backend.prepare``."""
    source = graph.load(model.path, weights=False)
    graph.check_names(model, source)
    _check_types(source)
    provenance = _make(model, source, target, calibration, out)
    made = graph.load(out / provenance.file)
    _check_rules(made, as_it_came=provenance.quantizer is None)
    Io(*graph.describe(made)).write(out)
    return provenance


def _make(
    model: Model,
    source: ModelProto,
    target: PrepareTarget,
    calibration: Calibration | None,
    out: Path,
) -> Provenance:
    arrives_quantized = graph.is_quantized(source)
    if target.recipe == "shared":
        if not arrives_quantized:
            raise PrepareError("recipe shared: the file should be quantized already, and is not")
        return copy(model.path, source, out)
    if target.precision == "as-shipped":
        if not arrives_quantized:
            raise Unsupported("the file is not quantized: as-shipped is for files that are")
        return copy(model.path, source, out)
    if arrives_quantized:
        raise Unsupported("the file arrives quantized: ask for as-shipped")
    if target.precision in ("fp32", "tf32"):  # which of both, the builder is told
        return copy(model.path, source, out)
    if target.precision in ("fp16", "bf16"):
        from qbench_tensorrt.convert import convert

        return convert(model.path, target, out)
    if target.precision == "int8-static":
        from qbench_tensorrt.quantize import quantize

        if calibration is None:
            raise PrepareError("int8-static needs calibration items and was given none")
        return quantize(model, source, target, calibration, out)
    from qbench_tensorrt import modelopt

    return modelopt.quantize(model, source, target, calibration, out)


def _check_types(source: ModelProto) -> None:
    """Raises Unsupported for an input or output of a type that TensorRT lacks."""
    for value in (*graph.real_inputs(source.graph), *source.graph.output):
        kind = value.type.tensor_type.elem_type
        if kind not in _PASSED:
            word = onnx.TensorProto.DataType.Name(kind).lower()  # type: ignore[arg-type]
            raise Unsupported(f"'{value.name}' is of type {word}, which TensorRT does not have")


def _check_rules(made: ModelProto, as_it_came: bool) -> None:
    """Raises for what TensorRT would refuse: Unsupported where the file came so."""
    violations = rules.check(made)
    if not violations:
        return
    of_each = {v.rule: v for v in reversed(violations)}  # the first violation of each rule
    told = "; ".join(str(v) for v in violations if of_each.get(v.rule) is v)
    more = len(violations) - len(of_each)
    text = f"{told}; and {more} like them" if more else told
    if as_it_came:
        raise Unsupported(f"TensorRT refuses this file: {text}")
    raise PrepareError(f"TensorRT would refuse what was made: {text}", violations[0].node)
