"""Job: compile a prepared artifact for a device, into the working folder's folder ``out``."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from qbench.kit.adapter import Adapter, PrepareError
from qbench.kit.jobs.evaluate import load_artifact
from qbench.kit.jobs.prepare import write_record
from qbench.kit.main import Emit
from qbench.kit.model import Artifact, Provenance, RunConfig
from qbench.kit.readings.memory import Memory


def run(backend: Adapter, request: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Request: ``artifact`` (folder of the prepared artifact), ``kept`` (folder with the caches of
    earlier compilations, updated in place), ``config``."""
    prepared = load_artifact(Path(request["artifact"]))
    config = RunConfig(**request["config"])
    out = Path("out")
    out.mkdir()

    emit("import")
    memory = Memory()
    version = backend.import_runtime()
    emit("compile")
    start = time.perf_counter_ns()
    provenance = backend.compile(prepared, config, Path(request["kept"]), out)
    elapsed_ns = time.perf_counter_ns() - start

    if provenance is None:
        raise PrepareError("the adapter compiles nothing")
    if not (out / provenance.file).exists():
        raise PrepareError(f"the adapter named '{provenance.file}' but did not write it")
    whole = _whole(prepared.provenance, provenance)
    artifact = Artifact(out, prepared.model, prepared.target, whole)
    write_record(artifact, version, elapsed_ns, memory)
    return {"provenance": asdict(whole), "prepare_ns": elapsed_ns}


def _whole(prepared: Provenance, compiled: Provenance) -> Provenance:
    """Merge both provenances: the compiled artifact keeps the quantizer of the prepared one."""
    count = compiled.quantized_ops
    return replace(
        compiled,
        quantizer=compiled.quantizer or prepared.quantizer,
        settings={**prepared.settings, **compiled.settings},
        quantized_ops=prepared.quantized_ops if count is None else count,
        notes=(*prepared.notes, *compiled.notes),
    )
