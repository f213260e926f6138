"""qbench converter from TensorFlow's formats to TFLite and ONNX.

``load.py`` loads Keras files, SavedModels and models of ``keras.applications``, ``convert.py``
converts them, ``tflite.py`` converts TFLite files to ONNX, ``dequantize.py`` quantized TFLite files
to float ones. Importing this package imports
nothing heavy.
"""

from __future__ import annotations

import os
from pathlib import Path

from qbench.kit import converter
from qbench.kit.adapter import Description, PrepareError
from qbench.kit.model import Feed
from qbench_tensorflow.messages import MESSAGES

__all__ = ["Converter"]

_TENSORFLOW = {"tensorflow": "tensorflow"}
_KERAS = {**_TENSORFLOW, "keras": "keras", "h5py": "h5py"}
_LITERT = {"ai_edge_litert": "ai-edge-litert", "flatbuffers": "flatbuffers"}
_TO_ONNX = {"tf2onnx": "tf2onnx", "onnx": "onnx"}


class Converter(converter.Converter):
    """Keras, SavedModel, ``keras.applications`` and quantized TFLite to TFLite and ONNX; TFLite to
    ONNX."""

    name = "tensorflow"
    convert_version = 2
    messages = MESSAGES
    packages = (
        *("tensorflow", "tensorflow-cpu", "keras", "h5py", "tf2onnx", "onnx"),
        *("ai-edge-litert", "numpy"),
    )
    routes = {
        "keras": {"tflite": _KERAS, "onnx": {**_KERAS, **_TO_ONNX}},
        "savedmodel": {"tflite": _TENSORFLOW, "onnx": {**_TENSORFLOW, **_TO_ONNX}},
        "keras-applications": {"tflite": _KERAS, "onnx": {**_KERAS, **_TO_ONNX}},
        "tflite": {"onnx": {**_TENSORFLOW, **_LITERT, **_TO_ONNX}},
        "quantized-tflite": {"tflite": _LITERT, "onnx": {**_TENSORFLOW, **_LITERT, **_TO_ONNX}},
    }
    endings = {".keras": "keras", ".h5": "keras", ".hdf5": "keras"}
    described = ("keras", "savedmodel")

    def import_tools(self) -> None:
        """Import TensorFlow on the CPU, with few messages."""
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # a conversion needs no GPU, nor its memory
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
        os.environ["KERAS_BACKEND"] = "tensorflow"
        import tensorflow  # noqa: F401

    def describe(self, path: Path) -> Description:
        """Inputs and outputs of a Keras file or of a SavedModel's folder."""
        self.import_tools()
        from qbench_tensorflow.convert import describe

        return describe(path)

    def convert(
        self, source: converter.Source, form: str, samples: Feed, out: Path
    ) -> converter.Converted:
        if form not in self.routes[source.format]:
            raise PrepareError(f"{source.format} cannot be converted to {form}")
        if source.format == "quantized-tflite":
            from qbench_tensorflow.dequantize import convert

            return convert(source, form, samples, out)
        if source.cache is not None:
            os.environ["KERAS_HOME"] = str(source.cache.absolute())  # Keras reads it at import
        self.import_tools()
        if source.format == "tflite":
            from qbench_tensorflow.tflite import convert
        else:
            from qbench_tensorflow.convert import convert
        return convert(source, form, samples, out)
