"""qbench's adapter for TFLite models on LiteRT (``ai-edge-litert``), on the CPU with XNNPACK.

``program.py`` runs artifacts and imports nothing but NumPy and the runtime; ``graph.py`` and
``activations.py`` read back what an opened graph consists of and computes. ``prepare.py`` makes
artifacts: with ai-edge-quantizer (``quantizer.py``, ``ranges.py``, ``signature.py``), or with
TensorFlow's converter (``converter.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qbench.kit.adapter import Ready, Unavailable
from qbench.kit.model import (
    Artifact,
    Calibration,
    Feed,
    Model,
    PrepareTarget,
    Provenance,
    RunConfig,
    TensorSpec,
)
from qbench.kit.operators import Activation

if TYPE_CHECKING:
    from qbench_tflite.program import TfliteProgram

_PIP = "pip install ai-edge-litert ai-edge-quantizer"
_PRECISIONS = (
    "fp32",
    "fp16",
    "int8-dynamic",
    "int8-static",
    "int16x8",
    "w8",
    "w4",
    "as-shipped",
)
_MISSING = {
    "tf32": "TF32 is a format of NVIDIA GPUs",
    "bf16": "LiteRT's CPU kernels do not compute in bfloat16, and ai-edge-quantizer casts to "
    "float16 only",
    "fp8": "LiteRT's CPU kernels do not compute in 8-bit floats",
    "int8-qat": "training is not LiteRT's part: convert the trained model to TFLite and run it "
    "as-shipped",
}
_TF_CONVERTER = "tf-converter"


class Backend:
    """TFLite files on LiteRT's interpreter."""

    name = "tflite"
    api_version = 1
    prepare_version = 3
    formats: tuple[str, ...] = ("tflite", "keras", "savedmodel")
    runtime_packages: tuple[str, ...] = ("ai-edge-litert", "numpy")
    prepare_packages: tuple[str, ...] = (
        "ai-edge-quantizer",
        "ai-edge-litert",
        "numpy",
        *("tensorflow", "tensorflow-cpu", "keras"),  # of the TF converter
    )
    shareable: tuple[str, ...] = ()

    def probe(self) -> Ready | Unavailable:
        """Whether LiteRT's interpreter can be imported. It does not tell its instruction sets."""
        try:
            version = self.import_runtime()
        except ModuleNotFoundError as error:
            missing = (error.name or "").partition(".")[0]
            what = "ai-edge-litert" if missing == "ai_edge_litert" else f"Python module {missing}"
            return Unavailable(f"{what} is not installed", _PIP)
        except Exception as error:
            line = next(iter(str(error).splitlines()), type(error).__name__)
            return Unavailable(f"ai-edge-litert does not load: {line}", f"reinstall it: {_PIP}")
        return Ready(version, precisions={"cpu": _PRECISIONS}, missing={"cpu": _MISSING})

    def supports(self, model: Model, target: PrepareTarget) -> str | None:
        """None, or why not; see the contract."""
        if target.recipe == "shared":
            return "TFLite cannot read ONNX"
        if model.format not in self.formats:
            return f"the TFLite adapter takes .tflite files, not {model.format}"
        if target.device != "cpu":
            return f"LiteRT's Python package runs on the CPU, not on {target.device}"
        if target.precision not in _PRECISIONS:
            return _MISSING.get(target.precision, f"LiteRT has nothing like {target.precision}")
        return _quantizer_refuses(model.format, target.options) or _options_refuse(target)

    def import_runtime(self) -> str:
        """Import the interpreter and return the version of ai-edge-litert."""
        import ai_edge_litert.interpreter

        import qbench_tflite.program  # noqa: F401  (not while ``open`` is timed)

        return str(ai_edge_litert.__version__)

    def describe(self, path: Path) -> tuple[Mapping[str, TensorSpec], Mapping[str, TensorSpec]]:
        """Inputs and outputs of a TFLite file; see the contract."""
        from qbench_tflite.prepare import describe

        return describe(path)

    def prepare(
        self, model: Model, target: PrepareTarget, calibration: Calibration | None, out: Path
    ) -> Provenance:
        """Quantize, cast or copy the file; see ``qbench_tflite.prepare``."""
        from qbench_tflite.prepare import prepare

        return prepare(model, target, calibration, out)

    def open(self, artifact: Artifact, config: RunConfig, inspect: bool = False) -> TfliteProgram:
        """Load the file; ``inspect`` changes nothing, for LiteRT always tells its graph."""
        from qbench_tflite.program import TfliteProgram

        return TfliteProgram(artifact, config)

    def activations(
        self, artifact: Artifact, config: RunConfig, feeds: Iterable[Feed]
    ) -> Iterator[list[Activation]]:
        """Outputs of the layers; see ``qbench_tflite.activations``."""
        from qbench_tflite.activations import activations

        return activations(artifact, config, feeds)


def _quantizer_refuses(form: str, options: Mapping[str, Any]) -> str | None:
    """Why this source is not for the quantizer that the options name."""
    chosen = options.get("quantizer")
    if chosen == _TF_CONVERTER:
        if form == "tflite":
            return "the TF converter quantizes Keras and SavedModel sources"
        method = options.get("calibration_method", "minmax")
        if method != "minmax":
            return f"the TF converter takes ranges from the minimum and maximum, not by {method}"
        if options.get("excluded_operators"):
            return "the TF converter cannot leave operators out; ai-edge-quantizer can"
        return None
    if chosen not in (None, "ai-edge-quantizer"):
        return f"{chosen} makes no TFLite files; ai-edge-quantizer and {_TF_CONVERTER} do"
    if form != "tflite":
        return f"{form} is converted to tflite first"
    return None


def _options_refuse(target: PrepareTarget) -> str | None:
    options = target.options
    if options.get("calibration_method") == "entropy":
        return (
            "entropy calibration is defined for symmetric ranges, and LiteRT's int8 activations "
            "are asymmetric: take percentile or mse"
        )
    if options.get("preset") is not None:
        return "presets are NNCF's"
    if options.get("max_accuracy_drop") is not None:
        return "ai-edge-quantizer has no accuracy control"
    if options.get("group_size") not in (None, -1):
        return (
            "LiteRT expands stored weights with one scale per output channel, not one per group: "
            "take group_size -1"
        )
    return None
