"""The ONNX Runtime adapter, through the contract, with the real runtime and real models."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qbench.backend import (
    Artifact,
    Calibration,
    EffectivePrecision,
    Model,
    PrepareError,
    PrepareTarget,
    Ready,
    RunConfig,
    SourceTensor,
    TensorSpec,
    Unavailable,
    Unsupported,
)
from qbench.precision import complete_options
from qbench.testing import AdapterConformance

ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
onnx = pytest.importorskip("onnx", reason="onnx is not installed")

from qbench_onnxruntime import Backend  # noqa: E402
from qbench_onnxruntime.effective import read_back  # noqa: E402

ROOT = Path(__file__).parents[2]
ZOO = ROOT / "suites" / "zoo"
BACKEND = Backend()


def asset(path: str) -> Path:
    folder = os.environ.get("QBENCH_ASSETS")
    if not folder:
        pytest.skip("QBENCH_ASSETS is not set")
    file = Path(folder, path)
    if not file.exists():
        pytest.skip(f"{path} is not in QBENCH_ASSETS")
    return file


def describe(path: Path, x: TensorSpec, y: TensorSpec, names: tuple[str, str]) -> Model:
    """A model with the canonical input ``x`` and output ``y``."""
    return Model(
        path.stem,
        "onnx",
        path,
        "0" * 64,
        "image-classification",
        {"x": x},
        {"y": y},
        {"x": SourceTensor(names[0], x.layout)},
        {"y": SourceTensor(names[1], y.layout)},
    )


def make(
    model: Model, precision: str, out: Path, calibration: Calibration | None = None, **options: Any
) -> Artifact:
    out.mkdir(exist_ok=True)
    target = PrepareTarget(precision, complete_options(precision, options))
    return Artifact(out, model, target, BACKEND.prepare(model, target, calibration, out))


def effective(artifact: Artifact) -> EffectivePrecision:
    with BACKEND.open(artifact, RunConfig(), inspect=True) as program:
        return program.effective()


def predict(artifact: Artifact, items: np.ndarray, **config: Any) -> np.ndarray:
    settings = RunConfig(**config)
    with BACKEND.open(artifact, settings) as program:
        stream = program.stream()
        rows = []
        for start in range(0, len(items), settings.batch):
            stream.bind({"x": items[start : start + settings.batch]})
            stream.infer()
            rows.append(stream.read()["y"].copy())
    return np.concatenate(rows)


def directly(path: Path, items: np.ndarray) -> np.ndarray:
    """What onnxruntime itself makes of ``items``, one by one."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate(
        [session.run(None, {name: items[i : i + 1]})[0] for i in range(len(items))]
    )


def accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean(outputs.argmax(1) == labels))


# --------------------------------------------------------------------------- models


@pytest.fixture(scope="session")
def resnet8() -> Model:
    image, probs = TensorSpec("float32", ("N", 32, 32, 3), "NHWC"), TensorSpec("float32", ("N", 10))
    path = asset("models/resnet8_cifar10/model.onnx")
    return describe(path, image, probs, ("input_1", "Identity"))


@pytest.fixture(scope="session")
def cifar10() -> tuple[np.ndarray, np.ndarray]:
    data = np.load(asset("datasets/cifar10_test/cifar10_test.npz"))
    return data["x"].astype(np.float32), data["y"]


@pytest.fixture(scope="session")
def calibration() -> Calibration:
    data = np.load(asset("datasets/cifar10_calib_train/cifar10_calib_train.npz"))
    return Calibration({"x": data["x"][:100].astype(np.float32)})


def _save(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: list[Any]):
    graph = onnx.helper.make_graph(nodes, "g", inputs, outputs, weights)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.save(model, path)
    return path


def _value(name: str, kind: int, shape: list[int | str]) -> Any:
    return onnx.helper.make_tensor_value_info(name, kind, shape)


