"""The scenario ``pipeline``: what its worker is given, that it does the evaluation's own work, and
that each stage's time is that stage's."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_sets import data_card, encoded, model_card, picture, pixels, write_zip
from PIL import Image

from qbench.analysis.quality.judge import score_outputs
from qbench.data.items import Items, make_items
from qbench.data.raw import PipelineRequest, pipeline_request, why_not
from qbench.errors import UserError
from qbench.kit.adapter import Unavailable
from qbench.kit.model import Feed, PrepareTarget, RunConfig, TensorSpec
from qbench.kit.pipeline import answers
from qbench.kit.scenarios import pipeline
from qbench.kit.scenarios.window import Opened, Timed
from qbench.run.artifacts import ArtifactStore, feed_files
from qbench.run.sources.catalog import Catalog
from qbench.run.workers.isolate import Outcome, run_job
from qbench.run.workers.registry import Registry
from qbench.spec.datasets import DatasetCard, Split
from qbench.spec.decoders import Decoder
from qbench.spec.judging import Judging
from qbench.spec.models import ModelCard
from qbench.spec.scenarios import SCENARIOS, complete_options
from qbench.spec.suite import suites_dir
from qbench.testing.fake import fake_model

EVERY_STAGE = ["decode", "preprocess", "bind", "infer", "read", "postprocess"]
STEPS = [{"resize": {"size": [8, 8]}}, {"normalize": {"mean": 100, "std": 50}}, {"layout": "NCHW"}]
PICTURES = {
    "cat/a.jpg": picture(30, 20, 1, "JPEG"),
    "cat/b.png": picture(17, 40, 2),
    "dog/c.jpg": picture(64, 64, 3, "JPEG"),
}

# --------------------------------------------------------------------------- in this process


class Watched:
    """A stream that keeps what it is fed, and takes its time: asleep, in seconds by stage."""

    def __init__(self, **seconds: float) -> None:
        self._seconds, self.fed = seconds, []

    def bind(self, feed: Feed) -> None:
        self.fed.append({name: array.copy() for name, array in feed.items()})
        time.sleep(self._seconds.get("bind", 0))

    def infer(self) -> None:
        time.sleep(self._seconds.get("infer", 0))

    def read(self) -> Feed:
        time.sleep(self._seconds.get("read", 0))
        return {"scores": np.arange(10, dtype=np.float32)[None]}


@dataclass
class Made:
    """A data set's pipeline, linked into the working folder as a worker has it."""

    items: Items
    request: PipelineRequest
    root: Path
    inputs: Mapping[str, TensorSpec]
    stream: Watched = field(default_factory=Watched)

    def drive(self, timed_s: float = 0.0, work: Mapping[str, Any] | None = None) -> Timed:
        fed = {name: np.load(path, mmap_mode="r") for name, path in self.items.feeds.items()}
        options = {**complete_options("pipeline", {}), **self.request.options}
        options["work"] = {**options["work"], **(work or {})}
        model = replace(fake_model(self.root / "net.fake"), inputs=self.inputs)
        streams = [self.stream]
        return pipeline.drive(
            Opened(model, RunConfig(), streams, fed, options, int(timed_s * 1e9))  # type: ignore
        )


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def made(root: Path, card: ModelCard, data: DatasetCard, frames: int = 32) -> Made:
    files = {name: root / str(file.path) for name, file in data.files.items()}
    items = make_items(card, data, files, Split(dataset="data"), print, root)
    request = pipeline_request(card, data, files, items, frames, root, print)
    for name, path in request.files.items():
        link = Path(name)
        link.unlink(missing_ok=True)
        link.symlink_to(path)
    return Made(items, request, root, card.input_specs)


def of_pictures(root: Path, frames: int = 32) -> Made:
    write_zip(root / "p.zip", PICTURES)
    card = model_card({"image": ["N", 3, 8, 8]}, {"image": STEPS})
    return made(root, card, data_card("image-zip", {"images": "p.zip"}), frames)


