"""qbench adapter for TFLite models on LiteRT (``ai-edge-litert``), on the CPU with XNNPACK.

``program.py`` runs artifacts, and imports nothing except NumPy and the runtime. ``graph.py`` and
``activations.py`` read back an opened graph. ``prepare.py`` makes artifacts: with ai-edge-quantizer
(``quantizer.py``, ``ranges.py``, ``signature.py``), or with TensorFlow's converter
(``converter.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qbench.kit.adapter import Adapter, Description, Only
from qbench.kit.model import (
    Artifact,
    Calibration,
    Feed,
    Model,
    PrepareTarget,
    Provenance,
    RunConfig,
)
from qbench.kit.operators import Activation
from qbench_tflite.messages import MESSAGES

if TYPE_CHECKING:
    from qbench_tflite.program import TfliteProgram

__all__ = ["Backend"]

_TF_CONVERTER = "tf-converter"


class Backend(Adapter):
    """TFLite files on LiteRT's interpreter."""

    name = "tflite"
    api_version = 2
    feeds_back = True
    prepare_version = 4
    formats = ("tflite", "keras", "savedmodel")
    precisions = {
        "cpu": (
            *("fp32", "fp16", "int8-dynamic", "int8-static", "int16x8", "w8", "w4", "as-shipped"),
        )
    }
    missing = {
        "cpu": {
            "tf32": "TF32 is a format of NVIDIA GPUs",
            "bf16": "LiteRT's CPU kernels do not compute in bfloat16, and ai-edge-quantizer casts "
            "to float16 only",
            "fp8": "LiteRT's CPU kernels do not compute in 8-bit floats",
            "int8-qat": "LiteRT does not train: convert the trained model to TFLite and run it "
            "as-shipped",
        }
    }
    options = {
        "all_operators": None,
        "calibration_items": None,
        "calibration_method": Only(
            ("minmax", "percentile", "mse"),
            "{value} calibration is defined for symmetric ranges, and LiteRT's int8 activations "
            "are asymmetric: use percentile or mse",
        ),
        "excluded_operators": None,
        "group_size": Only(
            (-1,),
            "LiteRT unpacks stored weights with one scale per output channel, not one per group: "
            "use group_size -1",
        ),
        "int8-dynamic.per_channel": Only(
            (),
            "ai-edge-quantizer gives the weights of int8-dynamic one scale per output channel, "
            "whatever is asked",
        ),
        "per_channel": None,
        "quantizer": Only(
            ("ai-edge-quantizer", _TF_CONVERTER),
            f"{{value}} makes no TFLite files; ai-edge-quantizer and {_TF_CONVERTER} do",
        ),
    }
    modules = ("ai_edge_litert.interpreter", "qbench_tflite.program")
    fix = "pip install ai-edge-litert ai-edge-quantizer"
    messages = MESSAGES
    runtime_packages = ("ai-edge-litert", "numpy")
    prepare_packages = (
        *("ai-edge-quantizer", "ai-edge-litert", "numpy"),
        *("tensorflow", "tensorflow-cpu", "keras"),  # of the TF converter
    )

    def supports(self, model: Model, target: PrepareTarget) -> str | None:
        refusal = super().supports(model, target)
        return refusal or _quantizer_refuses(model.format, target.options)

    def describe(self, path: Path) -> Description:
        from qbench_tflite.prepare import describe

        return describe(path)

    def extract(self, path: Path, signature: str, out: Path) -> None:
        from qbench_tflite.prepare import extract

        extract(path, signature, out)

    def prepare(
        self, model: Model, target: PrepareTarget, calibration: Calibration | None, out: Path
    ) -> Provenance:
        from qbench_tflite.prepare import prepare

        return prepare(model, target, calibration, out)

    def open(self, artifact: Artifact, config: RunConfig, inspect: bool = False) -> TfliteProgram:
        from qbench_tflite.program import TfliteProgram

        return TfliteProgram(artifact, config)  # every graph can be inspected

    def activations(
        self, artifact: Artifact, config: RunConfig, feeds: Iterable[Feed]
    ) -> Iterator[list[Activation]]:
        from qbench_tflite.activations import activations

        return activations(artifact, config, feeds)


def _quantizer_refuses(form: str, options: Mapping[str, Any]) -> str | None:
    """Reason why a source of this format does not fit the chosen quantizer, or None."""
    if options.get("quantizer") != _TF_CONVERTER:
        return None if form == "tflite" else f"{form} is converted to tflite first"
    if form == "tflite":
        return "the TF converter quantizes Keras and SavedModel sources"
    method = options.get("calibration_method", "minmax")
    if method != "minmax":
        return f"the TF converter uses ranges from minimum to maximum, not by {method}"
    if options.get("excluded_operators"):
        return "the TF converter cannot exclude operators; ai-edge-quantizer can"
    return None
