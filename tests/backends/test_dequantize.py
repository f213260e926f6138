"""Quantized TFLite files made float: on the files of the assets."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")

from ai_edge_litert.interpreter import Interpreter

from qbench.kit.adapter import PrepareError
from qbench.kit.converter import Source
from qbench.kit.model import SourceTensor, TensorSpec
from qbench_tensorflow import dequantize as module
from qbench_tensorflow.dequantize import convert, dequantize

MOBILENET = "models/mobilenet_v2_100_224_uint8_ptq/model_uint8.tflite"


def run(content: bytes, inputs: np.ndarray) -> np.ndarray:
    interpreter = Interpreter(model_content=content)
    (given,) = interpreter.get_input_details()
    interpreter.resize_tensor_input(given["index"], inputs.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(given["index"], inputs)
    interpreter.invoke()
    (made,) = interpreter.get_output_details()
    return interpreter.get_tensor(made["index"])


def sqnr_db(exact: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(np.sum(exact**2) / np.sum((exact - other) ** 2)))


@pytest.fixture
def pictures(assets: Path) -> np.ndarray:
    """Four of ImageNet, in -1..1."""
    with zipfile.ZipFile(assets / "datasets/imagenet_val1300/imagenet_val1300_dev.zip") as archive:
        opened = [Image.open(io.BytesIO(archive.read(n))) for n in archive.namelist()[:4]]
    pixels = np.stack([np.asarray(image.convert("RGB").resize((224, 224))) for image in opened])
    return (pixels / 127.5 - 1).astype(np.float32)


def test_the_rebuilt_network_is_the_one_of_the_assets(assets: Path, pictures: np.ndarray):
    """They were made independently: by Keras, from the same dequantized weights."""
    rebuilt = dequantize((assets / MOBILENET).read_bytes(), without_classes=1)
    theirs = (assets / "models/mobilenet_v2_100_224/model.tflite").read_bytes()
    np.testing.assert_array_equal(run(rebuilt, pictures), run(theirs, pictures))
    assert len(rebuilt) < 1.02 * len(theirs)  # nothing of the quantized file is left in it


def test_float_activations_are_close_to_the_quantized_file(assets: Path, pictures: np.ndarray):
    content = (assets / MOBILENET).read_bytes()
    steps = np.rint(pictures / 0.007843137718737125) + 127
    rounded = run(content, np.clip(steps, 0, 255).astype(np.uint8)[:1]).astype(np.float64) / 256
    real = run(dequantize(content, without_classes=0), pictures[:1])
    assert rounded.shape == real.shape == (1, 1001)
    assert np.argmax(rounded) == np.argmax(real) and sqnr_db(real, rounded) > 15


def test_the_float_file_can_be_quantized_again(assets: Path, pictures: np.ndarray):
    """The calibrator reads every tensor of the graph: none may be left over."""
    pytest.importorskip("ai_edge_quantizer", reason="ai-edge-quantizer is not installed")
    from ai_edge_quantizer import quantizer, recipe

    from qbench_tflite.signature import with_signature

    content = dequantize((assets / MOBILENET).read_bytes(), without_classes=1)
    tool = quantizer.Quantizer(bytearray(with_signature(content)), recipe.static_wi8_ai8())
    (key,) = Interpreter(model_content=with_signature(content)).get_signature_list()
    seen = tool.calibrate({key: [{"input": pictures[:1]}]})
    assert len(tool.quantize(seen).quantized_model) < 5_000_000


def test_int8_weights_of_a_float_file_become_float(assets: Path):
    """MLPerf Tiny's keyword spotter computes in float with int8 weights: only its rounding of
    activations on the fly goes away."""
    content = (assets / "models/dscnn_kws/model_dynint8weights.tflite").read_bytes()
    features = np.random.default_rng(0).normal(0, 20, (1, 49, 10, 1)).astype(np.float32)
    rebuilt = dequantize(content, without_classes=0)
    assert len(rebuilt) > 2 * len(content)
    assert sqnr_db(run(rebuilt, features), run(content, features)) > 15


def source(path: Path, **options: Any) -> Source:
    tensors = {"image": TensorSpec("float32", ("N", 224, 224, 3), "NHWC")}
    classes = {"scores": TensorSpec("float32", ("N", 1000))}
    names = {"image": SourceTensor("input", "NHWC")}, {"scores": SourceTensor("Identity")}
    return Source(
        "quantized-tflite", path, tensors, classes, *names, options={"options": options or None}
    )


def test_the_route_checks_itself_against_the_quantized_file(
    assets: Path, tmp_path: Path, pictures: np.ndarray, monkeypatch: pytest.MonkeyPatch
):
    made_of = source(assets / MOBILENET, without_classes=1)
    made = convert(made_of, "tflite", {"image": pictures}, tmp_path)
    assert made.reference["scores"].shape == (4, 1000)
    np.testing.assert_allclose(made.reference["scores"].sum(axis=1), 1, atol=1e-4)
    assert "dequantized" in made.notes[0]

    def other_weights(model: Any, tensor: Any) -> None:
        """Scales that are a quarter too large."""
        if tensor.quantization is not None and tensor.quantization.scale is not None:
            tensor.quantization.scale = [1.25 * scale for scale in tensor.quantization.scale]
        make_float(model, tensor)

    make_float = module._make_float
    monkeypatch.setattr(module, "_make_float", other_weights)
    (tmp_path / "wrong").mkdir()
    with pytest.raises(PrepareError, match="depends on its quantization"):
        convert(made_of, "tflite", {"image": pictures}, tmp_path / "wrong")


@pytest.mark.parametrize(
    "options", [{"without_classes": "1"}, {"without": 1}, {"without_classes": -1}]
)
def test_other_options_are_refused(assets: Path, tmp_path: Path, options: dict[str, Any]):
    with pytest.raises(PrepareError, match="one option"):
        convert(source(assets / MOBILENET, **options), "tflite", {}, tmp_path)


def test_classes_of_another_layer_cannot_be_left_out(assets: Path):
    content = (assets / "models/ssd_mobilenet_v1_coco300_uint8/model_uint8.tflite").read_bytes()
    with pytest.raises(PrepareError, match="one output"):
        dequantize(content, without_classes=1)
