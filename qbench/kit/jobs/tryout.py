"""Job: run a source file once on each of some feeds, to learn what it does with a batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from qbench.kit.adapter import Adapter, Unsupported
from qbench.kit.jobs.evaluate import save_outputs
from qbench.kit.jobs.prepare import chosen, make_real
from qbench.kit.main import Emit
from qbench.kit.model import Artifact, Feed, Model, PrepareTarget, RunConfig


def run(backend: Adapter, request: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Request: ``model``, ``batch``, ``feeds`` (for each inference, ``.npy`` files by canonical
    input). Result: ``outputs`` (for each inference, ``.npy`` files by canonical output)."""
    model = Model.from_json(request["model"])
    backend.import_tools()
    make_real(model.companions.values())
    model = chosen(backend, model)
    emit("prepare")
    artifact = _prepared(backend, model)
    emit("import")
    backend.import_runtime()
    emit("run")
    with backend.open(artifact, RunConfig(batch=request["batch"])) as program:
        stream = program.stream()
        outputs: list[Feed] = []
        for files in request["feeds"]:
            stream.bind({name: np.load(file) for name, file in files.items()})
            stream.infer()
            outputs.append({name: np.array(array) for name, array in stream.read().items()})
    return {"outputs": [save_outputs(one, f"run-{i}-") for i, one in enumerate(outputs)]}


def _prepared(backend: Adapter, model: Model) -> Artifact:
    """The file as it is: at float32, or as shipped if it is quantized."""
    for precision in ("fp32", "as-shipped"):
        target, out = PrepareTarget(precision), Path(f"out-{precision}")
        out.mkdir()
        try:
            return Artifact(out, model, target, backend.prepare(model, target, None, out))
        except Unsupported as error:
            refusal = error
    raise refusal
