"""The OpenVINO adapter, with the real runtime and real models."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cells import cell
from paths import ROOT
from processor import HAS_VNNI, SATURATES

from qbench.kit.adapter import PrepareError, Ready, Unsupported
from qbench.kit.model import (
    Artifact,
    Calibration,
    Model,
    PrepareTarget,
    RunConfig,
    SourceTensor,
    TensorSpec,
)
from qbench.kit.operators import Activation
from qbench.kit.reasons import explain
from qbench.spec.precisions import complete_options, flags
from qbench.testing.conformance import AdapterConformance

if importlib.util.find_spec("openvino") is None or importlib.util.find_spec("nncf") is None:
    pytest.skip("needs openvino and nncf: pip install openvino nncf", allow_module_level=True)

from openvino import Core as CORE

from qbench_openvino import Backend

ZOO = ROOT / "suites" / "zoo"


# --------------------------------------------------------------------------- models and data


def asset(path: str) -> Path:
    folder = os.environ.get("QBENCH_ASSETS")
    if not folder:
        pytest.skip("set QBENCH_ASSETS to the folder of assets")
    file = Path(folder) / path
    if not file.exists():
        pytest.skip(f"the asset {path} is not in QBENCH_ASSETS")
    return file


def describe(
    path: Path,
    input_: tuple[str, TensorSpec, str | None],
    output: tuple[str, TensorSpec],
    name: str = "model",
) -> Model:
    """A model of one input (``x``) and one output (``y``); file names and layouts are given."""
    return Model(
        name=name,
        format=path.suffix[1:],
        path=path,
        digest="0" * 64,
        task="image-classification",
        inputs={"x": input_[1]},
        outputs={"y": output[1]},
        source_inputs={"x": SourceTensor(input_[0], input_[2])},
        source_outputs={"y": SourceTensor(output[0])},
    )


def resnet8(form: str = "onnx", layout: str = "NHWC") -> Model:
    shape = ("N", 32, 32, 3) if layout == "NHWC" else ("N", 3, 32, 32)
    return describe(
        asset(f"models/resnet8_cifar10/model.{form}"),
        ("input_1", TensorSpec("float32", shape, layout), "NHWC"),
        ("Identity", TensorSpec("float32", ("N", 10))),
    )


def digits(form: str) -> Model:
    names = {
        "onnx": ("image", "NCHW", "logits"),
        "tflite": ("serving_default_args_0", "NHWC", "serving_default_output_0_output"),
    }
    source, layout, target = names[form]
    file = ZOO / f"digits_cnn.{form}"
    if not file.exists():
        pytest.skip(f"{file.name} is not in suites/zoo")
    return describe(
        file,
        (source, TensorSpec("float32", ("N", 1, 8, 8), "NCHW"), layout),
        (target, TensorSpec("float32", ("N", 10))),
    )


def vit() -> Model:
    file = ZOO / "digits_vit.onnx"
    if not file.exists():
        pytest.skip(f"{file.name} is not in suites/zoo")
    return describe(
        file,
        ("image", TensorSpec("float32", ("N", 1, 32, 32), "NCHW"), "NCHW"),
        ("logits", TensorSpec("float32", ("N", 10))),
    )


def dscnn() -> Model:
    return describe(
        asset("models/dscnn_kws/model.onnx"),
        ("input_1", TensorSpec("float32", ("N", 49, 10, 1), "NHWC"), "NHWC"),
        ("dense", TensorSpec("float32", ("N", 12))),
    )


def with_q_dq(model: Model, items: np.ndarray, folder: Path) -> Model:
    """``model`` quantized by ONNX Runtime into a file with Q/DQ operators."""
    quantization = pytest.importorskip("onnxruntime.quantization")
    feeds = iter([{model.source_inputs["x"].name: item[None]} for item in items])

    class Reader(quantization.CalibrationDataReader):
        def get_next(self) -> Any:
            return next(feeds, None)

    path = folder / "quantized.onnx"
    quantization.quantize_static(
        model.path,
        path,
        Reader(),
        quant_format=quantization.QuantFormat.QDQ,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        per_channel=True,
    )
    return replace(model, path=path)


def encoder(folder: Path, width: int = 96) -> Model:
    """One attention block with a feed-forward part, 16 tokens, written with onnx."""
    onnx = pytest.importorskip("onnx")
    rng = np.random.default_rng(0)
    nodes, constants = [], []

    def dense(source: str, target: str, inputs: int, outputs: int) -> None:
        weight = rng.normal(0, inputs**-0.5, (inputs, outputs)).astype(np.float32)
        constants.append(onnx.numpy_helper.from_array(weight, f"w_{target}"))
        nodes.append(onnx.helper.make_node("MatMul", [source, f"w_{target}"], [target]))

    for part in "qkv":
        dense("x", part, width, width)
    nodes.append(onnx.helper.make_node("Transpose", ["k"], ["kt"], perm=[0, 2, 1]))
    nodes.append(onnx.helper.make_node("MatMul", ["q", "kt"], ["scores"]))
    nodes.append(onnx.helper.make_node("Softmax", ["scores"], ["weights"], axis=-1))
    nodes.append(onnx.helper.make_node("MatMul", ["weights", "v"], ["mixed"]))
    dense("mixed", "wide", width, 4 * width)
    nodes.append(onnx.helper.make_node("Relu", ["wide"], ["active"]))
    dense("active", "y", 4 * width, width)
    tensor = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes,
        "encoder",
        [tensor("x", onnx.TensorProto.FLOAT, ["N", 16, width])],
        [tensor("y", onnx.TensorProto.FLOAT, ["N", 16, width])],
        constants,
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    path = folder / "encoder.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    spec = TensorSpec("float32", ("N", 16, width))
    return describe(path, ("x", spec, None), ("y", spec))


# --------------------------------------------------------------------------- helpers


def prepare(
    model: Model,
    precision: str,
    out: Path,
    calibration: Calibration | None = None,
    options: Mapping[str, Any] | None = None,
    recipe: str = "best",
) -> Artifact:
    backend = Backend()
    target = PrepareTarget(precision, complete_options(precision, options or {}), recipe=recipe)
    assert backend.supports(model, target) is None
    out.mkdir(exist_ok=True)
    return Artifact(out, model, target, backend.prepare(model, target, calibration, out))


def predict(artifact: Artifact, items: np.ndarray, config: RunConfig | None = None) -> np.ndarray:
    config = config or RunConfig()
    parts = []
    with Backend().open(artifact, config) as program:
        stream = program.stream()
        for start in range(0, len(items), config.batch):
            stream.bind({"x": items[start : start + config.batch]})
            stream.infer()
            parts.append(stream.read()["y"].copy())
    return np.concatenate(parts)


def directly(path: Path, items: np.ndarray) -> np.ndarray:
    """The model's outputs by OpenVINO alone."""
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(path, "CPU", settings)
    return next(iter(compiled(items).values()))


