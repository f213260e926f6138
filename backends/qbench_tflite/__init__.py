"""qbench's adapter for TFLite models on LiteRT (``ai-edge-litert``), on the CPU with XNNPACK.

``prepare.py`` and ``signature.py`` make artifacts; ``program.py`` runs them and imports nothing
but NumPy and the runtime; ``graph.py`` reads back what an opened graph consists of.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from qbench.backend import (
    Artifact,
    Calibration,
    Model,
    PrepareTarget,
    Provenance,
    Ready,
    RunConfig,
    TensorSpec,
    Unavailable,
)

if TYPE_CHECKING:
    from qbench_tflite.program import TfliteProgram

_PIP = "pip install 'qbench[tflite]'"
_NOT_YET = "this adapter does not offer it yet"
_PRECISIONS = ("fp32", "fp16", "int8-dynamic", "int8-static", "as-shipped")
_MISSING = {
    "tf32": "TF32 is a format of NVIDIA GPUs",
    "bf16": _NOT_YET,
    "fp8": _NOT_YET,
    "int8-qat": _NOT_YET,
    "int16x8": _NOT_YET,
    "w8": _NOT_YET,
    "w4": _NOT_YET,
}


class Backend:
    """TFLite files on LiteRT's interpreter."""

    name = "tflite"
    api_version = 1
    prepare_version = 1
    formats: tuple[str, ...] = ("tflite",)
    runtime_packages: tuple[str, ...] = ("ai-edge-litert", "numpy")
    prepare_packages: tuple[str, ...] = ("ai-edge-quantizer", "ai-edge-litert", "numpy")

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
        if model.format not in self.formats:
            return f"the TFLite adapter takes .tflite files, not {model.format}"
        if target.device != "cpu":
            return f"LiteRT's Python package runs on the CPU, not on {target.device}"
        if target.precision not in _PRECISIONS:
            return _MISSING.get(target.precision, _NOT_YET)
        method = target.options.get("calibration_method", "minmax")
        if method != "minmax":
            return f"ai-edge-quantizer takes ranges from the minimum and maximum, not by {method}"
        return None

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
