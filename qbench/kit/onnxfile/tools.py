"""Shared steps of preparing artifacts: run a tool, save, count. Needs onnx."""

from __future__ import annotations

import logging
import shutil
import warnings
from pathlib import Path

import onnx

from qbench.kit.adapter import PrepareError, Unsupported
from qbench.kit.model import Model, PrepareTarget, Provenance
from qbench.kit.onnxfile import graph, rewrite
from qbench.kit.onnxfile.quantized import check_quantized, quantized_operators
from qbench.kit.reasons import sentence

FILE = "model.onnx"


class tool:
    """Run a tool without its warnings, and turn its exceptions into a PrepareError of one
    sentence."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.simplefilter("ignore")
        self._level = logging.root.manager.disable
        logging.disable(logging.WARNING)  # such as advice to preprocess, even after preprocessing

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        logging.disable(self._level)
        self._warnings.__exit__(None, None, None)
        if error is None or isinstance(error, PrepareError | Unsupported | MemoryError):
            return
        if not isinstance(error, Exception):
            return
        raise PrepareError(f"{self._name} failed: {sentence(error)}") from error


def save(model: onnx.ModelProto, file: Path) -> None:
    """Save a model; over protobuf's limit of 2 GB the weights go to a second file."""
    large = sum(len(t.raw_data) for t in model.graph.initializer) > 1_900_000_000
    onnx.save(model, file, save_as_external_data=large, location=f"{file.stem}.data")


def copy(
    model: Model, source: onnx.ModelProto, target: PrepareTarget, out: Path
) -> Provenance | None:
    """Copy the source unchanged, as fp32, tf32, as-shipped and a shared file need it; None for
    other targets.

    Args:
        source: the model in the file, without external weights.

    Raises:
        PrepareError: a shared file that is not quantized.
        Unsupported: a file that is quantized though the target is not as-shipped, or the reverse.
    """
    quantized = quantized_operators(model.path)
    check_quantized(quantized, target)
    if not quantized and target.precision not in ("fp32", "tf32"):
        return None  # the runtime's settings distinguish these two
    return _copy(model.path, source, quantized or None, out)


def _copy(path: Path, source: onnx.ModelProto, quantized: int | None, out: Path) -> Provenance:
    """``path`` as one file with constant weights."""
    if graph.has_external_weights(source):
        save(graph.load(path), out / FILE)
        return Provenance(FILE, quantized_ops=quantized, notes=("weights were put in one file",))
    if graph.lists_weights_as_inputs(source):
        save(rewrite.without_weights_as_inputs(source), out / FILE)
        note = "weights that were listed as inputs were made constants"
        return Provenance(FILE, quantized_ops=quantized, notes=(note,))
    shutil.copyfile(path, out / FILE)
    return Provenance(FILE, quantized_ops=quantized)


def preprocessed(path: Path, folder: Path) -> Path:
    """Preprocess the model in ``path`` for quantizers, to a file in ``folder``: opset at least 13,
    batch normalization folded, constants computed, shapes inferred, tidied."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    modern, clean = folder / "modern.onnx", folder / "preprocessed.onnx"
    with tool("onnx.version_converter"):
        save(rewrite.modernized(graph.load(path)), modern)
    with tool("quant_pre_process"):
        quant_pre_process(modern, clean, skip_symbolic_shape=True)
    save(rewrite.tidied(graph.load(clean)), clean)
    return clean


def count(name: str, out: Path) -> int:
    """Count the operators that the tool ``name`` quantized in the artifact in ``out``.

    Raises:
        PrepareError: there are none.
    """
    quantized = quantized_operators(out / FILE)
    if quantized == 0:
        raise PrepareError(f"{name} finished but quantized no operator")
    return quantized


def percent(share: float) -> str:
    return "under 1 %" if share < 0.01 else f"{share:.0%}".replace("%", " %")
