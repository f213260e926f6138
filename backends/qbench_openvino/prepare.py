"""Prepare artifacts: convert, and quantize. Never imported while measuring."""

from __future__ import annotations

from pathlib import Path
from shutil import copyfile
from typing import Any

from qbench.kit.adapter import PrepareError, Unsupported
from qbench.kit.model import Calibration, Model, PrepareTarget, Provenance
from qbench.kit.onnxfile.quantized import check_quantized, quantized_operators
from qbench_openvino.convert import convert
from qbench_openvino.defects import unpack_miscompiled
from qbench_openvino.graph import check_weights, quantized
from qbench_openvino.runtime import import_openvino
from qbench_openvino.saved import departure

FILE = "model.xml"


def prepare(
    model: Model, target: PrepareTarget, calibration: Calibration | None, out: Path
) -> Provenance:
    """Write ``model.xml`` and ``model.bin`` into ``out``; a model that OpenVINO does not save as it
    is stays in its source file, if that is what is to run.

    Raises:
        PrepareError: a tool failed.
        Unsupported: OpenVINO does not save the quantized model as it is.
    """
    openvino = import_openvino()
    given = quantized_operators(model.path) if model.format == "onnx" else None
    if given is not None:
        check_quantized(given, target)
    converted = convert(openvino, model)
    if given is None:
        given = len(quantized(converted))
        check_quantized(given, target)
    converted, record = _make(converted, given, model, target, calibration)
    half = target.precision == "fp16"
    openvino.save_model(converted, out / FILE, compress_to_fp16=half)
    lost = departure(converted, out / FILE, model, calibration, half)
    if lost is None:
        settings = {"compress_to_fp16": half, **record.get("settings", {})}
        return Provenance(FILE, **{**record, "settings": settings})
    if half or "settings" in record:
        raise Unsupported(f"OpenVINO {lost}: a defect of OpenVINO")
    return _source(model, out, {**record, "notes": (*record.get("notes", ()), f"OpenVINO {lost}")})


def _source(model: Model, out: Path, record: dict[str, Any]) -> Provenance:
    """The source's own files as the artifact."""
    for name in (FILE, "model.bin"):
        (out / name).unlink(missing_ok=True)
    file = f"model{model.path.suffix}"
    for name, path in {**model.companions, file: model.path}.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        copyfile(path, out / name)
    notes = (*record["notes"], f"so the {model.format} file itself runs")
    return Provenance(file, **{**record, "notes": notes})


def _make(
    converted: Any,
    given: int,
    model: Model,
    target: PrepareTarget,
    calibration: Calibration | None,
) -> tuple[Any, dict[str, Any]]:
    """The model to save, and fields of its ``Provenance``.

    Args:
        given: number of quantized operators of the source.
    """
    precision, options = target.precision, target.options
    if given:
        kind = "shared Q/DQ" if target.recipe == "shared" else "original"
        notes = [f"the {kind} file, only converted"]
        if unpacked := unpack_miscompiled(converted):
            notes.append(
                f"{unpacked} convolutions unpacked to float32: OpenVINO would miscompile them"
            )
        settings = {"settings": {"unpacked": unpacked}} if unpacked else {}
        return converted, {"quantized_ops": given, "notes": tuple(notes), **settings}
    if precision in ("fp32", "bf16", "fp16"):
        return converted, {}
    check_weights(converted)
    # the rest imports NNCF, which takes a second
    if precision == "int8-static":
        if calibration is None:
            raise PrepareError("int8-static needs calibration items, but got none")
        from qbench_openvino.quantize import quantize

        return quantize(converted, model, options, calibration)
    if precision == "int8-dynamic":
        from qbench_openvino.compress import compress_for_dynamic

        return compress_for_dynamic(converted, options)
    from qbench_openvino.compress import compress_weights_only

    return compress_weights_only(converted, precision, options["group_size"])
