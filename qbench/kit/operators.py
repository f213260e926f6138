"""An opened program's operators, effective precision and layer outputs, as adapters report them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np


EFFECTIVE = ("fp64", "fp32", "tf32", "fp16", "bf16", "fp8", "int8", "int16", "int4")
"""Names of the number formats that operators compute in."""


@dataclass(frozen=True)
class Operator:
    """One operator of an opened program, as the runtime executes it: after fusion and conversion.

    Attributes:
        name: the runtime's name of it.
        kind: the runtime's type of it, such as ``QLinearConv``.
        role: ``compute`` (convolutions, matrix products and other operators with weights or most of
            the work), ``convert`` (quantize, dequantize, cast, reorder), or ``other``.
        precision: number format that it computes in, one of ``EFFECTIVE``; None if unknown or
            meaningless.
        macs: multiply-accumulates of one inference (a whole batch); None if it has none or the
            number is unknown.
        weight_bytes: bytes of the constants that one inference reads here, each counted once, in
            the type held at run time; for a lookup table, the rows that are read. None if unknown.
        activation_bytes: bytes of its other inputs and of its outputs, each counted once, in their
            own types; 0 if it copies nothing (a reshape). None if unknown.
        fallback: whether it runs outside the fast path (another provider, outside the delegate).
        emulated: whether the processor has no instructions for ``precision``, so that others
            compute it.
        layers: names of the source's layers that were fused into it, if the runtime reports them.
        ns: mean time of one inference, in nanoseconds; None if not measured.
    """

    name: str
    kind: str
    role: str
    precision: str | None = None
    macs: int | None = None
    weight_bytes: int | None = None
    activation_bytes: int | None = None
    fallback: bool = False
    emulated: bool = False
    layers: tuple[str, ...] = ()
    ns: float | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Operator:
        fields: dict[str, Any] = {**data, "layers": tuple(data["layers"])}
        return cls(**fields)


@dataclass(frozen=True)
class EffectivePrecision:
    """The precision that a program executes at, read back from it; never the requested name.

    Attributes:
        precision: number format of most multiply-accumulates (of most operators, if their number is
            unknown): one of ``EFFECTIVE``; None if that is unknown. A floating-point case that runs
            at another precision than requested is skipped; an int8 case that runs less than half of
            them in int8 is flagged. fp16 as a mere storage format runs as ``fp32``; a file in
            float64 runs at ``fp32`` as ``fp64``.
        operators: number of computing operators by precision, without those of unknown precision.
        macs: their multiply-accumulates by precision; None if unknown, in part too.
        fallback_ops: number of operators outside the fast path (another provider, outside the
            delegate); 0 if there is only one path, None if the runtime does not report it.
        emulated: precisions among ``operators`` that the processor has no instructions for; each is
            flagged.
        sums_in_16_bits: whether int8 kernels run that, on x86 processors without VNNI, add products
            of uint8 and int8 in pairs of 16 bits, which saturate; flagged on those processors.
        notes: sentences for the reader.
        weight_bytes: sum over all operators: a lower bound of the weights that one inference reads.
            Weights that operators share count for each of them.
        activation_bytes: sum over all operators. With the weights, the bytes exchanged between
            operators and caches; the caches decide how many of them reach memory.
    """

    precision: str | None
    operators: Mapping[str, int]
    macs: Mapping[str, int] | None = None
    fallback_ops: int | None = None
    notes: tuple[str, ...] = ()
    weight_bytes: int | None = None
    activation_bytes: int | None = None
    emulated: tuple[str, ...] = ()
    sums_in_16_bits: bool = False

    @classmethod
    def of(cls, operators: Iterable[Operator], notes: Iterable[str] = ()) -> EffectivePrecision:
        """Summarize a program's operators.

        ``macs`` is None if any computing operator's is None, and bytes are None if any operator's
        are. A program without computing operators has the others' most common precision.
        """
        every = list(operators)
        computing = [op for op in every if op.role == "compute"]
        counts = Counter(op.precision for op in computing)
        macs: Counter[str | None] | None = Counter()
        for op in computing:
            if op.macs is None:
                macs = None
                break
            macs[op.precision] += op.macs
        others = Counter(op.precision for op in every if op.precision is not None)
        most = (macs or counts or others).most_common(1)
        return cls(
            precision=most[0][0] if most else None,
            operators={word: n for word, n in counts.items() if word is not None},
            macs=None
            if macs is None or None in macs
            else {word: n for word, n in macs.items() if word is not None},
            fallback_ops=sum(op.fallback for op in every),
            emulated=tuple(sorted({str(op.precision) for op in computing if op.emulated})),
            notes=tuple(notes),
            weight_bytes=_total(op.weight_bytes for op in every),
            activation_bytes=_total(op.activation_bytes for op in every),
        )


def _total(amounts: Iterable[int | None]) -> int | None:
    """Sum of the amounts; None if any is None."""
    known = list(amounts)
    return None if None in known else sum(amount or 0 for amount in known)


@dataclass(frozen=True)
class Profile:
    """Time of one inference by operator.

    Attributes:
        operators: in order of execution. Either all have ``ns`` or none has; a runtime that reports
            no times can still report structure, precision and placement.
        notes: sentences for the reader, such as the runtime's limits.
    """

    operators: tuple[Operator, ...]
    notes: tuple[str, ...] = ()


class Activation(NamedTuple):
    """The output of one layer for one feed.

    Attributes:
        name: its name in the float32 artifact of the same model, so that two can be compared.
        kind: the layer's type, such as ``Conv`` or ``DEPTHWISE_CONV_2D``.
        values: float32; dequantized if the layer's output is quantized.
    """

    name: str
    kind: str
    values: np.ndarray
