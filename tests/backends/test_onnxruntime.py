"""The ONNX Runtime adapter, through the contract, with the real runtime and real models."""

from __future__ import annotations

import gc
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cells import cell
from paths import ROOT
from processor import AS_IT_STANDS, SATURATES

from qbench.kit.adapter import PrepareError, Ready, Unavailable, Unsupported
from qbench.kit.model import (
    Artifact,
    Calibration,
    Model,
    PrepareTarget,
    RunConfig,
    SourceTensor,
    TensorSpec,
)
from qbench.kit.operators import EffectivePrecision
from qbench.kit.precisions import PRECISIONS
from qbench.spec.precisions import complete_options
from qbench.testing.conformance import AdapterConformance

ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
onnx = pytest.importorskip("onnx", reason="onnx is not installed")

from qbench.kit.onnxfile.calibration import mse_range  # noqa: E402
from qbench_onnxruntime import Backend  # noqa: E402
from qbench_onnxruntime.effective import read_operators, summary  # noqa: E402

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
    model: Model,
    precision: str,
    out: Path,
    calibration: Calibration | None = None,
    recipe: str = "best",
    **options: Any,
) -> Artifact:
    out.mkdir(exist_ok=True)
    target = PrepareTarget(precision, complete_options(precision, options), recipe=recipe)
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


def sqnr_db(reference: np.ndarray, outputs: np.ndarray) -> float:
    noise = np.sum((reference - outputs) ** 2.0)
    return float(10 * np.log10(np.sum(reference**2.0) / max(noise, 1e-20)))


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
def mnist() -> Model:
    """Opset 8, weights listed as inputs, a bias of shape [1, 10]."""
    x, y = TensorSpec("float32", (1, 1, 28, 28), "NCHW"), TensorSpec("float32", (1, 10))
    return describe(asset("models/mnist_cnn/model.onnx"), x, y, ("Input3", "Plus214_Output_0"))


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """The first 400 handwritten digits of MNIST's test set."""
    data = np.load(asset("datasets/mnist_t10k/mnist_t10k_dev.npz"))
    return data["x"][:400, None].astype(np.float32)


@pytest.fixture(scope="session")
def vit() -> Model:
    path = ZOO / "digits_vit.onnx"
    if not path.exists():
        pytest.skip("suites/zoo/digits_vit.onnx is not there")
    spec, logits = TensorSpec("float32", ("N", 1, 32, 32), "NCHW"), TensorSpec("float32", ("N", 10))
    return describe(path, spec, logits, ("image", "logits"))


@pytest.fixture(scope="session")
def digits() -> np.ndarray:
    """32 handwritten digits, enlarged to 32x32 pixels."""
    small = np.load(ZOO / "digits.npz")["images"][:32].astype(np.float32) / 16
    return np.kron(small[:, None], np.ones((4, 4), np.float32))


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
    assert {"fp32", "int8-dynamic", "int8-static", "w8", "w4"} <= set(answer.precisions["cpu"])
    assert set(answer.precisions["cpu"]) | set(answer.missing["cpu"]) == set(PRECISIONS)
    assert not set(answer.precisions["cpu"]) & set(answer.missing["cpu"])
    assert "bfloat16" in answer.missing["cpu"]["bf16"]
    assert "float32" in answer.missing["cpu"]["int16x8"]


def test_probe_of_a_missing_package_names_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    answer = BACKEND.probe()
    assert isinstance(answer, Unavailable)
    assert answer.fix == "pip install onnxruntime onnx onnx-ir"


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
from qbench.kit.model import *
from qbench_onnxruntime import Backend
spec = TensorSpec("float32", ("N", 64))
tensor = {{"x": SourceTensor("x")}}, {{"y": SourceTensor("y")}}
model = Model("m", "onnx", Path("m"), "0", "t", {{"x": spec}}, {{"y": spec}}, *tensor)
artifact = Artifact(Path({str(artifact.path)!r}), model, PrepareTarget("fp32"),
                    Provenance("model.onnx"))
Backend().import_runtime()
with Backend().open(artifact, RunConfig(), inspect=True) as program:
    program.effective()
    program.profile({{"x": np.ones((1, 64), np.float32)}}, 2)
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
    assert "npu" in str(BACKEND.supports(dense_model, PrepareTarget("fp32", device="npu")))
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
        ("int8-static", {"calibration_method": "mse"}, "int8"),
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
    outputs = predict(artifact, images, hints=AS_IT_STANDS)
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
    assert 0 < error < (0.1 if SATURATES else 0.05)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8-static"])
