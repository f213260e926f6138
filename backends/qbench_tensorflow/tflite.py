"""Convert TFLite files to ONNX by tf2onnx; LiteRT runs the source. For workers only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tf2onnx
from ai_edge_litert.interpreter import Interpreter

from qbench.kit.adapter import PrepareError
from qbench.kit.converter import Converted, Source, match, run_twice
from qbench.kit.feeds import convert as cast
from qbench.kit.feeds import fixed_batch
from qbench.kit.model import Feed, SourceTensor, TensorSpec
from qbench.kit.reasons import sentence
from qbench_tensorflow.convert import OPSET
from qbench_tensorflow.onnxfile import float_ends, free_batch, save


def convert(source: Source, form: str, samples: Feed, out: Path) -> Converted:
    """Convert to ``form``, which is ``onnx``."""
    assert source.path is not None
    try:
        interpreter = Interpreter(str(source.path))
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise PrepareError(f"LiteRT cannot run the TFLite file: {sentence(error)}") from error
    details = {
        "input": {d["name"]: d for d in interpreter.get_input_details()},
        "output": {d["name"]: d for d in interpreter.get_output_details()},
    }
    inputs = match("input", source.source_inputs, list(details["input"]))
    outputs = match("output", source.source_outputs, list(details["output"]))
    reference = run_twice(lambda: _run(interpreter, source, details, inputs, outputs, samples))
    try:
        proto, _ = tf2onnx.convert.from_tflite(str(source.path), opset=OPSET)
    except Exception as error:  # it raises unrelated types
        raise PrepareError(f"tf2onnx failed: {sentence(error)}") from error
    wants_batch = all(fixed_batch(spec) is None for spec in source.inputs.values())
    fixed = any(v.type.tensor_type.shape.dim[0].dim_value == 1 for v in proto.graph.input)
    notes = ()
    if wants_batch and fixed:
        freed = free_batch(proto)
        notes = ("the file's batch was fixed at 1" + ("" if not freed else " and was freed"),)
    quantized = _quantized(source, details, inputs, outputs)
    float_ends(proto, quantized)
    file = out / "model.onnx"
    save(proto, file)

    def names(own: dict[str, str], tensors: Mapping[str, SourceTensor]) -> dict[str, SourceTensor]:
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


def _quantized(
    source: Source,
    details: dict[str, dict[str, Any]],
    inputs: dict[str, str],
    outputs: dict[str, str],
) -> dict[str, tuple[str, float, int]]:
    """Tensors that are real in the card and quantized in the file, for ``float_ends``: a converted
    file does not keep their scales where a reader finds them."""
    result = {}
    for side, own, card in (
        ("input", inputs, source.inputs),
        ("output", outputs, source.outputs),
    ):
        for name, tensor in own.items():
            spec = _spec(details[side][tensor])
            if np.dtype(card[name].dtype).kind == "f" and spec.scale is not None:
                result[tensor] = (f"{tensor}_real", spec.scale, spec.zero_point or 0)
    return result


def _run(
    interpreter: Any,
    source: Source,
    details: dict[str, dict[str, Any]],
    inputs: dict[str, str],
    outputs: dict[str, str],
    samples: Feed,
) -> Feed:
    """The source's outputs by canonical name, run item by item; quantized tensors are fed and read
    in the card's dtype."""
    feed = source.to_source(samples)
    parts: dict[str, list[np.ndarray]] = {name: [] for name in outputs}
    for item in range(len(next(iter(feed.values())))):
        for name, own in inputs.items():
            detail = details["input"][own]
            values = feed[name][item : item + 1]
            values = cast(values, source.inputs[name], _spec(detail))
            interpreter.set_tensor(detail["index"], values.reshape(detail["shape"]))
        interpreter.invoke()
        for name, own in outputs.items():
            detail = details["output"][own]
            values = interpreter.get_tensor(detail["index"])
            parts[name].append(cast(values, _spec(detail), source.outputs[name]))
    return {name: np.concatenate(part) for name, part in parts.items()}


def _spec(detail: dict[str, Any]) -> TensorSpec:
    scale, zero_point = detail["quantization"]
    return TensorSpec(
        np.dtype(detail["dtype"]).name,
        tuple(int(size) for size in detail["shape"]),
        scale=float(scale) if scale else None,
        zero_point=int(zero_point) if scale else None,
    )
