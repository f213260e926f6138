"""``qbench run --model FILE --data FOLDER|NPZ``: data without a card."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_sets import picture, pixels, write_folder
from PIL import Image

from qbench.data.items import Items, make_items
from qbench.errors import UserError
from qbench.run.sources.own_data import open_data
from qbench.spec.models import ModelCard
from qbench.spec.suite import suites_dir

IMAGE = {"image": {"dtype": "float32", "shape": ["N", 3, 6, 4]}}
MEAN, STD = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])


def card(
    inputs: dict[str, Any] = IMAGE,
    classes: int = 2,
    preprocess: dict[str, Any] | None = None,
    **outputs: Any,
) -> ModelCard:
    scores = {"dtype": "float32", "shape": ["N", classes]}
    return ModelCard.model_validate(
        {
            "name": "net",
            "task": "unknown",
            "inputs": inputs,
            "outputs": outputs or {"scores": scores},
            "sources": {"onnx": {"path": "net.onnx"}},
            "preprocess": preprocess or {},
        }
    )


def fit(
    path: Path, model: ModelCard, scaling: str | None = None, **quantized: bool
) -> tuple[ModelCard, Items, Items, list[str]]:
    """The card with the data, its items for calibration and evaluation, and what the user reads."""
    data = open_data(path, list(model.inputs))
    fitted, notes = data.fitted(model, scaling, quantized)
    files = {name: data.folder / str(file.path) for name, file in data.card.files.items()}
    calibration, evaluation = (
        make_items(fitted, data.card, files, split, lambda text: None)
        for split in (fitted.calibration, fitted.evaluation)
        if split is not None
    )
    return fitted, calibration, evaluation, notes


def by_file(items: Items, name: str, files: list[bytes]) -> dict[int, np.ndarray]:
    """The arrays of an input, by position of the picture among ``files``."""
    assert items.chosen is not None
    return dict(zip(np.load(items.chosen), np.load(items.feeds[name]), strict=True))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Ten pictures of cats and dogs, 9 x 7 pixels."""
    files = {f"{'cat' if i < 4 else 'dog'}/{i}.png": picture(9, 7, seed=i) for i in range(10)}
    write_folder(tmp_path / "photos", files)
    return tmp_path / "photos"


def test_a_sub_folder_for_each_class(photos: Path):
    fitted, calibration, evaluation, notes = fit(photos, card(), "imagenet")
    files = [(p.parent.name, p.read_bytes()) for p in sorted(photos.rglob("*.png"))]
    made = by_file(evaluation, "image", files) | by_file(calibration, "image", files)
    assert (calibration.count, evaluation.count, len(made)) == (5, 5, 10)  # no item twice
    for index, (_, content) in enumerate(files):
        resized = Image.fromarray(pixels(content)).resize((4, 6), Image.Resampling.BILINEAR)
        expected = ((np.asarray(resized) - MEAN) / STD).transpose(2, 0, 1)
        np.testing.assert_allclose(made[index], expected, atol=1e-5)
    chosen = np.load(evaluation.chosen)
    assert np.load(evaluation.labels).tolist() == [files[i][0] == "dog" for i in chosen]
    assert fitted.task == "image-classification" and fitted.inputs["image"].layout == "NCHW"
    assert any("0 cat, 1 dog" in note for note in notes)
    assert any("5 of 10 items for calibration, 5 others" in note for note in notes)


def test_calibration_takes_no_more_than_quantizers_use(tmp_path: Path):
    np.savez(tmp_path / "many.npz", x=np.zeros((250, 6, 4, 3), np.uint8), y=np.arange(250) % 2)
    _, calibration, evaluation, _ = fit(tmp_path / "many.npz", card(), "none")
    assert (calibration.count, evaluation.count) == (100, 150)
    assert calibration.overlap(evaluation) == 0


def test_a_table_of_labels(photos: Path):
    names = [f"dog/{i}.png" for i in (9, 8, 7, 6)]
    rows = [f"{name},{label}" for label, name in enumerate(names)]
    (photos / "labels.csv").write_text("\n".join(["file,label", *rows]))
    fitted, _, evaluation, _ = fit(photos, card(classes=5), "0-1")
    assert np.load(evaluation.labels).tolist() == np.load(evaluation.chosen).tolist()
    assert fitted.task == "image-classification"


def test_pictures_without_classes_show_fidelity_only(photos: Path):
    fitted, _, evaluation, _ = fit(photos / "dog", card(), "none")
    assert evaluation.labels is None and fitted.task == "unknown" and evaluation.count == 3


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_arrays_of_grey_pictures(tmp_path: Path, layout: str):
    x = np.random.default_rng(0).integers(0, 256, (6, 8, 8), np.uint8)
    np.savez(tmp_path / "d.npz", x=x, y=np.arange(6)[:, None])
    shape = ["N", 1, 8, 8] if layout == "NCHW" else ["N", 8, 8, 1]
    model = card({"pixels": {"dtype": "float32", "shape": shape}}, classes=6)
    fitted, _, evaluation, _ = fit(tmp_path / "d.npz", model, "0-1")
    chosen = np.load(evaluation.chosen)
    expected = (x[chosen] / 255)[:, None] if layout == "NCHW" else (x[chosen] / 255)[..., None]
    np.testing.assert_allclose(np.load(evaluation.feeds["pixels"]), expected, rtol=1e-6)
    assert np.load(evaluation.labels).tolist() == chosen.tolist()
    assert fitted.inputs["pixels"].layout == layout


