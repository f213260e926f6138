"""Post-training quantization of weights and activations by NNCF. Never imported while measuring.

The defaults came closest to float32 on evaluation items, with 100 calibration items. SQNR of the
outputs in dB, for NNCF's defaults (symmetric activations, means of the items' extremes, fast bias
correction) and for these:

========= ======= ========= ================== ================ ==============
.         resnet8 dscnn_kws mobilenet_v2_100   digits_mobilenet digits_vit
NNCF's    17.4    21.9      22.6               26.2             27.2
here      27.1    28.9      27.7               39.9             31.5
========= ======= ========= ================== ================ ==============

- Ranges span the minimum and maximum over all items; a mean of extremes clips half of the items
  (12 dB on digits_mobilenet).
- Asymmetric activations (``mixed``): inputs need not be centred on zero (11 dB on dscnn_kws).
- Exact bias correction: the fast one costs resnet8 7 dB; mobilenet_v1_025 has 12 dB with the fast
  one, 20 with the exact one. Preparation takes 2 to 6 times as long.
- One range per activation. By default NNCF gives each channel before a depthwise convolution its
  own, which few items estimate badly: mobilenet_v2 lost 9 dB with 50 items, and all are slower.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from qbench.kit.adapter import PrepareError, Unsupported
from qbench.kit.model import Calibration, Model
from qbench.kit.reasons import sentence
from qbench_openvino.graph import quantized
from qbench_openvino.nncf import Items, import_nncf

DEFAULT_PRESET = "mixed"
OUTLIERS = 1e-4
"""Share of an item's activations that percentile calibration clips at either end."""
RANGES = {
    "minmax": "minimum and maximum over all items",
    "percentile": f"lowest {OUTLIERS} quantile and highest {1 - OUTLIERS} quantile of the items",
    "mse": "minimum squared error of quantizing a histogram of the items",
}
"""NNCF's calibration methods."""

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
"""OpenVINO's types for types of the source formats, where names differ."""


def find_operators(converted: Any, wanted: Sequence[str]) -> list[str]:
    """Names in ``converted`` of the operators that ``wanted`` lists by name or type.

    In OpenVINO a convolution with a bias consists of two operators, ``X/WithoutBiases`` and ``X``.

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
    """Keyword arguments of ``nncf.quantize`` for ``options``."""
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
        PrepareError: NNCF failed, quantized nothing, or quantized an excluded operator.
        Unsupported: accuracy control without labels.
    """
    nncf = import_nncf()
    excluded = find_operators(converted, options["excluded_operators"])
    items = Items(converted, model, calibration)
    given = settings(options, excluded)
    notes: tuple[str, ...] = ()
    kinds = {op.get_type_name() for op in converted.get_ops()}
    if "If" in kinds:
        given["fast_bias_correction"] = True
        notes = ("fast bias correction: NNCF has no other for models with branches",)
    quantizer = "nncf.quantize"
    try:
        if options["max_accuracy_drop"] is None:
            dataset = nncf.Dataset(items.feeds, items.to_inputs)
            result = nncf.quantize(converted, dataset, subset_size=len(items.feeds), **given)
        else:
            from qbench_openvino.accuracy import quantize_within

            quantizer = "nncf.quantize_with_accuracy_control"
            result, more = quantize_within(converted, model, options, calibration, items, given)
            notes += more
    except (PrepareError, Unsupported):
        raise
    except Exception as error:  # NNCF passes on errors of its parts
        if "Loop" in kinds:
            raise Unsupported("NNCF does not quantize a model with a loop: try w8") from error
        raise PrepareError(f"{quantizer} failed: {sentence(error)}") from error
    done = quantized(result)
    if not done:
        raise PrepareError(f"{quantizer} finished but quantized no convolution or MatMul")
    kept = {op.get_friendly_name() for op in done} & set(excluded)
    if kept:
        raise PrepareError(f"{quantizer} quantized an excluded operator: {min(kept)}")
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
