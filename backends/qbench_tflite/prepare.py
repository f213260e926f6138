"""Make TFLite artifacts with ai-edge-quantizer. Never imported while measuring."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from qbench.backend import (
    Calibration,
    Feed,
    Model,
    PrepareError,
    PrepareTarget,
    Provenance,
    TensorSpec,
    Unsupported,
)
from qbench_tflite import graph
from qbench_tflite.program import interpreter
from qbench_tflite.signature import with_signature
from qbench_tflite.tensors import Slot, file_slots, slots

FILE = "model.tflite"
_TRIAL_ITEMS = 8
"""Calibration items of the first pass, which only finds out what XNNPACK takes."""
_ALWAYS = frozenset({"CONV_2D", "FULLY_CONNECTED"})
"""Quantized in any case: without them, a file is not int8."""
_T = TypeVar("_T")


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
          convolutions do).
        - fp16 casts weights; LiteRT casts them back when it loads them.
        - Ranges are the minimum and maximum over all calibration items. The tool's own default
          is a moving average of them, which depends on the items' order.

    Raises:
        PrepareError: the file is not valid, or the tool failed or did nothing.
        Unsupported: the file is quantized already, or as-shipped was asked of one that is not.
    """
    content = _read(model)
    before = graph.operators(interpreter(content))
    quantized = sum(op.computes and op.precision != "fp32" for op in before)
    path = out / FILE
    if target.precision == "as-shipped":
        if not quantized:
            raise Unsupported("the file is not quantized: ask for fp32")
        path.write_bytes(content)
        return Provenance(FILE)
    if quantized:
        raise Unsupported(
            f"the file is quantized already ({quantized} operators): ask for as-shipped"
        )
    if target.precision == "fp32":
        path.write_bytes(content)
        return Provenance(FILE)
    return _quantize(model, target, calibration, content, path)


def _quantize(
    model: Model,
    target: PrepareTarget,
    calibration: Calibration | None,
    content: bytes,
    path: Path,
) -> Provenance:
    signed = with_signature(content)
    settings: dict[str, Any] = {}
    if target.precision == "int8-static":
        if not calibration:
            raise PrepareError("int8-static needs calibration items")
        settings = {"calibration_items": len(calibration), "ranges": "minmax over all items"}
    few = _first(calibration, _TRIAL_ITEMS)
    trial, _ = _tool(lambda: _made(model, signed, target, few))
    left = _tool(lambda: _ousted(signed, trial))
    made, recipe = _tool(lambda: _made(model, signed, target, calibration, left))
    path.write_bytes(made)

    result = interpreter(path)
    _tool(lambda: slots(result, model))  # inputs and outputs are still there
    after = [op for op in graph.operators(result) if op.computes]
    if target.precision == "fp16":
        count = sum(op.stored == "float16" for op in after)
    else:
        count = sum(op.precision == "int8" for op in after)
    if not count:
        raise PrepareError(
            f"ai-edge-quantizer quantized none of the {len(after)} convolutions and matrix products"
        )
    return Provenance(
        FILE,
        quantizer="ai_edge_quantizer.Quantizer.quantize",
        settings={**settings, "left_in_fp32": left, "recipe": recipe},
        quantized_ops=count,
        notes=tuple(_notes(target.precision, after, left)),
    )


def _notes(precision: str, after: list[graph.Operator], left: list[str]) -> list[str]:
    if precision == "fp16":
        return ["fp16 is storage only: computed in fp32"]
    notes = []
    if left:
        notes.append(f"left in fp32, as XNNPACK takes them only so: {', '.join(left)}")
    count = sum(op.precision == "fp32" for op in after)
    if count:
        notes.append(f"{count} of {len(after)} convolutions and matrix products stay in fp32")
    return notes


def _ousted(before: bytes, after: bytes) -> list[str]:
    """Kinds of operators that XNNPACK takes of the one file, but not of the other."""
    return sorted(_outside(after) - _outside(before) - _ALWAYS)


def _outside(content: bytes) -> set[str]:
    reader = interpreter(content)
    reader.allocate_tensors()
    return {op.name for op in graph.operators(reader) if not op.delegated}


# --------------------------------------------------------------------------- the file


def describe(path: Path) -> tuple[dict[str, TensorSpec], dict[str, TensorSpec]]:
    """Inputs and outputs of a TFLite file, by the tensors' own names.

    Raises:
        PrepareError: not a valid TFLite file.
    """
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
        raise PrepareError(f"{what}: {_short(error)}") from None


# --------------------------------------------------------------------------- the tool


