"""What a profile and a comparison of layers tell: pure functions of what a worker found."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qbench.analysis.quality.fidelity import MAX_SQNR_DB
from qbench.kit.operators import EffectivePrecision, Operator
from qbench.kit.precisions import PRECISIONS
from qbench.spec.case import Case
from qbench.spec.columns import CaseRow
from qbench.spec.precisions import IN_NAME_ONLY, REFERENCE, flags
from qbench.text import percent

SLOW_RATE = 1.5
"""A kind of operator is slow if a multiply-accumulate takes it so much longer than float32's do."""
MUCH = 0.1
"""A share of the time, or of the operators, from which on it is worth a sentence."""
SLOWER = 1.05
"""Times float32's time from which on a quantized model is slower, and not by the clock's steps."""
GOOD_DB = 20.0
"""Below this the outputs have visibly parted from float32's (a hundredth of the signal's power)."""
MAX_LAYERS = 8


@dataclass(frozen=True)
class Kind:
    """The operators of one type and precision, together.

    Attributes:
        ns: their time in one inference; None where the runtime tells none.
        share: of the whole time; of the operators where there are no times.
        macs: multiply-accumulates; None if they have none or cannot tell.
        fallback: how many the fast path did not take.
    """

    kind: str
    role: str
    precision: str | None
    operators: int
    ns: float | None
    share: float
    macs: int | None
    fallback: int

    @property
    def gmacs_per_s(self) -> float | None:
        """10^9 multiply-accumulates per second; None if it has none, or no time is known."""
        return self.macs / self.ns if self.macs and self.ns else None


@dataclass(frozen=True)
class Layer:
    """How far a layer's output is from float32's.

    Attributes:
        sqnr_db: signal to quantization noise, dB; up to here, so with what came before.
        drop_db: how much of it was lost at this layer: the least of the layers before, less this;
            0 where nothing was.
    """

    name: str
    kind: str
    sqnr_db: float
    drop_db: float


@dataclass(frozen=True)
class Finding:
    """One reason, with the figures that show it, and what to try; all sentences."""

    reason: str
    advice: str


@dataclass(frozen=True)
class Explanation:
    """What ``qbench explain`` shows.

    Attributes:
        row: the case's row of the case table.
        kinds, twin_kinds: the operators by type, the costliest first; empty where the adapter
            tells none.
        ns, twin_ns: the sum of the operators' times; None where the runtime tells none.
        layers: in the order of execution; empty for float32, or where they are not shown.
        findings: the weightiest first.
        notes: what the runtime says of itself, or does not tell.
    """

    case: Case
    row: CaseRow
    kinds: Sequence[Kind]
    twin_kinds: Sequence[Kind]
    ns: float | None
    twin_ns: float | None
    layers: Sequence[Layer]
    findings: Sequence[Finding]
    notes: Sequence[str]

    @property
    def worst_layers(self) -> list[Layer]:
        """Those that lose most, the first ``MAX_LAYERS``."""
        losing = [layer for layer in self.layers if layer.drop_db > 0]
        return sorted(losing, key=lambda layer: -layer.drop_db)[:MAX_LAYERS]


def explain(case: Case, row: CaseRow, found: Mapping[str, Any]) -> Explanation:
    """What stands out.

    Args:
        row: the case's row of the case table.
        found: the answer of the job ``explain``.
    """
    ours, notes = _operators(found["profile"])
    theirs, _ = _operators(found["twin_profile"])
    kinds, twin_kinds = by_kind(ours), by_kind(theirs)
    layers = layer_errors(found["layers"] or [])
    speed = _speed(case, row, ours, theirs, kinds, twin_kinds)
    return Explanation(
        case=case,
        row=row,
        kinds=kinds,
        twin_kinds=twin_kinds,
        ns=_total(ours),
        twin_ns=_total(theirs),
        layers=layers,
        findings=[*speed, *_accuracy(case, row, layers)],
        notes=[*notes, *found["refusals"].values()],
    )


def _operators(profile: Mapping[str, Any] | None) -> tuple[list[Operator], list[str]]:
    if profile is None:
        return [], []
    return [Operator.from_json(op) for op in profile["operators"]], list(profile["notes"])


def by_kind(operators: Iterable[Operator]) -> list[Kind]:
    """Operators of the same type and precision put together, the costliest first."""
    every = list(operators)
    total = _total(every)
    groups: dict[tuple[str, str, str | None], list[Operator]] = defaultdict(list)
    for op in every:
        groups[op.kind, op.role, op.precision].append(op)
    kinds: list[Kind] = []
    for (kind, role, precision), group in groups.items():
        ns = _total(group)
        counted = [op.macs for op in group if op.macs is not None]
        kinds.append(
            Kind(
                kind=kind,
                role=role,
                precision=precision,
                operators=len(group),
                ns=ns,
                share=ns / total if ns is not None and total else len(group) / len(every),
                macs=sum(counted) if len(counted) == len(group) else None,
                fallback=sum(op.fallback for op in group),
            )
        )
    return sorted(kinds, key=lambda kind: -kind.share)