def sqnr_db(exact: np.ndarray, got: np.ndarray) -> float:
    return float(10 * np.log10(np.sum(exact**2.0) / max(np.sum((exact - got) ** 2.0), 1e-30)))


def effective(artifact: Artifact) -> Any:
    with Backend().open(artifact, RunConfig(), inspect=True) as program:
        return program.effective()


def shown(artifact: Artifact, items: np.ndarray) -> list[list[Activation]]:
    """The layers' outputs for each of ``items``, one at a time."""
    feeds = ({"x": item[None]} for item in items)
    return list(Backend().activations(artifact, RunConfig(), feeds))


def declared() -> tuple[str, ...]:
    answer = Backend().probe()
    assert isinstance(answer, Ready)
    return answer.precisions["cpu"]


@pytest.fixture(scope="module")
def cifar() -> tuple[Calibration, np.ndarray, np.ndarray]:
    """Calibration items, 500 test images (float32, NHWC) and their labels."""
    calibration = np.load(asset("datasets/cifar10_calib_train/cifar10_calib_train.npz"))
    test = np.load(asset("datasets/cifar10_test/cifar10_test.npz"))
    feeds = {"x": calibration["x"][:100].astype(np.float32)}
    labelled = Calibration(feeds, calibration["y"][:100], "y")
    return labelled, test["x"].astype(np.float32), test["y"]


@pytest.fixture(scope="module")
def speech() -> tuple[Calibration, np.ndarray]:
    """100 calibration items and 100 others for ``dscnn``, preprocessed as MANIFEST.json says."""
    items = np.load(asset("datasets/kws01/kws01_dev.npz"))["x"]
    items = (items.astype(np.float32) - 83) * np.float32(0.5847029089927673)
    return Calibration({"x": items[:100]}), items[100:200]


def random_digits(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 1, 8, 8)).astype(np.float32)


# --------------------------------------------------------------------------- conformance


class TestConformanceOnnx(AdapterConformance):
    target = "qbench_openvino:Backend"

    def model(self, folder: Path) -> Model:
        return digits("onnx")

    def stateful(self, folder: Path) -> Model:
        return cell(folder / "cell.onnx", "onnx")


class TestConformanceTflite(AdapterConformance):
    target = "qbench_openvino:Backend"

    def model(self, folder: Path) -> Model:
        return digits("tflite")

    def stateful(self, folder: Path) -> Model:
        return cell(folder / "cell.tflite", "tflite")


# --------------------------------------------------------------------------- what it declares


def test_every_precision_of_the_vocabulary_is_offered_or_has_a_reason() -> None:
    from qbench.kit.precisions import PRECISIONS

    answer = Backend().probe()
    assert isinstance(answer, Ready)
    assert {*answer.precisions["cpu"], *answer.missing["cpu"]} == set(PRECISIONS)


def test_probe_without_openvino_names_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    answer = Backend().probe()
    assert not isinstance(answer, Ready)
    assert answer.fix == "pip install openvino nncf"


def test_nothing_is_written_under_home(tmp_path: Path) -> None:
    code = (
        "from qbench_openvino import Backend; Backend().import_runtime();"
        "import nncf; assert Backend().probe().version"
    )
    home = tmp_path / "home"
    home.mkdir()
    env = {**os.environ, "HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path)}
    for name in ("CI", "TF_BUILD", "JENKINS_URL", "NNCF_CI"):
        env.pop(name, None)
    subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True)
    assert list(home.rglob("*")) == []


