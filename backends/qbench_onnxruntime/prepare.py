"""Making artifacts: copy, fp16 conversion, dynamic and static int8. Never imported while measuring.

Measured on a 2-core AVX512-VNNI machine with onnxruntime 1.31.1; see the constants below.
"""

from __future__ import annotations

import logging
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from qbench.backend import (
    Calibration,
    Model,
    PrepareError,
    PrepareTarget,
    Provenance,
    Unsupported,
)
from qbench.worker.feeds import convert
from qbench_onnxruntime import graph

FILE = "model.onnx"

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
PRODUCT_OPS = ("Conv", "MatMul", "Gemm", "Relu", "Clip")
DYNAMIC_OPS = ("MatMul", "Gemm")

HISTOGRAM_ITEMS = 8
"""Entropy and percentile calibration keep all activations of so many items at a time."""

_METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}
_SATURATION = (
    "uint8 by int8 products: on x86 processors without VNNI sums may saturate, so accuracy holds "
    "for the machine it was measured on"
)


def prepare(
    model: Model, target: PrepareTarget, calibration: Calibration | None, out: Path
) -> Provenance:
    """Make ``model.onnx`` and ``io.json`` in ``out``. See ``qbench.backend.Backend.prepare``."""
    source = graph.load(model.path, weights=False)
    _check_names(model, source)
    if target.precision != "as-shipped" and graph.is_quantized(source):
        raise Unsupported("the file arrives quantized: ask for as-shipped")
    if target.precision == "as-shipped" and not graph.is_quantized(source):
        raise Unsupported("the file is not quantized: as-shipped is for files that are")
    if target.precision in ("fp32", "as-shipped"):
        provenance = _copy(model.path, source, out)
    elif target.precision == "fp16":
        provenance = _to_fp16(model.path, out)
    else:
        with tempfile.TemporaryDirectory(prefix="qbench-ort-") as folder:
            modern, clean = Path(folder, "modern.onnx"), Path(folder, "preprocessed.onnx")
            with _tool("onnx.version_converter"):
                _save(graph.modernized(graph.load(model.path)), modern)
            with _tool("quant_pre_process"):
                quant_pre_process(modern, clean, skip_symbolic_shape=True)
            _save(graph.tidied(graph.load(clean)), clean)
            if target.precision == "int8-dynamic":
                provenance = _dynamic(clean, target, out)
            elif calibration is None:
                raise PrepareError("int8-static needs calibration items and was given none")
            else:
                provenance = _static(clean, model, target, calibration, out)
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
        _save(graph.load(path), out / FILE)
        return Provenance(FILE, quantized_ops=quantized, notes=("weights were put in one file",))
    if graph.lists_weights_as_inputs(source):
        _save(graph.without_weights_as_inputs(source), out / FILE)
        note = "weights that were listed as inputs were made constants"
        return Provenance(FILE, quantized_ops=quantized, notes=(note,))
    shutil.copyfile(path, out / FILE)
    return Provenance(FILE, quantized_ops=quantized)


def _save(model: onnx.ModelProto, file: Path) -> None:
    """Beyond protobuf's 2 GB the weights go to a file beside ``file``."""
    large = sum(len(t.raw_data) for t in model.graph.initializer) > 1_900_000_000
    onnx.save(model, file, save_as_external_data=large, location=f"{file.stem}.data")


def _to_fp16(path: Path, out: Path) -> Provenance:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with _tool("convert_float_to_float16"):
        converted = convert_float_to_float16(
            graph.without_weights_as_inputs(graph.load(path)), keep_io_types=True
        )
    halves = [t for t in converted.graph.initializer if t.data_type == onnx.TensorProto.FLOAT16]
    if not halves:
        raise PrepareError("convert_float_to_float16 finished but converted no weights")
    _save(converted, out / FILE)
    settings = {"function": "onnxruntime.transformers.float16", "keep_io_types": True}
    note = "inputs and outputs stay float32; see the effective precision for what computes"
    return Provenance(FILE, settings=settings, notes=(note,))


def _dynamic(clean: Path, target: PrepareTarget, out: Path) -> Provenance:
    share = graph.product_share(graph.load(clean))
    if share < 0.5:
        raise Unsupported(
            "dynamic int8 quantizes matrix products only; they are "
            f"{_percent(share)} of this model's multiply-adds, the rest is convolutions or "
            "products of activations (ConvInteger measured 0.04x-0.19x of fp32's speed): use "
            "int8-static"
        )
    per_channel = bool(target.options.get("per_channel", True))
    settings = {
        "op_types_to_quantize": list(DYNAMIC_OPS),
        "weight_type": "QInt8",
        "per_channel": per_channel,
    }
    with _tool("quantize_dynamic"):
        quantize_dynamic(
            clean,
            out / FILE,
            op_types_to_quantize=list(DYNAMIC_OPS),
            per_channel=per_channel,
            weight_type=QuantType.QInt8,
        )
    note = f"matrix products only: {_percent(share)} of the multiply-adds"
    return Provenance(
        FILE,
        "onnxruntime.quantize_dynamic",
        {"skip_symbolic_shape": True, **settings},
        _count("quantize_dynamic", out),
        (note, _SATURATION),
    )


