"""Read back operators and precision from the plugin's execution graph (``get_runtime_model``)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any, NamedTuple

import numpy as np

from qbench.kit.adapter import Unsupported
from qbench.kit.operators import EFFECTIVE, EffectivePrecision, Operator, Profile
from qbench.kit.requested import RunningWeights
from qbench_openvino.graph import (
    bias_of,
    bits_of,
    depth,
    macs,
    products,
    quantized,
    scales_of,
)
from qbench_openvino.runtime import (
    capabilities,
    import_openvino,
    is_emulated,
    node_precision,
    read_info,
)

_COMPUTING = {
    "Convolution",
    "Deconvolution",
    "DeformableConvolution",
    "FullyConnected",
    "GatherMatmul",
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
_WITH_BODIES = {"If", "Loop", "TensorIterator"}
"""Their bodies compute, in operators that the execution graph does not list."""
_CONVERTING = {"Convert", "FakeQuantize", "Quantize", "Reorder"}
_NOT_RUN = {"Const", "Input", "Output"}
_COPYING_NOTHING = {"Reshape", "ShapeOf", "Squeeze", "Unsqueeze"}
_LOOKUPS = {
    "EmbeddingBagOffsets",
    "EmbeddingBagPacked",
    "EmbeddingSegmentsSum",
    "Gather",
    "GatherND",
}
_NOTED = (
    "INFERENCE_PRECISION_HINT",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE",
    "INFERENCE_NUM_THREADS",
    "NUM_STREAMS",
    "ENABLE_CPU_PINNING",
    "PERFORMANCE_HINT",
    "SNIPPETS_MODE",
)


class Inspected(NamedTuple):
    """A model compiled for inspection.

    Attributes:
        compiled: the plugin's ``CompiledModel``.
        model: the ``openvino.Model`` it was compiled from.
        settings: the settings it was compiled with.
        dynamic: whether activations should be quantized at run time.
    """

    compiled: Any
    model: Any
    settings: Mapping[str, Any]
    dynamic: bool


def read_back(program: Inspected, compiled_with: Callable[..., Any]) -> EffectivePrecision:
    """The effective precision of a compiled model.

    Args:
        compiled_with: compiles the same model with changed settings.

    Raises:
        Unsupported: activations are not quantized at run time though they should be.
    """
    off = {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
    if program.dynamic and not _differ(program.compiled, compiled_with(**off)):
        raise Unsupported(
            "OpenVINO did not quantize activations: outputs are the same with dynamic "
            "quantization switched off"
        )
    settings = program.settings
    notes = [f"{name}={settings[name]}" for name in _NOTED if name in settings]
    effective = EffectivePrecision.of(operators(program), ("; ".join(notes),))
    return replace(effective, sums_in_16_bits="int8" in effective.operators)


def operators(program: Inspected) -> list[Operator]:
    """All operators that run, in order of execution."""
    model, settings = program.model, program.settings
    every = program.compiled.get_runtime_model().get_ordered_ops()
    constants = _constants(every)
    graph = [node for node in every if read_info(node, "layerType") not in _NOT_RUN]
    graph.sort(key=lambda node: int(read_info(node, "execOrder") or 0))
    layers = [_layers(node) for node in graph]
    work = _assign(model, graph, layers)
    deep = _deep_products(model, settings) if program.dynamic else set()
    able = capabilities(import_openvino().Core())
    result = []
    for index, node in enumerate(graph):
        kind, mine = read_info(node, "layerType"), work.get(index, [])
        computing = kind in _COMPUTING | _WITH_BODIES or bool(mine)
        # products narrower than the group have int8 weights too, but multiply in float32
        in_groups = any(product.get_friendly_name() in deep for product in mine)
        counts = [macs(product) for product in mine]
        word = "" if kind in _WITH_BODIES else node_precision(node, in_groups)
        weights, activations = _bytes(node, word, constants)
        result.append(
            Operator(
                name=node.get_friendly_name(),
                kind=kind,
                role="compute" if computing else _other_role(kind, layers[index], model),
                precision=word if word in EFFECTIVE else None,
                macs=None if not counts or None in counts else sum(c or 0 for c in counts),
                weight_bytes=weights,
                activation_bytes=activations,
                fallback=computing and read_info(node, "primitiveType").startswith("ref"),
                emulated=is_emulated(word, able),
                layers=tuple(layers[index]),
            )
        )
    return result


def running_weights(program: Inspected) -> list[RunningWeights]:
    """The computing operators that run, by the layers fused into them; then the stored weights, at
    their lowest number of bits (``w4`` leaves some at 8), with their scales."""
    running = [
        RunningWeights((*op.layers, op.name), op.precision == "int8")
        for op in operators(program)
        if op.role == "compute"
    ]
    stored = quantized(program.model)
    lowest = min((bits_of(product) for product in stored), default=0)
    return running + [
        RunningWeights((op.get_friendly_name(),), True, *scales_of(op))
        for op in stored
        if bits_of(op) == lowest
    ]


def profile(program: Inspected, request: Any, infer: Callable[[], None], runs: int) -> Profile:
    """Mean times over ``runs`` calls of ``infer`` on a freshly compiled model.

    Args:
        request: the inference request of ``infer``, which has run nothing so far.

    Raises:
        RuntimeError: all times are zero, so nothing was measured.
    """
    infer()
    first = _mean_ns(request)
    for _ in range(runs):
        infer()
    mean = _mean_ns(request)
    if not any(mean.values()):
        raise RuntimeError("OpenVINO's times are all zero: PERF_COUNT is off, or it had no effect")
    ns = {n: max(0.0, ((1 + runs) * mean[n] - first.get(n, 0)) / runs) for n in mean}
    return Profile(
        tuple(replace(op, ns=ns[op.name]) for op in operators(program) if op.name in ns),
        ("OpenVINO reports times in whole microseconds; operators that do not run are omitted",),
    )


def _mean_ns(request: Any) -> dict[str, int]:
    """Mean time of each executed node over all inferences so far."""
    return {
        entry.node_name: round(entry.real_time.total_seconds() * 1e9)
        for entry in request.profiling_info
        if entry.status == entry.Status.EXECUTED
    }


# --------------------------------------------------------------------------- one operator


def _layers(node: Any) -> list[str]:
    """Names of the artifact's layers fused into ``node``."""
    return [name for name in read_info(node, "originalLayersNames").split(",") if name]


