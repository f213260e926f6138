"""Convert, calibrate and quantize. Never imported while measuring.

Every source goes through ``openvino.convert_model``, which folds constants. That matters more
than it looks: ``Core.read_model`` leaves the weights of ONNX's depthwise convolutions behind a
Reshape, where NNCF does not find them, and a quarter to a half of the convolutions of a MobileNet
stay float32. Quantizing the converted model is as fast as quantizing the ONNX graph, gives a
smaller file, and needs neither onnx nor ONNX Runtime.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from qbench.backend import (
    Calibration,
    Feed,
    Model,
    PrepareError,
    PrepareTarget,
    Provenance,
    TensorSpec,
    Unsupported,
)
from qbench_openvino.runtime import import_openvino, shorten
from qbench_openvino.settings import GROUP_SIZE
from qbench_openvino.tensors import batch_of, find_ports, port_spec

FILE = "model.xml"
GROUPS = (128, 64, 32, 16)
"""Group sizes for dynamic quantization. A longer group is faster (2.8x at 128 against 2.2x at the
plugin's default of 32 on an encoder 256 wide) and costs under 1 dB; the plugin wants multiples
of 16."""

OUTLIERS = 1e-4
"""Share of an item's activations left out at either end by percentile calibration."""

_CONVOLUTIONS = (
    "Convolution",
    "GroupConvolution",
    "ConvolutionBackpropData",
    "GroupConvolutionBackpropData",
)
_WEIGHTED = (*_CONVOLUTIONS, "MatMul")
_PASSED = {"Convert", "FakeQuantize", "Multiply", "Reshape", "Subtract", "Transpose"}
"""Operators that may stand between a stored weight and the operator that uses it."""


def prepare(
    model: Model, target: PrepareTarget, calibration: Calibration | None, out: Path
) -> Provenance:
    """See ``qbench.backend.Backend.prepare``."""
    openvino = import_openvino()
    converted = _convert(openvino, model)
    if target.precision == "int8-static":
        if calibration is None:
            raise PrepareError("int8-static needs calibration items")
        converted, record = _quantize(converted, model, target.options, calibration)
    elif target.precision == "int8-dynamic":
        converted, record = _compress(converted)
    else:
        record = {}
    half = target.precision == "fp16"
    openvino.save_model(converted, out / FILE, compress_to_fp16=half)
    return Provenance(
        FILE, **{**record, "settings": {"compress_to_fp16": half, **record.get("settings", {})}}
    )


def describe(path: Path) -> tuple[dict[str, TensorSpec], dict[str, TensorSpec]]:
    """See ``qbench.backend.Backend.describe``."""
    openvino = import_openvino()
    model = _read(openvino, path, openvino.Core().read_model)
    inputs = {port.get_any_name(): port_spec(port) for port in model.inputs}
    outputs = {port.get_any_name(): port_spec(port) for port in model.outputs}
    return inputs, outputs


def _convert(openvino: Any, model: Model) -> Any:
    """The source file as an OpenVINO model with constants folded.

    Raises:
        PrepareError: not a model file, an operator that OpenVINO lacks, or other names than
            the card's.
    """
    converted = _read(openvino, model.path, openvino.convert_model)
    try:
        find_ports(converted.inputs, model.source_inputs)
        find_ports(converted.outputs, model.source_outputs)
    except ValueError as error:
        raise PrepareError(str(error)) from error
    return converted


def _read(openvino: Any, path: Path, reader: Callable[[Path], Any]) -> Any:
    """What ``reader`` makes of the file, its errors put into words."""
    kind = {".onnx": "ONNX", ".tflite": "TFLite"}.get(path.suffix, "model")
    if not _looks_like(path):
        raise PrepareError(f"not a valid {kind} file: {path.name} does not begin like one")
    try:
        return reader(path)
    except Exception as error:  # the frontends raise a dozen unrelated types
        text = shorten(error)
        operator = _failed_operator(str(error))
        if operator is None and not _is_conversion_failure(openvino, error):
            raise PrepareError(f"not a valid {kind} file: {text}") from error
        raise PrepareError(f"OpenVINO cannot convert the model: {text}", operator) from error


def _looks_like(path: Path) -> bool:
    """Whether the first bytes can be of the format that the name says. For other files OpenVINO
    tries one frontend after the other and ends with 'Cannot recognize input model'."""
    with path.open("rb") as file:
        head = file.read(8)
    if path.suffix == ".tflite":
        return head[4:] == b"TFL3"
    # An ONNX file is a protobuf message whose first field is one of ModelProto's, 1 to 25.
    return len(head) == 8 and 1 <= head[0] >> 3 <= 25 and head[0] & 7 in (0, 2)


def _is_conversion_failure(openvino: Any, error: Exception) -> bool:
    names = ("NotImplementedFailure", "OpConversionFailure", "OpValidationFailure")
    kinds = tuple(getattr(openvino.frontend, name, PrepareError) for name in names)
    return isinstance(error, kinds)


def _failed_operator(text: str) -> str | None:
    """The operator that a frontend's message names as unsupported, if it names one."""
    marks = (
        "No conversion rule found for operations: ",
        "No translator found for ",
        "OpenVINO does not support",
    )
    for line in text.splitlines():
        for mark in marks:
            if mark in line:
                rest = line.split(mark, 1)[1].strip(" :,.")
                return rest.split(",")[0].removesuffix(" node").strip() or None
    return None


def _nncf() -> Any:
    try:
        import nncf
    except ImportError as error:
        raise PrepareError(
            f"NNCF, which quantizes, cannot be imported ({error}): pip install 'qbench[openvino]'"
        ) from error
    nncf.set_log_level(logging.WARNING)
    return nncf


def _quantize(
    converted: Any, model: Model, options: Mapping[str, Any], calibration: Calibration
) -> tuple[Any, dict[str, Any]]:
    """Post-training quantization by NNCF with the items of ``calibration``, all of them."""
    nncf = _nncf()
    from nncf.quantization.advanced_parameters import (
        AdvancedQuantizationParameters,
        QuantizationParameters,
    )
    from nncf.quantization.range_estimator import (
        RangeEstimatorParameters,
        StatisticsCollectorParameters,
        StatisticsType,
    )

    method = options.get("calibration_method", "minmax")
    per_channel = options.get("per_channel", True)
    quantile = StatisticsCollectorParameters(
        statistics_type=StatisticsType.QUANTILE, quantile_outlier_prob=OUTLIERS
    )
    ranges = RangeEstimatorParameters()
    if method == "percentile":
        ranges = RangeEstimatorParameters(min=quantile, max=quantile)
    advanced = AdvancedQuantizationParameters(
        # NNCF chooses by operator how ranges of the items become one: their mean for most, their
        # extremes for inputs of depthwise convolutions. So no aggregator is named here: forcing
        # the mean on all costs 8 points of accuracy on mobilenet_v2.
        activations_range_estimator_params=ranges,
        weights_quantization_params=QuantizationParameters(per_channel=per_channel),
    )
    inputs = find_ports(converted.inputs, model.source_inputs)
    names = {model.source_inputs[n].name: port.get_any_name() for n, port in inputs.items()}

    def to_inputs(feed: Feed) -> Feed:
        return {names[name]: array for name, array in model.to_source(feed).items()}

    batch = batch_of(next(iter(inputs.values()))) or 1
    if len(calibration) < batch:
        raise PrepareError(
            f"the file is fixed at batch {batch} and only {len(calibration)} calibration items "
            "are given"
        )
    feeds = nncf.Dataset(list(calibration.batches(batch)), to_inputs)
    count = len(calibration) // batch
    try:
        result = nncf.quantize(
            converted,
            feeds,
            # Symmetric activations; MIXED is no faster here and less accurate on dscnn_kws.
            preset=nncf.QuantizationPreset.PERFORMANCE,
            # No model_type: TRANSFORMER costs 20 dB on an encoder.
            subset_size=count,
            fast_bias_correction=True,
            advanced_parameters=advanced,
        )
    except Exception as error:  # NNCF raises what its parts raise
        raise PrepareError(f"nncf.quantize failed: {shorten(error)}") from error
    done = _quantized(result)
    if not done:
        raise PrepareError("nncf.quantize finished but quantized no convolution or MatMul")
    return result, {
        "quantizer": "nncf.quantize",
        "quantized_ops": len(done),
        "settings": {
            "preset": "performance",
            "subset_size": count,
            "calibration_batch": batch,
            "fast_bias_correction": True,
            "activation_ranges": (
                f"quantiles {OUTLIERS} and {1 - OUTLIERS} of each item"
                if method == "percentile"
                else "minimum and maximum of each item"
            ),
            "per_channel": per_channel,
        },
    }


def _compress(converted: Any) -> tuple[Any, dict[str, Any]]:
    """int8 weights for the matrix products; the plugin quantizes their activations as it runs.

    Raises:
        Unsupported: most of the work is not in matrix products with weights.
    """
    nncf = _nncf()
    convolutions = sum(op.get_type_name() in _CONVOLUTIONS for op in converted.get_ops())
    products = [op for op in converted.get_ops() if op.get_type_name() == "MatMul"]
    if convolutions >= len(products):
        raise Unsupported(
            "OpenVINO quantizes activations at run time only in matrix products; the "
            f"{convolutions} convolutions of this model would run in fp32"
        )
    try:
        result = nncf.compress_weights(
            converted,
            mode=nncf.CompressWeightsMode.INT8_ASYM,
            # The plugin would unpack these to float32 when it compiles: slower, not smaller there.
            ignored_scope=nncf.IgnoredScope(types=[*_CONVOLUTIONS, "Gather"], validate=False),
        )
    except Exception as error:  # NNCF raises what its parts raise
        raise PrepareError(f"nncf.compress_weights failed: {shorten(error)}") from error
    depths = [_depth(op) for op in _quantized(result)]
    group = max(GROUPS, key=lambda size: (sum(depth >= size for depth in depths), size))
    taken = sum(depth >= group for depth in depths)
    if not depths:
        raise PrepareError("nncf.compress_weights finished but compressed no matrix product")
    if taken <= convolutions:
        raise Unsupported("the matrix products are too narrow: the plugin takes 16 inputs or more")
    return result, {
        "quantizer": "nncf.compress_weights",
        "quantized_ops": taken,
        "settings": {
            "mode": "int8_asym",
            "ignored_types": "convolutions, Gather",
            GROUP_SIZE: group,
        },
        "notes": (
            f"activations are quantized as it runs, in groups of {group}; attention products of "
            "two activations stay in fp32",
        ),
    }


def _quantized(model: Any) -> list[Any]:
    """Convolutions and matrix products whose stored weights are integers of 8 bits or fewer."""
    return [
        op
        for op in model.get_ops()
        if op.get_type_name() in _WEIGHTED and _stored_type(op) in ("i8", "u8", "i4", "u4")
    ]


def _stored_type(op: Any) -> str:
    """The type that the weight of ``op`` is stored in; "" if its second input is no weight."""
    node = op.input_value(1).get_node()
    while node.get_type_name() in _PASSED:
        node = node.input_value(0).get_node()
    return node.get_element_type().get_type_name() if node.get_type_name() == "Constant" else ""


def _depth(product: Any) -> int:
    """How many numbers one output of a MatMul sums up."""
    shape = list(product.input_value(1).get_shape())
    transposed = product.get_attributes()["transpose_b"]
    return shape[-1] if transposed or len(shape) == 1 else shape[-2]
