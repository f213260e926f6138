"""The TFLite adapter, with LiteRT itself and trained models."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cells import cell
from paths import ROOT

interpreter_module = pytest.importorskip("ai_edge_litert.interpreter", reason="needs LiteRT")
pytest.importorskip("ai_edge_quantizer", reason="needs ai-edge-quantizer")

from qbench.kit.adapter import PrepareError, Program, Unsupported  # noqa: E402
from qbench.kit.jobs.prepare import compare  # noqa: E402
from qbench.kit.model import (  # noqa: E402
    Artifact,
    Calibration,
    Model,
    PrepareTarget,
    RunConfig,
    SourceTensor,
    TensorSpec,
)
from qbench.spec.precisions import complete_options, int8_share  # noqa: E402
from qbench.testing.conformance import AdapterConformance  # noqa: E402
from qbench_tflite import Backend, ranges  # noqa: E402
from qbench_tflite import quantizer as quantizer_module  # noqa: E402
from qbench_tflite.signature import with_signature  # noqa: E402

ASSETS = os.environ.get("QBENCH_ASSETS")
ZOO = ROOT / "suites" / "zoo"
needs_assets = pytest.mark.skipif(not ASSETS, reason="QBENCH_ASSETS is not set")


def asset(*parts: str) -> Path:
    path = Path(ASSETS or "", *parts)
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return path


@dataclass(frozen=True)
class Case:
    """A model with its calibration items, evaluation items and labels."""

    model: Model
    calibration: np.ndarray
    items: np.ndarray
    labels: np.ndarray


def image_model(path: Path, names: tuple[str, str], shape: tuple[int, ...], classes: int) -> Model:
    layout = "NHWC" if len(shape) == 3 else None
    return Model(
        name=path.parent.name,
        format="tflite",
        path=path,
        digest="0" * 64,
        task="image-classification",
        inputs={"image": TensorSpec("float32", ("N", *shape), layout)},
        outputs={"scores": TensorSpec("float32", ("N", classes))},
        source_inputs={"image": SourceTensor(names[0], layout)},
        source_outputs={"scores": SourceTensor(names[1])},
    )


@pytest.fixture(scope="module")
def resnet8() -> Case:
    path = asset("models", "resnet8_cifar10", "model.tflite")
    train = np.load(asset("datasets", "cifar10_calib_train", "cifar10_calib_train.npz"))
    test = np.load(asset("datasets", "cifar10_test", "cifar10_test.npz"))
    return Case(
        image_model(path, ("input_1", "Identity"), (32, 32, 3), 10),
        train["x"][:100].astype(np.float32),
        test["x"].astype(np.float32),
        test["y"],
    )


@pytest.fixture(scope="module")
def dscnn() -> Case:
    path = asset("models", "dscnn_kws", "model.tflite")
    data = np.load(asset("datasets", "kws01", "kws01_dev.npz"))
    features = (data["x"].astype(np.float32) - 83) * np.float32(0.5847029089927673)
    names = ("serving_default_input_1:0", "StatefulPartitionedCall:0")
    model = image_model(path, names, (49, 10, 1), 12)
    return Case(model, features[:100], features[100:], data["y"][100:])


@pytest.fixture(scope="module")
def digits() -> Model:
    """The zoo's CNN: NCHW in the card, NHWC in the file, and fixed at batch 1."""
    path = ZOO / "digits_cnn.tflite"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return Model(
        name="digits_cnn",
        format="tflite",
        path=path,
        digest="0" * 64,
        task="image-classification",
        inputs={"image": TensorSpec("float32", ("N", 1, 8, 8), "NCHW")},
        outputs={"logits": TensorSpec("float32", ("N", 10))},
        source_inputs={"image": SourceTensor("serving_default_args_0", "NHWC")},
        source_outputs={"logits": SourceTensor("serving_default_output_0_output")},
    )


def make(case: Case | Model, precision: str, out: Path, **options: Any) -> Artifact:
    """An artifact, as a prepare worker makes it."""
    backend = Backend()
    backend.import_runtime()
    model = case.model if isinstance(case, Case) else case
    target = PrepareTarget(precision, complete_options(precision, options))
    assert backend.supports(model, target) is None
    calibration = None
    if precision in ("int8-static", "int16x8"):
        assert isinstance(case, Case)
        calibration = Calibration({"image": case.calibration})
    out.mkdir()
    provenance = backend.prepare(model, target, calibration, out)
    return Artifact(out, model, target, provenance)


def open_(artifact: Artifact, inspect: bool = False, **config: Any) -> Program:
    return Backend().open(artifact, RunConfig(**config), inspect)


def predict(artifact: Artifact, items: np.ndarray, batch: int = 1) -> np.ndarray:
    with open_(artifact, batch=batch) as program:
        stream = program.stream()
        rows = []
        for start in range(0, len(items) - batch + 1, batch):
            stream.bind({"image": items[start : start + batch]})
            stream.infer()
            rows.append(next(iter(stream.read().values())))
    return np.concatenate(rows)


def sqnr_db(reference: np.ndarray, other: np.ndarray) -> float:
    """Signal to quantization noise ratio in dB."""
    noise = np.square(reference - other).sum()
    return float(10 * np.log10(np.square(reference).sum() / noise)) if noise else float("inf")


def direct(file: Path, inputs: np.ndarray) -> np.ndarray:
    """One item through LiteRT's interpreter, as its manual shows it."""
    interpreter = interpreter_module.Interpreter(model_path=str(file), num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], inputs)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


class TestConformance(AdapterConformance):
    target = "qbench_tflite:Backend"

    def stateful(self, folder: Path) -> Model:
        return cell(folder / "cell.tflite", "tflite")


# --------------------------------------------------------------------------- precisions