def test_what_nncf_cannot_do_is_refused_with_a_reason() -> None:
    model = digits("onnx")
    for precision, options, word in (
        ("int8-static", {"calibration_method": "entropy"}, "entropy"),
        ("int8-static", {"quantizer": "onnxruntime"}, "quantized by nncf"),
        ("int8-dynamic", {"per_channel": False}, "per output channel"),
        ("int8-dynamic", {"all_operators": True}, "in all matrix products"),
        ("w8", {"group_size": 64}, "per output channel"),
    ):
        target = PrepareTarget(precision, complete_options(precision, options))
        assert word in (Backend().supports(model, target) or "")


# --------------------------------------------------------------------------- accuracy


def test_fp32_agrees_with_openvino_alone(
    tmp_path: Path, cifar: tuple[Calibration, np.ndarray, np.ndarray]
) -> None:
    _, images, labels = cifar
    model = resnet8()
    got = predict(prepare(model, "fp32", tmp_path / "out"), images)
    assert sqnr_db(directly(model.path, images), got) > 100
    assert np.mean(got.argmax(1) == labels) == pytest.approx(0.888, abs=0.003)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "tflite"])
def test_every_precision_keeps_the_accuracy_of_resnet8(
    form: str, tmp_path: Path, cifar: tuple[Calibration, np.ndarray, np.ndarray]
) -> None:
    calibration, images, labels = cifar
    model = resnet8(form)
    for precision in declared():
        if precision in ("int8-dynamic", "w4", "as-shipped"):
            continue  # refused for a float model of convolutions: see below
        given = calibration if precision == "int8-static" else None
        artifact = prepare(model, precision, tmp_path / precision, given)
        accuracy = np.mean(predict(artifact, images).argmax(1) == labels)
        assert accuracy >= 0.888 - 0.015, precision


def test_int8_static_quantizes_and_runs_every_convolution(
    tmp_path: Path, cifar: tuple[Calibration, np.ndarray, np.ndarray]
) -> None:
    artifact = prepare(resnet8(), "int8-static", tmp_path / "out", cifar[0])
    assert artifact.provenance.quantized_ops == 10
    assert artifact.provenance.settings["subset_size"] == 100
    answer = effective(artifact)
    assert answer.precision == "int8"
    assert answer.operators == {"int8": 10}
    whole = sum(file.stat().st_size for file in artifact.path.iterdir())
    assert whole < 0.5 * artifact.model.path.stat().st_size


def test_depthwise_convolutions_are_quantized_too(
    tmp_path: Path, speech: tuple[Calibration, np.ndarray]
) -> None:
    """Read without folding constants, their weights are out of NNCF's sight."""
    artifact = prepare(dscnn(), "int8-static", tmp_path / "out", speech[0])
    assert artifact.provenance.quantized_ops == 10
    assert effective(artifact).operators == {"int8": 10}


@pytest.mark.slow
def test_the_default_is_better_than_nncfs_own_preset(
    tmp_path: Path, speech: tuple[Calibration, np.ndarray]
) -> None:
    """Inputs of speech features are far from symmetric about zero."""
    exact = directly(dscnn().path, speech[1])
    closeness = {}
    for preset in (None, "performance"):
        given = prepare(
            dscnn(), "int8-static", tmp_path / str(preset), speech[0], {"preset": preset}
        )
        closeness[preset] = sqnr_db(exact, predict(given, speech[1]))
    assert closeness[None] > 25
    assert closeness[None] > closeness["performance"] + 5


@pytest.mark.parametrize(
    "options",
    [
        {"calibration_method": "percentile"},
        {"calibration_method": "mse"},
        {"per_channel": False},
    ],
)
def test_options_reach_the_quantizer(options: dict[str, Any], tmp_path: Path) -> None:
    model, items = digits("onnx"), random_digits(32, seed=1)
    plain = prepare(model, "int8-static", tmp_path / "a", Calibration({"x": items}))
    other = prepare(model, "int8-static", tmp_path / "b", Calibration({"x": items}), options)
    assert plain.provenance.settings != other.provenance.settings
    assert not np.array_equal(predict(plain, items), predict(other, items))


# --------------------------------------------------------------------------- left in floating point


def test_operators_are_excluded_by_type_and_by_name(tmp_path: Path) -> None:
    items = Calibration({"x": random_digits(8)})
    onnx = pytest.importorskip("onnx")
    nodes = onnx.load(digits("onnx").path).graph.node
    convolutions = [node.name for node in nodes if node.op_type == "Conv"]
    whole = effective(prepare(digits("onnx"), "int8-static", tmp_path / "whole", items)).operators
    assert set(whole) == {"int8"}
    for excluded, left in ((["Conv"], len(convolutions)), (convolutions[:1], 1)):
        options = {"excluded_operators": excluded}
        artifact = prepare(digits("onnx"), "int8-static", tmp_path / f"out{left}", items, options)
        assert artifact.provenance.quantized_ops == whole["int8"] - left
        assert effective(artifact).operators == {"fp32": left, "int8": whole["int8"] - left}


def test_an_operator_that_the_model_lacks_cannot_be_excluded(tmp_path: Path) -> None:
    options = {"excluded_operators": ["Convv"]}
    items = Calibration({"x": random_digits(8)})
    with pytest.raises(PrepareError, match=r"no operator 'Convv'\. Near: Conv.*Types: .*MatMul"):
        prepare(digits("onnx"), "int8-static", tmp_path / "out", items, options)