def _assign(
    model: Any, graph: Sequence[Any], layers: Sequence[Sequence[str]]
) -> dict[int, list[Any]]:
    """Products of ``model`` by index of the node that runs them.

    A node lists a matrix product with a bias by the bias' name only, and may add a suffix to one
    with int8 inputs.
    """
    where = {node.get_friendly_name(): index for index, node in enumerate(graph)}
    for index, names in enumerate(layers):
        where.update((name.removesuffix("/DequantizationMultiply"), index) for name in names)
    result: dict[int, list[Any]] = {}
    for product in products(model):
        bias = bias_of(product)
        names = [op.get_friendly_name() for op in (product, bias) if op is not None]
        index = next((where[name] for name in names if name in where), None)
        if index is not None:
            result.setdefault(index, []).append(product)
    return result


def _other_role(kind: str, layers: Sequence[str], model: Any) -> str:
    """The role of an operator that does not compute. A compiled subgraph of quantizers only counts
    as ``convert``."""
    if kind in _CONVERTING:
        return "convert"
    if kind == "Subgraph" and layers:
        kinds = {op.get_friendly_name(): op.get_type_name() for op in model.get_ops()}
        if all(kinds.get(name) in _CONVERTING for name in layers):
            return "convert"
    return "other"


# --------------------------------------------------------------------------- bytes


def _bytes(node: Any, word: str, constants: Collection[str]) -> tuple[int, int] | tuple[None, None]:
    """Bytes of weights and of activations of ``node``, which computes in ``word``; None if a size
    is free."""
    if node.get_friendly_name() in constants or read_info(node, "layerType") in _COPYING_NOTHING:
        return 0, 0
    weights: list[int | None] = []
    activations = [_size(port, port.get_element_type().bitwidth) for port in node.outputs()]
    made = activations[0]
    for index in range(node.get_input_size()):
        port = node.input_value(index)
        bits = port.get_element_type().bitwidth
        if port.get_node().get_friendly_name() not in constants:
            activations.append(_size(port, bits))
        elif word in ("bf16", "fp16") and port.get_element_type().is_real():
            weights.append(
                _size(port, min(bits, 16))
            )  # reported as in the file, packed as computed
        else:
            weights.append(_size(port, bits))
    if made is None or None in weights or None in activations:
        return None, None
    read = sum(size or 0 for size in weights)
    if read_info(node, "layerType") in _LOOKUPS:
        read = min(read, made)
    return read, sum(size or 0 for size in activations)


def _constants(ordered: Sequence[Any]) -> set[str]:
    """Names of nodes that are stored, or computed from stored nodes only, at compile time."""
    found: set[str] = set()
    for node in ordered:
        sources = [node.input_value(index).get_node() for index in range(node.get_input_size())]
        made = sources and all(source.get_friendly_name() in found for source in sources)
        if made or read_info(node, "layerType") == "Const":
            found.add(node.get_friendly_name())
    return found


def _size(port: Any, bits: int) -> int | None:
    """Bytes of a tensor with elements of ``bits`` bits; None if a size is free."""
    shape = port.get_partial_shape()
    return None if shape.is_dynamic else (prod(shape.to_shape()) * bits + 7) // 8


# --------------------------------------------------------------------------- dynamic quantization


def _deep_products(model: Any, settings: Mapping[str, Any]) -> set[str]:
    """Names of the products that are long enough for a group: the plugin quantizes their inputs."""
    group = settings["DYNAMIC_QUANTIZATION_GROUP_SIZE"]
    if not group:
        return set()
    return {op.get_friendly_name() for op in quantized(model) if depth(op) >= group}


def _differ(one: Any, other: Any) -> bool:
    """Whether two compiled models give different outputs for the same random inputs."""
    rng = np.random.default_rng(0)
    feed = {}
    for index, port in enumerate(one.inputs):
        shape = [d.get_length() if d.is_static else 16 for d in port.get_partial_shape()]
        dtype = port.get_element_type().to_dtype()
        real = np.dtype(dtype).kind == "f"
        feed[index] = (rng.random(shape) if real else rng.integers(0, 2, shape)).astype(dtype)
    results = []
    for compiled in (one, other):
        request = compiled.create_infer_request()
        request.infer(feed)
        results.append([np.array(t.data) for t in request.output_tensors])
    return any(not np.array_equal(a, b) for a, b in zip(*results, strict=True))
