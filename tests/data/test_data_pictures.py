"""qbench.data.readers: pictures with classes, boxes and masks, and hostile archives."""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_sets import (
    data_card,
    encoded,
    made,
    picture,
    pixels,
    refused,
    write_folder,
    write_zip,
)
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from qbench.data.readers import Reader, open_reader
from qbench.data.readers.pictures import parse_yolo
from qbench.errors import UserError
from qbench.spec.datasets import DatasetCard

SMALL = [{"resize": {"size": [8, 8]}}]
FED = ["N", 8, 8, 3]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def opened(root: Path, card: DatasetCard) -> Reader:
    return open_reader(card, {n: root / str(f.path) for n, f in card.files.items()})


def labels(root: Path, card: DatasetCard, shape: list[Any] = FED, steps: Any = SMALL) -> Any:
    found = made(root, card, shape, steps)
    assert found.labels is not None
    return np.load(found.labels)


# --------------------------------------------------------------------------- image-folder, -zip

CLASSES = {
    "cat/2.png": picture(9, 7, 1),
    "cat/10.png": picture(9, 7, 2),
    "ant/x.JPG": picture(9, 7, 3, "JPEG"),
    "dog/deep/y.png": picture(9, 7, 4),
    "ant/.DS_Store": b"rubbish",
    "readme.txt": b"not a picture",
    "__MACOSX/cat/2.png": b"rubbish",
}


@pytest.mark.parametrize("prefix", ["", "val/"])
@pytest.mark.parametrize("form", ["image-folder", "image-zip"])
def test_sub_folders_are_classes_in_sorted_order(root: Path, form: str, prefix: str):
    files = {prefix + name: content for name, content in CLASSES.items()}
    if form == "image-folder":
        write_folder(root / "images", files)
    else:
        write_zip(root / "images", dict(files))
    found = made(root, data_card(form, {"images": "images"}), ["N", 9, 7, 3])
    assert np.load(str(found.labels)).tolist() == [0, 1, 1, 2]  # ant/x, cat/10, cat/2, dog/deep/y
    assert found.classes == 3
    fed = np.load(found.feeds["image"])
    for row, name in enumerate(["ant/x.JPG", "cat/10.png", "cat/2.png", "dog/deep/y.png"]):
        np.testing.assert_array_equal(fed[row], pixels(CLASSES[name]))


def test_a_count_of_classes_that_does_not_fit_is_refused(root: Path):
    write_folder(root / "images", CLASSES)
    card = data_card("image-folder", {"images": "images"}, classes=4)
    assert "its card says 4 classes, its files hold 3" in refused(root, card, FED, SMALL)
    card = data_card("image-folder", {"images": "images"}, items=5)
    assert "its card says 5 items, its files hold 4" in refused(root, card, FED, SMALL)


def test_pictures_outside_any_class_and_empty_folders_are_refused(root: Path):
    (root / "images").mkdir()
    card = data_card("image-folder", {"images": "images"})
    assert "hold no item" in refused(root, card, FED, SMALL)
    write_folder(root / "images", {"a.png": picture(8, 8), "b/c.png": picture(8, 8)})
    message = refused(root, card, FED, SMALL)
    assert "a.png is not in a sub-folder" in message and "files.labels, a CSV" in message


def test_the_format_says_whether_it_is_a_folder_or_a_zip(root: Path):
    write_folder(root / "images", CLASSES)
    write_zip(root / "images.zip", dict(CLASSES))
    card = data_card("image-zip", {"images": "images"})
    assert "'format: image-folder'" in refused(root, card, FED, SMALL)
    card = data_card("image-folder", {"images": "images.zip"})
    assert "'format: image-zip'" in refused(root, card, FED, SMALL)


TABLE = "name,kind\ncat/10.png,7\nant/x.JPG,0\n"


def table_card(form: str = "image-zip", **more: Any) -> DatasetCard:
    files = {"images": "images.zip" if form == "image-zip" else "images", "labels": "labels.csv"}
    content = {"arrays": {"image": "name"}, "labels": "kind", **more}
    return data_card(form, files, **content)


