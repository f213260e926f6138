"""Outputs of a prepared artifact's layers, to compare two artifacts of one model.

Needs onnx, tensorrt and a GPU.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from onnx import ModelProto, TensorProto, shape_inference

from qbench.kit.adapter import Unsupported
from qbench.kit.model import Artifact, Feed, RunConfig
from qbench.kit.onnxfile import graph
from qbench.kit.onnxfile.layers import Layer, layers, read_layers
from qbench.kit.onnxfile.tools import FILE, save
from qbench.kit.operators import Activation
from qbench_tensorrt.build import compile_engine
from qbench_tensorrt.io import Io
from qbench_tensorrt.session import TrtProgram

_FLOATS = (TensorProto.BFLOAT16, TensorProto.FLOAT, TensorProto.FLOAT16)


def activations(
    artifact: Artifact, config: RunConfig, feeds: Iterable[Feed]
) -> Iterator[list[Activation]]:
    """Outputs of the layers of an engine that is built for this, with the ends of layers as
    outputs: they are fused less than in a timed engine.

    Args:
        artifact: the prepared one, not an engine.

    Raises:
        Unsupported: ``artifact`` is an engine, or no layer has a floating-point output.
    """
    if artifact.file.suffix != ".onnx":
        raise Unsupported("an engine does not expose its layers; its prepared file does")
    model = graph.load(artifact.file)
    shown = _show_layers(model)
    if not shown:
        raise Unsupported("no layer of this file has a floating-point output")
    with tempfile.TemporaryDirectory(prefix="qbench-trt-") as name:
        given, kept, built = (Path(name, part) for part in ("given", "kept", "built"))
        for folder in (given, kept, built):
            folder.mkdir()
        save(model, given / FILE)
        Io.of(model).write(given)
        source = replace(artifact, path=given, provenance=replace(artifact.provenance, file=FILE))
        provenance = compile_engine(source, config, kept, built)
        with TrtProgram(replace(source, path=built, provenance=provenance), config) as program:
            yield from read_layers(program.stream(), shown, feeds)


def _show_layers(model: ModelProto) -> list[Layer]:
    """Make the floating-point ends of layers outputs of ``model``, with the types that TensorRT's
    parser requires; returns these layers."""
    known = {value.name: value for value in model.graph.output}
    inferred = shape_inference.infer_shapes(model).graph
    types = {value.name: value for value in (*inferred.value_info, *inferred.output)}
    shown = []
    for layer in layers(model.graph):
        value = types.get(layer.tensor)
        if value is None or value.type.tensor_type.elem_type not in _FLOATS:
            continue
        shown.append(layer)
        if layer.tensor not in known:
            known[layer.tensor] = value
            model.graph.output.append(value)
    return shown
