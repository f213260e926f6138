"""The shipped converters with the real frameworks, and with trained models where there are some."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomllib
import yaml
from paths import ROOT

from qbench.errors import NoSource
from qbench.kit.model import Model
from qbench.run.sources import adhoc
from qbench.run.sources.catalog import Catalog
from qbench.run.sources.convert import GROUP, Converters
from qbench.run.workers.isolate import run_job
from qbench.run.workers.registry import Registry, package_versions
from qbench.spec.suite import suites_dir

pytestmark = pytest.mark.slow

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONVERTERS = PROJECT["entry-points"][GROUP]
BACKENDS = PROJECT["entry-points"]["qbench.backends"]
ZOO = suites_dir() / "zoo"

MAKE = """
import json, os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
import h5py, keras, numpy as np, tensorflow as tf
from pathlib import Path
from qbench.kit.adapter import PrepareError, Unsupported
from qbench_tensorflow.load import application, load_keras, load_savedmodel

keras.utils.set_random_seed(1)
image = keras.Input((8, 8, 3), name="img")
x = keras.layers.Normalization(mean=[0.4, 0.5, 0.6], variance=[0.1, 0.2, 0.3])(image)
x = keras.layers.Conv2D(4, 3, activation="relu")(x)
x = keras.layers.DepthwiseConv2D(3)(x)
x = keras.layers.Flatten()(x)
dense = keras.layers.Dense(3, name="first"), keras.layers.Dense(3, name="second")
model = keras.Model(image, [layer(x) for layer in dense])
model.save("two.keras")
model.save("two.h5")
model.export("two_sm", verbose=False)
items = np.random.default_rng(0).random((20, 8, 8, 3)).astype(np.float32)
np.savez("two.npz", **dict(zip(("first", "second"), model.predict(items, verbose=0))))

series = np.random.default_rng(0).random((20, 6, 4)).astype(np.float32)
for kind in ("LSTM", "GRU"):
    layer = getattr(keras.layers, kind)(8)
    recurrent = keras.Sequential([keras.Input((6, 4)), layer, keras.layers.Dense(3)])
    recurrent.save(f"{kind}.keras")
    np.save(f"{kind}.npy", recurrent.predict(series, verbose=0))
three = [keras.Input((4,)) for _ in range(3)]
given = dict(zip(("mask", "ids", "types"), three))
parts = [keras.layers.Dense(2)(one) for one in three]
dictionary = keras.Model(given, keras.layers.Concatenate()(parts))
dictionary.save("dictionary.keras")
feed = {name: np.full((2, 4), size, np.float32) for name, size in zip(given, (1, 2, 3))}
np.save("dictionary.npy", dictionary.predict(feed, verbose=0))
counting = keras.Sequential([keras.Input((6, 4), 1), keras.layers.LSTM(8, stateful=True)])
counting.save("stateful.keras")

code = keras.Sequential([keras.Input((4,)), keras.layers.Lambda(lambda x: 2 * x)])
nested = keras.Sequential([keras.Input((4,)), code])
code.save("lambda.keras")
code.save("lambda.h5")
nested.save("nested.h5")
with h5py.File("two.h5", "r+") as file:  # as Keras 2 wrote it
    config = json.loads(file.attrs["model_config"])
    layers = {layer["class_name"]: layer for layer in config["config"]["layers"]}
    layers["DepthwiseConv2D"]["config"]["groups"] = 1
    file.attrs["model_config"] = json.dumps(config)

module = tf.Module()
spec = [tf.TensorSpec((None, 4), tf.float32, name="x")]
both = {
    "double": tf.function(lambda x: {"doubled": 2 * x}, spec),
    "halve": tf.function(lambda x: {"halved": x / 2}, spec),
}
tf.saved_model.save(module, "pair", both)

module = tf.Module()
module.f = tf.function(
    lambda x: tf.reshape(tf.py_function(lambda v: v, [x], tf.float32), [-1, 4]),
    input_signature=[tf.TensorSpec((None, 4), tf.float32, name="x")],
)
tf.saved_model.save(module, "calls_python", signatures=module.f)
def one(name, body):
    module = tf.Module()
    module.f = tf.function(body, input_signature=[tf.TensorSpec((None, 4), tf.float32, name="x")])
    tf.saved_model.save(module, name, signatures=module.f)

