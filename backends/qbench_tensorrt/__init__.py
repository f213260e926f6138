"""qbench adapter for NVIDIA's TensorRT 10 and 11.

It makes two artifacts. The prepared one is portable, and needs neither a GPU nor TensorRT::

    model.onnx    at its precision: floating-point types by conversion, integers as Q/DQ
    io.json       names, dtypes, shapes and batch axis of inputs and outputs

The compiled one runs on one kind of GPU, at one batch size::

    model.engine  TensorRT's plan
    io.json       as above
    layers.json   the engine inspector's description of its layers
    nodes.json    kinds and work of the ONNX nodes in the layers

Importing this package imports nothing heavy. Its modules::

    probe, capability                  standard library; abilities of a GPU and its driver
    prepare -> quantize, convert,      need onnx and onnxruntime
    modelopt, rules
    build, source, activations         need onnx, tensorrt and a GPU
    session -> stream, memory,         measure; need NumPy, tensorrt and cuda.bindings
    inspect, profile
    options, log                       shared by both
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from qbench.kit.adapter import Adapter, Description, Only, Ready, Unavailable, needs_packages
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
from qbench_tensorrt.capability import NEVER, PRECISIONS

if TYPE_CHECKING:
    from qbench_tensorrt.session import TrtProgram

__all__ = ["Backend"]

TOOLS = "pip install onnx onnxruntime ml_dtypes"


class Backend(Adapter):
    """TensorRT on CUDA devices."""

    name = "tensorrt"
    api_version = 2
    formats = ("onnx",)
    precisions = {"cuda": PRECISIONS}
    missing = {"cuda": NEVER}
    options = {
        "calibration_items": None,
        "calibration_method": None,
        "excluded_operators": None,
        "group_size": None,
        "per_channel": None,
        "quantizer": Only(
            ("onnxruntime",), "this adapter quantizes int8 with onnxruntime, not with {value}"
        ),
    }
    modules = ("tensorrt", "qbench_tensorrt.session")
    runtime_packages = ("tensorrt", "tensorrt-cu12", "tensorrt-cu13", "cuda-bindings", "numpy")
    prepare_packages = (
        *("onnx", "onnx-ir", "onnxruntime", "ml-dtypes", "numpy"),
        "nvidia-modelopt",
    )
    # its scales are float16, which ONNX Runtime computes wrongly, so nothing is shareable

    def probe(self) -> Ready | Unavailable:
        from qbench_tensorrt.probe import probe

        return probe()

    def import_tools(self) -> str:
        with needs_packages(TOOLS):
            import onnx

            import qbench_tensorrt.prepare  # noqa: F401

        return f"onnx {onnx.__version__}"

    def describe(self, path: Path) -> Description:
        with needs_packages(TOOLS):
            from qbench.kit.onnxfile.describe import describe
            from qbench.kit.onnxfile.graph import load

        return describe(load(path, weights=False))

    def prepare(
        self, model: Model, target: PrepareTarget, calibration: Calibration | None, out: Path
    ) -> Provenance:
        with needs_packages(TOOLS):
            from qbench_tensorrt.prepare import prepare

            return prepare(model, target, calibration, out)

    def compile(self, artifact: Artifact, config: RunConfig, kept: Path, out: Path) -> Provenance:
        with needs_packages(TOOLS):
            from qbench_tensorrt.build import compile_engine

            return compile_engine(artifact, config, kept, out)

    def open(self, artifact: Artifact, config: RunConfig, inspect: bool = False) -> TrtProgram:
        from qbench_tensorrt.session import TrtProgram

        return TrtProgram(artifact, config)  # every engine can be inspected

    def activations(
        self, artifact: Artifact, config: RunConfig, feeds: Iterable[Feed]
    ) -> Iterator[list[Activation]]:
        with needs_packages(TOOLS):
            from qbench_tensorrt.activations import activations

        return activations(artifact, config, feeds)
