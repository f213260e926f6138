"""The TFLite adapter on files of all kinds, made by TensorFlow's converter: recurrent layers,
float16 and integer weights, integer inputs, several signatures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

interpreter_module = pytest.importorskip("ai_edge_litert.interpreter", reason="needs LiteRT")
pytest.importorskip("ai_edge_quantizer", reason="needs ai-edge-quantizer")
pytest.importorskip("tensorflow", reason="needs TensorFlow")

from qbench.errors import UserError  # noqa: E402
from qbench.kit.adapter import PrepareError, Unsupported  # noqa: E402
from qbench.kit.jobs.evaluate import load_artifact  # noqa: E402
from qbench.kit.model import (  # noqa: E402
    Artifact,
    Calibration,
    Model,
    PrepareTarget,
    RunConfig,
    SourceTensor,
    TensorSpec,
)
from qbench.kit.tflitefile import several_signatures  # noqa: E402
from qbench.run.sources.adhoc import suite_for_files  # noqa: E402
from qbench.run.workers.isolate import run_job  # noqa: E402
from qbench.run.workers.registry import Registry  # noqa: E402
from qbench.spec.precisions import complete_options  # noqa: E402
from qbench_tflite import Backend, flatfile  # noqa: E402

IMAGE = (8, 8, 3)
SERIES = (6, 4)
RANGED = ("int8-static", "int16x8")


@dataclass(frozen=True)
class Made:
    """A folder of files, and what Keras computes.

    Attributes:
        items, expected: by file name without its suffix.
    """

    folder: Path
    items: dict[str, np.ndarray]
    expected: dict[str, np.ndarray]

    def model(self, name: str) -> Model:
        path = self.folder / f"{name}.tflite"
        described = Backend().describe(path)
        inputs, outputs = described.inputs, described.outputs
        return Model(
            name=name,
            format="tflite",
            path=path,
            digest="0" * 64,
            task="other",
            inputs=inputs,
            outputs=outputs,
            source_inputs={n: SourceTensor(n) for n in inputs},
            source_outputs={n: SourceTensor(n) for n in outputs},
        )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    import keras
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("files")
    keras.utils.set_random_seed(1)
    rng = np.random.default_rng(0)
    images = rng.random((20, *IMAGE)).astype(np.float32)
    series = rng.normal(size=(20, *SERIES)).astype(np.float32)

    def convert(network: Any, name: str, **settings: Any) -> None:
        tool = tf.lite.TFLiteConverter.from_keras_model(network)
        for key, value in settings.items():
            setattr(tool, key, value)
        (folder / f"{name}.tflite").write_bytes(tool.convert())

    layers = keras.layers
    recurrent = keras.Sequential(
        [keras.Input(SERIES, 1), layers.Bidirectional(layers.LSTM(8)), layers.Dense(3)]
    )
    convert(recurrent, "recurrent")
    image = keras.Input(IMAGE)
    x = layers.Conv2D(16, 3, activation="relu")(image)
    x = layers.Flatten()(layers.Conv2D(16, 3, activation="relu")(x))
    network = keras.Model(image, layers.Dense(10)(x))
    convert(network, "float")
    smaller: dict[str, Any] = {"optimizations": [tf.lite.Optimize.DEFAULT]}
    halves = tf.lite.TargetSpec()
    halves.supported_types = [tf.float16]
    convert(network, "half", **smaller, target_spec=halves)
    convert(network, "dynamic", **smaller)

    def calibration() -> Iterator[list[np.ndarray]]:
        for item in images:
            yield [item[None]]

    smaller["representative_dataset"] = calibration
    convert(network, "int8", **smaller)
    ends = {"inference_input_type": tf.uint8, "inference_output_type": tf.uint8}
    convert(network, "uint8", **smaller, **ends)
    module: Any = tf.Module()
    variable: Any = tf.Variable
    module.left = variable(rng.normal(size=(4, 300)).astype(np.float32))
    module.right = variable(rng.normal(size=(4, 2)).astype(np.float32))
    spec = [tf.TensorSpec((None, 4), tf.float32, name="x")]
    signatures = {
        "encode": tf.function(lambda x: {"y": x @ module.left}, spec),
        "decode": tf.function(lambda x: {"z": tf.nn.relu(x @ module.right)}, spec),
    }
    tf.saved_model.save(module, folder / "saved", signatures)
    tool = tf.lite.TFLiteConverter.from_saved_model(
        str(folder / "saved"), signature_keys=list(signatures)
    )
    (folder / "several.tflite").write_bytes(tool.convert())
    rows = rng.normal(size=(20, 4)).astype(np.float32)
    (folder / "pair.tflite").write_bytes(paired((folder / "float.tflite").read_bytes()))
    expected = {
        "float": np.asarray(network(images)),
        "recurrent": np.concatenate([np.asarray(recurrent(s[None])) for s in series]),
    }
    expected["several"] = np.maximum(rows @ module.right.numpy(), 0)
    return Made(folder, {"float": images, "recurrent": series, "several": rows}, expected)


def paired(content: bytes) -> bytes:
    """The file with a QUANTIZE and a DEQUANTIZE between its input and its first operator."""
    from ai_edge_litert import schema_py_generated as schema

    model = flatfile.parse(content)
    (graph,) = model.subgraphs
    given = graph.tensors[graph.inputs[0]]
    added = []
    for kind in (schema.TensorType.INT8, schema.TensorType.FLOAT32):
        tensor: Any = schema.TensorT()
        tensor.name, tensor.shape, tensor.shapeSignature = "added", given.shape, [-1, *IMAGE]
        tensor.type, tensor.buffer, tensor.quantization = kind, 0, None
        added.append(len(graph.tensors))
        graph.tensors.append(tensor)
    scale: Any = schema.QuantizationParametersT()
    scale.scale, scale.zeroPoint = [1 / 255], [-128]
    graph.tensors[added[0]].quantization = scale
    first = graph.operators[0]
    ends = [graph.inputs[0], *added]
    for position, kind in enumerate(("QUANTIZE", "DEQUANTIZE")):
        code: Any = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, kind)
        code.version = 2
        operator: Any = schema.OperatorT()
        operator.opcodeIndex = len(model.operatorCodes)
        operator.inputs, operator.outputs = [ends[position]], [ends[position + 1]]
        model.operatorCodes.append(code)
        graph.operators.insert(position, operator)
    first.inputs = [added[1], *list(first.inputs)[1:]]
    return flatfile.packed(model)


def make(model: Model, precision: str, out: Path, items: np.ndarray | None = None) -> Artifact:
    Backend().import_runtime()
    target = PrepareTarget(precision, complete_options(precision, {}))
    out.mkdir()
    calibration = None
    if precision in RANGED and items is not None:
        calibration = Calibration(dict.fromkeys(model.inputs, items))
    provenance = Backend().prepare(model, target, calibration, out)
    return Artifact(out, model, target, provenance)


def predict(artifact: Artifact, items: np.ndarray) -> np.ndarray:
    with Backend().open(artifact, RunConfig()) as program:
        stream = program.stream()
        rows = []
        (name,) = artifact.model.inputs
        for item in items:
            stream.bind({name: item[None]})
            stream.infer()
            rows.append(next(iter(stream.read().values())))
    return np.concatenate(rows)


def sqnr_db(reference: np.ndarray, other: np.ndarray) -> float:
    noise = np.square(reference.astype(np.float64) - other).sum()
    return float(10 * np.log10(np.square(reference).sum() / noise))


# --------------------------------------------------------------------------- recurrent layers


@pytest.mark.parametrize("precision", ["fp32", "int8-dynamic", "w8"])
def test_a_recurrent_network_runs_and_is_inspected(
    made: Made, tmp_path: Path, precision: str
) -> None:
    """LSTM layers are loops, some of whose results nothing reads."""
    artifact = make(made.model("recurrent"), precision, tmp_path / "out")
    with Backend().open(artifact, RunConfig(), inspect=True) as program:
        effective, profile = program.effective(), program.profile({}, 1)
        (loops,) = (tuple(op for op in profile.operators if op.kind == "WHILE"),)
    assert len(loops) == 2 and all(op.role == "compute" for op in loops)
    runs = "int8" if precision == "int8-dynamic" else "fp32"
    assert effective.operators == {runs: 3}  # two loops and the last layer
    assert effective.macs is None and effective.weight_bytes is None  # rounds are not known
    assert any("not counted" in note for note in effective.notes)
    got = predict(artifact, made.items["recurrent"])
    exact = made.expected["recurrent"]
    if precision == "fp32":
        np.testing.assert_allclose(got, exact, atol=1e-5)
    assert sqnr_db(exact, got) > 30
    feeds = [dict.fromkeys(artifact.model.inputs, made.items["recurrent"][:1])]
    (layers,) = Backend().activations(artifact, RunConfig(), feeds)
    np.testing.assert_allclose(layers[-1].values, got[:1], atol=1e-6)


@pytest.mark.parametrize("precision", RANGED)
def test_ranges_inside_loops_are_not_found(made: Made, tmp_path: Path, precision: str) -> None:
    model = made.model("recurrent")
    with pytest.raises(Unsupported, match=r"inside WHILE .*ask for int8-dynamic or w8"):
        make(model, precision, tmp_path / "out", made.items["recurrent"])


# --------------------------------------------------------------------------- quantized files


@pytest.mark.parametrize(
    ("name", "operators"),
    [
        ("float", 0),
        ("recurrent", 0),
        ("half", 0),  # float16 is no integer
        ("pair", 0),  # one pair at the input of a float network
        ("dynamic", 2),  # the first convolution has fewer than 1024 weights: left alone
        ("int8", 3),
        ("uint8", 3),
    ],
)
def test_a_file_is_quantized_if_its_weights_or_products_are_integers(
    made: Made, tmp_path: Path, name: str, operators: int
) -> None:
    model = made.model(name)
    if operators:
        for precision in ("fp32", "fp16", "int8-dynamic", "int8-static", "w8"):
            with pytest.raises(Unsupported, match="arrives quantized: ask for as-shipped"):
                make(model, precision, tmp_path / precision, made.items["float"])
        artifact = make(model, "as-shipped", tmp_path / "shipped")
        assert artifact.file.read_bytes() == model.path.read_bytes()
        with Backend().open(artifact, RunConfig()) as program:
            assert program.effective().operators.get("int8") == operators
    else:
        with pytest.raises(Unsupported, match="is not quantized"):
            make(model, "as-shipped", tmp_path / "shipped")
        artifact = make(model, "fp32", tmp_path / "fp32")
        with Backend().open(artifact, RunConfig()) as program:
            assert program.effective().precision == "fp32"


@pytest.mark.parametrize("precision", ["w8", "int8-dynamic"])
def test_what_the_quantizer_made_is_quantized_too(
    made: Made, tmp_path: Path, precision: str
) -> None:
    """Weights only as well: such a file is no float reference, though it computes in fp32. In a
    recurrent network nearly all weights are inside the loops."""
    for name in ("float", "recurrent"):
        file = make(made.model(name), precision, tmp_path / name).file
        model = replace(made.model(name), path=file)
        with pytest.raises(Unsupported, match="arrives quantized"):
            make(model, "fp32", tmp_path / f"{name}-fp32")
        assert make(model, "as-shipped", tmp_path / f"{name}-shipped").file.stat().st_size > 0


def test_a_file_with_float16_weights_is_a_float_file(made: Made, tmp_path: Path) -> None:
    model, items = made.model("half"), made.items["float"]
    exact = predict(make(model, "fp32", tmp_path / "fp32"), items)
    assert sqnr_db(made.expected["float"], exact) > 60
    same = make(model, "fp16", tmp_path / "fp16")
    assert same.file.read_bytes() == model.path.read_bytes()
    assert "float16 weights" in same.provenance.notes[0]
    for precision in ("int8-static", "int8-dynamic", "w8"):
        artifact = make(model, precision, tmp_path / precision, items)
        assert artifact.provenance.quantized_ops == 3
        assert sqnr_db(exact, predict(artifact, items)) > 30
        assert artifact.file.stat().st_size < model.path.stat().st_size


def test_integer_inputs_take_a_float_cards_feed(made: Made, tmp_path: Path) -> None:
    """uint8 of scale 1/255: the card's 0..1 becomes pixels, and scores come back as reals."""
    model = made.model("uint8")
    (name, given), (scores, result) = *model.inputs.items(), *model.outputs.items()
    assert given.dtype == result.dtype == "uint8" and given.zero_point == 0
    assert given.scale == pytest.approx(1 / 255, rel=0.01)
    card = replace(
        model,
        inputs={name: replace(given, dtype="float32", scale=None, zero_point=None)},
        outputs={scores: replace(result, dtype="float32", scale=None, zero_point=None)},
    )
    items = made.items["float"]
    got = predict(make(card, "as-shipped", tmp_path / "out"), items)
    reader = interpreter_module.Interpreter(str(model.path))
    reader.allocate_tensors()
    (into,), (out,) = reader.get_input_details(), reader.get_output_details()
    pixels = np.clip(np.rint(items / into["quantization"][0]), 0, 255).astype(np.uint8)
    for item, row in zip(pixels, got, strict=True):
        reader.set_tensor(into["index"], item[None])
        reader.invoke()
        scale, zero = out["quantization"]
        raw = reader.get_tensor(out["index"])[0].astype(np.float32)
        np.testing.assert_allclose(row, (raw - zero) * scale, rtol=1e-6)
    assert sqnr_db(made.expected["float"], got) > 25


