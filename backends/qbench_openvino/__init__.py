"""qbench adapter for OpenVINO's CPU plugin.

Layout of an artifact::

    model.xml, model.bin   OpenVINO IR; weights as the precision stores them

``quantize``, ``accuracy`` and ``compress`` need NNCF and are imported by ``prepare`` alone;
``open`` and all that follows need NumPy and OpenVINO.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from qbench.kit.adapter import Ready, Unavailable, Unsupported
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
    from qbench_openvino.program import OpenVinoProgram

__all__ = ["Backend"]

_FIX = "pip install openvino nncf"
_MISSING = {
    "tf32": "tf32 is a format of NVIDIA's matrix units; this adapter runs on the CPU",
    "fp8": "OpenVINO's CPU plugin only stores fp8 and emulates its rounding: it computes in fp32",
    "int16x8": "OpenVINO's CPU plugin has no 16-bit integer operators: activations quantized to "
    "16 bits run in fp32",
    "int8-qat": "training needs the training code: a model that was trained so and exported with "
    "Q/DQ operators runs as as-shipped",
}


class Backend:
    """OpenVINO on the CPU. See ``qbench.kit.adapter.Backend``."""

    name = "openvino"
    api_version = 1
    prepare_version = 2
    formats: tuple[str, ...] = ("onnx", "tflite")
    runtime_packages: tuple[str, ...] = ("openvino", "numpy")
    prepare_packages: tuple[str, ...] = ("openvino", "nncf", "numpy")
    shareable: tuple[str, ...] = ()

    def probe(self) -> Ready | Unavailable:
        try:
            return self._probe()
        except ImportError as error:
            return Unavailable(f"OpenVINO cannot be imported: {error}", _FIX)
        except Exception as error:
            return Unavailable(f"OpenVINO's CPU plugin does not work: {error}", _FIX)

    def _probe(self) -> Ready:
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
        precisions = ["fp32", "w8", "w4", "as-shipped"]
        missing = dict(_MISSING)
        for precision, hint in (("bf16", "bf16"), ("fp16", "f16")):
            ran = applied_precision(openvino, core, hint)
            if ran == precision:
                precisions.append(precision)
            else:
                missing[precision] = f"OpenVINO computes {precision} in {ran} on this CPU"
        if "INT8" in able:
            precisions.append("int8-static")
        else:
            missing["int8-static"] = "OpenVINO does not compute int8 on this CPU"
        if has_dynamic_quantization(openvino, core):
            precisions.append("int8-dynamic")
        else:
            missing["int8-dynamic"] = (
                "OpenVINO accepts dynamic quantization on this CPU but does not apply it"
            )
        return Ready(
            version=openvino.__version__,
            precisions={"cpu": tuple(precisions)},
            missing={"cpu": missing},
            emulated={"cpu": tuple(p for p in precisions if is_emulated(p, able))},
            isa=" ".join(sorted(able & {"AMX", "BF16", "FP16", "FP32", "INT8"})),
        )

    def supports(self, model: Model, target: PrepareTarget) -> str | None:
        if target.device != "cpu":
            return f"this adapter runs OpenVINO on the cpu only, not on {target.device}"
        if target.recipe == "shared":
            return None if model.format == "onnx" else "a shared Q/DQ model is an ONNX file"
        options = target.options
        if options.get("calibration_method") == "entropy":
            return (
                "NNCF's range estimators know extremes, quantiles and the least squared error of a "
                "histogram (minmax, percentile, mse), but no entropy"
            )
        if options.get("quantizer") not in (None, "nncf"):
            return f"OpenVINO models are quantized by nncf, not by {options['quantizer']}"
        if target.precision == "int8-dynamic" and options.get("per_channel") is False:
            return "NNCF compresses weights with one scale per output channel only"
        if target.precision == "int8-dynamic" and options.get("all_operators"):
            return (
                "OpenVINO quantizes activations at run time only in matrix products, and takes "
                "all of them already"
            )
        if target.precision == "w8" and options.get("group_size") not in (None, -1):
            return "NNCF stores 8-bit weights with one scale per output channel: group_size -1"
        return None

    def import_runtime(self) -> str:
        import qbench_openvino.program  # noqa: F401  (not while ``open`` is timed)
        from qbench_openvino.runtime import import_openvino

        return import_openvino().__version__

    def describe(self, path: Path) -> tuple[Mapping[str, TensorSpec], Mapping[str, TensorSpec]]:
        from qbench_openvino.convert import describe

        return describe(path)

    def prepare(
        self, model: Model, target: PrepareTarget, calibration: Calibration | None, out: Path
    ) -> Provenance:
        from qbench_openvino.prepare import prepare

        return prepare(model, target, calibration, out)

    def open(self, artifact: Artifact, config: RunConfig, inspect: bool = False) -> OpenVinoProgram:
        from qbench_openvino.program import OpenVinoProgram
        from qbench_openvino.runtime import import_openvino

        if config.device != "cpu":
            raise Unsupported(f"this adapter runs OpenVINO on the cpu only, not on {config.device}")
        return OpenVinoProgram(import_openvino(), artifact, config, inspect)

    def activations(
        self, artifact: Artifact, config: RunConfig, feeds: Iterable[Feed]
    ) -> Iterator[list[Activation]]:
        from qbench_openvino.activations import activations
        from qbench_openvino.runtime import import_openvino

        return activations(import_openvino(), artifact, config, feeds)
