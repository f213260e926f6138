"""The items of the assets, packed as upstream publishes them, on a mirror: for tests of the shipped
cards from an empty cache. What the assets lack (every second item) is made up."""

from __future__ import annotations

import csv
import gzip
import io
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from mirror import Mirror
from paths import ROOT
from PIL import Image

from qbench.run.sources.catalog import Catalog
from qbench.spec.datasets import DatasetCard
from qbench.spec.files import GitPath, SourceFile
from qbench.spec.suite import suites_dir

SAVEDMODEL = Path(__file__).with_name("files") / "dscnn_savedmodel.py"


def copied_suites(folder: Path, assets: Path, mirror: Mirror, datasets: Sequence[str]) -> Path:
    """A copy of the shipped suites and cards whose digests and commits are those of the files on
    the mirror, which gets every model of the assets and these data sets."""
    shutil.copytree(suites_dir(), folder, dirs_exist_ok=True)
    catalog = Catalog([suites_dir()])
    for name in datasets:
        card, path = catalog.dataset(name), folder / "datasets" / f"{name}.yaml"
        text = path.read_text()
        for old, new in PACKERS[name](card, assets, mirror).items():
            assert old in text
            text = text.replace(old, new)
        path.write_text(text)
    for name in catalog.names:
        for source in catalog.card(name).sources.values():
            if source.url and source.path and (assets / source.path).exists():
                mirror.put(source.url, assets / source.path)
    return folder


def _put(mirror: Mirror, file: SourceFile, content: bytes) -> dict[str, str]:
    assert file.url and file.sha256
    return {file.sha256: mirror.put(file.url, content)}


def _commit(mirror: Mirror, at: GitPath | None, files: Mapping[str, bytes]) -> dict[str, str]:
    assert at is not None
    return {at.commit: mirror.commit(at.repo, files)}


def _between(known: np.ndarray, total: int) -> np.ndarray:
    """``known`` as items 0, 2, 4, ... of ``total`` ones; the others are 1."""
    items = np.ones((total, *known.shape[1:]), known.dtype)
    items[: 2 * len(known) : 2] = known
    return items


def _local(card: DatasetCard, assets: Path, key: str = "data") -> Path:
    assert card.local is not None
    return assets / str(card.local.files[key].path)


def _cifar10(card: DatasetCard, assets: Path, mirror: Mirror) -> dict[str, str]:
    folder = assets / "datasets"
    with np.load(folder / "cifar10_test/cifar10_test.npz") as test:
        batches = {"test_batch.bin": (_between(test["x"], 1200), _between(test["y"], 1200))}
    with np.load(folder / "cifar10_calib_train/cifar10_calib_train.npz") as train:
        x, y = train["x"], train["y"]
    halves = [("data_batch_1.bin", slice(0, 1500)), ("data_batch_2.bin", slice(1500, None))]
    batches |= {name: (x[part], y[part]) for name, part in halves}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, (images, kinds) in batches.items():
            planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
            content = np.hstack([kinds[:, None], planes]).astype(np.uint8).tobytes()
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return _put(mirror, card.files["data"], gzip.compress(packed.getvalue(), 1, mtime=0))


def _mnist(card: DatasetCard, assets: Path, mirror: Mirror) -> dict[str, str]:
    with np.load(_local(card, assets)) as known:
        arrays = {"images": _between(known["x"], 10000), "labels": _between(known["y"], 10000)}
    found: dict[str, str] = {}
    for name, array in arrays.items():
        header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
        found |= _put(mirror, card.files[name], gzip.compress(header + array.tobytes(), 1, mtime=0))
    return found


def _kws(card: DatasetCard, assets: Path, mirror: Mirror) -> dict[str, str]:
    with np.load(_local(card, assets)) as known:
        x, names = _between(known["x"], 1000), known["src"].tolist()
    files = {f"datasets/kws01/{name}": x[2 * n].tobytes() for n, name in enumerate(names)}
    for n in range(1, 1000, 2):
        files[f"datasets/kws01/tst_{n:06}_Unknown_11.bin"] = x[n].tobytes()
    files["datasets/kws01/y_labels.csv"] = b"tst_000000_Stop_7.bin,12,7\n"
    return _commit(mirror, card.files["data"].git, files)


