"""Read back effective precision from the events of ONNX Runtime's profiler. Standard library only.

Every executed kernel leaves an event with its operator, its provider, and the types and shapes of
its inputs and outputs, after graph optimization, fusion and inserted casts. So an fp16 file whose
convolutions receive float32 is reported as such.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

from qbench.kit.adapter import Unsupported
from qbench.kit.operators import EffectivePrecision, Operator

# Operators that hold weights or dominate the work, plain and as the optimizer fuses them: the index
# of the input that holds a convolution's weights, by operator;
_CONVOLUTION_KINDS = (
    *("Conv", "ConvInteger", "ConvTranspose", "FusedConv", "NhwcConv", "NhwcFusedConv"),
)
_CONVOLUTIONS = {
    **dict.fromkeys(_CONVOLUTION_KINDS, 1),
    "QLinearConv": 3,
}
# matrix products like NumPy's matmul, and products that may transpose their operands;
_PRODUCTS = frozenset(
    (
        *("DynamicQuantizeMatMul", "MatMul", "MatMulInteger", "MatMulIntegerToFloat"),
        *("MatMulNBits", "QLinearMatMul"),
    )
)
_TRANSPOSING = frozenset(("FusedGemm", "FusedMatMul", "FusedMatMulActivation", "Gemm", "QGemm"))
# layers of several products.
_ATTENTION = frozenset(("Attention", "MultiHeadAttention", "QAttention"))
_RECURRENT = frozenset(("DynamicQuantizeLSTM", "GRU", "LSTM", "RNN"))
_COMPUTING = frozenset(
    (
        *(*_CONVOLUTIONS, *_PRODUCTS, *_TRANSPOSING, *_ATTENTION, *_RECURRENT),
        *("Einsum", "GroupQueryAttention"),
    )
)
_INTEGER = frozenset(
    (
        *("ConvInteger", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "MatMulInteger"),
        *("MatMulIntegerToFloat", "QAttention", "QGemm", "QLinearConv", "QLinearMatMul"),
    )
)
_CONVERTING = frozenset(
    (
        *("Cast", "DequantizeLinear", "DynamicQuantizeLinear", "QuantizeLinear"),
        *("ReorderInput", "ReorderOutput"),
    )
)
_COPYING_NOTHING = frozenset(("Flatten", "Identity", "Reshape", "Shape", "Squeeze", "Unsqueeze"))
_LOOKUPS = frozenset(("EmbedLayerNormalization", "Gather", "GatherBlockQuantized", "GatherND"))
_NAMES = {
    "double": "fp64",
    "float": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
    "int8": "int8",
    "uint8": "int8",
    "int16": "int16",
    "uint16": "int16",
}

Shape = Sequence[int]


def read_operators(
    events: Iterable[Mapping[str, Any]], provider: str, tf32: bool = False, skip: int = 0
) -> list[Operator]:
    """The kernels of a profile, in order of execution.

    Args:
        events: the profile's events. Work is computed from inputs, so it is None or too small for
            kernels that had packed their weights: see :func:`with_macs`.
        provider: execution provider that all operators should run on.
        skip: number of first inferences to ignore. Times are means over the others; the profiler
            counts whole microseconds.
        tf32: whether the provider may round float32 factors to TF32. If so, its float32
            convolutions and matrix products count as tf32, though the libraries choose a kernel for
            each by its shape.

    Raises:
        RuntimeError: there are no kernel events.
    """
    kernels: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    done = 0
    for event in events:
        name = str(event.get("name", ""))
        if name == "model_run":  # follows the kernels of its inference
            done += 1
        elif name.endswith("_kernel_time") and done >= skip:
            key = name.removesuffix("_kernel_time"), str(event["args"].get("node_index"))
            kernels.setdefault(key, []).append(event)
    if not kernels or done <= skip:
        raise RuntimeError("onnxruntime's profile holds no kernel events")
    operators = [
        _operator(name, found, provider, done - skip) for (name, _), found in kernels.items()
    ]
    return [replace(op, precision="tf32") if tf32 and _may_round(op) else op for op in operators]


def _may_round(op: Operator) -> bool:
    return op.role == "compute" and op.precision == "fp32" and not op.fallback


def _operator(name: str, events: Sequence[Mapping[str, Any]], provider: str, runs: int) -> Operator:
    """One operator from all its events: one per inference, more if it is in a loop."""
    args = events[0]["args"]
    weights, activations = zip(*(_bytes(event["args"]) for event in events), strict=True)
    return Operator(
        name=name,
        kind=args["op_name"],
        role=_role(args["op_name"]),
        precision=_precision(args),
        macs=_per_run([_macs(event["args"]) for event in events], runs),
        weight_bytes=_per_run(weights, runs),
        activation_bytes=_per_run(activations, runs),
        fallback=args.get("provider") != provider,
        ns=sum(event["dur"] for event in events) * 1000 / runs,
    )


def _per_run(amounts: Sequence[int | None], runs: int) -> int | None:
    known = [amount for amount in amounts if amount is not None]
    return sum(known) // runs if len(known) == len(amounts) else None


def with_macs(timed: Iterable[Operator], unpacked: Iterable[Operator]) -> list[Operator]:
    """``timed`` with the multiply-accumulates and bytes of ``unpacked``, the same program without
    packed weights. Sessions number their generated names differently; if a name then stands for
    several operators, values in which they differ are None."""
    work: dict[str, list[Operator]] = {}
    for op in unpacked:
        work.setdefault(_NUMBER.sub("", op.name), []).append(op)
    return [replace(op, **_common(work.get(_NUMBER.sub("", op.name), []))) for op in timed]


def _common(operators: Sequence[Operator]) -> dict[str, int | None]:
    result: dict[str, int | None] = {}
    for field in ("macs", "weight_bytes", "activation_bytes"):
        values = {getattr(op, field) for op in operators}
        result[field] = values.pop() if len(values) == 1 else None
    return result


_NUMBER = re.compile(r"_token_\d+$")


def summary(operators: Sequence[Operator], asked: str, cuda: bool = False) -> EffectivePrecision:
    """Summary of the operators, with notes for the reader.

    Args:
        asked: precision that the artifact was prepared for.
        cuda: whether it ran on a CUDA device.

    Raises:
        Unsupported: the device ran no convolution or matrix product, or nothing at all.
    """
    notes = ["graph optimization as in the timed runs; intra-op threads do not spin"]
    notes += notes_on(operators)
    if not any(op.role == "compute" for op in operators):
        notes.append("the graph has no convolution or matrix product")
    if cuda:
        notes += _left_to_the_processor(operators)
    effective = EffectivePrecision.of(operators)
    if asked == "fp16" and effective.precision == "fp32":
        notes.append("fp16 is storage only on this processor: computed in fp32")
    sums = "int8" in effective.operators and not cuda
    return replace(effective, notes=tuple(notes), sums_in_16_bits=sums)


def _left_to_the_processor(operators: Sequence[Operator]) -> list[str]:
    """Notes on operators that ran outside the CUDA device.

    Raises:
        Unsupported: all of the work did.
    """
    working = [op for op in operators if op.role == "compute"] or list(operators)
    kinds = Counter(op.kind for op in operators if op.fallback)
    named = ", ".join(f"{kind} ({n})" for kind, n in kinds.most_common())
    if all(op.fallback for op in working):
        raise Unsupported(f"the CUDA provider has no kernel for this file's operators: {named}")
    computing = sum(op.fallback for op in working)
    share = f"{computing} of {len(working)} computing operators among them"
    return [f"on the processor instead of the device: {named}; {share}"] if kinds else []


def notes_on(operators: Sequence[Operator]) -> list[str]:
    """Notes for the reader of precisions and multiply-accumulates."""
    notes = []
    if any(op.kind == "MatMulNBits" for op in operators):
        notes.append(
            "MatMulNBits counts as the type of its activations, to which it unpacks weights (with "
            "accuracy_level 4 in the file, it rounds activations to int8)"
        )
    if any(op.name.endswith("_nchwc") for op in operators):
        notes.append("convolutions in blocks of channels (NCHWc) include padded channels")
    return notes


def _role(kind: str) -> str:
    if kind in _COMPUTING:
        return "compute"
    return "convert" if kind in _CONVERTING else "other"


def _precision(args: Mapping[str, Any]) -> str | None:
    """Number format that a kernel computes in, from the type of its first input."""
    kind = args["op_name"]
    if kind in _INTEGER:
        return "int8"
    types = [next(iter(tensor)) for tensor in args.get("input_type_shape", []) if tensor]
    return _NAMES.get(types[0]) if types and kind not in _CONVERTING else None


def _bytes(args: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """A kernel's bytes of weights and of activations, as ONNX Runtime reports them; None if it does
    not (a kernel of sequences or optional values)."""
    try:
        weights, given, made = (
            int(args[f"{what}_size"]) for what in ("parameter", "activation", "output")
        )
    except KeyError:
        return None, None
    if args["op_name"] in _COPYING_NOTHING:
        return 0, 0
    if args["op_name"] in _LOOKUPS:
        weights = min(weights, made)
    return weights, given + made


def _macs(args: Mapping[str, Any]) -> int | None:
    """Multiply-accumulates of a kernel, from the shapes of its inputs and outputs.

    None if it has none, or if the shapes do not determine them (attention with a past, Einsum).
    """
    kind = args["op_name"]
    inputs = [next(iter(t.values())) for t in args.get("input_type_shape", []) if t]
    outputs = [next(iter(t.values())) for t in args.get("output_type_shape", []) if t]
    if kind not in _COMPUTING or len(inputs) < 2 or not outputs:
        return None
    first, out = inputs[0], outputs[0]
    if kind == "ConvTranspose":
        return prod(first) * prod(inputs[1][1:])
    if kind in _CONVOLUTIONS:
        weights = inputs[_CONVOLUTIONS[kind]] if len(inputs) > _CONVOLUTIONS[kind] else ()
        return prod(out) * prod(weights[1:]) if len(weights) > 2 else None
    if kind in _PRODUCTS:
        return prod(out) * first[-1]
    if kind in _TRANSPOSING:  # the first operand holds rows x inner sizes, in either order
        rows = out[-2] if len(out) > 1 else 1
        return prod(out) * (prod(first[-2:]) // rows) if rows else 0
    if kind in _RECURRENT and len(inputs) > 2:  # [steps, batch, size], and weights of all gates
        return prod(first[:2]) * (prod(inputs[1]) + prod(inputs[2]))
    if kind in _ATTENTION:
        return _attention_macs(inputs)
    return None


def _attention_macs(inputs: Sequence[Shape]) -> int | None:
    """Products of queries with keys, and of attention weights with values; if the second input is a
    matrix (com.microsoft's Attention and QAttention), also the preceding projection.

    None with a past, whose length adds to that of the keys.
    """
    if any(len(shape) > 3 for shape in inputs) or len(inputs[0]) != 3:
        return None
    batch, queries, size = inputs[0]
    if len(inputs[1]) == 2:
        width = inputs[1][1] // 3
        return batch * queries * (prod(inputs[1]) + 2 * queries * width)
    if len(inputs) > 2 and len(inputs[1]) == len(inputs[2]) == 3:
        return batch * queries * inputs[1][1] * (size + inputs[2][2])
    return None
