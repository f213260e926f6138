"""Small TFLite, Keras and torch models of the structures that strangers bring, made by TensorFlow.

As in ``strangers.py``, each function ``NAME(folder)`` writes one model and returns its file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from strangers import Build, Stranger, drawn

OTHERS: dict[str, Stranger] = {}


def other(structure: str, *options: str) -> Callable[[Build], Build]:
    def add(build: Build) -> Build:
        OTHERS[build.__name__] = Stranger(build.__name__, structure, build, options)
        return build

    return add


def tensorflow() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    tf.keras.utils.set_random_seed(7)
    return tf


def tflite(folder: Path, name: str, converter: Any) -> Path:
    path = folder / f"{name}.tflite"
    path.write_bytes(converter.convert())
    return path


def keras_says(folder: Path, model: Any, *size: int) -> Any:
    """Leave ``right.npz`` next to a file: ``x``, ``[4, *size]``, and what Keras computes, ``y``."""
    x = drawn(4, *size, seed=9, scale=1)
    y = np.concatenate([np.asarray(model(one[None])) for one in x])
    np.savez(folder / "right.npz", x=x, y=y)
    return model


def conv_net(tf: Any, *size: int | None, batch: int | None = None) -> Any:
    layers = tf.keras.layers
    return tf.keras.Sequential(
        [
            layers.Input((*size, 3), batch_size=batch, name="images"),
            layers.Conv2D(8, 3, strides=2, padding="same", activation="relu"),
            layers.Conv2D(8, 3, padding="same", activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(4),
        ]
    )


def representative() -> Iterator[list[np.ndarray]]:
    for seed in range(8):
        yield [drawn(1, 16, 16, 3, seed=seed, scale=1)]


@other("TFLite [1,-1,-1,3]", "--shape", "images=1x16x12x3")
def tflite_free_size(folder: Path) -> Path:
    tf = tensorflow()
    model = keras_says(folder, conv_net(tf, None, None, batch=1), 16, 12, 3)
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    return tflite(folder, "tflite_free_size", converter)


@other("TFLite with a free batch")
def tflite_free_batch(folder: Path) -> Path:
    tf = tensorflow()
    model = keras_says(folder, conv_net(tf, 16, 16), 16, 16, 3)
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    return tflite(folder, "tflite_free_batch", converter)


def quantized(folder: Path, name: str, kind: str | None) -> Path:
    tf = tensorflow()
    converter = tf.lite.TFLiteConverter.from_keras_model(conv_net(tf, 16, 16))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    if kind:
        converter.inference_input_type = converter.inference_output_type = getattr(tf, kind)
    return tflite(folder, name, converter)


@other("TFLite, int8 throughout, float32 at its edges")
def tflite_int8_inside(folder: Path) -> Path:
    return quantized(folder, "tflite_int8_inside", None)


@other("TFLite, int8 throughout and at its edges")
def tflite_int8(folder: Path) -> Path:
    return quantized(folder, "tflite_int8", "int8")


@other("TFLite, int8 inside, uint8 at its edges")
def tflite_uint8(folder: Path) -> Path:
    return quantized(folder, "tflite_uint8", "uint8")


@other("TFLite with float16 weights")
def tflite_half(folder: Path) -> Path:
    tf = tensorflow()
    converter = tf.lite.TFLiteConverter.from_keras_model(conv_net(tf, 16, 16))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    return tflite(folder, "tflite_half", converter)


@other("TFLite with int8 weights: dynamic range")
def tflite_dynamic(folder: Path) -> Path:
    tf = tensorflow()
    model = tf.keras.Sequential(
        [
            tf.keras.layers.Input((64,), name="features"),
            tf.keras.layers.Dense(64, activation="relu"),
            tf.keras.layers.Dense(4),
        ]
    )
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    return tflite(folder, "tflite_dynamic", converter)


@other("TFLite with two signatures", "--signature", "encode")
def tflite_signatures(folder: Path) -> Path:
    tf = tensorflow()

    class Two(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = tf.Variable(drawn(8, 4))

        @tf.function(input_signature=[tf.TensorSpec((1, 8), tf.float32, name="x")])
        def encode(self, x: Any) -> Any:
            return {"code": tf.matmul(x, self.w)}

        @tf.function(input_signature=[tf.TensorSpec((1, 4), tf.float32, name="code")])
        def decode(self, code: Any) -> Any:
            return {"x": tf.matmul(code, self.w, transpose_b=True)}

    two = Two()
    tf.saved_model.save(
        two, str(folder / "two"), signatures={"encode": two.encode, "decode": two.decode}
    )
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "two"))
    return tflite(folder, "tflite_signatures", converter)


def lstm(tf: Any, batch: int | None) -> Any:
    layers = tf.keras.layers
    first = layers.Input((10, 6), batch_size=batch, name="x")
    return tf.keras.Sequential([first, layers.LSTM(8), layers.Dense(3)])


@other("TFLite of a Keras LSTM")
def tflite_lstm(folder: Path) -> Path:
    tf = tensorflow()
    model = keras_says(folder, lstm(tf, batch=1), 10, 6)
    return tflite(folder, "tflite_lstm", tf.lite.TFLiteConverter.from_keras_model(model))


@other("Keras Sequential of LSTM and Dense, free batch")
def keras_lstm(folder: Path) -> Path:
    path = folder / "keras_lstm.keras"
    keras_says(folder, lstm(tensorflow(), batch=None), 10, 6).save(path)
    return path


@other("Keras functional model with a dictionary of three inputs")
def keras_dictionary(folder: Path) -> Path:
    tf = tensorflow()
    layers = tf.keras.layers
    sizes = {"z": 3, "a": 4, "m": 5}
    inputs = {name: layers.Input((size,), name=name) for name, size in sizes.items()}
    y = layers.Dense(2)(layers.Concatenate()([inputs["a"], inputs["m"], inputs["z"]]))
    path = folder / "keras_dictionary.keras"
    tf.keras.Model(inputs, y).save(path)
    return path


TORCH = """import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.w = torch.nn.Parameter(torch.randn(8, 4, generator=generator))

    def forward(self, x):
        return {body}


def net():
    return Net()
"""


def torch_card(folder: Path, name: str, body: str) -> Path:
    (folder / f"{name}.py").write_text(TORCH.format(body=body))
    card = {
        "name": name,
        "task": "unknown",
        "licence": "CC0-1.0",
        "inputs": {"x": {"dtype": "float32", "shape": ["N", 8]}},
        "outputs": {"y": {"dtype": "float32", "shape": ["N", 4]}},
        "sources": {"torch": {"path": f"{name}.py", "callable": "net"}},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(card))
    return path


@other("torch module fixed at batch 1 by view(1, 8)")
def torch_view(folder: Path) -> Path:
    return torch_card(folder, "torch_view", "x.view(1, 8) @ self.w")


@other("torch module with dropout left on")
def torch_dropout(folder: Path) -> Path:
    return torch_card(
        folder, "torch_dropout", "torch.nn.functional.dropout(x, training=True) @ self.w"
    )
