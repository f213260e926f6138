"""The vocabulary of precisions: one name for each scheme, the same for every backend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from qbench.errors import nearest


@dataclass(frozen=True)
class Option:
    """One option of a precision.

    Attributes:
        default: used where the suite is silent.
        kind: the type its values have.
        choices: the values allowed; empty if any value of the type is.
        minimum: the least value of a number; None if there is no bound.
        doc: one sentence.
    """

    default: Any
    kind: type
    doc: str
    choices: tuple[Any, ...] = ()
    minimum: int | None = None


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
    choices=("minmax", "entropy", "percentile"),
)

PRECISIONS: Mapping[str, Precision] = {
    p.name: p
    for p in (
        Precision("fp32", "float32", "float32", "IEEE single precision; the reference."),
        Precision("tf32", "float32", "tf32", "NVIDIA's 19-bit format inside matrix units."),
        Precision("fp16", "float16", "float16", "IEEE half precision."),
        Precision("bf16", "bfloat16", "bfloat16", "bfloat16: float32's range, 8 bits of mantissa."),
        Precision("fp8", "float8", "float8", "8-bit floats (E4M3)."),
        Precision(
            "int8-dynamic",
            "int8",
            "int8",
            "Weights quantized ahead, activations at run time.",
            options={"per_channel": _PER_CHANNEL},
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
            },
        ),
        Precision("int8-qat", "int8", "int8", "Quantization-aware training."),
        Precision("int16x8", "int8", "int16", "int8 weights, int16 activations.", calibrated=True),
        Precision("w8", "int8", "float32", "8-bit weights only."),
        Precision("w4", "int4", "float32", "4-bit weights only."),
        Precision("as-shipped", "as in the file", "as in the file", "A model that is quantized."),
    )
}

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
        if type(value) is not option.kind:
            raise ValueError(f"option {name} takes a {option.kind.__name__}, not {value!r}")
        if option.choices and value not in option.choices:
            raise ValueError(f"option {name} is one of {', '.join(option.choices)}, not {value!r}")
        if option.minimum is not None and value < option.minimum:
            raise ValueError(f"option {name} is at least {option.minimum}, not {value!r}")
    return {name: given.get(name, option.default) for name, option in options.items()}


def variant(precision: str, options: Mapping[str, Any]) -> str:
    """The options that differ from the default, short: ``per_channel=false``; "" if none do."""
    defaults = PRECISIONS[precision].options
    parts = []
    for name in sorted(options):
        if options[name] != defaults[name].default:
            value = options[name]
            parts.append(f"{name}={str(value).lower() if isinstance(value, bool) else value}")
    return ",".join(parts)
