"""Static quantization by ONNX Runtime's tools: calibration items, ranges, the call. Needs
onnxruntime."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.calibrate import HistogramCalibrater, create_calibrator

from qbench.kit.adapter import PrepareError
from qbench.kit.feeds import convert, fixed_batch
from qbench.kit.model import Calibration, Model, PrepareTarget, gathered
from qbench.kit.onnxfile import graph
from qbench.kit.onnxfile.tools import tool

HISTOGRAM_ITEMS = 8
"""Number of items whose activations are kept at a time for the histograms."""

_BINS = 4096
_OVERRIDES = "TensorQuantOverrides"
_SHRINKS = np.linspace(1, 1 / 64, 64, dtype=np.float32)


class Reader(CalibrationDataReader):
    """Calibration items by the file's names, one batch at a time.

    Attributes:
        batch: items in one feed: the file's fixed batch, else 1.
    """

    def __init__(self, model: Model, source: onnx.ModelProto, calibration: Calibration) -> None:
        self._model = model
        self._calibration = calibration
        self._specs = graph.specs(graph.real_inputs(source.graph), source.graph)
        fixed = (
            fixed_batch(replace(self._specs[tensor.name], batch=model.inputs[name].batch))
            for name, tensor in model.source_inputs.items()
        )
        self.batch = next((size for size in fixed if size is not None), 1)
        if len(calibration) < self.batch:
            raise PrepareError(
                f"the file is fixed at batch {self.batch}, but there are only "
                f"{len(calibration)} calibration items"
            )
        self.set_range(0, len(self))

    def __len__(self) -> int:
        return len(self._calibration) // self.batch

    def stride(self, most: int) -> int:
        """Return the largest divisor of the length up to ``most``; the tool needs a divisor."""
        return max(n for n in range(1, most + 1) if len(self) % n == 0)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._feeds = self._slice(start_index * self.batch, end_index * self.batch)

    def get_next(self) -> dict[str, np.ndarray] | None:  # type: ignore[override]  # None ends it
        return next(self._feeds, None)

    def get_first(self) -> dict[str, np.ndarray]:
        """Return the first batch, without advancing; Model Optimizer needs this and ``rewind``."""
        return next(self._slice(0, self.batch))

    def rewind(self) -> None:
        self.set_range(0, len(self))

    def _slice(self, start: int, end: int) -> Iterator[dict[str, np.ndarray]]:
        model = self._model
        for begin in range(start, end, self.batch):
            rows = range(begin, begin + self.batch)
            arrays = model.to_source(gathered(self._calibration.feeds, model.inputs, rows))
            yield {
                tensor.name: convert(
                    arrays[tensor.name], model.inputs[name], self._specs[tensor.name]
                )
                for name, tensor in model.source_inputs.items()
            }


class Range(NamedTuple):
    """Ends of a tensor's quantization range."""

    low: np.float32
    high: np.float32


Search = Callable[[np.ndarray, np.ndarray, float, float], Range]

_METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
    "mse": CalibrationMethod.MinMax,  # the tool lacks this method: its ranges are overridden
}


def quantize_qdq(
    clean: Path,
    file: Path,
    reader: Reader,
    target: PrepareTarget,
    *,
    activations: QuantType,
    operators: Sequence[str],
    excluded: Iterable[str],
    extra: Mapping[str, Any],
    search: Search,
) -> dict[str, Any]:
    """Quantize ``clean`` to ``file`` by ``quantize_static``: Q/DQ, int8 weights.

    Args:
        clean: the preprocessed float32 model.
        activations: type of the activations.
        operators: types of the operators to quantize.
        excluded: names of operators to leave in floating point.
        extra: the tool's extra options.
        search: range of least squared error, for the method ``mse``.

    Returns:
        The settings, for ``Provenance``.

    Raises:
        PrepareError: the tool failed.
    """
    method = str(target.options["calibration_method"])
    model = graph.load(clean)
    settings: dict[str, Any] = {
        "op_types_to_quantize": list(operators),
        "per_channel": target.options["per_channel"],
        "nodes_to_exclude": sorted({*excluded, *_read_by_subgraphs(model)}),
    }
    whole = sorted(graph.stacked_weights(model)) if target.options["per_channel"] else []
    options = dict(extra)
    if method in ("entropy", "percentile"):
        options["CalibStridedMinMax"] = reader.stride(HISTOGRAM_ITEMS)
    ranges: dict[str, Range] = {}
    with tool("quantize_static"):
        if method == "mse":
            ranges = mse_ranges(clean, operators, reader, search)
            reader.set_range(0, len(reader))
        overrides: dict[str, list[dict[str, Any]]] = {
            name: [{"rmin": np.array(low), "rmax": np.array(high)}]
            for name, (low, high) in ranges.items()
        }
        overrides |= {name: [{"quant_type": QuantType.QInt8}] for name in whole}
        quantize_static(
            clean,
            file,
            reader,
            quant_format=QuantFormat.QDQ,
            activation_type=activations,
            weight_type=QuantType.QInt8,
            calibrate_method=_METHODS[method],
            extra_options={**options, **({_OVERRIDES: overrides} if overrides else {})},
            **settings,
        )
    listed = {name: [float(low), float(high)] for name, (low, high) in ranges.items()}
    return {
        "skip_symbolic_shape": True,
        "quant_format": "QDQ",
        "activation_type": activations.name,
        "weight_type": "QInt8",
        "calibrate_method": _METHODS[method].name,
        "calibration_items": len(reader) * reader.batch,
        **settings,
        **options,
        **({_OVERRIDES: listed} if ranges else {}),
        **({"one_scale_per_tensor": whole} if whole else {}),
    }