def test_frames_are_decoded_and_preprocessed_by_the_worker_and_fed_in_order(root: Path):
    given = of_pictures(root)
    timed = given.drive()
    expected = []
    for content in PICTURES.values():  # in the order of their names
        small = Image.fromarray(pixels(content)).resize((8, 8), Image.Resampling.BILINEAR)
        scaled = (np.asarray(small).astype(np.float32) - np.float32(100)) / np.float32(50)
        expected.append(scaled.transpose(2, 0, 1)[None])
    fed = [feed["image"] for feed in given.stream.fed]
    assert len(fed) == 3 + 3 + 1, "a pass to warm up, a timed one, and the first item again"
    for index, array in enumerate(fed):
        np.testing.assert_array_equal(array, expected[index % 3])
    assert (timed.items, timed.samples.shape, timed.samples.dtype) == (3, (3,), np.int64)


def test_a_window_is_made_of_whole_passes(root: Path):
    given = of_pictures(root, frames=2)
    given.stream = Watched(infer=0.004)
    timed = given.drive(timed_s=0.03)
    assert given.request.options["frames"] == 2
    assert timed.items % 2 == 0 and 2 <= timed.items <= 8, "0.03 s at 4 ms or more a frame"
    assert timed.wall_ns >= 0.03e9 and timed.samples.sum() <= timed.wall_ns
    assert timed.figures["fps"] == pytest.approx(timed.items / timed.wall_ns * 1e9)


def test_every_stage_has_its_own_time(root: Path):
    given = of_pictures(root)
    given.stream = Watched(bind=0.010, infer=0.030, read=0.020)
    timed = given.drive()
    (file,) = timed.files
    stages = np.load(file)
    assert list(timed.facts["stages"]) == EVERY_STAGE
    assert stages.shape == (3, 6) and stages.dtype == np.int64
    np.testing.assert_array_equal(stages.sum(axis=1), timed.samples)  # nothing between two stages
    took = dict(zip(EVERY_STAGE, np.median(stages, axis=0) / 1e6, strict=True))
    assert took["bind"] >= 10 and took["infer"] >= 30 and took["read"] >= 20
    figures = timed.figures
    for name in ("decode", "preprocess", "postprocess"):
        assert took[name] > 0 and figures[f"{name}_ms"] == pytest.approx(took[name])
    assert figures["e2e_p50_ms"] == pytest.approx(np.median(timed.samples) / 1e6)
    assert figures["e2e_p99_ms"] is None, "three frames have no 99th percentile"


@pytest.mark.parametrize("frames", [99, 101])
def test_the_99th_percentile_needs_a_hundred_frames(root: Path, frames: int):
    images = np.zeros((frames, 8, 8), np.uint8)
    np.savez(root / "a.npz", image=images)
    card = model_card({"image": ["N", 1, 8, 8]}, {"image": [{"layout": "NCHW"}]})
    timed = made(root, card, data_card("npz", {"data": "a.npz"}), frames=200).drive()
    p99 = timed.figures["e2e_p99_ms"]
    assert (p99 is not None) == (frames > 100)
    assert p99 is None or p99 == pytest.approx(np.percentile(timed.samples, 99) / 1e6)


def test_where_nothing_is_decoded_or_answered_there_is_no_figure(root: Path):
    np.savez(root / "a.npz", image=np.zeros((4, 8, 8), np.uint8))
    card = model_card({"image": ["N", 8, 8]}, {"image": [{"scale": 0.5}]})
    card = card.model_copy(update={"task": "other"})
    given = made(root, card, data_card("npz", {"data": "a.npz"}))
    timed = given.drive()
    assert given.request.options["work"]["answer"] is None
    assert timed.figures["decode_ms"] is None and timed.figures["postprocess_ms"] is None
    assert list(timed.facts["stages"]) == ["preprocess", "bind", "infer", "read"]
    assert np.load(timed.files[0]).shape == (4, 4)