def prints(x):
    tf.print("hello", output_stream="file://" + str(Path("written").absolute()))
    return x

one("prints", prints)
one("branches", lambda x: tf.cond(tf.reduce_sum(x) > 0, lambda: prints(x), lambda: x))
one("reads", lambda x: x + tf.cast(tf.strings.length(tf.io.read_file("/etc/hostname")), x.dtype))

class Table(tf.Module):
    def __init__(self, keys):
        table = tf.lookup.KeyValueTensorInitializer(tf.constant([1, 2]), tf.constant([3.0, 4.0]))
        file = tf.lookup.TextFileInitializer(keys, tf.int64, 1, tf.string, 0) if keys else None
        self.table = tf.lookup.StaticHashTable(file or table, "x" if keys else 0.0)

    @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, name="x")])
    def f(self, x):
        if self.table.key_dtype == tf.int64:
            return x
        return x + self.table.lookup(tf.cast(x, tf.int32))

Path("words.txt").write_text("a\\t1\\n")
for name, keys in (("table", None), ("table_of_file", "words.txt")):
    module = Table(keys)
    tf.saved_model.save(module, name, signatures=module.f)
recurrent = keras.Sequential([keras.Input((5, 2)), keras.layers.LSTM(3), keras.layers.Dropout(0.1)])
tf.saved_model.save(recurrent, "recurrent")
from tensorflow.core.protobuf import saved_model_pb2
content = saved_model_pb2.SavedModel()
content.ParseFromString(Path("table/saved_model.pb").read_bytes())
content.meta_graphs[0].ClearField("object_graph_def")
Path("version_1").mkdir()
Path("version_1/saved_model.pb").write_bytes(content.SerializeToString())
with Path("both.h5").open("wb") as file:  # Keras reads HDF5, a zip is found from its end
    file.write(Path("lambda.h5").read_bytes() + Path("two.keras").read_bytes())
Path("two.net").write_bytes(Path("two.keras").read_bytes())
Path("empty").mkdir()
Path("text.h5").write_text("nothing")

def failing(*args, **kwargs):
    raise Exception("URL fetch failure on https://weights.example/net.h5: None -- no route")

def outcome(load, *args):
    try:
        return [type(load(*args)).__name__, ""]
    except (PrepareError, Unsupported) as error:
        return [type(error).__name__, str(error)]

found = {name: outcome(load_keras, Path(name)) for name in (
    "two.keras", "two.h5", "lambda.keras", "lambda.h5", "nested.h5", "text.h5", "both.h5",
    "two.net")}
found |= {name: outcome(load_savedmodel, Path(name)) for name in (
    "two_sm", "calls_python", "empty", "prints", "branches", "reads", "table", "table_of_file",
    "recurrent", "version_1")}
