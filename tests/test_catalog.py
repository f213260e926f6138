"""qbench.catalog: where files come from, and what is refused of cards and data."""

from __future__ import annotations

import csv
import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from qbench.catalog import Catalog
from qbench.data.items import Items
from qbench.errors import UserError
from qbench.files import SourceFile

CONTENT = b"weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Site:
    """A small web site that counts what it is asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.short: set[str] = set()
        self.asked: list[str] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append(self.path)
                body = site.files.get(self.path)
                if body is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if self.path in site.short else body)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def downloads(folder: Path) -> list[Path]:
    return [p for p in (folder / "cache").rglob("*") if p.is_file()]


def refused(action: Any, *args: Any) -> str:
    with pytest.raises(UserError) as caught:
        action(*args)
    return str(caught.value)


# --------------------------------------------------------------------------- where files are


def test_the_cards_folder_comes_before_assets_and_assets_before_the_web(
    tmp_path, monkeypatch, site: Site
):
    root, assets = tmp_path / "root", tmp_path / "assets"
    for folder in (root, assets):
        (folder / "sub").mkdir(parents=True)
        (folder / "sub" / "net.bin").write_bytes(CONTENT)
    site.files["/net.bin"] = CONTENT
    monkeypatch.setenv("QBENCH_ASSETS", str(assets))
    file = SourceFile(path="sub/net.bin", url=f"{site.url}/net.bin", sha256=SHA256)
    catalog = Catalog([root])
    assert catalog.locate(file, root) == root / "sub" / "net.bin"
    (root / "sub" / "net.bin").unlink()
    assert catalog.locate(file, root) == assets / "sub" / "net.bin"
    assert site.asked == []
    (assets / "sub" / "net.bin").unlink()
    fetched = catalog.locate(file, root)
    assert tmp_path / "cache" in fetched.parents
    assert fetched.read_bytes() == CONTENT
    assert site.asked == ["/net.bin"]


def test_what_has_been_downloaded_is_not_downloaded_again(tmp_path, site: Site):
    site.files["/net.bin"] = CONTENT
    file = SourceFile(url=f"{site.url}/net.bin", sha256=SHA256)
    said: list[str] = []
    first = Catalog([tmp_path], said.append).locate(file, tmp_path)
    assert said == [f"downloading {site.url}/net.bin"]
    assert Catalog([tmp_path], said.append).locate(file, tmp_path) == first
    assert len(site.asked) == len(said) == 1
    first.write_bytes(b"damaged")
    assert Catalog([tmp_path]).locate(file, tmp_path).read_bytes() == CONTENT
    assert len(site.asked) == 2


def test_two_files_of_one_name_do_not_meet_in_the_cache(tmp_path, site: Site):
    site.files = {"/a/model.onnx": b"one", "/b/model.onnx": b"two"}
    for path, body in site.files.items():
        file = SourceFile(url=site.url + path, sha256=hashlib.sha256(body).hexdigest())
        assert Catalog([tmp_path]).locate(file, tmp_path).read_bytes() == body


def test_a_download_that_is_another_file_is_refused_and_not_kept(tmp_path, site: Site):
    site.files["/net.bin"] = b"something else"
    file = SourceFile(url=f"{site.url}/net.bin", sha256=SHA256)
    message = refused(Catalog([tmp_path]).locate, file, tmp_path)
    assert SHA256 in message and site.url in message
    assert downloads(tmp_path) == []


def test_a_download_that_ends_half_way_leaves_nothing_and_can_be_repeated(tmp_path, site: Site):
    site.files["/net.bin"] = CONTENT
    site.short.add("/net.bin")
    file = SourceFile(path="net.bin", url=f"{site.url}/net.bin", sha256=SHA256)
    message = refused(Catalog([tmp_path]).locate, file, tmp_path)
    assert "cannot download" in message and "QBENCH_ASSETS" in message
    assert downloads(tmp_path) == []
    site.short.clear()
    assert Catalog([tmp_path]).locate(file, tmp_path).read_bytes() == CONTENT


def test_a_site_without_the_file_or_without_an_answer_is_a_users_error(tmp_path, site: Site):
    for url in (f"{site.url}/none", "http://127.0.0.1:9/closed", "http://[broken/"):
        file = SourceFile(path="net.bin", url=url, sha256=SHA256)
        message = refused(Catalog([tmp_path]).locate, file, tmp_path)
        assert url in message and "Put the file at net.bin" in message
    assert downloads(tmp_path) == []


def test_a_file_with_another_digest_is_refused_where_it_lies(tmp_path, monkeypatch):
    monkeypatch.delenv("QBENCH_ASSETS", raising=False)
    (tmp_path / "net.bin").write_bytes(b"other")
    file = SourceFile(path="net.bin", sha256=SHA256)
    message = refused(Catalog([tmp_path]).locate, file, tmp_path)
    assert str(tmp_path / "net.bin") in message
    assert SHA256 in message and hashlib.sha256(b"other").hexdigest() in message


def test_a_missing_file_says_where_it_was_looked_for(tmp_path, monkeypatch):
    file = SourceFile(path="sub/net.bin")
    monkeypatch.delenv("QBENCH_ASSETS", raising=False)
    message = refused(Catalog([tmp_path]).locate, file, tmp_path)
    assert "sub/net.bin" in message and str(tmp_path) in message and "not set" in message
    monkeypatch.setenv("QBENCH_ASSETS", str(tmp_path / "elsewhere"))
    assert str(tmp_path / "elsewhere") in refused(Catalog([tmp_path]).locate, file, tmp_path)


# --------------------------------------------------------------------------- cards


def model_card(project, change: Any) -> Catalog:
    """The project's card of ``net`` as ``change`` leaves it."""
    path = project.root / "models" / "net.yaml"
    card = yaml.safe_load(path.read_text())
    change(card)
    project.write("models/net.yaml", yaml.safe_dump(card, sort_keys=False))
    return Catalog([project.root])