def test_a_file_of_2018(mnist: Model, images: np.ndarray, precision: str, tmp_path: Path) -> None:
    labels = np.load(asset("datasets/mnist_t10k/mnist_t10k_dev.npz"))["y"][:400]
    artifact = make(mnist, precision, tmp_path / "out", Calibration({"x": images[:100]}))
    outputs, reference = predict(artifact, images[100:]), directly(mnist.path, images[100:])
    assert accuracy(outputs, labels[100:]) >= accuracy(reference, labels[100:]) - 0.015
    answer = effective(artifact)
    assert sum(answer.operators.values()) == 3
    if precision == "int8-static":
        assert (answer.precision, artifact.provenance.quantized_ops) == ("int8", 3)


@pytest.mark.parametrize("precision", ["fp32", "int8-static", "int8-dynamic"])
def test_transformer(vit: Model, digits: np.ndarray, precision: str, tmp_path: Path) -> None:
    artifact = make(vit, precision, tmp_path / "out", Calibration({"x": digits}))
    answer = effective(artifact)
    assert answer.precision == precision.partition("-")[0]
    if precision == "int8-static":  # attention's products of two activations are left out
        assert answer.operators == {"int8": 20, "fp32": 6}
        # 3 blocks of 2 products, 64 tokens by 64 tokens by width 64; all else is int8
        assert answer.macs is not None
        assert answer.macs["fp32"] == 3 * 2 * 64 * 64 * 64
    if SATURATES and precision == "int8-dynamic":
        return  # MatMulInteger saturates, whatever the hints
    outputs = predict(artifact, digits, hints=AS_IT_STANDS)
    assert sqnr_db(directly(vit.path, digits), outputs) > 25


# --------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("precision", "options", "words"),
    [
        ("int8-static", {"quantizer": "nncf"}, "not with nncf"),
        ("int8-static", {"preset": "mixed"}, "no option preset"),
        ("int8-static", {"max_accuracy_drop": 0.01}, "no option max_accuracy_drop"),
        ("w4", {"group_size": 48}, "16, 32, 64, 128, 256.*not of 48"),
    ],
)
def test_options_that_the_tool_does_not_have(
    dense_model: Model, precision: str, options: dict[str, Any], words: str
) -> None:
    target = PrepareTarget(precision, complete_options(precision, options))
    assert re.search(words, str(BACKEND.supports(dense_model, target)))


def test_own_quantizer_by_name(dense_model: Model, rows: np.ndarray, tmp_path: Path) -> None:
    items = Calibration({"x": rows})
    artifact = make(dense_model, "int8-static", tmp_path / "out", items, quantizer="onnxruntime")
    assert artifact.provenance.quantized_ops == 3


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_mse_range_is_the_best_of_all(scale: float) -> None:
    """Normal values and an outlier; errors are measured on the values themselves."""
    values = np.random.default_rng(0).normal(0, 1, 100_000)
    values[0] = 12
    values *= scale
    counts, edges = np.histogram(values, 4096, (-12 * scale, 12 * scale))
    found = mse_range(counts, edges, values.min(), values.max())

    def error(low: float, high: float) -> float:
        step = (high - low) / 255
        zero = np.rint(-low / step)
        quantized = np.clip(np.rint(values / step) + zero, 0, 255)
        return float(np.mean(((quantized - zero) * step - values) ** 2))

    grid = np.linspace(0.05, 1, 40)
    best = min(error(values.min() * a, values.max() * b) for a in grid for b in grid)
    assert error(*found) < 1.1 * best
    assert error(*found) < 0.9 * error(values.min(), values.max())


def test_mse_range_of_positive_values_and_of_zeros() -> None:
    values = np.random.default_rng(0).exponential(1, 10_000)
    counts, edges = np.histogram(values, 4096, (-values.max(), values.max()))
    low, high = mse_range(counts, edges, 0.0, values.max())
    assert low == 0
    assert 0.3 * values.max() < high <= values.max()
    assert mse_range(np.array([0, 5]), np.array([-1.0, 0.0, 1.0]), 0.0, 0.0) == (0, 0)