@pytest.mark.skipif("int8-dynamic" not in declared(), reason="this CPU has no VNNI")
def test_dynamic_int8_leaves_out_what_is_excluded(tmp_path: Path) -> None:
    options = {"excluded_operators": ["node_linear_18"]}
    artifact = prepare(vit(), "int8-dynamic", tmp_path / "out", options=options)
    assert artifact.provenance.quantized_ops == 18


@pytest.mark.slow
def test_accuracy_control_puts_operators_back_until_it_is_reached(
    tmp_path: Path, cifar: tuple[Calibration, np.ndarray, np.ndarray]
) -> None:
    assert cifar[0].labels is not None
    few = Calibration({"x": cifar[0].feeds["x"][:40]}, cifar[0].labels[:40], "y")
    options = {"per_channel": False, "calibration_method": "percentile"}
    right = {
        name: np.mean(
            predict(
                prepare(resnet8(), precision, tmp_path / name, few, given), few.feeds["x"]
            ).argmax(1)
            == few.labels
        )
        for name, precision, given in (
            ("exact", "fp32", None),
            ("plain", "int8-static", options),
            ("controlled", "int8-static", {**options, "max_accuracy_drop": 0.0}),
        )
    }
    assert right["controlled"] >= right["exact"]
    given = {**options, "max_accuracy_drop": 1.0}
    artifact = prepare(resnet8(), "int8-static", tmp_path / "any", few, given)
    assert artifact.provenance.quantized_ops == 10
    assert "0 of 10 convolutions and matrix products returned" in artifact.provenance.notes[0]
    assert f"fully quantized: {right['plain']:.4f}" in artifact.provenance.notes[0]


@pytest.mark.parametrize("minutes", [0.0, 1e-4])
def test_accuracy_control_ends_in_time(
    minutes: float, tmp_path: Path, cifar: tuple[Calibration, np.ndarray, np.ndarray]
) -> None:
    options = {"max_accuracy_drop": 0.0, "accuracy_control_minutes": minutes}
    with pytest.raises(PrepareError, match=r"did not reach a drop of 0 within .* minutes"):
        prepare(resnet8(), "int8-static", tmp_path / "out", cifar[0], options)


def test_accuracy_control_needs_labels(tmp_path: Path) -> None:
    items = Calibration({"x": random_digits(8)})
    with pytest.raises(Unsupported, match="needs calibration items with labels"):
        prepare(digits("onnx"), "int8-static", tmp_path / "out", items, {"max_accuracy_drop": 0.1})


# --------------------------------------------------------------------------- files with Q/DQ