def _percent(share: float) -> str:
    return "under 1 %" if share < 0.01 else f"{share:.0%}".replace("%", " %")


def _static(
    clean: Path, model: Model, target: PrepareTarget, calibration: Calibration, out: Path
) -> Provenance:
    preprocessed = graph.load(clean)
    products = graph.product_share(preprocessed) >= 0.5
    operators = PRODUCT_OPS if products else CONVOLUTION_OPS
    method = str(target.options.get("calibration_method", "minmax"))
    per_channel = bool(target.options.get("per_channel", True))
    reader = _Reader(model, preprocessed, calibration)
    excluded = graph.activation_products(preprocessed)
    extra: dict[str, Any] = {}
    if method != "minmax":
        extra["CalibStridedMinMax"] = reader.stride(HISTOGRAM_ITEMS)
    with _tool("quantize_static"):
        quantize_static(
            clean,
            out / FILE,
            reader,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(operators),
            per_channel=per_channel,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=excluded,
            calibrate_method=_METHODS[method],
            extra_options=extra,
        )
    settings = {
        "skip_symbolic_shape": True,
        "quant_format": "QDQ",
        "op_types_to_quantize": list(operators),
        "activation_type": "QUInt8",
        "weight_type": "QInt8",
        "per_channel": per_channel,
        "nodes_to_exclude": excluded,
        "calibrate_method": method,
        "calibration_items": len(reader) * reader.batch,
        **extra,
    }
    count = _count("quantize_static", out)
    return Provenance(FILE, "onnxruntime.quantize_static", settings, count, (_SATURATION,))


def _count(tool: str, out: Path) -> int:
    count = graph.count_quantized(graph.load(out / FILE, weights=False))
    if count == 0:
        raise PrepareError(f"{tool} finished but quantized no operator")
    return count


class _Reader(CalibrationDataReader):
    """Calibration items as the tool wants them: by the file's names, one batch at a time.

    Attributes:
        batch: items in one feed: the file's fixed batch, else 1.
    """

    def __init__(self, model: Model, source: onnx.ModelProto, calibration: Calibration) -> None:
        self._model = model
        self._calibration = calibration
        self._specs = graph.describe(source)[0]
        first = next(iter(model.source_inputs.values())).name
        size = self._specs[first].shape[:1]
        self.batch = size[0] if size and isinstance(size[0], int) else 1
        if len(calibration) < self.batch:
            raise PrepareError(
                f"the file is fixed at batch {self.batch}, but there are only "
                f"{len(calibration)} calibration items"
            )
        self.set_range(0, len(self))

    def __len__(self) -> int:
        return len(self._calibration) // self.batch

    def stride(self, most: int) -> int:
        """The greatest divisor of the length up to ``most`` (the tool wants a divisor)."""
        return max(n for n in range(1, most + 1) if len(self) % n == 0)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._feeds = self._slice(start_index * self.batch, end_index * self.batch)

    def get_next(self) -> dict[str, np.ndarray] | None:  # type: ignore[override]  # None ends it
        return next(self._feeds, None)

    def _slice(self, start: int, end: int) -> Iterator[dict[str, np.ndarray]]:
        model = self._model
        for begin in range(start, end, self.batch):
            stop = begin + self.batch
            feed = {name: a[begin:stop] for name, a in self._calibration.feeds.items()}
            arrays = model.to_source(feed)
            yield {
                tensor.name: convert(
                    arrays[tensor.name], model.inputs[name], self._specs[tensor.name]
                )
                for name, tensor in model.source_inputs.items()
            }


# --------------------------------------------------------------------------- errors of tools

_OPERATOR = re.compile(r"(?:[Nn]ode|op_type|[Oo]perator|OpType)[^'\"\w]{0,12}\(?['\"]?([\w./:]+)")


class _tool:
    """Turn whatever a tool raises into a PrepareError of one sentence; keep it quiet meanwhile."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.simplefilter("ignore")
        self._level = logging.root.manager.disable
        logging.disable(logging.WARNING)  # advice to preprocess, given even after preprocessing

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        logging.disable(self._level)
        self._warnings.__exit__(None, None, None)
        if error is None or isinstance(error, PrepareError | Unsupported | MemoryError):
            return
        if not isinstance(error, Exception):
            return
        text = " ".join(str(error).split()) or type(error).__name__
        text = text if len(text) <= 300 else text[:297] + "..."
        found = _OPERATOR.search(str(error))
        message = f"{self._name}: {text}"
        raise PrepareError(message, found.group(1) if found else None) from error
