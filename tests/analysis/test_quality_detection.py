"""qbench.analysis.quality: detection. COCO's own evaluator is the witness, run on the same boxes in
pixels and, for resamples, on data sets in which pictures are repeated."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from qbench.analysis.quality.boxes import mean_average_precision
from qbench.analysis.quality.judge import find_scores, score_outputs
from qbench.kit.pipeline.detectors import intersection_over_union, non_maximum_suppression
from qbench.spec.decoders import Decoder
from qbench.spec.judging import Judging

seeds = st.integers(0, 2**31)


def scene(seed: int, items: int = 10, classes: int = 4) -> tuple[list[np.ndarray], np.ndarray]:
    """Detections and true boxes: some good, some of a wrong class, some of nothing; pictures and
    classes without objects."""
    rng = np.random.default_rng(seed)
    truths, detections = [[0, 0, 0.1, 0.1, 0.3, 0.4]], []
    for item in range(items):
        found = []
        for _ in range(rng.integers(0, 5)):
            corner = rng.random(2) * 0.6
            box = np.r_[corner, corner + 0.05 + rng.random(2) * 0.3]
            kind = rng.integers(classes)
            truths.append([item, kind, *box])
            for _ in range(rng.integers(0, 3)):
                shifted = box + rng.normal(size=4) * 0.015
                found.append([rng.choice([kind, kind, classes]), rng.random(), *shifted])
        for _ in range(rng.integers(0, 3)):
            found.append([rng.integers(classes + 1), rng.random(), 0.2, 0.2, 0.7, 0.6])
        detections.append(np.array(found, float).reshape(-1, 6))
    return detections, np.array(truths, np.float32)


def official(
    detections: list[np.ndarray], truths: np.ndarray, counts: np.ndarray
) -> tuple[float, float]:
    """mAP50 and mAP50-95 of pycocotools' COCOeval, in pixels of pictures of 640 x 480."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    images, wanted, found = [], [], []

    def annotation(among: list[dict[str, Any]], kind: float, box: Any, **more: float) -> None:
        x1, y1, x2, y2 = np.asarray(box, float) * [640, 480, 640, 480]
        size = [max(x2 - x1, 0), max(y2 - y1, 0)]
        among.append(
            {
                "id": len(among) + 1,
                "image_id": len(images),
                "category_id": int(kind),
                "bbox": [x1, y1, *size],
                "area": size[0] * size[1],
                "iscrowd": 0,
                **more,
            }
        )

    for item, count in enumerate(counts):
        for _ in range(count):
            images.append({"id": len(images) + 1})
            for _, kind, *box in truths[truths[:, 0] == item]:
                annotation(wanted, kind, box)
            for kind, score, *box in detections[item]:
                annotation(found, kind, box, score=score)
    with contextlib.redirect_stdout(io.StringIO()):
        sets = []
        for annotations in (wanted, found):
            coco: Any = COCO()
            categories = [{"id": number} for number in range(10)]
            coco.dataset = {"images": images, "annotations": annotations, "categories": categories}
            coco.createIndex()
            sets.append(coco)
        evaluation: Any = COCOeval(*sets, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[1], evaluation.stats[0]


# --------------------------------------------------------------------------- mAP


@settings(max_examples=15, deadline=None)
@given(seeds)
def test_map_is_cocos_and_so_is_that_of_resamples(seed: int):
    detections, truths = scene(seed)
    figures = mean_average_precision(detections, truths)
    items = len(detections)
    resample = np.random.default_rng(seed).multinomial(items, np.ones(items) / items)
    resample[0] += 1  # so that there is an object
    for counts in (np.ones(items, int), resample):
        ours = [figures[name].statistic(counts[None])[0] for name in ("mAP50", "mAP50-95")]
        assert ours == pytest.approx(official(detections, truths, counts), abs=1e-9)
    assert figures["mAP50"].value == pytest.approx(
        official(detections, truths, np.ones(items, int))[0], abs=1e-9
    )


def test_only_a_hundred_detections_of_a_class_count():
    truth = np.array([[0, 0, 0.4, 0.4, 0.6, 0.6]], np.float32)
    noise = np.tile([0, 0.9, 0, 0, 0.1, 0.1], (100, 1))
    hit = np.array([[0, 0.5, 0.4, 0.4, 0.6, 0.6]])
    late = mean_average_precision([np.concatenate([noise, hit])], truth)
    assert late["mAP50"].value == 0
    just = mean_average_precision([np.concatenate([noise[:99], hit])], truth)
    assert just["mAP50"].value == pytest.approx(0.01)


def test_map_by_hand():
    truths = np.array([[0, 3, 0, 0, 0.5, 0.5], [1, 3, 0, 0, 0.5, 0.5]], np.float32)
    # overlap 0.8: a hit from .5 to .8, seven of ten thresholds
    found = np.array([[3, 0.9, 0, 0, 0.4, 0.5]])
    figures = mean_average_precision([found, np.empty((0, 6))], truths)
    # recall 1/2 at precision 1: 51 of the 101 recalls
    assert figures["mAP50"].value == pytest.approx(51 / 101)
    assert figures["mAP50-95"].value == pytest.approx(0.7 * 51 / 101)


def test_nothing_found_is_zero_and_nothing_to_find_is_an_error():
    truths = np.array([[0, 1, 0, 0, 0.5, 0.5]], np.float32)
    nothing = [np.empty((0, 6))] * 12
    assert mean_average_precision(nothing, truths)["mAP50"].estimate()[0] == 0
    of_other_classes = [np.array([[0, 0.9, 0, 0, 0.5, 0.5]])] * 12
    assert mean_average_precision(of_other_classes, truths)["mAP50-95"].value == 0
    with pytest.raises(ValueError, match="the labels hold no box"):
        mean_average_precision(nothing, np.empty((0, 6), np.float32))


def test_boxes_without_area_or_turned_round_hit_nothing_and_break_nothing():
    truths = np.array([[0, 0, 0.2, 0.2, 0.4, 0.4]], np.float32)
    odd = np.array([[0, 0.9, 0.4, 0.4, 0.2, 0.2], [0, 0.8, 0.3, 0.3, 0.3, 0.3]])
    good = np.array([[0, 0.7, 0.2, 0.2, 0.4, 0.4]])
    figures = mean_average_precision([np.concatenate([odd, good])], truths)
    assert figures["mAP50"].value == pytest.approx(1 / 3)


# --------------------------------------------------------------------------- boxes


def test_overlap_by_hand():
    a = np.array([[0, 0, 2, 2], [0, 0, 0, 0]], float)
    b = np.array([[1, 1, 3, 3], [0, 0, 2, 2], [5, 5, 6, 6], [0, 0, 0, 0]], float)
    expected = [[1 / 7, 1, 0, 0], [0, 0, 0, 0]]
    assert intersection_over_union(a, b) == pytest.approx(np.array(expected))


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_suppression_keeps_the_best_and_no_rivals(seed: int):
    rng = np.random.default_rng(seed)
    corners = rng.random((40, 2))
    boxes = np.c_[rng.integers(0, 3, 40), rng.random(40), corners, corners + rng.random((40, 2))]
    kept = non_maximum_suppression(boxes, 0.4)
    assert (np.diff(kept[:, 1]) <= 0).all() and kept[0].tolist() in boxes.tolist()
    assert kept[0, 1] == boxes[:, 1].max()
    for one in boxes:  # kept, or a better one of its class that was kept overlaps it
        better = kept[(kept[:, 0] == one[0]) & (kept[:, 1] > one[1])]
        rivals = (intersection_over_union(one[None, 2:], better[:, 2:]) > 0.4).any()
        assert rivals != (one.tolist() in kept.tolist())


# --------------------------------------------------------------------------- decoders


def test_ssd_reorders_its_corners_maps_classes_and_stops_at_its_count():
    outputs = {
        "boxes": np.array([[[0.1, 0.2, 0.3, 0.4], [-0.5, 0, 2, 1], [0, 0, 1, 1]]] * 2, np.float32),
        "classes": np.array([[0, 2, 1], [1, 0, 0]], np.float32),
        "scores": np.array([[0.9, 0.8, 0.7], [0.6, 0.5, 0.4]], np.float32),
        "count": np.array([3, 1], np.float32),
    }
    decoder = Decoder(name="ssd", options={"class_map": [0, -1, 1]})
    first, second = decoder.decode(outputs)
    assert first == pytest.approx(np.array([[0, 0.9, 0.2, 0.1, 0.4, 0.3], [1, 0.8, 0, 0, 1, 1]])), (
        "the third is of an unused class; what lies outside is cut"
    )
    assert len(second) == 0
    assert [len(found) for found in Decoder(name="ssd").decode(outputs)] == [3, 1]
    with pytest.raises(ValueError, match="class_map has 2 entries, too few"):
        Decoder(name="ssd", options={"class_map": [0, 1]}).decode(outputs)
    with pytest.raises(ValueError, match="its outputs are boxes, classes, scores, count"):
        Decoder(name="ssd").decode({"boxes": outputs["boxes"]})


def test_fastestdet_by_hand():
    head = np.full((1, 5 + 3, 2, 4), 0, np.float32)  # 2 rows, 4 columns
    head[0, 0, 1, 2] = 0.5  # objectness of one cell
    head[0, 5:, 1, 2] = 0.1, 0.8, 0.3
    head[0, 1:3, 1, 2] = np.arctanh(0.5), np.arctanh(-0.5)
    head[0, 3:5, 1, 2] = np.log(0.2 / 0.8), np.log(0.4 / 0.6)
    (found,) = Decoder(name="fastestdet").decode({"head": head})
    x, y = 2.5 / 4, 0.5 / 2
    expected = [1, 0.5**0.6 * 0.8**0.4, x - 0.1, y - 0.2, x + 0.1, y + 0.2]
    assert found == pytest.approx(np.array([expected]), abs=1e-6)


@pytest.mark.parametrize("objectness", [False, True])
@pytest.mark.parametrize("anchors_last", [False, True])
def test_yolo_by_hand(objectness: bool, anchors_last: bool):
    scores = [[0.1, 0.9], [0.2, 0.7], [0.001, 0.002]]
    boxes = [[320, 240, 64, 48], [322, 240, 64, 48], [10, 10, 5, 5]]  # the second is a rival
    rows = [[*b, *([0.5] if objectness else []), *s] for b, s in zip(boxes, scores, strict=True)]
    head = np.array([rows], np.float32)
    head = head.transpose(0, 2, 1) if anchors_last else head
    options = {"size": [480, 640], "objectness": objectness, "anchors_last": anchors_last}
    (found,) = Decoder(name="yolo", options=options).decode({"out": head})
    score = 0.45 if objectness else 0.9
    assert found == pytest.approx(np.array([[1, score, 0.45, 0.45, 0.55, 0.55]]), abs=1e-6)


def test_a_head_that_does_not_fit_its_decoder_is_refused():
    with pytest.raises(ValueError, match="'y' has 2 axes, not 4"):
        Decoder(name="fastestdet").decode({"y": np.zeros((1, 8))})
    with pytest.raises(ValueError, match="it takes one output, the card has a, b"):
        Decoder(name="yolo").decode({"a": np.zeros((1, 8, 4)), "b": np.zeros((1, 8, 4))})
    with pytest.raises(ValueError, match="no values for classes"):
        Decoder(name="yolo").decode({"y": np.zeros((1, 4, 100))})


@pytest.mark.parametrize(
    ("decoder", "says"),
    [
        ({"name": "fastest"}, "there is no decoder 'fastest'. Did you mean 'fastestdet'"),
        (
            {"name": "yolo", "options": {"iou": 0.5}},
            "options.iou: .* It takes score, overlap, size",
        ),
        ({"name": "yolo", "options": {"score": 2}}, "options.score: .*less than or equal to 1"),
        ({"name": "ssd", "options": {"class_map": []}}, "options.class_map"),
        ({"name": "ssd", "options": {"class_map": [-2]}}, "options.class_map.0"),
    ],
)
def test_a_wrong_decoder_is_reported_before_anything_runs(decoder: dict[str, Any], says: str):
    with pytest.raises(ValueError, match=says):
        Decoder.model_validate(decoder).check()


def test_a_decoder_takes_a_name_and_options_only():
    with pytest.raises(ValidationError):
        Decoder.model_validate({"name": "ssd", "path": "mine.py"})


OWN = """
import numpy as np

def decode(outputs, options):
    (raw,) = outputs.values()
    return [np.array([[options["kind"], 0.9, *row]]) for row in raw]

def broken(outputs, options):
    raise RuntimeError("its weights are missing")

def few(outputs, options):
    return [np.zeros((0, 6))]

def odd(outputs, options):
    return [np.full((1, 6), np.nan) for _ in range(2)]
"""


@pytest.fixture
def own_decoders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package that offers decoders."""
    info = tmp_path / "heads-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: heads\nVersion: 1.0\n")
    names = ("decode", "broken", "few", "odd", "missing")
    points = "".join(f"my{name} = qbench_test_heads:{name}\n" for name in names)
    (info / "entry_points.txt").write_text(f"[qbench.decoders]\n{points}")
    (tmp_path / "qbench_test_heads.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.mark.usefixtures("own_decoders")
def test_a_custom_decoder_scores_a_model():
    decoder = Decoder(name="mydecode", options={"kind": 7})
    raw = np.array([[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]], np.float32)
    labels = np.array([[0, 7, 0, 0, 0.5, 0.5], [1, 7, 0, 0, 0.5, 0.5]], np.float32)
    how = Judging(task="object-detection", metric="mAP50-95", decoder=decoder)
    quality = score_outputs({"raw": raw}, {"raw": raw}, labels, how)
    assert quality.accuracy == pytest.approx(51 / 101), "one of two found, and one false"
    assert (quality.accuracy_delta, quality.accuracy_delta_p, quality.agreement) == (0, None, None)
    with pytest.raises(ValueError, match="gives class 7, but the data set has 5 classes"):
        score_outputs({"raw": raw}, None, labels, how.model_copy(update={"classes": 5}))


@pytest.mark.usefixtures("own_decoders")
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mybroken", "decoder mybroken: its weights are missing"),
        ("myfew", "decoder myfew: it gives 1 items for 2"),
        ("myodd", r"decoder myodd: it gives an array \[1, 6\] where finite numbers"),
        ("mymissing", "decoder mymissing: qbench_test_heads:missing cannot be imported"),
        ("mydecod", "Did you mean 'mydecode'"),
    ],
)
def test_a_failing_custom_decoder_is_reported(name: str, says: str):
    with pytest.raises(ValueError, match=says):
        Decoder(name=name).decode({"raw": np.zeros((2, 4), np.float32)})


# --------------------------------------------------------------------------- judging


def test_a_worse_detector_is_compared_in_pairs():
    detections, truths = scene(11, items=200)
    how = Judging(task="object-detection", metric="mAP50", decoder=Decoder(name="ssd"))

    def outputs(found: list[np.ndarray]) -> dict[str, np.ndarray]:
        most = max(map(len, found))
        padded = np.zeros((len(found), most, 6), np.float32)
        for item, one in enumerate(found):
            padded[item, : len(one)] = one
        return {
            "boxes": padded[..., [3, 2, 5, 4]],
            "classes": padded[..., 0],
            "scores": padded[..., 1],
            "count": np.array([len(one) for one in found], np.float32),
        }

    base = outputs(detections)
    # every third picture is missed, in the same arrays
    worse = {**base, "count": np.where(np.arange(200) % 3 == 0, 0, base["count"])}
    known = find_scores(base, truths, how)
    quality = score_outputs(worse, base, truths, how, known)
    assert quality == score_outputs(worse, base, truths, how)
    alone = score_outputs(base, None, truths, how)
    assert quality.accuracy is not None and alone.accuracy is not None
    assert quality.accuracy_delta == pytest.approx(quality.accuracy - alone.accuracy)
    assert quality.accuracy_delta is not None and quality.accuracy_delta < 0
    assert quality.accuracy_delta_high is not None and quality.accuracy_delta_high < 0
    assert list(quality.metrics) == ["mAP50", "mAP50-95"]
    assert quality.metrics["mAP50-95"].value < quality.metrics["mAP50"].value
    assert (quality.agreement, quality.items_needed) == (None, None)
    assert quality.fidelity["boxes"].sqnr_db == 200 > quality.fidelity["count"].sqnr_db
    with pytest.raises(ValueError, match="a box is of item 200, but there are 200 items"):
        score_outputs(base, None, np.array([[200, 0, 0, 0, 1, 1]], np.float32), how)
