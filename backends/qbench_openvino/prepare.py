"""Prepare artifacts: convert, and quantize. Never imported while measuring."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qbench.kit.adapter import PrepareError, Unsupported
from qbench.kit.model import Calibration, Model, PrepareTarget, Provenance
from qbench_openvino.convert import convert
from qbench_openvino.defects import unpack_miscompiled
from qbench_openvino.graph import is_quantized, quantized
from qbench_openvino.runtime import import_openvino

FILE = "model.xml"


def prepare(
    model: Model, target: PrepareTarget, calibration: Calibration | None, out: Path
) -> Provenance:
    """Write ``model.xml`` and ``model.bin`` into ``out``."""
    openvino = import_openvino()
    converted, record = _make(convert(openvino, model), model, target, calibration)
    half = target.precision == "fp16"
    openvino.save_model(converted, out / FILE, compress_to_fp16=half)
    return Provenance(
        FILE, **{**record, "settings": {"compress_to_fp16": half, **record.get("settings", {})}}
    )


def _make(
    converted: Any, model: Model, target: PrepareTarget, calibration: Calibration | None
) -> tuple[Any, dict[str, Any]]:
    """The model to save, and fields of its ``Provenance``."""
    precision, options = target.precision, target.options
    if target.recipe == "shared":
        return converted, _unchanged(converted, "the shared Q/DQ file, only converted")
    if precision == "as-shipped":
        if not is_quantized(converted):
            raise Unsupported("the file is not quantized: as-shipped is for files that are")
        return converted, _unchanged(converted, "the original file, only converted")
    if is_quantized(converted):
        raise Unsupported("the file arrives quantized: ask for as-shipped")
    # the rest imports NNCF, which takes a second
    if precision == "int8-static":
        if calibration is None:
            raise PrepareError("int8-static needs calibration items, but got none")
        from qbench_openvino.quantize import quantize

        return quantize(converted, model, options, calibration)
    if precision == "int8-dynamic":
        from qbench_openvino.compress import compress_for_dynamic

        return compress_for_dynamic(converted, options)
    if precision in ("w8", "w4"):
        from qbench_openvino.compress import compress_weights_only

        return compress_weights_only(converted, precision, options["group_size"])
    return converted, {}


def _unchanged(converted: Any, note: str) -> dict[str, Any]:
    """Fields of ``Provenance`` for a file that is already quantized.

    Raises:
        PrepareError: it is not.
    """
    if not quantized(converted):
        raise PrepareError("the file has no convolution or matrix product with quantized weights")
    notes = [note]
    if unpacked := unpack_miscompiled(converted):
        notes.append(f"{unpacked} convolutions unpacked to float32: OpenVINO would miscompile them")
    return {"quantized_ops": len(quantized(converted)), "notes": tuple(notes)}