def test_arrays_by_input_are_taken_as_they_are(tmp_path: Path):
    ids = np.arange(12).reshape(4, 3)
    features = np.linspace(-1, 1, 8, dtype=np.float32).reshape(4, 2)
    np.savez(tmp_path / "d.npz", ids=ids, features=features, labels=np.array([0, 2, 1, 0]))
    inputs = {
        "features": {"dtype": "float32", "shape": ["N", 2]},
        "ids": {"dtype": "int64", "shape": ["N", 3]},
    }
    _, calibration, evaluation, _ = fit(tmp_path / "d.npz", card(inputs, classes=3))
    for items in (calibration, evaluation):
        chosen = np.load(items.chosen)
        np.testing.assert_array_equal(np.load(items.feeds["ids"]), ids[chosen])
        np.testing.assert_array_equal(np.load(items.feeds["features"]), features[chosen])
        np.testing.assert_array_equal(np.load(items.labels), np.array([0, 2, 1, 0])[chosen])


def test_bytes_take_pixels_as_they_are_and_quantized_inputs_real_values(photos: Path):
    model = card({"image": {"dtype": "uint8", "shape": ["N", 9, 7, 3]}})
    fitted, _, evaluation, _ = fit(photos, model)
    files = [p.read_bytes() for p in sorted(photos.rglob("*.png"))]
    for index, item in by_file(evaluation, "image", files).items():
        np.testing.assert_array_equal(item, pixels(files[index]))
    assert fitted.inputs["image"].dtype == "uint8"
    small = card({"image": {"dtype": "int8", "shape": ["N", 9, 7, 3]}})
    fitted, _, evaluation, _ = fit(photos, small, "0-1", image=True)
    assert fitted.inputs["image"].dtype == "float32"  # the adapter quantizes by the file's scale
    for index, item in by_file(evaluation, "image", files).items():
        np.testing.assert_allclose(item, pixels(files[index]) / 255, rtol=1e-6)