@pytest.mark.parametrize("recipe", ["as-shipped", "shared"])
def test_a_file_with_q_dq_runs_as_it_is(recipe: str, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    items = random_digits(16)
    model = with_q_dq(digits("onnx"), items, tmp_path)
    precision, given = ("int8-static", "shared") if recipe == "shared" else (recipe, "best")
    artifact = prepare(model, precision, tmp_path / "out", recipe=given)
    exact = effective(prepare(digits("onnx"), "fp32", tmp_path / "exact"))
    assert artifact.provenance.quantizer is None
    assert artifact.provenance.quantized_ops == exact.operators["fp32"]
    answer = effective(artifact)
    assert answer.operators == {"int8": exact.operators["fp32"]}
    assert answer.macs == {"int8": exact.macs["fp32"]}
    session = runtime.InferenceSession(model.path, providers=["CPUExecutionProvider"])
    (want,) = session.run(None, {session.get_inputs()[0].name: items})
    if not SATURATES:  # each runtime in its own way
        assert sqnr_db(want, predict(artifact, items)) > 30


def test_what_is_quantized_and_what_is_not_are_not_mixed_up(tmp_path: Path) -> None:
    quantized = with_q_dq(digits("onnx"), random_digits(4), tmp_path)
    items = Calibration({"x": random_digits(8)})
    for precision in ("fp32", "int8-static", "w8"):
        with pytest.raises(Unsupported, match="arrives quantized: ask for as-shipped"):
            prepare(quantized, precision, tmp_path / precision, items)
    with pytest.raises(Unsupported, match="as-shipped is for files that are"):
        prepare(digits("onnx"), "as-shipped", tmp_path / "a")
    with pytest.raises(PrepareError, match="should already be quantized"):
        prepare(digits("onnx"), "int8-static", tmp_path / "b", recipe="shared")


def test_a_quantized_tflite_file_runs_as_it_came(
    tmp_path: Path, cifar: tuple[Calibration, np.ndarray, np.ndarray]
) -> None:
    model = describe(
        asset("models/resnet8_cifar10/model_int8.tflite"),
        ("input_1_int8", TensorSpec("int8", ("N", 32, 32, 3), "NHWC"), "NHWC"),
        ("Identity_int8", TensorSpec("int8", ("N", 10))),
    )
    artifact = prepare(model, "as-shipped", tmp_path / "out")
    assert artifact.provenance.quantized_ops == 10
    assert effective(artifact).precision == "int8"
    got = predict(artifact, (cifar[1] - 128).astype(np.int8))
    assert got.dtype == np.int8
    if not SATURATES:
        assert np.mean(got.argmax(1) == cifar[2]) >= 0.888 - 0.015
    real = replace(model, inputs={"x": TensorSpec("float32", ("N", 32, 32, 3), "NHWC")})
    with pytest.raises(Unsupported, match="the card has to say int8"):
        Backend().open(replace(artifact, model=real), RunConfig())


def test_weights_in_a_file_of_their_own_are_found(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    path = tmp_path / "model.onnx"
    onnx.save(
        onnx.load(digits("onnx").path),
        path,
        save_as_external_data=True,
        location="model.data",
        size_threshold=0,
    )
    model = replace(digits("onnx"), path=path, companions={"model.data": tmp_path / "model.data"})
    whole, split = (
        prepare(digits("onnx"), "fp32", tmp_path / "a"),
        prepare(model, "fp32", tmp_path / "b"),
    )
    items = random_digits(4)
    np.testing.assert_array_equal(predict(split, items), predict(whole, items))


# --------------------------------------------------------------------------- weights only


@pytest.mark.parametrize(
    ("precision", "bits", "count", "least_db"), [("w8", 8, 20, 35), ("w4", 4, 18, 15)]
)
def test_weights_alone_are_stored_small(
    precision: str, bits: int, count: int, least_db: float, tmp_path: Path
) -> None:
    exact = prepare(vit(), "fp32", tmp_path / "exact")
    artifact = prepare(vit(), precision, tmp_path / "out")
    assert artifact.provenance.quantized_ops == count  # 4 bits: neither the first nor the last
    assert any("storage only" in note for note in artifact.provenance.notes)
    sizes = [(a.path / "model.bin").stat().st_size for a in (artifact, exact)]
    assert sizes[0] < 1.5 * bits / 32 * sizes[1]
    answer = effective(artifact)
    assert answer.operators == effective(exact).operators  # activations stay in float32
    items = np.random.default_rng(0).random((8, 1, 32, 32)).astype(np.float32)
    got, want = predict(artifact, items), predict(exact, items)
    assert sqnr_db(want, got) > least_db
    assert not np.array_equal(want, got)


def test_a_group_size_is_used_or_refused(tmp_path: Path) -> None:
    sizes = {}
    for group in (-1, 16):
        artifact = prepare(vit(), "w4", tmp_path / str(group), options={"group_size": group})
        assert artifact.provenance.settings["group_size"] == group
        sizes[group] = (artifact.path / "model.bin").stat().st_size
    assert sizes[16] > sizes[-1]  # more scales
    with pytest.raises(PrepareError, match="group_size 48"):
        prepare(vit(), "w4", tmp_path / "odd", options={"group_size": 48})


def test_rows_that_no_group_divides_have_one_scale_each(tmp_path: Path) -> None:
    artifact = prepare(encoder(tmp_path, width=40), "w4", tmp_path / "out")
    assert artifact.provenance.settings["group_size"] == -1
    assert any("one scale per row" in note for note in artifact.provenance.notes)


def test_4_bits_are_refused_where_nothing_would_be_stored_so(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="ask for w8"):
        prepare(digits("onnx"), "w4", tmp_path / "out")


# --------------------------------------------------------------------------- effective precision


BF16_INSTRUCTIONS = {"avx512_bf16", "avx_ne_convert", "bf16"}
"""As /proc/cpuinfo calls them, on x86-64 and on aarch64."""


def cpu_flags() -> set[str]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    line = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return set(line.partition(":")[2].split())


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_floating_precisions_are_read_back(precision: str, tmp_path: Path) -> None:
    """A precision is offered where the execution graph runs at it, and only there."""
    answer = effective(prepare(digits("onnx"), precision, tmp_path / "out"))
    assert (answer.precision == precision) == (precision in declared())
    assert answer.fallback_ops == 0
    assert any("INFERENCE_PRECISION_HINT" in note for note in answer.notes)
    emulated = answer.precision == "bf16" and not BF16_INSTRUCTIONS & cpu_flags()
    assert answer.emulated == (("bf16",) if emulated else ())


class _Word(str):
    def astype(self, kind: type) -> str:
        return kind(self)


class _Bf16Node:
    """A node of an execution graph that says bf16 where the real one says f32."""

    def __init__(self, node: Any) -> None:
        self._node = node

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)

    def get_rt_info(self) -> dict[str, _Word]:
        info = self._node.get_rt_info()
        words = {key: info[key].astype(str) for key in info}
        return {key: _Word(re.sub("f32$", "bf16", word)) for key, word in words.items()}


class _WithoutBf16Instructions:
    """A core as on a processor with AVX-512 and without instructions for bf16: the plugin does not
    list BF16, and follows the hint all the same. A graph of float32 stands for that of bf16."""

    def __init__(self) -> None:
        self._core = CORE()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)

    def get_property(self, device: str, name: str) -> Any:
        found = self._core.get_property(device, name)
        return [w for w in found if w != "BF16"] if name == "OPTIMIZATION_CAPABILITIES" else found

    def compile_model(self, model: Any, device: str, settings: dict[str, Any]) -> Any:
        asked = settings["INFERENCE_PRECISION_HINT"]
        exact = {**settings, "INFERENCE_PRECISION_HINT": "f32" if asked == "bf16" else asked}
        compiled = self._core.compile_model(model, device, exact)
        if asked != "bf16":
            return compiled
        ordered = [_Bf16Node(n) for n in compiled.get_runtime_model().get_ordered_ops()]
        graph = SimpleNamespace(get_ordered_ops=lambda: ordered)
        names = ("inputs", "outputs", "get_property", "create_infer_request")
        parts = {name: getattr(compiled, name) for name in names}
        return SimpleNamespace(get_runtime_model=lambda: graph, **parts)


