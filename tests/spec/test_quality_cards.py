"""How cards say what their models are judged by, and that the shipped cards reach their figures."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paths import ROOT

from qbench.analysis.quality.judge import score_outputs
from qbench.analysis.statistics import estimates
from qbench.errors import UserError
from qbench.run.sources.catalog import Catalog
from qbench.spec.decoders import Decoder
from qbench.spec.judging import Judging
from qbench.spec.models import ModelCard
from qbench.spec.suite import suites_dir
from qbench.spec.tasks import TASKS
from qbench.spec.yamlfile import load

CARDS = sorted((suites_dir() / "models").glob("*.yaml"))

CARD = """\
name: net
task: image-classification
licence: Apache-2.0
inputs: {image: {dtype: float32, shape: [N, 8, 8, 3], layout: NHWC}}
outputs: {y: {dtype: float32, shape: [N, 10]}}
sources: {onnx: {path: net.onnx, inputs: {image: {name: i}}, outputs: {y: {name: o}}}}
evaluation: {dataset: data}
"""


def read(tmp_path: Path, text: str) -> ModelCard:
    path = tmp_path / "net.yaml"
    path.write_text(text)
    return load(path, ModelCard)[0]


def of_task(task: str, more: str = "") -> str:
    return CARD.replace("image-classification", task) + more


# --------------------------------------------------------------------------- what cards say


@pytest.mark.parametrize(
    ("task", "more", "metric"),
    [
        ("image-classification", "", "top1"),
        ("image-classification", "metric: top5", "top5"),
        ("text-classification", "", "accuracy"),
        ("keyword-spotting", "", "top1"),
        ("object-detection", "decoder: {name: fastestdet}", "mAP50"),
        ("object-detection", "decoder: {name: fastestdet}\nmetric: mAP50-95", "mAP50-95"),
        ("semantic-segmentation", "", "mIoU"),
        ("anomaly-detection", "", "auc"),
        ("embedding", "", "spearman"),
        ("image-classification", "metric: none", None),
        ("object-detection", "metric: none", None),
        ("other", "", None),
        ("unknown", "", None),
    ],
)
def test_a_task_has_its_metrics(tmp_path: Path, task: str, more: str, metric: str | None):
    how = read(tmp_path, of_task(task, more)).judging()
    assert (how.task, how.metric) == (task, metric)
    assert (how.scores == "y") == TASKS[task].classifies
    again = Judging.model_validate(json.loads(json.dumps(how.model_dump(mode="json"))))
    assert again == how, "as the bundle keeps it"


@pytest.mark.parametrize(
    ("task", "more", "line", "says"),
    [
        ("image-clasification", "", 2, "Did you mean 'image-classification'?"),
        ("image-classification", "metric: top2", 8, "has no metric 'top2'. Did you mean 'top"),
        ("other", "metric: top1", 8, "other has no metric 'top1'"),
        ("embedding", "background: 1", 8, "only a task that sorts items into classes"),
        ("image-classification", "background: -1", 8, "background: "),
        ("image-classification", "decoder: {name: ssd}", 8, "only object-detection"),
        ("object-detection", "decoder: {name: sdd}", 8, "Did you mean 'ssd'?"),
        ("object-detection", "decoder: {name: yolo, options: {nms: 1}}", 8, "options.nms"),
        ("object-detection", "", 1, "needs a decoder, or 'metric: none'"),
    ],
)
def test_a_wrong_card_is_refused_with_its_line(
    tmp_path: Path, task: str, more: str, line: int, says: str
):
    with pytest.raises(UserError) as caught:
        read(tmp_path, of_task(task, more))
    assert says in str(caught.value) and f"net.yaml:{line}:" in str(caught.value)


def test_a_layout_says_where_the_classes_of_a_pixel_are(tmp_path: Path):
    text = of_task("semantic-segmentation")
    for layout, axis in (("NCHW", 1), ("NHWC", -1)):
        shape = f"shape: [N, 4, 4, 4], layout: {layout}"
        how = read(tmp_path, text.replace("shape: [N, 10]", shape)).judging()
        assert (how.class_axis, how.output) == (axis, "y")


# --------------------------------------------------------------------------- the shipped ones


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_shipped_cards_load_and_their_data_sets_fit_their_tasks(path: Path):
    card, _ = load(path, ModelCard)
    assert card.name == path.stem
    if card.evaluation is None:
        assert card.task == "other" and card.expected is None
        return
    data = Catalog([suites_dir()]).dataset(card.evaluation.dataset)
    if card.judging().metric is not None:
        assert data.truth == TASKS[card.task].labels
    if card.expected is not None and data.items is not None:
        assert card.expected.items == len(card.evaluation.choose(data.items))


def onnx(path: Path) -> Callable[[np.ndarray], list[np.ndarray]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda item: [np.asarray(output) for output in session.run(None, {name: item})]


def tflite(path: Path) -> Callable[[np.ndarray], list[np.ndarray]]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    (feed,) = interpreter.get_input_details()

    def run(item: np.ndarray) -> list[np.ndarray]:
        interpreter.set_tensor(feed["index"], item)
        interpreter.invoke()
        return [interpreter.get_tensor(o["index"]) for o in interpreter.get_output_details()]

    return run


MEASURED: dict[str, dict[str, float]] = {
    "fastestdet_coco352": {"mAP50": 0.3778},
    "ssd_mobilenet_v1_coco300_uint8": {"mAP50": 0.3623},
    "avgwordvec_sst2": {"accuracy": 0.839},
    "mnist_cnn": {"top1": 0.989},
    "dscnn_kws": {"top1": 0.900},
}
"""What the assets' makers measured on these items with code of their own."""