def _between_names(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """``files`` as items 0, 2, 4, ... in the order of their names; the others are tiny."""
    tiny = io.BytesIO()
    Image.new("RGB", (8, 8)).save(tiny, "JPEG")
    others = {re.sub(r"(\.\w+)$", r"b\1", name): tiny.getvalue() for name in files}
    return {**files, **others}


def _coco(card: DatasetCard, assets: Path, mirror: Mirror) -> dict[str, str]:
    with zipfile.ZipFile(_local(card, assets, "images")) as archive:
        stored = {name: archive.read(name) for name in archive.namelist()}
    pictures = {name: content for name, content in stored.items() if name.startswith("images/")}
    texts = {name: content for name, content in stored.items() if name not in pictures}
    files = {
        f"images/val2017/{name.rpartition('/')[2]}": content
        for name, content in _between_names(pictures).items()
    } | {
        f"object_detection/labels/val2017/{name.rpartition('/')[2]}": content
        for name, content in texts.items()
    }
    return _commit(mirror, card.files["images"].git, files)


def _imagenet(card: DatasetCard, assets: Path, mirror: Mirror) -> dict[str, str]:
    with _local(card, assets, "labels").open() as table:
        labels = {row["file"]: row["label"] for row in csv.DictReader(table)}
    with zipfile.ZipFile(_local(card, assets, "images")) as archive:
        pictures = _between_names({name: archive.read(name) for name in labels})
    lines = [f"./data/{name}, {labels.get(name, 0)}\n" for name in sorted(pictures)]
    files = {f"data/{name}": content for name, content in pictures.items()}
    files |= {"dataset.txt": "".join(lines).encode(), "README.md": b"# 1300 images\n"}
    done = _commit(
        mirror,
        card.files["images"].git,
        {f"ILSVRC2012_VAL_SET/{name}": content for name, content in files.items()},
    )
    (commit,) = done.values()
    table = card.files["labels"].git
    assert table is not None
    return {**done, table.commit: commit}


def _samples(card: DatasetCard, assets: Path, mirror: Mirror) -> dict[str, str]:
    with zipfile.ZipFile(_local(card, assets, "images")) as archive:
        pictures = _between_names({name: archive.read(name) for name in archive.namelist()})
    files = {name.replace(".jpg", ".JPEG"): content for name, content in pictures.items()}
    return _commit(mirror, card.files["images"].git, {**files, "gallery.md": b"# Images\n"})


def _sst2(card: DatasetCard, assets: Path, mirror: Mirror) -> dict[str, str]:
    lines = _local(card, assets).read_text().splitlines(keepends=True)[1:]
    text = "sentence\tlabel\n" + "".join(line + "another one \t1\n" for line in lines)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("SST-2/dev.tsv", text)
        archive.writestr("SST-2/train.tsv", "sentence\tlabel\n")
    return _put(mirror, card.files["data"], packed.getvalue())


PACKERS: Mapping[str, Callable[[DatasetCard, Path, Mirror], dict[str, str]]] = {
    "cifar10_test": _cifar10,
    "cifar10_calib_train": _cifar10,
    "mnist_t10k": _mnist,
    "kws01": _kws,
    "coco_val128": _coco,
    "imagenet_val1300": _imagenet,
    "imagenet_samples": _samples,
    "sst2_glue_dev": _sst2,
}
"""By data set: puts its files on the mirror; returns the new digests and commits by the old."""


def put_dscnn(suites: Path, assets: Path, mirror: Mirror, work: Path) -> None:
    """Serve a SavedModel of MLPerf Tiny's keyword spotter like upstream's: its weights are those of
    the assets' conversion."""
    at = Catalog([suites_dir()]).card("dscnn_kws").sources["savedmodel"].git
    assert at is not None
    onnx, made = assets / "models/dscnn_kws/model.onnx", work / "kws_ref_model"
    command = [sys.executable, SAVEDMODEL, onnx, made]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    files = {
        f"{at.path}/{path.relative_to(made).as_posix()}": path.read_bytes()
        for path in sorted(made.rglob("*"))
        if path.is_file()
    }
    card = suites / "models/dscnn_kws.yaml"
    ((old, new),) = _commit(mirror, at, files).items()
    card.write_text(card.read_text().replace(f"commit: {old}", f"commit: {new}"))
