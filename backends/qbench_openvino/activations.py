"""The outputs of the layers of an artifact, for finding where quantization errs."""

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
    openvino: Any, artifact: Artifact, config: RunConfig, feeds: Iterable[Feed]
) -> Iterator[list[Activation]]:
    """See ``qbench.kit.adapter.Backend.activations``.

    A layer is a convolution or matrix product with its bias, or a sum of two tensors. Its output is
    taken before activation function and quantizer, so it is a real number in a quantized model
    too. OpenVINO fuses less around an output that is asked for, so the sums of a fused operator
    may be rounded where the timed program does not round them, and the other way round.
    """
    layers: list[tuple[str, str, int]] = []

    def tap(model: Any) -> None:
        found = list(_layers(model))
        for _, _, op in found:
            model.add_outputs(op.output(0))  # nothing happens to one that is an output already
        layers.extend(
            (name, kind, model.get_result_index(op.output(0))) for name, kind, op in found
        )

    card = artifact.model
    compiled, _, _ = compile_artifact(openvino, artifact, config, tap)
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
    """Name, kind and last operator of each layer, in the order of execution.

    Names are those of the convolution or product: a bias that NNCF adds has none in the float32
    model.
    """
    for op in model.get_ordered_ops():
        kind = op.get_type_name()
        name = op.get_friendly_name().removesuffix("/WithoutBiases")
        if kind in WEIGHTED:
            yield name, f"{kind} (depthwise)" if is_depthwise(op) else kind, bias_of(op) or op
        elif kind == "Add" and not any(is_constant(op.input_value(i)) for i in (0, 1)):
            yield name, kind, op
