"""The OpenVINO adapter, with the real runtime and real models."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qbench.backend import (
    Artifact,
    Calibration,
    Model,
    PrepareError,
    PrepareTarget,
    Ready,
    RunConfig,
    SourceTensor,
    TensorSpec,
    Unsupported,
)
from qbench.precision import complete_options
from qbench.testing import AdapterConformance

if importlib.util.find_spec("openvino") is None or importlib.util.find_spec("nncf") is None:
    pytest.skip("needs openvino and nncf: pip install 'qbench[openvino]'", allow_module_level=True)

from qbench_openvino import Backend

ZOO = Path(__file__).parents[2] / "suites" / "zoo"


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
) -> Artifact:
    backend = Backend()
    target = PrepareTarget(precision, complete_options(precision, options or {}))
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


def declared() -> tuple[str, ...]:
    answer = Backend().probe()
    assert isinstance(answer, Ready)
    return answer.precisions["cpu"]


@pytest.fixture(scope="module")
def cifar() -> tuple[Calibration, np.ndarray, np.ndarray]:
    """Calibration items, 500 test images (float32, NHWC) and their labels."""
    calibration = np.load(asset("datasets/cifar10_calib_train/cifar10_calib_train.npz"))["x"]
    test = np.load(asset("datasets/cifar10_test/cifar10_test.npz"))
    feeds = {"x": calibration[:100].astype(np.float32)}
    return Calibration(feeds), test["x"].astype(np.float32), test["y"]


def random_digits(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 1, 8, 8)).astype(np.float32)


# --------------------------------------------------------------------------- conformance


class TestConformanceOnnx(AdapterConformance):
    target = "qbench_openvino:Backend"

    def model(self, folder: Path) -> Model:
        return digits("onnx")


class TestConformanceTflite(AdapterConformance):
    target = "qbench_openvino:Backend"

    def model(self, folder: Path) -> Model:
        return digits("tflite")


# --------------------------------------------------------------------------- what it declares


def test_every_precision_of_the_vocabulary_is_offered_or_has_a_reason() -> None:
    from qbench.precision import PRECISIONS

    answer = Backend().probe()
    assert isinstance(answer, Ready)
    assert {*answer.precisions["cpu"], *answer.missing["cpu"]} == set(PRECISIONS)


def test_probe_without_openvino_names_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    answer = Backend().probe()
    assert not isinstance(answer, Ready)
    assert "pip install 'qbench[openvino]'" in answer.fix


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
        ("int8-dynamic", {"per_channel": False}, "per output channel"),
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


@pytest.mark.parametrize("form", ["onnx", "tflite"])
def test_every_precision_keeps_the_accuracy_of_resnet8(
    form: str, tmp_path: Path, cifar: tuple[Calibration, np.ndarray, np.ndarray]
) -> None:
    calibration, images, labels = cifar
    model = resnet8(form)
    for precision in declared():
        if precision == "int8-dynamic":
            continue  # a model of convolutions: see below
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


def test_depthwise_convolutions_are_quantized_too(tmp_path: Path) -> None:
    """Read without folding constants, their weights are out of NNCF's sight."""
    items = np.random.default_rng(0).random((8, 49, 10, 1)).astype(np.float32)
    model = describe(
        asset("models/dscnn_kws/model.onnx"),
        ("input_1", TensorSpec("float32", ("N", 49, 10, 1), "NHWC"), "NHWC"),
        ("dense", TensorSpec("float32", ("N", 12))),
    )
    artifact = prepare(model, "int8-static", tmp_path / "out", Calibration({"x": items}))
    assert artifact.provenance.quantized_ops == 10
    assert effective(artifact).operators == {"int8": 10}


@pytest.mark.parametrize("options", [{"calibration_method": "percentile"}, {"per_channel": False}])
def test_options_reach_the_quantizer(options: dict[str, Any], tmp_path: Path) -> None:
    model, items = digits("onnx"), random_digits(32, seed=1)
    plain = prepare(model, "int8-static", tmp_path / "a", Calibration({"x": items}))
    other = prepare(model, "int8-static", tmp_path / "b", Calibration({"x": items}), options)
    assert plain.provenance.settings != other.provenance.settings
    assert not np.array_equal(predict(plain, items), predict(other, items))


# --------------------------------------------------------------------------- effective precision


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_floating_precisions_are_read_back(precision: str, tmp_path: Path) -> None:
    artifact = prepare(digits("onnx"), precision, tmp_path / "out")
    if precision in declared():
        answer = effective(artifact)
        assert answer.precision == precision
        assert answer.fallback_ops == 0
        assert any("INFERENCE_PRECISION_HINT" in note for note in answer.notes)
    else:
        with pytest.raises(Unsupported, match=f"{precision} was asked for"):
            effective(artifact)


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
    file = ZOO / "digits_vit.onnx"
    if not file.exists():
        pytest.skip(f"{file.name} is not in suites/zoo")
    model = describe(
        file,
        ("image", TensorSpec("float32", ("N", 1, 32, 32), "NCHW"), "NCHW"),
        ("logits", TensorSpec("float32", ("N", 10))),
    )
    answer = effective(prepare(model, "int8-dynamic", tmp_path / "out"))
    assert answer.precision == "int8"
    assert answer.operators["fp32"] == 1


@pytest.mark.skipif("int8-dynamic" not in declared(), reason="this CPU has no VNNI")
def test_compressed_weights_alone_do_not_count_as_dynamic_int8(tmp_path: Path) -> None:
    artifact = prepare(encoder(tmp_path), "int8-dynamic", tmp_path / "out")
    off = RunConfig(hints={"DYNAMIC_QUANTIZATION_GROUP_SIZE": 0})
    with (
        Backend().open(artifact, off, inspect=True) as program,
        pytest.raises(Unsupported, match="did not quantize activations"),
    ):
        program.effective()


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
    with pytest.raises(PrepareError, match=r"not a valid (ONNX|TFLite) file"):
        prepare(replace(model, path=path), "fp32", tmp_path / "out")


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
    with pytest.raises(PrepareError, match="Whirl"):
        prepare(describe(path, ("x", spec, None), ("y", spec)), "fp32", tmp_path / "out")


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
