"""Integer weights by NNCF: for dynamic quantization of matrix products, and for weight-only
precisions. Never imported while measuring."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from qbench.kit.adapter import PrepareError, Unsupported
from qbench.kit.reasons import sentence
from qbench_openvino.defects import miscompiled
from qbench_openvino.graph import CONVOLUTIONS, depth, products, quantized, stored_type
from qbench_openvino.nncf import import_nncf
from qbench_openvino.quantize import find_operators
from qbench_openvino.settings import GROUP_SIZE

DYNAMIC_GROUPS = (128, 64, 32, 16)
"""Group sizes for dynamic quantization. A longer group is faster (2.8x at 128 against 2.2x at the
plugin's default of 32 on an encoder of width 256) and costs under 1 dB; the plugin requires
multiples of 16."""

W4_GROUP = 32
"""Weights that share a scale at 4 bits: 23.3 dB on the zoo's transformer, against 22.2 dB with
whole rows of 64. Asymmetric: symmetric groups of 32 reach 17.0 dB."""


def compress_for_dynamic(converted: Any, options: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """int8 weights for the matrix products; the plugin quantizes their activations at run time.

    Raises:
        Unsupported: most of the work is not in matrix products with weights.
        PrepareError: NNCF failed or compressed nothing.
    """
    nncf = import_nncf()
    excluded = find_operators(converted, options["excluded_operators"])
    kinds = [op.get_type_name() for op in products(converted)]
    convolutions = sum(kind in CONVOLUTIONS for kind in kinds)
    if convolutions >= kinds.count("MatMul"):
        raise Unsupported(
            "OpenVINO quantizes activations at run time only in matrix products; the "
            f"{convolutions} convolutions of this model would run in fp32"
        )
    result = _compress(
        converted,
        mode=nncf.CompressWeightsMode.INT8_ASYM,
        # the plugin would unpack these to float32 when it compiles: slower, no smaller
        ignored_scope=nncf.IgnoredScope(
            names=excluded, types=[*CONVOLUTIONS, "Gather"], validate=False
        ),
    )
    depths = [depth(op) for op in quantized(result)]
    if not depths:
        raise PrepareError("nncf.compress_weights finished but compressed no matrix product")
    group = max(DYNAMIC_GROUPS, key=lambda size: (sum(d >= size for d in depths), size))
    taken = sum(d >= group for d in depths)
    if taken <= convolutions:
        raise Unsupported("the matrix products are too narrow: the plugin needs 16 inputs or more")
    return result, {
        "quantizer": "nncf.compress_weights",
        "quantized_ops": taken,
        "settings": {
            "mode": "int8_asym",
            "ignored_types": "convolutions, Gather",
            "ignored_operators": excluded,
            GROUP_SIZE: group,
        },
        "notes": (
            f"activations are quantized at run time, in groups of {group}; attention products of "
            "two activations stay in fp32",
        ),
    }


def compress_weights_only(
    converted: Any, precision: str, group_size: int | None
) -> tuple[Any, dict[str, Any]]:
    """Weights of 8 or 4 bits; activations stay in floating point.

    Args:
        precision: ``w8`` or ``w4``.
        group_size: weights that share a scale, -1 for a whole row, None for the default; without
            effect on ``w8``, which has one scale per output channel.

    Raises:
        Unsupported: ``w4`` for a model of which NNCF stores nothing at 4 bits.
        PrepareError: NNCF failed, or compressed nothing.
    """
    nncf = import_nncf()
    notes: list[str] = []
    left = miscompiled(converted)
    scope = nncf.IgnoredScope(names=left, validate=False)
    if left:
        notes.append(f"{len(left)} convolutions stay float32: OpenVINO would miscompile them")
    if precision == "w8":
        group_size, mode = None, nncf.CompressWeightsMode.INT8_ASYM
        result = _compress(converted, mode=mode, ignored_scope=scope)
    else:
        mode = nncf.CompressWeightsMode.INT4_ASYM
        try:
            result = _compress(
                converted, mode=mode, group_size=group_size or W4_GROUP, ignored_scope=scope
            )
            group_size = group_size or W4_GROUP
        except nncf.InvalidGroupSizeError as error:
            if group_size is not None:
                raise PrepareError(f"group_size {group_size}: {sentence(error)}") from error
            group_size = -1
            notes.append(f"groups of {W4_GROUP} do not divide every row: one scale per row")
            result = _compress(converted, mode=mode, group_size=group_size, ignored_scope=scope)
    found = quantized(result)
    wanted = ("i8", "u8") if precision == "w8" else ("i4", "u4")
    done = [op for op in found if stored_type(op) in wanted]
    if not found:
        raise PrepareError("nncf.compress_weights finished but compressed no weight")
    if not done:
        raise Unsupported(
            "NNCF stores only matrix products before the last one at 4 bits, and this model has "
            "none: ask for w8"
        )
    counts = Counter(f"{op.get_type_name()} as {stored_type(op)}" for op in found)
    notes.append("stored: " + ", ".join(f"{n} {kind}" for kind, n in sorted(counts.items())))
    if any(op.get_type_name() in CONVOLUTIONS for op in found):
        notes.append(
            "for convolutions this is storage only: compiling unpacks their weights to float32"
        )
    return result, {
        "quantizer": "nncf.compress_weights",
        "quantized_ops": len(done),
        "settings": {"mode": mode.value, "group_size": group_size, "ignored_operators": left},
        "notes": tuple(notes),
    }


def _compress(converted: Any, **arguments: Any) -> Any:
    """``nncf.compress_weights`` of a copy, since it works in place and may fail halfway.

    Raises:
        PrepareError: it failed.
        nncf.InvalidGroupSizeError: a row is not a multiple of the group.
    """
    nncf = import_nncf()
    try:
        return nncf.compress_weights(converted.clone(), **arguments)
    except nncf.InvalidGroupSizeError:
        raise
    except Exception as error:  # NNCF passes on errors of its parts
        raise PrepareError(f"nncf.compress_weights failed: {sentence(error)}") from error