def test_texts_are_tokenized_for_every_input_that_takes_them(root: Path):
    (root / "vocab.txt").write_text("<PAD>\n<UNKNOWN>\nup\ndown\ncaf\u00e9\n")
    (root / "a.tsv").write_text("text\tlabel\nup up\t1\n\t0\ndown caf\u00e9 left\t0\n")
    words = {"kind": "words", "vocab": {"path": "vocab.txt"}, "length": 3}
    steps = {name: [{"tokenize": {**words, "give": name}}] for name in ("ids", "mask")}
    card = model_card({"ids": ["N", 3], "mask": ["N", 3]}, steps, "int32")
    data = data_card("tsv", {"data": "a.tsv"}, labels="label", classes=2)
    given = made(root, card, data)
    timed = given.drive()
    assert [feed["ids"].tolist() for feed in given.stream.fed[:3]] == [
        [[2, 2, 0]],
        [[0, 0, 0]],
        [[3, 4, 1]],
    ]
    assert given.stream.fed[2]["mask"].tolist() == [[1, 1, 1]]
    assert given.stream.fed[0]["ids"].dtype == np.int32
    assert list(given.request.options["work"]["arrays"]) == ["text"], "kept once"
    assert timed.figures["decode_ms"] is None and timed.figures["preprocess_ms"] > 0  # type: ignore


# --------------------------------------------------------------------------- other work


def raw_pictures(contents: list[bytes]) -> dict[str, Any]:
    """The array ``image`` of other files, written as the request's are."""
    np.save("other.npy", np.frombuffer(b"".join(contents), np.uint8))
    np.save("other-ends.npy", np.cumsum([len(content) for content in contents]))
    return {"arrays": {"image": {"kind": "picture", "file": "other.npy", "ends": "other-ends.npy"}}}


def test_preprocessing_that_differs_by_a_bit_is_refused(root: Path):
    given = of_pictures(root)
    inputs = given.request.options["work"]["inputs"]
    steps = [dict(step) for step in inputs["image"]["steps"]]
    steps[1] = {"normalize": {"mean": 100.0, "std": float(np.nextafter(np.float32(50), 51))}}
    with pytest.raises(RuntimeError, match=r"item 0 \(cat/a.jpg\): input 'image' differs from"):
        given.drive(work={"inputs": {"image": {**inputs["image"], "steps": steps}}})
    with pytest.raises(RuntimeError, match="input 'image' differs from the evaluated one"):
        given.drive(work={"inputs": {"image": {**inputs["image"], "dtype": "float64"}}})
    assert not Path(pipeline.STAGES_FILE).exists()


def test_another_picture_is_refused_by_its_name(root: Path):
    given = of_pictures(root)
    contents = list(PICTURES.values())
    image = Image.open(io.BytesIO(contents[1]))
    red, green, blue = image.getpixel((3, 3))  # type: ignore
    image.putpixel((3, 3), (red ^ 128, green, blue))
    other = raw_pictures([contents[0], encoded(image), contents[2]])
    with pytest.raises(RuntimeError, match=r"item 1 \(cat/b.png\): input 'image' differs from"):
        given.drive(work=other)


@pytest.mark.parametrize(
    ("content", "says"),
    {
        "cut off": (PICTURES["dog/c.jpg"][:-900], "truncated"),
        "empty": (b"", "cannot identify"),
        "no picture": (b"\xff\xd8\xff\xe0 and then nothing", "cannot read image"),
        "16 bits": (encoded(Image.new("I;16", (4, 4))), "more than 8 bits"),
    }.values(),
)
def test_a_damaged_picture_is_reported_with_its_item(root: Path, content: bytes, says: str):
    given = of_pictures(root)
    contents = list(PICTURES.values())
    other = raw_pictures([*contents[:2], content])
    with pytest.raises(RuntimeError, match=rf"item 2 \(dog/c.jpg\): .*{says}"):
        given.drive(work=other)


