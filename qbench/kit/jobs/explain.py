"""Job: profile a program's operators, and compare its layers' outputs with float32's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qbench.kit.adapter import Adapter, Unsupported
from qbench.kit.feeds import load_items
from qbench.kit.jobs.evaluate import batches, load_artifact, profiled
from qbench.kit.jobs.layers import compare
from qbench.kit.main import Emit
from qbench.kit.model import RunConfig
from qbench.kit.reasons import short


def run(backend: Adapter, request: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Request: ``artifact`` and ``twin`` (folders; the twin is the float32 artifact, or None),
    ``prepared`` and ``prepared_twin`` (the artifacts that they were compiled from, whose layers can
    be read; else the same ones), ``config``, ``feeds`` (``.npy`` files of ``[items, ...]``, by
    input
    name), ``runs`` (number of inferences to profile), ``items`` (number of items to compare layers
    on).

    Result: ``profile`` and ``twin_profile`` (``backend.Profile`` as JSON, or None), ``layers`` (see
    ``layers.compare``), ``refusals`` (why one of them is missing, by name)."""
    config = RunConfig(**request["config"])
    artifact = load_artifact(Path(request["artifact"]))
    feeds = load_items(request["feeds"], artifact.model.inputs)
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
                first = next(batches(feeds, artifact.model, config.batch, config.batch))
                result[name] = profiled(program, first, request["runs"])
        except Unsupported as error:
            refusals[name] = short(str(error))
    if twin is not None:
        emit("layers")
        try:
            ours, theirs = (
                load_artifact(Path(request[name])) for name in ("prepared", "prepared_twin")
            )
            result["layers"] = compare(backend, ours, theirs, config, feeds, request["items"])
        except Unsupported as error:
            refusals["layers"] = short(str(error))
    return {**result, "refusals": refusals}
