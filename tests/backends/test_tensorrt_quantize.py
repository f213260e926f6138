"""The portable stage of the TensorRT adapter: files that it makes, and what they still compute.

There is no TensorRT here: what the files compute is seen on ONNX Runtime's CPU provider, and for
bfloat16, which that lacks, on ONNX's reference implementation.
"""

from __future__ import annotations

import inspect
import json
import re
import shutil
import sys
import types
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paths import FIXTURES

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

from on_processor import Subject, outputs, subject  # noqa: E402
from onnx import ModelProto, TensorProto, helper  # noqa: E402
from onnx.numpy_helper import from_array, to_array  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

from qbench.errors import UserError  # noqa: E402
from qbench.kit.adapter import PrepareError, Unsupported  # noqa: E402
from qbench.kit.model import Calibration, Model, PrepareTarget, Provenance, SourceTensor, TensorSpec  # noqa: E402
from qbench.spec.precisions import complete_options  # noqa: E402
from qbench_onnxruntime import Backend as OnnxRuntime  # noqa: E402
from qbench_tensorrt import Backend  # noqa: E402
from qbench_tensorrt.io import Io  # noqa: E402
from qbench_tensorrt.rules import check  # noqa: E402

RECORDED = FIXTURES / "tensorrt-modelopt"
ZOO = ("digits_cnn", "digits_mobilenet", "digits_vit")


def make(
    model: Model,
    precision: str,
    out: Path,
    calibration: Calibration | None = None,
    recipe: str = "best",
    **options: Any,
) -> Provenance:
    out.mkdir()
    target = PrepareTarget(precision, complete_options(precision, options), "cuda", recipe)
    return Backend().prepare(model, target, calibration, out)


def given(name: str, most: int = 200) -> Subject:
    """The model, with so many items to judge it on."""
    try:
        return subject(name, most)
    except UserError as error:
        pytest.skip(f"{name} is not here: {error}")


def sqnr_db(reference: np.ndarray, other: np.ndarray) -> float:
    noise = np.square(reference.astype(np.float64) - other).sum()
    return float(10 * np.log10(np.square(reference.astype(np.float64)).sum() / noise))


def makers(model: ModelProto) -> dict[str, Any]:
    return {name: node for node in model.graph.node for name in node.output}


