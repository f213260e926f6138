"""Post-training quantization of weights and activations by NNCF. Never imported while measuring.

The defaults are what came closest to float32 on evaluation items, 100 items calibrating. SQNR of
the outputs in dB, for NNCF's defaults (symmetric activations, means of the items' extremes, fast
bias correction) and for the ones here:

========= ======= ========= ================== ================ ==============
.         resnet8 dscnn_kws mobilenet_v2_100   digits_mobilenet digits_vit
NNCF's    17.4    21.9      22.6               26.2             27.2
here      27.1    28.9      27.7               39.9             31.5
========= ======= ========= ================== ================ ==============

- Ranges reach from the least to the greatest value of all items; a mean of extremes cuts off half
  of the items' tops (12 dB on digits_mobilenet).
- Asymmetric activations (``mixed``): inputs need not lie about zero (11 dB on dscnn_kws).
- The exact bias correction: the fast one costs resnet8 7 dB, and mobilenet_v1_025 has 12 dB with
  the fast, 20 with the exact. It takes 2 to 6 times as long to prepare.
- One range for a whole activation. NNCF gives each channel before a depthwise convolution its own,
  which few items fill badly: mobilenet_v2 lost 9 dB with 50 items, and all are slower so.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from qbench.kit.adapter import PrepareError, Unsupported
from qbench.kit.model import Calibration, Model
from qbench_openvino.graph import quantized
from qbench_openvino.nncf import Items, import_nncf
from qbench_openvino.runtime import shorten

DEFAULT_PRESET = "mixed"
OUTLIERS = 1e-4
"""Share of an item's activations left out at either end by percentile calibration."""
RANGES = {
    "minmax": "least minimum and greatest maximum of the items",
    "percentile": f"least quantile {OUTLIERS} and greatest quantile {1 - OUTLIERS} of the items",
    "mse": "least squared error of quantizing a histogram of the items",
}
"""Methods of calibration that NNCF has, and what each does."""

_TYPES = {
    # ONNX
    "Conv": ("Convolution", "GroupConvolution"),
    "ConvTranspose": ("ConvolutionBackpropData", "GroupConvolutionBackpropData"),
    "Gemm": ("MatMul",),
    "Mul": ("Multiply",),
    "Sub": ("Subtract",),
    "Div": ("Divide",),
    "AveragePool": ("AvgPool",),
    "GlobalAveragePool": ("ReduceMean", "AvgPool"),
    # TFLite
    "CONV_2D": ("Convolution",),
    "DEPTHWISE_CONV_2D": ("GroupConvolution",),
    "TRANSPOSE_CONV": ("ConvolutionBackpropData",),
    "FULLY_CONNECTED": ("MatMul",),
    "BATCH_MATMUL": ("MatMul",),
    "ADD": ("Add",),
    "MUL": ("Multiply",),
    "SUB": ("Subtract",),
    "DIV": ("Divide",),
    "AVERAGE_POOL_2D": ("AvgPool",),
    "MAX_POOL_2D": ("MaxPool",),
    "MEAN": ("ReduceMean",),
}
"""The source formats' types as OpenVINO's, where those have other names."""


def find_operators(converted: Any, wanted: Sequence[str]) -> list[str]:
    """The names in ``converted`` of the operators that ``wanted`` lists by name or type.

    A convolution with a bias is two operators in OpenVINO, ``X/WithoutBiases`` and ``X``.

    Raises:
        PrepareError: a name or type that this model does not have.
    """
    kinds: dict[str, list[str]] = {}
    for op in converted.get_ordered_ops():
        if op.get_type_name() not in ("Constant", "Parameter", "Result"):
            kinds.setdefault(op.get_type_name(), []).append(op.get_friendly_name())
    names = {name for several in kinds.values() for name in several}
    found: list[str] = []
    for one in wanted:
        by_name = [name for name in (one, f"{one}/WithoutBiases") if name in names]
        by_type = [name for kind in _TYPES.get(one, (one,)) for name in kinds.get(kind, ())]
        if not by_name and not by_type:
            types = [name for name, same in _TYPES.items() if kinds.keys() & same]
            near = difflib.get_close_matches(one, [*names, *kinds, *types], n=3, cutoff=0.4)
            raise PrepareError(
                f"excluded_operators: the model has no operator '{one}'. "
                + (f"Near: {', '.join(near)}. " if near else "")
                + f"Types: {', '.join(sorted(kinds))}."
            )
        found += by_name or by_type
    return found