def test_emulated_bf16_is_offered_and_flagged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openvino.Core", _WithoutBf16Instructions)
    answer = Backend().probe()
    assert isinstance(answer, Ready)
    assert "bf16" in answer.precisions["cpu"] and "bf16" not in answer.missing["cpu"]
    assert answer.emulated == {"cpu": ("bf16",)}
    assert "BF16" not in answer.isa.split()
    for precision, emulated in (("bf16", ["bf16"]), ("fp32", [])):
        found = effective(prepare(digits("onnx"), precision, tmp_path / precision))
        assert (found.precision, list(found.emulated)) == (precision, emulated)
        assert flags(precision, found) == [f"{word} emulated" for word in emulated]


def test_the_work_is_told_in_multiply_accumulates(
    tmp_path: Path, cifar: tuple[Calibration, np.ndarray, np.ndarray]
) -> None:
    """Expected from the architecture: He et al. 2015, three stacks of one block, on 32x32."""
    stacks = [
        32 * 32 * 16 * 9 * (16 + 16),
        16 * 16 * 32 * (9 * (16 + 32) + 16),
        8 * 8 * 64 * (9 * (32 + 64) + 32),
    ]
    whole = 32 * 32 * 16 * 9 * 3 + sum(stacks) + 64 * 10
    for precision, word in (("fp32", "fp32"), ("int8-static", "int8")):
        artifact = prepare(resnet8(), precision, tmp_path / precision, cifar[0])
        assert effective(artifact).macs == {word: whole}
    with Backend().open(artifact, RunConfig(batch=3), inspect=True) as program:
        assert program.effective().macs == {"int8": 3 * whole}


@pytest.mark.parametrize(
    ("precision", "weight_bytes"), [("fp32", 4), ("bf16", 2), ("int8-static", 1)]
)
def test_bytes_are_counted_as_they_are_kept(
    precision: str, weight_bytes: int, tmp_path: Path
) -> None:
    """By hand: four convolutions 3x3 of 1, 16, 32, 32 and 64 channels, a product of 256 with 10,
    and a bias for each output, which is float32 beside int8 weights."""
    if precision not in declared():
        pytest.skip(f"no {precision} here")
    weights = 9 * (1 * 16 + 16 * 32 + 32 * 32 + 32 * 64) + 256 * 10
    biases = 16 + 32 + 32 + 64 + 10
    calibration = Calibration({"x": random_digits(8)}) if precision == "int8-static" else None
    artifact = prepare(digits("onnx"), precision, tmp_path / "out", calibration)
    answer = effective(artifact)
    wide = 4 if precision == "int8-static" else weight_bytes
    assert answer.weight_bytes == weights * weight_bytes + biases * wide
    tensors = 64 + 16 * 64 * 2 + 32 * 64 * 2 + 32 * 16 * 2 + 64 * 4 * 2 + 10
    assert tensors * weight_bytes <= answer.activation_bytes <= 1.2 * tensors * weight_bytes
    with Backend().open(artifact, RunConfig(batch=3), inspect=True) as program:
        batch = program.effective()
    assert batch.weight_bytes == answer.weight_bytes
    assert batch.activation_bytes == 3 * answer.activation_bytes


def test_the_work_of_attention_is_counted(tmp_path: Path) -> None:
    artifact = prepare(encoder(tmp_path), "fp32", tmp_path / "out")
    answer = effective(artifact)
    assert answer.macs == {"fp32": 16 * 96 * (3 * 96 + 2 * 4 * 96) + 2 * 16 * 16 * 96}


@pytest.mark.skipif(not HAS_VNNI, reason="fused into a float operator on processors with VNNI only")
def test_chains_of_products_run_in_int8(tmp_path: Path) -> None:
    """Left alone, the plugin fuses these two narrow products into one float32 operator."""
    model = describe(
        asset("models/avgwordvec_sst2/model.onnx"),
        ("input_1", TensorSpec("int32", ("N", 256)), None),
        ("Identity", TensorSpec("float32", ("N", 2))),
    )
    words = np.random.default_rng(0).integers(0, 300, (8, 256)).astype(np.int32)
    artifact = prepare(model, "int8-static", tmp_path / "out", Calibration({"x": words}))
    answer = effective(artifact)
    assert artifact.provenance.quantized_ops == 2
    assert answer.precision == "int8"
    assert answer.macs == {"int8": 16 * 16 + 16 * 2}
    assert "SNIPPETS_MODE=DISABLE" in answer.notes[0]


def test_dynamic_int8_is_refused_for_convolutions(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="convolutions of this model would run in fp32"):
        prepare(digits("onnx"), "int8-dynamic", tmp_path / "out")