def test_mse_calibration_is_what_the_tool_was_given(
    resnet8: Model, calibration: Calibration, tmp_path: Path
) -> None:
    few = Calibration({"x": calibration.feeds["x"][:9]})  # not a multiple of a chunk
    artifact = make(resnet8, "int8-static", tmp_path / "out", few, calibration_method="mse")
    ranges = artifact.provenance.settings["TensorQuantOverrides"]
    model = onnx.load(artifact.file)
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    low, high = ranges["input_1"]
    assert low == 0 and 200 < high <= 255  # pixels
    steps = {n.input[0]: n.input[1] for n in model.graph.node if n.op_type == "QuantizeLinear"}
    steps = {name: constants[scale] for name, scale in steps.items() if name in ranges}
    assert len(steps) >= 10  # every convolution's output, at the least
    for name, step in steps.items():
        low, high = ranges[name]
        assert step == pytest.approx((high - low) / 255), name


@pytest.mark.parametrize(
    ("excluded", "quantized"),
    [
        (["Convolution28"], 2),
        (["Conv"], 1),
        (["Times212"], 2),  # a MatMul, which becomes a Gemm of another name
        (["Plus214"], 2),  # the Add that is fused into it
        (["Gemm", "Convolution110"], 1),
    ],
)
def test_excluded_operators(
    mnist: Model, images: np.ndarray, excluded: list[str], quantized: int, tmp_path: Path
) -> None:
    items = Calibration({"x": images[:8]})
    artifact = make(mnist, "int8-static", tmp_path / "out", items, excluded_operators=excluded)
    assert artifact.provenance.quantized_ops == quantized
    assert len(artifact.provenance.settings["nodes_to_exclude"]) == 3 - quantized
    operators = effective(artifact).operators
    assert operators == {"int8": quantized, "fp32": 3 - quantized}


@pytest.mark.parametrize(
    ("excluded", "words"),
    [
        ("Convolution82", "no operator 'Convolution82'.*near: .*Convolution28"),
        ("Times212_reshape1", "folded into a constant"),
    ],
)
def test_operators_that_cannot_be_excluded(
    mnist: Model, images: np.ndarray, excluded: str, words: str, tmp_path: Path
) -> None:
    items = Calibration({"x": images[:8]})
    with pytest.raises(PrepareError, match=words):
        make(mnist, "int8-static", tmp_path / "out", items, excluded_operators=[excluded])


def test_dynamic_int8_leaves_out_what_is_excluded(vit: Model, tmp_path: Path) -> None:
    artifact = make(vit, "int8-dynamic", tmp_path / "out", excluded_operators=["node_MatMul_7"])
    assert artifact.provenance.quantized_ops == 18
    assert artifact.provenance.settings["nodes_to_exclude"] == ["node_MatMul_7"]


