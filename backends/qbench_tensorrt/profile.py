"""Time by layer, by TensorRT's own profiler.

Imported while measuring: the standard library, NumPy and tensorrt only.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import tensorrt as trt  # pyright: ignore[reportMissingImports]

from qbench.kit.model import Feed
from qbench.kit.operators import Operator, Profile
from qbench_tensorrt import inspect

if TYPE_CHECKING:
    from qbench_tensorrt.session import TrtProgram

_NOTE = "with the profiler layers run one by one, each waited for, and never as a CUDA graph"


class Times(trt.IProfiler):
    """Adds up what TensorRT reports.

    Attributes:
        ms: by layer, in the order in which they first ran.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ms: dict[str, float] = {}

    def report_layer_time(self, layer_name: str, ms: float) -> None:
        self.ms[layer_name] = self.ms.get(layer_name, 0.0) + ms


def profile(program: TrtProgram, feed: Feed, runs: int) -> Profile:
    """See ``qbench.kit.adapter.Program.profile``.

    Raises:
        RuntimeError: TensorRT reported nothing, or zeros.
    """
    times = Times()
    with closing(program.stream()) as stream:  # its memory is that of all activations
        stream.bind(feed)
        stream.infer()  # the inputs are on the device from here on
        stream.context.profiler = times
        stream.context.enqueue_emits_profile = True
        for run in range(1 + runs):
            if run == 1:
                times.ms.clear()
            stream.enqueue()
            stream.lane.wait()
    if not any(times.ms.values()):
        raise RuntimeError("TensorRT's profiler gave no times: all of them are zero")
    found, notes = inspect.operators(program.artifact.path, program.tf32)
    return Profile(tuple(_timed(found, times.ms, runs)), (_NOTE, *notes))


def _timed(found: list[Operator], ms: dict[str, float], runs: int) -> list[Operator]:
    """The layers with their mean times. One that did not run (a reshape, weights) took none; one
    that the inspector does not name is added at the end."""
    ns = {name: total * 1e6 / runs for name, total in ms.items()}
    timed = [replace(op, ns=ns.pop(op.name, 0.0)) for op in found]
    return [*timed, *(Operator(name, "", "other", ns=left) for name, left in ns.items())]
