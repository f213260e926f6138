"""Job: name the inputs and outputs of a source file."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from qbench.kit.adapter import Adapter
from qbench.kit.jobs.prepare import make_real
from qbench.kit.main import Emit


def run(backend: Adapter, request: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Request: ``path`` of the file, ``companions`` (links to files that belong to it; optional).
    Result: ``inputs`` and ``outputs``, tensor specs by name."""
    backend.import_tools()
    make_real(map(Path, request.get("companions", ())))
    inputs, outputs = backend.describe(Path(request["path"]))
    return {
        "inputs": {name: asdict(spec) for name, spec in inputs.items()},
        "outputs": {name: asdict(spec) for name, spec in outputs.items()},
    }
