"""What really runs, read from the plugin's execution graph (``get_runtime_model``)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from qbench.backend import EffectivePrecision, Unsupported
from qbench_openvino.runtime import WORDS

if TYPE_CHECKING:
    from qbench_openvino.program import OpenVinoProgram

_COMPUTING = {
    "Convolution",
    "Deconvolution",
    "DeformableConvolution",
    "FullyConnected",
    "LLMMLP",
    "LSTMCell",
    "LSTMSequence",
    "MatMul",
    "MHA",
    "QKVProjection",
    "RNNCell",
    "RNNSeq",
    "ScaledDotProductAttention",
}
_NOT_COMPUTING = {"Const", "Input", "Output"}


def read_back(program: OpenVinoProgram, twin: Callable[..., Any]) -> EffectivePrecision:
    """The precision of each computing operator of ``program``.

    Args:
        twin: compiles the same model with changed settings.

    Raises:
        Unsupported: floating point of another precision runs than the one asked for, or
            activations are not quantized at run time though they should be.
    """
    asked = program.artifact.target.precision
    graph = list(program.compiled.get_runtime_model().get_ops())
    computing = [op for op in graph if _info(op, "layerType") in _COMPUTING]
    computing = computing or [op for op in graph if _info(op, "layerType") not in _NOT_COMPUTING]
    dynamic = asked == "int8-dynamic"
    if dynamic and not _differs(program, twin(DYNAMIC_QUANTIZATION_GROUP_SIZE=0)):
        raise Unsupported(
            "OpenVINO did not quantize activations: outputs are the same with dynamic "
            "quantization switched off"
        )
    counts: Counter[str] = Counter(_precision(op, dynamic) for op in computing)
    if dynamic:
        # Products narrower than the group have int8 weights too, but multiply in float32.
        narrow = max(0, counts["int8"] - (program.artifact.provenance.quantized_ops or 0))
        counts.update({"int8": -narrow, "fp32": narrow})
    counts = +counts
    precision = counts.most_common(1)[0][0] if counts else "fp32"
    if asked in ("fp32", "fp16", "bf16") and precision != asked:
        raise Unsupported(f"{asked} was asked for, but OpenVINO reads back {precision}")
    notes = [f"{name}={program.settings[name]}" for name in _NOTED if name in program.settings]
    reference = sum(_info(op, "primitiveType").startswith("ref") for op in computing)
    return EffectivePrecision(precision, dict(counts), reference, ("; ".join(notes),))


_NOTED = (
    "INFERENCE_PRECISION_HINT",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE",
    "INFERENCE_NUM_THREADS",
    "NUM_STREAMS",
    "ENABLE_CPU_PINNING",
    "PERFORMANCE_HINT",
)


def _info(op: Any, key: str) -> str:
    info = op.get_rt_info()
    return info[key].astype(str) if key in info else ""


def _precision(op: Any, dynamic: bool) -> str:
    """The format that ``op`` computes in.

    An operator with compressed int8 weights reads back i8 even if it multiplies in float32. Its
    input tells: int8 where activations are quantized ahead. Where they are quantized at run time
    (``dynamic``, which is proved apart) the input is float32 as well.
    """
    own = _word(_info(op, "runtimePrecision"))
    if own != "int8" or dynamic:
        return own
    source = op.input_value(0)
    precisions = _info(source.get_node(), "outputPrecisions").split(",")
    given = precisions[min(source.get_index(), len(precisions) - 1)]
    return _word(given)


def _word(name: str) -> str:
    return WORDS.get(name, name)


def _differs(program: OpenVinoProgram, other: Any) -> bool:
    """Whether the two compiled models give different outputs for the same random inputs."""
    rng = np.random.default_rng(0)
    feed = {}
    for index, port in enumerate(program.compiled.inputs):
        shape = [d.get_length() if d.is_static else 16 for d in port.get_partial_shape()]
        dtype = port.get_element_type().to_dtype()
        real = np.dtype(dtype).kind == "f"
        feed[index] = (rng.random(shape) if real else rng.integers(0, 2, shape)).astype(dtype)
    results = []
    for compiled in (program.compiled, other):
        request = compiled.create_infer_request()
        request.infer(feed)
        results.append([np.array(t.data) for t in request.output_tensors])
    return any(not np.array_equal(a, b) for a, b in zip(*results, strict=True))
