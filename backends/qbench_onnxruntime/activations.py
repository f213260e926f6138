"""Outputs of an artifact's layers, to compare two artifacts of one model. Needs onnx."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import onnx

from qbench.kit.adapter import Unsupported
from qbench.kit.model import Artifact, Feed, RunConfig
from qbench.kit.onnxfile import graph
from qbench.kit.onnxfile.layers import layers, read_layers
from qbench.kit.onnxfile.tools import FILE, save
from qbench.kit.operators import Activation
from qbench_onnxruntime.prepare import facts
from qbench_onnxruntime.session import OrtProgram

_FLOATS = ("float16", "float32")


def activations(
    artifact: Artifact, config: RunConfig, feeds: Iterable[Feed]
) -> Iterator[list[Activation]]:
    """Outputs of the layers that ``qbench.kit.onnxfile.layers`` finds.

    Their ends become outputs of the file, so they are fused less than in a timed program.

    Raises:
        Unsupported: no layer has a floating-point output.
    """
    model = graph.load(artifact.file)
    ends = layers(model.graph)
    known = {value.name for value in model.graph.output}
    for tensor in dict.fromkeys(layer.tensor for layer in ends):
        if tensor not in known:
            model.graph.output.append(onnx.ValueInfoProto(name=tensor))
    with tempfile.TemporaryDirectory(prefix="qbench-ort-") as folder:
        save(model, Path(folder, FILE))
        facts(model).write(Path(folder))
        opened = replace(
            artifact, path=Path(folder), provenance=replace(artifact.provenance, file=FILE)
        )
        with OrtProgram(opened, config, inspect=False) as program:
            shown = [x for x in ends if program.ports.file_outputs[x.tensor].dtype in _FLOATS]
            if not shown:
                raise Unsupported("no layer of this file has a floating-point output")
            yield from read_layers(program.stream(), shown, feeds)