def dense(path: Path, batch: int | str = "N", layers: int = 3) -> Path:
    """``layers`` times Gemm (as MatMul and Add) and Relu, width 64."""
    rng = np.random.default_rng(0)
    nodes, weights = [], []
    for i in range(layers):
        for name, shape in (("w", (64, 64)), ("b", (64,))):
            array = rng.normal(0, 0.2, shape).astype(np.float32)
            weights.append(onnx.numpy_helper.from_array(array, f"{name}{i}"))
        last = "y" if i == layers - 1 else f"r{i}"
        nodes += [
            onnx.helper.make_node("MatMul", ["x" if i == 0 else f"r{i - 1}", f"w{i}"], [f"m{i}"]),
            onnx.helper.make_node("Add", [f"m{i}", f"b{i}"], [f"a{i}"]),
            onnx.helper.make_node("Relu", [f"a{i}"], [last]),
        ]
    kind = onnx.TensorProto.FLOAT
    return _save(
        path, nodes, [_value("x", kind, [batch, 64])], [_value("y", kind, [batch, 64])], weights
    )


@pytest.fixture
def dense_model(tmp_path: Path) -> Model:
    spec = TensorSpec("float32", ("N", 64))
    return describe(dense(tmp_path / "dense.onnx"), spec, spec, ("x", "y"))


@pytest.fixture
def rows() -> np.ndarray:
    return np.random.default_rng(1).normal(0, 1, (8, 64)).astype(np.float32)


# --------------------------------------------------------------------------- probe, supports


def test_probe_declares_every_precision_once() -> None:
    answer = BACKEND.probe()
    assert isinstance(answer, Ready)
    assert answer.version == ort.__version__
    assert answer.precisions["cpu"][:4] == ("fp32", "fp16", "int8-dynamic", "int8-static")
    assert not set(answer.precisions["cpu"]) & set(answer.missing["cpu"])
    assert "bfloat16" in answer.missing["cpu"]["bf16"]


def test_probe_of_a_missing_package_names_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    answer = BACKEND.probe()
    assert isinstance(answer, Unavailable)
    assert answer.fix == "pip install 'qbench[onnxruntime]'"


def test_importing_the_adapter_imports_no_runtime() -> None:
    code = (
        "import sys, qbench_onnxruntime; "
        "heavy = {'numpy', 'onnx', 'onnxruntime'} & set(sys.modules); assert not heavy, heavy"
    )
    _run(code)


def test_measuring_imports_neither_onnx_nor_quantizers(dense_model: Model, tmp_path: Path) -> None:
    artifact = make(dense_model, "fp32", tmp_path / "out")
    code = f"""
import sys
from pathlib import Path
import numpy as np
from qbench.backend import *
from qbench_onnxruntime import Backend
spec = TensorSpec("float32", ("N", 64))
tensor = {{"x": SourceTensor("x")}}, {{"y": SourceTensor("y")}}
model = Model("m", "onnx", Path("m"), "0", "t", {{"x": spec}}, {{"y": spec}}, *tensor)
artifact = Artifact(Path({str(artifact.path)!r}), model, PrepareTarget("fp32"),
                    Provenance("model.onnx"))
Backend().import_runtime()
with Backend().open(artifact, RunConfig(), inspect=True) as program:
    program.effective()
with Backend().open(artifact, RunConfig()) as program:
    stream = program.stream()
    stream.bind({{"x": np.ones((1, 64), np.float32)}})
    stream.infer()
    stream.read()
heavy = {{"onnx", "onnxruntime.quantization", "onnxconverter_common", "torch"}} & set(sys.modules)
assert not heavy, heavy
"""
    _run(code)


def _run(code: str) -> None:
    path = os.pathsep.join((str(ROOT), str(ROOT / "backends")))
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": path})


def test_supports_gives_reasons(dense_model: Model) -> None:
    assert BACKEND.supports(dense_model, PrepareTarget("fp32")) is None
    assert "cuda" in str(BACKEND.supports(dense_model, PrepareTarget("fp32", device="cuda")))
    assert "yet" in str(BACKEND.supports(dense_model, PrepareTarget("w4")))
    assert "tflite" in str(
        BACKEND.supports(replace(dense_model, format="tflite"), PrepareTarget("fp32"))
    )


# --------------------------------------------------------------------------- real models