BAD_FILES = {
    "an absolute path": {"path": "/etc/passwd"},
    "a path upwards": {"path": "../net.fake"},
    "a path up and down": {"path": "a/../../net.fake"},
    "a backslash": {"path": "..\\net.fake"},
    "a url without its digest": {"path": None, "url": "http://127.0.0.1/net"},
    "a file url": {"url": "file:///etc/passwd", "sha256": SHA256},
    "neither path nor url": {"path": None},
    "a digest in capitals": {"sha256": SHA256.upper()},
    "a short digest": {"sha256": SHA256[:-1]},
}


@pytest.mark.parametrize("what", BAD_FILES)
def test_a_card_cannot_name_a_file_outside_or_unverified(project, what: str):
    def change(card: dict[str, Any]) -> None:
        source = card["sources"]["fake"]
        source.update(BAD_FILES[what])
        card["sources"]["fake"] = {k: v for k, v in source.items() if v is not None}

    message = refused(model_card(project, change).card, "net")
    assert "net.yaml:" in message and "sources.fake" in message


def line_of(path: Path, words: str) -> int:
    return next(n for n, line in enumerate(path.read_text().splitlines(), 1) if words in line)


@pytest.mark.parametrize("items", ["0:21", "19:30", ":", "19:", "20:21"])
def test_items_that_are_both_calibrated_and_evaluated_on_are_refused(project, items: str):
    def change(card: dict[str, Any]) -> None:
        card["calibration"]["items"] = items

    catalog = model_card(project, change)
    message = refused(catalog.items, catalog.card("net"), "calibration")
    line = line_of(project.root / "models" / "net.yaml", "calibration:")
    both = len(
        set(range(60)[slice(*(int(n) if n else None for n in items.split(":")))])
        & set(range(20, 60))
    )
    assert f"net.yaml:{line}: {both} items are both" in message


def test_neighbouring_items_are_disjoint(project):
    assert Catalog([project.root]).card("net").evaluation.range(60) == range(20, 60)


def test_items_without_quotes_are_not_taken_for_minutes(project):
    """YAML 1.1 reads 20:50 as 1250, a number to the base of 60."""
    path = project.root / "models" / "net.yaml"
    text = path.read_text()
    assert "items: 20:60" in text or "items: '20:60'" in text
    path.write_text(text.replace("items: 20:60", "items: 20:50").replace("'20:60'", "20:50"))
    assert Catalog([project.root]).card("net").evaluation.range(60) == range(20, 50)


@pytest.mark.parametrize("items", ["1250", "-5:", "a:b", "1:2:3", "10", ""])
def test_items_in_another_form_are_refused_with_their_line(project, items: str):
    def change(card: dict[str, Any]) -> None:
        card["evaluation"] = {"dataset": "blobs", "items": items}

    message = refused(model_card(project, change).card, "net")
    line = line_of(project.root / "models" / "net.yaml", "evaluation:") + 2
    assert f"net.yaml:{line}: evaluation.items" in message


