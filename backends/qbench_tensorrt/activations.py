"""What the layers of a prepared artifact put out, for comparing two artifacts of one model.

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
    """See ``qbench.kit.adapter.Backend.activations``. ``artifact`` is the prepared one, not an
    engine:
    an engine of its own is built, in which the ends of layers are outputs, so that they are fused
    less than those that are timed.

    Raises:
        Unsupported: there is no ONNX file, or no layer has a float output.
    """
    if artifact.file.suffix != ".onnx":
        raise Unsupported("an engine does not show its layers; the file that it was built of does")
    model = graph.load(artifact.file)
    shown = _show_layers(model)
    if not shown:
        raise Unsupported("no layer of this file puts out floating-point numbers")
    with tempfile.TemporaryDirectory(prefix="qbench-trt-") as name:
        given, kept, built = (Path(name, part) for part in ("given", "kept", "built"))
        for folder in (given, kept, built):
            folder.mkdir()
        save(model, given / FILE)
        Io(*graph.describe(model)).write(given)
        source = replace(artifact, path=given, provenance=replace(artifact.provenance, file=FILE))
        provenance = compile_engine(source, config, kept, built)
        with TrtProgram(replace(source, path=built, provenance=provenance), config) as program:
            yield from read_layers(program.stream(), shown, feeds)


def _show_layers(model: ModelProto) -> list[Layer]:
    """Make the ends of the layers outputs of ``model``, with their types, which TensorRT's parser
    asks for; those of floating-point numbers."""
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
