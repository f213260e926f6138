"""qbench's converter for models of TensorFlow's world, to TFLite and ONNX.

``load.py`` loads Keras files, SavedModels and models of ``keras.applications``; ``convert.py``
converts what it loaded; ``tflite.py`` takes TFLite files to ONNX. Importing this package imports
nothing heavy.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from qbench.kit.adapter import PrepareError, Unavailable
from qbench.kit.converter import Converted, Source, missing
from qbench.kit.model import Feed, TensorSpec

__all__ = ["Converter"]

_TENSORFLOW = {"tensorflow": "tensorflow"}
_KERAS = {**_TENSORFLOW, "keras": "keras", "h5py": "h5py"}
_NEEDS = {
    "keras": _KERAS,
    "keras-applications": _KERAS,
    "savedmodel": _TENSORFLOW,
    "tflite": {**_TENSORFLOW, "ai_edge_litert": "ai-edge-litert"},
}
_TO_ONNX = {"tf2onnx": "tf2onnx", "onnx": "onnx"}


class Converter:
    """Keras, SavedModel and ``keras.applications`` to TFLite and ONNX; TFLite to ONNX."""

    name = "tensorflow"
    convert_version = 1
    packages = (
        "tensorflow",
        "tensorflow-cpu",
        "keras",
        "h5py",
        "tf2onnx",
        "onnx",
        "ai-edge-litert",
        "numpy",
    )
    routes: Mapping[str, tuple[str, ...]] = {
        "keras": ("tflite", "onnx"),
        "savedmodel": ("tflite", "onnx"),
        "keras-applications": ("tflite", "onnx"),
        "tflite": ("onnx",),
    }
    endings: Mapping[str, str] = {".keras": "keras", ".h5": "keras", ".hdf5": "keras"}
    described: tuple[str, ...] = ("keras", "savedmodel")

    def probe(self, source: str, form: str) -> Unavailable | None:
        return missing({**_NEEDS[source], **(_TO_ONNX if form == "onnx" else {})})

    def import_runtime(self) -> str:
        """Import TensorFlow, on the CPU and with little to say, and return its version."""
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # a conversion needs no GPU, nor its memory
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
        os.environ["KERAS_BACKEND"] = "tensorflow"
        import tensorflow

        return str(tensorflow.__version__)

    def describe(self, path: Path) -> tuple[Mapping[str, TensorSpec], Mapping[str, TensorSpec]]:
        """Inputs and outputs of a Keras file or the folder of a SavedModel."""
        self.import_runtime()
        from qbench_tensorflow.convert import describe

        return describe(path)

    def convert(self, source: Source, form: str, samples: Feed, out: Path) -> Converted:
        """One of ``routes``; see ``qbench.kit.converter``."""
        if source.cache is not None:
            os.environ["KERAS_HOME"] = str(source.cache.absolute())  # read when it is imported
        self.import_runtime()
        if source.format == "tflite":
            from qbench_tensorflow.tflite import convert
        else:
            from qbench_tensorflow.convert import convert
        if form not in self.routes[source.format]:
            raise PrepareError(f"{source.format} cannot be converted to {form}")
        return convert(source, form, samples, out)
