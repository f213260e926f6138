"""Job: ask an adapter whether its runtime works here."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from qbench.kit.adapter import Backend, Ready
from qbench.kit.main import Emit


def run(backend: Backend, request: dict[str, Any], emit: Emit) -> dict[str, Any]:
    answer = backend.probe()
    return {"ready": isinstance(answer, Ready), **asdict(answer)}
