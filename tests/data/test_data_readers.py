"""qbench.data.readers: CIFAR-10, MNIST and TSV files, round trip and damaged; shipped cards."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_sets import (
    data_card,
    made,
    picture,
    refused,
    write_folder,
)
from hypothesis import given
from hypothesis import strategies as st
from paths import ROOT

from qbench.data.readers import Reader, open_reader
from qbench.data.readers import arrays as arrays_module
from qbench.data.readers.arrays import read_idx
from qbench.errors import UserError
from qbench.spec.datasets import DatasetCard


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def opened(root: Path, card: DatasetCard) -> Reader:
    return open_reader(card, {n: root / str(f.path) for n, f in card.files.items()})


# --------------------------------------------------------------------------- CIFAR-10


def cifar(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, bytes]:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    kinds = rng.integers(0, 10, count, dtype=np.uint8)
    planes = (image.transpose(2, 0, 1).tobytes() for image in images)
    packed = b"".join(bytes([kind]) + plane for kind, plane in zip(kinds, planes, strict=True))
    return images, kinds, packed


BATCHES = {
    "data_batch_1.bin": cifar(3, 1),
    "data_batch_2.bin": cifar(2, 2),
    "test_batch.bin": cifar(4, 3),
}
RAW = ["N", 32, 32, 3]


def write_tar(path: Path, files: dict[str, bytes], **kind: Any) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in kind.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize("packed", [True, False])
def test_cifar_by_its_parts(root: Path, packed: bool):
    contents = {f"cifar-10-batches-bin/{name}": batch[2] for name, batch in BATCHES.items()}
    contents["cifar-10-batches-bin/batches.meta.txt"] = b"airplane\n"
    if packed:
        write_tar(root / "cifar.tar.gz", contents)
    else:
        write_folder(root / "cifar.tar.gz", contents)
    files = {"data": "cifar.tar.gz"}
    test = made(root, data_card("cifar10", files, part="test"), RAW, dtype="uint8")
    np.testing.assert_array_equal(np.load(test.feeds["image"]), BATCHES["test_batch.bin"][0])
    np.testing.assert_array_equal(np.load(str(test.labels)), BATCHES["test_batch.bin"][1])
    train = made(root, data_card("cifar10", files, part="train"), RAW, dtype="uint8")
    both = [BATCHES[f"data_batch_{n}.bin"] for n in (1, 2)]
    np.testing.assert_array_equal(
        np.load(train.feeds["image"]), np.concatenate([batch[0] for batch in both])
    )
    assert train.overlap(test) == 0
    assert "Add 'part: test'" in refused(root, data_card("cifar10", files), RAW, dtype="uint8")


def test_one_file_of_cifar_needs_no_part(root: Path):
    images, kinds, content = BATCHES["test_batch.bin"]
    (root / "test_batch.bin").write_bytes(content)
    card = data_card("cifar10", {"data": "test_batch.bin"})
    found = made(root, card, RAW, dtype="uint8", items="1:3")
    np.testing.assert_array_equal(np.load(found.feeds["image"]), images[1:3])
    np.testing.assert_array_equal(np.load(str(found.labels)), kinds[1:3])


class Evil:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path(tempfile.gettempdir()) / "unpickled",))


def test_pickled_cifar_is_refused_and_not_unpickled(root: Path, tmp_path: Path):
    bad = pickle.dumps({"data": Evil()})
    (root / "data_batch_1").write_bytes(bad)
    message = refused(root, data_card("cifar10", {"data": "data_batch_1"}), RAW)
    assert "cifar-10-binary.tar.gz" in message and "pickled" in message
    write_tar(root / "python.tar.gz", {"cifar-10-batches-py/test_batch": bad})
    card = data_card("cifar10", {"data": "python.tar.gz"}, part="test")
    assert "only the binary version" in refused(root, card, RAW)
    assert not (tmp_path / "tmp" / "unpickled").exists()


HOSTILE_TARS = {
    "upwards": ("../test_batch.bin", {}),
    "absolute": ("/tmp/test_batch.bin", {}),
    "a link": ("test_batch.bin", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd", "size": 0}),
    "a hard link": ("test_batch.bin", {"type": tarfile.LNKTYPE, "linkname": "x", "size": 0}),
    "a device": ("test_batch.bin", {"type": tarfile.CHRTYPE, "size": 0}),
}


@pytest.mark.parametrize("what", HOSTILE_TARS)
def test_a_tar_that_reaches_outside_is_refused(root: Path, what: str):
    name, kind = HOSTILE_TARS[what]
    write_tar(root / "cifar.tar.gz", {name: BATCHES["test_batch.bin"][2]}, **kind)
    card = data_card("cifar10", {"data": "cifar.tar.gz"}, part="test")
    assert "is a link, a device, or points outside" in refused(root, card, RAW)


def test_cifar_of_the_wrong_size_is_refused(root: Path):
    content = BATCHES["test_batch.bin"][2]
    card = data_card("cifar10", {"data": "a.bin"})
    for wrong in (content[:-1], b"", b"x", content + b"x"):
        (root / "a.bin").write_bytes(wrong)
        assert f"has {len(wrong)} bytes" in refused(root, card, RAW)
    (root / "a.bin").write_bytes(b"\x0a" + content[1:])
    assert "item 0: label 10 is outside 0..9" in refused(root, card, RAW)
    with (root / "a.bin").open("wb") as file:
        file.truncate(3073 * 10_001)
    assert "larger than any" in refused(root, card, RAW)
    write_tar(root / "cifar.tar.gz", {"test_batch.bin": content})
    packed = (root / "cifar.tar.gz").read_bytes()
    card = data_card("cifar10", {"data": "cifar.tar.gz"}, part="test")
    for end in (0, 5, len(packed) // 2):
        (root / "cifar.tar.gz").write_bytes(packed[:end])
        assert "cannot be read as a tar archive" in refused(root, card, RAW)


@given(st.binary(max_size=200))
def test_rubbish_in_place_of_cifar_is_a_users_error(content: bytes):
    with tempfile.TemporaryDirectory() as folder:
        for name, part in (("a.bin", None), ("a.tar.gz", "test")):
            (Path(folder) / name).write_bytes(content)
            with pytest.raises(UserError):
                opened(Path(folder), data_card("cifar10", {"data": name}, part=part))


# --------------------------------------------------------------------------- MNIST


def idx(array: np.ndarray) -> bytes:
    sizes = b"".join(struct.pack(">I", n) for n in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=3).flatmap(
        lambda shape: st.tuples(
            st.just(shape), st.binary(min_size=int(np.prod(shape)), max_size=int(np.prod(shape)))
        )
    ),
    st.booleans(),
)
def test_idx_round_trips_packed_or_not(content: tuple[list[int], bytes], packed: bool):
    shape, data = content
    array = np.frombuffer(data, np.uint8).reshape(shape)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(gzip.compress(idx(array)) if packed else idx(array))
        np.testing.assert_array_equal(read_idx(path, axes=len(shape)), array)
        with pytest.raises(UserError):
            read_idx(path, axes=len(shape) + 1)


@given(
    st.binary(max_size=60), st.sampled_from([b"", b"\0\0\x08\x01", b"\0\0\x08\x03", b"\x1f\x8b"])
)
def test_rubbish_is_no_idx(content: bytes, start: bytes):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(start + content)
        for axes in (1, 3):
            try:
                found = read_idx(path, axes)
            except UserError:
                continue
            assert idx(found) == start + content


def test_mnist_with_its_labels(root: Path):
    images = np.random.default_rng(1).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    kinds = np.array([3, 1, 4, 1, 5], np.uint8)
    (root / "images.gz").write_bytes(gzip.compress(idx(images)))
    (root / "labels").write_bytes(idx(kinds))
    card = data_card("mnist", {"images": "images.gz", "labels": "labels"}, classes=10)
    found = made(root, card, ["N", 1, 28, 28], [{"layout": "NCHW"}])
    np.testing.assert_array_equal(np.load(found.feeds["image"])[:, 0], images)
    assert np.load(str(found.labels)).tolist() == kinds.tolist()
    (root / "labels").write_bytes(idx(kinds[:4]))
    assert "5 images, but 4 labels" in refused(root, card, ["N", 28, 28])


def test_idx_that_is_cut_off_too_long_or_promises_too_much_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "file"
    whole = idx(np.zeros((5, 4, 4), np.uint8))
    for wrong, words in (
        (whole[:-1], "says 80 bytes of data, but it holds 79"),
        (whole + b"x", "says 80 bytes of data, but it holds more"),
        (whole[:3], "not an IDX file"),
        (bytes([0, 0, 8, 3]) + b"\xff" * 12, "over 1000000000"),
        (bytes([0, 0, 13, 3]) + whole[4:], "not an IDX file of unsigned bytes"),
        (gzip.compress(whole)[:-12], "cannot read"),
    ):
        path.write_bytes(wrong)
        with pytest.raises(UserError, match=words):
            read_idx(path, axes=3)
    monkeypatch.setattr(arrays_module, "MAX_IDX_BYTES", 79)
    path.write_bytes(whole)
    with pytest.raises(UserError, match="over 79"):
        read_idx(path, axes=3)


# --------------------------------------------------------------------------- TSV

COLUMN = st.text(st.characters(codec="utf-8", exclude_characters="\t\r\n"), max_size=20)


@given(st.lists(st.tuples(COLUMN, st.integers(0, 9)), min_size=1, max_size=10))
def test_a_tsv_round_trips_quotes_and_all(rows: list[tuple[str, int]]):
    with tempfile.TemporaryDirectory() as folder:
        text = "".join(f"{sentence}\t{label}\n" for sentence, label in rows)
        (Path(folder) / "a.tsv").write_bytes(f"text\tlabel\n{text}".encode())
        reader = opened(Path(folder), data_card("tsv", {"data": "a.tsv"}, labels="label"))
        assert [(reader.get("text", i), reader.label(i)) for i in range(len(reader))] == rows


@given(st.binary(max_size=100) | st.text('a\t\n\r"', max_size=50).map(str.encode))
def test_rubbish_in_place_of_a_tsv_is_a_users_error(content: bytes):
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a.tsv").write_bytes(b"text\tlabel\n" + content)
        try:
            reader = opened(Path(folder), data_card("tsv", {"data": "a.tsv"}, labels="label"))
            for index in range(len(reader)):
                assert isinstance(reader.label(index), int)
        except UserError:
            pass


def test_a_tsv_that_does_not_fit_is_refused_with_its_line(root: Path):
    card = data_card("tsv", {"data": "a.tsv"}, arrays={"text": "sentence"}, labels="label")
    for text, words in (
        ("text\tlabel\n", ":1: no column 'sentence'"),
        ("sentence\tlable\n", "Did you mean 'lable'?"),
        ("sentence\tlabel\na\t1\nb\n", ":3: this line has 1 columns, the heading 2"),
        ("sentence\tlabel\na\t1\nb\tgood\n", ":3: label 'good' is not an integer"),
    ):
        (root / "a.tsv").write_text(text)
        with pytest.raises(UserError) as caught:
            reader = opened(root, card)
            _ = [reader.label(i) for i in range(len(reader))]
        assert words in str(caught.value)
    (root / "a.tsv").write_bytes(b"sentence\tlabel\na\t1\n\xff\t0\n")
    assert ":3: this is not UTF-8" in refused(root, card, ["N", 4])


def test_pairs_of_texts_are_two_items_with_one_score(root: Path):
    (root / "a.tsv").write_text("one\ttwo\tscore\na b\tc\t4.5\nd\te\t0\n")
    card = data_card(
        "tsv", {"data": "a.tsv"}, truth="scores", arrays={"text": "one"}, pair="two", labels="score"
    )
    reader = opened(root, card)
    assert [reader.get("text", i) for i in range(len(reader))] == ["a b", "c", "d", "e"]
    assert [reader.label(i) for i in (0, 2)] == [4.5, 0]
    (root / "a.tsv").write_text("one\ttwo\tscore\na\tb\tnan\n")
    with pytest.raises(UserError, match="score 'nan' is not a number"):
        opened(root, card).label(0)


# --------------------------------------------------------------------------- shipped cards


def test_every_shipped_card_loads_and_fits_its_files(assets: Path):
    from qbench.run.sources.catalog import Catalog

    suites = ROOT / "suites"
    catalog = Catalog([suites])
    for path in sorted((suites / "datasets").glob("*.yaml")):
        if path.stem == "imagenet":
            continue  # its users bring it
        card, files = catalog.data(path.stem)
        with open_reader(card, files) as reader:
            assert len(reader) == card.items
            assert card.part_of is None or len(reader) <= card.part_of.items
            assert reader.get(reader.arrays[0], len(reader) - 1) is not None


def test_boxes_of_coco_are_what_its_own_texts_say(assets: Path):
    from qbench.run.sources.catalog import Catalog

    suites = ROOT / "suites"
    card, _ = Catalog([suites]).data("coco_val128")
    found = made(assets, card, ["N", 32, 32, 3], [{"resize": {"size": [32, 32]}}])
    with zipfile.ZipFile(assets / str(card.files["images"].path)) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
        expected = []
        for place, name in enumerate(names):
            text = archive.read(name.replace("images", "labels").replace(".jpg", ".txt")).decode()
            for line in text.splitlines():
                kind, cx, cy, width, height = map(float, line.split())
                corners = [cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2]
                expected.append([place, kind, *corners])
    np.testing.assert_allclose(np.load(str(found.labels)), expected, atol=2e-6)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([[0, 1, 0.1, 0.1, 0.2, 0.2], [2, 1, 0.1, 0.1, 0.2, 0.2]], "box 1 belongs to item 2"),
        ([[0.5, 1, 0.1, 0.1, 0.2, 0.2]], "box 0 belongs to item 0.5"),
        ([[-1, 1, 0.1, 0.1, 0.2, 0.2]], "box 0 belongs to item -1"),
        ([[0, 1, 0.1, 0.1, 0.2]], "6 columns"),
    ],
)
def test_boxes_of_items_that_are_not_there_are_refused(tmp_path: Path, rows: Any, said: str):
    images = np.zeros((2, 4, 4, 3), np.float32)
    np.savez(tmp_path / "data.npz", image=images, boxes=np.array(rows, np.float32))
    data = data_card(
        "npz", {"data": "data.npz"}, arrays={"image": "image"}, labels="boxes", truth="boxes"
    )
    with pytest.raises(UserError, match=said):
        made(tmp_path, data, ["N", 4, 4, 3])


# --------------------------------------------------------------------------- raw records


def record_files(count: int) -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    return {
        f"tst_{n:06}_Word_{n % 3}.bin": rng.integers(-128, 128, 6, dtype=np.int8).tobytes()
        for n in range(count)
    }


RECORD = {"dtype": "int8", "shape": [3, 2], "label": "_([0-9]+)[.]bin$"}


def test_records_are_numbers_with_the_class_in_the_name(root: Path):
    files = record_files(5)
    write_folder(root / "set", {**files, "y_labels.csv": b"tst_000000_Word_0.bin,3,0\n"})
    found = made(root, data_card("records", {"data": "set"}, record=RECORD), [1, 3, 2])
    numbers = [np.frombuffer(content, np.int8).reshape(3, 2) for content in files.values()]
    np.testing.assert_array_equal(np.load(found.feeds["image"]), numbers)
    assert np.load(str(found.labels)).tolist() == [0, 1, 2, 0, 1]


def test_records_of_more_than_a_byte_are_little_endian(root: Path):
    (root / "set").mkdir()
    (root / "set" / "a.bin").write_bytes(bytes([1, 2, 0xFF, 0xFF]))
    record = {"dtype": "int16", "shape": [2]}
    card = data_card("records", {"data": "set"}, record=record, truth="none")
    found = made(root, card, [1, 2])
    assert np.load(found.feeds["image"]).tolist() == [[0x0201, -1]]
    assert found.labels is None


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"shape": [3, 3]}, "takes 9"),
        ({"label": "_([A-Z][a-z]+)_"}, "its class 'Word' is not an integer"),
        ({"label": "nothing([0-9])"}, "its files hold no item"),
    ],
)
def test_records_that_do_not_fit_are_named(root: Path, record: dict[str, Any], said: str):
    write_folder(root / "set", record_files(2))
    card = data_card("records", {"data": "set"}, record={**RECORD, **record})
    assert said in refused(root, card, [1, 3, 2])


@pytest.mark.parametrize("label", ["[0-9]", "(a)(b)", "("])
def test_an_expression_without_one_group_is_refused(label: str):
    with pytest.raises(ValueError, match="expression"):
        data_card("records", {"data": "set"}, record={**RECORD, "label": label})


# --------------------------------------------------------------------------- selected items


@pytest.mark.parametrize(
    ("select", "chosen"), [("::2", [0, 2, 4]), ("1:4", [1, 2, 3]), (":3:2", [0, 2]), ("4:", [4])]
)
def test_select_chooses_items_like_a_slice(root: Path, select: str, chosen: list[int]):
    files = record_files(5)
    write_folder(root / "set", files)
    card = data_card("records", {"data": "set"}, record=RECORD, select=select, items=len(chosen))
    found = made(root, card, [1, 3, 2])
    numbers = [np.frombuffer(content, np.int8).reshape(3, 2) for content in files.values()]
    np.testing.assert_array_equal(
        np.load(found.feeds["image"]), [numbers[index] for index in chosen]
    )
    assert np.load(str(found.labels)).tolist() == [index % 3 for index in chosen]


def test_items_in_another_form_have_the_same_digest_and_other_ones_another(root: Path):
    files = record_files(6)
    write_folder(root / "set", files)
    numbers = [np.frombuffer(content, np.int8).reshape(3, 2) for content in files.values()]
    np.savez(root / "set.npz", image=numbers[::2], y=np.array([0, 2, 1], np.uint8))
    digests = []
    for select in ("::2", "1::2"):
        card = data_card("records", {"data": "set"}, record=RECORD, select=select)
        digests.append(made(root, card, [1, 3, 2]).digest)
    card = data_card("npz", {"data": "set.npz"}, labels="y")
    assert made(root, card, [1, 3, 2]).digest == digests[0] != digests[1]


def test_a_selection_knows_where_its_items_come_from(root: Path):
    """Calibration and evaluation that take the same items by different rules are found out."""
    write_folder(root / "set", record_files(6))
    halves = [
        made(root, data_card("records", {"data": "set"}, record=RECORD, select=s), [1, 3, 2])
        for s in ("::2", "1::2", "2:4")
    ]
    assert halves[0].overlap(halves[1]) == 0
    assert halves[0].overlap(halves[2]) == halves[1].overlap(halves[2]) == 1


def test_pairs_cannot_be_selected():
    with pytest.raises(ValueError, match="pairs"):
        data_card("tsv", {"data": "a.tsv"}, truth="scores", pair="b", select="::2")


# --------------------------------------------------------------------------- tables without heading


def test_a_list_of_files_and_classes_without_a_heading(root: Path):
    """As VeriSilicon's list of ImageNet pictures has it."""
    pictures = {f"data/{name}.png": picture(8, 8, seed) for seed, name in enumerate("abc")}
    write_folder(root / "set", pictures)
    (root / "list.txt").write_text("./data/c.png, 7\n./data/a.png, 3\n")
    card = data_card(
        "image-folder",
        {"images": "set", "labels": "list.txt"},
        columns=["file", "label"],
        labels="label",
    )
    found = made(root, card, ["N", 8, 8, 3], dtype="uint8")
    assert np.load(str(found.labels)).tolist() == [7, 3]
    (root / "list.txt").write_text("./data/c.png, 7, 1\n")
    assert "list.txt:1: this line has 3 columns, the card 2" in refused(root, card, ["N", 8, 8, 3])


def test_pictures_without_classes(root: Path):
    write_folder(root / "set", {f"{name}.png": picture(8, 8, 1) for name in "ba"})
    card = data_card("image-folder", {"images": "set"}, truth="none")
    found = made(root, card, ["N", 8, 8, 3], dtype="uint8")
    assert found.count == 2 and found.labels is None
    assert "'truth: none'" in refused(
        root, data_card("image-folder", {"images": "set"}), ["N", 8, 8, 3]
    )
