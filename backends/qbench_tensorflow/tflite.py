"""Convert TFLite files to ONNX by tf2onnx; LiteRT runs the source. For workers only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tf2onnx

from qbench.kit.adapter import PrepareError, Unsupported
from qbench.kit.converter import Converted, Source
from qbench.kit.feeds import fixed_batch
from qbench.kit.model import Feed, SourceTensor
from qbench.kit.reasons import sentence
from qbench_tensorflow.convert import OPSET
from qbench_tensorflow.litert import Opened, open_file
from qbench_tensorflow.onnxfile import float_ends, free_batch, save


def convert(source: Source, form: str, samples: Feed, out: Path) -> Converted:
    """Convert to ``form``, which is ``onnx``."""
    assert source.path is not None
    if source.options.get("signature") is not None:
        raise Unsupported("of a TFLite file with several signatures, tf2onnx converts the first")
    opened = open_file(source)
    inputs, outputs = opened.inputs, opened.outputs
    reference = opened.run(samples)
    try:
        proto, _ = tf2onnx.convert.from_tflite(str(source.path), opset=OPSET)
    except Exception as error:  # it raises unrelated types
        raise PrepareError(f"tf2onnx failed: {sentence(error)}") from error
    wants_batch = all(fixed_batch(spec) is None for spec in source.inputs.values())
    sizes = [value.type.tensor_type.shape.dim for value in proto.graph.input]
    fixed = any(size[0].dim_value == 1 for size in sizes if size)
    notes = ()
    if wants_batch and fixed:
        freed = free_batch(proto)
        notes = ("the file's batch was fixed at 1" + ("" if not freed else " and was freed"),)
    quantized = _quantized(source, opened)
    float_ends(proto, quantized)
    file = out / "model.onnx"
    save(proto, file)

    def names(
        own: Mapping[str, str], tensors: Mapping[str, SourceTensor]
    ) -> dict[str, SourceTensor]:
        return {
            name: SourceTensor(quantized.get(tensor, (tensor,))[0], tensors[name].layout)
            for name, tensor in own.items()
        }

    return Converted(
        file.name,
        names(inputs, source.source_inputs),
        names(outputs, source.source_outputs),
        reference,
        f"tf2onnx, opset {OPSET}",
        notes,
    )


def _quantized(source: Source, opened: Opened) -> dict[str, tuple[str, float, int]]:
    """Tensors that are real in the card and quantized in the file, for ``float_ends``: a converted
    file does not keep their scales where a reader finds them."""
    result = {}
    for own, card in ((opened.inputs, source.inputs), (opened.outputs, source.outputs)):
        for name, tensor in own.items():
            spec = opened.specs[tensor]
            if np.dtype(card[name].dtype).kind == "f" and spec.scale is not None:
                result[tensor] = (f"{tensor}_real", spec.scale, spec.zero_point or 0)
    return result
