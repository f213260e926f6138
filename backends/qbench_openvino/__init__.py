"""qbench adapter for OpenVINO's CPU plugin.

Files of an artifact::

    model.xml, model.bin   OpenVINO IR; weights as the precision stores them

``prepare`` alone imports NNCF (``quantize``, ``accuracy``, ``compress``, ``nncf``); ``open`` and
everything after it need NumPy and OpenVINO.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from qbench.kit.adapter import Adapter, Description, Only, Ready, Unavailable
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
from qbench.kit.reasons import sentence
from qbench_openvino.messages import MESSAGES

if TYPE_CHECKING:
    from qbench_openvino.program import OpenVinoProgram

__all__ = ["Backend"]

_MISSING = {
    "tf32": "tf32 is a format of NVIDIA's matrix units; this adapter runs on the CPU",
    "fp8": "OpenVINO's CPU plugin only stores fp8 and emulates its rounding: it computes in fp32",
    "int16x8": "OpenVINO's CPU plugin has no 16-bit integer operators: activations quantized to "
    "16 bits run in fp32",
    "int8-qat": "training needs the training code: a model from quantization-aware training, "
    "exported with Q/DQ operators, runs as as-shipped",
}


class Backend(Adapter):
    """OpenVINO on the CPU."""

    name = "openvino"
    api_version = 2
    prepare_version = 3
    formats = ("onnx", "tflite")
    precisions = {
        "cpu": ("fp32", "bf16", "fp16", "int8-static", "int8-dynamic", "w8", "w4", "as-shipped")
    }
    missing = {"cpu": _MISSING}
    options = {
        "accuracy_control_minutes": None,
        "calibration_items": None,
        "calibration_method": Only(
            ("minmax", "percentile", "mse"),
            "NNCF's range estimators use extremes, quantiles and the squared error of a histogram "
            "(minmax, percentile, mse), not {value}",
        ),
        "excluded_operators": None,
        "group_size": None,
        "w8.group_size": Only(
            (-1,), "NNCF stores 8-bit weights with one scale per output channel: group_size -1"
        ),
        "int8-dynamic.all_operators": Only(
            (),
            "OpenVINO quantizes activations at run time in all matrix products, and nowhere else",
        ),
        "int8-dynamic.per_channel": Only(
            (), "NNCF compresses weights with one scale per output channel only"
        ),
        "max_accuracy_drop": None,
        "per_channel": None,
        "preset": None,
        "quantizer": Only(("nncf",), "OpenVINO models are quantized by nncf, not by {value}"),
    }
    feeds_back = True
    modules = ("openvino", "qbench_openvino.program")
    fix = "pip install openvino nncf"
    messages = MESSAGES
    runtime_packages = ("openvino", "numpy")
    prepare_packages = ("openvino", "nncf", "numpy")

    def probe(self) -> Ready | Unavailable:
        version = self.try_import()
        if isinstance(version, Unavailable):
            return version
        try:
            return self._examine(version)
        except Exception as error:  # a damaged installation fails in many ways
            return Unavailable(f"OpenVINO's CPU plugin does not work: {sentence(error)}", self.fix)

    def _examine(self, version: str) -> Ready:
        from qbench_openvino.runtime import (
            applied_precision,
            capabilities,
            has_dynamic_quantization,
            import_openvino,
            is_emulated,
        )

        openvino = import_openvino()
        core = openvino.Core()
        able = capabilities(core)
        missing = dict(_MISSING)
        for precision, hint in (("bf16", "bf16"), ("fp16", "f16")):
            applied = applied_precision(openvino, core, hint)
            if applied != precision:
                missing[precision] = f"OpenVINO computes {precision} in {applied} on this CPU"
        if "INT8" not in able:
            missing["int8-static"] = "OpenVINO does not compute int8 on this CPU"
        if not has_dynamic_quantization(openvino, core):
            missing["int8-dynamic"] = (
                "OpenVINO accepts dynamic quantization on this CPU but does not apply it"
            )
        offered = tuple(name for name in self.precisions["cpu"] if name not in missing)
        return Ready(
            version,
            {"cpu": offered},
            {"cpu": missing},
            emulated={"cpu": tuple(p for p in offered if is_emulated(p, able))},
            isa=" ".join(sorted(able & {"AMX", "BF16", "FP16", "FP32", "INT8"})),
        )

    def import_runtime(self) -> str:
        from qbench_openvino.runtime import import_openvino

        import_openvino()  # without its telemetry
        return super().import_runtime()

    def describe(self, path: Path) -> Description:
        from qbench_openvino.convert import describe

        return describe(path)

    def prepare(
        self, model: Model, target: PrepareTarget, calibration: Calibration | None, out: Path
    ) -> Provenance:
        from qbench_openvino.prepare import prepare

        return prepare(model, target, calibration, out)

    def open(self, artifact: Artifact, config: RunConfig, inspect: bool = False) -> OpenVinoProgram:
        from qbench_openvino.program import OpenVinoProgram

        return OpenVinoProgram(artifact, config, inspect)

    def activations(
        self, artifact: Artifact, config: RunConfig, feeds: Iterable[Feed]
    ) -> Iterator[list[Activation]]:
        from qbench_openvino.activations import activations

        return activations(artifact, config, feeds)
