"""Import OpenVINO, and query the abilities of this machine's CPU."""

from __future__ import annotations

import sys
from typing import Any

DEVICE = "CPU"
"""OpenVINO's name for the only device that this adapter uses."""

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
"""qbench's names for OpenVINO's number formats."""


def import_openvino() -> Any:
    """The ``openvino`` package, without its telemetry.

    ``import openvino`` and ``import nncf`` start telemetry if ``openvino_telemetry`` is installed:
    it writes an identifier under the home folder and sends events over the network. Both packages
    work without it, so this process hides it. An environment variable (``CI=true``) would also
    work, but child processes would inherit it.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def capabilities(core: Any) -> set[str]:
    """Number formats that this processor has instructions for, according to the CPU plugin, such as
    ``{"BF16", "FP32", "INT8"}``.

    The plugin also computes formats that it does not list: it follows the hint bf16 on every
    processor with AVX-512, and emulates bf16 with float32 instructions if ``BF16`` is not listed.
    """
    return set(core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES"))


def is_emulated(word: str, able: set[str]) -> bool:
    """Whether operators in ``word`` (``bf16``, ``fp16``) are emulated on a processor with the
    capabilities ``able``."""
    return word in ("bf16", "fp16") and word.upper() not in able


def applied_precision(openvino: Any, core: Any, hint: str) -> str:
    """The precision of a convolution with ``hint`` as INFERENCE_PRECISION_HINT, read from the
    execution graph. The plugin silently ignores a hint that it cannot follow."""
    import numpy as np

    ops = openvino.opset13
    source = ops.parameter([1, 16, 8, 8], np.float32)
    weights = ops.constant(np.ones((16, 16, 3, 3), np.float32))
    product = ops.convolution(source, weights, [1, 1], [1, 1], [1, 1], [1, 1])
    settings = {"INFERENCE_PRECISION_HINT": hint}
    compiled = core.compile_model(openvino.Model([product], [source]), DEVICE, settings)
    (node,) = (
        node
        for node in compiled.get_runtime_model().get_ordered_ops()
        if read_info(node, "layerType") == "Convolution"
    )
    return node_precision(node)


def read_info(node: Any, key: str) -> str:
    """An entry of the execution graph's record of ``node``; "" if it has none."""
    info = node.get_rt_info()
    return info[key].astype(str) if key in info else ""


def node_precision(node: Any, dynamic: bool = False) -> str:
    """The number format that ``node`` of an execution graph computes in, by qbench's name if it has
    one.

    ``runtimePrecision`` of an operator with compressed weights is their type, even if it multiplies
    in float32, so the ending of the implementation's name decides: ``brgemm_avx512_f32``. A
    compiled subgraph (attention) is named after its first input. With activations quantized at run
    time (``dynamic``, verified separately) the name says f32 too.
    """
    own = read_info(node, "runtimePrecision")
    if dynamic:
        return WORDS.get(own, own)
    ending = read_info(node, "primitiveType").rpartition("_")[2].lower()
    return WORDS.get(ending) or WORDS.get(own, own)


def has_dynamic_quantization(openvino: Any, core: Any) -> bool:
    """Whether the setting DYNAMIC_QUANTIZATION_GROUP_SIZE changes a result on this CPU.

    The plugin accepts the setting everywhere and silently ignores it on CPUs without VNNI, so a
    matrix product of 1x64 by 64x16 is run with and without it.
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
