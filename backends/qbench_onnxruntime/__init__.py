"""qbench adapter for ONNX Runtime's CPU and CUDA execution providers.

Files of an artifact::

    model.onnx   the file that ``open`` loads
    io.json      its facts, so that ``open`` needs no onnx package (``options.FileFacts``)

Importing this package imports nothing heavy. Its modules::

    session, stream, options,          measure; need NumPy and onnxruntime
    tensors, effective
    gpu, cuda_stream                   the same, for CUDA devices only; gpu also probes
    prepare -> quantize, weight_only;  need onnx (``qbench.kit.onnxfile``); never imported
    activations                        while measuring
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
from qbench_onnxruntime.messages import MESSAGES
from qbench_onnxruntime.options import CPU_PROVIDER, GROUP_SIZES
from qbench_onnxruntime.precisions import CPU, CUDA_SINCE, NEVER_ON_CPU, NEVER_ON_CUDA

if TYPE_CHECKING:
    from qbench_onnxruntime.session import OrtProgram

__all__ = ["Backend"]


class Backend(Adapter):
    """ONNX Runtime on the CPU and on CUDA devices.

    Two distributions install its package: onnxruntime and onnxruntime-gpu.
    """

    name = "onnxruntime"
    api_version = 2
    prepare_version = 3
    formats = ("onnx",)
    precisions = {"cpu": CPU, "cuda": tuple(CUDA_SINCE)}
    missing = {"cpu": NEVER_ON_CPU, "cuda": NEVER_ON_CUDA}
    options = {
        "all_operators": None,
        "calibration_items": None,
        "calibration_method": None,
        "excluded_operators": None,
        "group_size": Only(
            (-1, *GROUP_SIZES),
            f"MatMulNBits takes groups of {', '.join(map(str, GROUP_SIZES))} weights or whole "
            "columns (-1), not of {value}",
        ),
        "per_channel": None,
        "quantizer": Only(
            ("onnxruntime",), "this adapter quantizes with onnxruntime, not with {value}"
        ),
    }
    modules = ("onnxruntime", "qbench_onnxruntime.session")
    fix = "pip install onnxruntime onnx onnx-ir"
    messages = MESSAGES
    runtime_packages = ("onnxruntime", "onnxruntime-gpu", "numpy")
    prepare_packages = ("onnxruntime", "onnxruntime-gpu", "onnx", "onnx-ir", "numpy")
    shareable = ("int8-static",)
    feeds_back = True

    def probe(self) -> Ready | Unavailable:
        version = self.try_import()
        if isinstance(version, Unavailable):
            return version
        import onnxruntime

        from qbench_onnxruntime import gpu

        if CPU_PROVIDER not in onnxruntime.get_available_providers():
            return Unavailable(f"this build of onnxruntime has no {CPU_PROVIDER}", self.fix)
        precisions, missing, devices = gpu.examine_devices(onnxruntime)
        return Ready(
            version,
            {"cpu": CPU, **precisions},
            {"cpu": NEVER_ON_CPU, **missing},
            devices=devices,
        )

    def supports(self, model: Model, target: PrepareTarget) -> str | None:
        if model.states and target.device == "cuda":
            return "onnxruntime feeds states back on the cpu only, not on cuda"
        return super().supports(model, target)

    def describe(self, path: Path) -> Description:
        with needs_packages(self.fix):
            from qbench.kit.onnxfile.describe import describe
            from qbench.kit.onnxfile.graph import load
        return describe(load(path, weights=False))

    def prepare(
        self, model: Model, target: PrepareTarget, calibration: Calibration | None, out: Path
    ) -> Provenance:
        with needs_packages(self.fix):
            from qbench_onnxruntime.prepare import prepare

            return prepare(model, target, calibration, out)

    def open(self, artifact: Artifact, config: RunConfig, inspect: bool = False) -> OrtProgram:
        from qbench_onnxruntime.session import OrtProgram

        return OrtProgram(artifact, config, inspect)

    def activations(
        self, artifact: Artifact, config: RunConfig, feeds: Iterable[Feed]
    ) -> Iterator[list[Activation]]:
        with needs_packages(self.fix):
            from qbench_onnxruntime.activations import activations
        return activations(artifact, config, feeds)