def own(path: Path, kind: int = TensorProto.FLOAT) -> Model:
    """A MatMul with a free batch, in a file at ``path``."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["in", "w"], ["out"], "product")],
        "net",
        [helper.make_tensor_value_info("in", kind, ["batch", 4])],
        [helper.make_tensor_value_info("out", kind, ["batch", 3])],
        [from_array(np.eye(4, 3, dtype=np.float32), "w")],
    )
    write(graph, path)
    return of(path, (4,), (3,))


def write(graph: Any, path: Path) -> None:
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)


def of(path: Path, x: tuple[int, ...], y: tuple[int, ...]) -> Model:
    return Model(
        path.stem,
        "onnx",
        path,
        "0" * 64,
        "image-classification",
        {"x": TensorSpec("float32", ("N", *x))},
        {"y": TensorSpec("float32", ("N", *y))},
        {"x": SourceTensor("in")},
        {"y": SourceTensor("out")},
    )


# --------------------------------------------------------------------------- files as they are


@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_float32_is_the_file_as_it_came(tmp_path: Path, precision: str):
    model = own(tmp_path / "net.onnx")
    provenance = make(model, precision, tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["io.json", "model.onnx"]
    assert (tmp_path / "out" / provenance.file).read_bytes() == model.path.read_bytes()
    assert provenance.quantizer is None


def test_io_json_tells_names_types_shapes_and_the_free_batch(tmp_path: Path):
    model = own(tmp_path / "net.onnx")
    make(model, "fp32", tmp_path / "out")
    io = Io.read(tmp_path / "out")
    assert io.inputs == {"in": TensorSpec("float32", ("batch", 4))}
    assert io.outputs == {"out": TensorSpec("float32", ("batch", 3))}
    assert io.input_shapes(model, 7) == {"in": (7, 4)}
    assert list(json.loads((tmp_path / "out" / "io.json").read_text())) == ["inputs", "outputs"]


def test_a_fixed_batch_is_told_and_no_other_to_be_had(tmp_path: Path):
    model = own(tmp_path / "net.onnx")
    file = onnx.load(model.path)
    for value in (*file.graph.input, *file.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 2
    onnx.save(file, model.path)
    make(model, "fp32", tmp_path / "out")
    io = Io.read(tmp_path / "out")
    assert io.input_shapes(model, 2) == {"in": (2, 4)}
    with pytest.raises(Unsupported, match="fixed at batch 2"):
        io.input_shapes(model, 1)


def test_the_length_of_a_sentence_is_the_cards():
    """A file that leaves it open is compiled for the length that is fed."""
    text = TensorSpec("int64", ("batch", "sequence"))
    picture = TensorSpec("float32", ("batch", 3, "height", "width"))
    io = Io({"ids": text, "mask": text, "picture": picture}, {})
    card = {
        "a": TensorSpec("int64", ("N", 64)),
        "b": TensorSpec("int64", ("N", 64)),
        "d": TensorSpec("float32", ("N", 32, 48, 3), "NHWC"),
    }
    names = {
        "a": SourceTensor("ids"),
        "b": SourceTensor("mask"),
        "d": SourceTensor("picture", "NCHW"),
    }
    model = Model("m", "onnx", Path("m.onnx"), "0", "any", card, {}, names, {})
    assert io.input_shapes(model, 8) == {
        "ids": (8, 64), "mask": (8, 64), "picture": (8, 3, 32, 48),
    }  # fmt: skip


def test_weights_from_elsewhere_are_put_in_one_file(tmp_path: Path):
    model = own(tmp_path / "net.onnx")
    file = onnx.load(model.path)
    onnx.save(file, model.path, save_as_external_data=True, location="w.bin", size_threshold=0)
    provenance = make(model, "fp32", tmp_path / "out")
    assert "one file" in provenance.notes[0]
    (weights,) = onnx.load(tmp_path / "out" / "model.onnx").graph.initializer
    assert np.array_equal(to_array(weights), np.eye(4, 3))


@pytest.mark.parametrize("kind", [TensorProto.DOUBLE, TensorProto.STRING, TensorProto.UINT64])
def test_types_that_tensorrt_lacks_are_refused(tmp_path: Path, kind: int):
    model = own(tmp_path / "net.onnx", kind)
    with pytest.raises(Unsupported, match="'in' is of type"):
        make(model, "fp32", tmp_path / "out")


def test_a_card_that_names_another_input_is_told(tmp_path: Path):
    model = replace(own(tmp_path / "net.onnx"), source_inputs={"x": SourceTensor("image")})
    with pytest.raises(PrepareError, match=r"no input 'image'\. It has: in"):
        make(model, "fp32", tmp_path / "out")


# --------------------------------------------------------------------------- half precision


@pytest.mark.parametrize("name", ZOO)
def test_fp16_keeps_what_trained_models_say(tmp_path: Path, name: str):
    trained = given(name)
    make(trained.model, "fp16", tmp_path / "out")
    quality = trained.judged(tmp_path / "out" / "model.onnx", quantized=False)
    assert quality.sqnr_db is not None and quality.sqnr_db >= 40
    assert quality.accuracy_delta is not None and abs(quality.accuracy_delta) <= 0.003


@pytest.mark.parametrize("name", ZOO)
def test_bf16_keeps_what_trained_models_say(tmp_path: Path, name: str):
    trained = given(name)
    make(trained.model, "bf16", tmp_path / "out")
    few = {n: array[:8] for n, array in trained.feeds.items()}
    network = ReferenceEvaluator(str(tmp_path / "out" / "model.onnx"))
    answers: Any = network.run(None, dict(trained.model.to_source(few)))
    answer = answers[0]
    (reference,) = trained.reference.values()
    assert answer.dtype == np.float32
    assert sqnr_db(reference[:8], answer) >= 25


@pytest.mark.parametrize(
    ("precision", "kind"), [("fp16", TensorProto.FLOAT16), ("bf16", TensorProto.BFLOAT16)]
)
def test_types_are_in_the_file(tmp_path: Path, precision: str, kind: int):
    """A strongly typed network runs at the types that are written: weights of products at half
    precision, inputs and outputs float32, normalization float32."""
    make(given("digits_vit").model, precision, tmp_path / "out")
    model = onnx.load(tmp_path / "out" / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    kinds = {t.name: t.data_type for t in model.graph.initializer}
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT
    for node in model.graph.node:
        weights = {kinds[n] for n in node.input if n in kinds} - {TensorProto.INT64}
        if node.op_type in ("MatMul", "Gemm", "Conv"):
            assert weights <= {kind}
        if node.op_type == "LayerNormalization":
            assert weights == {TensorProto.FLOAT}


def squares(path: Path) -> Model:
    """The mean of squares plus an epsilon: squares of 300 are beyond float16, as is 1e-12."""
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["in", "w"], ["product"]),
            helper.make_node("Pow", ["product", "two"], ["squares"]),
            helper.make_node("ReduceMean", ["squares"], ["mean"], axes=[1], keepdims=1),
            helper.make_node("Add", ["mean", "epsilon"], ["sum"]),
            helper.make_node("Sqrt", ["sum"], ["root"]),
            helper.make_node("Div", ["product", "root"], ["out"]),
        ],
        "net",
        [helper.make_tensor_value_info("in", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", 4])],
        [
            from_array(np.eye(4, dtype=np.float32), "w"),
            from_array(np.asarray(2, np.float32), "two"),
            from_array(np.asarray(1e-12, np.float32), "epsilon"),
        ],
    )
    write(graph, path)
    return of(path, (4,), (4,))


def test_what_would_overflow_in_float16_stays_float32(tmp_path: Path):
    """No cast to float16 between two operators that are kept: 90000 would be infinite there."""
    model = squares(tmp_path / "net.onnx")
    provenance = make(model, "fp16", tmp_path / "out")
    x = np.asarray([[300, -300, 200, 100], [1e-3, 2e-3, -1e-3, 0]], np.float32)
    root = np.sqrt(np.square(x).mean(1, keepdims=True) + 1e-12)
    answer = outputs(model, tmp_path / "out" / "model.onnx", {"x": x}, quantized=False)["y"]
    assert np.allclose(answer, x / root, rtol=2e-3, atol=1e-3)
    assert any("ReduceMean" in note for note in provenance.notes)
    assert any("very large or small constants" in note for note in provenance.notes)


def test_weights_beyond_float16_are_not_clipped_silently(tmp_path: Path):
    model = own(tmp_path / "net.onnx")
    file = onnx.load(model.path)
    file.graph.initializer[0].CopyFrom(from_array(np.eye(4, 3, dtype=np.float32) * 1e5, "w"))
    file.graph.node.append(helper.make_node("MatMul", ["in", "v"], ["other"], "second"))
    file.graph.initializer.append(from_array(np.eye(4, 3, dtype=np.float32), "v"))
    file.graph.output.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, ["N", 3]))
    onnx.save(file, model.path)
    provenance = make(model, "fp16", tmp_path / "out")
    x = np.eye(4, dtype=np.float32)[:1]
    answer = outputs(model, tmp_path / "out" / "model.onnx", {"x": x}, quantized=False)
    assert answer["y"][0, 0] == 1e5
    assert "product" in provenance.settings["kept_in_float32"]


# --------------------------------------------------------------------------- int8


@pytest.mark.parametrize("name", [*ZOO, "resnet8_cifar10"])
def test_int8_is_as_accurate_and_one_that_tensorrt_takes(tmp_path: Path, name: str):
    trained = given(name)
    provenance = make(trained.model, "int8-static", tmp_path / "out", trained.calibration)
    quality = trained.judged(tmp_path / "out" / "model.onnx", quantized=True)
    assert quality.accuracy_delta is not None and quality.accuracy_delta >= -0.015
    assert quality.sqnr_db is not None and quality.sqnr_db >= 20
    assert check(onnx.load(tmp_path / "out" / "model.onnx")) == []
    assert provenance.quantized_ops
    assert provenance.settings["calibration_items"] == 100


@pytest.mark.parametrize("name", ["digits_mobilenet", "resnet8_cifar10"])
def test_where_q_and_dq_are(tmp_path: Path, name: str):
    """Both inputs of weighted operators, no biases, one input of a residual sum; never behind a
    convolution what only a sum or an activation function takes."""
    trained = given(name)
    make(trained.model, "int8-static", tmp_path / "out", trained.calibration)
    model = onnx.load(tmp_path / "out" / "model.onnx")
    made, sums = makers(model), 0
    for node in model.graph.node:
        origins = [made[n].op_type if n in made else "" for n in node.input]
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            assert origins[:2] == ["DequantizeLinear"] * 2
            assert origins[2:] in ([], [""])
        elif node.op_type == "Add":
            if "Conv" in origins:
                sums += 1
                assert sorted(origins) == ["Conv", "DequantizeLinear"]
        elif node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            assert "DequantizeLinear" not in origins
    assert sums == {"digits_mobilenet": 10, "resnet8_cifar10": 3}[name]
    used = {name for node in model.graph.node for name in node.input}
    assert {tensor.name for tensor in model.graph.initializer} <= used


def test_attention_stays_float(tmp_path: Path):
    trained = given("digits_vit")
    make(trained.model, "int8-static", tmp_path / "out", trained.calibration)
    model = onnx.load(tmp_path / "out" / "model.onnx")
    made = makers(model)
    weights = {t.name for t in model.graph.initializer}
    products = 0
    for node in model.graph.node:
        if node.op_type == "MatMul":
            kinds = [made[name].op_type for name in node.input if name in made]
            quantized = "DequantizeLinear" in kinds
            behind = [made[made[n].input[0]].input[0] for n in node.input if quantized]
            assert quantized == bool(weights.intersection(behind))
            products += not quantized
    assert products == 6  # two in each of three layers


def test_scales_are_those_of_the_weights(tmp_path: Path):
    """One for each output channel: the greatest magnitude over 127 steps ("Working with Quantized
    Types", quantization scheme)."""
    trained = given("digits_cnn")
    make(trained.model, "int8-static", tmp_path / "channel", trained.calibration)
    make(trained.model, "int8-static", tmp_path / "tensor", trained.calibration, per_channel=False)
    for folder, axes in (("channel", (1, 2, 3)), ("tensor", (0, 1, 2, 3))):
        model = onnx.load(tmp_path / folder / "model.onnx")
        constants = {t.name: np.float32(to_array(t)) for t in model.graph.initializer}
        checked = 0
        for node in model.graph.node:
            weights = constants.get(node.input[0])
            if node.op_type == "QuantizeLinear" and weights is not None and weights.ndim == 4:
                scales = constants[node.input[1]]
                assert scales.ravel() == pytest.approx(
                    np.abs(weights).max(axes).ravel() / 127, rel=2e-3
                )
                checked += 1
        assert checked >= 2


def test_operators_are_left_out_by_name_and_type(tmp_path: Path):
    trained = given("digits_cnn")
    make(trained.model, "int8-static", tmp_path / "all", trained.calibration)
    make(
        trained.model,
        "int8-static",
        tmp_path / "some",
        trained.calibration,
        excluded_operators=["Conv"],
    )
    counts = {}
    for folder in ("all", "some"):
        model = onnx.load(tmp_path / folder / "model.onnx")
        made = makers(model)
        counts[folder] = Counter(
            node.op_type
            for node in model.graph.node
            if any(n in made and made[n].op_type == "DequantizeLinear" for n in node.input[:1])
        )
    assert counts["all"]["Conv"] >= 2
    assert counts["some"]["Conv"] == 0
    assert counts["some"]["Gemm"] == counts["all"]["Gemm"] > 0
    with pytest.raises(PrepareError, match="no operator 'Konv'"):
        make(
            trained.model,
            "int8-static",
            tmp_path / "none",
            trained.calibration,
            excluded_operators=["Konv"],
        )


@pytest.mark.parametrize("method", ["entropy", "percentile", "mse"])
def test_other_ways_of_calibrating(tmp_path: Path, method: str):
    trained = given("digits_cnn")
    provenance = make(
        trained.model,
        "int8-static",
        tmp_path / "out",
        trained.calibration,
        calibration_method=method,
    )
    quality = trained.judged(tmp_path / "out" / "model.onnx", quantized=True)
    assert quality.accuracy_delta is not None and quality.accuracy_delta >= -0.015
    assert ("TensorQuantOverrides" in provenance.settings) == (method == "mse")


def test_a_free_batch_stays_free(tmp_path: Path):
    trained = given("digits_cnn")
    make(trained.model, "int8-static", tmp_path / "out", trained.calibration)
    io = Io.read(tmp_path / "out")
    (name,) = io.inputs
    assert io.inputs[name].shape[0] == "N"
    session = ort.InferenceSession(tmp_path / "out" / "model.onnx")
    (image,) = trained.model.to_source({n: a[:5] for n, a in trained.feeds.items()}).values()
    together = session.run(None, {name: image})[0]
    apart = np.concatenate([session.run(None, {name: image[i : i + 1]})[0] for i in range(5)])
    assert np.allclose(together, apart, atol=1e-2)
    assert io.input_shapes(trained.model, 5) == {name: image.shape}


# --------------------------------------------------------------------------- quantized already


def test_a_file_that_keeps_the_rules_is_taken_as_shipped(tmp_path: Path):
    trained = given("digits_cnn")
    make(trained.model, "int8-static", tmp_path / "first", trained.calibration)
    file = tmp_path / "first" / "model.onnx"
    shipped = replace(trained.model, path=file)
    provenance = make(shipped, "as-shipped", tmp_path / "second")
    assert (tmp_path / "second" / "model.onnx").read_bytes() == file.read_bytes()
    assert provenance.quantized_ops
    make(shipped, "int8-static", tmp_path / "shared", recipe="shared")
    with pytest.raises(Unsupported, match="ask for as-shipped"):
        make(shipped, "fp32", tmp_path / "third")


def test_what_onnxruntime_quantized_is_refused_with_the_reason(tmp_path: Path):
    """Its own recipe has unsigned activations with zero-points."""
    trained = given("digits_cnn")
    options = complete_options("int8-static", {})
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    OnnxRuntime().prepare(
        trained.model, PrepareTarget("int8-static", options), trained.calibration, theirs
    )
    shared = replace(trained.model, path=theirs / "model.onnx")
    for precision, recipe in (("int8-static", "shared"), ("as-shipped", "best")):
        with pytest.raises(Unsupported, match="TensorRT refuses this file") as caught:
            make(shared, precision, tmp_path / precision, recipe=recipe)
        for reason in ("quantized to uint8", "the zero-point is not 0", "a bias of int32"):
            assert reason in str(caught.value)
        assert re.search(r"QuantizeLinear: .*; and \d+ like these$", str(caught.value))


@pytest.mark.parametrize("precision", ["as-shipped", "int8-static"])
def test_a_float_file_is_not_quantized_already(tmp_path: Path, precision: str):
    recipe = "shared" if precision == "int8-static" else "best"
    with pytest.raises((Unsupported, PrepareError), match=r"not quantized|already be quantized"):
        make(own(tmp_path / "net.onnx"), precision, tmp_path / "out", recipe=recipe)


# --------------------------------------------------------------------------- Model Optimizer

PARAMETERS = {
    *("onnx_path", "quantize_mode", "calibration_method", "calibration_data_reader"),
    *("calibration_eps", "nodes_to_exclude", "output_path", "log_level", "block_size"),
    *("high_precision_dtype", "use_external_data_format"),
}
"""Those of modelopt.onnx.quantization.quantize 0.47.0 that are used, read off its signature."""


@pytest.mark.parametrize("precision", ["fp8", "w4"])
def test_without_model_optimizer_the_suite_is_told_what_to_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
):
    monkeypatch.setitem(sys.modules, "modelopt", None)
    monkeypatch.setitem(sys.modules, "modelopt.onnx.quantization", None)
    trained = given("digits_vit")
    with pytest.raises(Unsupported, match=r"prepare: \[fp8, w4\]"):
        make(trained.model, precision, tmp_path / "out", trained.calibration)


