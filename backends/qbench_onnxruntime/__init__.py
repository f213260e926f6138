"""qbench adapter for ONNX Runtime's CPU execution provider.

Files of an artifact::

    model.onnx   what ``open`` loads
    io.json      what ``open`` must know of it without the onnx package (``options.FileFacts``)

Importing this package imports nothing heavy.
``session``, ``options``, ``tensors`` and ``effective`` need NumPy and
onnxruntime only; ``prepare`` and ``graph`` need onnx and are never imported while measuring.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from qbench.backend import (
    Artifact,
    Calibration,
    Model,
    PrepareError,
    PrepareTarget,
    Provenance,
    Ready,
    RunConfig,
    TensorSpec,
    Unavailable,
    Unsupported,
)

if TYPE_CHECKING:
    from qbench_onnxruntime.session import OrtProgram

__all__ = ["Backend"]

FIX = "pip install 'qbench[onnxruntime]'"
PROVIDER = "CPUExecutionProvider"
_PRECISIONS = ("fp32", "fp16", "int8-dynamic", "int8-static", "as-shipped")
_OFFERED_NOT = "this adapter does not offer it yet"
_MISSING = {
    "tf32": "tf32 is a format of NVIDIA's matrix units; the CPU provider computes in fp32",
    "bf16": "the CPU provider has no bfloat16 kernel for Conv or MatMul on x86, and elsewhere "
    + _OFFERED_NOT,
    "fp8": _OFFERED_NOT,
    "int8-qat": f"{_OFFERED_NOT}; a model that was trained so runs as as-shipped",
    "int16x8": _OFFERED_NOT,
    "w8": _OFFERED_NOT,
    "w4": _OFFERED_NOT,
}


def _other_device(device: str) -> str | None:
    """Why ``device`` cannot be used, or None."""
    if device == "cpu":
        return None
    return f"this adapter runs onnxruntime on the cpu only, not on {device}: {_OFFERED_NOT}"


@contextmanager
def _needs_onnx() -> Iterator[None]:
    """A host that only measures has the runtime alone: say which package is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise PrepareError(f"the package '{error.name}' is not installed: {FIX}") from error


class Backend:
    """ONNX Runtime, CPU execution provider. See ``qbench.backend.Backend``."""

    name = "onnxruntime"
    api_version = 1
    prepare_version = 1
    formats = ("onnx",)
    runtime_packages = ("onnxruntime", "numpy")
    prepare_packages = ("onnxruntime", "onnx", "numpy")

    def probe(self) -> Ready | Unavailable:
        try:
            version = self.import_runtime()
            import onnxruntime

            providers = onnxruntime.get_available_providers()
        except ModuleNotFoundError as error:
            return Unavailable(f"the package '{error.name}' is not installed", FIX)
        except Exception as error:  # a broken wheel fails in many ways; all are answers
            return Unavailable(f"importing onnxruntime failed: {error}", FIX)
        if PROVIDER not in providers:
            return Unavailable(f"this build of onnxruntime has no {PROVIDER}", FIX)
        return Ready(version, {"cpu": _PRECISIONS}, {"cpu": _MISSING})

    def supports(self, model: Model, target: PrepareTarget) -> str | None:
        if reason := _other_device(target.device):
            return reason
        if model.format not in self.formats:
            return f"onnxruntime reads onnx, not {model.format}"
        if target.precision not in _PRECISIONS:
            return _MISSING.get(target.precision, _OFFERED_NOT)
        return None

    def import_runtime(self) -> str:
        import onnxruntime

        import qbench_onnxruntime.session  # noqa: F401  (not while ``open`` is timed)

        return onnxruntime.__version__

    def describe(self, path: Path) -> tuple[Mapping[str, TensorSpec], Mapping[str, TensorSpec]]:
        with _needs_onnx():
            from qbench_onnxruntime import graph
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
        if reason := _other_device(config.device):
            raise Unsupported(reason)
        from qbench_onnxruntime.session import OrtProgram

        return OrtProgram(artifact, config, inspect)