def settings(options: Mapping[str, Any], excluded: Sequence[str]) -> dict[str, Any]:
    """The keyword arguments that ``nncf.quantize`` is given for ``options``."""
    nncf = import_nncf()
    from nncf.quantization.advanced_parameters import QuantizationParameters
    from nncf.quantization.range_estimator import (
        AggregatorType,
        RangeEstimatorParameters,
        RangeEstimatorParametersSet,
        StatisticsCollectorParameters,
        StatisticsType,
    )

    def quantile(aggregator: AggregatorType) -> StatisticsCollectorParameters:
        return StatisticsCollectorParameters(
            statistics_type=StatisticsType.QUANTILE,
            aggregator_type=aggregator,
            quantile_outlier_prob=OUTLIERS,
        )

    ranges = {
        "minmax": RangeEstimatorParametersSet.MINMAX,
        "percentile": RangeEstimatorParameters(
            min=quantile(AggregatorType.MIN), max=quantile(AggregatorType.MAX)
        ),
        "mse": RangeEstimatorParametersSet.HISTOGRAM,
    }
    return {
        "preset": nncf.QuantizationPreset(options["preset"] or DEFAULT_PRESET),
        "fast_bias_correction": False,
        # No model_type: TRANSFORMER costs 20 dB on an encoder.
        "ignored_scope": nncf.IgnoredScope(names=list(excluded), validate=False),
        "advanced_parameters": nncf.AdvancedQuantizationParameters(
            activations_range_estimator_params=ranges[options["calibration_method"]],
            activations_quantization_params=QuantizationParameters(per_channel=False),
            weights_quantization_params=QuantizationParameters(per_channel=options["per_channel"]),
        ),
    }


def quantize(
    converted: Any, model: Model, options: Mapping[str, Any], calibration: Calibration
) -> tuple[Any, dict[str, Any]]:
    """Quantize with all items of ``calibration``.

    Returns:
        The quantized model, and fields of its ``Provenance``.

    Raises:
        PrepareError: NNCF failed or quantized nothing, or did not leave out what it was told to.
        Unsupported: accuracy control is asked for and there is nothing to judge by.
    """
    nncf = import_nncf()
    excluded = find_operators(converted, options["excluded_operators"])
    items = Items(converted, model, calibration)
    given = settings(options, excluded)
    notes: tuple[str, ...] = ()
    quantizer = "nncf.quantize"
    try:
        if options["max_accuracy_drop"] is None:
            dataset = nncf.Dataset(items.feeds, items.to_inputs)
            result = nncf.quantize(converted, dataset, subset_size=len(items.feeds), **given)
        else:
            from qbench_openvino.accuracy import quantize_within

            quantizer = "nncf.quantize_with_accuracy_control"
            result, notes = quantize_within(converted, model, options, calibration, items, given)
    except (PrepareError, Unsupported):
        raise
    except Exception as error:  # NNCF raises what its parts raise
        raise PrepareError(f"{quantizer} failed: {shorten(error)}") from error
    done = quantized(result)
    if not done:
        raise PrepareError(f"{quantizer} finished but quantized no convolution or MatMul")
    kept = {op.get_friendly_name() for op in done} & set(excluded)
    if kept:
        raise PrepareError(f"{quantizer} quantized what it was told to leave: {min(kept)}")
    return result, {
        "quantizer": quantizer,
        "quantized_ops": len(done),
        "notes": notes,
        "settings": {
            "preset": given["preset"].value,
            "subset_size": len(items.feeds),
            "calibration_batch": items.batch,
            "fast_bias_correction": given["fast_bias_correction"],
            "activation_ranges": RANGES[options["calibration_method"]],
            "per_channel": options["per_channel"],
            "per_channel_activations": False,
            "ignored_operators": excluded,
            "max_accuracy_drop": options["max_accuracy_drop"],
        },
    }
