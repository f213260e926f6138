"""Precisions: one name for each scheme, the same for every backend, and the options of each.

Standard library only, Python 3.10.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Option:
    """One option of a precision.

    Attributes:
        default: value where the suite sets none; None leaves the choice to the backend.
        kind: type of the values; a list holds strings.
        doc: one sentence.
        choices: allowed values; empty allows every value of the type.
        minimum, maximum: bounds of a number, inclusive.
    """

    default: Any
    kind: type
    doc: str
    choices: tuple[Any, ...] = ()
    minimum: float = -math.inf
    maximum: float = math.inf


@dataclass(frozen=True)
class Precision:
    """A named scheme.

    Attributes:
        weights, activations: number format of each during computation.
        doc: one sentence.
        calibrated: whether it needs calibration items.
        options: options that a suite may set, by name.
    """

    name: str
    weights: str
    activations: str
    doc: str
    calibrated: bool = False
    options: Mapping[str, Option] = field(default_factory=dict[str, Option])


_PER_CHANNEL = Option(
    True, bool, "One scale per output channel of a weight; false: one for the whole tensor."
)
_ITEMS = Option(100, int, "How many calibration items are used.", minimum=1)
_METHOD = Option(
    "minmax",
    str,
    "How activation ranges are chosen from the calibration items.",
    choices=("minmax", "entropy", "percentile", "mse"),
)
_EXCLUDED = Option(
    (), list, "Operators left in floating point: names of nodes in the source, or their types."
)
_GROUP = Option(
    None, int, "How many weights along the input share one scale; -1: all of them.", minimum=-1
)

PRECISIONS: Mapping[str, Precision] = {
    p.name: p
    for p in (
        Precision("fp32", "float32", "float32", "IEEE single precision; the reference."),
        Precision("tf32", "float32", "tf32", "NVIDIA's 19-bit format inside matrix units."),
        Precision("fp16", "float16", "float16", "IEEE half precision."),
        Precision("bf16", "bfloat16", "bfloat16", "bfloat16: float32's range, 8 bits of mantissa."),
        Precision(
            "fp8",
            "float8",
            "float8",
            "8-bit floats (E4M3).",
            calibrated=True,
            options={"calibration_items": _ITEMS, "excluded_operators": _EXCLUDED},
        ),
        Precision(
            "int8-dynamic",
            "int8",
            "int8",
            "Weights quantized ahead, activations at run time.",
            options={
                "per_channel": _PER_CHANNEL,
                "excluded_operators": _EXCLUDED,
                "all_operators": Option(
                    False,
                    bool,
                    "Quantize every operator that the tool can, where the backend's best path "
                    "leaves out those that get slower.",
                ),
            },
        ),
        Precision(
            "int8-static",
            "int8",
            "int8",
            "Weights and activations quantized ahead, with ranges from calibration items.",
            calibrated=True,
            options={
                "per_channel": _PER_CHANNEL,
                "calibration_items": _ITEMS,
                "calibration_method": _METHOD,
                "excluded_operators": _EXCLUDED,
                "quantizer": Option(
                    None,
                    str,
                    "Which tool quantizes, where a backend has two.",
                    choices=("onnxruntime", "nncf", "ai-edge-quantizer", "tf-converter"),
                ),
                "preset": Option(
                    None,
                    str,
                    "NNCF's: symmetric activations (performance) or asymmetric ones (mixed).",
                    choices=("performance", "mixed"),
                ),
                "max_accuracy_drop": Option(
                    None,
                    float,
                    "Accuracy control: operators go back to floating point until the share of "
                    "right calibration items has fallen by no more than this; 0.01 is one point.",
                    minimum=0,
                    maximum=1,
                ),
                "accuracy_control_minutes": Option(
                    8.0, float, "Accuracy control ends after so long.", minimum=0
                ),
            },
        ),
        Precision("int8-qat", "int8", "int8", "Quantization-aware training."),
        Precision(
            "int16x8",
            "int8",
            "int16",
            "int8 weights, int16 activations.",
            calibrated=True,
            options={"per_channel": _PER_CHANNEL, "calibration_items": _ITEMS},
        ),
        Precision("w8", "int8", "float32", "8-bit weights only.", options={"group_size": _GROUP}),
        Precision("w4", "int4", "float32", "4-bit weights only.", options={"group_size": _GROUP}),
        Precision("as-shipped", "as in the file", "as in the file", "A model that is quantized."),
    )
}


def normalized(value: Any, kind: type) -> Any:
    """``value`` as JSON stores it: 1 equals 1.0, and lists of names are sorted."""
    if kind is list:
        return sorted(str(v) for v in value)
    return kind(value) if value is not None else None


def changed_options(precision: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options that differ from their default, by name in alphabetical order."""
    defaults = {n: normalized(o.default, o.kind) for n, o in PRECISIONS[precision].options.items()}
    return {name: options[name] for name in sorted(options) if options[name] != defaults.get(name)}
