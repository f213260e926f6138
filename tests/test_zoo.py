"""The shipped zoo: its files are what the cards say, and the recipe still runs."""

import hashlib
import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
import yaml
from paths import ROOT

pytestmark = pytest.mark.slow

SUITES = ROOT / "suites"
MODELS = {"digits_cnn": 8, "digits_mobilenet": 96, "digits_vit": 32}  # height and width, pixels
TEST = slice(1347, 1797)

every_model = pytest.mark.parametrize("name", MODELS)


def card(name: str, kind: str = "models") -> dict:
    return yaml.safe_load((SUITES / kind / f"{name}.yaml").read_text())


def digits() -> tuple[np.ndarray, np.ndarray]:
    """images uint8 [1797, 8, 8], labels int64 [1797]."""
    with np.load(SUITES / "zoo" / "digits.npz") as arrays:
        return arrays["images"], arrays["labels"]


def test_items(name: str) -> np.ndarray:
    """float32 [450, 1, size, size] in 0..1, preprocessed here without qbench."""
    from PIL import Image

    size = MODELS[name]
    pictures = [Image.fromarray(image) for image in digits()[0][TEST]]
    if size != 8:
        pictures = [p.resize((size, size), Image.Resampling.BILINEAR) for p in pictures]
    return np.stack([np.asarray(p) for p in pictures])[:, None].astype(np.float32) / 16


test_items.__test__ = False  # a helper, not a test


def run_onnx(name: str, items: np.ndarray) -> np.ndarray:
    onnxruntime = pytest.importorskip("onnxruntime", reason="runs the ONNX form")
    source = card(name)["sources"]["onnx"]
    session = onnxruntime.InferenceSession(SUITES / source["path"])
    output, image = source["outputs"]["logits"]["name"], source["inputs"]["image"]["name"]
    return session.run([output], {image: items})[0]


def run_tflite(name: str, items: np.ndarray) -> np.ndarray:
    """items [n, 1, H, W], through the names and the layout that the card gives."""
    litert = pytest.importorskip("ai_edge_litert.interpreter", reason="runs the TFLite form")
    source = card(name)["sources"]["tflite"]
    assert source["inputs"]["image"]["layout"] == "NHWC"
    interpreter = litert.Interpreter(str(SUITES / source["path"]), num_threads=1)
    interpreter.allocate_tensors()
    inputs = {d["name"]: d["index"] for d in interpreter.get_input_details()}
    outputs = {d["name"]: d["index"] for d in interpreter.get_output_details()}
    logits = []
    for item in items:
        image = np.ascontiguousarray(item.transpose(1, 2, 0)[None])
        interpreter.set_tensor(inputs[source["inputs"]["image"]["name"]], image)
        interpreter.invoke()
        logits.append(interpreter.get_tensor(outputs[source["outputs"]["logits"]["name"]])[0])
    return np.stack(logits)


# --- what is shipped ---


@every_model
def test_both_forms_of_a_model_agree(name):
    items = test_items(name)
    reference = run_onnx(name, items).astype(np.float64)
    noise = run_tflite(name, items) - reference
    assert reference.shape == (450, 10)
    assert 10 * np.log10(np.mean(reference**2) / np.mean(noise**2)) >= 100


@every_model
def test_the_accuracy_of_the_card_is_measured_again(name):
    correct = run_onnx(name, test_items(name)).argmax(1) == digits()[1][TEST]
    expected = card(name)["expected"]
    assert expected["items"] == len(correct) == 450
    assert abs(correct.mean() - expected["value"]) < 0.5 / 450
    assert expected["value"] >= 0.97


@every_model
def test_the_steps_of_the_card_give_the_items(name):
    from pydantic import TypeAdapter

    from qbench.data.apply import apply
    from qbench.spec.preprocess import Steps

    steps = TypeAdapter(Steps).validate_python(card(name)["preprocess"]["image"])
    item = apply(steps, digits()[0][TEST.start])
    assert item.dtype == np.float32
    np.testing.assert_array_equal(item, test_items(name)[0])
    assert card(name)["inputs"]["image"]["shape"] == ["N", *item.shape]


@every_model
def test_onnx_takes_any_batch(name):
    items = test_items(name)[:5]
    one_by_one = np.concatenate([run_onnx(name, item[None]) for item in items])
    np.testing.assert_allclose(run_onnx(name, items), one_by_one, atol=1e-4)


