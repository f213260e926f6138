"""qbench.data.items: which items are chosen, how they are fed, and that splits are disjoint."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_sets import data_card, made, model_card, picture, pixels, refused, write_zip
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from qbench.data import items as module
from qbench.data.items import Items, make_items
from qbench.errors import UserError
from qbench.spec.datasets import DatasetCard, Split

SHAPE = ["N", 1, 8, 8]


def good() -> dict[str, np.ndarray]:
    images = np.arange(60 * 64, dtype=np.float32).reshape(60, 1, 8, 8)
    return {"images": images, "labels": np.arange(60) % 10}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    np.savez(folder / "blobs.npz", **good())
    return folder


def blobs(**more: Any) -> DatasetCard:
    content = {"arrays": {"image": "images"}, "labels": "labels", "classes": 10, **more}
    return data_card("npz", {"data": "blobs.npz"}, **content)


# --------------------------------------------------------------------------- choosing


@pytest.mark.parametrize(("items", "rows"), [("20:60", slice(20, 60)), (":20", slice(0, 20))])
def test_items_are_the_chosen_ones_with_their_labels(root: Path, items: str, rows: slice):
    found = made(root, blobs(), SHAPE, items=items)
    images = np.load(found.feeds["image"])
    np.testing.assert_array_equal(images, good()["images"][rows])
    assert images.dtype == np.float32 and found.count == len(images)
    assert found.labels is not None and np.load(found.labels).dtype == np.int64
    np.testing.assert_array_equal(np.load(found.labels), good()["labels"][rows])
    assert found.chosen is not None
    np.testing.assert_array_equal(np.load(found.chosen), np.arange(60)[rows])


def test_a_sample_is_the_indices_with_the_smallest_hashes(root: Path):
    found = made(root, blobs(), SHAPE, items="10:60", sample={"count": 12, "seed": 7})
    ranked = sorted((hashlib.sha256(f"7:{i}".encode()).hexdigest(), i) for i in range(10, 60))
    expected = sorted(i for _, i in ranked[:12])
    assert found.chosen is not None and found.labels is not None
    assert np.load(found.chosen).tolist() == expected
    np.testing.assert_array_equal(np.load(found.labels), good()["labels"][expected])
    np.testing.assert_array_equal(np.load(found.feeds["image"]), good()["images"][expected])


@given(st.integers(1, 300), st.integers(-5, 5), st.data())
def test_a_sample_has_no_item_twice_and_lies_in_its_range(total: int, seed: int, data: Any):
    count = data.draw(st.integers(1, total))
    split = Split.model_validate({"dataset": "d", "sample": {"count": count, "seed": seed}})
    chosen = split.choose(total)
    assert len(set(chosen)) == count and chosen == sorted(chosen)
    assert set(chosen) <= set(range(total))


def test_seeds_choose_differently_and_all_items_about_as_often():
    counts = np.zeros(50)
    for seed in range(400):
        split = Split.model_validate({"dataset": "d", "sample": {"count": 10, "seed": seed}})
        counts[split.choose(50)] += 1
    # 400 draws of 10 of 50: a binomial of mean 80 and standard deviation 8
    assert counts.min() > 80 - 5 * 8 and counts.max() < 80 + 5 * 8


def test_two_samples_are_disjoint_where_one_skips_the_other(root: Path):
    whole = made(root, blobs(), SHAPE, sample={"count": 30})
    first = made(root, blobs(), SHAPE, sample={"count": 10})
    rest = made(root, blobs(), SHAPE, sample={"count": 20, "skip": 10})
    chosen = [set(np.load(str(items.chosen)).tolist()) for items in (whole, first, rest)]
    assert not chosen[1] & chosen[2] and chosen[1] | chosen[2] == chosen[0]
    assert first.overlap(rest) == 0
    message = refused(root, blobs(), SHAPE, sample={"count": 51, "skip": 10})
    assert "a sample of 51 after the first 10 cannot be drawn from 60" in message


def test_a_sample_larger_than_its_range_is_refused(root: Path):
    message = refused(root, blobs(), SHAPE, items="50:60", sample={"count": 11})
    assert "a sample of 11 cannot be drawn from 10" in message


def test_choosing_no_item_is_refused(root: Path):
    assert "'60:90' chooses no item of data, which has 60" in refused(
        root, blobs(), SHAPE, items="60:90"
    )


def test_a_data_set_of_no_items_is_refused(root: Path):
    np.savez(root / "blobs.npz", images=np.zeros((0, 1, 8, 8)), labels=np.zeros(0, int))
    assert "hold no item" in refused(root, blobs(), SHAPE)


# --------------------------------------------------------------------------- disjoint splits


def test_splits_of_one_file_overlap_by_item(root: Path):
    first = made(root, blobs(), SHAPE, items="0:30")
    assert first.overlap(made(root, blobs(), SHAPE, items="30:60")) == 0
    assert first.overlap(made(root, blobs(), SHAPE, items="25:60")) == 5


def test_samples_overlap_by_what_they_hold(root: Path):
    one = made(root, blobs(), SHAPE, sample={"count": 30, "seed": 1})
    two = made(root, blobs(), SHAPE, sample={"count": 30, "seed": 2})
    both = set(np.load(str(one.chosen))) & set(np.load(str(two.chosen)))
    assert one.overlap(two) == len(both) > 0
    assert one.overlap(made(root, blobs(), SHAPE, sample={"count": 9, "seed": 1})) == 9


def test_two_cards_of_one_file_overlap_whatever_they_are_called(root: Path):
    other = blobs(labels=None).model_copy(update={"name": "other"})
    (root / "copy.npz").write_bytes((root / "blobs.npz").read_bytes())
    copy = data_card("npz", {"data": "copy.npz"}, arrays={"image": "images"})
    first = made(root, blobs(), SHAPE, items="0:30")
    assert first.overlap(made(root, other, SHAPE, items="29:60")) == 1
    assert first.overlap(made(root, copy, SHAPE, items="28:60")) == 2


def test_two_tables_of_one_archive_overlap_by_picture(root: Path):
    """Row 0 of one table can be the picture of row 2 of the other."""
    names = [f"{n}.png" for n in "abcde"]
    write_zip(root / "images.zip", {name: picture(8, 8, i) for i, name in enumerate(names)})
    (root / "one.csv").write_text("file,label\nc.png,0\na.png,0\n")
    (root / "two.csv").write_text("file,label\nd.png,1\nb.png,0\nc.png,0\n")
    found = [
        made(
            root,
            data_card("image-zip", {"images": "images.zip", "labels": f"{table}.csv"}),
            ["N", 8, 8, 3],
        )
        for table in ("one", "two")
    ]
    assert found[0].overlap(found[1]) == 1


def test_random_inputs_overlap_with_nothing(root: Path):
    drawn = Items({}, None, 3, "digest", random=True)
    assert made(root, blobs(), SHAPE).overlap(drawn) == drawn.overlap(drawn) == 0


# --------------------------------------------------------------------------- the cache


def test_items_are_made_once_and_known_by_what_they_are_made_of(root: Path):
    said: list[str] = []
    first = made(root, blobs(), SHAPE, report=said.append)
    second = made(root, blobs(description="words", licence="CC0-1.0"), SHAPE, report=said.append)
    assert first == second and said == ["preprocessing net's items of data"]
    others = [
        made(root, blobs(), SHAPE, items=":59"),
        made(root, blobs(), SHAPE, [{"scale": 2.0}]),
        made(root, blobs(), SHAPE, sample={"count": 59}),
        made(root, blobs(labels=None), SHAPE),
    ]
    np.savez(root / "blobs.npz", **{**good(), "labels": good()["labels"][::-1]})
    others.append(made(root, blobs(), SHAPE))
    assert len({first.digest, *(items.digest for items in others)}) == 6


def test_the_same_choice_in_other_words_has_the_same_digest(root: Path):
    digests = {made(root, blobs(), SHAPE, items=items).digest for items in (":", "0:", "0:60")}
    assert len(digests) == 1


def test_a_damaged_cache_is_rebuilt(root: Path):
    found = made(root, blobs(), SHAPE)
    found.feeds["image"].write_bytes(b"")
    again = made(root, blobs(), SHAPE)
    np.testing.assert_array_equal(np.load(again.feeds["image"]), good()["images"])


def test_progress_is_reported_and_an_interrupt_leaves_nothing(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "REPORT_EVERY_S", 0.0)
    said: list[str] = []

    def interrupt(text: str) -> None:
        said.append(text)
        if "41 of 60" in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made(root, blobs(), SHAPE, report=interrupt)
    assert said[-1] == "preprocessing data: 41 of 60 items"
    assert not list((tmp_path / "cache").rglob("*.npy"))
    assert made(root, blobs(), SHAPE).count == 60


# --------------------------------------------------------------------------- which array feeds


def test_the_only_array_feeds_the_only_input_whatever_its_name(root: Path):
    found = made(root, blobs(arrays={"picture": "images"}), SHAPE)
    np.testing.assert_array_equal(np.load(found.feeds["image"]), good()["images"])


def test_arrays_need_not_be_listed(root: Path):
    card = data_card("npz", {"data": "blobs.npz"}, labels="labels")
    found = made(root, card, SHAPE)
    np.testing.assert_array_equal(np.load(found.feeds["image"]), good()["images"])


def test_of_several_arrays_the_steps_can_name_one(root: Path):
    np.savez(root / "blobs.npz", **good(), other=np.ones((60, 1, 8, 8)))
    card = blobs(arrays={"first": "images", "second": "other"})
    assert "no array 'image'" in refused(root, card, SHAPE)
    assert "Did you mean 'second'?" in refused(root, card, SHAPE, [{"array": "secnd"}])
    found = made(root, card, SHAPE, [{"array": "second"}])
    assert np.load(found.feeds["image"]).mean() == 1


def test_one_array_does_not_silently_feed_two_inputs(root: Path):
    card = model_card({"left": SHAPE, "right": SHAPE}, {})
    files = {"data": root / "blobs.npz"}
    with pytest.raises(UserError, match="no array 'left' for input 'left'"):
        make_items(card, blobs(), files, Split(dataset="data"), print)


# --------------------------------------------------------------------------- what does not fit

BAD_ARRAYS = {
    "no such array": ({"pictures": np.zeros((60, 1, 8, 8))}, "no array 'images'"),
    "pickled": ({"images": np.array([{}] * 60, dtype=object)}, "not a readable"),
    "too few": ({"images": np.zeros((59, 1, 8, 8)), "labels": np.zeros(59, int)}, "files hold 59"),
    "too few labels": ({"labels": np.zeros(59, int)}, "how many items"),
    "one number": ({"images": np.float32(1)}, "how many items"),
    "labels beyond the classes": ({"labels": np.arange(60) % 11}, "label 10 is outside 0..9"),
    "labels below zero": ({"labels": np.arange(60) - 40}, "label -40 is outside 0..9"),
    "labels between classes": ({"labels": np.arange(60) / 7}, "labels of classes are integers"),
    "labels in words": ({"labels": np.array(["cat"] * 60)}, "labels of classes are integers"),
    "labels of two axes": ({"labels": np.zeros((60, 2), int)}, "labels of classes have 1 axes"),
    "another shape": ({"images": np.zeros((60, 1, 8, 9))}, "gives [1, 8, 9] after"),
    "another rank": ({"images": np.zeros((60, 64))}, "gives [64] after"),
    "words": ({"images": np.array([["a"]] * 60)}, "<U1 is not a numeric type"),
    "complex": ({"images": np.zeros((60, 1, 8, 8), complex)}, "complex128 is not a numeric type"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_ARRAYS)
def test_arrays_that_do_not_fit_are_refused(root: Path, what: str):
    arrays, words = BAD_ARRAYS[what]
    content = {**good(), **arrays}
    if "pictures" in content:
        del content["images"]
    np.savez(root / "blobs.npz", **content)
    assert words in refused(root, blobs(items=60), SHAPE)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_inputs_that_are_no_numbers_are_refused_by_item(root: Path, value: float):
    images = good()["images"].astype(np.float64)
    images[41, 0, 3, 3] = value  # 1e39 is more than float32 holds
    np.savez(root / "blobs.npz", images=images, labels=good()["labels"])
    with np.errstate(over="ignore"):
        assert "item 41: it holds NaN or infinity" in refused(root, blobs(), SHAPE, items="20:60")
    assert made(root, blobs(), SHAPE, items="0:41").count == 41


def test_a_mean_of_the_wrong_length_is_refused(root: Path):
    steps = [{"normalize": {"mean": [1.0, 2.0, 3.0], "std": 1.0}}]
    message = refused(root, blobs(), SHAPE, steps)
    assert "model net, input image, data set data, item 0: normalize: mean has 3" in message


def test_real_numbers_do_not_become_integers_by_themselves(root: Path):
    message = refused(root, blobs(), SHAPE, dtype="uint8")
    assert "takes uint8, but preprocessing ends with float32" in message
    assert "cast: uint8" in message
    message = refused(root, blobs(), SHAPE, [{"cast": "uint8"}], dtype="uint8")
    assert "item 4: uint8 holds 0..255, not 256" in message  # items of 64 values: 0..63, 64..127
    found = made(root, blobs(), SHAPE, [{"cast": "uint8"}], dtype="uint8", items="0:4")
    assert np.load(found.feeds["image"]).dtype == np.uint8


def test_labels_without_a_number_of_classes_are_only_checked_for_their_sign(root: Path):
    np.savez(root / "blobs.npz", images=good()["images"], labels=np.arange(60) * 1000)
    assert made(root, blobs(classes=None), SHAPE).count == 60
    np.savez(root / "blobs.npz", images=good()["images"], labels=np.arange(60) - 1)
    assert "label -1 is outside 0.." in refused(root, blobs(classes=None), SHAPE)


def test_pictures_of_different_sizes_need_a_resize(root: Path):
    files = {"images": "images.zip"}
    write_zip(root / "images.zip", {"a/1.png": picture(9, 8), "b/2.png": picture(8, 9)})
    card = data_card("image-zip", files)
    message = refused(root, card, ["N", "H", "W", 3])
    assert "items of different shapes, [9, 8, 3] and [8, 9, 3]" in message
    found = made(root, card, ["N", 4, 4, 3], [{"resize": {"size": [4, 4]}}])
    assert np.load(found.feeds["image"]).shape == (2, 4, 4, 3)


# --------------------------------------------------------------------------- damaged npz


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_a_truncated_npz_is_refused(root: Path, keep: float):
    content = (root / "blobs.npz").read_bytes()
    end = keep if isinstance(keep, int) else int(keep * len(content))
    (root / "blobs.npz").write_bytes(content[:end])
    assert "not a readable .npz" in refused(root, blobs(), SHAPE)


def test_a_damaged_npz_is_refused_whatever_is_damaged(root: Path):
    path = root / "blobs.npz"
    np.savez_compressed(path, **good())
    content = path.read_bytes()
    rng, seen = np.random.default_rng(4), 0
    for _ in range(60):
        broken = bytearray(content)
        broken[int(rng.integers(len(broken)))] ^= int(rng.integers(1, 256))
        path.write_bytes(broken)
        try:
            made(root, blobs(), SHAPE)
        except UserError:
            seen += 1
    assert seen > 30


def test_an_npy_and_a_heading_of_a_huge_array_are_refused(root: Path):
    with (root / "blobs.npz").open("wb") as file:
        np.save(file, good()["images"])
    assert "not a readable .npz" in refused(root, blobs(), SHAPE)
    heading = b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, "
    heading += b"'shape': (900000000000, 1, 8, 8), }"
    write_zip(root / "blobs.npz", {"images.npy": heading.ljust(127) + b"\n"})
    assert "not a readable .npz" in refused(root, blobs(labels=None), SHAPE)


# --------------------------------------------------------------------------- labels of other kinds


def test_boxes_in_an_npz_follow_the_chosen_items(root: Path):
    boxes = np.array(
        [[0, 3, 0.1, 0.2, 0.3, 0.4], [2, 1, 0, 0, 1, 1], [2, 2, 0.5, 0.5, 0.6, 0.9]], np.float32
    )
    np.savez(root / "blobs.npz", images=good()["images"], boxes=boxes)
    card = blobs(labels="boxes", truth="boxes")
    found = made(root, card, SHAPE, items="1:3")
    assert found.labels is not None
    labels = np.load(found.labels)
    assert labels.dtype == np.float32
    np.testing.assert_allclose(labels, [[1, 1, 0, 0, 1, 1], [1, 2, 0.5, 0.5, 0.6, 0.9]])
    boxes[1, 4] = 640  # in pixels
    np.savez(root / "blobs.npz", images=good()["images"], boxes=boxes)
    assert "item 2: a box is not" in refused(root, card, SHAPE)


def test_scores_belong_to_pairs_of_items(root: Path):
    scores = np.linspace(0, 5, 30, dtype=np.float32)
    np.savez(root / "blobs.npz", images=good()["images"], scores=scores)
    card = blobs(labels="scores", truth="scores")
    found = made(root, card, SHAPE, items="10:20")
    np.testing.assert_array_equal(np.load(str(found.labels)), scores[5:10])
    drawn = made(root, card, SHAPE, sample={"count": 8, "seed": 3})
    chosen = np.load(str(drawn.chosen))
    assert len(chosen) == 8 and (chosen[::2] % 2 == 0).all()
    np.testing.assert_array_equal(chosen[1::2], chosen[::2] + 1)
    np.testing.assert_array_equal(np.load(str(drawn.labels)), scores[chosen[::2] // 2])
    for split in ({"items": "1:20"}, {"items": "0:19"}, {"sample": {"count": 3}}):
        with pytest.raises(UserError, match="must be even"):
            made(root, card, SHAPE, **split)
    scores[7] = np.nan
    np.savez(root / "blobs.npz", images=good()["images"], scores=scores)
    assert "item 14: its score is not a number" in refused(root, card, SHAPE)


# --------------------------------------------------------------------------- cards


TABLE = {"format": "image-zip", "files": {"images": {"path": "a"}, "labels": {"path": "b"}}}
PAIRS = {"format": "tsv", "truth": "scores", "pair": "two"}
YOLO = {"format": "yolo", "files": {"images": {"path": "a"}}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "png"}, "Input should be 'npz'"),
        ({"files": {"images": {"path": "a"}}}, r"format npz needs files \['data'\]"),
        (
            {"format": "yolo", "files": {"images": {"path": "a"}}, "labels": "y"},
            "has its own arrays",
        ),
        ({**YOLO, "truth": "classes"}, "has boxes, no classes"),
        ({"format": "image-zip", "files": {"images": {"path": "a"}}, "labels": "y"}, "is missing"),
        ({"format": "tsv", "truth": "scores"}, "'pair'"),
        ({"pair": "second"}, "'pair'"),
        ({"part": "test"}, "has no 'part'"),
        ({**TABLE, "arrays": {"image": "file", "mask": "mask"}}, "has one array"),
        ({**PAIRS, "arrays": {"text": "one", "other": "two"}}, "there is one array"),
        ({"truth": "masks", "classes": 256}, "at most 255 classes"),
        ({"part_of": {"name": "official"}}, "Field required"),
        ({"items": 0}, "greater than or equal to 1"),
        ({"arrays": {}}, "at least 1 item"),
    ],
)
def test_a_card_that_contradicts_itself_is_refused(change: dict[str, Any], words: str):
    content = {"name": "data", "format": "npz", "files": {"data": {"path": "a"}}, **change}
    with pytest.raises(ValidationError, match=words):
        DatasetCard.model_validate(content)


def test_pictures_become_what_pillow_and_numpy_make_of_them(root: Path):
    from PIL import Image

    contents = {f"{i % 3}/{i}.png": picture(20 + i, 31 - i, i) for i in range(6)}
    contents["0/grey.jpg"] = picture(30, 21, 9, "JPEG", "L")
    write_zip(root / "images.zip", contents)
    steps = [
        {"resize": {"size": [18, 18]}},
        {"center_crop": 16},
        {"normalize": {"mean": [100.0, 110.0, 120.0], "std": [50.0, 60.0, 70.0]}},
        {"layout": "NCHW"},
    ]
    found = made(root, data_card("image-zip", {"images": "images.zip"}), ["N", 3, 16, 16], steps)
    expected = []
    for name in sorted(contents):
        image = Image.fromarray(pixels(contents[name]))
        small = np.asarray(image.resize((18, 18), Image.Resampling.BILINEAR), np.float64)
        scaled = (small[1:17, 1:17] - [100, 110, 120]) / [50, 60, 70]
        expected.append(np.moveaxis(scaled, 2, 0))
    np.testing.assert_allclose(np.load(found.feeds["image"]), expected, rtol=1e-5, atol=1e-6)
    assert np.load(str(found.labels)).tolist() == [0, 0, 0, 1, 1, 2, 2]
