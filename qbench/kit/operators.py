"""What an adapter reports of an opened program: operators, effective precision, layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np


EFFECTIVE = ("fp32", "tf32", "fp16", "bf16", "fp8", "int8", "int16", "int4")
"""The words for what operators really compute in."""


@dataclass(frozen=True)
class Operator:
    """One operator of an opened program, as the runtime runs it: after fusions and conversions.

    Attributes:
        name: what the runtime calls it.
        kind: the runtime's type for it, such as ``QLinearConv``.
        role: ``compute`` (convolutions, matrix products and the like, that have weights or
            dominate the work), ``convert`` (quantize, dequantize, cast, reorder), or ``other``.
        precision: what it computes in, one of ``EFFECTIVE``; None where that says nothing.
        macs: multiply-accumulates of one inference (a whole batch); None if it has none, or if
            they cannot be told.
        weight_bytes: bytes of the constants that one inference reads here, each once, in the type
            that they are kept in while it runs; of a table that is looked up in, the rows that are
            taken. None if it cannot be told.
        activation_bytes: bytes of its other inputs and of its outputs, each once, in the types they
            have; 0 if it copies nothing (a reshape). None if it cannot be told.
        fallback: whether the fast path did not take it (another provider, outside the delegate).
        emulated: whether the processor has no instructions for ``precision``, so that others
            compute it.
        layers: names of the source's layers that were fused into it, where the runtime tells.
        ns: mean time of one inference, in nanoseconds; None where it is not measured.
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
        return cls(**{**data, "layers": tuple(data["layers"])})


@dataclass(frozen=True)
class EffectivePrecision:
    """What really runs, read back from the opened program; never the name that was asked for.

    Attributes:
        precision: what most of the multiply-accumulates run at (of the operators, where their
            number is not known): one of ``EFFECTIVE``. Where floating point runs at another
            precision than was asked for, qbench skips the case; a case that asked for int8 and
            runs less than half of them in int8 is flagged. fp16 as a mere storage format runs
            as ``fp32``.
        operators: computing operators by the precision they run at.
        macs: their multiply-accumulates by precision; None where they cannot be told.
        fallback_ops: operators that the fast path did not take (another provider, outside the
            delegate); 0 where there is only one path, None where the runtime does not tell.
        emulated: precisions among ``operators`` that the processor has no instructions for; each
            is flagged.
        notes: sentences for the reader.
        weight_bytes: the sum of those of all operators, so what one inference reads of weights at
            least. Weights that several operators share count at each.
        activation_bytes: the sum of those of all operators. With the weights, the bytes that
            operators and caches exchange; how much of it reaches memory, the caches decide.
    """

    precision: str
    operators: Mapping[str, int]
    macs: Mapping[str, int] | None = None
    fallback_ops: int | None = None
    notes: tuple[str, ...] = ()
    weight_bytes: int | None = None
    activation_bytes: int | None = None
    emulated: tuple[str, ...] = ()

    @classmethod
    def of(cls, operators: Iterable[Operator], notes: Iterable[str] = ()) -> EffectivePrecision:
        """The summary of a program's operators.

        ``macs`` is None as soon as one computing operator does not tell its own, and bytes as soon
        as any operator does not. A program without computing operators runs at the commonest
        precision of the others.
        """
        every = list(operators)
        computing = [op for op in every if op.role == "compute" and op.precision is not None]
        counts = Counter(str(op.precision) for op in computing)
        macs: Counter[str] | None = Counter()
        for op in computing:
            if op.macs is None:
                macs = None
                break
            macs[str(op.precision)] += op.macs
        others = Counter(op.precision for op in every if op.precision is not None)
        most = (macs or counts or others).most_common(1)
        return cls(
            precision=most[0][0] if most else "fp32",
            operators=dict(counts),
            macs=None if macs is None else dict(macs),
            fallback_ops=sum(op.fallback for op in every),
            emulated=tuple(sorted({str(op.precision) for op in computing if op.emulated})),
            notes=tuple(notes),
            weight_bytes=_total(op.weight_bytes for op in every),
            activation_bytes=_total(op.activation_bytes for op in every),
        )


def _total(amounts: Iterable[int | None]) -> int | None:
    """Their sum; None as soon as one is not known."""
    known = list(amounts)
    return None if None in known else sum(amount or 0 for amount in known)


@dataclass(frozen=True)
class Profile:
    """Where the time of an inference goes.

    Attributes:
        operators: in the order of execution. Either all have ``ns`` or none has; a runtime whose
            interface gives no times still gives structure, precision and placement.
        notes: sentences for the reader, such as what the runtime does not tell.
    """

    operators: tuple[Operator, ...]
    notes: tuple[str, ...] = ()


class Activation(NamedTuple):
    """The output of one layer for one feed.

    Attributes:
        name: as the float32 artifact of the same model calls it, so that two can be compared.
        kind: the layer's type, such as ``Conv`` or ``DEPTHWISE_CONV_2D``.
        values: float32; dequantized where the layer's output is quantized.
    """

    name: str
    kind: str
    values: np.ndarray