def _read_by_subgraphs(model: onnx.ModelProto) -> list[str]:
    """Names of the activation functions whose input or output a branch or a loop body reads. The
    tool fuses a quantized Relu or Clip with the operator before it, though the subgraph then reads
    the tensor without it."""
    captured = graph.captured(model.graph)
    return [
        node.name
        for node in model.graph.node
        if node.op_type in ("Clip", "Relu") and captured.intersection([*node.input, *node.output])
    ]


def mse_ranges(
    file: Path,
    operators: Sequence[str],
    reader: Reader,
    search: Search,
) -> dict[str, Range]:
    """Find the range of each activation tensor over all items.

    Args:
        file: the preprocessed float32 model.
        operators: types whose inputs and outputs are quantized.
        search: :func:`mse_range` or :func:`symmetric_mse_range`.
    """
    with tempfile.TemporaryDirectory(prefix="qbench-calibration-") as folder:
        calibrator = create_calibrator(
            file,
            operators,
            str(Path(folder, "augmented.onnx")),
            CalibrationMethod.Percentile,  # collects plain histograms, minimum and maximum
            extra_options={"num_bins": _BINS, "symmetric": False},
        )
        assert isinstance(calibrator, HistogramCalibrater)
        for start in range(0, len(reader), HISTOGRAM_ITEMS):
            reader.set_range(start, min(start + HISTOGRAM_ITEMS, len(reader)))
            calibrator.collect_data(reader)
    assert calibrator.collector is not None
    histograms = calibrator.collector.get_histogram_dict()
    return {
        tensor: search(counts, edges, float(low), float(high))
        for tensor, (counts, edges, low, high, _) in histograms.items()
    }


def mse_range(counts: np.ndarray, edges: np.ndarray, low: float, high: float) -> Range:
    """Find the range whose uint8 quantization has the minimum squared error over a histogram.

    ``argmin ||V - V_hat(q_min, q_max)||^2`` (Nagel et al., A White Paper on Neural Network
    Quantization, arXiv 2106.08295, section 3.1, "Mean squared error"), where ``V`` are the centers
    of the bins. Each end is tried at 64 fractions of the extreme value, three times in turn.

    Args:
        counts, edges: ``[bins]`` and ``[bins + 1]``.
        low, high: extreme values. The range includes zero, which stays exact.
    """
    full = counts > 0
    values = ((edges[:-1] + edges[1:]) / 2)[full].astype(np.float32)
    weights = counts[full].astype(np.float64)
    best_low, best_high = np.float32(min(low, 0)), np.float32(max(high, 0))
    if best_low == best_high:
        return Range(best_low, best_high)
    lows, highs = best_low * _SHRINKS, best_high * _SHRINKS
    for _ in range(3):
        if best_high > 0:
            best_high = highs[np.argmin(_errors(values, weights, best_low, highs))]
        if best_low < 0:
            best_low = lows[np.argmin(_errors(values, weights, lows, best_high))]
    return Range(best_low, best_high)


def symmetric_mse_range(counts: np.ndarray, edges: np.ndarray, low: float, high: float) -> Range:
    """Find the range for int8 with zero-point 0 (see :func:`mse_range`): the best of 64 fractions
    of the largest magnitude, with both signs."""
    full = counts > 0
    values = ((edges[:-1] + edges[1:]) / 2)[full].astype(np.float32)
    limits = np.float32(max(-low, high, 0)) * _SHRINKS
    if limits[0] == 0:
        return Range(np.float32(0), np.float32(0))
    steps = (limits / 127)[:, None]
    quantized = np.clip(np.rint(values / steps), -128, 127)
    errors = ((values - quantized * steps) ** 2) @ counts[full].astype(np.float64)
    best = limits[np.argmin(errors)]
    return Range(-best, best)


def _errors(
    values: np.ndarray,
    weights: np.ndarray,
    low: np.ndarray | np.float32,
    high: np.ndarray | np.float32,
) -> np.ndarray:
    """Sum the squared errors of quantizing ``values`` (``[n]``) to uint8, for each range."""
    step = (np.atleast_1d(high - low) / 255)[:, None]
    zero = np.rint(-np.atleast_1d(low)[:, None] / step)
    quantized = np.clip(np.rint(values / step) + zero, 0, 255)
    return ((values - (quantized - zero) * step) ** 2) @ weights
