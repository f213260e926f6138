"""Convert loaded models: to TFLite by TFLiteConverter, to ONNX by tf2onnx. For workers only.

Tensors of the result have the card's canonical names, as far as the tools allow.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from qbench.kit.adapter import Description, PrepareError
from qbench.kit.converter import Converted, Source, identifiers, match, run_twice
from qbench.kit.model import Feed, SourceTensor, TensorSpec, relayout_shape
from qbench_tensorflow.load import (
    Loaded,
    application,
    failure,
    keras_model,
    load_keras,
    load_savedmodel,
)

OPSET = 17


def load(source: Source) -> Loaded:
    """The source, ready to be called."""
    if source.format == "keras-applications":
        return keras_model(application(source.options, source.cache))
    assert source.path is not None
    if source.format == "savedmodel":
        return load_savedmodel(source.path, source.options.get("signature"))
    return keras_model(load_keras(source.path))


def describe(path: Path) -> Description:
    """Inputs and outputs by the source's own names."""
    loaded = load_savedmodel(path) if path.is_dir() else keras_model(load_keras(path))
    return Description(_specs(loaded.inputs), _specs(loaded.outputs), ranges=loaded.ranges)


def _specs(tensors: Mapping[str, Any]) -> dict[str, TensorSpec]:
    result = {}
    for name, tensor in tensors.items():
        if tensor.shape.rank is None:
            raise PrepareError(f"'{name}' has no fixed number of axes")
        shape = tuple(
            f"{name}.{axis}" if size is None else int(size)
            for axis, size in enumerate(tensor.shape)
        )
        result[name] = TensorSpec(tensor.dtype.name, shape)
    return result


def convert(source: Source, form: str, samples: Feed, out: Path) -> Converted:
    """Convert to ``form``: ``tflite`` or ``onnx``."""
    loaded = load(source)
    inputs = match("input", source.source_inputs, list(loaded.inputs))
    outputs = match("output", source.source_outputs, list(loaded.outputs))
    words = identifiers([*inputs, *outputs])

    def call(*tensors: Any) -> dict[str, Any]:
        feed = dict(zip(inputs.values(), tensors, strict=True))
        results = loaded.call(feed)
        return {words[name]: results[own] for name, own in outputs.items()}

    def signature(batch: int | None) -> list[Any]:
        """Specs of the traced function's arguments; ``batch``: where the card leaves it free."""
        result = []
        for name, own in inputs.items():
            shape, axis = _shape(source, name, loaded.inputs[own]), source.inputs[name].batch
            if axis is not None and shape[axis] is None:
                shape[axis] = batch
            result.append(tf.TensorSpec(shape, loaded.inputs[own].dtype, name=words[name]))
        return result

    def infer(feed: Feed) -> Feed:
        given = {own: tf.constant(feed[n], loaded.inputs[own].dtype) for n, own in inputs.items()}
        results = loaded.call(given)
        return {name: np.asarray(results[own]) for name, own in outputs.items()}

    reference = run_twice(source, samples, infer, _batch(source, signature(None)))
    file = out / f"model.{form}"

    def made(batch: int | None) -> dict[str, str]:
        traced = tf.function(call, autograph=False)  # a new one: it would reuse a free batch
        if form == "tflite":
            return _to_tflite(traced, signature(batch), loaded, file)
        return _to_onnx(traced, signature(batch), file)

    notes: tuple[str, ...] = ()
    try:
        try:
            names = made(None)
        except Exception:
            if signature(1) == signature(None):
                raise
            names = made(1)  # recurrent layers in TFLite need a fixed batch
            notes = ("the batch is fixed at 1, since the converter cannot free it",)
    except PrepareError:
        raise
    except Exception as error:  # the tools raise unrelated types
        raise failure(form, error) from error

    def renamed(tensors: Mapping[str, SourceTensor]) -> dict[str, SourceTensor]:
        return {n: SourceTensor(names[words[n]], t.layout) for n, t in tensors.items()}

    return Converted(
        file.name,
        renamed(source.source_inputs),
        renamed(source.source_outputs),
        reference,
        "TFLiteConverter" if form == "tflite" else f"tf2onnx, opset {OPSET}",
        notes,
    )


def _shape(source: Source, name: str, spec: Any) -> list[int | None]:
    """The source's sizes; the card's where the source leaves them free."""
    card = source.inputs[name]
    wanted = relayout_shape(card.shape, card.layout, source.source_inputs[name].layout)
    if spec.shape.rank is not None and spec.shape.rank != len(wanted):
        raise PrepareError(
            f"the card's input '{name}' has {len(wanted)} axes, the source's {spec.shape.rank}"
        )
    own = spec.shape.as_list() if spec.shape.rank is not None else [None] * len(wanted)
    fixed = [size if isinstance(size, int) else None for size in wanted]
    pairs = [pair for axis, pair in enumerate(zip(own, fixed, strict=True)) if axis != card.batch]
    if any(a and b and a != b for a, b in pairs):
        raise PrepareError(f"the card's input '{name}' is {list(wanted)}, the source's {own}")
    return [b if a is None else a for a, b in zip(own, fixed, strict=True)]


def _batch(source: Source, signature: list[Any]) -> int:
    """The number of items that the source is fixed at; else 1."""
    for spec, tensor in zip(source.inputs.values(), signature, strict=True):
        if spec.batch is not None and tensor.shape[spec.batch] is not None:
            return int(tensor.shape[spec.batch])
    return 1


def _to_tflite(traced: Any, signature: list[Any], loaded: Loaded, file: Path) -> dict[str, str]:
    """Write the file; returns names of its tensors by name in its signature."""
    from tensorflow.lite.python import schema_py_generated as schema

    function = traced.get_concrete_function(*signature)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], loaded.owner)
    content = bytes(converter.convert())
    file.write_bytes(content)
    model: Any = schema.ModelT.InitFromPackedBuf(content, 0)
    (entries,) = model.signatureDefs
    tensors = model.subgraphs[entries.subgraphIndex].tensors
    return {
        entry.name.decode(): tensors[entry.tensorIndex].name.decode()
        for entry in (*entries.inputs, *entries.outputs)
    }


def _to_onnx(traced: Any, signature: list[Any], file: Path) -> dict[str, str]:
    """Write the file; returns names of its tensors by name in the function (the same)."""
    import tf2onnx

    from qbench_tensorflow.onnxfile import fix_inputs, save

    proto, _ = tf2onnx.convert.from_function(traced, signature, opset=OPSET)
    captured = traced.get_concrete_function(*signature).graph.captures
    fix_inputs(proto, {p.name: t.numpy() for t, p in captured if p.dtype != tf.resource})
    save(proto, file)
    return {value.name: value.name for value in (*proto.graph.input, *proto.graph.output)}
