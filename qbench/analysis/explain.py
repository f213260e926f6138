"""Explain a case's speed and accuracy from its profile and a comparison of layers."""

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
"""A kind of operator is slow if a multiply-accumulate takes this many times its float32 time."""
MUCH = 0.1
"""Minimum share of the time, or of the operators, that is reported."""
SLOWER = 1.05
"""A quantized model is slower from this ratio to float32's time; smaller ones are clock steps."""
GOOD_DB = 20.0
"""Below this SQNR outputs differ visibly from float32's (noise of 1 % of the signal's power)."""
MAX_LAYERS = 8


@dataclass(frozen=True)
class Kind:
    """The operators of one type and precision together.

    Attributes:
        ns: time in one inference; None if the runtime reports no times.
        share: of the whole time; of the operators if there are no times.
        macs: multiply-accumulates; None if there are none, or they are unknown.
        fallback: number of operators outside the fast path.
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
        """10^9 multiply-accumulates per second; None without multiply-accumulates or time."""
        return self.macs / self.ns if self.macs and self.ns else None


@dataclass(frozen=True)
class Layer:
    """Difference of a layer's output from float32's.

    Attributes:
        sqnr_db: signal to quantization noise ratio, dB; includes the errors of earlier layers.
        drop_db: loss at this layer: the minimum of the layers before, minus this; at least 0.
    """

    name: str
    kind: str
    sqnr_db: float
    drop_db: float


@dataclass(frozen=True)
class Finding:
    """A reason, the figures that show it, and a remedy to try; all sentences."""

    reason: str
    advice: str


@dataclass(frozen=True)
class Explanation:
    """The result of ``qbench explain``.

    Attributes:
        row: the case's row of the case table.
        kinds, twin_kinds: the operators by type, the costliest first; empty if the adapter
            reports none.
        ns, twin_ns: sum of the operators' times; None if the runtime reports no times.
        layers: in execution order; empty for float32, or if the adapter does not expose them.
        findings: the most important first.
        notes: remarks of the runtime, including what it does not report.
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
        """The ``MAX_LAYERS`` layers that lose most."""
        losing = [layer for layer in self.layers if layer.drop_db > 0]
        return sorted(losing, key=lambda layer: -layer.drop_db)[:MAX_LAYERS]


def explain(case: Case, row: CaseRow, found: Mapping[str, Any]) -> Explanation:
    """Find the reasons for a case's speed and accuracy.

    Args:
        row: the case's row of the case table.
        found: the result of the job ``explain``.
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
    """Group operators by type and precision, the costliest first."""
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
    """Compute the SQNR of each layer from the sums of squares that the worker recorded."""
    layers: list[Layer] = []
    least = MAX_SQNR_DB
    for record in records:
        signal, noise = record["signal"], record["noise"]
        if signal == 0:
            continue  # an output of zeros has no SQNR
        ratio = 10 * np.log10(signal / noise) if noise > 0 else MAX_SQNR_DB
        decibels = float(min(ratio, MAX_SQNR_DB))
        layers.append(Layer(record["name"], record["kind"], decibels, max(0.0, least - decibels)))
        least = min(least, decibels)
    if layers:  # the first layer has no layers before it
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
    stored_only = effective.precision not in (None, case.precision)
    if case.precision in ("fp16", "bf16") and stored_only:
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
                f"{effective.precision or 'floating point'}",
                "expect a smaller file; it is faster only where reading weights is what takes the "
                "time (large matrix products at batch 1)",
            )
        )
    faster = (row.speedup or 0) > 1  # measured, and better than a profile
    return findings if findings or faster else _eaten_up(case, ours, theirs, kinds, twin_kinds)


def _fragments(
    case: Case, ours: Sequence[Operator], outside: Sequence[Operator], theirs: Sequence[Operator]
) -> Finding:
    """Report fallback operators, which split the graph and move data back and forth."""
    names = ", ".join(f"{k.operators} {k.kind}" for k in by_kind(outside)[:4])
    # A new part begins wherever an operator inside the fast path follows one outside.
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
    """Report kinds whose multiply-accumulates take longer than in float32."""
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
        if kind.precision == REFERENCE:  # float32, whatever its name
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
    """Report quantizing, casting and reordering that float32 does less of."""
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
    """Report, if a case is slower than float32 without another finding, the speedup of computing
    operators and the time of the others."""
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
    lossy = [layer for layer in layers if layer.drop_db >= 3]  # half of the signal-to-noise power
    depthwise = [layer for layer in lossy if "depthwise" in layer.kind.lower()]
    reason = (
        f"outputs are {last:.1f} dB from float32's; most is lost at {short_name(worst.name)}, "
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


def short_name(name: str, most: int = 80) -> str:
    """Return the first name of a fused layer, its last ``most`` characters; TFLite lists all."""
    first = name.split(";")[0]
    return first if len(first) <= most else "..." + first[3 - most :]