VARIANTS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "fp32": ("fp32", {}),
    "fp16": ("fp16", {}),
    "int8-dynamic": ("int8-dynamic", {}),
    "int8-static": ("int8-static", {}),
    "int8-static-per-tensor": ("int8-static", {"per_channel": False}),
    "int8-static-percentile": ("int8-static", {"calibration_method": "percentile"}),
    "int8-static-mse": ("int8-static", {"calibration_method": "mse"}),
    "int16x8": ("int16x8", {}),
    "w8": ("w8", {}),
    "w4": ("w4", {}),
}


RESNET8_MACS = (
    32 * 32 * 16 * 9 * (3 + 16 + 16)  # 3x3 convolutions at 32x32
    + 16 * 16 * 32 * (9 * 16 + 9 * 32 + 16)  # at 16x16, and the shortcut's 1x1
    + 8 * 8 * 64 * (9 * 32 + 9 * 64 + 32)
    + 64 * 10  # the classifier
)
"""MLPerf Tiny's image classification network, from its layers."""


@pytest.fixture(scope="module")
def artifacts(resnet8: Case, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    folder = tmp_path_factory.mktemp("resnet8")
    return {
        name: make(resnet8, precision, folder / name, **options)
        for name, (precision, options) in VARIANTS.items()
    }


@pytest.fixture(scope="module")
def exact(resnet8: Case, artifacts: dict[str, Artifact]) -> float:
    """Top-1 of float32."""
    return float((predict(artifacts["fp32"], resnet8.items).argmax(1) == resnet8.labels).mean())


@needs_assets
class TestResnet8:
    @pytest.mark.parametrize("variant", sorted(set(VARIANTS) - {"int16x8", "w4"}))
    def test_accuracy_is_kept(
        self, resnet8: Case, artifacts: dict[str, Artifact], exact: float, variant: str
    ) -> None:
        assert exact == pytest.approx(0.888)
        top1 = (predict(artifacts[variant], resnet8.items).argmax(1) == resnet8.labels).mean()
        assert top1 >= exact - 0.015

    @pytest.mark.parametrize(
        ("variant", "runs", "size"),
        [
            ("fp32", "fp32", 1.01),
            ("fp16", "fp32", 0.6),
            ("int8-dynamic", "int8", 0.35),
            ("int8-static", "int8", 0.35),
            ("int8-static-per-tensor", "int8", 0.35),
            ("int16x8", "int16", 0.35),
            ("w8", "fp32", 0.35),
            ("w4", "fp32", 0.2),
        ],
    )
    def test_what_runs_and_how_large_it_is(
        self, artifacts: dict[str, Artifact], variant: str, runs: str, size: float
    ) -> None:
        artifact = artifacts[variant]
        with open_(artifact) as program:
            effective = program.effective()
        assert effective.precision == runs
        assert effective.operators == {runs: 10}  # 9 convolutions and 1 matrix product
        assert effective.macs == {runs: RESNET8_MACS}
        assert artifact.provenance.quantized_ops == (None if variant == "fp32" else 10)
        assert artifact.file.stat().st_size <= size * artifact.model.path.stat().st_size

    @pytest.mark.parametrize(("variant", "what"), [("fp16", "fp16"), ("w8", "integer weights")])
    def test_what_is_storage_only_says_so(
        self, artifacts: dict[str, Artifact], variant: str, what: str
    ) -> None:
        assert f"{variant} is storage only: computed in fp32" in artifacts[variant].provenance.notes
        with open_(artifacts[variant]) as program:
            notes = program.effective().notes
        assert any(note.startswith(what) and "storage only" in note for note in notes)

    def test_16_bit_activations_are_closer_than_8_bit_ones_but_not_delegated(
        self, resnet8: Case, artifacts: dict[str, Artifact]
    ) -> None:
        items = resnet8.items[:40]
        reference = predict(artifacts["fp32"], items)
        wide, narrow = (
            sqnr_db(reference, predict(artifacts[variant], items))
            for variant in ("int16x8", "int8-static")
        )
        assert wide > narrow
        with open_(artifacts["int16x8"]) as program:
            assert program.effective().fallback_ops == 16

    def test_four_bits_are_coarser_than_eight(
        self, resnet8: Case, artifacts: dict[str, Artifact]
    ) -> None:
        items = resnet8.items[:100]
        reference = predict(artifacts["fp32"], items)
        eight, four = (
            sqnr_db(reference, predict(artifacts[variant], items)) for variant in ("w8", "w4")
        )
        assert four < 10 < 25 < eight

    def test_work_grows_with_the_batch(self, artifacts: dict[str, Artifact]) -> None:
        with open_(artifacts["int8-static"], batch=4) as program:
            assert program.effective().macs == {"int8": 4 * RESNET8_MACS}

    def test_a_rare_large_value_does_not_widen_a_percentile(
        self, resnet8: Case, tmp_path: Path
    ) -> None:
        calibration = resnet8.calibration.copy()
        calibration[0, 0, 0, 0] = 25500  # one of 307,200 values; all others are at most 255
        case = replace(resnet8, calibration=calibration)
        scales = {}
        for method in ("minmax", "percentile"):
            artifact = make(case, "int8-static", tmp_path / method, calibration_method=method)
            with open_(artifact) as program:
                scales[method] = program.inputs["image"].scale
        assert scales["minmax"] == pytest.approx(25500 / 255)
        assert scales["percentile"] == pytest.approx(1, rel=0.06)  # within a bin of 25500 / 2048

    @pytest.mark.parametrize("precision", ["int8-static", "int8-dynamic"])
    @pytest.mark.parametrize(
        ("excluded", "kind", "name"),
        [
            ("FULLY_CONNECTED", "FULLY_CONNECTED", "model/dense/MatMul;model/dense/BiasAdd"),
            ("model/dense/MatMul;model/dense/BiasAdd", "FULLY_CONNECTED", "model/dense/"),
            ("model/conv2d_5/BiasAdd", "CONV_2D", "model/conv2d_5/BiasAdd;"),
        ],
    )
    def test_excluded_operators_stay_in_fp32(
        self, resnet8: Case, tmp_path: Path, precision: str, excluded: str, kind: str, name: str
    ) -> None:
        artifact = make(resnet8, precision, tmp_path / "out", excluded_operators=[excluded])
        with open_(artifact, inspect=True) as program:
            operators = program.profile({}, 1).operators
        (left,) = (op for op in operators if op.role == "compute" and op.precision == "fp32")
        assert left.kind == kind
        assert left.name.startswith(name)
        assert artifact.provenance.quantized_ops == 9

    @pytest.mark.parametrize("wrong", ["CONV2D", "model/conv2d_5/BiasAd"])
    def test_an_unknown_excluded_operator_is_named_with_near_ones(
        self, resnet8: Case, tmp_path: Path, wrong: str
    ) -> None:
        near = {"CONV2D": "CONV_2D", "model/conv2d_5/BiasAd": "model/conv2d_5/BiasAdd"}[wrong]
        with pytest.raises(PrepareError, match=f"no operator '{wrong}'. Similar: .*{near}"):
            make(resnet8, "int8-static", tmp_path / "out", excluded_operators=[wrong])

    def test_a_profile_tells_structure_without_times(self, artifacts: dict[str, Artifact]) -> None:
        with open_(artifacts["fp32"], inspect=True) as program:
            profile = program.profile({}, 3)
        assert [op.ns for op in profile.operators] == [None] * 16
        assert [op.kind for op in profile.operators].count("CONV_2D") == 9
        assert profile.operators[-1].kind == "SOFTMAX"
        assert "no times" in profile.notes[0]
        assert "1 piece; 0 of 16" in profile.notes[1]

    def test_activations_are_those_of_the_outputs(
        self, resnet8: Case, artifacts: dict[str, Artifact]
    ) -> None:
        feeds = [{"image": resnet8.items[i : i + 1]} for i in range(2)]
        got = {
            variant: list(Backend().activations(artifacts[variant], RunConfig(), iter(feeds)))
            for variant in ("fp32", "int8-static", "int8-dynamic", "w8")
        }
        names = [layer.name for layer in got["fp32"][0]]
        assert len(set(names)) == len(names) == 15  # 16 operators, one of which only reshapes
        for variant, items in got.items():
            for feed, layers in zip(feeds, items, strict=True):
                assert [layer.name for layer in layers] == names, variant
                assert all(layer.values.dtype == np.float32 for layer in layers)
                expected = predict(artifacts[variant], feed["image"])
                np.testing.assert_allclose(layers[-1].values, expected, atol=0.01)
        again = list(Backend().activations(artifacts["fp32"], RunConfig(), feeds))
        for layer, same in zip(got["fp32"][1], again[1], strict=True):
            np.testing.assert_array_equal(layer.values, same.values)
        first, second = (
            sqnr_db(got["fp32"][0][0].values, got[variant][0][0].values)
            for variant in ("int8-static", "int8-dynamic")
        )
        assert first > 25
        assert second > 25

    def test_fp32_is_the_file_itself(self, artifacts: dict[str, Artifact]) -> None:
        artifact = artifacts["fp32"]
        assert artifact.file.read_bytes() == artifact.model.path.read_bytes()

    def test_agrees_with_the_interpreter(
        self, resnet8: Case, artifacts: dict[str, Artifact]
    ) -> None:
        item = resnet8.items[:1]
        got = predict(artifacts["fp32"], item)
        np.testing.assert_array_equal(got, direct(resnet8.model.path, item))

    def test_inputs_are_quantized_and_outputs_dequantized(
        self, resnet8: Case, artifacts: dict[str, Artifact]
    ) -> None:
        artifact = artifacts["int8-static"]
        item = resnet8.items[:1]
        with open_(artifact) as program:
            into, out = program.inputs["image"], program.outputs["scores"]
        assert (into.dtype, out.dtype) == ("int8", "int8")
        assert into.scale and into.zero_point is not None
        q = np.clip(np.round(item / into.scale) + into.zero_point, -128, 127).astype(np.int8)
        raw = direct(artifact.file, q)
        expected = (raw.astype(np.float32) - (out.zero_point or 0)) * np.float32(out.scale or 0)
        np.testing.assert_array_equal(predict(artifact, item), expected)

    def test_what_xnnpack_takes_only_in_fp32_stays_so(self, artifacts: dict[str, Artifact]) -> None:
        provenance = artifacts["int8-static"].provenance
        assert provenance.settings["left_in_fp32"] == ["AVERAGE_POOL_2D", "SOFTMAX"]
        assert "SOFTMAX" in provenance.notes[0]
        with open_(artifacts["int8-static"]) as program:
            assert program.effective().fallback_ops == 0

    @pytest.mark.parametrize("variant", ["fp32", "int8-static"])
    def test_a_batch_equals_its_items(
        self, resnet8: Case, artifacts: dict[str, Artifact], variant: str
    ) -> None:
        items = resnet8.items[:8]
        together = predict(artifacts[variant], items, batch=4)
        np.testing.assert_allclose(together, predict(artifacts[variant], items), atol=1e-5)

    def test_streams_work_in_threads(self, resnet8: Case, artifacts: dict[str, Artifact]) -> None:
        items = resnet8.items[:20]
        expected = predict(artifacts["int8-static"], items)
        with open_(artifacts["int8-static"], streams=2) as program:
            results: dict[int, np.ndarray] = {}

            def work(lane: int, stream: Any) -> None:
                rows = []
                for item in items[lane::2]:
                    stream.bind({"image": item[None]})
                    stream.infer()
                    rows.append(stream.read()["scores"])
                results[lane] = np.concatenate(rows)

            threads = [
                threading.Thread(target=work, args=(lane, program.stream())) for lane in (0, 1)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        for lane in (0, 1):
            np.testing.assert_array_equal(results[lane], expected[lane::2])

    def test_the_order_of_calibration_items_does_not_matter(
        self, resnet8: Case, artifacts: dict[str, Artifact], tmp_path: Path
    ) -> None:
        turned = replace(resnet8, calibration=resnet8.calibration[::-1])
        again = make(turned, "int8-static", tmp_path / "again")
        assert again.file.read_bytes() == artifacts["int8-static"].file.read_bytes()

    def test_a_signature_changes_nothing_else(self, resnet8: Case, tmp_path: Path) -> None:
        signed = tmp_path / "signed.tflite"
        signed.write_bytes(with_signature(resnet8.model.path.read_bytes()))
        interpreter = interpreter_module.Interpreter(model_path=str(signed))
        assert interpreter.get_signature_list() == {
            "serving_default": {"inputs": ["input_1"], "outputs": ["Identity"]}
        }
        item = resnet8.items[:1]
        np.testing.assert_array_equal(direct(signed, item), direct(resnet8.model.path, item))

    def test_a_tool_that_does_nothing_is_found_out(
        self, resnet8: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(quantizer_module, "_run", lambda content, *_: content)
        with pytest.raises(PrepareError, match="quantized none of the 10"):
            make(resnet8, "int8-dynamic", tmp_path / "out")

    def test_without_a_delegate_every_operator_falls_back(
        self, artifacts: dict[str, Artifact]
    ) -> None:
        hints = {"experimental_op_resolver_type": "BUILTIN_WITHOUT_DEFAULT_DELEGATES"}
        with open_(artifacts["fp32"], hints=hints) as program:
            effective = program.effective()
        assert effective.fallback_ops == 16
        assert any("no delegate" in note for note in effective.notes)
        with open_(artifacts["fp32"]) as program:
            assert program.effective().fallback_ops == 0

    @pytest.mark.parametrize(
        ("hints", "message"),
        [
            ({"num_thread": 2}, "experimental_op_resolver_type"),  # names the known ones
            ({"num_threads": 2}, "threads"),
            ({"experimental_op_resolver_type": "FAST"}, "BUILTIN_REF"),
            ({"experimental_disable_delegate_clustering": "yes"}, "is true or false"),
        ],
    )
    def test_bad_hints_are_refused(
        self, artifacts: dict[str, Artifact], hints: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            open_(artifacts["fp32"], hints=hints)

    def test_a_closed_program_does_not_run(self, artifacts: dict[str, Artifact]) -> None:
        with open_(artifacts["fp32"]) as program:
            stream = program.stream()
        with pytest.raises(RuntimeError, match="closed"):
            stream.infer()

    @pytest.mark.parametrize(
        ("feed", "message"),
        [
            ({"picture": np.zeros((1, 32, 32, 3), np.float32)}, "inputs image; got picture"),
            ({"image": np.zeros((1, 32, 32, 3), np.int32)}, "expected float32, got int32"),
            ({"image": np.zeros((2, 32, 32, 3), np.float32)}, r"expected shape \[1, 32, 32, 3\]"),
            ({"image": np.zeros((32, 32, 3), np.float32)}, r"got \[32, 32, 3\]"),
        ],
    )
    def test_wrong_feeds_are_refused(
        self, artifacts: dict[str, Artifact], feed: dict[str, np.ndarray], message: str
    ) -> None:
        with open_(artifacts["fp32"]) as program, pytest.raises(ValueError, match=message):
            program.stream().bind(feed)

    def test_a_float_of_another_width_is_cast(
        self, resnet8: Case, artifacts: dict[str, Artifact]
    ) -> None:
        item = resnet8.items[:1]
        got = predict(artifacts["fp32"], item.astype(np.float64))
        np.testing.assert_array_equal(got, predict(artifacts["fp32"], item))


@needs_assets
class TestDepthwise:
    def test_dynamic_int8_leaves_them_in_fp32(self, dscnn: Case, tmp_path: Path) -> None:
        artifact = make(dscnn, "int8-dynamic", tmp_path / "out")
        with open_(artifact) as program:
            effective = program.effective()
        assert effective.operators == {"int8": 6, "fp32": 4}
        assert effective.fallback_ops == 0
        assert artifact.provenance.quantized_ops == 6
        assert "DEPTHWISE_CONV_2D" in artifact.provenance.notes[0]

    def test_dynamic_int8_of_all_operators_breaks_the_graph_into_pieces(
        self, dscnn: Case, tmp_path: Path
    ) -> None:
        artifact = make(dscnn, "int8-dynamic", tmp_path / "out", all_operators=True)
        with open_(artifact, inspect=True) as program:
            effective, profile = program.effective(), program.profile({}, 1)
        assert effective.operators == {"int8": 10}
        assert effective.fallback_ops == 4
        assert "outside XNNPACK: 4 DEPTHWISE_CONV_2D" in effective.notes
        assert "in 5 pieces; 4 of 13" in profile.notes[1]
        assert {op.kind for op in profile.operators if op.fallback} == {"DEPTHWISE_CONV_2D"}

    @pytest.mark.parametrize(
        ("precision", "options"),
        [("int8-dynamic", {}), ("int8-static", {}), ("int8-static", {"per_channel": False})],
    )
    def test_accuracy_is_kept(
        self, dscnn: Case, tmp_path: Path, precision: str, options: dict[str, Any]
    ) -> None:
        artifact = make(dscnn, precision, tmp_path / "out", **options)
        top1 = (predict(artifact, dscnn.items).argmax(1) == dscnn.labels).mean()
        assert top1 >= 0.9 - 0.015


@pytest.mark.parametrize("precision", ["int8-dynamic", "int8-static"])
def test_a_transformer_runs_in_int8(precision: str, tmp_path: Path) -> None:
    path = ZOO / "digits_vit.tflite"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    reader = interpreter_module.Interpreter(model_path=str(path))
    (into,), (out,) = reader.get_input_details(), reader.get_output_details()
    shape = tuple(map(int, into["shape"][1:]))
    model = image_model(path, (into["name"], out["name"]), shape, 10)
    items = np.random.default_rng(0).random((8, *shape), np.float32)
    case = Case(model, items, items, np.zeros(8))
    artifact = make(case, precision, tmp_path / "int8")
    with open_(artifact) as program:
        effective = program.effective()
    assert effective.operators["int8"] >= 15
    assert effective.fallback_ops == 0
    # Counted from the shapes of MatMul, Conv and Gemm in the zoo's ONNX file of the same network.
    assert sum((effective.macs or {}).values()) == 11_076_224


@pytest.fixture(scope="module")
def quantized(resnet8: Case) -> Case:
    """resnet8 as its authors quantized it: int8 inputs and outputs."""
    path = asset("models", "resnet8_cifar10", "model_int8.tflite")
    return replace(
        resnet8,
        model=image_model(path, ("input_1_int8", "Identity_int8"), (32, 32, 3), 10),
    )


@needs_assets
class TestAsShipped:
    def test_runs_from_the_cards_dtypes(self, quantized: Case, tmp_path: Path) -> None:
        artifact = make(quantized, "as-shipped", tmp_path / "out")
        with open_(artifact) as program:
            assert program.effective().precision == "int8"
            assert program.inputs["image"].zero_point == -128
        inputs = Backend().describe(artifact.file).inputs
        assert inputs["input_1_int8"].shape == ("input_1_int8.0", 32, 32, 3)
        item = quantized.items[:1]
        raw = direct(artifact.file, (item - 128).astype(np.int8))  # scale 1, zero-point -128
        with open_(artifact) as program:
            out = program.outputs["scores"]
        assert out.scale == 1 / 256
        expected = (raw.astype(np.float32) + 128) / 256
        np.testing.assert_array_equal(predict(artifact, item), expected)
        top1 = (predict(artifact, quantized.items).argmax(1) == quantized.labels).mean()
        assert top1 >= 0.86

    def test_an_own_operator_of_tflite_runs(self, tmp_path: Path) -> None:
        path = asset("models", "ssd_mobilenet_v1_coco300_uint8", "model_uint8.tflite")
        name = "TFLite_Detection_PostProcess"
        model = replace(
            image_model(path, ("normalized_input_image_tensor", name), (300, 300, 3), 1),
            inputs={"image": TensorSpec("uint8", ("N", 300, 300, 3), "NHWC")},
            outputs={"boxes": TensorSpec("float32", ("N", 10, 4))},
            source_outputs={"boxes": SourceTensor(name)},
        )
        found = Backend().describe(path)
        compare(model, found.inputs, found.outputs)  # the file leaves the outputs' shapes open
        artifact = make(model, "as-shipped", tmp_path / "out")
        item = np.random.default_rng(0).integers(0, 256, (1, 300, 300, 3), np.uint8)
        np.testing.assert_array_equal(predict(artifact, item), direct(path, item))
        with open_(artifact) as program:
            effective = program.effective()
        assert effective.operators == {"int8": 47}
        assert any(name in note for note in effective.notes)

    @pytest.mark.parametrize(
        ("model", "file", "share"),
        [
            ("mobilenet_v2_100_224_uint8_ptq", "model_uint8.tflite", 1),
            ("mobilenet_v1_025_vww96", "model_int8.tflite", 1),
            ("toycar_autoencoder", "model_int8.tflite", 1),
            ("dscnn_kws", "model_dynint8weights.tflite", 0.9),  # depthwise ones are in fp32
        ],
    )
    def test_files_of_all_kinds_run(
        self, tmp_path: Path, model: str, file: str, share: float
    ) -> None:
        path = asset("models", model, file)
        described = Backend().describe(path)
        inputs, outputs = described.inputs, described.outputs
        (name, into), (out, scores) = *inputs.items(), *outputs.items()
        source = replace(
            image_model(path, (name, out), (), 1),
            inputs={"image": replace(into, scale=None, zero_point=None)},
            outputs={"scores": scores},
        )
        artifact = make(source, "as-shipped", tmp_path / "out")
        item = np.random.default_rng(0).integers(0, 127, into.at(1)).astype(into.dtype)
        np.testing.assert_array_equal(predict(artifact, item), direct(path, item))
        with open_(artifact) as program:
            assert (int8_share(program.effective().macs) or 0) >= share * 0.99

    def test_is_no_reference_and_not_quantized_again(self, quantized: Case, tmp_path: Path) -> None:
        for precision in ("fp32", "int8-dynamic"):
            with pytest.raises(Unsupported, match="as-shipped"):
                make(quantized, precision, tmp_path / precision)

    def test_a_float_file_is_not_quantized(self, resnet8: Case, tmp_path: Path) -> None:
        with pytest.raises(Unsupported, match="not quantized"):
            make(resnet8, "as-shipped", tmp_path / "out")


# --------------------------------------------------------------------------- files and layouts


def test_layouts_are_mapped(digits: Model, tmp_path: Path) -> None:
    image = np.random.default_rng(0).random((1, 1, 8, 8), np.float32)
    artifact = make(digits, "fp32", tmp_path / "out")
    expected = direct(digits.path, np.ascontiguousarray(image.transpose(0, 2, 3, 1)))
    np.testing.assert_array_equal(predict(artifact, image), expected)
    with open_(artifact) as program:
        assert program.inputs["image"] == TensorSpec("float32", (1, 8, 8, 1), "NHWC")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "w8"])
def test_bytes_are_counted_as_they_are_kept(digits: Model, tmp_path: Path, precision: str) -> None:
    """By hand: four convolutions 3x3 of 1, 16, 32, 32 and 64 channels, a product of 256 with 10.
    Weights that are only stored in less are expanded to float32 once, before any inference."""
    weights = 9 * (1 * 16 + 16 * 32 + 32 * 32 + 32 * 64) + 256 * 10 + (16 + 32 + 32 + 64 + 10)
    with open_(make(digits, precision, tmp_path / "out")) as program:
        answer, profile = program.effective(), program.profile({}, 1)
    amounts = 2 * (4 * 2 * 4) + 4 * 4  # of two paddings and a transposition, int32
    assert answer.weight_bytes == 4 * weights + amounts
    by_kind = {op.kind: op for op in profile.operators}
    product = by_kind["FULLY_CONNECTED"]
    assert product.weight_bytes == 4 * (256 * 10 + 10)
    assert product.activation_bytes == 4 * (256 + 10)
    assert by_kind["RESHAPE"].activation_bytes == 0
    if precision != "fp32":
        assert by_kind["DEQUANTIZE"].weight_bytes == by_kind["DEQUANTIZE"].activation_bytes == 0


def test_a_file_that_cannot_be_resized_is_unsupported(digits: Model, tmp_path: Path) -> None:
    artifact = make(digits, "fp32", tmp_path / "out")
    with pytest.raises(Unsupported, match="the file is fixed at batch 1"):
        open_(artifact, batch=4)


def test_a_file_tells_its_inputs_and_outputs(digits: Model) -> None:
    described = Backend().describe(digits.path)
    inputs, outputs = described.inputs, described.outputs
    assert inputs == {"serving_default_args_0": TensorSpec("float32", (1, 8, 8, 1))}
    assert outputs == {"serving_default_output_0_output": TensorSpec("float32", (1, 10))}


def test_a_name_that_the_file_lacks_is_a_prepare_error(digits: Model, tmp_path: Path) -> None:
    model = replace(digits, source_inputs={"image": SourceTensor("picture", "NHWC")})
    with pytest.raises(PrepareError, match=r"no 'picture' among its inputs: serving_default_args"):
        make(model, "fp32", tmp_path / "out")


@pytest.mark.parametrize("damage", ["text", "cut", "empty"])
@pytest.mark.parametrize("precision", ["fp32", "int8-dynamic"])
def test_a_damaged_file_is_not_valid(
    digits: Model, tmp_path: Path, damage: str, precision: str
) -> None:
    whole = digits.path.read_bytes()
    path = tmp_path / "broken.tflite"
    path.write_bytes({"text": b"no model\n", "cut": whole[: len(whole) // 2], "empty": b""}[damage])
    with pytest.raises(PrepareError, match="not a valid TFLite file"):
        make(replace(digits, path=path), precision, tmp_path / "out")


def test_what_the_tool_cannot_do_is_refused(digits: Model) -> None:
    backend = Backend()

    def refusal(
        precision: str, device: str = "cpu", form: str = "tflite", **options: Any
    ) -> str | None:
        target = PrepareTarget(precision, complete_options(precision, options), device)
        return backend.supports(replace(digits, format=form), target)

    assert refusal("int8-static") is None
    assert refusal("int8-static", quantizer="ai-edge-quantizer") is None
    assert refusal("w4", group_size=-1) is None
    assert "entropy" in (refusal("int8-static", calibration_method="entropy") or "")
    assert "cuda" in (refusal("fp32", device="cuda") or "")
    assert "float16 only" in (refusal("bf16") or "")
    assert "one per group" in (refusal("w4", group_size=32) or "")
    assert "one scale per output channel" in (refusal("int8-dynamic", per_channel=False) or "")
    assert "nncf" in (refusal("int8-static", quantizer="nncf") or "")
    assert "no option preset" in (refusal("int8-static", preset="mixed") or "")
    assert "max_accuracy_drop" in (refusal("int8-static", max_accuracy_drop=0.01) or "")
    shared = PrepareTarget("int8-static", complete_options("int8-static", {}), recipe="shared")
    assert "is an ONNX file" in (backend.supports(digits, shared) or "")


@pytest.mark.parametrize("form", ["keras", "savedmodel"])
def test_each_quantizer_has_its_own_sources(digits: Model, form: str) -> None:
    backend, source = Backend(), replace(digits, format=form)

    def refusal(model: Model, precision: str = "int8-static", **options: Any) -> str | None:
        target = PrepareTarget(precision, complete_options(precision, options))
        return backend.supports(model, target)

    assert refusal(source, quantizer="tf-converter") is None
    assert "Keras and SavedModel" in (refusal(digits, quantizer="tf-converter") or "")
    for precision in ("fp32", "int8-static", "w8"):
        assert "converted to tflite first" in (refusal(source, precision) or "")
    beyond: list[dict[str, Any]] = [
        {"calibration_method": "mse"},
        {"excluded_operators": ["SOFTMAX"]},
    ]
    for options in beyond:
        assert "TF converter" in (refusal(source, quantizer="tf-converter", **options) or "")


# --------------------------------------------------------------------------- ranges


def int8_error(values: np.ndarray, low: float, high: float) -> float:
    """Mean squared error after quantizing to int8 with this range."""
    step = (high - low) / 255
    zero = np.rint(low / step)
    return float(np.mean((np.clip(np.rint(values / step), zero, zero + 255) * step - values) ** 2))


def test_a_percentile_cuts_the_same_share_off_either_end() -> None:
    counts = np.full(1000, 1000.0)  # a million values from 0 to 1
    counts[0] = counts[-1] = 2.0
    low, high = ranges.percentile(counts, 0.0, 1.0)
    assert (low, high) == pytest.approx((0.001, 0.999))
    assert ranges.percentile(np.full(1000, 1000.0), -1.0, 3.0) == pytest.approx((-1.0, 3.0))


def test_the_least_error_is_less_than_that_of_the_whole_range() -> None:
    values = np.random.default_rng(0).laplace(size=200_000)
    counts = np.histogram(values, 2048, (values.min(), values.max()))[0]
    low, high = ranges.least_error(counts, values.min(), values.max())
    assert values.min() < low < 0 < high < values.max()
    assert int8_error(values, low, high) < 0.9 * int8_error(values, values.min(), values.max())


# --------------------------------------------------------------------------- old files


def other_model(path: Path, into: TensorSpec, out: TensorSpec) -> Model:
    model = image_model(path, ("input_1", "Identity"), (), 1)
    return replace(model, inputs={"image": into}, outputs={"scores": out})


@needs_assets
@pytest.mark.parametrize(
    ("precision", "runs", "size"),
    [
        ("fp16", "fp32", 0.55),
        ("w8", "fp32", 0.3),
        ("int8-dynamic", "int8", 0.3),
        ("int8-static", "int8", 0.3),
        ("int16x8", "int16", 0.32),
    ],
)
def test_a_file_with_old_operator_codes_is_quantized(
    tmp_path: Path, precision: str, runs: str, size: float
) -> None:
    path = asset("models", "toycar_autoencoder", "model.tflite")
    spec = TensorSpec("float32", ("N", 640))
    items = np.random.default_rng(0).normal(scale=10, size=(8, 640)).astype(np.float32)
    case = Case(other_model(path, spec, spec), items, items, np.zeros(8))
    artifact = make(case, precision, tmp_path / "out")
    with open_(artifact) as program:
        assert program.effective().operators == {runs: 10}
    assert artifact.provenance.quantized_ops == 10
    assert artifact.file.stat().st_size <= size * path.stat().st_size
    reference = np.concatenate([direct(path, item[None]) for item in items])
    assert sqnr_db(reference, predict(artifact, items)) > 25


@needs_assets
@pytest.mark.parametrize("precision", ["fp16", "int8-dynamic", "int8-static"])
def test_a_text_model_with_integer_inputs_is_quantized(tmp_path: Path, precision: str) -> None:
    path = asset("models", "avgwordvec_sst2", "model.tflite")
    model = other_model(path, TensorSpec("int32", ("N", 256)), TensorSpec("float32", ("N", 2)))
    items = np.random.default_rng(0).integers(3, 10_000, (20, 256)).astype(np.int32)
    artifact = make(Case(model, items, items, np.zeros(20)), precision, tmp_path / "out")
    assert artifact.provenance.quantized_ops == 2
    expected = np.concatenate([direct(path, item[None]) for item in items])
    np.testing.assert_allclose(predict(artifact, items), expected, atol=0.05)


# --------------------------------------------------------------------------- a larger model


@pytest.fixture
def mobilenet(tmp_path: Path) -> Iterator[tuple[Case, Path]]:
    path = asset("models", "mobilenet_v2_100_224", "model.tflite")
    names = ("serving_default_keras_tensor:0", "StatefulPartitionedCall_1:0")
    model = image_model(path, names, (224, 224, 3), 1000)
    # Size only: the ranges may come from anything smooth in -1..1.
    images = np.sin(np.random.default_rng(0).random((4, 224, 224, 3)) * 6).astype(np.float32)
    yield Case(model, images, images, np.zeros(4)), tmp_path


@needs_assets
def test_int8_shrinks_mobilenet(mobilenet: tuple[Case, Path]) -> None:
    case, folder = mobilenet
    fp32 = make(case, "fp32", folder / "fp32")
    int8 = make(case, "int8-static", folder / "int8")
    assert int8.file.stat().st_size <= 0.35 * fp32.file.stat().st_size


# --------------------------------------------------------------------------- per tensor


@needs_assets
def test_one_scale_per_tensor_shows_at_the_depthwise_layers(tmp_path: Path) -> None:
    path = asset("models", "mobilenet_v1_025_224", "model.tflite")
    names = ("input", "MobilenetV1/Predictions/Reshape_1")
    model = image_model(path, names, (224, 224, 3), 1001)
    images = np.sin(np.random.default_rng(0).random((4, 224, 224, 3)) * 6).astype(np.float32)
    case = Case(model, images, images, np.zeros(4))
    feed = {"image": images[:1]}
    layers = {}
    for variant, precision, options in (
        ("fp32", "fp32", {}),
        ("channel", "int8-static", {}),
        ("tensor", "int8-static", {"per_channel": False}),
    ):
        artifact = make(case, precision, tmp_path / variant, **options)
        (layers[variant],) = Backend().activations(artifact, RunConfig(), [feed])
        if variant == "fp32":
            with open_(artifact) as program:
                macs = program.effective().macs or {}
            # 41 million: Howard et al. 2017 (arXiv:1704.04861), table 6.
            assert macs["fp32"] == pytest.approx(41e6, rel=0.02)
    drop = {
        exact.name: sqnr_db(exact.values, channel.values) - sqnr_db(exact.values, tensor.values)
        for exact, channel, tensor in zip(*layers.values(), strict=True)
        if exact.kind == "DEPTHWISE_CONV_2D"
    }
    assert len(drop) == 13
    assert max(drop.values()) > 10


# --------------------------------------------------------------------------- TensorFlow


@pytest.fixture(scope="module")
def saved(resnet8: Case, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """resnet8 as a SavedModel, whose one input and output the card calls otherwise."""
    pytest.importorskip("tensorflow", reason="needs TensorFlow")
    keras = pytest.importorskip("keras", reason="needs Keras")
    path = tmp_path_factory.mktemp("saved") / "model"
    h5 = asset("models", "resnet8_cifar10", "model.h5")
    keras.models.load_model(str(h5), compile=False).export(str(path), verbose=False)
    model = image_model(path, ("image", "scores"), (32, 32, 3), 10)
    calibration = resnet8.calibration[:20]
    return replace(resnet8, model=replace(model, format="savedmodel"), calibration=calibration)


@needs_assets
class TestConverter:
    """TensorFlow's converter; importing TensorFlow takes seconds, so there are few tests."""

    @pytest.mark.slow
    def test_a_savedmodel_becomes_int8(self, saved: Case, exact: float, tmp_path: Path) -> None:
        artifact = make(saved, "int8-static", tmp_path / "out", quantizer="tf-converter")
        assert artifact.provenance.quantizer == "tensorflow.lite.TFLiteConverter"
        assert artifact.provenance.quantized_ops == 10
        with open_(artifact) as program:
            assert program.inputs["image"].dtype == "int8"
            assert program.effective().macs == {"int8": RESNET8_MACS}
        top1 = (predict(artifact, saved.items).argmax(1) == saved.labels).mean()
        assert top1 >= exact - 0.015

    def test_a_keras_file_becomes_int8_with_one_scale_per_tensor(
        self, saved: Case, tmp_path: Path
    ) -> None:
        h5 = asset("models", "resnet8_cifar10", "model.h5")
        model = image_model(h5, ("input_1", "dense"), (32, 32, 3), 10)  # as Keras names them
        case = replace(saved, model=replace(model, format="keras"))
        artifact = make(
            case, "int8-static", tmp_path / "out", quantizer="tf-converter", per_channel=False
        )
        reader = interpreter_module.Interpreter(model_path=str(artifact.file))
        scales = [len(d["quantization_parameters"]["scales"]) for d in reader.get_tensor_details()]
        assert max(scales) == 1
        top1 = (predict(artifact, saved.items).argmax(1) == saved.labels).mean()
        assert top1 >= 0.85

    @pytest.mark.parametrize(
        ("layer", "shape", "macs"),
        [
            # every input value goes into kernel x filters products
            ("Conv2DTranspose", (5, 6, 3), 5 * 6 * 3 * (3 * 2) * 4),
            # every output value is the sum of kernel x channels products
            ("Conv3D", (7, 6, 5, 3), (5 * 5 * 4) * 4 * (3 * 2 * 2) * 3),
        ],
    )
    def test_work_of_rarer_layers(
        self, saved: Case, tmp_path: Path, layer: str, shape: tuple[int, ...], macs: int
    ) -> None:
        import keras
        import tensorflow as tf

        kernel = (3, 2, 2)[: len(shape) - 1]
        given = keras.Input(shape, batch_size=1, name="given")
        network = keras.Model(given, getattr(keras.layers, layer)(4, kernel)(given))
        path = tmp_path / "layer.tflite"
        path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(network).convert())
        described = Backend().describe(path)
        (name,), (out,) = described.inputs, described.outputs
        model = other_model(path, TensorSpec("float32", ("N", *shape)), TensorSpec("float32", ()))
        model = replace(
            model,
            source_inputs={"image": SourceTensor(name)},
            source_outputs={"scores": SourceTensor(out)},
        )
        with open_(make(model, "fp32", tmp_path / "out")) as program:
            assert program.effective().macs == {"fp32": macs}

    def test_several_inputs_keep_their_names(self, saved: Case, tmp_path: Path) -> None:
        import keras

        left, right = (keras.Input((4,), name=name) for name in ("left", "right"))
        sides = [keras.layers.Dense(3, name="a")(left), keras.layers.Dense(2, name="b")(right)]
        path = tmp_path / "two.keras"
        network = keras.Model({"left": left, "right": right}, sides)
        network.save(path)
        rng = np.random.default_rng(0)
        feeds = {name: rng.normal(size=(50, 4)).astype(np.float32) for name in ("second", "first")}
        spec = TensorSpec("float32", ("N", 4))
        model = replace(
            saved.model,
            path=path,
            format="keras",
            inputs={"second": spec, "first": spec},
            outputs={"y": TensorSpec("float32", ("N", 2)), "x": TensorSpec("float32", ("N", 3))},
            source_inputs={"second": SourceTensor("right"), "first": SourceTensor("left")},
            source_outputs={"y": SourceTensor("b"), "x": SourceTensor("a")},
        )
        target = PrepareTarget(
            "int8-static", complete_options("int8-static", {"quantizer": "tf-converter"})
        )
        (tmp_path / "out").mkdir()
        provenance = Backend().prepare(model, target, Calibration(feeds), tmp_path / "out")
        artifact = Artifact(tmp_path / "out", model, target, provenance)
        with open_(artifact) as program:
            stream = program.stream()
            stream.bind({name: array[:1] for name, array in feeds.items()})
            stream.infer()
            got = stream.read()
        first, second = network({"left": feeds["first"][:1], "right": feeds["second"][:1]})
        np.testing.assert_allclose(got["x"], np.asarray(first), atol=0.05)
        np.testing.assert_allclose(got["y"], np.asarray(second), atol=0.05)

    def test_what_is_no_savedmodel_is_a_prepare_error(self, saved: Case, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        case = replace(saved, model=replace(saved.model, path=tmp_path / "empty"))
        with pytest.raises(PrepareError, match="not a SavedModel"):
            make(case, "int8-static", tmp_path / "out", quantizer="tf-converter")

    def test_without_tensorflow_the_case_is_skipped(
        self, resnet8: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "tensorflow", None)
        case = replace(resnet8, model=replace(resnet8.model, format="savedmodel"))
        with pytest.raises(Unsupported, match="pip install tensorflow"):
            make(case, "int8-static", tmp_path / "out", quantizer="tf-converter")


def test_a_keras_source_is_not_described(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="no TFLite file"):
        Backend().describe(tmp_path / "model.keras")
