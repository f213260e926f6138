"""Outputs of an artifact's layers, to find where quantization loses accuracy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from qbench.kit.feeds import check_feed
from qbench.kit.model import Artifact, Feed, RunConfig
from qbench.kit.operators import Activation
from qbench_openvino.graph import WEIGHTED, bias_of, is_constant, is_depthwise
from qbench_openvino.program import compile_artifact
from qbench_openvino.tensors import find_ports


def activations(
    artifact: Artifact, config: RunConfig, feeds: Iterable[Feed]
) -> Iterator[list[Activation]]:
    """Outputs of layers: a convolution or matrix product with its bias, or a sum of two tensors.

    They are taken before activation function and quantizer, so they are real numbers in a quantized
    model too. OpenVINO fuses less around an additional output, so rounding may differ from the
    timed program.
    """
    layers: list[tuple[str, str, int]] = []

    def tap(model: Any) -> None:
        found = list(_layers(model))
        for _, _, op in found:
            model.add_outputs(op.output(0))  # without effect on an existing output
        layers.extend(
            (name, kind, model.get_result_index(op.output(0))) for name, kind, op in found
        )

    card = artifact.model
    compiled = compile_artifact(artifact, config, tap).compiled
    inputs = find_ports(compiled.inputs, card.source_inputs)
    request = compiled.create_infer_request()
    for feed in feeds:
        check_feed(feed, card.inputs, config.batch)
        arrays = card.to_source(feed)
        request.infer(
            {port: arrays[card.source_inputs[name].name] for name, port in inputs.items()}
        )
        yield [
            Activation(name, kind, np.array(request.get_output_tensor(index).data, np.float32))
            for name, kind, index in layers
        ]


def _layers(model: Any) -> Iterator[tuple[str, str, Any]]:
    """Name, kind and last operator of each layer, in order of execution.

    The name is the convolution's or product's: a bias that NNCF adds does not exist in the float32
    model.
    """
    for op in model.get_ordered_ops():
        kind = op.get_type_name()
        name = op.get_friendly_name().removesuffix("/WithoutBiases")
        if kind in WEIGHTED:
            yield name, f"{kind} (depthwise)" if is_depthwise(op) else kind, bias_of(op) or op
        elif kind == "Add" and not any(is_constant(op.input_value(i)) for i in (0, 1)):
            yield name, kind, op
