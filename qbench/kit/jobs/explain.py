"""Job: profile a program's operators, and compare its layers' outputs with float32's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from qbench.kit.adapter import Adapter, Unsupported
from qbench.kit.jobs.evaluate import batches, load_artifact, profiled
from qbench.kit.main import Emit
from qbench.kit.model import Artifact, Feed, RunConfig


def run(backend: Adapter, request: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Request: ``artifact`` and ``twin`` (folders; the twin is the float32 artifact, or None),
    ``prepared`` and ``prepared_twin`` (the artifacts that they were compiled from, whose layers can
    be read; else the same ones), ``config``, ``feeds`` (``.npy`` files of ``[items, ...]``, by
    input
    name), ``runs`` (number of inferences to profile), ``items`` (number of items to compare layers
    on).

    Result: ``profile`` and ``twin_profile`` (``backend.Profile`` as JSON, or None), ``layers`` (see
    ``_compare``), ``refusals`` (why one of them is missing, by name)."""
    config = RunConfig(**request["config"])
    feeds = {name: np.load(file, mmap_mode="r") for name, file in request["feeds"].items()}
    artifact = load_artifact(Path(request["artifact"]))
    twin = load_artifact(Path(request["twin"])) if request["twin"] else None
    emit("import")
    backend.import_runtime()
    result: dict[str, Any] = {"profile": None, "twin_profile": None, "layers": None}
    refusals: dict[str, str] = {}
    for name, one in (("profile", artifact), ("twin_profile", twin)):
        if one is None:
            continue
        emit(name)
        try:
            with backend.open(one, config, inspect=True) as program:
                result[name] = profiled(program, feeds, config.batch, request["runs"])
        except Unsupported as error:
            refusals[name] = str(error)
    if twin is not None:
        emit("layers")
        try:
            ours, theirs = (
                load_artifact(Path(request[name])) for name in ("prepared", "prepared_twin")
            )
            result["layers"] = _compare(backend, ours, theirs, config, feeds, request["items"])
        except Unsupported as error:
            refusals["layers"] = str(error)
    return {**result, "refusals": refusals}


def _compare(
    backend: Adapter, artifact: Artifact, twin: Artifact, config: RunConfig, feeds: Feed, items: int
) -> list[dict[str, Any]]:
    """Compare the layers that both artifacts report. Each record, in order of execution, has
    ``name``, the twin's ``kind``, and over all items ``signal`` (sum of squared outputs of the
    twin)
    and ``noise`` (sum of squared differences)."""
    found: dict[str, dict[str, Any]] = {}
    given = list(batches(feeds, config.batch, items))
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