@pytest.mark.parametrize("form", ["image-folder", "image-zip"])
@pytest.mark.parametrize("text", [TABLE, "\ufeff" + TABLE, TABLE.replace("\n", "\r\n") + "\n"])
def test_a_table_chooses_and_orders_the_pictures(root: Path, form: str, text: str):
    write_folder(root / "images", CLASSES)
    write_zip(root / "images.zip", dict(CLASSES))
    (root / "labels.csv").write_bytes(text.encode())
    found = made(root, table_card(form), ["N", 9, 7, 3])
    assert np.load(str(found.labels)).tolist() == [7, 0]
    fed = np.load(found.feeds["image"])
    np.testing.assert_array_equal(fed[0], pixels(CLASSES["cat/10.png"]))


BAD_TABLES = {
    "no column of names": ("file,kind\na,1\n", ":1: no column 'name'"),
    "no column of labels": ("name,kinds\na,1\n", "Did you mean 'kinds'?"),
    "empty": ("", ":1: no column 'name'"),
    "only a heading": ("name,kind\n", "hold no item"),
    "a short line": (TABLE + "cat/2.png\n", ":4: this line has 1 columns, the heading 2"),
    "a long line": (TABLE + "cat/2.png,1,2\n", ":4: this line has 3 columns, the heading 2"),
    "a label in words": (TABLE + "cat/2.png,cat\n", ":4: label 'cat' is not an integer"),
    "a label of half": (TABLE + "cat/2.png,0.5\n", ":4: label '0.5' is not an integer"),
    "a label beyond": (TABLE + "cat/2.png,9\n", "label 9 is outside 0..8"),
    "a huge label": (TABLE + f"cat/2.png,{10**30}\n", "is outside 0..8"),
    "another picture": (TABLE + "cat/3.png,1\n", ":4: cannot read cat/3.png"),
    "outside": (TABLE + "../secret.png,1\n", ":4: cannot read ../secret.png"),
    "a picture twice": (TABLE + "cat/10.png,1\n", ":4: cat/10.png is already in line 2"),
    "an open quote": (TABLE + '"cat/2.png,1\n', ":4: not a table"),
    "two columns of one name": ("name,kind,kind\n", ":1: two columns have the same name"),
    "a huge field": (TABLE + "a" * 200_000 + ",1\n", ":4: not a table: field larger"),
    "Latin-1": (TABLE.encode() + "caf\xe9.png,1\n".encode("latin-1"), ":4: this is not UTF-8"),
}


