"""Real failures of the converters' tools: a status and a sentence that names what is at fault."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from readable import assert_readable

from qbench.kit.converter import Source
from qbench.kit.model import SourceTensor, TensorSpec
from qbench.kit.reasons import Reason, explain

pytestmark = pytest.mark.slow

TORCH = """
import torch
class Branches(torch.nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x * 2
        return x
@torch.library.custom_op("acme::fancy", mutates_args=())
def fancy(x: torch.Tensor) -> torch.Tensor:
    return x.clone()
@fancy.register_fake
def _(x):
    return torch.empty_like(x)
class Custom(torch.nn.Module):
    def forward(self, x):
        return torch.ops.acme.fancy(x)
class Narrow(torch.nn.Linear):
    def __init__(self):
        super().__init__(5, 4)
def broken():
    return {}["weights"]
def number():
    return 3
"""


def failure(
    target: str, source: str, path: Path, form: str, folder: Path, size: int = 4, **options: Any
) -> Reason:
    module, _, name = target.partition(":")
    converter = getattr(importlib.import_module(module), name)()
    ins = {"x": TensorSpec("float32", ("N", size))}
    outs = {"y": TensorSpec("float32", ("N", 4))}
    names = {"x": SourceTensor("")}, {"y": SourceTensor("")}
    asked = Source(source, path, ins, outs, *names, options)
    np.save(folder / "x.npy", np.ones((4, size), np.float32))
    request = {"source": asked.to_json(), "form": form, "samples": {"x": "x.npy"}}
    job = importlib.import_module("qbench.kit.jobs.convert")
    with pytest.raises(Exception) as caught:
        job.run(converter, request, lambda phase: None)
    found = explain(caught.value, converter.messages)
    assert_readable(found.text)
    return found


@pytest.mark.parametrize(
    ("name", "form", "words"),
    [
        ("Branches", "onnx", "in model.py, line 5, it branches on the values of a tensor"),
        ("Branches", "tflite", "in model.py, line 5, it branches on the values of a tensor"),
        ("Custom", "onnx", "no ONNX operator for acme.fancy"),
        ("Custom", "tflite", "no TFLite operator for acme.fancy"),
        ("Narrow", "onnx", "shapes cannot be multiplied (1x4 and 5x4)"),
        ("broken", "onnx", "model.py, line 21: it has no entry 'weights'"),
        ("number", "onnx", "not a torch.nn.Module"),
        ("absent", "onnx", "has no attribute 'absent'"),
    ],
)
def test_a_torch_module_that_cannot_be_converted(
    name: str, form: str, words: str, tmp_path: Path, monkeypatch
):
    pytest.importorskip("torch", reason="torch is not installed")
    if form == "tflite":
        pytest.importorskip("litert_torch", reason="litert-torch is not installed")
    else:
        pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text(TORCH)
    found = failure(
        "qbench_torch:Converter", "torch", tmp_path / "model.py", form, tmp_path, callable=name
    )
    assert found.status == "prepare_failed" and words in found.text, found


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keras files and a SavedModel, each with a fault."""
    keras = pytest.importorskip("keras", reason="keras is not installed")
    tf = pytest.importorskip("tensorflow", reason="tensorflow is not installed")
    folder = tmp_path_factory.mktemp("sources")

    class Mine(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return x

    class Betainc(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
        def __call__(self, x: Any) -> Any:
            return {"y": tf.raw_ops.Betainc(a=x, b=x, x=x)}

    keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, name="d")]).save(folder / "d.keras")
    keras.Sequential([keras.Input((4,)), Mine()]).save(folder / "mine.keras")
    (folder / "cut.keras").write_bytes((folder / "d.keras").read_bytes()[:500])
    (folder / "empty.h5").write_bytes(b"")
    made = Betainc()
    tf.saved_model.save(made, str(folder / "betainc"), {"serving_default": made.__call__})
    return folder


@pytest.mark.parametrize(
    ("file", "form", "size", "words"),
    [
        ("mine.keras", "onnx", 4, "a layer of its own, Mine,"),
        ("cut.keras", "onnx", 4, "not a readable Keras model: truncated"),
        ("empty.h5", "tflite", 4, "not a readable Keras model: truncated"),
        ("none.keras", "onnx", 4, "No such file or directory: none.keras"),
        ("d.keras", "onnx", 5, "the card's input 'x' is ['N', 5], the source's [None, 4]"),
        ("betainc", "onnx", 4, "no ONNX operator for Betainc"),
        ("betainc", "tflite", 4, "no operators for Betainc"),
    ],
)
def test_a_source_of_tensorflow_that_cannot_be_converted(
    sources: Path, file: str, form: str, size: int, words: str, tmp_path: Path, monkeypatch
):
    pytest.importorskip("tf2onnx", reason="tf2onnx is not installed")
    monkeypatch.chdir(tmp_path)
    kind = "keras" if "." in file else "savedmodel"
    found = failure("qbench_tensorflow:Converter", kind, sources / file, form, tmp_path, size)
    assert found.status == "prepare_failed" and words in found.text, found
