"""qbench converter for torch modules: ONNX by ``torch.onnx.export``, TFLite by litert-torch.

The card names a Python file and a callable in it that returns the module; that code runs in workers
only. Importing this package imports nothing heavy.
"""

from __future__ import annotations

from pathlib import Path

from qbench.kit import converter
from qbench.kit.model import Feed
from qbench_torch.messages import MESSAGES

__all__ = ["Converter"]


class Converter(converter.Converter):
    """``torch.nn.Module`` to ONNX and TFLite."""

    name = "torch"
    convert_version = 2
    messages = MESSAGES
    packages = (
        *("torch", "onnx", "onnxscript", "litert-torch", "safetensors", "numpy"),
        *("torchvision", "timm", "transformers"),  # likely imports of the user's file
    )
    routes = {
        "torch": {
            "onnx": {"torch": "torch", "onnx": "onnx", "onnxscript": "onnxscript"},
            "tflite": {"torch": "torch", "litert_torch": "litert-torch"},
        }
    }

    def convert(
        self, source: converter.Source, form: str, samples: Feed, out: Path
    ) -> converter.Converted:
        from qbench_torch.convert import convert

        return convert(source, form, samples, out)