def test_names_of_cards_are_checked(project):
    assert "Did you mean 'net'?" in refused(Catalog([project.root]).card, "nte")
    assert "Did you mean 'blobs'?" in refused(Catalog([project.root]).dataset, "blob")

    def other_data(card: dict[str, Any]) -> None:
        card["evaluation"]["dataset"] = "blob"

    message = refused(model_card(project, other_data).card, "net")
    assert "unknown data set 'blob'" in message and "Did you mean 'blobs'?" in message

    def other_name(card: dict[str, Any]) -> None:
        card["evaluation"]["dataset"] = "blobs"
        card["name"] = "ten"

    message = refused(model_card(project, other_name).card, "net")
    line = line_of(project.root / "models" / "net.yaml", "name: ten")
    assert f"net.yaml:{line}: " in message and "calls itself 'ten'" in message


def test_a_card_beside_the_suite_comes_before_a_shipped_one(project, tmp_path):
    other = tmp_path / "other"
    (other / "models").mkdir(parents=True)
    text = (project.root / "models" / "net.yaml").read_text()
    (other / "models" / "net.yaml").write_text(text + "description: mine\n")
    (other / "datasets").mkdir()
    assert Catalog([other, project.root]).card("net").description == "mine"
    assert Catalog([project.root, other]).card("net").description == ""


# --------------------------------------------------------------------------- items of an .npz


def good_arrays() -> dict[str, np.ndarray]:
    images = np.arange(60 * 64, dtype=np.float32).reshape(60, 1, 8, 8)
    return {"images": images, "labels": np.arange(60) % 10}


def items_of(project, split: str = "evaluation") -> Items:
    catalog = Catalog([project.root])
    items = catalog.items(catalog.card("net"), split)
    assert items is not None
    return items


def test_items_are_the_chosen_ones_with_their_labels(project):
    np.savez(project.root / "blobs.npz", **good_arrays())
    for split, rows in (("evaluation", slice(20, 60)), ("calibration", slice(0, 20))):
        items = items_of(project, split)
        images = np.load(items.feeds["image"])
        np.testing.assert_array_equal(images, good_arrays()["images"][rows])
        assert images.dtype == np.float32 and items.count == len(images)
        np.testing.assert_array_equal(np.load(items.labels), good_arrays()["labels"][rows])


def test_items_are_made_once(project):
    said: list[str] = []
    for _ in range(2):
        catalog = Catalog([project.root], said.append)
        items = catalog.items(catalog.card("net"), "evaluation")
    assert len(said) == 1 and "preprocessing" in said[0]
    path = items.feeds["image"]
    path.chmod(0o644)
    np.save(path, np.zeros((3, 1, 8, 8), np.float32))  # to see that it is read, not made
    assert items_of(project).count == 3


def test_other_data_other_steps_and_other_items_are_other_items(project):
    first = items_of(project).digest
    np.savez(project.root / "blobs.npz", **good_arrays())
    second = items_of(project).digest

    def steps(card: dict[str, Any]) -> None:
        card["preprocess"] = {"image": [{"normalize": {"mean": 0, "std": 16}}]}

    model_card(project, steps)
    third = items_of(project)
    np.testing.assert_allclose(
        np.load(third.feeds["image"]), good_arrays()["images"][20:] / 16, rtol=1e-6
    )

    def fewer(card: dict[str, Any]) -> None:
        card["evaluation"]["items"] = "20:59"

    model_card(project, fewer)
    digests = {first, second, third.digest, items_of(project).digest}
    assert len(digests) == 4


def change_data(project, **changes: Any) -> None:
    path = project.root / "datasets" / "blobs.yaml"
    project.write("datasets/blobs.yaml", {**yaml.safe_load(path.read_text()), **changes})


