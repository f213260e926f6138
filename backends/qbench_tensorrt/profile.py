"""Time by layer, by TensorRT's own profiler.

Imported while measuring: the standard library, NumPy and tensorrt only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import tensorrt as trt  # pyright: ignore[reportMissingImports]

from qbench.kit.operators import Operator, Profile
from qbench_tensorrt import inspect

_NOTE = "the profiler runs layers one by one, waits for each, and never uses a CUDA graph"


class Times(trt.IProfiler):
    """Sums the times that TensorRT reports.

    Attributes:
        ms: total by layer, in order of first execution.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ms: dict[str, float] = {}

    def report_layer_time(self, layer_name: str, ms: float) -> None:
        self.ms[layer_name] = self.ms.get(layer_name, 0.0) + ms


def profile(context: Any, run: Callable[[], None], runs: int, folder: Path, tf32: bool) -> Profile:
    """Profile ``runs`` inferences after one that is not counted.

    Args:
        context: the execution context that ``run`` uses.
        run: one inference, kernel by kernel, and the wait for it.
        folder: the compiled artifact's.

    Raises:
        RuntimeError: TensorRT reported nothing, or zeros.
    """
    times = Times()
    context.profiler = times
    context.enqueue_emits_profile = True
    run()
    times.ms.clear()
    for _ in range(runs):
        run()
    if not any(times.ms.values()):
        raise RuntimeError("TensorRT's profiler gave no times: all of them are zero")
    found, notes = inspect.operators(folder, tf32)
    return Profile(tuple(_timed(found, times.ms, runs)), (_NOTE, *notes))


def _timed(found: list[Operator], ms: dict[str, float], runs: int) -> list[Operator]:
    """The layers with their mean times: 0 for a layer that did not run (a reshape, weights). Layers
    that the inspector does not list follow at the end."""
    ns = {name: total * 1e6 / runs for name, total in ms.items()}
    timed = [replace(op, ns=ns.pop(op.name, 0.0)) for op in found]
    return [*timed, *(Operator(name, "", "other", ns=left) for name, left in ns.items())]
