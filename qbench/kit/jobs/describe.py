"""Job: say what a source file says about its tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qbench.kit.adapter import Adapter
from qbench.kit.jobs.prepare import extracted, make_real
from qbench.kit.main import Emit


def run(backend: Adapter, request: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Request: ``path`` of the file, ``companions`` (links to files that belong to it; optional),
    ``signature`` (the key of one of several; optional). Result: a :class:`Description`."""
    backend.import_tools()
    make_real(map(Path, request.get("companions", ())))
    path = Path(request["path"])
    if request.get("signature") is not None:
        path = extracted(backend, path, request["signature"])
    return backend.describe(path).to_json()
