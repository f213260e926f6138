"""qbench adapter for ONNX Runtime's CPU and CUDA execution providers.

Files of an artifact::

    model.onnx   what ``open`` loads
    io.json      what ``open`` must know of it without the onnx package (``options.FileFacts``)

Importing this package imports nothing heavy. Groups of modules::

    session, options, tensors, effective     need NumPy and onnxruntime only: they measure
    gpu, cuda_stream                         the same, on CUDA devices only; gpu also probes
    prepare -> quantize, weight_only;        need onnx (``qbench.kit.onnxfile``), and are never
    activations                              imported while measuring
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qbench.kit.adapter import PrepareError, Ready, Unavailable, Unsupported
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
from qbench_onnxruntime.options import CPU_PROVIDER, GROUP_SIZES

if TYPE_CHECKING:
    from qbench_onnxruntime.session import OrtProgram

__all__ = ["Backend"]

FIX = "pip install onnxruntime onnx onnx-ir ml_dtypes"

_PRECISIONS = ("fp32", "fp16", "int8-dynamic", "int8-static", "w8", "w4", "as-shipped")
_MISSING = {
    "tf32": "tf32 is a format of NVIDIA's matrix units; the CPU provider computes in fp32",
    "bf16": "the CPU provider has no bfloat16 kernel for Conv or MatMul on x86, and elsewhere this "
    "adapter does not offer it yet",
    "fp8": "the CPU provider casts 8-bit floats, but has no kernel that computes in them",
    "int8-qat": "onnxruntime does not train; a model that was trained so arrives quantized: run it "
    "as-shipped",
    "int16x8": "the CPU provider has no kernel for 16-bit activations: it dequantizes them, and "
    "Conv and Gemm compute in float32",
}


def _refused_option(options: Mapping[str, Any]) -> str | None:
    """Why an option's value cannot be had, or None."""
    if (quantizer := options.get("quantizer")) not in (None, "onnxruntime"):
        return f"this adapter quantizes with onnxruntime, not with {quantizer}"
    if options.get("preset") is not None:
        return "ONNX Runtime's quantizer has no presets"
    if options.get("max_accuracy_drop") is not None:
        return "ONNX Runtime's quantizer has no accuracy control"
    group = options.get("group_size")
    if group not in (None, -1, *GROUP_SIZES):
        sizes = ", ".join(map(str, GROUP_SIZES))
        return f"MatMulNBits takes groups of {sizes} weights or whole columns (-1), not of {group}"
    return None


@contextmanager
def _needs_onnx() -> Iterator[None]:
    """A host that only measures has the runtime alone: say which package is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise PrepareError(f"the package '{error.name}' is not installed: {FIX}") from error


class Backend:
    """ONNX Runtime, on the processor and on CUDA devices. See ``qbench.kit.adapter.Backend``.

    The runtime is either of two distributions, which install the same package.
    """

    name = "onnxruntime"
    api_version = 1
    prepare_version = 2
    formats = ("onnx",)
    runtime_packages = ("onnxruntime", "onnxruntime-gpu", "numpy")
    prepare_packages = ("onnxruntime", "onnxruntime-gpu", "onnx", "onnx-ir", "numpy")
    shareable = ("int8-static",)

    def probe(self) -> Ready | Unavailable:
        try:
            version = self.import_runtime()
            import onnxruntime

            from qbench_onnxruntime import gpu

            providers = onnxruntime.get_available_providers()
        except ModuleNotFoundError as error:
            return Unavailable(f"the package '{error.name}' is not installed", FIX)
        except Exception as error:  # a broken wheel fails in many ways; all are answers
            return Unavailable(f"importing onnxruntime failed: {error}", FIX)
        if CPU_PROVIDER not in providers:
            return Unavailable(f"this build of onnxruntime has no {CPU_PROVIDER}", FIX)
        precisions, missing, devices = gpu.answer(onnxruntime)
        return Ready(
            version,
            {"cpu": _PRECISIONS, **precisions},
            {"cpu": _MISSING, **missing},
            devices=devices,
        )

    def supports(self, model: Model, target: PrepareTarget) -> str | None:
        if model.format not in self.formats:
            return f"onnxruntime reads onnx, not {model.format}"
        from qbench_onnxruntime import gpu

        offers = {"cpu": (_PRECISIONS, _MISSING), "cuda": (gpu.PRECISIONS, gpu.NEVER)}
        if target.device not in offers:
            return f"this adapter runs onnxruntime on cpu and cuda, not on {target.device}"
        precisions, reasons = offers[target.device]
        if target.precision not in precisions:
            return reasons.get(target.precision, "this adapter does not know it")
        return _refused_option(target.options)

    def import_runtime(self) -> str:
        import onnxruntime

        import qbench_onnxruntime.session  # noqa: F401  (not while ``open`` is timed)

        return onnxruntime.__version__

    def describe(self, path: Path) -> tuple[Mapping[str, TensorSpec], Mapping[str, TensorSpec]]:
        with _needs_onnx():
            from qbench.kit.onnxfile import graph
        return graph.describe(graph.load(path, weights=False))

    def prepare(
        self, model: Model, target: PrepareTarget, calibration: Calibration | None, out: Path
    ) -> Provenance:
        if reason := self.supports(model, target):
            raise Unsupported(reason)
        with _needs_onnx():
            from qbench_onnxruntime.prepare import prepare

            return prepare(model, target, calibration, out)

    def open(self, artifact: Artifact, config: RunConfig, inspect: bool = False) -> OrtProgram:
        from qbench_onnxruntime.session import OrtProgram

        return OrtProgram(artifact, config, inspect)

    def activations(
        self, artifact: Artifact, config: RunConfig, feeds: Iterable[Feed]
    ) -> Iterator[list[Activation]]:
        with _needs_onnx():
            from qbench_onnxruntime.activations import activations
        return activations(artifact, config, feeds)