def _total(operators: Iterable[Operator]) -> float | None:
    times = [op.ns for op in operators]
    known = [ns for ns in times if ns is not None]
    return sum(known) if known and len(known) == len(times) else None


def layer_errors(records: Iterable[Mapping[str, Any]]) -> list[Layer]:
    """Layers with their SQNR, from the sums of squares that the worker made."""
    layers: list[Layer] = []
    least = MAX_SQNR_DB
    for record in records:
        signal, noise = record["signal"], record["noise"]
        if signal == 0:
            continue  # an output of zeros says nothing
        ratio = 10 * np.log10(signal / noise) if noise > 0 else MAX_SQNR_DB
        decibels = float(min(ratio, MAX_SQNR_DB))
        layers.append(Layer(record["name"], record["kind"], decibels, max(0.0, least - decibels)))
        least = min(least, decibels)
    if layers:  # there is nothing before the first to have lost it from
        layers[0] = Layer(layers[0].name, layers[0].kind, layers[0].sqnr_db, 0.0)
    return layers


# --------------------------------------------------------------------------- why slow


def _speed(
    case: Case,
    row: CaseRow,
    ours: Sequence[Operator],
    theirs: Sequence[Operator],
    kinds: Sequence[Kind],
    twin_kinds: Sequence[Kind],
) -> list[Finding]:
    findings: list[Finding] = []
    if not ours:
        return findings
    outside = [op for op in ours if op.fallback]
    if outside and len(outside) == len(ours):
        findings.append(
            Finding(
                f"the fast path (the delegate) took none of the {len(ours)} operators: the "
                "runtime's own, slower kernels run them all",
                "choose a precision that the fast path takes, such as int8-static or fp32",
            )
        )
    elif len(outside) > MUCH * len(ours) or (
        theirs and len(outside) > sum(op.fallback for op in theirs)
    ):
        findings.append(_fragments(case, ours, outside, theirs))
    findings += _slow_kinds(case, kinds, twin_kinds)
    findings += _conversions(case, ours, theirs, kinds)
    effective = EffectivePrecision.of(ours)
    wanted = PRECISIONS[case.precision]
    if case.precision in ("fp16", "bf16") and effective.precision != case.precision:
        findings.append(
            Finding(
                f"{case.precision} is only how the weights are stored: the computing operators run "
                f"in {effective.precision}, so none gets faster than float32's",
                "expect a smaller file and nothing else; for speed try int8-static, or bf16 where "
                "the processor has it",
            )
        )
    elif case.precision in effective.emulated:
        findings.append(
            Finding(
                f"{case.precision} is emulated: this processor has no instructions for it, so each "
                "product takes several others",
                f"expect no speed-up here; measure {case.precision} on a processor that has it",
            )
        )
    elif IN_NAME_ONLY in flags(case.precision, effective):
        ran = ", ".join(f"{n} in {word}" for word, n in effective.operators.items())
        findings.append(
            Finding(
                f"{IN_NAME_ONLY}: of the computing operators run {ran}",
                "look which operators stay in floating point (see the table), and why their "
                "quantizer leaves them out",
            )
        )
    elif wanted.activations == "float32" and wanted.weights != "float32":
        findings.append(
            Finding(
                f"{case.precision} quantizes weights only: they are unpacked and multiplied in "
                f"{effective.precision}",
                "expect a smaller file; it is faster only where reading weights is what takes the "
                "time (large matrix products at batch 1)",
            )
        )
    faster = (row.speedup or 0) > 1  # measured, and better than a profile
    return findings if findings or faster else _eaten_up(case, ours, theirs, kinds, twin_kinds)


def _fragments(
    case: Case, ours: Sequence[Operator], outside: Sequence[Operator], theirs: Sequence[Operator]
) -> Finding:
    """Operators that the fast path does not take split the graph: data goes to and fro."""
    names = ", ".join(f"{k.operators} {k.kind}" for k in by_kind(outside)[:4])
    # The graph falls apart wherever an operator inside follows one outside.
    pieces = sum(
        not op.fallback and (index == 0 or ours[index - 1].fallback)
        for index, op in enumerate(ours)
    )
    before = f"; in float32 {sum(op.fallback for op in theirs)}" if theirs else ""
    advice = "leave those operators in floating point (excluded_operators)"
    if case.precision == "int8-dynamic":
        advice = "use int8-static, or all_operators: false, or " + advice
    if case.precision == "as-shipped":
        advice = "the file decides this: quantize the float model anew, or take another runtime"
    return Finding(
        f"{len(outside)} of {len(ours)} operators are outside the fast path ({names}"
        f"{before}), which splits the graph into {pieces} fragments",
        advice,
    )


