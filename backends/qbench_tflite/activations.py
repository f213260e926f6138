"""Outputs of the layers of a TFLite file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from qbench.kit.model import Artifact, Feed, RunConfig
from qbench.kit.operators import Activation
from qbench_tflite import graph
from qbench_tflite.program import TfliteProgram

_MOVING = frozenset(
    {"EXPAND_DIMS", "GATHER", "PACK", "RESHAPE", "SHAPE", "SLICE", "SPLIT", "SQUEEZE"}
    | {"STRIDED_SLICE", "TRANSPOSE", "UNPACK"}
)
"""Operators that compute nothing: their output repeats another layer's."""


def activations(
    artifact: Artifact, config: RunConfig, feeds: Iterable[Feed]
) -> Iterator[list[Activation]]:
    """For each feed, the dequantized outputs of all operators that compute something.

    All tensors are kept, so XNNPACK runs each operator separately instead of fusing them, with the
    same kernels.

    Raises:
        Unsupported: as when the artifact is opened to be run.
    """
    with TfliteProgram(artifact, config, keep_tensors=True) as program:
        stream = program.stream()
        reader = stream.interpreter
        details = {int(detail["index"]): detail for detail in reader.get_tensor_details()}
        layers = [
            (int(node["outputs"][0]), node["op_name"])
            for node in graph.nodes(reader)
            if node["op_name"] not in _MOVING | graph.CONVERTING and len(node["outputs"])
        ]
        layers = [(index, kind) for index, kind in layers if _is_real(details[index])]
        for feed in feeds:
            stream.bind(feed)
            stream.infer()
            yield [
                Activation(
                    graph.source_name(details[index]["name"]),
                    kind,
                    _dequantized(reader.get_tensor(index), details[index]),
                )
                for index, kind in layers
            ]


def _is_real(detail: Mapping[str, Any]) -> bool:
    """Whether a tensor holds real numbers, floating-point or quantized."""
    return np.dtype(detail["dtype"]).kind == "f" or bool(detail["quantization"][0])


def _dequantized(array: np.ndarray, detail: Mapping[str, Any]) -> np.ndarray:
    scale, zero_point = detail["quantization"]
    if array.dtype.kind == "f" or not scale:
        return array.astype(np.float32)
    return (array.astype(np.int32) - zero_point).astype(np.float32) * np.float32(scale)
