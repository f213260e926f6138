"""Precisions in suites and results: complete options, short names, and int8 in name only."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

from qbench.errors import nearest
from qbench.kit.precisions import PRECISIONS, changed_options, normalized

IN_NAME_ONLY = "int8 in name only"
QUANTIZED_IN_NAME_ONLY = "quantized in name only"
MAY_SATURATE = "int8 sums may saturate"
_X86 = frozenset(("avx2", "avx512f"))
_VNNI = frozenset(("avx512_vnni", "avx_vnni", "amx_int8"))

SHARED = ("int8-static",)
"""Precisions with a ``recipe: shared``."""

REFERENCE = "fp32"
"""The reference of speed-ups, accuracy deltas and fidelity."""


def complete_options(precision: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of ``precision`` with defaults filled in.

    Raises:
        ValueError: an unknown option or a wrong value; the message names the valid ones.
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
        kinds = (int, float) if option.kind is float else option.kind  # YAML yields subclasses
        fits = isinstance(value, kinds) and isinstance(value, bool) == (option.kind is bool)
        if isinstance(value, list):
            fits = fits and all(isinstance(v, str) for v in cast("list[object]", value))
        if not fits:
            raise ValueError(f"option {name} takes a {option.kind.__name__}, not {value!r}")
        if option.choices and value not in option.choices:
            raise ValueError(f"option {name} is one of {', '.join(option.choices)}, not {value!r}")
        if isinstance(value, int | float) and value < option.minimum:
            raise ValueError(f"option {name} is at least {option.minimum:g}, not {value!r}")
        if isinstance(value, int | float) and not (value <= option.maximum and value < math.inf):
            most = f"at most {option.maximum:g}" if option.maximum < math.inf else "finite"
            raise ValueError(f"option {name} is {most}, not {value!r}")
    complete = {name: normalized(given.get(name, o.default), o.kind) for name, o in options.items()}
    if complete.get("max_accuracy_drop") is None:
        complete.pop("accuracy_control_minutes", None)  # without accuracy control it means nothing
    return complete


def variant(precision: str, options: Mapping[str, Any]) -> str:
    """The options that differ from their defaults, short: ``per_channel=false``; "" if none do."""
    parts: list[str] = []
    for name, value in changed_options(precision, options).items():
        values = cast("list[object]", value) if isinstance(value, list) else [value]
        text = "+".join(map(str, values))
        parts.append(f"{name}={text.lower() if isinstance(value, bool) else text}")
    return ",".join(parts)


def int8_share(macs: Mapping[str, int] | None) -> float | None:
    """Share of the multiply-accumulates that run in int8, 0 to 1; None if they are unknown.

    Args:
        macs: by precision, as ``backend.EffectivePrecision`` has them.
    """
    macs = macs or {}
    total = sum(macs.values())
    return macs.get("int8", 0) / total if total else None


class ReadBack(Protocol):
    """The effective precision as read back: of the kit, or a record of it."""

    @property
    def macs(self) -> Mapping[str, int] | None: ...
    @property
    def operators(self) -> Mapping[str, int]: ...
    @property
    def emulated(self) -> Sequence[str]: ...
    @property
    def sums_in_16_bits(self) -> bool | None: ...


def flags(precision: str, effective: ReadBack, cpu_flags: Sequence[str] = ()) -> list[str]:
    """Warnings that the precision's name hides.

    - ``int8 in name only``: int8 was asked for, and less than half of the multiply-accumulates (of
      the computing operators, where their multiply-accumulates are not known) run in int8.
    - ``quantized in name only``: a file that is quantized, of which less than half runs in
      integers.
    - ``int8 sums may saturate``: the runtime adds products of uint8 and int8 in pairs of 16 bits
      where an x86 processor has no VNNI, so the accuracy is this processor's.
    - ``bf16 emulated``: the processor has no instructions for a precision that operators run in.

    Args:
        cpu_flags: instruction sets of the processor that it ran on.
    """
    found = [f"{word} emulated" for word in effective.emulated]
    if effective.sums_in_16_bits and _X86.intersection(cpu_flags) and not _VNNI & {*cpu_flags}:
        found.insert(0, MAY_SATURATE)
    asked = PRECISIONS[precision]
    if precision == "as-shipped":
        share = _share(effective, ("int4", "int8", "int16"))
        return [QUANTIZED_IN_NAME_ONLY, *found] if share is not None and share < 0.5 else found
    if (asked.weights, asked.activations) != ("int8", "int8"):
        return found
    share = _share(effective, ("int8",))
    return [IN_NAME_ONLY, *found] if share is not None and share < 0.5 else found


def _share(effective: ReadBack, formats: Sequence[str]) -> float | None:
    """Share of the multiply-accumulates in these formats, or of the operators; None if nothing
    computes."""
    counts = effective.macs if effective.macs and any(effective.macs.values()) else None
    counts = counts or effective.operators
    total = sum(counts.values())
    return sum(counts.get(name, 0) for name in formats) / total if total else None