BAD_ARRAYS = {
    "no such array": ({"pictures": np.zeros((60, 1, 8, 8))}, "no array 'images'"),
    "pickled": ({"images": np.array([{}] * 60, dtype=object)}, "not a readable"),
    "too few": ({"images": np.zeros((59, 1, 8, 8)), "labels": np.zeros(59, int)}, "files hold 59"),
    "too few labels": ({"labels": np.zeros(59, int)}, "how many items"),
    "one number": ({"images": np.float32(1)}, "how many items"),
    "labels beyond the classes": ({"labels": np.arange(60) % 11}, "label 10 is outside 0..9"),
    "labels below zero": ({"labels": np.arange(60) - 40}, "label -20 is outside 0..9"),
    "labels between classes": ({"labels": np.arange(60) / 7}, "labels are integers"),
    "labels in words": ({"labels": np.array(["cat"] * 60)}, "labels are integers"),
    "another shape": ({"images": np.zeros((60, 1, 8, 9))}, "gives [1, 8, 9] after"),
    "another rank": ({"images": np.zeros((60, 64))}, "gives [64] after"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_ARRAYS)
def test_arrays_that_do_not_fit_are_refused_and_nothing_is_cached(project, what: str):
    arrays, words = BAD_ARRAYS[what]
    content = {**good_arrays(), **arrays}
    if "pictures" in content:
        del content["images"]
    np.savez(project.root / "blobs.npz", **content)
    message = refused(items_of, project)
    assert words in message
    assert not list((project.root.parent / "cache").rglob("*.npy"))


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_a_truncated_npz_is_refused(project, keep: float):
    content = (project.root / "blobs.npz").read_bytes()
    end = keep if isinstance(keep, int) else int(keep * len(content))
    (project.root / "blobs.npz").write_bytes(content[:end])
    assert "not a readable .npz" in refused(items_of, project)


def test_a_damaged_npz_is_refused_whatever_is_damaged(project):
    path = project.root / "blobs.npz"
    np.savez_compressed(path, **good_arrays())
    content = path.read_bytes()
    rng, seen = np.random.default_rng(4), 0
    for _ in range(60):
        broken = bytearray(content)
        place = int(rng.integers(len(broken)))
        broken[place] ^= int(rng.integers(1, 256))
        path.write_bytes(broken)
        try:
            items_of(project)
        except UserError:
            seen += 1
    assert seen > 30


def test_an_npy_in_place_of_an_npz_is_refused(project):
    with (project.root / "blobs.npz").open("wb") as file:
        np.save(file, good_arrays()["images"])
    assert "not a readable .npz" in refused(items_of, project)


def test_choosing_no_item_is_refused(project):
    def change(card: dict[str, Any]) -> None:
        card["evaluation"]["items"] = "60:90"

    model_card(project, change)
    assert "chooses no item of blobs, which has 60" in refused(items_of, project)


def test_an_input_that_the_data_set_does_not_have_is_refused(project):
    change_data(project, arrays={"picture": "images"})
    message = refused(items_of, project)
    assert "nothing for input 'image'" in message and "picture" in message


# --------------------------------------------------------------------------- pictures in a zip


class Pictures:
    """A project whose data are twelve PNG and JPEG pictures of different sizes."""

    def __init__(self, project: Any) -> None:
        self.project = project
        self.files: dict[str, bytes] = {}
        rng = np.random.default_rng(8)
        for index in range(12):
            height, width = 20 + index, 31 - index
            noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            buffer = io.BytesIO()
            form = "PNG" if index % 2 else "JPEG"
            mode = "L" if index == 3 else "RGB"
            Image.fromarray(noise).convert(mode).save(buffer, form)
            self.files[f"pictures/{index}.{form.lower()}"] = buffer.getvalue()
        self.rows = [{"file": name, "class": str(i % 3)} for i, name in enumerate(self.files)]
        project.write(
            "datasets/pictures.yaml",
            {
                "name": "pictures",
                "licence": "CC0-1.0",
                "format": "image-zip",
                "files": {"images": {"path": "pictures.zip"}, "labels": {"path": "pictures.csv"}},
                "arrays": {"image": "file"},
                "labels": "class",
                "items": 12,
                "classes": 3,
            },
        )

        def change(card: dict[str, Any]) -> None:
            card["inputs"]["image"]["shape"] = ["N", 3, 16, 16]
            card["preprocess"] = {
                "image": [
                    {"resize": {"size": [18, 18]}},
                    {"center_crop": 16},
                    {"normalize": {"mean": [100.0, 110.0, 120.0], "std": [50.0, 60.0, 70.0]}},
                    {"layout": "NCHW"},
                ]
            }
            card["evaluation"] = {"dataset": "pictures", "items": "2:12"}
            card["calibration"] = {"dataset": "pictures", "items": "0:2"}

        self.change = change
        model_card(project, change)

    def write(self) -> None:
        root = self.project.root
        with zipfile.ZipFile(root / "pictures.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in self.files.items():
                archive.writestr(name, content)
        with (root / "pictures.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(self.rows[0]))
            writer.writeheader()
            writer.writerows(self.rows)

    def refusal(self) -> str:
        self.write()
        return refused(items_of, self.project)


@pytest.fixture
def pictures(project) -> Pictures:
    return Pictures(project)


def test_pictures_become_what_pillow_and_numpy_make_of_them(pictures: Pictures):
    pictures.write()
    items = items_of(pictures.project)
    expected = []
    for content in list(pictures.files.values())[2:]:
        picture = Image.open(io.BytesIO(content)).convert("RGB")
        small = np.asarray(picture.resize((18, 18), Image.Resampling.BILINEAR), np.float64)
        scaled = (small[1:17, 1:17] - [100, 110, 120]) / [50, 60, 70]
        expected.append(np.moveaxis(scaled, 2, 0))
    found = np.load(items.feeds["image"])
    assert found.shape == (10, 3, 16, 16) and found.dtype == np.float32
    np.testing.assert_allclose(found, np.stack(expected), rtol=1e-5, atol=1e-6)
    assert np.load(items.labels).tolist() == [2, 0, 1, 2, 0, 1, 2, 0, 1, 2]


def test_a_cut_jpeg_and_a_damaged_png_are_refused_by_name(pictures: Pictures):
    names = list(pictures.files)
    whole = dict(pictures.files)
    pictures.files[names[4]] = whole[names[4]][: len(whole[names[4]]) // 2]
    assert f"cannot read {names[4]}" in pictures.refusal()
    pictures.files = {**whole, names[5]: whole[names[5]][:60] + b"\0" * 200}
    assert f"cannot read {names[5]}" in pictures.refusal()
    pictures.files = {**whole, names[6]: b"<html>not found</html>"}
    assert f"cannot read {names[6]}" in pictures.refusal()


def test_a_picture_that_is_not_in_the_zip_is_refused_by_name(pictures: Pictures):
    pictures.rows[7]["file"] = "pictures/none.png"
    assert "cannot read pictures/none.png" in pictures.refusal()


def test_a_table_without_its_columns_is_refused(pictures: Pictures):
    pictures.rows = [{"files": r["file"], "class": r["class"]} for r in pictures.rows]
    message = pictures.refusal()
    assert "no column 'file'" in message and "Did you mean 'files'?" in message
    pictures.rows = [{"file": r["files"], "label": r["class"]} for r in pictures.rows]
    assert "no column 'class'" in pictures.refusal()
    pictures.write()
    (pictures.project.root / "pictures.csv").write_text("")
    assert "no column 'file'" in refused(items_of, pictures.project)


def test_a_label_that_is_no_integer_is_shown_with_its_line(pictures: Pictures):
    pictures.rows[5]["class"] = "cat"
    assert "label 'cat' in line 7 is no integer" in pictures.refusal()  # line 1 is the heading
    pictures.rows[5]["class"] = "3"
    assert "label 3 is outside 0..2" in pictures.refusal()
    pictures.write()
    table = pictures.project.root / "pictures.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines[:-1], lines[-1].partition(",")[0]]))
    assert "in line 13 is no integer" in refused(items_of, pictures.project)


def test_a_wrong_number_of_pictures_is_refused(pictures: Pictures):
    pictures.rows.pop()
    assert "12 items, its files hold 11" in pictures.refusal()


def test_a_zip_that_is_none_is_refused(pictures: Pictures):
    pictures.write()
    path = pictures.project.root / "pictures.zip"
    path.write_bytes(path.read_bytes()[:-40])
    assert "pictures cannot be read" in refused(items_of, pictures.project)


def test_pictures_of_different_sizes_need_a_resize(pictures: Pictures):
    def change(card: dict[str, Any]) -> None:
        card["inputs"]["image"].update(shape=["N", "H", "W", 3], layout="NHWC")
        card["preprocess"] = {"image": [{"cast": "float32"}]}

    model_card(pictures.project, change)
    assert "items of different shapes, [22, 29, 3] and [23, 28, 3]" in pictures.refusal()


def test_a_step_that_does_not_fit_is_refused_with_its_model(pictures: Pictures):
    def change(card: dict[str, Any]) -> None:
        card["preprocess"]["image"] = [{"center_crop": 64}]

    model_card(pictures.project, change)
    message = pictures.refusal()
    assert "model net, input image, data set pictures: center_crop to 64x64" in message


def test_pictures_have_one_column_of_names(pictures: Pictures):
    path = pictures.project.root / "datasets" / "pictures.yaml"
    card = yaml.safe_load(path.read_text())
    card["arrays"]["mask"] = "mask"
    pictures.project.write("datasets/pictures.yaml", card)
    assert "has one array" in pictures.refusal()
