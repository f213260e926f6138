"""Quantize a Keras or SavedModel source by TensorFlow's TFLiteConverter.

Needs TensorFlow, whose import takes seconds. Never imported while measuring.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from qbench.kit.adapter import PrepareError, Unsupported
from qbench.kit.converter import identifiers, match
from qbench.kit.model import Calibration, Model, PrepareTarget, SourceTensor, relayout_shape
from qbench_tflite.program import interpreter
from qbench_tflite.signature import KEY, with_signature

if TYPE_CHECKING:
    from qbench_tensorflow.load import Loaded

NAME = "tensorflow.lite.TFLiteConverter"


def converted(
    model: Model, target: PrepareTarget, calibration: Calibration | None
) -> tuple[bytes, dict[str, Any]]:
    """A full int8 ``.tflite`` file, whose signature uses the model's source names, and the
    settings.

    Operators without an int8 kernel stay in floating point. Inputs and outputs are int8 if the
    source's are all float32, else as in the source.

    Raises:
        Unsupported: TensorFlow is not installed.
        PrepareError: the source does not load, or cannot be converted.
    """
    try:
        import tensorflow as tf
    except ModuleNotFoundError:
        raise Unsupported("the TF converter needs TensorFlow: pip install tensorflow") from None
    from qbench_tensorflow.load import failure, keras_model, load_keras, load_savedmodel

    if not calibration:
        raise PrepareError("int8-static needs calibration items, but got none")
    loaded = (
        load_savedmodel(model.path, model.signature)
        if model.format == "savedmodel"
        else keras_model(load_keras(model.path))
    )
    inputs = match("input", _given(model.source_inputs), list(loaded.inputs))
    outputs = match("output", _given(model.source_outputs), list(loaded.outputs))
    words = identifiers([*inputs, *outputs])

    def traced(*tensors: Any) -> dict[str, Any]:
        results = loaded.call(dict(zip(inputs.values(), tensors, strict=True)))
        return {words[name]: results[own] for name, own in outputs.items()}

    def items() -> Iterator[dict[str, np.ndarray]]:
        for feed in calibration.batches(model.inputs):
            source = model.to_source(feed)
            yield {
                words[name]: np.array(
                    source[model.source_inputs[name].name], loaded.inputs[own].dtype.as_numpy_dtype
                )
                for name, own in inputs.items()
            }

    signature = [
        tf.TensorSpec(
            _shape(model, name, loaded.inputs[own]), loaded.inputs[own].dtype, words[name]
        )
        for name, own in inputs.items()
    ]
    try:
        tracer: Any = tf.function(traced, autograph=False)
        function = tracer.get_concrete_function(*signature)
        _refuse_loops(function)
        tool = tf.lite.TFLiteConverter.from_concrete_functions([function], loaded.owner)
        settings = _configure(tf, tool, loaded, target)
        tool.representative_dataset = items
        content = bytes(tool.convert())
    except Unsupported:
        raise
    except Exception as error:  # the tool raises unrelated types
        raise failure("tflite", error) from error
    names = {
        words[canonical]: tensor.name
        for canonical, tensor in (*model.source_inputs.items(), *model.source_outputs.items())
    }
    return _renamed(content, names), {"calibration_items": len(calibration), **settings}


def _refuse_loops(function: Any) -> None:
    """Refuse a function with loops: the converter's calibration crashes on them."""
    definition = function.graph.as_graph_def()
    nodes = [*definition.node]
    for inner in definition.library.function:
        nodes += inner.node_def
    if any(node.op in ("While", "StatelessWhile") for node in nodes):
        raise Unsupported(
            "the TF converter finds no ranges inside loops (recurrent layers): ask for "
            "int8-dynamic or w8"
        )


def _configure(tf: Any, tool: Any, loaded: Loaded, target: PrepareTarget) -> dict[str, Any]:
    """Configure the converter; returns the settings."""
    # TensorFlow's only switch for this is private: a release without it must not silently quantize
    # in another way
    if not hasattr(tool, "_experimental_disable_per_channel"):
        raise Unsupported("this TensorFlow's converter cannot choose per-channel or per-tensor")
    per_channel = bool(target.options.get("per_channel", True))
    tool._experimental_disable_per_channel = not per_channel
    tool.optimizations = [tf.lite.Optimize.DEFAULT]
    kinds = tf.lite.OpsSet.TFLITE_BUILTINS_INT8, tf.lite.OpsSet.TFLITE_BUILTINS
    tool.target_spec.supported_ops = list(kinds)
    specs = (*loaded.inputs.values(), *loaded.outputs.values())
    integer = all(spec.dtype == tf.float32 for spec in specs)
    if integer:
        tool.inference_input_type = tool.inference_output_type = tf.int8
    return {
        "optimizations": ["DEFAULT"],
        "supported_ops": [kind.name for kind in kinds],
        "per_channel": per_channel,
        "int8_inputs_and_outputs": integer,
        "ranges": "minmax over all items",
        "tensorflow": str(tf.__version__),
    }


def _given(tensors: Mapping[str, SourceTensor]) -> dict[str, SourceTensor]:
    """Tensors with the card's names; a canonical name counts as none."""
    return {
        canonical: SourceTensor("" if tensor.name == canonical else tensor.name, tensor.layout)
        for canonical, tensor in tensors.items()
    }


def _shape(model: Model, name: str, spec: Any) -> list[int | None]:
    """The source's sizes; the card's where the source leaves them free."""
    card = model.inputs[name]
    wanted = relayout_shape(card.shape, card.layout, model.source_inputs[name].layout)
    own: Sequence[int | None] = spec.shape.as_list()
    if len(own) != len(wanted):
        raise PrepareError(f"the card's input '{name}' is {list(wanted)}, the source's {own}")
    return [
        card_size if size is None and isinstance(card_size, int) else size
        for size, card_size in zip(own, wanted, strict=True)
    ]


def _renamed(content: bytes, names: Mapping[str, str]) -> bytes:
    """The file with other names in its signature."""
    reader = interpreter(content)
    signature = reader._get_full_signature_list()[KEY]
    by_index = {
        int(index): names[word]
        for side in ("inputs", "outputs")
        for word, index in signature[side].items()
    }
    return with_signature(
        content,
        [by_index[int(detail["index"])] for detail in reader.get_input_details()],
        [by_index[int(detail["index"])] for detail in reader.get_output_details()],
    )