@pytest.mark.parametrize(
    ("precision", "options", "ran"),
    [
        ("fp32", {}, "fp32"),
        ("fp16", {}, None),
        ("int8-static", {}, "int8"),
        ("int8-static", {"calibration_method": "entropy"}, "int8"),
        ("int8-static", {"calibration_method": "percentile"}, "int8"),
        ("int8-static", {"per_channel": False}, "int8"),
    ],
)
def test_resnet8_keeps_its_accuracy(
    resnet8: Model,
    cifar10: tuple[np.ndarray, np.ndarray],
    calibration: Calibration,
    tmp_path: Path,
    precision: str,
    options: dict[str, Any],
    ran: str | None,
) -> None:
    artifact = make(resnet8, precision, tmp_path / "out", calibration, **options)
    images, labels = cifar10
    reference = directly(resnet8.path, images)
    outputs = predict(artifact, images)
    if precision == "fp32":
        np.testing.assert_allclose(outputs, reference, rtol=1e-5, atol=1e-6)
    assert accuracy(outputs, labels) >= accuracy(reference, labels) - 0.015

    answer = effective(artifact)
    assert sum(answer.operators.values()) == 10  # nine convolutions, one matrix product
    assert answer.fallback_ops == 0
    if ran is None:  # fp16 computes where the processor has such kernels
        assert answer.precision in ("fp16", "fp32")
        stored = "fp16 is storage only" in " ".join(answer.notes)
        assert stored == (answer.precision == "fp32")
    else:
        assert answer.precision == ran
    size = artifact.file.stat().st_size / resnet8.path.stat().st_size
    if ran == "int8":
        assert artifact.provenance.quantized_ops == 10
        assert size < 0.45
    elif ran is None:
        assert size < 0.6


def test_calibration_uses_every_item_given(
    resnet8: Model, calibration: Calibration, tmp_path: Path
) -> None:
    few = Calibration({"x": calibration.feeds["x"][:7]})
    artifact = make(resnet8, "int8-static", tmp_path / "out", few, calibration_method="entropy")
    assert artifact.provenance.settings["calibration_items"] == 7
    assert artifact.provenance.settings["CalibStridedMinMax"] == 7


def test_dynamic_int8_is_refused_where_convolutions_do_the_work(
    resnet8: Model, tmp_path: Path
) -> None:
    with pytest.raises(Unsupported, match=r"matrix products only.*convolutions"):
        make(resnet8, "int8-dynamic", tmp_path / "out")


@pytest.mark.parametrize("per_channel", [True, False])
def test_dynamic_int8_of_matrix_products(
    dense_model: Model, rows: np.ndarray, tmp_path: Path, per_channel: bool
) -> None:
    artifact = make(dense_model, "int8-dynamic", tmp_path / "out", per_channel=per_channel)
    assert artifact.provenance.quantized_ops == 3
    answer = effective(artifact)
    assert (answer.precision, dict(answer.operators)) == ("int8", {"int8": 3})
    reference = directly(dense_model.path, rows)
    error = np.linalg.norm(predict(artifact, rows) - reference) / np.linalg.norm(reference)
    assert 0 < error < 0.05


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8-static"])
def test_a_file_of_2018(precision: str, tmp_path: Path) -> None:
    """Opset 8, weights listed as inputs, a bias of shape [1, 10]."""
    x, y = TensorSpec("float32", (1, 1, 28, 28), "NCHW"), TensorSpec("float32", (1, 10))
    path = asset("models/mnist_cnn/model.onnx")
    data = np.load(asset("datasets/mnist_t10k/mnist_t10k_dev.npz"))
    images, labels = data["x"][:400, None].astype(np.float32), data["y"][:400]
    model = describe(path, x, y, ("Input3", "Plus214_Output_0"))
    artifact = make(model, precision, tmp_path / "out", Calibration({"x": images[:100]}))
    outputs, reference = predict(artifact, images[100:]), directly(path, images[100:])
    assert accuracy(outputs, labels[100:]) >= accuracy(reference, labels[100:]) - 0.015
    answer = effective(artifact)
    assert sum(answer.operators.values()) == 3
    if precision == "int8-static":
        assert (answer.precision, artifact.provenance.quantized_ops) == ("int8", 3)


