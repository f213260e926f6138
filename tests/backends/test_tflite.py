"""The TFLite adapter, with LiteRT itself and trained models."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

interpreter_module = pytest.importorskip("ai_edge_litert.interpreter", reason="needs LiteRT")
pytest.importorskip("ai_edge_quantizer", reason="needs ai-edge-quantizer")

from qbench.backend import (  # noqa: E402
    Artifact,
    Calibration,
    Model,
    PrepareError,
    PrepareTarget,
    Program,
    RunConfig,
    SourceTensor,
    TensorSpec,
    Unsupported,
)
from qbench.precision import complete_options  # noqa: E402
from qbench.testing import AdapterConformance  # noqa: E402
from qbench_tflite import Backend  # noqa: E402
from qbench_tflite import prepare as prepare_module  # noqa: E402
from qbench_tflite.signature import with_signature  # noqa: E402

ASSETS = os.environ.get("QBENCH_ASSETS")
ZOO = Path(__file__).parents[2] / "suites" / "zoo"
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
    if precision == "int8-static":
        assert isinstance(case, Case)
        calibration = Calibration({"image": case.calibration})
    out.mkdir()
    provenance = backend.prepare(model, target, calibration, out)
    return Artifact(out, model, target, provenance)


def open_(artifact: Artifact, **config: Any) -> Program:
    return Backend().open(artifact, RunConfig(**config))


def predict(artifact: Artifact, items: np.ndarray, batch: int = 1) -> np.ndarray:
    with open_(artifact, batch=batch) as program:
        stream = program.stream()
        rows = []
        for start in range(0, len(items) - batch + 1, batch):
            stream.bind({"image": items[start : start + batch]})
            stream.infer()
            rows.append(next(iter(stream.read().values())))
    return np.concatenate(rows)


def direct(file: Path, inputs: np.ndarray) -> np.ndarray:
    """One item through LiteRT's interpreter, as its manual shows it."""
    interpreter = interpreter_module.Interpreter(model_path=str(file), num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], inputs)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


class TestConformance(AdapterConformance):
    target = "qbench_tflite:Backend"


# --------------------------------------------------------------------------- precisions


VARIANTS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "fp32": ("fp32", {}),
    "fp16": ("fp16", {}),
    "int8-dynamic": ("int8-dynamic", {}),
    "int8-dynamic-per-tensor": ("int8-dynamic", {"per_channel": False}),
    "int8-static": ("int8-static", {}),
    "int8-static-per-tensor": ("int8-static", {"per_channel": False}),
}


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
    @pytest.mark.parametrize("variant", VARIANTS)
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
        assert artifact.provenance.quantized_ops == (None if variant == "fp32" else 10)
        assert artifact.file.stat().st_size <= size * artifact.model.path.stat().st_size

    def test_fp16_says_that_it_is_storage_only(self, artifacts: dict[str, Artifact]) -> None:
        note = "fp16 is storage only: computed in fp32"
        assert note in artifacts["fp16"].provenance.notes
        with open_(artifacts["fp16"]) as program:
            assert note in program.effective().notes

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
        monkeypatch.setattr(prepare_module, "_run_quantizer", lambda content, *_: content)
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
            ({"experimental_disable_delegate_clustering": "yes"}, "bool"),
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

    @pytest.mark.parametrize("precision", ["int8-dynamic", "int8-static"])
    @pytest.mark.parametrize("per_channel", [True, False])
    def test_accuracy_is_kept(
        self, dscnn: Case, tmp_path: Path, precision: str, per_channel: bool
    ) -> None:
        artifact = make(dscnn, precision, tmp_path / "out", per_channel=per_channel)
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
        inputs, _ = Backend().describe(artifact.file)
        assert inputs["input_1_int8"].shape == ("N", 32, 32, 3)
        item = quantized.items[:1]
        raw = direct(artifact.file, (item - 128).astype(np.int8))  # scale 1, zero-point -128
        with open_(artifact) as program:
            out = program.outputs["scores"]
        assert out.scale == 1 / 256
        expected = (raw.astype(np.float32) + 128) / 256
        np.testing.assert_array_equal(predict(artifact, item), expected)
        top1 = (predict(artifact, quantized.items).argmax(1) == quantized.labels).mean()
        assert top1 >= 0.86

    def test_is_no_reference_and_not_quantized_again(self, quantized: Case, tmp_path: Path) -> None:
        for precision in ("fp32", "int8-dynamic"):
            with pytest.raises(Unsupported, match="as-shipped"):
                make(quantized, precision, tmp_path / precision)

    def test_a_float_file_is_not_quantized(self, resnet8: Case, tmp_path: Path) -> None:
        with pytest.raises(Unsupported, match="fp32"):
            make(resnet8, "as-shipped", tmp_path / "out")


# --------------------------------------------------------------------------- files and layouts


def test_layouts_are_mapped(digits: Model, tmp_path: Path) -> None:
    image = np.random.default_rng(0).random((1, 1, 8, 8), np.float32)
    artifact = make(digits, "fp32", tmp_path / "out")
    expected = direct(digits.path, np.ascontiguousarray(image.transpose(0, 2, 3, 1)))
    np.testing.assert_array_equal(predict(artifact, image), expected)
    with open_(artifact) as program:
        assert program.inputs["image"] == TensorSpec("float32", (1, 8, 8, 1), "NHWC")


def test_a_file_that_cannot_be_resized_is_unsupported(digits: Model, tmp_path: Path) -> None:
    artifact = make(digits, "fp32", tmp_path / "out")
    with pytest.raises(Unsupported, match="the file is fixed at batch 1"):
        open_(artifact, batch=4)


def test_a_file_tells_its_inputs_and_outputs(digits: Model) -> None:
    inputs, outputs = Backend().describe(digits.path)
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

    def refusal(precision: str, device: str = "cpu", **options: Any) -> str | None:
        target = PrepareTarget(precision, complete_options(precision, options), device)
        return backend.supports(digits, target)

    assert refusal("int8-static") is None
    assert "percentile" in (refusal("int8-static", calibration_method="percentile") or "")
    assert "entropy" in (refusal("int8-static", calibration_method="entropy") or "")
    assert "cuda" in (refusal("fp32", device="cuda") or "")
    assert "not offer" in (refusal("int16x8") or "")


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