found["unknown"] = outcome(application, {"model": "Layer"}, None)
import keras.src.utils.file_utils as files
keras.src.applications.mobilenet_v2.file_utils.get_file = failing
found["no network"] = outcome(application, {"model": "MobileNetV2"}, Path("kept"))
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[str]]]:
    """A folder of small Keras models and SavedModels, and how loading each of them ended."""
    for package in ("tensorflow", "keras", "tf2onnx"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    folder = tmp_path_factory.mktemp("keras")
    env = {**os.environ, "PYTHONPATH": str(ROOT / "backends")}
    done = subprocess.run(
        [sys.executable, "-c", MAKE],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, json.loads(done.stdout.splitlines()[-1])


class Cards:
    """A folder with one card, whose items are random unless they are given."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("models", "datasets"):
            (root / name).mkdir(parents=True)

    def card(self, shape: list[int], outputs: dict[str, int], layout: str | None, **sources: Any):
        rng = np.random.default_rng(0)
        np.savez(self.root / "items.npz", x=rng.random((20, *shape)).astype(np.float32))
        image = {
            "dtype": "float32",
            "shape": ["N", *shape],
            **({"layout": layout} if layout else {}),
        }
        data = {
            "name": "items",
            "licence": "CC0-1.0",
            "format": "npz",
            "files": {"data": {"path": "items.npz"}},
            "arrays": {"image": "x"},
            "items": 20,
        }
        card = {
            "name": "net",
            "task": "unknown",
            "licence": "CC0-1.0",
            "inputs": {"image": image},
            "outputs": {n: {"dtype": "float32", "shape": ["N", s]} for n, s in outputs.items()},
            "sources": sources,
            "evaluation": {"dataset": "items"},
        }
        (self.root / "datasets" / "items.yaml").write_text(yaml.safe_dump(data))
        (self.root / "models" / "net.yaml").write_text(yaml.safe_dump(card, sort_keys=False))

    def model(self, form: str) -> Model:
        registry = Registry(BACKENDS)
        converters = Converters(registry=registry, targets=CONVERTERS)
        catalog = Catalog([self.root], converters=converters)
        return catalog.model(catalog.card("net"), form)

    def items(self) -> np.ndarray:
        return np.load(self.root / "items.npz")["x"]


@pytest.fixture
def cards(tmp_path: Path) -> Cards:
    return Cards(tmp_path / "cards")


def good(model: Model, source: str) -> dict[str, float]:
    """The SQNR by output of a model that was converted from ``source``."""
    assert model.conversion is not None and model.conversion["source_format"] == source
    assert all(version is None or version for version in model.conversion["versions"].values())
    return model.conversion["sqnr_db"]


def run_onnx(model: Model, items: np.ndarray) -> dict[str, np.ndarray]:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(model.path, providers=["CPUExecutionProvider"])
    names = {name: tensor.name for name, tensor in model.source_outputs.items()}
    feed = model.to_source({"image": items})
    results = session.run(list(names.values()), feed)
    return model.from_source(dict(zip(names.values(), results, strict=True)))


# --------------------------------------------------------------------------- loading


@pytest.mark.parametrize("name", ["lambda.keras", "lambda.h5", "nested.h5", "both.h5"])
def test_keras_models_that_hold_code_are_refused(made, name: str):
    kind, message = made[1][name]
    assert kind == "PrepareError" and "Lambda" in message and "Python code" in message


def test_models_of_keras_2_and_3_are_loaded(made):
    assert made[1]["two.keras"] == made[1]["two.h5"] == ["Functional", ""]
    assert made[1]["two_sm"] == made[1]["recurrent"] == made[1]["table"] == ["Loaded", ""]


def test_damaged_and_dangerous_models_are_refused(made):
    assert made[1]["text.h5"][0] == "PrepareError" and "not a readable" in made[1]["text.h5"][1]
    assert "neither in .keras nor in .h5" in made[1]["two.net"][1]
    assert "TensorFlow 1" in made[1]["version_1"][1]
    assert "not a SavedModel" in made[1]["empty"][1]
    assert "no Layer" in made[1]["unknown"][1] and "ResNet50" in made[1]["unknown"][1]


@pytest.mark.parametrize(
    ("name", "operator"),
    [
        ("calls_python", "EagerPyFunc"),
        ("prints", "PrintV2"),
        ("branches", "PrintV2"),  # in a function that another one calls
        ("reads", "ReadFile"),
        ("table_of_file", "InitializeTableFromTextFileV2"),  # when it is loaded
    ],
)
def test_a_savedmodel_that_acts_on_the_world_is_not_run(made, name: str, operator: str):
    kind, message = made[1][name]
    assert kind == "PrepareError" and f"operator: {operator}" in message
    assert not (made[0] / "written").exists()


def test_without_a_network_the_message_says_where_the_weights_belong(made):
    kind, message = made[1]["no network"]
    assert kind == "Unsupported"  # the case is skipped
    where = "put net.h5 into downloads/tensorflow/models in qbench's cache"
    assert message == f"the weights of MobileNetV2 cannot be downloaded: {where}"


@pytest.mark.parametrize(
    ("source", "module"), [("keras", "tensorflow"), ("tflite", "tf2onnx"), ("torch", "torch")]
)
def test_without_its_framework_a_source_names_the_package(
    cards: Cards, monkeypatch, source: str, module: str
):
    monkeypatch.setitem(sys.modules, module, None)
    more = {"callable": "make"} if source == "torch" else {}
    cards.card([4], {"out": 2}, None, **{source: {"path": "net.x", **more}})
    with pytest.raises(NoSource, match=rf"not installed: pip install .*\b{module}\b") as no:
        cards.model("onnx")
    assert no.value.status == "skipped"


def test_versions_of_all_that_decides_a_file_are_part_of_its_key():
    registry = Registry(BACKENDS)
    tflite: Any = registry.load("tflite")
    assert {"tensorflow", "tensorflow-cpu", "keras"} <= set(tflite.prepare_packages)
    torch = Converters(registry=registry, targets=CONVERTERS)._load("torch")
    assert {"torchvision", "timm", "transformers"} <= set(torch.packages)
    assert package_versions(("no-such-package",)) == {"no-such-package": None}


# --------------------------------------------------------------------------- TensorFlow's world


def test_a_file_without_a_card_is_described(made, tmp_path: Path):
    path = made[0] / "two.h5"
    outcome = run_job(
        "describe", CONVERTERS["tensorflow"], {"path": "model.h5"}, tmp_path, {"model.h5": path}
    )
    assert outcome.status == "ok", outcome.reason
    (spec,) = outcome.result["inputs"].values()
    assert spec["shape"] == ["img.0", 8, 8, 3] and spec["dtype"] == "float32"
    assert list(outcome.result["outputs"]) == ["first", "second"]


def test_a_savedmodel_without_a_card_is_described(made):
    """As ``qbench run --model FOLDER`` does it."""
    path = made[0] / "two_sm"
    found = adhoc.Readers(Registry(BACKENDS), []).describe(path, "savedmodel")
    assert found.inputs["img"].shape == ("img.0", 8, 8, 3) and len(found.outputs) == 2


def test_keras_to_onnx_by_the_names_of_its_layers(made, cards: Cards):
    """Two outputs of one shape, exchanged in the card."""
    shutil.copy(made[0] / "two.keras", cards.root)
    outputs = {"first": {"name": "second"}, "second": {"name": "first"}}
    source = {"path": "two.keras", "outputs": outputs}
    cards.card([8, 8, 3], {"first": 3, "second": 3}, "NHWC", keras=source)
    model = cards.model("onnx")
    assert min(good(model, "keras").values()) > 100
    got, exact = run_onnx(model, cards.items()), np.load(made[0] / "two.npz")
    np.testing.assert_allclose(got["first"], exact["second"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got["second"], exact["first"], rtol=1e-4, atol=1e-5)


def test_a_savedmodel_in_an_archive_to_tflite(made, cards: Cards):
    shutil.make_archive(str(cards.root / "two"), "gztar", made[0], "two_sm")
    outputs = {"a": {"name": "output_0"}, "b": {"name": "output_1"}}
    cards.card(
        [8, 8, 3],
        {"a": 3, "b": 3},
        "NHWC",
        savedmodel={"path": "two.tar.gz", "outputs": outputs},
    )
    assert min(good(cards.model("tflite"), "savedmodel").values()) > 100


def test_a_savedmodels_signature_is_chosen_by_its_key(made, cards: Cards):
    archive = shutil.make_archive(str(cards.root / "pair"), "gztar", made[0], "pair")
    source = {"path": Path(archive).name, "outputs": {"y": {"name": "doubled"}}}
    cards.card([4], {"y": 4}, None, savedmodel={**source, "signature": "double"})
    got = run_onnx(cards.model("onnx"), cards.items())["y"]
    np.testing.assert_allclose(got, 2 * cards.items(), rtol=1e-6)
    cards.card([4], {"y": 4}, None, savedmodel=source)
    with pytest.raises(NoSource, match=r"has double, halve: name one as sources\.savedmodel"):
        cards.model("onnx")


def test_an_old_keras_file_of_a_trained_network_to_tflite(made, cards: Cards, assets: Path):
    """MLPerf Tiny's person detector, whose depthwise layers have Keras 2's ``groups``."""
    path = "models/mobilenet_v1_025_vww96"
    shutil.copy(assets / path / "model.h5", cards.root)
    cards.card([96, 96, 3], {"probabilities": 2}, "NHWC", keras={"path": "model.h5"})
    model = cards.model("tflite")
    assert good(model, "keras")["probabilities"] > 100
    upstream = (assets / path / "model.tflite").stat().st_size
    assert model.path.stat().st_size == pytest.approx(upstream, rel=0.05)


def test_tflite_to_onnx_frees_the_batch(made, cards: Cards):
    """The zoo's file is fixed at one item, and its ONNX twin came from torch: another way to the
    same numbers."""
    shutil.copy(ZOO / "digits_cnn.tflite", cards.root)
    cards.card([8, 8, 1], {"logits": 10}, "NHWC", tflite={"path": "digits_cnn.tflite"})
    model = cards.model("onnx")
    assert good(model, "tflite")["logits"] > 100
    got = run_onnx(model, cards.items())["logits"]
    assert got.shape == (20, 10)
    onnxruntime = pytest.importorskip("onnxruntime")
    twin = onnxruntime.InferenceSession(ZOO / "digits_cnn.onnx")
    (exact,) = twin.run(None, {"image": cards.items().transpose(0, 3, 1, 2)})
    np.testing.assert_allclose(got, exact, rtol=1e-4, atol=1e-4)


def test_an_operator_that_tf2onnx_does_not_know_is_named(made, cards: Cards):
    shutil.copy(ZOO / "digits_vit.tflite", cards.root)
    cards.card([32, 32, 1], {"logits": 10}, "NHWC", tflite={"path": "digits_vit.tflite"})
    with pytest.raises(NoSource, match="TFL_GELU") as no:
        cards.model("onnx")
    assert no.value.status == "prepare_failed"


@pytest.mark.parametrize("form", ["tflite", "onnx"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_a_recurrent_keras_network_of_any_batch(made, cards: Cards, kind: str, form: str):
    shutil.copy(made[0] / f"{kind}.keras", cards.root)
    cards.card([6, 4], {"y": 3}, None, keras={"path": f"{kind}.keras"})
    model = cards.model(form)
    assert good(model, "keras")["y"] > 100
    exact = np.load(made[0] / f"{kind}.npy")
    if form == "onnx":
        np.testing.assert_allclose(run_onnx(model, cards.items())["y"], exact, atol=1e-5)
        return
    assert model.conversion and "batch is fixed at 1" in model.conversion["notes"][0]
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    reader = litert.Interpreter(str(model.path))
    reader.allocate_tensors()
    (into,), (out,) = reader.get_input_details(), reader.get_output_details()
    for item, row in zip(cards.items(), exact, strict=True):
        reader.set_tensor(into["index"], item[None])
        reader.invoke()
        np.testing.assert_allclose(reader.get_tensor(out["index"])[0], row, atol=1e-5)


def test_a_keras_model_that_takes_a_dictionary(made, cards: Cards):
    """Of three inputs, by the dictionary's keys, which are not in alphabetical order."""
    shutil.copy(made[0] / "dictionary.keras", cards.root)
    cards.card([4], {"y": 6}, None, keras={"path": "dictionary.keras"})
    path = cards.root / "models" / "net.yaml"
    card = yaml.safe_load(path.read_text())
    (tensor,) = card["inputs"].values()
    card["inputs"] = dict.fromkeys(("types", "mask", "ids"), tensor)
    del card["evaluation"]  # made-up items
    path.write_text(json.dumps(card))
    model = cards.model("onnx")
    assert good(model, "keras")["y"] > 100
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(model.path)
    sizes = {"mask": 1, "ids": 2, "types": 3}
    feed = model.to_source({n: np.full((2, 4), size, np.float32) for n, size in sizes.items()})
    (got,) = session.run(None, feed)
    np.testing.assert_allclose(got, np.load(made[0] / "dictionary.npy"), rtol=1e-5)


def test_a_source_that_keeps_a_state_is_not_converted(made, cards: Cards):
    shutil.copy(made[0] / "stateful.keras", cards.root)
    cards.card([6, 4], {"y": 8}, None, keras={"path": "stateful.keras"})
    with pytest.raises(NoSource, match="other values of 'y' when it runs again") as no:
        cards.model("onnx")
    assert no.value.status == "prepare_failed" and len(no.value.reason) <= 250


# --------------------------------------------------------------------------- torch

NET = """
from torch import nn

def make(channels=16):
    layers = [nn.Conv2d(1, channels, 3, padding=1), nn.ReLU(), nn.Identity()]
    layers += [nn.Conv2d(channels, 32, 3, padding=1), nn.ReLU(), nn.Identity()]
    layers += [nn.Conv2d(32, 32, 3, 2, padding=1), nn.ReLU(), nn.Identity()]
    layers += [nn.Conv2d(32, 64, 3, 2, padding=1), nn.ReLU(), nn.Identity()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(256, 10))
"""


@pytest.fixture
def digits(cards: Cards) -> Cards:
    """The zoo's trained network as a torch module with weights in a file; NHWC in the card."""
    pytest.importorskip("torch", reason="torch is not installed")
    onnx = pytest.importorskip("onnx")
    safetensors = pytest.importorskip("safetensors.numpy")
    tensors = onnx.load(ZOO / "digits_cnn.onnx").graph.initializer
    state = {t.name: onnx.numpy_helper.to_array(t) for t in tensors if "." in t.name}
    safetensors.save_file(state, cards.root / "weights.safetensors")
    (cards.root / "net.py").write_text(NET)
    return cards


def torch_source(**more: Any) -> dict[str, Any]:
    layout = {"image": {"layout": "NCHW"}}
    return {"path": "net.py", "callable": "make", "inputs": layout, **more}


@pytest.mark.parametrize("form", ["onnx", "tflite"])
def test_a_trained_torch_module(digits: Cards, form: str):
    if form == "tflite":
        pytest.importorskip("litert_torch", reason="litert-torch is not installed")
    source = torch_source(weights={"path": "weights.safetensors"})
    digits.card([8, 8, 1], {"logits": 10}, "NHWC", torch=source)
    model = digits.model(form)
    assert good(model, "torch")["logits"] > 100
    if form == "onnx":
        onnxruntime = pytest.importorskip("onnxruntime")
        twin = onnxruntime.InferenceSession(ZOO / "digits_cnn.onnx")
        (exact,) = twin.run(None, {"image": digits.items().transpose(0, 3, 1, 2)})
        got = run_onnx(model, digits.items())["logits"]  # 20 items: the batch is free
        np.testing.assert_allclose(got, exact, rtol=1e-4, atol=1e-4)
    else:
        assert model.source_inputs["image"].layout == "NHWC"  # no transpose inside


FIXED = """
import torch

class Fixed(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8, 3)

    def forward(self, x):
        return self.layer(x.view(1, 8))
"""
RANDOM = """
import torch

class Random(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8, 3)

    def forward(self, x):
        return torch.nn.functional.dropout(self.layer(x), training=True)
"""


def test_a_torch_module_that_is_fixed_at_one_item(cards: Cards):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    (cards.root / "net.py").write_text(FIXED)
    cards.card([2, 4], {"y": 3}, None, torch={"path": "net.py", "callable": "Fixed"})
    model = cards.model("onnx")
    assert good(model, "torch")["y"] > 100
    assert model.conversion and "batch is fixed at 1" in model.conversion["notes"][0]
    torch.manual_seed(0)
    layer = torch.nn.Linear(8, 3)  # as the module makes it
    for item in cards.items()[:3]:
        exact = layer(torch.from_numpy(item.reshape(1, 8))).detach().numpy()
        got = run_onnx(model, item[None])["y"]
        np.testing.assert_allclose(got, exact, atol=1e-6)


STREAMING = """
import torch

class Streaming(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.cells = torch.nn.GRU(8, 4, num_layers=2, batch_first=True)

    def forward(self, x, state, gain):
        y, after = self.cells(x[:, None] * gain, state)
        return y[:, 0], after
"""


def test_a_torch_module_with_a_state_and_a_scalar(cards: Cards):
    """The batch is axis 1 of the state ``[2, N, 4]``, and no axis of the gain."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    (cards.root / "net.py").write_text(STREAMING)
    cards.card([8], {"y": 4}, None, torch={"path": "net.py", "callable": "Streaming"})
    path = cards.root / "models" / "net.yaml"
    card = yaml.safe_load(path.read_text())
    state = {"dtype": "float32", "shape": [2, "N", 4]}
    (image,) = card["inputs"].values()
    card["inputs"] = {"x": image, "state": state, "gain": {"dtype": "float32", "shape": []}}
    card["outputs"]["after"] = state
    del card["evaluation"]
    path.write_text(json.dumps(card))
    model = cards.model("onnx")
    assert min(good(model, "torch").values()) > 100
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(model.path)
    rng = np.random.default_rng(0)
    shapes = {"x": (3, 8), "state": (2, 3, 4), "gain": ()}  # three items: the batch is free
    feed = {n: np.asarray(rng.normal(size=s), np.float32) for n, s in shapes.items()}
    got = session.run(None, model.to_source(feed))
    torch.manual_seed(0)
    cells = torch.nn.GRU(8, 4, num_layers=2, batch_first=True)  # as the module makes it
    x, before, gain = (torch.from_numpy(array) for array in feed.values())
    with torch.no_grad():
        y, after = cells(x[:, None] * gain, before)
    np.testing.assert_allclose(got[0], y[:, 0], atol=1e-5)
    np.testing.assert_allclose(got[1], after, atol=1e-5)


def test_a_torch_module_with_dropout_left_on_is_not_converted(cards: Cards):
    pytest.importorskip("torch", reason="torch is not installed")
    (cards.root / "net.py").write_text(RANDOM)
    cards.card([8], {"y": 3}, None, torch={"path": "net.py", "callable": "Random"})
    with pytest.raises(NoSource, match=r"when it runs again .* it is random") as no:
        cards.model("onnx")
    assert no.value.status == "prepare_failed"


def test_weights_that_could_run_code_are_not_read(digits: Cards):
    torch = pytest.importorskip("torch")
    from qbench.kit.adapter import PrepareError

    load = pytest.importorskip("qbench_torch.load")
    path = digits.root / "weights.pt"

    class Payload:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {digits.root / 'ran'}",)

    torch.save({"0.weight": torch.zeros(1), "payload": Payload()}, path)
    with pytest.raises(PrepareError, match=r"could run code.*safetensors"):
        load.load_weights(path)
    assert not (digits.root / "ran").exists()
    torch.save(torch.nn.Linear(2, 2), path)  # a whole module, pickled
    with pytest.raises(PrepareError, match="could run code"):
        load.load_weights(path)
    torch.save([1, 2], path)
    with pytest.raises(PrepareError, match="no state dictionary"):
        load.load_weights(path)
    path.write_bytes(b"nothing")
    with pytest.raises(PrepareError):
        load.load_weights(path)
    state = torch.nn.Linear(2, 2).state_dict()
    torch.save(state, path)
    assert torch.equal(load.load_weights(path)["weight"], state["weight"])


def test_a_module_that_cannot_be_made_says_what_its_code_said(digits: Cards):
    load = pytest.importorskip("qbench_torch.load")
    from qbench.kit.adapter import PrepareError

    path, weights = digits.root / "net.py", digits.root / "weights.safetensors"
    for name, options, said in (
        ("absent", {}, "has no attribute 'absent'"),
        ("make", {"width": 3}, "unexpected keyword argument 'width'"),
        ("nn", {}, "'module' object is not callable"),
        ("make", {"channels": 8}, "the weights do not fit"),
    ):
        with pytest.raises(PrepareError, match=said):
            load.load_module(path, name, options, weights)
    assert load.load_module(path, "make", {}, weights).training is False