@pytest.mark.parametrize("what", BAD_TABLES)
def test_a_bad_table_is_refused_with_its_line(root: Path, what: str):
    text, words = BAD_TABLES[what]
    write_folder(root / "images", CLASSES)
    (root / "secret.png").write_bytes(picture(8, 8))
    (root / "labels.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert words in refused(root, table_card("image-folder", classes=9), FED, SMALL)


def test_damaged_pictures_are_refused_by_name(root: Path):
    jpeg = picture(64, 64, 1, "JPEG")
    png = picture(64, 64, 2)
    for broken in (jpeg[: len(jpeg) // 2], png[:60] + b"\0" * 200, b"<html>not found</html>", b""):
        write_zip(root / "images.zip", {"a/1.png": picture(8, 8), "a/bad.jpg": broken})
        card = data_card("image-zip", {"images": "images.zip"})
        assert "cannot read a/bad.jpg" in refused(root, card, FED, SMALL)


def test_pictures_of_16_bits_are_refused_and_not_cut_to_8(root: Path):
    deep = Image.fromarray(np.full((8, 8), 40_000, np.uint16))
    write_zip(root / "images.zip", {"a/1.png": encoded(deep)})
    card = data_card("image-zip", {"images": "images.zip"})
    assert "a/1.png has more than 8 bits" in refused(root, card, FED, SMALL)


def test_a_picture_that_unpacks_to_too_many_pixels_is_refused(root: Path):
    """A PNG of a few hundred bytes whose heading says 60000 x 60000."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    for side in (10_000, 60_000):  # Pillow only warns of the first
        heading = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
        body = chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
        write_zip(root / "images.zip", {"a/bomb.png": b"\x89PNG\r\n\x1a\n" + heading + body})
        card = data_card("image-zip", {"images": "images.zip"})
        message = refused(root, card, FED, SMALL)
        assert "cannot read a/bomb.png" in message and "decompression bomb" in message


# --------------------------------------------------------------------------- hostile archives


def entry(name: str, mode: int = 0) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


HOSTILE = {
    "upwards": ("../a.png", 0, "points outside the archive"),
    "inside and upwards": ("a/../../a.png", 0, "points outside the archive"),
    "absolute": ("/etc/a.png", 0, "points outside the archive"),
    "a drive": ("C:/a.png", 0, "points outside the archive"),
    "backslashes": ("..\\a.png", 0, "points outside the archive"),
    "a link": ("a/link.png", stat.S_IFLNK | 0o777, "is a symbolic link"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_zip_that_reaches_outside_is_refused(root: Path, what: str):
    name, mode, words = HOSTILE[what]
    write_zip(root / "images.zip", {"a/1.png": picture(8, 8), entry(name, mode): b"/etc/passwd"})
    card = data_card("image-zip", {"images": "images.zip"})
    assert words in refused(root, card, FED, SMALL)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(root: Path):
    write_zip(root / "images.zip", {"a/1.png": bytes(20_000_000)})
    card = data_card("image-zip", {"images": "images.zip"})
    assert "a zip bomb?" in refused(root, card, FED, SMALL)


def test_a_zip_that_lies_about_its_sizes_is_refused(root: Path):
    """The heading says 100 bytes, the data unpack to a million."""
    write_zip(root / "images.zip", {"a/1.png": b"x" * 1_000_000})
    content = (root / "images.zip").read_bytes()
    size = struct.pack("<I", 1_000_000)
    assert content.count(size) == 2
    (root / "images.zip").write_bytes(content.replace(size, struct.pack("<I", 100)))
    card = data_card("image-zip", {"images": "images.zip"})
    assert "cannot read a/1.png" in refused(root, card, FED, SMALL)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_with_one_name_twice_or_no_end_is_refused(root: Path):
    with zipfile.ZipFile(root / "images.zip", "w") as archive:
        for seed in (1, 2):
            archive.writestr("a/1.png", picture(8, 8, seed))
    card = data_card("image-zip", {"images": "images.zip"})
    assert "duplicate entry" in refused(root, card, FED, SMALL)
    (root / "images.zip").write_bytes((root / "images.zip").read_bytes()[:-40])
    assert "images.zip cannot be read as a zip" in refused(root, card, FED, SMALL)


def test_a_link_out_of_a_folder_is_refused(root: Path):
    write_folder(root, {"images/a/1.png": picture(8, 8), "secret.png": picture(8, 8)})
    (root / "images" / "a" / "2.png").symlink_to(root / "secret.png")
    card = data_card("image-folder", {"images": "images"})
    assert "2.png is a link that points out" in refused(root, card, FED, SMALL)
    with pytest.raises(UserError, match=r"2\.png lies outside"):
        opened(root, card).get("image", 1)


# --------------------------------------------------------------------------- YOLO

SCENE = {
    "images/val/1.png": picture(20, 40, 1),
    "images/val/2.png": picture(30, 30, 2),
    "labels/val/1.txt": b"3 0.5 0.5 0.2 0.4\n0 0.1 0.25 0.2 0.5\n",
}
BOXES = [[0, 3, 0.4, 0.3, 0.6, 0.7], [0, 0, 0, 0, 0.2, 0.5]]


@pytest.mark.parametrize("where", ["labels/val/1.txt", "images/val/1.txt"])
@pytest.mark.parametrize("packed", [True, False])
def test_boxes_are_found_and_pictures_without_a_text_have_none(root, where: str, packed: bool):
    files = {**SCENE, where: SCENE["labels/val/1.txt"]}
    if where != "labels/val/1.txt":
        del files["labels/val/1.txt"]
    if packed:
        write_zip(root / "coco", dict(files))
    else:
        write_folder(root / "coco", files)
    card = data_card("yolo", {"images": "coco"}, classes=4)
    found = labels(root, card)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, BOXES, atol=1e-7)


@pytest.mark.parametrize("prefix", ["", "labels/", "labels/val/", "val/"])
def test_boxes_may_lie_in_an_archive_of_their_own(root: Path, prefix: str):
    images = {name: content for name, content in SCENE.items() if "images" in name}
    write_zip(root / "images.zip", dict(images))
    inner = prefix + ("1.txt" if "val" in prefix else "val/1.txt")
    write_zip(root / "labels.zip", {inner: SCENE["labels/val/1.txt"]})
    card = data_card("yolo", {"images": "images.zip", "labels": "labels.zip"})
    np.testing.assert_allclose(labels(root, card), BOXES, atol=1e-7)


def test_a_letterbox_moves_boxes_with_the_picture(root: Path):
    """20x40 into 80x40: enlarged by 1, so 30 empty rows above and below."""
    write_folder(root / "coco", SCENE)
    card = data_card("yolo", {"images": "coco"})
    steps = [{"resize": {"letterbox": [80, 40]}}]
    found = made(root, card, ["N", 80, 40, 3], steps, items="0:1")
    expected = [[0, 3, 0.4, 36 / 80, 0.6, 44 / 80], [0, 0, 0, 30 / 80, 0.2, 40 / 80]]
    np.testing.assert_allclose(np.load(str(found.labels)), expected, atol=1e-7)
    fed = np.load(found.feeds["image"])[0]
    np.testing.assert_array_equal(fed[30:50], pixels(SCENE["images/val/1.png"]))
    assert (fed[:30] == 114).all() and (fed[50:] == 114).all()


def test_a_crop_under_boxes_is_refused(root: Path):
    write_folder(root / "coco", SCENE)
    steps = [{"center_crop": 8}]
    assert "center_crop would cut boxes off" in refused(
        root, data_card("yolo", {"images": "coco"}), FED, steps
    )


def test_a_class_beyond_the_card_and_pictures_without_any_text_are_refused(root: Path):
    write_folder(root / "coco", SCENE)
    card = data_card("yolo", {"images": "coco"}, classes=3)
    message = refused(root, card, FED, SMALL)
    assert "item 0 (images/val/1.png): label 3 is outside 0..2" in message
    (root / "coco/labels/val/1.txt").unlink()
    assert "none of 2 pictures has a text file" in refused(root, card, FED, SMALL)


BAD_LINES = {
    "four values": ("1 0.5 0.5 0.1", "4 values"),
    "a polygon": ("1 0.1 0.1 0.2 0.1 0.2 0.2", "Polygons are not supported"),
    "words": ("cat 0.5 0.5 0.1 0.1", "is not five numbers"),
    "pixels": ("1 320 240 64 48", "divided by the picture's width"),
    "negative": ("1 -0.1 0.5 0.1 0.1", "in 0..1"),
    "no width": ("1 0.5 0.5 0 0.1", "its size is not 0"),
    "not a number": ("1 nan 0.5 0.1 0.1", "in 0..1"),
    "half a class": ("1.5 0.5 0.5 0.1 0.1", "'1.5' is not an integer"),
    "a negative class": ("-1 0.5 0.5 0.1 0.1", "'-1' is not an integer"),
    "an endless class": ("inf 0.5 0.5 0.1 0.1", "'inf' is not an integer"),
}


@pytest.mark.parametrize("what", BAD_LINES)
def test_a_malformed_box_is_refused_with_its_line(what: str):
    line, words = BAD_LINES[what]
    with pytest.raises(UserError) as caught:
        parse_yolo(f"0 0.5 0.5 1 1\n\n{line}\n".encode(), "a.txt")
    assert "a.txt:3: " in str(caught.value) and words in str(caught.value)


@st.composite
def boxes(draw: Any) -> tuple[int, float, float, float, float]:
    share = st.floats(2**-10, 1)
    width, height = draw(share), draw(share)
    cx = draw(st.floats(width / 2, 1 - width / 2))
    cy = draw(st.floats(height / 2, 1 - height / 2))
    return draw(st.integers(0, 999)), cx, cy, width, height


@given(st.lists(boxes()))
def test_boxes_round_trip(found: list[tuple[int, float, float, float, float]]):
    text = "\n".join(" ".join(map(repr, box)) for box in found)
    parsed = parse_yolo(text.encode(), "a.txt")
    assert parsed.shape == (len(found), 5)
    for (kind, cx, cy, width, height), row in zip(found, parsed, strict=True):
        back = [row[0], (row[1] + row[3]) / 2, (row[2] + row[4]) / 2]
        size = [row[3] - row[1], row[4] - row[2]]
        np.testing.assert_allclose([*back, *size], [kind, cx, cy, width, height], atol=1e-6)


@given(st.binary(max_size=80) | st.text("0123456789. -e\nnaif", max_size=80).map(str.encode))
def test_rubbish_is_no_boxes_or_a_users_error(content: bytes):
    try:
        found = parse_yolo(content, "a.txt")
    except UserError:
        return
    assert ((found[:, 1:] >= 0) & (found[:, 1:] <= 1)).all()


# --------------------------------------------------------------------------- segmentation


def mask_png(mask: np.ndarray, palette: bool) -> bytes:
    image = Image.fromarray(mask)
    if palette:
        image = image.convert("P")
        image.putpalette([255 - n // 3 for n in range(768)])
        image = Image.frombytes("P", image.size, mask.tobytes())
        image.putpalette([7 * n % 256 for n in range(768)])
    return encoded(image)


@pytest.mark.parametrize("palette", [True, False])
def test_masks_go_with_their_pictures_through_resize_and_crop(root: Path, palette: bool):
    mask = np.array([[0, 1], [2, 255]], np.uint8).repeat(4, 0).repeat(4, 1)
    write_zip(root / "images.zip", {"a/x.jpg": picture(8, 8, 1, "JPEG")})
    write_folder(root / "masks", {"x.png": mask_png(mask, palette)})
    card = data_card("segmentation", {"images": "images.zip", "masks": "masks"}, classes=3)
    steps = [{"resize": {"size": [4, 4]}}, {"center_crop": 2}]
    found = labels(root, card, ["N", 2, 2, 3], steps)
    assert found.dtype == np.uint8 and found.tolist() == [[[0, 1], [2, 255]]]
    steps = [{"resize": {"letterbox": [8, 12]}}]
    boxed = labels(root, card, ["N", 8, 12, 3], steps)[0]
    np.testing.assert_array_equal(boxed[:, 2:10], mask)
    assert (boxed[:, :2] == 255).all() and (boxed[:, 10:] == 255).all()
    small = card.model_copy(update={"classes": 2})
    assert "label 2 is outside 0..1" in refused(root, small, FED, SMALL)


def test_masks_that_do_not_fit_are_refused(root: Path):
    card = data_card("segmentation", {"images": "images", "masks": "masks"})
    grey = encoded(Image.new("L", (8, 8)))
    write_folder(root / "images", {"x.png": picture(8, 8), "y.png": picture(8, 8)})
    write_folder(root / "masks", {"x.png": grey})
    assert "y.png has no mask y.png" in refused(root, card, FED, SMALL)
    write_folder(root / "masks", {"y.png": encoded(Image.new("L", (8, 9)))})
    assert "its mask is 8x9 pixels, the picture 8x8" in refused(root, card, FED, SMALL)
    write_folder(root / "masks", {"y.png": picture(8, 8)})
    assert "y.png has the mode RGB" in refused(root, card, FED, SMALL)
    write_folder(root / "masks", {"y.png": grey, "b/y.png": grey})
    assert "two masks are called y" in refused(root, card, FED, SMALL)