def test_digests_match_and_the_models_are_small():
    sources = [source for name in MODELS for source in card(name)["sources"].values()]
    assert len(sources) == 6
    for file in [*sources, *card("digits", "datasets")["files"].values()]:
        content = (SUITES / file["path"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == file["sha256"], file["path"]
    assert sum((SUITES / source["path"]).stat().st_size for source in sources) < 5_000_000


@every_model
def test_no_path_of_a_machine_is_shipped(name):
    for source in card(name)["sources"].values():
        content = (SUITES / source["path"]).read_bytes()
        assert not any(word in content for word in (b"site-packages", b"train.py", b"/home/"))


def test_the_data_is_what_its_card_says():
    images, labels = digits()
    about = card("digits", "datasets")
    assert len(images) == len(labels) == about["items"] == 1797
    assert images.dtype == np.uint8 and (images.min(), images.max()) == (0, 16)
    assert images.shape[1:] == (8, 8)
    assert labels.dtype == np.int64 and set(labels) == set(range(about["classes"]))


def test_the_data_is_a_permutation_of_scikit_learns():
    datasets = pytest.importorskip("sklearn.datasets", reason="compares with load_digits")
    rows = {(image.tobytes(), label) for image, label in zip(*digits(), strict=True)}
    original = datasets.load_digits()
    assert rows == {
        (image.astype(np.uint8).tobytes(), label)
        for image, label in zip(original.images, original.target, strict=True)
    }


# --- the recipe ---


def run_recipe(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(SUITES / "zoo" / "train.py"), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def need_the_recipes_packages() -> None:
    pytest.importorskip("torch", reason="the recipe trains in torch")
    for name in ("onnx", "onnxscript", "onnxruntime", "litert_torch", "ai_edge_litert", "sklearn"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"the recipe needs {name}")


def load_recipe(monkeypatch: pytest.MonkeyPatch):
    """suites/zoo/train.py as a module; `suites` is no package."""
    need_the_recipes_packages()
    monkeypatch.syspath_prepend(SUITES / "zoo")
    spec = importlib.util.spec_from_file_location("zoo_train", SUITES / "zoo" / "train.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "zoo_train", module)
    spec.loader.exec_module(module)
    return module


def test_the_recipe_still_runs(tmp_path):
    need_the_recipes_packages()
    done = run_recipe("--model", "digits_cnn", "--steps", "1", "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr

    made = yaml.safe_load((tmp_path / "models" / "digits_cnn.yaml").read_text())
    shipped = card("digits_cnn")
    assert made.keys() == shipped.keys()
    for form, source in made["sources"].items():
        digest = hashlib.sha256((tmp_path / source["path"]).read_bytes()).hexdigest()
        assert digest == source["sha256"] != shipped["sources"][form]["sha256"]
        assert source["inputs"] == shipped["sources"][form]["inputs"]
        assert source["outputs"] == shipped["sources"][form]["outputs"]
    with np.load(tmp_path / "zoo" / "digits.npz") as rebuilt:
        np.testing.assert_array_equal(rebuilt["images"], digits()[0])
        np.testing.assert_array_equal(rebuilt["labels"], digits()[1])


def test_a_trial_may_not_overwrite_the_shipped_models():
    need_the_recipes_packages()
    before = card("digits_cnn")
    done = run_recipe("--model", "digits_cnn", "--steps", "1")
    assert done.returncode == 2
    assert "give --output" in done.stderr
    assert card("digits_cnn") == before


def test_forms_that_disagree_are_refused_and_leave_no_file(tmp_path, monkeypatch):
    recipe = load_recipe(monkeypatch)
    honest = recipe.run_tflite

    def a_little_wrong(path, items):
        logits, *names = honest(path, items)
        return logits * np.float32(1.001), *names  # 60 dB

    monkeypatch.setattr(recipe, "run_tflite", a_little_wrong)
    images, labels = digits()
    with pytest.raises(recipe.RecipeError, match=r"digits_cnn: .* agree to 60\.0 dB only, 100 dB"):
        recipe.make_model("digits_cnn", images, labels, steps=1, output=tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_sqnr_by_hand(monkeypatch):
    recipe = load_recipe(monkeypatch)
    reference = np.array([[3.0, 4.0]], np.float32)
    assert recipe.sqnr_db(reference, reference) == np.inf
    assert recipe.sqnr_db(reference, np.array([[3.0, 4.5]])) == pytest.approx(20.0)  # 25 / 0.25
    broken = np.full((1, 2), np.nan)
    with pytest.raises(recipe.RecipeError):
        recipe.require_agreement("broken", reference, broken)
