"""Defects of runtimes that spoil outputs without an error, on minimal models. The right values come
from NumPy or from the unquantized model."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qbench.kit.adapter import Adapter
from qbench.kit.model import (
    Artifact,
    Calibration,
    Model,
    PrepareTarget,
    RunConfig,
    SourceTensor,
    TensorSpec,
)
from qbench.spec.precisions import complete_options, flags

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
from onnx import helper, numpy_helper  # noqa: E402

RNG = np.random.default_rng(7)


def save(
    folder: Path,
    nodes: Sequence[Any],
    weights: dict[str, np.ndarray],
    shapes: tuple[Sequence[int], Sequence[int]],
) -> Model:
    """A model of one input ``x`` and one output ``y``."""
    graph = helper.make_graph(
        nodes,
        "minimal",
        [helper.make_tensor_value_info("x", 1, shapes[0])],
        [helper.make_tensor_value_info("y", 1, shapes[1])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    path = folder / "minimal.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    specs = [TensorSpec("float32", tuple(shape)) for shape in shapes]
    names = {"x": SourceTensor("x")}, {"y": SourceTensor("y")}
    return Model(
        "minimal", "onnx", path, "0" * 64, "custom", {"x": specs[0]}, {"y": specs[1]}, *names
    )


def make(
    backend: Adapter, model: Model, precision: str, out: Path, items: Any = None, **options: Any
) -> Artifact:
    out.mkdir()
    target = PrepareTarget(precision, complete_options(precision, options))
    calibration = None if items is None else Calibration({"x": items})
    return Artifact(out, model, target, backend.prepare(model, target, calibration, out))


def run(backend: Adapter, artifact: Artifact, x: np.ndarray, **config: Any) -> np.ndarray:
    with backend.open(artifact, RunConfig(**config)) as program:
        stream = program.stream()
        stream.bind({"x": x})
        stream.infer()
        return np.array(stream.read()["y"])


def departs(backend: Adapter, artifact: Artifact, **asked: Any) -> str | None:
    """Where the program departs from the target, with other options asked for than it has."""
    options = {**artifact.target.options, **asked}
    other = replace(artifact, target=replace(artifact.target, options=options))
    with backend.open(other, RunConfig(), inspect=True) as program:
        return program.mismatch()


def sqnr_db(reference: np.ndarray, outputs: np.ndarray) -> float:
    noise = np.sum((reference.astype(np.float64) - outputs) ** 2)
    return float(10 * np.log10(np.sum(reference.astype(np.float64) ** 2) / noise))


# --------------------------------------------------------------------------- ONNX Runtime


@pytest.fixture
def onnxruntime() -> Adapter:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    from qbench_onnxruntime import Backend

    return Backend()


def uneven_convolutions(folder: Path) -> Model:
    """Three convolutions; one channel of the middle one has weights 500 times the others', so one
    scale for the whole tensor makes zeros of the others. Clip keeps the activations even."""
    uneven = RNG.normal(size=(8, 8, 3, 3))
    uneven[0] *= 500
    weights = {
        "a": RNG.normal(size=(8, 3, 3, 3)).astype(np.float32),
        "b": uneven.astype(np.float32),
        "c": RNG.normal(size=(8, 8, 1, 1)).astype(np.float32),
        "low": np.float32(0),
        "high": np.float32(60),
    }
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["p"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["p"], ["q"], name="first_relu"),
        helper.make_node("Conv", ["q", "b"], ["r"], name="uneven", pads=[1, 1, 1, 1]),
        helper.make_node("Clip", ["r", "low", "high"], ["s"], name="uneven_clip"),
        helper.make_node("Conv", ["s", "c"], ["y"], name="last"),
    ]
    return save(folder, nodes, weights, ((1, 3, 8, 8), (1, 8, 8, 8)))


def test_excluded_layers_keep_their_float_weights(onnxruntime: Adapter, tmp_path: Path) -> None:
    """Between a DequantizeLinear and a QuantizeLinear, ONNX Runtime's optimizer
    WeightBiasQuantization quantizes an excluded layer after all, with one scale per tensor."""
    model = uneven_convolutions(tmp_path)
    items = RNG.normal(size=(32, 3, 8, 8)).astype(np.float32)
    right = run(onnxruntime, make(onnxruntime, model, "fp32", tmp_path / "fp32"), items[:1])
    artifact = make(
        onnxruntime, model, "int8-static", tmp_path / "out", items, excluded_operators=["uneven"]
    )
    ours = run(onnxruntime, artifact, items[:1])
    assert sqnr_db(right, ours) > 20
    hints = {
        "optimization.disable_specified_optimizers": "ConstantSharing"
    }  # a suite's own list is kept as well
    assert np.array_equal(run(onnxruntime, artifact, items[:1], hints=hints), ours)


def test_an_excluded_layer_that_the_runtime_quantizes_is_found(
    onnxruntime: Adapter, tmp_path: Path
) -> None:
    """The same optimizer, left on: the program that runs is not the one that was asked for."""
    model = uneven_convolutions(tmp_path)
    items = RNG.normal(size=(32, 3, 8, 8)).astype(np.float32)
    artifact = make(
        onnxruntime, model, "int8-static", tmp_path / "out", items, excluded_operators=["uneven"]
    )
    assert departs(onnxruntime, artifact) is None
    facts = json.loads((artifact.path / "io.json").read_text())
    facts["float_between_quantized"] = False
    (artifact.path / "io.json").write_text(json.dumps(facts))
    assert departs(onnxruntime, artifact) == (
        "'uneven' is excluded from quantization, but runs with integer weights"
    )


# --------------------------------------------------------------------------- OpenVINO


@pytest.fixture
def openvino() -> Adapter:
    pytest.importorskip("nncf", reason="openvino and nncf are not installed")
    from qbench_openvino import Backend

    return Backend()


def pointwise(
    folder: Path,
    before: Sequence[int] = (),
    after: Sequence[int] = (),
    bias: bool = False,
    **attributes: Any,
) -> tuple[Model, np.ndarray]:
    """A 1x1 convolution between Transposes, and its right output for an input of ones times a
    ramp, from NumPy."""
    x = np.arange(2 * 16 * 6 * 4, dtype=np.float32).reshape(2, 16, 6, 4)[:1] / 100 - 3
    given = x.transpose(np.argsort(before)) if before else x
    kernel = RNG.normal(size=(24, 16, 1, 1)).astype(np.float32)
    stride = attributes.get("strides", [1, 1])
    pad = attributes.get("pads", [0] * 4)[0]
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))[:, :, :: stride[0], :: stride[1]]
    right = np.einsum("nchw,oc->nohw", padded, kernel[..., 0, 0])
    offset = RNG.normal(size=24).astype(np.float32)
    right = right + offset[:, None, None] if bias else right
    right = right.transpose(after) if after else right
    weights = {"w": kernel, **({"b": offset} if bias else {})}
    nodes = [helper.make_node("Transpose", ["x"], ["p"], perm=before)] if before else []
    inputs = ["p" if before else "x", *weights]
    end = "q" if after else "y"
    nodes += [helper.make_node("Conv", inputs, [end], name="pointwise", **attributes)]
    nodes += [helper.make_node("Transpose", ["q"], ["y"], perm=after)] if after else []
    return save(folder, nodes, weights, (given.shape, right.shape)), right


@pytest.mark.parametrize(
    ("around", "compressed"),
    [
        ({"after": [0, 2, 3, 1]}, True),
        ({"before": [0, 3, 1, 2]}, True),
        ({"after": [0, 3, 2, 1]}, False),
        ({"after": [0, 3, 1, 2]}, False),
        ({"after": [0, 3, 2, 1], "bias": True}, False),
        ({"before": [0, 3, 2, 1]}, False),
        ({"after": [0, 2, 3, 1], "strides": [2, 2]}, False),
        ({"after": [0, 2, 3, 1], "pads": [1, 1, 1, 1]}, False),
    ],
    ids=str,
)
def test_compressed_pointwise_convolutions_are_right(
    openvino: Adapter, tmp_path: Path, around: dict[str, Any], compressed: bool
) -> None:
    """OpenVINO makes a matrix product of them and drops a Transpose next to them, whatever its
    permutation is."""
    model, right = pointwise(tmp_path, **around)
    before = around.get("before")
    x = np.arange(2 * 16 * 6 * 4, dtype=np.float32).reshape(2, 16, 6, 4)[:1] / 100 - 3
    x = np.ascontiguousarray(x.transpose(np.argsort(before)) if before else x)
    if compressed:
        artifact = make(openvino, model, "w8", tmp_path / "out")
        assert artifact.provenance.quantized_ops == 1
        ours = run(openvino, artifact, x)
        assert ours.shape == right.shape and sqnr_db(right, ours) > 35
    else:  # nothing else to compress: the tool is said to have done nothing
        with pytest.raises(Exception, match="compressed no weight"):
            make(openvino, model, "w8", tmp_path / "out")


def test_a_compressed_file_with_such_a_convolution_is_unpacked(
    openvino: Adapter, tmp_path: Path
) -> None:
    """As-shipped: weights of 8 bits that the file brings, with float activations."""
    stored = RNG.integers(-127, 128, size=(24, 16, 1, 1)).astype(np.int8)
    scale = np.linspace(0.01, 0.02, 24, dtype=np.float32)
    weights = {"w": stored, "scale": scale, "zero": np.zeros(24, np.int8)}
    nodes = [
        helper.make_node("DequantizeLinear", list(weights), ["unpacked"], axis=0),
        helper.make_node("Conv", ["x", "unpacked"], ["q"], name="pointwise"),
        helper.make_node("Transpose", ["q"], ["y"], perm=[0, 3, 2, 1]),
    ]
    x = RNG.normal(size=(1, 16, 6, 4)).astype(np.float32)
    kernel = stored[..., 0, 0] * scale[:, None]
    right = np.einsum("nchw,oc->nwho", x, kernel)
    model = save(tmp_path, nodes, weights, (x.shape, right.shape))
    artifact = make(openvino, model, "as-shipped", tmp_path / "out")
    assert "unpacked to float32" in " ".join(artifact.provenance.notes)
    assert sqnr_db(right, run(openvino, artifact, x)) > 100
    with openvino.open(artifact, RunConfig(), inspect=True) as program:
        assert flags("as-shipped", program.effective()) == ["quantized in name only"]


# --------------------------------------------------------------------------- asked and run

ZOO = Path(__file__).parents[2] / "suites" / "zoo"


def zoo(name: str, inputs: tuple[str, str], output: str, size: int) -> Model:
    form = name.rpartition(".")[2]
    image = TensorSpec("float32", ("N", 1, size, size), "NCHW")
    logits = TensorSpec("float32", ("N", 10))
    names = {"x": SourceTensor(*inputs)}, {"y": SourceTensor(output)}
    return Model(name, form, ZOO / name, "0" * 64, "custom", {"x": image}, {"y": logits}, *names)


CNN = zoo("digits_cnn.onnx", ("image", "NCHW"), "logits", 8)
LITE = zoo(
    "digits_cnn.tflite", ("serving_default_args_0", "NHWC"), "serving_default_output_0_output", 8
)
VIT = zoo("digits_vit.onnx", ("image", "NCHW"), "logits", 32)


def backend_of(name: str) -> Adapter:
    needs = {"tflite": "ai_edge_quantizer", "openvino": "nncf", "onnxruntime": "onnxruntime"}
    pytest.importorskip(needs[name], reason=f"{needs[name]} is not installed")
    return importlib.import_module(f"qbench_{name}").Backend()


@pytest.mark.parametrize(
    ("name", "model", "excluded"),
    [("onnxruntime", CNN, "Conv"), ("openvino", CNN, "Convolution"), ("tflite", LITE, "CONV_2D")],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_scales_and_exclusions_are_read_from_the_program_that_runs(
    name: str, model: Model, excluded: str, tmp_path: Path
) -> None:
    backend = backend_of(name)
    backend.import_runtime()
    items = RNG.normal(size=(16, 1, 8, 8)).astype(np.float32)
    channels = make(backend, model, "int8-static", tmp_path / "channels", items)
    assert departs(backend, channels) is None
    with backend.open(channels, RunConfig(), inspect=True) as program:
        # LiteRT multiplies int8 by int8, the others uint8 by int8
        assert program.effective().sums_in_16_bits == (name != "tflite")
    reason = departs(backend, channels, per_channel=False)
    assert reason is not None and reason.startswith("per_channel is false, but ")
    tensor = make(backend, model, "int8-static", tmp_path / "tensor", items, per_channel=False)
    assert departs(backend, tensor) is None
    reason = departs(backend, tensor, per_channel=True)
    assert reason is not None and reason.endswith("output channels, but 1 scales run")
    left = make(
        backend, model, "int8-static", tmp_path / "left", items, excluded_operators=[excluded]
    )
    assert departs(backend, left) is None
    settings = {**channels.provenance.settings, **left.provenance.settings}
    claimed = replace(channels, provenance=replace(channels.provenance, settings=settings))
    reason = departs(backend, claimed, excluded_operators=[excluded])
    assert reason is not None and "is excluded from quantization, but runs" in reason


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("group", [16, 32, -1])
def test_groups_are_read_from_the_program_that_runs(name: str, group: int, tmp_path: Path) -> None:
    backend = backend_of(name)
    artifact = make(backend, VIT, "w4", tmp_path / "out", group_size=group)
    assert departs(backend, artifact) is None
    reason = departs(backend, artifact, group_size=32 if group == 16 else 16)
    assert reason is not None and reason.startswith("group_size ")


@pytest.mark.parametrize("precision", ["int8-static", "int8-dynamic"])
def test_a_vector_has_one_scale_by_the_tools_choice(tmp_path: Path, precision: str):
    """No mismatch: ``[1, 6, 16] x [16, 64] x [64]`` at one scale per output channel."""
    pytest.importorskip("onnxruntime")
    weights = {
        "w": RNG.normal(size=(16, 64)).astype(np.float32),
        "v": RNG.normal(size=64).astype(np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="mm1"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "v"], ["y"], name="mm2"),
    ]
    model = save(tmp_path, nodes, weights, ((1, 6, 16), (1, 6)))
    backend = importlib.import_module("qbench_onnxruntime").Backend()
    items = RNG.normal(size=(8, 6, 16)).astype(np.float32)
    artifact = make(backend, model, precision, tmp_path / "out", items)
    with backend.open(artifact, RunConfig(), inspect=True) as program:
        assert program.mismatch() is None
