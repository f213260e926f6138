"""The vocabulary of precisions: one name for each scheme, the same for every backend."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from qbench.errors import nearest


@dataclass(frozen=True)
class Option:
    """One option of a precision.

    Attributes:
        default: used where the suite is silent; None stands for the backend's own choice.
        kind: the type its values have; a list holds strings.
        choices: the values allowed; empty if any value of the type is.
        minimum, maximum: bounds of a number.
        doc: one sentence.
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
        weights, activations: the number format of each while computing.
        doc: one sentence.
        calibrated: whether it needs calibration items.
        options: what a suite may set.
    """

    name: str
    weights: str
    activations: str
    doc: str
    calibrated: bool = False
    options: Mapping[str, Option] = field(default_factory=dict)


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

IN_NAME_ONLY = "int8 in name only"

SHARED = ("int8-static",)
"""The precisions that ``recipe: shared`` means something for."""

REFERENCE = "fp32"
"""The precision that speed-ups, accuracy deltas and fidelity are taken against."""


def complete_options(precision: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of ``precision`` with defaults filled in.

    Raises:
        ValueError: an unknown option or a value it does not take; the message names the known.
    """
    options = PRECISIONS[precision].options
    for name, value in given.items():
        if name not in options:
            raise ValueError(
                f"precision {precision} has no option '{name}'. {nearest(str(name), options)}"
            )
        option = options[name]
        if value is None and option.default is None:
            continue
        kinds = (int, float) if option.kind is float else option.kind  # of YAML: their subclasses
        fits = isinstance(value, kinds) and isinstance(value, bool) == (option.kind is bool)
        if isinstance(value, list):
            fits = fits and all(isinstance(v, str) for v in value)
        if not fits:
            raise ValueError(f"option {name} takes a {option.kind.__name__}, not {value!r}")
        if option.choices and value not in option.choices:
            raise ValueError(f"option {name} is one of {', '.join(option.choices)}, not {value!r}")
        if isinstance(value, int | float) and value < option.minimum:
            raise ValueError(f"option {name} is at least {option.minimum:g}, not {value!r}")
        if isinstance(value, int | float) and not (value <= option.maximum and value < math.inf):
            most = f"at most {option.maximum:g}" if option.maximum < math.inf else "finite"
            raise ValueError(f"option {name} is {most}, not {value!r}")
    complete = {name: _plain(given.get(name, o.default), o.kind) for name, o in options.items()}
    if complete.get("max_accuracy_drop") is None:
        complete.pop("accuracy_control_minutes", None)  # without accuracy control it means nothing
    return complete


def _plain(value: Any, kind: type) -> Any:
    """As JSON gives it back; 1 and 1.0 are the same, and so are two orders of a list of names."""
    if kind is list:
        return sorted(str(v) for v in value)
    return kind(value) if value is not None else None


def changed_options(precision: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that differ from the default, by name. For ``Backend.supports``: whatever is
    left here that the tool does not have is refused."""
    defaults = {n: _plain(o.default, o.kind) for n, o in PRECISIONS[precision].options.items()}
    return {name: options[name] for name in sorted(options) if options[name] != defaults.get(name)}


def variant(precision: str, options: Mapping[str, Any]) -> str:
    """The options that differ from the default, short: ``per_channel=false``; "" if none do."""
    parts = []
    for name, value in changed_options(precision, options).items():
        text = "+".join(map(str, value)) if isinstance(value, list) else str(value)
        parts.append(f"{name}={text.lower() if isinstance(value, bool) else text}")
    return ",".join(parts)


def int8_share(effective: Mapping[str, Any]) -> float | None:
    """Share of the multiply-accumulates that run in int8, 0 to 1; None if they cannot be told.

    Args:
        effective: ``backend.EffectivePrecision`` as JSON.
    """
    macs = effective.get("macs") or {}
    total = sum(macs.values())
    return macs.get("int8", 0) / total if total else None


def flags(precision: str, effective: Mapping[str, Any]) -> list[str]:
    """What the precision's name hides of what ran: ``int8 in name only`` where int8 was asked for
    and less than half of the multiply-accumulates (of the computing operators, where those cannot
    be told) run in int8."""
    asked = PRECISIONS[precision]
    if (asked.weights, asked.activations) != ("int8", "int8"):
        return []
    share = int8_share(effective)
    if share is None:
        counts = effective["operators"]
        if not counts:
            return []
        share = counts.get("int8", 0) / sum(counts.values())
    return [IN_NAME_ONLY] if share < 0.5 else []