def _made(
    model: Model,
    content: bytes,
    target: PrepareTarget,
    calibration: Calibration | None,
    left: Iterable[str] = (),
) -> tuple[bytes, list[dict[str, Any]]]:
    """The quantized file and the recipe it was made by; ``left`` as in ``_recipe``."""
    recipe = _recipe(target, left)
    ranges = None
    if target.precision == "int8-static" and calibration:
        ranges = _ranges(model, content, recipe, calibration)
    return _run_quantizer(content, recipe, ranges), recipe


def _first(calibration: Calibration | None, items: int) -> Calibration | None:
    if calibration is None:
        return None
    return Calibration({name: array[:items] for name, array in calibration.feeds.items()})


def _recipe(target: PrepareTarget, left: Iterable[str] = ()) -> list[dict[str, Any]]:
    """What ai-edge-quantizer calls a recipe: JSON that says which operator is quantized how.

    Args:
        left: kinds of operators that are not quantized.
    """
    from ai_edge_quantizer import qtyping, recipe_manager

    every = qtyping.TFLOperationName.ALL_SUPPORTED
    granularity = (
        qtyping.QuantGranularity.CHANNELWISE
        if target.options.get("per_channel", True)
        else qtyping.QuantGranularity.TENSORWISE
    )
    manager = recipe_manager.RecipeManager()
    if target.precision == "int8-static":
        manager.add_static_config(
            ".*", every, activation_num_bits=8, weight_num_bits=8, weight_granularity=granularity
        )
    elif target.precision == "int8-dynamic":
        manager.add_dynamic_config(".*", every, num_bits=8, granularity=granularity)
    else:
        manager.add_weight_only_config(
            ".*",
            every,
            num_bits=16,
            granularity=qtyping.QuantGranularity.TENSORWISE,
            algorithm_key=recipe_manager.AlgorithmName.FLOAT_CASTING,
        )
    known = {kind.value: kind for kind in qtyping.TFLOperationName}
    for name in left:
        if name in known:  # others are never quantized
            manager.add_quantization_config(
                ".*", known[name], algorithm_key=recipe_manager.AlgorithmName.NO_QUANTIZE
            )
    return manager.get_quantization_recipe()


def _ranges(
    model: Model,
    content: bytes,
    recipe: list[dict[str, Any]],
    calibration: Calibration,
) -> dict[str, Any]:
    """Minimum and maximum of every activation over all calibration items."""
    from ai_edge_quantizer import calibrator, recipe_manager
    from ai_edge_quantizer.utils import qsv_utils

    reader = interpreter(content)
    inputs, _ = slots(reader, model)
    signatures = reader._get_full_signature_list()
    key = next(iter(signatures))
    names = {int(index): name for name, index in signatures[key]["inputs"].items()}
    batch = next(iter(inputs.values())).spec.shape[0]
    items = [
        _named(model, feed, inputs, names)
        for feed in calibration.batches(batch if isinstance(batch, int) else 1)
    ]
    manager = recipe_manager.RecipeManager()
    manager.load_quantization_recipe(recipe)
    tool = calibrator.Calibrator(
        content,
        num_threads=1,
        mode=calibrator.CalibrationMode.CALIBRATION_PRESERVE_ALL_TENSORS,
        qsv_update_func=qsv_utils.min_max_update,
    )
    tool.calibrate({key: items}, manager)
    return tool.get_model_qsvs()


def _named(model: Model, feed: Feed, inputs: dict[str, Slot], names: dict[int, str]) -> Feed:
    """One calibration batch under the signature's names, in the file's dtypes."""
    source = model.to_source(feed)
    return {
        names[slot.index]: source[slot.name].astype(np.dtype(slot.spec.dtype), copy=False)
        for slot in inputs.values()
    }


def _run_quantizer(
    content: bytes, recipe: list[dict[str, Any]], ranges: dict[str, Any] | None
) -> bytes:
    from ai_edge_quantizer import quantizer

    result = quantizer.Quantizer(content, recipe).quantize(
        ranges, enable_progress_bar=False, enable_progress_report=False
    )
    return bytes(result.quantized_model or b"")


def _tool(call: Callable[[], _T]) -> _T:
    """``call``'s result; what the tool raises becomes a PrepareError."""
    try:
        return call()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "ai_edge_quantizer":
            raise
        raise PrepareError(
            "ai-edge-quantizer is not installed: pip install 'qbench[tflite]'"
        ) from None
    except Exception as error:
        raise PrepareError(f"ai-edge-quantizer failed: {_short(error)}") from error


def _short(error: Exception) -> str:
    line = next(iter(str(error).splitlines()), "") or type(error).__name__
    return line if len(line) <= 300 else f"{line[:297]}..."