@pytest.fixture
def optimizer(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A Model Optimizer that gives what the real one gave, and keeps what it is asked."""
    asked: dict[str, Any] = {}

    def quantize(onnx_path: str, output_path: str, **more: Any) -> None:
        assert {"onnx_path", "output_path", *more} <= PARAMETERS
        assert not check(onnx.load(onnx_path))
        asked.update(more)
        name = "digits_cnn-fp8" if more["quantize_mode"] == "fp8" else "digits_vit-w4"
        shutil.copyfile(RECORDED / f"{name}.onnx", output_path)

    for name in ("modelopt", "modelopt.onnx", "modelopt.onnx.quantization"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["modelopt.onnx.quantization"].quantize = quantize  # type: ignore[attr-defined]
    return asked


def test_fp8_is_calibrated_on_the_processor(tmp_path: Path, optimizer: dict[str, Any]):
    trained = given("digits_cnn")
    provenance = make(trained.model, "fp8", tmp_path / "out", trained.calibration)
    reader = optimizer["calibration_data_reader"]
    first = reader.get_first()
    assert np.array_equal(next(iter(first.values())), next(iter(reader.get_next().values())))
    assert optimizer["calibration_eps"] == ["cpu"]
    assert provenance.settings["calibration_items"] == 100
    quality = trained.judged(tmp_path / "out" / "model.onnx", quantized=True)
    assert quality.accuracy_delta is not None and quality.accuracy_delta >= -0.015
    kinds = {t.data_type for t in onnx.load(tmp_path / "out" / "model.onnx").graph.initializer}
    assert {TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT16} <= kinds


def test_w4_is_for_products(tmp_path: Path, optimizer: dict[str, Any]):
    trained = given("digits_vit")
    provenance = make(trained.model, "w4", tmp_path / "out", group_size=64)
    assert optimizer["block_size"] == 64
    assert provenance.quantized_ops == 19
    kinds = {t.data_type for t in onnx.load(tmp_path / "out" / "model.onnx").graph.initializer}
    assert {TensorProto.INT4, TensorProto.FLOAT16} <= kinds
    quality = trained.judged(tmp_path / "out" / "model.onnx", quantized=True)
    assert quality.accuracy_delta is not None and quality.accuracy_delta >= -0.015
    with pytest.raises(Unsupported, match="matrix products only; they are under 1 %"):
        make(given("digits_cnn").model, "w4", tmp_path / "cnn")
    with pytest.raises(Unsupported, match="group_size -1"):
        make(trained.model, "w4", tmp_path / "whole", group_size=-1)


def test_the_real_model_optimizer_has_these_parameters():
    real = pytest.importorskip("modelopt.onnx.quantization", reason="needs nvidia-modelopt")
    assert set(inspect.signature(real.quantize).parameters) >= PARAMETERS
