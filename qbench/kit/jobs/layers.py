"""Job: compare the layers' outputs of an artifact with those of its float32 twin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from qbench.kit.adapter import Adapter, Unsupported
from qbench.kit.feeds import load_items
from qbench.kit.jobs.evaluate import batches, load_artifact
from qbench.kit.main import Emit
from qbench.kit.model import Artifact, Feed, RunConfig


def run(backend: Adapter, request: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Request: ``prepared`` and ``prepared_twin`` (folders of artifacts whose layers can be read),
    ``config``, ``feeds`` (``.npy`` files of ``[items, ...]``, by input name), ``items`` (number of
    items).

    Result: ``layers`` (see ``compare``)."""
    emit("import")
    backend.import_runtime()
    ours, theirs = (load_artifact(Path(request[n])) for n in ("prepared", "prepared_twin"))
    feeds = load_items(request["feeds"], ours.model.inputs)
    emit("layers")
    config = RunConfig(**request["config"])
    return {"layers": compare(backend, ours, theirs, config, feeds, request["items"])}


def compare(
    backend: Adapter, artifact: Artifact, twin: Artifact, config: RunConfig, feeds: Feed, items: int
) -> list[dict[str, Any]]:
    """Compare the layers that both artifacts report. Each record, in order of execution, has
    ``name``, the twin's ``kind``, and over all items ``signal`` (sum of squared outputs of the
    twin)
    and ``noise`` (sum of squared differences)."""
    found: dict[str, dict[str, Any]] = {}
    given = list(batches(feeds, artifact.model, config.batch, items))
    exact = backend.activations(twin, config, given)
    quantized = backend.activations(artifact, config, given)
    if exact is None or quantized is None:
        raise Unsupported("this adapter does not expose the outputs of layers")
    for theirs, ours in zip(exact, quantized, strict=True):
        known = {layer.name: layer for layer in theirs}
        for layer in ours:
            base = known.get(layer.name)
            if base is None or base.values.shape != layer.values.shape:
                continue
            record = found.setdefault(
                layer.name, {"name": layer.name, "kind": base.kind, "signal": 0.0, "noise": 0.0}
            )
            wide = base.values.astype(np.float64)
            record["signal"] += float(np.sum(wide**2))
            record["noise"] += float(np.sum((wide - layer.values) ** 2))
    return list(found.values())