@pytest.mark.parametrize("precision", ["fp32", "int8-static", "int8-dynamic"])
def test_transformer(precision: str, tmp_path: Path) -> None:
    path = ZOO / "digits_vit.onnx"
    if not path.exists():
        pytest.skip("suites/zoo/digits_vit.onnx is not there")
    spec, logits = TensorSpec("float32", ("N", 1, 32, 32), "NCHW"), TensorSpec("float32", ("N", 10))
    model = describe(path, spec, logits, ("image", "logits"))
    rng = np.random.default_rng(0)
    items = rng.uniform(0, 1, (32, 1, 32, 32)).astype(np.float32)
    artifact = make(model, precision, tmp_path / "out", Calibration({"x": items}))
    answer = effective(artifact)
    assert answer.precision == precision.partition("-")[0]
    if precision == "int8-static":  # attention's products of two activations are left out
        assert answer.operators == {"int8": 20, "fp32": 6}
    outputs, reference = predict(artifact, items), directly(path, items)
    assert np.linalg.norm(outputs - reference) < 0.2 * np.linalg.norm(reference)


# --------------------------------------------------------------------------- feeds and batches


def _image_model(tmp_path: Path) -> Path:
    """A per-channel scaling of an NHWC file's images, as a 1x1 convolution between transposes."""
    weights = np.array([[1, 0, 0], [0, 10, 0], [0, 0, 100]], np.float32).reshape(3, 3, 1, 1)
    nodes = [
        onnx.helper.make_node("Transpose", ["img"], ["t"], perm=[0, 3, 1, 2]),
        onnx.helper.make_node("Conv", ["t", "w"], ["c"]),
        onnx.helper.make_node("Transpose", ["c"], ["out"], perm=[0, 2, 3, 1]),
    ]
    kind, shape = onnx.TensorProto.FLOAT, ["N", 4, 5, 3]
    return _save(
        tmp_path / "image.onnx",
        nodes,
        [_value("img", kind, shape)],
        [_value("out", kind, shape)],
        [onnx.numpy_helper.from_array(weights, "w")],
    )


def test_layouts_are_mapped_both_ways(tmp_path: Path) -> None:
    spec = TensorSpec("float32", ("N", 3, 4, 5), "NCHW")
    model = replace(
        describe(_image_model(tmp_path), spec, spec, ("img", "out")),
        source_inputs={"x": SourceTensor("img", "NHWC")},
        source_outputs={"y": SourceTensor("out", "NHWC")},
    )
    artifact = make(model, "fp32", tmp_path / "out")
    items = np.random.default_rng(0).random((2, 3, 4, 5), dtype=np.float32)
    factors = np.array([1, 10, 100], np.float32).reshape(1, 3, 1, 1)
    np.testing.assert_allclose(predict(artifact, items, batch=2), items * factors, rtol=1e-6)