def test_raw_items_are_kept_and_damaged_ones_rebuilt(root: Path):
    given = of_pictures(root)
    path = given.request.files["raw-0.npy"]
    before = path.stat().st_mtime_ns
    assert of_pictures(root).request == given.request and path.stat().st_mtime_ns == before
    whole = path.read_bytes()
    path.write_bytes(whole[:50])
    of_pictures(root)
    assert path.read_bytes() == whole


# --------------------------------------------------------------------------- where there is none


def test_why_there_is_no_pipeline():
    steps = {"image": [{"scale": 0.5}]}
    card = model_card({"image": ["N", 8]}, steps)
    plain = model_card({"image": ["N", 8]}, {"image": []})
    arrays = data_card("npz", {"data": "a.npz"})
    zipped = data_card("image-zip", {"images": "a.zip"})
    assert why_not(card, arrays, 1) is None
    assert why_not(plain, zipped, 1) is None, "decoding is work enough"
    assert "batch_size must be 1, not 4" in str(why_not(card, arrays, 4))
    assert "made up" in str(why_not(card, None, 1))
    assert "no 'preprocess'" in str(why_not(plain, arrays, 1))


def test_a_package_that_an_environment_lacks_is_named():
    resized = model_card({"image": ["N", 8, 8, 3]}, {"image": [{"resize": {"size": [8, 8]}}]})
    words, pieces = (
        {"tokenize": {"kind": kind, "vocab": {"path": "v.txt"}, "length": 6}}
        for kind in ("words", "wordpiece")
    )
    texts = data_card("tsv", {"data": "t.tsv"})
    arrays = data_card("npz", {"data": "a.npz"})
    zipped = data_card("image-zip", {"images": "a.zip"})

    def said(steps: list[dict[str, Any]], data: DatasetCard, packages: set[str]) -> str | None:
        return why_not(model_card({"x": ["N", 6]}, {"x": steps}), data, 1, packages)

    assert why_not(resized, arrays, 1, {"numpy", "pillow"}) is None
    assert "needs pillow: add it to the environment's requirements" in str(
        why_not(resized, arrays, 1, {"numpy"})
    )
    assert "needs pillow" in str(said([{"scale": 0.5}], zipped, {"numpy"}))
    assert said([words], texts, {"numpy"}) is None
    assert "needs tokenizers" in str(said([pieces], texts, {"numpy", "pillow"}))
    assert said([pieces], texts, {"numpy", "tokenizers"}) is None


# --------------------------------------------------------------------------- answers


def answered(how: Judging, outputs: dict[str, np.ndarray]) -> Any:
    """Decoded outputs, item by item as a pipeline reads them."""
    given = how.answer()
    assert given is not None
    read = answers.reader(given)
    items = len(next(iter(outputs.values())))
    return [read({n: a[i : i + 1] for n, a in outputs.items()})[0] for i in range(items)]  # type: ignore


def test_answers_are_those_that_are_judged():
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(40, 11)).astype(np.float32)
    labels = rng.integers(0, 10, 40)
    how = Judging(task="image-classification", metric="top1", scores="s", background=1)
    found = np.array(answered(how, {"s": scores}))
    assert score_outputs({"s": scores}, None, labels, how).accuracy == np.mean(found == labels) > 0

    maps = rng.normal(size=(3, 5, 4, 6)).astype(np.float32)
    how = Judging(task="semantic-segmentation", metric="mIoU", output="m", class_axis=1)
    masks = np.stack(answered(how, {"m": maps})).astype(np.uint8)
    assert masks.shape == (3, 4, 6)
    assert score_outputs({"m": maps}, None, masks, how).accuracy == 1

    two = rng.normal(size=(20, 2)).astype(np.float32)
    how = Judging(task="anomaly-detection", metric="auc", output="a")
    found = np.array(answered(how, {"a": two}))
    assert score_outputs({"a": two}, None, (found > 0).astype(np.int64), how).accuracy == 1
    np.testing.assert_allclose(found, two[:, 1].astype(float) - two[:, 0])

    assert Judging(task="embedding", metric="spearman", output="e").answer() is None


