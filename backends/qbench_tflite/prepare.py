"""Make TFLite artifacts. Never imported while measuring."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qbench.kit.adapter import PrepareError, Unsupported
from qbench.kit.converter import short
from qbench.kit.model import Calibration, Model, PrepareTarget, Provenance, TensorSpec
from qbench.kit.operators import Operator
from qbench_tflite import graph, quantizer
from qbench_tflite.program import interpreter
from qbench_tflite.quantizer import Kept, call, excluded, quantized
from qbench_tflite.signature import with_signature
from qbench_tflite.tensors import file_slots, slots

FILE = "model.tflite"
_TRIAL_ITEMS = 8
"""Calibration items of the first pass, which only finds out what XNNPACK takes."""
_ALWAYS = frozenset({"CONV_2D", "FULLY_CONNECTED"})
"""Quantized in any case: without them, a file is not int8."""
_STORAGE = ("fp16", "w8", "w4")
"""Precisions of weights only: LiteRT turns them into float32 before it computes."""


def prepare(
    model: Model, target: PrepareTarget, calibration: Calibration | None, out: Path
) -> Provenance:
    """Write ``model.tflite`` into ``out``.

    Choices:
        - fp32 and as-shipped are the file itself, byte by byte.
        - int8 first quantizes every operator that the tool can, inputs and outputs too. Kinds of
          operators that XNNPACK no longer takes then (``_ousted``) are left in fp32 in a second
          pass, for an operator outside costs more than int8 saves, and splits the graph. Static
          int8 of digits_vit went from 0.33 to 1.5 times fp32's speed so (softmax, GELU and the
          like stay in fp32), dynamic int8 of mobilenet_v2 from 0.40 to 1.4 (depthwise
          convolutions do). The option ``all_operators`` does without the second pass.
        - int16x8 quantizes all it can: XNNPACK takes none of it, so there is nothing to keep.
        - fp16, w8 and w4 change weights only; LiteRT changes them back.
        - A Keras or SavedModel source is quantized by TensorFlow's converter.

    Raises:
        PrepareError: the file is not valid, or the tool failed or did nothing.
        Unsupported: the file is quantized already, or as-shipped was asked of one that is not;
            TensorFlow is missing.
    """
    if model.format != "tflite":
        from qbench_tflite.converter import NAME, converted

        content, settings = converted(model, target, calibration)
        (out / FILE).write_bytes(content)
        return _provenance(model, target, out / FILE, NAME, settings, ())
    content = _read(model)
    reader = interpreter(content)
    computed = sum(
        op.precision not in ("fp32", None) for op in graph.operators(reader) if op.role == "compute"
    )
    stored = len(graph.stored(reader))
    if target.precision == "as-shipped":
        if not computed and not stored:
            raise Unsupported("the file is not quantized: ask for fp32")
    elif computed or (stored and target.precision != "fp32"):
        raise Unsupported(
            f"the file is quantized already ({computed or stored} operators): ask for as-shipped"
        )
    if target.precision in ("as-shipped", "fp32"):
        (out / FILE).write_bytes(content)
        return Provenance(FILE)
    return _quantize(model, target, calibration, content, out / FILE)


def _quantize(
    model: Model,
    target: PrepareTarget,
    calibration: Calibration | None,
    content: bytes,
    path: Path,
) -> Provenance:
    signed = with_signature(content)
    settings: dict[str, Any] = {}
    if target.precision in ("int8-static", "int16x8"):
        if not calibration:
            raise PrepareError(f"{target.precision} needs calibration items")
        method = target.options.get("calibration_method", "minmax")
        settings = {"calibration_items": len(calibration), "ranges": f"{method} over all items"}
        if method == "percentile":
            settings["percentile"] = quantizer.ranges.PERCENTILE
    wanted = excluded(signed, target.options.get("excluded_operators", ()))
    left: list[str] = []
    if target.precision == "int8-static" or (
        target.precision == "int8-dynamic" and not target.options.get("all_operators", False)
    ):
        trial, _ = quantized(model, signed, target, _first(calibration, _TRIAL_ITEMS), wanted)
        left = call(lambda: _ousted(signed, trial))
    kept = Kept((*wanted.kinds, *left), wanted.scopes)
    made, recipe = quantized(model, signed, target, calibration, kept)
    path.write_bytes(made)
    settings = {**settings, "left_in_fp32": left, "recipe": recipe}
    return _provenance(model, target, path, quantizer.NAME, settings, left)


def _provenance(
    model: Model,
    target: PrepareTarget,
    path: Path,
    tool: str,
    settings: dict[str, Any],
    left: Sequence[str],
) -> Provenance:
    """What became of the file at ``path``.

    Raises:
        PrepareError: nothing was quantized.
    """
    result = interpreter(path)
    call(lambda: slots(result, model))  # inputs and outputs are still there
    after = [op for op in graph.operators(result) if op.role == "compute"]
    stored = graph.stored(result)
    if target.precision in _STORAGE:
        count = len(stored)
    else:
        count = sum(op.precision != "fp32" for op in after)
    if not count:
        raise PrepareError(
            f"{tool.partition('.')[0].replace('_', '-')} quantized none of the {len(after)} "
            "convolutions and matrix products"
        )
    return Provenance(
        path.name,
        quantizer=tool,
        settings=settings,
        quantized_ops=count,
        notes=tuple(_notes(target.precision, after, count, left)),
    )


def _notes(precision: str, after: list[Operator], count: int, left: Sequence[str]) -> list[str]:
    notes = []
    if precision == "fp16":
        notes.append("fp16 is storage only: computed in fp32")
    elif precision in _STORAGE:
        notes.append(f"{precision} is storage only: computed in fp32")
    if left:
        notes.append(f"left in fp32, as XNNPACK takes them only so: {', '.join(left)}")
    if count < len(after):
        rest = len(after) - count
        notes.append(f"{rest} of {len(after)} convolutions and matrix products stay in fp32")
    return notes


def _first(calibration: Calibration | None, items: int) -> Calibration | None:
    if calibration is None:
        return None
    return Calibration({name: array[:items] for name, array in calibration.feeds.items()})


def _ousted(before: bytes, after: bytes) -> list[str]:
    """Kinds of operators that XNNPACK takes of the one file, but not of the other."""
    return sorted(_outside(after) - _outside(before) - _ALWAYS)


def _outside(content: bytes) -> set[str]:
    reader = interpreter(content)
    reader.allocate_tensors()
    return {op.kind for op in graph.operators(reader) if op.fallback}


# --------------------------------------------------------------------------- the file


def describe(path: Path) -> tuple[dict[str, TensorSpec], dict[str, TensorSpec]]:
    """Inputs and outputs of a TFLite file, by the tensors' own names.

    Raises:
        PrepareError: not a valid TFLite file.
        Unsupported: a Keras file or a SavedModel; the TF converter names its tensors.
    """
    if path.is_dir() or path.suffix in (".keras", ".h5", ".hdf5"):
        raise Unsupported(f"{path.name} is no TFLite file")
    inputs, outputs = file_slots(_load(path.read_bytes()))
    return (
        {name: slot.spec for name, slot in inputs.items()},
        {name: slot.spec for name, slot in outputs.items()},
    )


def _read(model: Model) -> bytes:
    """The file's content, once it is known to be valid and to fit the card."""
    content = model.path.read_bytes()
    try:
        slots(_load(content), model)
    except ValueError as error:
        raise PrepareError(f"the model card and the file disagree: {error}") from None
    return content


def _load(content: bytes) -> Any:
    """An interpreter of a source file's content."""
    if not content:
        raise PrepareError("not a valid TFLite file: it is empty")
    try:
        return interpreter(content)
    except (ValueError, RuntimeError) as error:
        what = "not a valid TFLite file" if "Flatbuffer" in str(error) else "LiteRT cannot load it"
        raise PrepareError(f"{what}: {short(error)}") from None
