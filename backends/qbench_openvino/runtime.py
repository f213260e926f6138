"""Importing OpenVINO, and asking it what this machine's CPU can do."""

from __future__ import annotations

import sys
from typing import Any

DEVICE = "CPU"
"""OpenVINO's name of the only device that this adapter uses."""

WORDS = {
    "f32": "fp32",
    "f16": "fp16",
    "bf16": "bf16",
    "i8": "int8",
    "u8": "int8",
    "i4": "int4",
    "u4": "int4",
    "f64": "fp64",
}
"""OpenVINO's names of number formats in qbench's words."""


def import_openvino() -> Any:
    """The ``openvino`` package, imported without its telemetry.

    ``import openvino`` and ``import nncf`` start telemetry where ``openvino_telemetry`` is
    installed: it writes an identifier under the home folder and sends events over the network. Both
    packages work without that package, so it is made to look absent in this process. An
    environment variable (``CI=true``) would do too, but would reach every child process.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def capabilities(core: Any) -> set[str]:
    """What the CPU plugin says it computes here, such as ``{"BF16", "FP32", "INT8"}``."""
    return set(core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES"))


def has_dynamic_quantization(openvino: Any, core: Any) -> bool:
    """Whether the hint DYNAMIC_QUANTIZATION_GROUP_SIZE changes a result here.

    The plugin accepts the hint everywhere and ignores it in silence where the CPU has no VNNI
    instructions, so a matrix product of 1x64 by 64x16 is run with and without it.
    """
    import numpy as np

    ops = openvino.opset13
    rng = np.random.default_rng(0)
    source = ops.parameter([1, 64], np.float32)
    weights = ops.constant(rng.integers(-127, 128, (16, 64)).astype(np.int8))
    scale = ops.constant(np.full((16, 1), 0.01, np.float32))
    product = ops.matmul(source, ops.multiply(ops.convert(weights, "f32"), scale), False, True)
    model = openvino.Model([product], [source])
    feed = rng.standard_normal((1, 64)).astype(np.float32)
    results = []
    for group in (0, 32):
        settings = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": group}
        request = core.compile_model(model, DEVICE, settings).create_infer_request()
        request.infer([feed])
        results.append(np.array(request.get_output_tensor(0).data))
    return not np.array_equal(*results)


def shorten(error: BaseException) -> str:
    """The sentence of an OpenVINO error that a person can act on.

    OpenVINO's messages are stacks of ``Exception from file:line`` and ``Check ... failed at``
    lines around one sentence.
    """
    noise = ("Exception from", "Check '", "FrontEnd API failed", "[ONNX Frontend]", "While ")
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    useful = [line for line in lines if not line.startswith(noise)] or lines
    return " ".join(useful[:2])[:300] or type(error).__name__