# --------------------------------------------------------------------------- signatures


def test_a_file_with_several_signatures_runs_none_by_guess(made: Made, tmp_path: Path) -> None:
    path = made.folder / "several.tflite"
    assert several_signatures(path) == ["decode", "encode"]
    for other in ("float", "recurrent"):  # one signature, though several subgraphs
        assert several_signatures(made.folder / f"{other}.tflite") == []
    with pytest.raises(UserError, match="has the signatures decode, encode") as caught:
        suite_for_files([path], None, None, None, Registry(), print)
    assert "--signature KEY" in caught.value.fix
    with pytest.raises(PrepareError, match="no signature train; it has decode, encode"):
        Backend().extract(path, "train", tmp_path / "train.tflite")


@pytest.mark.parametrize("precision", ["fp32", "int8-static"])
def test_a_signature_is_chosen_by_its_key(made: Made, tmp_path: Path, precision: str) -> None:
    """In the workers, as a card's ``sources.tflite.signature`` arrives there."""
    whole = made.folder / "several.tflite"
    items = made.items["several"]
    spec = TensorSpec("float32", ("N", 4))
    model = Model(
        name="several",
        format="tflite",
        path=Path("model.tflite"),
        digest="0" * 64,
        task="other",
        inputs={"x": spec},
        outputs={"out": TensorSpec("float32", ("N", 2))},
        source_inputs={"x": SourceTensor("x")},  # the signature's names
        source_outputs={"out": SourceTensor("z")},
        signature="decode",
    )
    np.save(tmp_path / "items.npy", items)
    folder = tmp_path / "work"
    folder.mkdir()
    outcome = run_job(
        "prepare",
        "qbench_tflite:Backend",
        {
            "model": model.to_json(),
            "target": {"precision": precision, "options": complete_options(precision, {})},
            "calibration": {"x": "items.npy"},
            "calibration_items": len(items),
        },
        folder,
        {"model.tflite": whole, "items.npy": tmp_path / "items.npy"},
    )
    assert outcome.status == "ok", outcome.reason
    artifact = load_artifact(folder / "out")
    got, exact = predict(artifact, items), made.expected["several"]
    if precision == "fp32":
        np.testing.assert_allclose(got, exact, rtol=1e-5, atol=1e-6)
        assert artifact.file.stat().st_size < whole.stat().st_size - 4 * 4 * 300  # without encode's
    else:
        assert sqnr_db(exact, got) > 30