def test_a_card_keeps_its_preprocess(photos: Path):
    steps = [{"resize": {"size": [6, 4]}}, {"color": "bgr"}, {"layout": "NCHW"}]
    model = card(preprocess={"image": steps})
    fitted, _, evaluation, _ = fit(photos, model)
    assert fitted.preprocess == model.preprocess
    files = [p.read_bytes() for p in sorted(photos.rglob("*.png"))]
    for index, item in by_file(evaluation, "image", files).items():
        resized = Image.fromarray(pixels(files[index])).resize((4, 6), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(item, np.asarray(resized)[..., ::-1].transpose(2, 0, 1))
    with pytest.raises(UserError, match="has its own preprocess"):
        fit(photos, model, "0-1")


def test_which_output_holds_the_scores_is_said(photos: Path):
    outputs = {
        "features": {"dtype": "float32", "shape": ["N", 7, 7, 64]},
        "logits": {"dtype": "float32", "shape": ["N", 3, 1, 1]},
    }
    fitted, _, _, notes = fit(photos, card(**outputs), "0-1")
    assert next(iter(fitted.outputs)) == "logits"  # the first is what top1 uses
    (said,) = [note for note in notes if "top1 is of output 'logits', 3 classes" in note]
    assert "write 'background: 1' in a card" in said
    fitted, _, _, notes = fit(photos, card(features=outputs["features"]), "0-1")
    assert fitted.task == "unknown" and any("are not used" in note for note in notes)


def test_numbers_as_names_of_classes_are_sorted_as_text_and_said(tmp_path: Path):
    names = [str(number) for number in range(1, 11)]
    write_folder(tmp_path / "digits", {f"{n}/a.png": picture(6, 4) for n in names})
    fitted, _, _, notes = fit(tmp_path / "digits", card(classes=10), "0-1")
    assert any("'1' is class 0: if its number is meant, give a CSV" in note for note in notes)
    assert fitted.task == "image-classification"


SQUARE = {"image": {"dtype": "float32", "shape": ["N", 3, 6, 3]}}
INT8 = {"image": {"dtype": "int8", "shape": ["N", 3, 6, 4]}}
TWO = {**IMAGE, "mask": {"dtype": "float32", "shape": ["N", 4]}}
GREY = {"image": {"dtype": "float32", "shape": ["N", 1, 6, 4]}}


@pytest.mark.parametrize(
    ("where", "inputs", "scaling", "said"),
    [
        ("photos", IMAGE, None, "Add --preprocess imagenet .*0-1 .* or none"),
        ("photos", INT8, "0-1", "no scale that its file says"),
        ("photos", SQUARE, "0-1", "which axis holds the colours is not evident"),
        ("photos", GREY, "imagenet", "for three colours"),
        ("photos", TWO, "0-1", "the model has 2 inputs"),
        ("photos", {"x": {"dtype": "float32", "shape": ["N", 72]}}, "0-1", "does not take items"),
        ("photos", {"ids": {"dtype": "int64", "shape": ["N", 3, 6, 4]}}, None, "takes no pictures"),
        ("photos/cat", IMAGE, "0-1", "one sub-folder"),
        ("none", IMAGE, "0-1", "there is no"),
        ("float.npz", IMAGE, "0-1", "no pixels .*Leave out --preprocess"),
        ("float.npz", TWO, None, "no array for input 'image'"),
        ("one.npz", IMAGE, None, "has 1 items; two or more"),
        ("broken.npz", IMAGE, None, "not a readable .npz"),
    ],
)
def test_nothing_is_guessed(
    photos: Path, where: str, inputs: dict[str, Any], scaling: str | None, said: str
):
    folder = photos.parent
    (photos / "cat" / "all").mkdir()
    for path in photos.glob("cat/*.png"):
        if where == "photos/cat":
            path.rename(path.parent / "all" / path.name)
    np.savez(folder / "float.npz", x=np.zeros((4, 3, 6, 4), np.float32))
    np.savez(folder / "one.npz", x=np.zeros((1, 3, 6, 4), np.float32))
    (folder / "broken.npz").write_bytes(b"PK")
    with pytest.raises(UserError) as caught:
        fit(folder / where, card(inputs), scaling)
    text = str(caught.value).replace(str(folder), "").replace("\n", " ")
    assert len(caught.value.message.replace(str(folder), "")) <= 200
    assert re.search(said, text), text


@pytest.mark.slow
def test_a_file_and_its_card_reach_the_same_accuracy(project):
    pytest.importorskip("onnxruntime")
    zoo = suites_dir() / "zoo"
    for name in ("digits_cnn.onnx", "digits.npz"):
        (project.root / name).write_bytes((zoo / name).read_bytes())
    arguments = ("--backend", "onnxruntime", "--precision", "fp32", "--precision", "int8-static")
    own = ("--model", "digits_cnn.onnx", "--data", "digits.npz", "--preprocess", "none")
    by_file = project.cases(project.run_json(*own, *arguments, "--rounds", "1")["bundle"])
    split = {"dataset": "digits"}
    by_hand = {
        "name": "own",
        "task": "image-classification",
        "inputs": {"image": {"dtype": "float32", "shape": ["N", 1, 8, 8], "layout": "NCHW"}},
        "outputs": {"logits": {"dtype": "float32", "shape": ["N", 10]}},
        "sources": {"onnx": {"path": "digits_cnn.onnx"}},
        "preprocess": {"image": [{"layout": "NCHW"}, {"cast": "float32"}]},
        "calibration": {**split, "sample": {"count": 100}},
        "evaluation": {**split, "sample": {"count": 1697, "skip": 100}},
    }
    project.write("models/own.yaml", by_hand)
    run = ("--model", "models/own.yaml", *arguments, "--rounds", "1")
    by_card = project.cases(project.run_json(*run)["bundle"])
    assert [c["status"] for c in by_file] == ["ok", "ok"]
    for ours, theirs in zip(by_file, by_card, strict=True):
        assert ours["outputs_digest"] == theirs["outputs_digest"]
        assert ours["accuracy"] == theirs["accuracy"] > 0.5
    assert by_file[0]["accuracy_data"] == "digits: 1697 items"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--data", "blobs.npz", "--inputs", "blobs.npz"], "exclude each other"),
        (["--preprocess", "0-1"], "is for the pixels of --data"),
        (["--data", "blobs.npz", "--preprocess", "imagnet"], "Did you mean 'imagenet'?"),
    ],
)
def test_options_that_do_not_go_together(project, args: list[str], said: str):
    done = project.qbench("run", "--model", "net.fake", *args)
    assert done.returncode == 2 and said in done.stderr
    assert project.qbench("run", "small", "--data", "blobs.npz").returncode == 2


@pytest.mark.slow
def test_a_card_runs_on_other_data(project):
    """``net`` is right on all blobs, of which this is every second one."""
    with np.load(project.root / "blobs.npz") as blobs:
        other = {"image": blobs["images"][::2], "y": blobs["labels"][::2]}
    np.savez(project.root / "other.npz", **other)
    answer = project.run_json(
        "--model", "models/net.yaml", "--data", "other.npz", "-b", "fake", "--rounds", "1"
    )
    cases = {case["precision"]: case for case in project.cases(answer["bundle"])}
    assert cases["fp32"]["accuracy_data"] == "other: 15 items"
    assert cases["fp32"]["accuracy"] == 1.0
