"""qbench's converter for torch modules: ONNX by ``torch.onnx.export``, TFLite by litert-torch.

A module is named by a Python file and a callable in it that returns it; that code runs, and in a
worker only. Importing this package imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from qbench.kit.adapter import PrepareError, Unavailable
from qbench.kit.converter import Converted, Source, missing
from qbench.kit.model import Feed, TensorSpec

__all__ = ["Converter"]

_NEEDS = {
    "onnx": {"torch": "torch", "onnx": "onnx", "onnxscript": "onnxscript"},
    "tflite": {"torch": "torch", "litert_torch": "litert-torch"},
}


class Converter:
    """``torch.nn.Module`` to ONNX and TFLite."""

    name = "torch"
    convert_version = 1
    packages = (
        "torch",
        "onnx",
        "onnxscript",
        "litert-torch",
        "safetensors",
        "numpy",
        *("torchvision", "timm", "transformers"),  # what the user's file is likely to import
    )
    routes: Mapping[str, tuple[str, ...]] = {"torch": ("onnx", "tflite")}
    endings: Mapping[str, str] = {}
    described: tuple[str, ...] = ()

    def probe(self, source: str, form: str) -> Unavailable | None:
        return missing(_NEEDS[form])

    def import_runtime(self) -> str:
        import torch

        return str(torch.__version__)

    def describe(self, path: Path) -> tuple[Mapping[str, TensorSpec], Mapping[str, TensorSpec]]:
        raise PrepareError("a torch module does not tell the shapes of its inputs: write a card")

    def convert(self, source: Source, form: str, samples: Feed, out: Path) -> Converted:
        """One of ``routes``; see ``qbench.kit.converter``."""
        from qbench_torch.convert import convert

        return convert(source, form, samples, out)