@pytest.mark.skipif("int8-dynamic" not in declared(), reason="this CPU has no VNNI")
def test_dynamic_int8_takes_effect_on_a_transformer(tmp_path: Path) -> None:
    model = encoder(tmp_path)
    items = np.random.default_rng(1).standard_normal((4, 16, 96)).astype(np.float32)
    artifact = prepare(model, "int8-dynamic", tmp_path / "out")
    assert artifact.provenance.quantized_ops == 5
    # 128 would be ignored by the products that sum only 96 numbers.
    assert artifact.provenance.settings["dynamic_quantization_group_size"] == 64
    assert sqnr_db(directly(model.path, items), predict(artifact, items)) > 25
    answer = effective(artifact)
    assert answer.precision == "int8"
    assert answer.operators["int8"] == 5


@pytest.mark.skipif("int8-dynamic" not in declared(), reason="this CPU has no VNNI")
def test_a_vision_transformer_keeps_its_one_convolution_in_fp32(tmp_path: Path) -> None:
    answer = effective(prepare(vit(), "int8-dynamic", tmp_path / "out"))
    assert answer.precision == "int8"
    # The convolution, and the products of two activations in three layers of attention.
    assert answer.operators == {"int8": 19, "fp32": 1 + 3}


@pytest.mark.skipif("int8-dynamic" not in declared(), reason="this CPU has no VNNI")
def test_compressed_weights_alone_do_not_count_as_dynamic_int8(tmp_path: Path) -> None:
    artifact = prepare(encoder(tmp_path), "int8-dynamic", tmp_path / "out")
    off = RunConfig(hints={"DYNAMIC_QUANTIZATION_GROUP_SIZE": 0})
    with (
        Backend().open(artifact, off, inspect=True) as program,
        pytest.raises(Unsupported, match="did not quantize activations"),
    ):
        program.effective()


# --------------------------------------------------------------------------- what can be explained


