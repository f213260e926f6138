"""Job: ask an adapter whether its runtime works on this machine."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from qbench.kit.adapter import Adapter, Ready
from qbench.kit.main import Emit


def run(backend: Adapter, request: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Result: ``ready``, and the fields of ``Ready`` or ``Unavailable``."""
    answer = backend.probe()
    return {"ready": isinstance(answer, Ready), **asdict(answer)}