def test_batch_of_a_dynamic_file(
    resnet8: Model, cifar10: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    artifact = make(resnet8, "fp32", tmp_path / "out")
    items = cifar10[0][:8]
    one, four = predict(artifact, items), predict(artifact, items, batch=4)
    np.testing.assert_allclose(four, one, rtol=1e-4, atol=1e-6)


def test_batch_of_a_fixed_file(rows: np.ndarray, tmp_path: Path) -> None:
    spec = TensorSpec("float32", (1, 64))
    model = describe(dense(tmp_path / "fixed.onnx", batch=1), spec, spec, ("x", "y"))
    artifact = make(model, "fp32", tmp_path / "out")
    np.testing.assert_allclose(predict(artifact, rows), directly(model.path, rows), rtol=1e-5)
    with pytest.raises(Unsupported, match="the file is fixed at batch 1"):
        BACKEND.open(artifact, RunConfig(batch=4))


@pytest.mark.parametrize(
    ("feed", "words"),
    [
        ({"image": np.zeros((1, 64), np.float32)}, "expected the inputs x; got image"),
        ({}, "expected the inputs x; got none"),
        ({"x": np.zeros((1, 64), np.int64)}, "expected float32, got int64"),
        ({"x": np.zeros((1, 65), np.float32)}, r"expected shape \[1, 64\], got \[1, 65\]"),
        ({"x": np.zeros((2, 64), np.float32)}, r"expected shape \[1, 64\], got \[2, 64\]"),
        ({"x": np.zeros(64, np.float32)}, r"expected shape \[1, 64\], got \[64\]"),
    ],
)
def test_wrong_feeds(
    dense_model: Model, tmp_path: Path, feed: dict[str, np.ndarray], words: str
) -> None:
    artifact = make(dense_model, "fp32", tmp_path / "out")
    with BACKEND.open(artifact, RunConfig()) as program, pytest.raises(ValueError, match=words):
        program.stream().bind(feed)


def test_float_feeds_of_other_widths_are_cast(
    dense_model: Model, rows: np.ndarray, tmp_path: Path
) -> None:
    artifact = make(dense_model, "fp32", tmp_path / "out")
    np.testing.assert_array_equal(
        predict(artifact, rows.astype(np.float64)), predict(artifact, rows)
    )


def test_quantized_inputs_and_outputs_are_fed_the_cards_dtype(tmp_path: Path) -> None:
    """A file whose edges are uint8: y = 2x, in steps of 0.5 and 0.25."""
    scalars = {"s": np.float32(0.5), "z": np.uint8(8), "s2": np.float32(0.25), "z2": np.uint8(4)}
    scalars["two"] = np.float32(2)
    nodes = [
        onnx.helper.make_node("DequantizeLinear", ["q", "s", "z"], ["f"]),
        onnx.helper.make_node("Mul", ["f", "two"], ["g"]),
        onnx.helper.make_node("QuantizeLinear", ["g", "s2", "z2"], ["r"]),
    ]
    kind = onnx.TensorProto.UINT8
    path = _save(
        tmp_path / "edges.onnx",
        nodes,
        [_value("q", kind, ["N", 4])],
        [_value("r", kind, ["N", 4])],
        [onnx.numpy_helper.from_array(np.asarray(v), k) for k, v in scalars.items()],
    )
    spec = TensorSpec("float32", ("N", 4))
    artifact = make(describe(path, spec, spec, ("q", "r")), "as-shipped", tmp_path / "out")
    with BACKEND.open(artifact, RunConfig()) as program:
        assert program.inputs["x"] == TensorSpec("uint8", (1, 4), None, 0.5, 8)
        assert program.outputs["y"].scale == 0.25
    outputs = predict(artifact, np.array([[0.0, 1.0, 1.6, -1.0]], np.float32))
    np.testing.assert_array_equal(outputs, np.array([[0, 2, 3, -1]], np.float32))
    assert outputs.dtype == np.float32


def test_outputs_whose_size_depends_on_the_data(tmp_path: Path) -> None:
    nodes = [onnx.helper.make_node("NonZero", ["x"], ["y"])]
    path = _save(
        tmp_path / "nonzero.onnx",
        nodes,
        [_value("x", onnx.TensorProto.FLOAT, ["N", 4])],
        [_value("y", onnx.TensorProto.INT64, [2, "found"])],
        [],
    )
    specs = TensorSpec("float32", ("N", 4)), TensorSpec("int64", (2, "found"))
    artifact = make(describe(path, *specs, ("x", "y")), "fp32", tmp_path / "out")
    with BACKEND.open(artifact, RunConfig(batch=2)) as program:
        stream = program.stream()
        stream.bind({"x": np.array([[0, 1, 1, 0], [0, 0, 0, 1]], np.float32)})
        stream.infer()
        assert stream.read()["y"].tolist() == [[0, 0, 1], [1, 2, 3]]


def test_describe_names_free_sizes_and_leaves_out_weights(tmp_path: Path) -> None:
    kind = onnx.TensorProto.FLOAT
    shape: list[Any] = ["batch", 2, "N", None]
    nodes = [onnx.helper.make_node("Add", ["a", "w"], ["b"])]
    weights = [onnx.numpy_helper.from_array(np.float32([1]), "w")]
    inputs = [_value("a", kind, shape), _value("w", kind, [1])]  # as files before IR 4 list them
    path = _save(tmp_path / "m.onnx", nodes, inputs, [_value("b", kind, shape)], weights)
    found, outputs = BACKEND.describe(path)
    assert dict(found) == {"a": TensorSpec("float32", ("N", 2, "D2", "D3"))}
    assert list(outputs) == ["b"]
    path.write_bytes(b"hello\n")
    with pytest.raises(PrepareError, match="not a valid ONNX file"):
        BACKEND.describe(path)


# --------------------------------------------------------------------------- streams, hints


def test_streams_run_at_the_same_time(dense_model: Model, rows: np.ndarray, tmp_path: Path) -> None:
    artifact = make(dense_model, "fp32", tmp_path / "out")
    reference = directly(dense_model.path, rows)
    results: dict[int, np.ndarray] = {}
    with BACKEND.open(artifact, RunConfig(streams=4)) as program:
        streams = [program.stream() for _ in range(4)]

        def work(index: int) -> None:
            streams[index].bind({"x": rows[index : index + 1]})
            for _ in range(200):
                streams[index].infer()
            results[index] = streams[index].read()["y"].copy()

        threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for index in range(4):
        np.testing.assert_allclose(results[index], reference[index : index + 1], rtol=1e-5)


def test_infer_keeps_its_buffers_alive(
    dense_model: Model, rows: np.ndarray, tmp_path: Path
) -> None:
    artifact = make(dense_model, "fp32", tmp_path / "out")
    with BACKEND.open(artifact, RunConfig()) as program:
        stream = program.stream()
        stream.bind({"x": rows[:1]})
        infer = stream.infer
        infer()
        output = stream.read()["y"]
        expected = output.copy()
        del stream
    del program
    gc.collect()
    size = rows[:1].nbytes + 64
    junk = [np.full(size, 1, np.uint8) for _ in range(100)]  # where a freed buffer would have been
    output[:] = 0
    infer()
    assert junk
    np.testing.assert_array_equal(output, expected)


def test_hints(dense_model: Model, rows: np.ndarray, tmp_path: Path) -> None:
    artifact = make(dense_model, "fp32", tmp_path / "out")
    hints = {
        "graph_optimization_level": "ORT_DISABLE_ALL",
        "enable_mem_pattern": False,
        "session.intra_op.allow_spinning": "1",
        "session.set_denormal_as_zero": True,
    }
    outputs = predict(artifact, rows, threads=2, hints=hints)
    np.testing.assert_allclose(outputs, directly(dense_model.path, rows), rtol=1e-5)
    with BACKEND.open(artifact, RunConfig(threads=2, hints=hints)) as program:
        options = program.session.get_session_options()
        assert options.intra_op_num_threads == 2
        assert options.get_session_config_entry("session.intra_op.allow_spinning") == "1"
        assert options.get_session_config_entry("session.set_denormal_as_zero") == "1"


@pytest.mark.parametrize(
    ("hints", "words"),
    [
        ({"spinning": False}, r"no hint 'spinning'. Known: .*session\.intra_op\.allow_spinning"),
        ({"graph_optimization_level": "all"}, "is one of ORT_DISABLE_ALL"),
        ({"inter_op_num_threads": "two"}, "does not take 'two'"),
    ],
)
def test_unknown_hints(
    dense_model: Model, tmp_path: Path, hints: dict[str, Any], words: str
) -> None:
    artifact = make(dense_model, "fp32", tmp_path / "out")
    with pytest.raises(ValueError, match=words):
        BACKEND.open(artifact, RunConfig(hints=hints))


def test_threads_do_not_spin_unless_asked(dense_model: Model, tmp_path: Path) -> None:
    artifact = make(dense_model, "fp32", tmp_path / "out")
    with BACKEND.open(artifact, RunConfig(threads=2)) as program:
        options = program.session.get_session_options()
        assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_other_devices_are_unsupported(dense_model: Model, tmp_path: Path) -> None:
    artifact = make(dense_model, "fp32", tmp_path / "out")
    with pytest.raises(Unsupported, match="cuda:0"):
        BACKEND.open(artifact, RunConfig(device="cuda:0"))


# --------------------------------------------------------------------------- broken input


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8-dynamic", "int8-static"])
@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty"])
def test_broken_files(dense_model: Model, tmp_path: Path, precision: str, damage: str) -> None:
    whole = dense_model.path.read_bytes()
    contents = {"truncated": whole[: len(whole) // 2], "garbage": b"not a model" * 9, "empty": b""}
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(contents[damage])
    items = Calibration({"x": np.zeros((2, 64), np.float32)})
    with pytest.raises(PrepareError, match="not a valid ONNX file"):
        make(replace(dense_model, path=broken), precision, tmp_path / "out", items)


def test_wrong_source_names_say_what_the_file_has(dense_model: Model, tmp_path: Path) -> None:
    wrong = replace(dense_model, source_outputs={"y": SourceTensor("logits")})
    with pytest.raises(PrepareError, match=r"no output 'logits'. It has: y\."):
        make(wrong, "fp32", tmp_path / "out")


def test_a_float_file_is_not_as_shipped(dense_model: Model, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="the file is not quantized"):
        make(dense_model, "as-shipped", tmp_path / "out")


def test_a_quantized_file_runs_as_shipped_only(
    resnet8: Model, calibration: Calibration, tmp_path: Path
) -> None:
    quantized = make(resnet8, "int8-static", tmp_path / "first", calibration)
    shipped = replace(resnet8, path=quantized.file)
    for precision in ("fp32", "fp16", "int8-static"):
        with pytest.raises(Unsupported, match="ask for as-shipped"):
            make(shipped, precision, tmp_path / precision, calibration)
    artifact = make(shipped, "as-shipped", tmp_path / "out")
    assert artifact.provenance.quantized_ops == 10
    assert effective(artifact).precision == "int8"


def test_a_quantizer_that_does_nothing_is_an_error(
    resnet8: Model, calibration: Calibration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    from qbench_onnxruntime import prepare

    monkeypatch.setattr(prepare, "quantize_static", lambda a, b, *_, **__: shutil.copy(a, b))
    with pytest.raises(PrepareError, match="quantized no operator"):
        make(resnet8, "int8-static", tmp_path / "out", calibration)


def test_a_failing_tool_names_the_operator(
    dense_model: Model, rows: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qbench_onnxruntime import prepare

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("Failed to find proper ai.onnx domain at node 'MatMul_3'\n" + "x" * 999)

    monkeypatch.setattr(prepare, "quantize_static", fail)
    with pytest.raises(PrepareError) as caught:
        make(dense_model, "int8-static", tmp_path / "out", Calibration({"x": rows}))
    assert caught.value.operator == "MatMul_3"
    assert len(str(caught.value)) < 400


# --------------------------------------------------------------------------- reading back


def _kernel(name: str, operator: str, *types: str, provider: str = "CPUExecutionProvider") -> Any:
    inputs = [{kind: [1]} for kind in types]
    args = {"op_name": operator, "provider": provider, "input_type_shape": inputs}
    return {"name": f"{name}_kernel_time", "args": args}


def test_read_back_refuses_a_false_name() -> None:
    events = [_kernel("a", "Conv", "float", "float"), _kernel("b", "QGemm", "uint8")]
    events += [_kernel("c", "FusedConv", "float", "float")]
    with pytest.raises(Unsupported, match=r"2 in fp32, 1 in int8"):
        read_back(events, "int8-static", "CPUExecutionProvider")
    with pytest.raises(Unsupported, match="as-shipped"):
        read_back(events[1:2], "fp32", "CPUExecutionProvider")


def test_read_back_counts_a_node_once_and_other_providers_as_fallback() -> None:
    loop = [_kernel("a", "Gemm", "float16")] * 5
    elsewhere = _kernel("b", "Gemm", "float16", provider="AzureExecutionProvider")
    answer = read_back([*loop, elsewhere, {"name": "model_run"}], "fp16", "CPUExecutionProvider")
    assert (answer.precision, dict(answer.operators)) == ("fp16", {"fp16": 2})
    assert answer.fallback_ops == 1
    with pytest.raises(RuntimeError, match="no kernel events"):
        read_back([], "fp32", "CPUExecutionProvider")


def test_effective_needs_inspect(dense_model: Model, tmp_path: Path) -> None:
    artifact = make(dense_model, "fp32", tmp_path / "out")
    with (
        BACKEND.open(artifact, RunConfig()) as program,
        pytest.raises(RuntimeError, match="inspect=True"),
    ):
        program.effective()


class TestConformance(AdapterConformance):
    target = "qbench_onnxruntime:Backend"
