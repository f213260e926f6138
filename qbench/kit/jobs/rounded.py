"""Job: run evaluation items through the float32 model with its weights rounded to 8 bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from qbench.kit.adapter import Adapter, Unsupported
from qbench.kit.feeds import load_items
from qbench.kit.jobs.evaluate import load_artifact, predict, save_outputs
from qbench.kit.jobs.prepare import make_real
from qbench.kit.main import Emit
from qbench.kit.model import Artifact, RunConfig


def run(backend: Adapter, request: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Request: ``twin`` (folder of the float32 artifact), ``source`` (the ONNX file that it was
    made from), ``companions`` (files next to it), ``config``, ``feeds`` (``.npy`` files of
    ``[items, ...]``, by input name), ``items`` (number of items). Writes ``output-<index>.npy``
    for each output."""
    emit("import")
    backend.import_tools()
    import onnx

    from qbench.kit.onnxfile import graph
    from qbench.kit.onnxfile.rounding import round_weights

    emit("round")
    make_real(map(Path, request["companions"]))
    model = graph.load(Path(request["source"]))
    if not round_weights(model):
        raise Unsupported("the file has no weights of convolutions or matrix products")
    file, out = Path("rounded.onnx"), Path("out")
    onnx.save(model, file)
    out.mkdir()
    emit("prepare")
    twin = load_artifact(Path(request["twin"]))
    described = replace(twin.model, path=file, companions={})
    made = backend.prepare(described, twin.target, None, out)
    emit("evaluate")
    config = RunConfig(**request["config"])
    items = load_items(request["feeds"], described.inputs)
    feeds = {name: array[: request["items"]] for name, array in items.items()}
    with backend.open(Artifact(out, described, twin.target, made), config) as program:
        outputs = predict(program, feeds, described, config.batch)
    return {"outputs": save_outputs(outputs)}