# --------------------------------------------------------------------------- LiteRT's versions


class Interpreter21:
    """LiteRT 2.1's ``Interpreter``, by the arguments that it takes."""

    def __new__(
        cls,
        model_path: str | None = None,
        model_content: bytes | None = None,
        experimental_delegates: Any = None,
        num_threads: int | None = None,
        experimental_op_resolver_type: Any = interpreter_module.OpResolverType.AUTO,
        experimental_preserve_all_tensors: bool = False,
        experimental_disable_delegate_clustering: bool = False,
        experimental_default_delegate_latest_features: bool = False,
    ) -> Any:
        return REAL(model_path, model_content, experimental_delegates, num_threads)


REAL: Callable[..., Any] = interpreter_module.Interpreter


def test_an_older_litert_gets_only_the_flags_that_it_has(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interpreter_module, "Interpreter", Interpreter21)
    artifact = make(made.model("float"), "fp32", tmp_path / "out")
    got = predict(artifact, made.items["float"])
    np.testing.assert_allclose(got, made.expected["float"], atol=1e-5)
    hints = {"experimental_disable_delegate_clustering": True}
    Backend().open(artifact, RunConfig(hints=hints)).close()
    hints = {"experimental_disable_delegate_node_fusion": True}
    with pytest.raises(Unsupported, match="has no experimental_disable_delegate_node_fusion"):
        Backend().open(artifact, RunConfig(hints=hints))


# --------------------------------------------------------------------------- damaged and foreign


def test_only_what_is_no_tflite_file_is_called_invalid(made: Made, tmp_path: Path) -> None:
    whole = (made.folder / "float.tflite").read_bytes()
    for content in (b"", b"TFL3", whole[:3000], b"\xff\xff\xff\x7fTFL3" + b"\xff" * 99):
        (tmp_path / "broken.tflite").write_bytes(content)
        assert several_signatures(tmp_path / "broken.tflite") == []
    newer = flatfile.parse(whole)
    newer.operatorCodes[0].version = 99
    path = tmp_path / "net.tflite"
    for content, kind, said in (
        (b"no model\n", PrepareError, "not a valid TFLite file"),
        (whole[:3000], PrepareError, "not a valid TFLite file"),
        (b"", PrepareError, "not a valid TFLite file"),
        (flatfile.packed(newer), Unsupported, "LiteRT cannot run the file: .*CONV_2D.*99"),
    ):
        path.write_bytes(content)
        for work in (
            lambda: Backend().describe(path),
            lambda: make(replace(made.model("float"), path=path), "fp32", tmp_path / "out"),
        ):
            with pytest.raises(kind, match=said):
                work()
        (tmp_path / "out").rmdir()
