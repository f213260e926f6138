"""Job: say what a source file says about its tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qbench.kit.adapter import Adapter
from qbench.kit.jobs.prepare import make_real
from qbench.kit.main import Emit


def run(backend: Adapter, request: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Request: ``path`` of the file, ``companions`` (links to files that belong to it; optional).
    Result: a :class:`Description`."""
    backend.import_tools()
    make_real(map(Path, request.get("companions", ())))
    return backend.describe(Path(request["path"])).to_json()