def test_dynamic_int8_of_all_operators_runs_integer_convolutions(
    resnet8: Model, cifar10: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    artifact = make(resnet8, "int8-dynamic", tmp_path / "out", all_operators=True)
    assert artifact.provenance.quantized_ops == 10
    images, labels = cifar10[0][:100], cifar10[1][:100]
    fp32 = accuracy(directly(resnet8.path, images), labels)
    assert accuracy(predict(artifact, images), labels) >= fp32 - 0.03
    with BACKEND.open(artifact, RunConfig(), inspect=True) as program:
        kinds = [op.kind for op in program.profile({"x": images[:1]}, 2).operators]
    assert kinds.count("ConvInteger") == 9


# --------------------------------------------------------------------------- weights only


@pytest.mark.parametrize(
    ("precision", "group", "floor_db", "share"),
    [
        ("w8", None, 40, 0.4),
        ("w8", 32, 40, 0.4),
        ("w4", None, 15, 0.25),
        ("w4", -1, 15, 0.25),
        ("w4", 128, 15, 0.35),
    ],
)
def test_weights_alone(
    vit: Model,
    digits: np.ndarray,
    precision: str,
    group: int | None,
    floor_db: float,
    share: float,
    tmp_path: Path,
) -> None:
    artifact = make(vit, precision, tmp_path / "out", group_size=group)
    assert artifact.provenance.quantized_ops == 19  # 18 MatMul, and a Gemm that became one
    assert artifact.file.stat().st_size < share * vit.path.stat().st_size
    close = sqnr_db(directly(vit.path, digits), predict(artifact, digits))
    assert floor_db < close < floor_db + 20
    answer = effective(artifact)
    assert answer.precision == "fp32"  # activations are not quantized
    assert set(answer.macs or {}) == {"fp32"}
    if group == 128:
        assert artifact.provenance.settings["block_size"] == {"128": 19}


def test_weights_of_gemm_in_all_its_forms(rows: np.ndarray, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {"w": rng.normal(0, 0.2, (32, 64)), "b": rng.normal(0, 1, 32)}
    nodes = [
        onnx.helper.make_node("Gemm", ["x", "w", "b"], ["h"], alpha=0.5, beta=2.0, transB=1),
        onnx.helper.make_node("Gemm", ["h", "w"], ["y"]),
    ]
    kind = onnx.TensorProto.FLOAT
    path = _save(
        tmp_path / "gemm.onnx",
        nodes,
        [_value("x", kind, ["N", 64])],
        [_value("y", kind, ["N", 64])],
        [onnx.numpy_helper.from_array(a.astype(np.float32), n) for n, a in arrays.items()],
    )
    spec = TensorSpec("float32", ("N", 64))
    artifact = make(describe(path, spec, spec, ("x", "y")), "w8", tmp_path / "out")
    assert artifact.provenance.quantized_ops == 2
    hidden = 0.5 * rows @ arrays["w"].T + 2 * arrays["b"]
    assert sqnr_db(hidden @ arrays["w"], predict(artifact, rows)) > 35


def test_weights_alone_of_convolutions_and_of_long_columns(resnet8: Model, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=r"matrix products only.*under 1 %.*convolutions"):
        make(resnet8, "w4", tmp_path / "out")
    spec = TensorSpec("float32", ("N", 300))
    weights = np.ones((300, 300), np.float32)
    path = _save(
        tmp_path / "long.onnx",
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"], "wide")],
        [_value("x", onnx.TensorProto.FLOAT, ["N", 300])],
        [_value("y", onnx.TensorProto.FLOAT, ["N", 300])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    model = describe(path, spec, spec, ("x", "y"))
    with pytest.raises(Unsupported, match=r"'wide' has 300 weights.*256 at most"):
        make(model, "w8", tmp_path / "long", group_size=-1)


def test_a_model_of_tokens(tmp_path: Path) -> None:
    """Integer inputs, an embedding, and few products: every precision that needs no items."""
    tokens, scores = TensorSpec("int32", (1, 256)), TensorSpec("float32", (1, 2))
    path = asset("models/avgwordvec_sst2/model.onnx")
    model = describe(path, tokens, scores, ("input_1", "Identity"))
    items = np.random.default_rng(0).integers(0, 10_000, (8, 256), np.int32)
    reference = directly(path, items)
    for precision in ("fp16", "int8-dynamic", "int8-static", "w8", "w4"):
        artifact = make(model, precision, tmp_path / precision, Calibration({"x": items}))
        np.testing.assert_allclose(predict(artifact, items), reference, atol=0.08)


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
    artifact = make(describe(path, spec, spec, ("q", "r")), "fp32", tmp_path / "out")
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
    described = BACKEND.describe(path)
    found, outputs = described.inputs, described.outputs
    assert dict(found) == {"a": TensorSpec("float32", ("batch", 2, "N", "a.3"))}
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
        ({"inter_op_num_threads": "two"}, "is a whole number from 0 up, not 'two'"),
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
    with pytest.raises(Unsupported, match="npu:0"):
        BACKEND.open(artifact, RunConfig(device="npu:0"))


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

    from qbench.kit.onnxfile import calibration as tools

    monkeypatch.setattr(tools, "quantize_static", lambda a, b, *_, **__: shutil.copy(a, b))
    with pytest.raises(PrepareError, match="quantized no operator"):
        make(resnet8, "int8-static", tmp_path / "out", calibration)


def test_a_failing_tool_names_the_operator(
    dense_model: Model, rows: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qbench.kit.onnxfile import calibration

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("Failed to find proper ai.onnx domain at node 'MatMul_3'. And more" * 99)

    monkeypatch.setattr(calibration, "quantize_static", fail)
    with pytest.raises(PrepareError) as caught:
        make(dense_model, "int8-static", tmp_path / "out", Calibration({"x": rows}))
    assert str(caught.value) == (
        "quantize_static failed: Failed to find proper ai.onnx domain at node 'MatMul_3'"
    )


# --------------------------------------------------------------------------- reading back


def _kernel(name: str, operator: str, *types: str, provider: str = "CPUExecutionProvider") -> Any:
    inputs = [{kind: [1]} for kind in types]
    args = {"op_name": operator, "provider": provider, "input_type_shape": inputs}
    return {"name": f"{name}_kernel_time", "args": args, "dur": 1}


def test_operators_of_a_profile() -> None:
    run = {"name": "model_run"}
    loop = [_kernel("a", "Gemm", "float16")] * 5
    elsewhere = _kernel("b", "Gemm", "float16", provider="AzureExecutionProvider")
    events = [*loop, elsewhere, _kernel("c", "Cast", "float16"), run]
    operators = read_operators(events, "CPUExecutionProvider")
    assert [op.role for op in operators] == ["compute", "compute", "convert"]
    answer = summary(operators, "fp16")
    assert (answer.precision, dict(answer.operators)) == ("fp16", {"fp16": 2})
    assert answer.fallback_ops == 1
    with pytest.raises(RuntimeError, match="no kernel events"):
        read_operators([run], "CPUExecutionProvider")


def test_the_first_inference_does_not_count_and_loops_add_up() -> None:
    run = {"name": "model_run"}
    slow, fast = ({**_kernel("a", "Relu", "float"), "dur": us} for us in (1000, 3))
    events = [slow, run, fast, fast, run, fast, fast, run]
    (operator,) = read_operators(events, "CPUExecutionProvider", skip=1)
    assert operator.ns == 6000


@pytest.mark.parametrize(
    ("kind", "inputs", "output", "macs"),
    [
        ("Conv", [[2, 8, 9, 9], [16, 4, 3, 3]], [2, 16, 7, 7], 2 * 16 * 7 * 7 * 4 * 9),
        ("ConvTranspose", [[1, 8, 5, 5], [8, 16, 2, 2]], [1, 16, 10, 10], 25 * 8 * 16 * 4),
        ("QLinearConv", [[1, 9, 9, 8], [], [], [16, 8, 1, 1]], [1, 9, 9, 16], 81 * 8 * 16),
        ("MatMul", [[3, 5, 7], [7, 11]], [3, 5, 11], 3 * 5 * 7 * 11),
        ("MatMul", [[3, 5, 7], [7]], [3, 5], 3 * 5 * 7),
        ("Gemm", [[7, 5], [7, 11], [11]], [5, 11], 5 * 7 * 11),  # the first operand transposed
        ("FusedMatMul", [[2, 3, 7, 5], [2, 3, 7, 11]], [2, 3, 5, 11], 6 * 5 * 7 * 11),
        ("LSTM", [[10, 1, 6], [1, 32, 6], [1, 32, 8]], [10, 1, 1, 8], 10 * 32 * (6 + 8)),
        ("MultiHeadAttention", [[2, 5, 8], [2, 9, 8], [2, 9, 6]], [2, 5, 6], 2 * 5 * 9 * (8 + 6)),
        ("Attention", [[1, 5, 8], [8, 24], [24]], [1, 5, 8], 5 * 8 * 24 + 2 * 5 * 5 * 8),
        ("MultiHeadAttention", [[1, 1, 8], [1, 4, 9, 2]], [1, 1, 8], None),  # with a past
        ("Einsum", [[2, 3], [3, 4]], [2, 4], None),
        ("Relu", [[2, 3]], [2, 3], None),
    ],
)
def test_multiply_accumulates(
    kind: str, inputs: list[list[int]], output: list[int], macs: int | None
) -> None:
    args = {
        "op_name": kind,
        "input_type_shape": [{"float": shape} for shape in inputs],
        "output_type_shape": [{"float": output}],
    }
    events = [{"name": "n_kernel_time", "args": args, "dur": 1}, {"name": "model_run"}]
    (operator,) = read_operators(events, "CPUExecutionProvider")
    assert operator.macs == macs


@pytest.mark.parametrize(
    ("kind", "sizes", "weights", "activations"),
    [
        ("Conv", (1024, 256, 512), 1024, 256 + 512),
        ("Gather", (94_000_000, 128, 3072), 3072, 128 + 3072),  # the rows it takes, not the table
        ("Reshape", (16, 1024, 1024), 0, 0),
        ("SequenceAt", (), None, None),  # ONNX Runtime adds up tensors only
    ],
)
def test_bytes(
    kind: str, sizes: tuple[int, ...], weights: int | None, activations: int | None
) -> None:
    """In a loop of two, over four inferences of which the first does not count."""
    names = ("parameter_size", "activation_size", "output_size")
    event = _kernel("a", kind, "float")
    event["args"] |= {name: str(size) for name, size in zip(names, sizes, strict=False)}
    events = [event, event, {"name": "model_run"}] * 4
    (operator,) = read_operators(events, "CPUExecutionProvider", skip=1)
    double = [None if value is None else 2 * value for value in (weights, activations)]
    assert [operator.weight_bytes, operator.activation_bytes] == double


def test_a_profile_has_the_bytes_of_what_it_times(tmp_path: Path) -> None:
    """The timed session packs its weights, and no longer shows them."""
    tensors = TensorSpec("float32", ("N", 1, 8, 8), "NCHW"), TensorSpec("float32", ("N", 10))
    model = describe(ZOO / "digits_cnn.onnx", *tensors, ("image", "logits"))
    artifact = make(model, "fp32", tmp_path / "out")
    feed = {"x": np.ones((1, 1, 8, 8), np.float32)}
    with BACKEND.open(artifact, RunConfig(), inspect=True) as program:
        profile, whole = program.profile(feed, 2), program.effective()
    product = next(op for op in profile.operators if op.kind in ("Gemm", "FusedGemm"))
    assert product.weight_bytes == 4 * (256 * 10 + 10)
    assert product.activation_bytes == 4 * (256 + 10)
    assert sum(op.weight_bytes or 0 for op in profile.operators) == whole.weight_bytes


RESNET8_MACS = [
    *(32 * 32 * 16 * 3 * 9, 32 * 32 * 16 * 16 * 9, 32 * 32 * 16 * 16 * 9),
    *(16 * 16 * 32 * 16 * 9, 16 * 16 * 32 * 32 * 9, 16 * 16 * 32 * 16),
    *(8 * 8 * 64 * 32 * 9, 8 * 8 * 64 * 64 * 9, 8 * 8 * 64 * 32),
    64 * 10,
]
"""Layer by layer, from the architecture that MLPerf Tiny publishes."""


@pytest.mark.parametrize("precision", ["fp32", "int8-static"])
def test_profile_tells_where_time_and_work_go(
    resnet8: Model, calibration: Calibration, precision: str, tmp_path: Path
) -> None:
    few = Calibration({"x": calibration.feeds["x"][:4]})
    artifact = make(resnet8, precision, tmp_path / "out", few)
    with BACKEND.open(artifact, RunConfig(), inspect=True) as program:
        profile = program.profile({"x": few.feeds["x"][:1]}, 5)
        answer = program.effective()
    computing = [op for op in profile.operators if op.role == "compute"]
    assert sorted(op.macs or 0 for op in computing) == sorted(RESNET8_MACS)
    assert answer.macs == {precision.partition("-")[0]: sum(RESNET8_MACS)}
    assert all(op.ns is not None for op in profile.operators)
    slowest = max(profile.operators, key=lambda op: op.ns or 0)
    assert slowest.role == "compute"
    assert profile.operators[-1].kind == "Softmax"
    roles = {op.kind: op.role for op in profile.operators}
    assert roles["DequantizeLinear" if precision == "int8-static" else "ReorderOutput"] == "convert"


def test_a_profile_without_times_is_an_error(
    dense_model: Model, rows: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qbench_onnxruntime.session import OrtProgram

    events = [{**_kernel("a", "Relu", "float"), "dur": 0}, {"name": "model_run"}] * 3
    monkeypatch.setattr(OrtProgram, "_events", lambda *_, **__: events)
    artifact = make(dense_model, "fp32", tmp_path / "out")
    with (
        BACKEND.open(artifact, RunConfig(), inspect=True) as program,
        pytest.raises(RuntimeError, match="all of them are zero"),
    ):
        program.profile({"x": rows[:1]}, 2)


def test_effective_needs_inspect(dense_model: Model, tmp_path: Path) -> None:
    artifact = make(dense_model, "fp32", tmp_path / "out")
    with (
        BACKEND.open(artifact, RunConfig()) as program,
        pytest.raises(RuntimeError, match="inspect=True"),
    ):
        program.effective()


# --------------------------------------------------------------------------- activations


def layers(artifact: Artifact, items: np.ndarray) -> dict[str, Any]:
    config = RunConfig(hints=AS_IT_STANDS)
    (found,) = BACKEND.activations(artifact, config, [{"x": items[:1]}])
    assert all(layer.values.dtype == np.float32 for layer in found)
    return {layer.name: layer for layer in found}


@pytest.mark.parametrize(
    ("precision", "options", "floor_db"),
    [
        ("fp32", {}, 199),
        ("int8-static", {}, 20),
        ("int8-dynamic", {"all_operators": True}, 5 if SATURATES else 15),
    ],
)
def test_layers_of_a_convolutional_network(
    resnet8: Model,
    calibration: Calibration,
    precision: str,
    options: dict[str, Any],
    floor_db: float,
    tmp_path: Path,
) -> None:
    items = calibration.feeds["x"][:8]
    reference = layers(make(resnet8, "fp32", tmp_path / "fp32"), items)
    kinds = [layer.kind for layer in reference.values()]
    assert (kinds.count("Conv"), kinds.count("Add")) == (9, 4)
    artifact = make(resnet8, precision, tmp_path / "out", Calibration({"x": items}), **options)
    compared = layers(artifact, items)
    shared = [name for name in reference if name in compared]
    assert len(shared) >= len(reference) - 1  # MatMul and Add are one Gemm once quantized
    for name in shared:
        assert sqnr_db(reference[name].values, compared[name].values) > floor_db, name


@pytest.mark.parametrize(
    ("precision", "floor_db"),
    [
        ("fp32", 199),
        ("fp16", 45),
        ("int8-static", 15),
        ("int8-dynamic", 5 if SATURATES else 15),
        ("w8", 30),
        ("w4", 8),
    ],
)
def test_layers_of_a_transformer(
    vit: Model, digits: np.ndarray, precision: str, floor_db: float, tmp_path: Path
) -> None:
    reference = layers(make(vit, "fp32", tmp_path / "fp32"), digits)
    assert len(reference) == 24 + 28 + 2  # MatMul; Add; Conv and Gemm
    artifact = make(vit, precision, tmp_path / "out", Calibration({"x": digits}))
    compared = layers(artifact, digits)
    assert set(reference) <= set(compared)
    for name, layer in reference.items():
        assert sqnr_db(layer.values, compared[name].values) > floor_db, name


def test_one_scale_for_a_whole_weight_breaks_a_depthwise_layer(tmp_path: Path) -> None:
    """The model that collapses without scales per channel, on photographs."""
    from PIL import Image

    path = asset("models/mobilenet_v1_025_224/model.onnx")
    output = onnx.load(path).graph.output[0].name
    image = TensorSpec("float32", (1, 224, 224, 3), "NHWC")
    model = describe(path, image, TensorSpec("float32", (1, 1001)), ("input", output))
    with zipfile.ZipFile(asset("datasets/imagenet_samples/imagenet_samples_dev.zip")) as photos:
        names = sorted(n for n in photos.namelist() if n.lower().endswith(("jpg", "jpeg")))[::60]
        pixels = [Image.open(photos.open(n)).convert("RGB").resize((224, 224)) for n in names]
    items = np.stack([np.asarray(p, np.float32) for p in pixels]) / 127.5 - 1
    reference = layers(make(model, "fp32", tmp_path / "fp32"), items)
    assert [layer.kind for layer in reference.values()].count("Conv (depthwise)") == 13
    close = {}
    for per_channel in (True, False):
        out = tmp_path / str(per_channel)
        artifact = make(
            model, "int8-static", out, Calibration({"x": items}), per_channel=per_channel
        )
        compared = layers(artifact, items)
        assert list(compared) == list(reference)
        close[per_channel] = [
            (sqnr_db(reference[n].values, compared[n].values), compared[n].kind) for n in reference
        ]
    drops = [(a[0] - b[0], a[1]) for a, b in zip(close[True], close[False], strict=True)]
    first = next(drop for drop in drops if drop[0] > 10)
    assert first[1] == "Conv (depthwise)"


# --------------------------------------------------------------------------- shared, external


def test_a_shared_file_is_taken_as_it_is(
    resnet8: Model, calibration: Calibration, tmp_path: Path
) -> None:
    few = Calibration({"x": calibration.feeds["x"][:8]})
    assert "int8-static" in BACKEND.shareable
    made = make(resnet8, "int8-static", tmp_path / "made", few)
    shared = replace(resnet8, path=made.file)
    artifact = make(shared, "int8-static", tmp_path / "out", few, recipe="shared")
    assert artifact.file.read_bytes() == made.file.read_bytes()
    assert artifact.provenance.quantized_ops == 10
    assert set(effective(artifact).macs or {}) == {"int8"}
    with pytest.raises(PrepareError, match="should already be quantized"):
        make(resnet8, "int8-static", tmp_path / "float", few, recipe="shared")


def _with_external_weights(path: Path, out: Path) -> Path:
    out.mkdir()
    file = out / "model.onnx"
    onnx.save(onnx.load(path), file, save_as_external_data=True, location="w.bin", size_threshold=0)
    return file


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8-static", "int8-dynamic", "w4"])
def test_external_weights_end_up_in_one_file(
    vit: Model, digits: np.ndarray, precision: str, tmp_path: Path
) -> None:
    file = _with_external_weights(vit.path, tmp_path / "in")
    assert (file.parent / "w.bin").stat().st_size > file.stat().st_size, "the weights lie beside"
    assert BACKEND.describe(file) == BACKEND.describe(vit.path)
    kept = (file.parent / "w.bin").rename(tmp_path / "kept")
    (file.parent / "w.bin").symlink_to(kept)  # as in a worker's folder
    moved = replace(vit, path=file, companions={"w.bin": kept})
    items = Calibration({"x": digits[:8]})
    artifact = make(moved, precision, tmp_path / "out", items)
    whole = make(vit, precision, tmp_path / "whole", items)
    assert sorted(p.name for p in artifact.path.iterdir()) == ["io.json", "model.onnx"]
    shutil.rmtree(file.parent)
    np.testing.assert_array_equal(predict(artifact, digits), predict(whole, digits))


def test_missing_and_truncated_external_weights(vit: Model, tmp_path: Path) -> None:
    file = _with_external_weights(vit.path, tmp_path / "in")
    weights = file.parent / "w.bin"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(PrepareError, match=r"w\.bin is truncated"):
        make(replace(vit, path=file), "fp32", tmp_path / "out")
    weights.unlink()
    with pytest.raises(PrepareError, match=r"weights of '.+' cannot be read: .*No such file"):
        make(replace(vit, path=file), "int8-dynamic", tmp_path / "out")


@pytest.mark.parametrize("location", ["../w.bin", "/etc/passwd", "a/../../w", "C:\\w.bin", ""])
def test_external_weights_outside_the_folder(vit: Model, location: str, tmp_path: Path) -> None:
    file = _with_external_weights(vit.path, tmp_path / "in")
    model = onnx.load(file, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = location
    file.write_bytes(model.SerializeToString())
    with pytest.raises(PrepareError, match="outside its folder"):
        make(replace(vit, path=file), "fp32", tmp_path / "out")
    with pytest.raises(PrepareError, match="outside its folder"):
        make(replace(vit, path=file), "fp32", tmp_path / "out")


class TestConformance(AdapterConformance):
    target = "qbench_onnxruntime:Backend"

    def stateful(self, folder: Path) -> Model:
        return cell(folder / "cell.onnx", "onnx")


def test_a_layer_is_excluded_by_the_name_that_explain_shows(tmp_path: Path):
    """A layer is shown by the tensor it ends with, behind its activation function."""
    kit = TestConformance()
    fp32 = kit.artifact(tmp_path, "fp32")
    feeds = [kit.feed(fp32.model, 1)]
    (layers,) = kit.backend().activations(fp32, RunConfig(), feeds)
    shown = next(layer.name for layer in layers if layer.kind.startswith("Conv"))
    operators = []
    for excluded in ([], [shown]):
        options = complete_options("int8-static", {"excluded_operators": excluded})
        out = tmp_path / f"out-{len(excluded)}"
        out.mkdir()
        calibration = Calibration(kit.feed(fp32.model, 8, seed=1))
        target = PrepareTarget("int8-static", options)
        operators.append(kit.backend().prepare(fp32.model, target, calibration, out).quantized_ops)
    assert operators[1] == operators[0] - 1
