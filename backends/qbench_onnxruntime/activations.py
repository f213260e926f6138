"""What the layers of an artifact put out, for comparing two artifacts of one model. Needs onnx."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, helper

from qbench.backend import Activation, Artifact, Feed, RunConfig, Unsupported
from qbench.worker.onnxfile import graph
from qbench.worker.onnxfile.tools import FILE, save
from qbench_onnxruntime.prepare import facts
from qbench_onnxruntime.session import OrtProgram

_CONVOLUTIONS = ("Conv", "ConvInteger", "ConvTranspose", "FusedConv")
_LAYERS = (
    *_CONVOLUTIONS,
    *("Add", "FusedGemm", "FusedMatMul", "Gemm", "MatMul", "MatMulInteger", "MatMulNBits"),
)
# What follows a layer and is fused into it in one artifact or another. Mul and Cast give a
# quantized product its scale; elsewhere Mul is an operation of its own.
_CONVERTING = ("DequantizeLinear", "QuantizeLinear")
_FOLLOWING = (*_CONVERTING, *graph.FOLLOWING)
_FLOATS = ("float16", "float32")


@dataclass(frozen=True)
class _Layer:
    """Where a layer ends: ``tensor`` holds what it puts out, ``name`` is what all artifacts of
    the model call it."""

    name: str
    kind: str
    tensor: str


def activations(
    artifact: Artifact, config: RunConfig, feeds: Iterable[Feed]
) -> Iterator[list[Activation]]:
    """See ``qbench.backend.Backend.activations``.

    A layer ends behind the batch normalization and activation function that it alone feeds, since
    these are fused into it, and at that place the tensor's name survives preprocessing and
    quantization. A quantized tensor is read behind its DequantizeLinear, so that the integer
    kernels run as they do when timed. Floating-point layers are fused less: their ends are outputs.

    Raises:
        Unsupported: no layer has a float output.
    """
    model = graph.load(artifact.file)
    layers = _layers(model.graph)
    known = {value.name for value in model.graph.output}
    for tensor in dict.fromkeys(layer.tensor for layer in layers):
        if tensor not in known:
            model.graph.output.append(onnx.ValueInfoProto(name=tensor))
    with tempfile.TemporaryDirectory(prefix="qbench-ort-") as folder:
        save(model, Path(folder, FILE))
        facts(model).write(Path(folder))
        opened = replace(
            artifact, path=Path(folder), provenance=replace(artifact.provenance, file=FILE)
        )
        with OrtProgram(opened, config, inspect=False) as program:
            shown = [x for x in layers if program.file_outputs[x.tensor].dtype in _FLOATS]
            if not shown:
                raise Unsupported("no layer of this file puts out floating-point numbers")
            stream = program.stream()
            for feed in feeds:
                stream.bind(feed)
                stream.infer()
                arrays = stream.read_file()
                yield [
                    Activation(x.name, x.kind, np.array(arrays[x.tensor], np.float32))
                    for x in shown
                ]


def _layers(graph_: GraphProto) -> list[_Layer]:
    """Layers in the file's order, which is one of execution."""
    users: dict[str, list[NodeProto]] = {}
    for node in graph_.node:
        for tensor in node.input:
            users.setdefault(tensor, []).append(node)
    outputs = {value.name for value in graph_.output}
    shapes = {tensor.name: list(tensor.dims) for tensor in graph_.initializer}
    for node in graph_.node:
        if node.op_type in _CONVERTING and node.input[0] in shapes:
            shapes[node.output[0]] = shapes[node.input[0]]
    layers = []
    for node in graph_.node:
        if node.op_type in _LAYERS:
            name, tensor = _end(node, users, outputs)
            layers.append(_Layer(name, _kind(node, shapes), tensor))
    return layers


def _end(layer: NodeProto, users: dict[str, list[NodeProto]], outputs: set[str]) -> tuple[str, str]:
    """Name and tensor of the end of ``layer``.

    Quantizing and dequantizing change the tensor that is read, not its name, but for outputs of
    the model: there the dequantized one has the name.
    """
    scaled = layer.op_type.endswith("Integer")
    name = tensor = layer.output[0]
    while tensor not in outputs:
        following = users.get(tensor, [])
        converted = [node for node in following if node.op_type in _CONVERTING]
        node = converted[0] if converted else following[0] if len(following) == 1 else None
        if node is None or not (node.op_type in _FOLLOWING or (scaled and node.op_type == "Mul")):
            break
        tensor = node.output[0]
        if node.op_type not in _CONVERTING or tensor in outputs:
            name = tensor
    return name, tensor


def _kind(node: NodeProto, shapes: dict[str, list[int]]) -> str:
    """The operator's type; depthwise convolutions are told apart: a filter for each channel."""
    groups = next((helper.get_attribute_value(a) for a in node.attribute if a.name == "group"), 1)
    if node.op_type not in _CONVOLUTIONS or groups == 1:
        return node.op_type
    shape = shapes.get(node.input[1])
    depthwise = shape is not None and shape[1] == 1
    return f"{node.op_type} (depthwise)" if depthwise else f"{node.op_type} (grouped)"