def _slow_kinds(case: Case, kinds: Sequence[Kind], twin_kinds: Sequence[Kind]) -> list[Finding]:
    """Kinds whose multiply-accumulates take longer than float32's."""
    macs = sum(k.macs or 0 for k in twin_kinds if k.ns)
    ns = sum(k.ns or 0 for k in twin_kinds if k.macs)
    if not macs or not ns:
        return []
    base = macs / ns
    findings: list[Finding] = []
    for kind in kinds:
        rate = kind.gmacs_per_s
        if rate is None or kind.share < MUCH or rate * SLOW_RATE > base:
            continue
        if kind.precision == REFERENCE:  # as in float32, however it is called
            continue
        advice = "leave these operators in floating point (excluded_operators)"
        if case.precision == "int8-dynamic":
            advice = "use int8-static, whose convolutions have fast kernels, or " + advice
        findings.append(
            Finding(
                f"{kind.kind} takes {percent(kind.share)} of the time at {rate:.2f} GMAC/s, where "
                f"float32 reaches {base:.2f}: the runtime has no fast kernel for it here",
                advice,
            )
        )
    return findings


def _conversions(
    case: Case, ours: Sequence[Operator], theirs: Sequence[Operator], kinds: Sequence[Kind]
) -> list[Finding]:
    """Quantizing, casting and reordering, where float32 does less of it."""
    converting = [kind for kind in kinds if kind.role == "convert"]
    names = ", ".join(f"{k.operators} {k.kind}" for k in converting[:4])
    total = _total(ours)
    here, there = (_total(op for op in ops if op.role == "convert") for ops in (ours, theirs))
    if not total or not here or here - (there or 0) <= MUCH * total:
        return []
    advice = (
        "quantize the operators between the quantized ones too, or leave those at the edges in "
        "floating point: each change of format is a pass over the data"
    )
    if PRECISIONS[case.precision].activations != "int8":
        advice = (
            "take a precision that the operators compute in, which needs no casts: fp32, or bf16 "
            "where the processor has it"
        )
    return [Finding(f"converting takes {percent(here / total)} of the time ({names})", advice)]


def _eaten_up(
    case: Case,
    ours: Sequence[Operator],
    theirs: Sequence[Operator],
    kinds: Sequence[Kind],
    twin_kinds: Sequence[Kind],
) -> list[Finding]:
    """Where nothing else stands out and it is slower than float32 all the same: by how much the
    computing operators got faster, and what the others take."""
    here, there = _total(ours), _total(theirs)
    if PRECISIONS[case.precision].weights != "int8" or not here or not there:
        return []
    computing = [sum(op.ns or 0 for op in ops if op.role == "compute") for ops in (ours, theirs)]
    if here < SLOWER * there or not computing[0]:
        return []
    others = [kind for kind in kinds if kind.role != "compute"][:3]
    before = {kind.kind: kind.ns or 0 for kind in twin_kinds}
    names = ", ".join(
        f"{kind.kind} {(kind.ns or 0) / 1e3:.0f} µs (float32 {before.get(kind.kind, 0) / 1e3:.0f})"
        for kind in others
    )
    return [
        Finding(
            f"no operator alone is to blame: the computing ones are "
            f"{computing[1] / computing[0]:.2f} times as fast as float32's, and the others take "
            f"{percent(1 - computing[0] / here)} of the time, where float32's take "
            f"{percent(1 - computing[1] / there)}" + (f": {names}" if names else ""),
            "there is little to gain in a model with so little to compute; else leave the "
            "costliest of the others in floating point (excluded_operators)",
        )
    ]


# --------------------------------------------------------------------------- why wrong


def _accuracy(case: Case, row: CaseRow, layers: Sequence[Layer]) -> list[Finding]:
    if not layers:
        return []
    last = row.sqnr_db if row.sqnr_db is not None else layers[-1].sqnr_db
    if last >= GOOD_DB:
        return []
    worst = max(layers, key=lambda layer: layer.drop_db)
    lossy = [layer for layer in layers if layer.drop_db >= 3]  # half of the signal's margin
    depthwise = [layer for layer in lossy if "depthwise" in layer.kind.lower()]
    reason = (
        f"outputs are {last:.1f} dB from float32's; most is lost at {_short(worst.name)}, "
        f"{worst.kind}: {worst.drop_db:.1f} dB, down to {worst.sqnr_db:.1f} dB"
    )
    if depthwise:
        reason += f"; {len(depthwise)} of the {len(lossy)} layers that lose 3 dB are depthwise"
    if case.options.get("per_channel") is False:
        reason += (
            ". One scale serves all channels of a weight, and channels of "
            f"{'depthwise' if worst in depthwise else 'these'} layers differ widely"
        )
        return [Finding(reason, "per_channel: true")]
    names = ", ".join(layer.name for layer in lossy[:3]) or worst.name
    options = PRECISIONS[case.precision].options
    advice = [f"excluded_operators: [{names}]"] if "excluded_operators" in options else []
    if "calibration_method" in options:
        advice.append("another calibration_method, more calibration_items")
    return [Finding(reason, "; ".join(advice) or "a precision with more bits")]


def _short(name: str) -> str:
    """The first of the layers that were fused into one; TFLite lists them all."""
    first = name.split(";")[0]
    return first if len(first) <= 80 else "..." + first[-77:]
