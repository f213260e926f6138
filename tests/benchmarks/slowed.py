"""ONNX Runtime made slower on purpose: what ``study.py`` has to find.

Workers import this module: its folder has to be on ``PYTHONPATH``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from qbench.kit.model import Artifact, RunConfig
from qbench_onnxruntime import Backend
from qbench_onnxruntime.session import OrtProgram
from qbench_onnxruntime.stream import OrtStream

SHARE, EVERY = "slowed_share", "slowed_every"
"""Hints: by what share of its own duration a call is made longer, and which calls (every n-th)."""


class Slowed(Backend):
    """ONNX Runtime's adapter, whose calls go on computing after the real one is over."""

    def open(self, artifact: Artifact, config: RunConfig, inspect: bool = False) -> OrtProgram:
        hints = dict(config.hints)
        share, every = float(hints.pop(SHARE)), int(hints.pop(EVERY))
        program = super().open(artifact, replace(config, hints=hints), inspect)
        make = program.stream

        def stream() -> OrtStream:
            made = make()
            made.infer = slowed(made.infer, share, every)
            return made

        program.stream = stream
        return program


def slowed(infer: Callable[[], None], share: float, every: int) -> Callable[[], None]:
    """``infer``, but every ``every``-th call is busy for ``share`` of its duration more.

    A share, and not a constant: code that has become slower is so at every clock rate."""
    clock = time.perf_counter_ns
    calls = 0

    def call() -> None:
        nonlocal calls
        begin = clock()
        infer()
        now = clock()
        calls += 1
        if calls % every == 0:
            end = now + int(share * (now - begin))
            while clock() < end:
                pass

    return call
