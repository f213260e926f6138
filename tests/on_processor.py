"""Outputs of prepared ONNX files on ONNX Runtime's CPU provider, for models of the catalogue: for
adapters whose own runtime is not installed here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from qbench.analysis.quality.judge import score_outputs
from qbench.kit.model import Artifact, Calibration, Feed, Model, PrepareTarget, RunConfig
from qbench.run.sources.catalog import Catalog
from qbench.spec.judging import Judging, Quality
from qbench.spec.suite import suites_dir
from qbench_onnxruntime import Backend

_HINTS = {"graph_optimization_level": "ORT_DISABLE_ALL"}
"""Operators as they stand in the file: ONNX Runtime 1.31.1 rewrites Q and DQ with float16 scales
behind a Clip, and wrongly: mobilenet_v2_100_224 at int8 has -0.1 dB then, instead of 24."""


@dataclass(frozen=True)
class Subject:
    """A model as an adapter is given it.

    Attributes:
        feeds, labels: the items it is judged on.
        reference: its float32 outputs for them.
    """

    model: Model
    feeds: Feed
    labels: np.ndarray | None
    calibration: Calibration | None
    judging: Judging
    reference: Mapping[str, np.ndarray]

    def judged(self, file: Path, quantized: bool) -> Quality:
        return score_outputs(
            outputs(self.model, file, self.feeds, quantized),
            self.reference,
            self.labels,
            self.judging,
        )


@cache
def subject(name: str, most: int = 500) -> Subject:
    """The model ``name`` of the shipped catalogue, with ``most`` items at most.

    Raises:
        UserError: its files are not here.
    """
    catalog = Catalog([suites_dir()])
    card = catalog.card(name)
    model = catalog.model(card, "onnx")
    items, calibration = catalog.items(card, "evaluation"), catalog.items(card, "calibration")
    assert items is not None
    feeds = {n: np.load(path)[:most] for n, path in items.feeds.items()}
    return Subject(
        model,
        feeds,
        None if items.labels is None else np.load(items.labels)[:most],
        None
        if calibration is None
        else Calibration({n: np.load(path)[:100] for n, path in calibration.feeds.items()}),
        card.judging(items.classes),
        outputs(model, model.path, feeds, quantized=False),
    )


def outputs(model: Model, file: Path, feeds: Feed, quantized: bool) -> Feed:
    """Outputs of ``file``, which has the inputs and outputs of ``model``, by canonical name."""
    backend = Backend()
    target = PrepareTarget("int8-static", recipe="shared") if quantized else PrepareTarget("fp32")
    items = len(next(iter(feeds.values())))
    first = next(iter(backend.describe(file).inputs.values())).shape[0]
    batch = first if isinstance(first, int) else max(n for n in range(1, 17) if items % n == 0)
    with TemporaryDirectory() as folder:
        out = Path(folder)
        given = replace(model, path=file, companions={})
        made = backend.prepare(given, target, None, out)
        parts = []
        config = RunConfig(threads=2, batch=batch, hints=_HINTS if quantized else {})
        with backend.open(Artifact(out, given, target, made), config) as program:
            stream = program.stream()
            for start in range(0, items - batch + 1, batch):
                stream.bind({name: array[start : start + batch] for name, array in feeds.items()})
                stream.infer()
                parts.append({name: np.array(array) for name, array in stream.read().items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
