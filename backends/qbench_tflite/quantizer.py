"""Quantize a float ``.tflite`` file with ai-edge-quantizer. Never imported while measuring."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from qbench.kit.adapter import PrepareError
from qbench.kit.feeds import fixed_batch
from qbench.kit.model import Calibration, Model, PrepareTarget
from qbench.kit.reasons import sentence
from qbench_tflite import graph, ranges
from qbench_tflite.program import interpreter
from qbench_tflite.tensors import slots

NAME = "ai_edge_quantizer.Quantizer.quantize"
_NAMES = {"TRANSPOSE_CONV": "CONV_2D_TRANSPOSE"}
"""ai-edge-quantizer's names for TFLite's operators, where they differ."""
_T = TypeVar("_T")


@dataclass(frozen=True)
class Kept:
    """Operators that stay in floating point.

    Attributes:
        kinds: TFLite's types, such as ``SOFTMAX``.
        scopes: single operators by ai-edge-quantizer's name: the names of their outputs, each
            followed by a semicolon.
    """

    kinds: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()


def excluded(content: bytes, wanted: Iterable[str]) -> Kept:
    """Resolve ``excluded_operators``: types, names of operators (of their output tensor), or names
    of layers that were fused into one.

    Raises:
        PrepareError: the file has no such operator.
    """
    reader = interpreter(content)
    names = graph.tensor_names(reader)
    scopes: dict[str, list[str]] = {}
    kinds = set()
    for node in graph.nodes(reader):
        outputs = [names[int(tensor)] for tensor in node["outputs"]]
        kinds.add(node["op_name"])
        for name in {outputs[0], *outputs[0].split(";")} - {""}:
            scopes.setdefault(name, []).append("".join(f"{output};" for output in outputs))
    for name in wanted:
        if name not in kinds and name not in scopes:
            near = difflib.get_close_matches(name, [*kinds, *scopes], n=3, cutoff=0.4)
            hint = f"Similar: {', '.join(near)}. " if near else ""
            raise PrepareError(
                f"excluded_operators: the file has no operator '{name}'. {hint}"
                f"Types in it: {', '.join(sorted(kinds))}"
            )
    return Kept(
        tuple(name for name in wanted if name in kinds),
        tuple(scope for name in wanted if name not in kinds for scope in scopes[name]),
    )


def quantized(
    model: Model,
    content: bytes,
    target: PrepareTarget,
    calibration: Calibration | None = None,
    kept: Kept | None = None,
) -> tuple[bytes, list[dict[str, Any]]]:
    """The quantized file and its recipe.

    Args:
        content: a floating-point file with a signature.
        calibration: for precisions with ranges of activations.

    Raises:
        PrepareError: the tool failed.
    """
    recipe = call(lambda: _recipe(target, kept or Kept()))
    found = None
    if calibration is not None:
        method = target.options.get("calibration_method", "minmax")
        found = call(lambda: _ranges(model, content, recipe, calibration, method))
    return call(lambda: _run(content, recipe, found)), recipe


def call(work: Callable[[], _T]) -> _T:
    """``work()``, with the tool's errors turned into PrepareErrors."""
    try:
        return work()
    except PrepareError:
        raise
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "ai_edge_quantizer":
            raise
        raise PrepareError(
            "ai-edge-quantizer is not installed: pip install ai-edge-quantizer"
        ) from None
    except Exception as error:
        raise PrepareError(f"ai-edge-quantizer failed: {sentence(error)}") from error


def _recipe(target: PrepareTarget, kept: Kept) -> list[dict[str, Any]]:
    """ai-edge-quantizer's recipe: JSON that maps operators to their quantization."""
    from ai_edge_quantizer import qtyping, recipe_manager

    every = qtyping.TFLOperationName.ALL_SUPPORTED
    granularity = (
        qtyping.QuantGranularity.CHANNELWISE
        if target.options.get("per_channel", True)
        else qtyping.QuantGranularity.TENSORWISE
    )
    manager = recipe_manager.RecipeManager()
    if target.precision in ("int8-static", "int16x8"):
        manager.add_static_config(
            ".*",
            every,
            activation_num_bits=8 if target.precision == "int8-static" else 16,
            weight_num_bits=8,
            weight_granularity=granularity,
        )
    elif target.precision == "int8-dynamic":
        manager.add_dynamic_config(".*", every, num_bits=8, granularity=granularity)
    elif target.precision in ("w8", "w4"):
        manager.add_weight_only_config(
            ".*", every, num_bits=int(target.precision[1:]), granularity=granularity
        )
    else:
        manager.add_weight_only_config(
            ".*",
            every,
            num_bits=16,
            granularity=qtyping.QuantGranularity.TENSORWISE,
            algorithm_key=recipe_manager.AlgorithmName.FLOAT_CASTING,
        )
    leave = recipe_manager.AlgorithmName.NO_QUANTIZE
    known = {kind.value: kind for kind in qtyping.TFLOperationName}
    for name in kept.kinds:
        kind = known.get(_NAMES.get(name, name))
        if kind is not None:  # the tool never quantizes others
            manager.add_quantization_config(".*", kind, algorithm_key=leave)
    for scope in kept.scopes:
        manager.add_quantization_config(f"^{re.escape(scope)}$", every, algorithm_key=leave)
    return manager.get_quantization_recipe()


def _ranges(
    model: Model,
    content: bytes,
    recipe: list[dict[str, Any]],
    calibration: Calibration,
    method: str,
) -> dict[str, Any]:
    """The range of every activation.

    Starts from minimum and maximum over all items: the tool's default, a moving average of them,
    depends on the order of items.
    """
    from ai_edge_quantizer import calibrator, recipe_manager
    from ai_edge_quantizer.utils import qsv_utils

    reader = interpreter(content, flags={"experimental_preserve_all_tensors": True})
    signatures = reader._get_full_signature_list()
    key = next(iter(signatures))
    names = {int(index): name for name, index in signatures[key]["inputs"].items()}
    items = list(_inputs(model, reader, calibration))
    manager = recipe_manager.RecipeManager()
    manager.load_quantization_recipe(recipe)
    tool = calibrator.Calibrator(
        content,
        num_threads=1,
        mode=calibrator.CalibrationMode.CALIBRATION_PRESERVE_ALL_TENSORS,
        qsv_update_func=qsv_utils.min_max_update,
    )
    named = [{names[index]: array for index, array in item.items()} for item in items]
    tool.calibrate({key: named}, manager)
    found = tool.get_model_qsvs()
    if method == "minmax":
        return found
    reader.allocate_tensors()
    return ranges.narrowed(reader, items, found, method)


def _inputs(
    model: Model, reader: Any, calibration: Calibration
) -> Iterator[Mapping[int, np.ndarray]]:
    """Calibration batches by tensor index, in the file's dtypes and batch size."""
    inputs, _ = slots(reader, model)
    fixed = (fixed_batch(slot.spec) for slot in inputs.values())
    batch = next((size for size in fixed if size is not None), 1)
    for feed in calibration.batches(model.inputs, batch):
        source = model.to_source(feed)
        yield {
            slot.index: source[slot.name].astype(np.dtype(slot.spec.dtype), copy=False)
            for slot in inputs.values()
        }


def _run(content: bytes, recipe: list[dict[str, Any]], found: dict[str, Any] | None) -> bytes:
    from ai_edge_quantizer import quantizer

    result = quantizer.Quantizer(content, recipe).quantize(
        found, enable_progress_bar=False, enable_progress_report=False
    )
    return bytes(result.quantized_model or b"")