def test_boxes_are_those_of_the_cards_decoder():
    head = np.random.default_rng(2).random((3, 8, 4, 4)).astype(np.float32)
    decoder = Decoder(name="fastestdet", options={"score": 0.2})
    how = Judging(task="object-detection", metric="mAP50", decoder=decoder)
    expected = decoder.decode({"head": head})
    assert sum(map(len, expected)) > 0
    for one, wanted in zip(answered(how, {"head": head}), expected, strict=True):
        np.testing.assert_array_equal(one, wanted)


def test_an_installed_decoder_is_called_by_its_function(root: Path, monkeypatch):
    info = root / "heads-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: heads\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[qbench.decoders]\nmine = qbench_mine:Heads.decode\n")
    (root / "qbench_mine.py").write_text(
        "class Heads:\n"
        "    def decode(outputs, options):\n"
        "        return [[[options['kind'], 1, 0, 0, 1, 1]] for _ in outputs['raw']]\n"
    )
    monkeypatch.syspath_prepend(str(root))
    how = Judging(task="object-detection", decoder=Decoder(name="mine", options={"kind": 7}))
    assert how.answer() == {
        "kind": "boxes",
        "decoder": "qbench_mine:Heads.decode",
        "options": {"kind": 7},
    }
    (found,) = answered(how, {"raw": np.zeros((1, 4))})
    assert found.tolist() == [[7, 1, 0, 0, 1, 1]]
    card = model_card({"image": ["N", 3, 8, 8]}, {"image": [{"scale": 0.5}]})
    card = card.model_copy(update={"decoder": how.decoder})
    arrays = data_card("npz", {"data": "a.npz"})
    assert "needs heads: add it" in str(why_not(card, arrays, 1, {"numpy"}))
    assert why_not(card, arrays, 1, {"numpy", "heads"}) is None


def test_a_decoder_that_is_not_here_is_named(root: Path):
    write_zip(root / "p.zip", PICTURES)
    data = data_card("image-zip", {"images": "p.zip"})
    card = model_card({"image": ["N", 3, 8, 8]}, {"image": STEPS})
    gone = Decoder.model_construct(name="gone", options={})
    card = card.model_copy(update={"task": "object-detection", "decoder": gone})
    with pytest.raises(UserError, match="model net: there is no decoder 'gone'"):
        made(root, card, data)


# --------------------------------------------------------------------------- in a worker


def test_the_worker_imports_no_more_than_the_items_need():
    code = (
        "import sys, numpy; before = set(sys.modules);"
        "import qbench.kit.scenarios.pipeline;"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before};"
        "print(*sorted(new - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
    assert done.stdout.split() == ["qbench"], done.stderr


@dataclass
class Trial:
    outcome: Outcome
    folder: Path
    card: ModelCard
    items: Items

    @property
    def stages(self) -> dict[str, float]:
        """Medians in ms."""
        times = np.load(self.folder / pipeline.STAGES_FILE)
        names = self.outcome.result["facts"]["stages"]
        return dict(zip(names, np.median(times, axis=0) / 1e6, strict=True))