@pytest.mark.parametrize("name", MEASURED)
def test_a_real_model_reaches_what_others_measured(name: str):
    assets = os.environ.get("QBENCH_ASSETS")
    if not assets or not (Path(assets) / "MANIFEST.json").is_file():
        pytest.skip("QBENCH_ASSETS names no folder of assets")
    catalog = Catalog([suites_dir()])
    card = catalog.card(name)
    form = "onnx" if "onnx" in card.sources else "tflite"
    pytest.importorskip("onnxruntime" if form == "onnx" else "ai_edge_litert")
    run = {"onnx": onnx, "tflite": tflite}[form](Path(assets) / str(card.sources[form].path))
    items = catalog.items(card, "evaluation")
    assert items is not None and items.labels is not None
    (feed,) = (np.load(path) for path in items.feeds.values())
    parts: list[Any] = list(zip(*(run(feed[i : i + 1]) for i in range(len(feed))), strict=True))
    outputs = {n: np.concatenate(part) for n, part in zip(card.outputs, parts, strict=True)}
    quality = score_outputs(outputs, None, np.load(items.labels), card.judging())
    for metric, value in MEASURED[name].items():
        assert quality.metrics[metric].value == pytest.approx(value, abs=0.004), metric
    assert quality.accuracy_low is not None and quality.accuracy_high is not None
    assert quality.accuracy_low < quality.metrics[str(quality.metric)].value < quality.accuracy_high


# --------------------------------------------------------------------------- the document


def test_the_document_names_every_task_metric_and_decoder():
    text = (ROOT / "docs" / "accuracy.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    for name, task in TASKS.items():
        if name != "unknown":
            (row,) = (row for row in rows if row.startswith(f"| `{name}` |"))
            assert all(f"`{metric}`" in row for metric in task.metrics)
            assert task.labels is None or f"| {task.labels}" in row
    for share, items in re.findall(r"^\| (\d+) % \| (\d+) \|$", text, re.M):
        assert estimates.items_needed(int(share) / 100, 0.01) == int(items)
    for decoder in ("ssd", "fastestdet", "yolo"):
        Decoder(name=decoder).check()
        assert any(row.startswith(f"| `{decoder}` |") for row in rows)
