"""qbench's adapter for NVIDIA's TensorRT 10 and 11.

Two artifacts. The prepared one is portable, and made without a GPU and without TensorRT::

    model.onnx    at its precision: float types by conversion, integers as Q/DQ
    io.json       names, dtypes, shapes and batch axis of inputs and outputs

The compiled one runs on one kind of GPU, at one batch size::

    model.engine  TensorRT's plan
    io.json       as above
    layers.json   what the builder made of it, as the engine inspector tells it
    nodes.json    kinds and work of the ONNX nodes that the layers are made of

Importing this package imports nothing heavy. Groups of modules::

    probe, capability                     the standard library; what a GPU and its driver can do
    prepare -> quantize, convert,         need onnx and onnxruntime
    modelopt, rules
    build, source, activations            need onnx, tensorrt, and a GPU
    session -> memory, inspect, profile   need NumPy, tensorrt and cuda.bindings: they measure
    options, log                          shared by both
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

if TYPE_CHECKING:
    from qbench_tensorrt.session import TrtProgram

__all__ = ["Backend"]

TOOLS = "pip install onnx onnxruntime ml_dtypes"


class Backend:
    """TensorRT. See ``qbench.kit.adapter.Backend``."""

    name = "tensorrt"
    api_version = 1
    prepare_version = 1
    formats: tuple[str, ...] = ("onnx",)
    runtime_packages = ("tensorrt", "tensorrt-cu12", "tensorrt-cu13", "cuda-bindings", "numpy")
    prepare_packages = (
        *("onnx", "onnx-ir", "onnxruntime", "ml-dtypes", "numpy"),
        "nvidia-modelopt",
    )
    shareable: tuple[str, ...] = ()  # its scales are float16, which ONNX Runtime gets wrong

    def probe(self) -> Ready | Unavailable:
        from qbench_tensorrt.probe import probe

        return probe()

    def supports(self, model: Model, target: PrepareTarget) -> str | None:
        from qbench_tensorrt import capability

        if target.device != "cuda":
            return f"TensorRT runs on cuda, not on the {target.device}"
        if model.format not in self.formats:
            return f"TensorRT reads onnx, not {model.format}"
        if target.precision not in capability.PRECISIONS:
            return capability.NEVER.get(target.precision, "this adapter does not know it")
        return _refused_option(target.options)

    def import_runtime(self) -> str:
        import tensorrt  # pyright: ignore[reportMissingImports]

        import qbench_tensorrt.session  # noqa: F401  (not while ``open`` is timed)

        return tensorrt.__version__

    def import_tools(self) -> str:
        with _needs_tools():
            import onnx

            import qbench_tensorrt.prepare  # noqa: F401

        return f"onnx {onnx.__version__}"

    def describe(self, path: Path) -> tuple[Mapping[str, TensorSpec], Mapping[str, TensorSpec]]:
        with _needs_tools():
            from qbench_tensorrt.prepare import describe

        return describe(path)

    def prepare(
        self, model: Model, target: PrepareTarget, calibration: Calibration | None, out: Path
    ) -> Provenance:
        if reason := self.supports(model, target):
            raise Unsupported(reason)
        with _needs_tools():
            from qbench_tensorrt.prepare import prepare

            return prepare(model, target, calibration, out)

    def compile(self, artifact: Artifact, config: RunConfig, kept: Path, out: Path) -> Provenance:
        with _needs_tools():
            from qbench_tensorrt.build import compile_engine

            return compile_engine(artifact, config, kept, out)

    def open(self, artifact: Artifact, config: RunConfig, inspect: bool = False) -> TrtProgram:
        from qbench_tensorrt.session import TrtProgram

        return TrtProgram(artifact, config)  # an engine can always be inspected

    def activations(
        self, artifact: Artifact, config: RunConfig, feeds: Iterable[Feed]
    ) -> Iterator[list[Activation]]:
        with _needs_tools():
            from qbench_tensorrt.activations import activations

        return activations(artifact, config, feeds)


def _refused_option(options: Mapping[str, Any]) -> str | None:
    """Why an option's value cannot be had, or None."""
    if (quantizer := options.get("quantizer")) not in (None, "onnxruntime"):
        return f"this adapter quantizes int8 with onnxruntime, not with {quantizer}"
    if options.get("preset") is not None:
        return "ONNX Runtime's quantizer has no presets"
    if options.get("max_accuracy_drop") is not None:
        return "ONNX Runtime's quantizer has no accuracy control"
    return None


@contextmanager
def _needs_tools() -> Iterator[None]:
    """A host that only measures has the runtime alone: say what is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise PrepareError(f"the package '{error.name}' is not installed: {TOOLS}") from error