def trial(folder: Path, name: str, std: float | None = None, frames: int = 8) -> Trial:
    """A trial of a shipped card in float32, in a worker of its own.

    Args:
        std: what the worker divides by, instead of what the card says.
    """
    pytest.importorskip("onnxruntime", reason="runs the ONNX form")
    root, registry = suites_dir(), Registry()
    catalog, backend = Catalog([root]), registry.load("onnxruntime")
    assert not isinstance(backend, Unavailable)
    card = catalog.card(name)
    assert card.evaluation is not None
    (data, files), items = catalog.data(card.evaluation.dataset), catalog.items(card, "evaluation")
    assert items is not None and why_not(card, data, 1) is None
    request = pipeline_request(card, data, files, items, frames, root, print)
    if std is not None:
        (given,) = request.options["work"]["inputs"].values()
        next(s for s in given["steps"] if "normalize" in s)["normalize"]["std"] = std
    store, target = ArtifactStore(), registry.targets["onnxruntime"]
    preparation = store.preparation(
        backend, catalog.model(card, "onnx"), PrepareTarget("fp32"), None
    )
    prepared = store.prepare(preparation, target, 120, None)
    assert prepared.status == "ok", prepared.reason
    stored = store.find(preparation)
    assert stored is not None
    feeds, feed_paths = feed_files(items, "feed")
    message = {
        "artifact": "artifact",
        "config": asdict(RunConfig()),
        "feeds": feeds,
        "scenario": SCENARIOS["pipeline"].module,
        "options": {**complete_options("pipeline", {}), **request.options},
        "warmup_s": 0.1,
        "timed_s": 0.1,
    }
    folder = folder / "trial"
    folder.mkdir()
    paths = {**feed_paths, **request.files, "artifact": stored.folder}
    return Trial(run_job("measure", target, message, folder, paths), folder, card, items)


def test_a_shipped_model_on_arrays(tmp_path: Path):
    done = trial(tmp_path, "digits_cnn")
    assert done.outcome.status == "ok", done.outcome.reason
    result = done.outcome.result
    figures, took = result["figures"], done.stages
    assert list(took) == EVERY_STAGE[1:] and figures["decode_ms"] is None
    assert result["calls"] == result["items"] and result["calls"] % 8 == 0
    assert result["files"] == [pipeline.STAGES_FILE]
    assert figures["preprocess_ms"] == pytest.approx(took["preprocess"])
    assert figures["e2e_p50_ms"] > took["infer"]
    # the program is left with the first item's outputs, which a run compares with the evaluation
    logits = np.load(done.folder / result["outputs"]["logits"])
    assert done.items.labels is not None
    assert logits.shape == (1, 10) and logits[0].argmax() == np.load(done.items.labels)[0]


def test_other_preprocessing_in_the_worker_is_an_error_of_the_case(tmp_path: Path):
    done = trial(tmp_path, "digits_cnn", std=16.001)
    assert done.outcome.status == "error"
    assert "item 1347: input 'image' differs from the evaluated one" in done.outcome.reason


@pytest.mark.usefixtures("assets")
def test_a_classifier_on_pictures(tmp_path: Path):
    done = trial(tmp_path, "mobilenet_v1_025_224")
    assert done.outcome.status == "ok", done.outcome.reason
    took = done.stages
    assert list(took) == EVERY_STAGE
    # a JPEG of 500 x 375 takes longer to decode than the class of the greatest score to find
    assert took["decode"] > took["postprocess"] > 0


@pytest.mark.usefixtures("assets")
def test_a_detector_on_pictures(tmp_path: Path):
    done = trial(tmp_path, "fastestdet_coco352", frames=3)
    assert done.outcome.status == "ok", done.outcome.reason
    took, figures = done.stages, done.outcome.result["figures"]
    assert list(took) == EVERY_STAGE and done.outcome.result["facts"]["frames"] == 3
    # boxes of 484 cells that suppress each other are more than an argmax
    assert figures["postprocess_ms"] > 0.5
    assert figures["e2e_p50_ms"] > max(took.values())


@pytest.mark.usefixtures("assets")
def test_a_classifier_of_texts(tmp_path: Path):
    done = trial(tmp_path, "avgwordvec_sst2")
    assert done.outcome.status == "ok", done.outcome.reason
    assert list(done.stages) == EVERY_STAGE[1:]
