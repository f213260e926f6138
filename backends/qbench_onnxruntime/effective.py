"""What really ran, from the events of ONNX Runtime's profiler (standard library only).

Each kernel that ran leaves an event with its operator, its provider and the types of its inputs:
after all graph optimization, fusions and inserted casts. So an fp16 file whose convolutions are
fed float32 shows up as what it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from qbench.backend import EffectivePrecision, Unsupported

# Operators that hold weights or dominate the work, plain and as the optimizer fuses them.
_COMPUTING = frozenset(
    (
        *("Attention", "Conv", "ConvTranspose", "Einsum", "FusedConv", "FusedGemm"),
        *("FusedMatMul", "FusedMatMulActivation", "GRU", "Gemm", "GroupQueryAttention", "LSTM"),
        *("MatMul", "MatMulNBits", "MultiHeadAttention", "NhwcFusedConv", "RNN"),
    )
)
_INTEGER = frozenset(
    (
        *("ConvInteger", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "MatMulInteger"),
        *("MatMulIntegerToFloat", "QAttention", "QGemm", "QLinearConv", "QLinearMatMul"),
    )
)
_NAMES = {"float": "fp32", "float16": "fp16", "bfloat16": "bf16", "double": "fp64"}
_EIGHT_BITS = frozenset(("int8", "uint8"))


def read_back(events: Iterable[Mapping[str, Any]], asked: str, provider: str) -> EffectivePrecision:
    """What the profile's kernels computed in.

    Args:
        events: the profile's events, of at least one inference.
        asked: the precision that the artifact was prepared for.
        provider: the execution provider that everything should run on.

    Raises:
        Unsupported: the kernels computed in another precision than was asked for.
    """
    kernels: dict[str, Mapping[str, Any]] = {}
    for event in events:
        name = str(event.get("name", ""))
        if name.endswith("_kernel_time"):
            kernels[name] = event["args"]  # a loop's body is counted once
    if not kernels:
        raise RuntimeError("onnxruntime's profile holds no kernel events")

    operators = Counter(
        precision for args in kernels.values() if (precision := _precision(args)) is not None
    )
    elsewhere = sum(args.get("provider") != provider for args in kernels.values())
    notes = ["graph optimization as in the timed runs; intra-op threads do not spin"]
    if any(args["op_name"] == "MatMulNBits" for args in kernels.values()):
        notes.append("MatMulNBits unpacks its weights and is counted as what it computes in")
    if operators:
        effective = operators.most_common(1)[0][0]
    else:
        effective = _commonest_type(kernels.values())
        notes.append("the graph has no convolution or matrix product")
    _check(asked, effective, operators)
    if asked == "fp16" and effective == "fp32":
        notes.append("fp16 is storage only on this processor: computed in fp32")
    return EffectivePrecision(effective, dict(operators), elsewhere, tuple(notes))


def _input_types(args: Mapping[str, Any]) -> list[str]:
    return [next(iter(tensor)) for tensor in args.get("input_type_shape", []) if tensor]


def _precision(args: Mapping[str, Any]) -> str | None:
    """The precision a kernel computes in; None if it is no computing operator."""
    operator = args["op_name"]
    if operator in _INTEGER:
        return "int8"
    types = _input_types(args)
    if operator not in _COMPUTING or not types:
        return None
    return "int8" if types[0] in _EIGHT_BITS else _NAMES.get(types[0], types[0])


def _commonest_type(kernels: Iterable[Mapping[str, Any]]) -> str:
    types = Counter(_NAMES[t] for k in kernels for t in _input_types(k)[:1] if t in _NAMES)
    return types.most_common(1)[0][0] if types else "int8"


def _check(asked: str, effective: str, operators: Mapping[str, int]) -> None:
    """Refuse to report under a name that is not true."""
    counts = ", ".join(f"{count} in {name}" for name, count in operators.items()) or "none"
    if asked.startswith("int8") and effective != "int8":
        raise Unsupported(
            f"{asked} was asked for, but most of the computing operators ran in {effective} "
            f"({counts})"
        )
    if asked == "fp32" and effective != "fp32":
        raise Unsupported(
            f"fp32 was asked for, but {effective} ran ({counts}); if the model arrives quantized "
            "or reduced, ask for as-shipped"
        )
