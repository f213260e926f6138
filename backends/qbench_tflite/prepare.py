"""Prepare TFLite artifacts. Never imported while measuring."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qbench.kit.adapter import Description, NothingToQuantize, PrepareError, Unsupported
from qbench.kit.model import Calibration, Model, PrepareTarget, Provenance
from qbench.kit.onnxfile.quantized import check_quantized
from qbench.kit.operators import Operator
from qbench.kit.reasons import sentence
from qbench_tflite import flatfile, graph, quantizer
from qbench_tflite.program import interpreter
from qbench_tflite.quantizer import Kept, call, excluded, quantized
from qbench_tflite.requested import PER_CHANNEL_PRODUCTS
from qbench_tflite.signature import alone, with_signature
from qbench_tflite.tensors import file_slots, slots

FILE = "model.tflite"
_TRIAL_ITEMS = 8
"""Calibration items of the first pass, which only finds operators that XNNPACK refuses."""
_ALWAYS = frozenset({"CONV_2D", "FULLY_CONNECTED"})
"""Always quantized: without them a file is not int8."""
_RANGED = ("int8-static", "int16x8")
_STORAGE = ("fp16", "w8", "w4")
"""Weight-only precisions: LiteRT expands weights to float32 before it computes."""


def prepare(
    model: Model, target: PrepareTarget, calibration: Calibration | None, out: Path
) -> Provenance:
    """Write ``model.tflite`` into ``out``.

    - fp32 and as-shipped copy the file, and fp16 one that stores float16 weights.
    - int8 first quantizes every operator that the tool can, including inputs and outputs. A second
      pass leaves kinds of operators in fp32 that XNNPACK then no longer runs (``_ousted``), since
      an operator outside XNNPACK costs more than int8 saves, and splits the graph. This raised
      static int8 of digits_vit from 0.33 to 1.5 times fp32's speed (softmax, GELU and others stay
      in fp32) and dynamic int8 of mobilenet_v2 from 0.40 to 1.4 (depthwise convolutions do). The
      option ``all_operators`` omits the second pass.
    - int16x8 quantizes all it can: XNNPACK runs none of it, so a second pass is useless.
    - fp16, w8 and w4 change weights only; LiteRT expands them again.
    - TensorFlow's converter quantizes Keras and SavedModel sources.

    Raises:
        PrepareError: the file is not valid, or the tool failed or did nothing.
        Unsupported: the file is already quantized, or as-shipped and the file is not; TensorFlow is
            missing.
    """
    if model.format != "tflite":
        from qbench_tflite.converter import NAME, converted

        content, settings = converted(model, target, calibration)
        (out / FILE).write_bytes(content)
        return _provenance(model, target, out / FILE, NAME, settings, ())
    content = _read(model)
    file = flatfile.operators(flatfile.parse(content))
    check_quantized(graph.quantized(file), target)
    halves = graph.stored(file).count("float16")
    if target.precision in ("as-shipped", "fp32") or (target.precision == "fp16" and halves):
        (out / FILE).write_bytes(content)
        note = "the file stores float16 weights, which LiteRT computes with in fp32"
        return Provenance(FILE, notes=(note,) if halves else ())
    if target.precision in _RANGED and (loops := _loops(file)):
        raise Unsupported(
            f"ai-edge-quantizer finds no ranges inside {' and '.join(loops)} (a recurrent layer): "
            "ask for int8-dynamic or w8"
        )
    return _quantize(model, target, calibration, content, out / FILE)


def _loops(file: graph.Subgraphs) -> list[str]:
    """Types of the operators that run other subgraphs."""
    return sorted({operator.kind for operator in file[0] if operator.calls})


def _quantize(
    model: Model,
    target: PrepareTarget,
    calibration: Calibration | None,
    content: bytes,
    path: Path,
) -> Provenance:
    signed = with_signature(content)
    settings: dict[str, Any] = {}
    if target.precision in _RANGED:
        if not calibration:
            raise PrepareError(f"{target.precision} needs calibration items, but got none")
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
    """The record of the file at ``path``.

    Raises:
        PrepareError: nothing was quantized.
    """
    result = interpreter(path)
    call(lambda: slots(result, model))  # inputs and outputs still exist
    file = flatfile.operators(flatfile.parse(path.read_bytes()))
    after = [op for op in graph.operators(result, file) if op.role == "compute"]
    stored = graph.stored(file)
    if target.precision in _STORAGE:
        count = len(stored)
    else:
        count = sum(op.precision != "fp32" for op in after)
    if not after:
        raise NothingToQuantize
    if not count:
        raise PrepareError(
            f"{tool.partition('.')[0].replace('_', '-')} quantized none of the {len(after)} "
            "convolutions and matrix products"
        )
    notes = _notes(target.precision, after, count, left)
    products = any(op.kind == "FULLY_CONNECTED" for op in after)
    if tool == quantizer.NAME and products and not target.options.get("per_channel", True):
        notes.append(PER_CHANNEL_PRODUCTS)
    return Provenance(
        path.name,
        quantizer=tool,
        settings=settings,
        quantized_ops=count,
        notes=tuple(notes),
    )


def _notes(precision: str, after: list[Operator], count: int, left: Sequence[str]) -> list[str]:
    notes = []
    if precision == "fp16":
        notes.append("fp16 is storage only: computed in fp32")
    elif precision in _STORAGE:
        notes.append(f"{precision} is storage only: computed in fp32")
    if left:
        notes.append(f"left in fp32, since XNNPACK runs them only so: {', '.join(left)}")
    if count < len(after):
        rest = len(after) - count
        notes.append(f"{rest} of {len(after)} convolutions and matrix products stay in fp32")
    return notes


def _first(calibration: Calibration | None, items: int) -> Calibration | None:
    if calibration is None:
        return None
    return Calibration({name: array[:items] for name, array in calibration.feeds.items()})


def _ousted(before: bytes, after: bytes) -> list[str]:
    """Kinds of operators that XNNPACK runs in the file ``before``, but not in ``after``."""
    return sorted(_outside(after) - _outside(before) - _ALWAYS)


def _outside(content: bytes) -> set[str]:
    reader = interpreter(content)
    reader.allocate_tensors()
    file = flatfile.operators(flatfile.parse(content))
    return {op.kind for op in graph.operators(reader, file) if op.fallback}


# --------------------------------------------------------------------------- the file


def describe(path: Path) -> Description:
    """Inputs and outputs of a TFLite file, by the tensors' own names.

    Raises:
        PrepareError: not a valid TFLite file.
        Unsupported: a Keras file or a SavedModel, whose tensors the TF converter names.
    """
    if path.is_dir() or path.suffix in (".keras", ".h5", ".hdf5"):
        raise Unsupported(f"{path.name} is no TFLite file")
    content = path.read_bytes()
    inputs, outputs = file_slots(_load(content))
    file = flatfile.parse(content)
    return Description(
        {name: slot.spec for name, slot in inputs.items()},
        {name: slot.spec for name, slot in outputs.items()},
        ranges=flatfile.ranges(file),
        quantized=graph.quantized(flatfile.operators(file)) > 0,
    )


def extract(path: Path, signature: str, out: Path) -> None:
    """Write the subgraph of a signature as a file of its own, with the signature's names.

    Raises:
        PrepareError: not a valid TFLite file, or it has no such signature.
    """
    content = path.read_bytes()
    _load(content)
    try:
        out.write_bytes(alone(content, signature))
    except ValueError as error:
        raise PrepareError(str(error)) from None


def _read(model: Model) -> bytes:
    """The content of a valid file that fits the card."""
    content = model.path.read_bytes()
    try:
        slots(_load(content), model)
    except ValueError as error:
        raise PrepareError(f"the model card and the file disagree: {error}") from None
    return content


def _load(content: bytes) -> Any:
    """An interpreter of a source file's content.

    Raises:
        PrepareError: not a valid TFLite file.
        Unsupported: LiteRT lacks one of its operators.
    """
    if not content:
        raise PrepareError("not a valid TFLite file: it is empty")
    try:
        return interpreter(content)
    except (ValueError, RuntimeError) as error:
        if "Flatbuffer" in str(error) or "schema version" in str(error):
            raise PrepareError(f"not a valid TFLite file: {sentence(error)}") from error
        raise Unsupported(f"LiteRT cannot run the file: {sentence(error)}") from error