def test_a_profile_has_the_time_of_each_operator(tmp_path: Path) -> None:
    artifact = prepare(vit(), "fp32", tmp_path / "out")
    feed = {"x": np.random.default_rng(0).random((1, 1, 32, 32)).astype(np.float32)}
    with Backend().open(artifact, RunConfig(), inspect=True) as program:
        stream = program.stream()
        stream.bind(feed)
        walls = []
        for _ in range(20):
            start = time.perf_counter_ns()
            stream.infer()
            walls.append(time.perf_counter_ns() - start)
        answer = program.profile(feed, 20)
        whole = program.effective()
    times = [op.ns for op in answer.operators]
    assert all(ns is not None and ns >= 0 for ns in times)
    # The operators take most of an inference; a busy machine may hold one up for long.
    assert sum(ns or 0 for ns in times) > min(walls) / 3
    assert sorted(ns or 0 for ns in times)[len(times) // 2] < min(walls)
    computing = [op for op in answer.operators if op.role == "compute"]
    assert sum(op.macs or 0 for op in computing) == (whole.macs or {})["fp32"]
    layers = [name for op in computing for name in op.layers]
    assert layers.index("node_linear_5") < layers.index("node_linear_17")


def test_a_profile_without_times_is_an_error(tmp_path: Path) -> None:
    artifact = prepare(digits("onnx"), "fp32", tmp_path / "out")
    off = RunConfig(hints={"PERF_COUNT": False})
    with (
        Backend().open(artifact, off, inspect=True) as program,
        pytest.raises(RuntimeError, match="times are all zero"),
    ):
        program.profile({"x": random_digits(1)}, 2)
    with (
        Backend().open(artifact, RunConfig()) as program,
        pytest.raises(RuntimeError, match="inspect=True"),
    ):
        program.profile({"x": random_digits(1)}, 2)


@pytest.mark.parametrize("form", ["onnx", "tflite"])
def test_layers_keep_their_names_through_quantization(form: str, tmp_path: Path) -> None:
    items = random_digits(16)
    exact = prepare(digits(form), "fp32", tmp_path / "exact")
    other = prepare(digits(form), "int8-static", tmp_path / "int8", Calibration({"x": items}))
    first, again, quantized = shown(exact, items[:2]), shown(exact, items[:2]), shown(other, items)
    assert len(first) == 2
    assert [a.name for a in quantized[1]] == [a.name for a in first[1]]
    for one, same, near in zip(first[1], again[1], quantized[1], strict=True):
        np.testing.assert_array_equal(one.values, same.values)
        assert one.kind == near.kind
        assert 15 < sqnr_db(one.values, near.values) < 80
    np.testing.assert_allclose(first[1][-1].values, predict(exact, items[1:2]), rtol=1e-4)


def test_layers_have_kinds_and_biases(
    tmp_path: Path, speech: tuple[Calibration, np.ndarray]
) -> None:
    onnx = pytest.importorskip("onnx")
    artifact = prepare(dscnn(), "fp32", tmp_path / "out")
    (layers,) = shown(artifact, speech[1][:1])
    depthwise = ["GroupConvolution (depthwise)", "Convolution"]
    assert [layer.kind for layer in layers] == ["Convolution", *(4 * depthwise), "MatMul"]
    graph = onnx.load(dscnn().path)
    first = next(node for node in graph.graph.node if node.op_type == "Conv")
    graph.graph.output.append(onnx.helper.make_empty_tensor_value_info(first.output[0]))
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    want = session.run([first.output[0]], {"input_1": speech[1][:1]})[0]
    np.testing.assert_allclose(layers[0].values, want, rtol=1e-3, atol=1e-3)


# --------------------------------------------------------------------------- feeds


def test_layouts_are_mapped(
    tmp_path: Path, cifar: tuple[Calibration, np.ndarray, np.ndarray]
) -> None:
    images = cifar[1][:4]
    last = predict(prepare(resnet8(), "fp32", tmp_path / "a"), images)
    first = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    got = predict(prepare(resnet8(layout="NCHW"), "fp32", tmp_path / "b"), first)
    np.testing.assert_array_equal(got, last)


def test_a_fixed_batch_is_changed_or_refused(tmp_path: Path) -> None:
    model = describe(
        asset("models/mobilenet_v1_025_224/model.onnx"),
        ("input", TensorSpec("float32", (1, 224, 224, 3), "NHWC"), "NHWC"),
        ("MobilenetV1/Predictions/Reshape_1", TensorSpec("float32", (1, 1001))),
    )
    artifact = prepare(model, "fp32", tmp_path / "out")
    items = np.random.default_rng(0).random((2, 224, 224, 3)).astype(np.float32)
    alone = predict(artifact, items)
    try:
        together = predict(artifact, items, RunConfig(batch=2))
    except Unsupported as reason:
        assert "fixed at batch 1" in str(reason)
    else:
        np.testing.assert_allclose(together, alone, rtol=1e-3, atol=1e-5)


def test_wrong_feeds_say_what_was_expected_and_what_came(tmp_path: Path) -> None:
    artifact = prepare(digits("onnx"), "fp32", tmp_path / "out")
    good = random_digits(1)
    with Backend().open(artifact, RunConfig()) as program:
        stream = program.stream()
        with pytest.raises(ValueError, match="expected the inputs x; got z"):
            stream.bind({"z": good})
        with pytest.raises(ValueError, match="expected float32, got int64"):
            stream.bind({"x": good.astype(np.int64)})
        with pytest.raises(ValueError, match=r"\[1, 1, 8, 8\], got \[2, 1, 8, 8\]"):
            stream.bind({"x": random_digits(2)})


def test_float64_feeds_are_cast(tmp_path: Path) -> None:
    artifact = prepare(digits("onnx"), "fp32", tmp_path / "out")
    items = random_digits(2)
    got = predict(artifact, items.astype(np.float64))
    np.testing.assert_array_equal(got, predict(artifact, items))


# --------------------------------------------------------------------------- errors


@pytest.mark.parametrize("form", ["onnx", "tflite"])
@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
def test_a_damaged_file_is_named_so(form: str, damage: str, tmp_path: Path) -> None:
    model = digits(form)
    content = model.path.read_bytes()
    damaged = {"cut": content[: len(content) // 2], "text": b"hello\n", "empty": b""}[damage]
    path = tmp_path / f"broken.{form}"
    path.write_bytes(damaged)
    with pytest.raises(PrepareError) as caught:
        prepare(replace(model, path=path), "fp32", tmp_path / "out")
    assert "not a valid" in explain(caught.value, Backend.messages).text


def test_an_unknown_operator_is_named(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    tensor = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("Whirl", ["x"], ["y"], domain="org.example")
    graph = onnx.helper.make_graph(
        [node],
        "odd",
        [tensor("x", onnx.TensorProto.FLOAT, ["N", 4])],
        [tensor("y", onnx.TensorProto.FLOAT, ["N", 4])],
    )
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("org.example", 1)]
    path = tmp_path / "odd.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    spec = TensorSpec("float32", ("N", 4))
    with pytest.raises(PrepareError) as caught:
        prepare(describe(path, ("x", spec, None), ("y", spec)), "fp32", tmp_path / "out")
    found = explain(caught.value, Backend.messages)
    assert found.status == "skipped" and "org.example.Whirl" in found.text


def test_a_tensor_that_the_file_lacks_is_named_with_the_known(tmp_path: Path) -> None:
    model = replace(digits("onnx"), source_outputs={"y": SourceTensor("scores")})
    with pytest.raises(PrepareError, match=r"'scores'.*Known: logits"):
        prepare(model, "fp32", tmp_path / "out")


def test_hints_are_checked_and_used(tmp_path: Path) -> None:
    artifact = prepare(digits("onnx"), "fp32", tmp_path / "out")
    for hints, words in (
        ({"CACHE_DIR": "x"}, "Known: .*PERFORMANCE_HINT"),
        ({"NUM_STREAMS": 2}, "set by qbench from streams"),
        ({"PERFORMANCE_HINT": "SLOW"}, "refused the hints"),
    ):
        with pytest.raises(ValueError, match=words):
            Backend().open(artifact, RunConfig(hints=hints))
    with Backend().open(artifact, RunConfig(hints={"ENABLE_CPU_PINNING": True})) as program:
        assert program.settings["ENABLE_CPU_PINNING"] is True


def test_more_threads_than_the_machine_gives_are_refused(tmp_path: Path) -> None:
    artifact = prepare(digits("onnx"), "fp32", tmp_path / "out")
    with pytest.raises(Unsupported, match="OpenVINO uses"):
        Backend().open(artifact, RunConfig(threads=4096))
