"""Job: convert a source, into the working folder's folder ``out``, and run the source on
samples."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from qbench.kit.adapter import PrepareError
from qbench.kit.converter import Converter, Source
from qbench.kit.feeds import load_items
from qbench.kit.jobs.evaluate import save_outputs
from qbench.kit.main import Emit


def run(converter: Converter, request: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Request: ``source, form, samples`` (``.npy`` files of ``[items, ...]``, by input name).
    Writes ``output-<index>.npy`` for each output of the source."""
    source = Source.from_json(request["source"])
    out = Path("out")
    out.mkdir()
    items = load_items(request["samples"], source.inputs)
    samples = {name: np.array(array) for name, array in items.items()}
    emit("convert")
    start = time.perf_counter_ns()
    converted = converter.convert(source, request["form"], samples, out)
    elapsed_ns = time.perf_counter_ns() - start
    if [path.name for path in out.iterdir()] != [converted.file]:
        raise PrepareError(f"the converter must write '{converted.file}' and nothing else")
    reference = source.from_source(converted.reference)
    for name, array in reference.items():
        if not np.isfinite(array).all():
            raise PrepareError(f"the source's output '{name}' holds NaN or infinity")
    return {
        "file": converted.file,
        "inputs": {name: asdict(tensor) for name, tensor in converted.inputs.items()},
        "outputs": {name: asdict(tensor) for name, tensor in converted.outputs.items()},
        "reference": save_outputs(reference),
        "tool": converted.tool,
        "notes": list(converted.notes),
        "convert_ns": elapsed_ns,
    }
