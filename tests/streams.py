"""Streams for tests of scenarios: real ones of the fake backend, as slow as the test wants them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from qbench.kit.adapter import Stream
from qbench.kit.model import Artifact, Feed, PrepareTarget, RunConfig
from qbench.kit.scenarios.window import Opened
from qbench.spec.scenarios import SCENARIOS, complete_options
from qbench.testing.fake import FakeBackend, fake_model

Seconds = Callable[[int], float]
"""How long the inference of this number takes."""


class Slow:
    """A stream whose inferences take longer, asleep: the processor and the interpreter's lock are
    free meanwhile, as they are while a runtime computes."""

    def __init__(self, stream: Stream, seconds: Seconds) -> None:
        self._stream, self._seconds = stream, seconds
        self.calls = 0

    def bind(self, feed: Feed) -> None:
        self._stream.bind(feed)

    def infer(self) -> None:
        time.sleep(self._seconds(self.calls))
        self.calls += 1
        self._stream.infer()

    def read(self) -> Feed:
        return self._stream.read()


def opened(
    folder: Path,
    scenario: str,
    options: dict[str, Any],
    seconds: float | Seconds = 0.002,
    streams: int = 1,
    batch: int = 1,
    items: int = 20,
) -> Opened:
    """An opened fake program, bound to its first items, for ``drive``."""
    backend, out = FakeBackend(), folder / "artifact"
    out.mkdir()
    model = fake_model(folder / "net.fake", infer_us=1)
    target = PrepareTarget("fp32")
    artifact = Artifact(out, model, target, backend.prepare(model, target, None, out))
    config = RunConfig(streams=streams, batch=batch)
    program = backend.open(artifact, config)
    images = np.random.default_rng(0).normal(size=(items, 1, 8, 8)).astype(np.float32)
    takes = seconds if callable(seconds) else lambda call: seconds
    slow = [Slow(program.stream(), takes) for _ in range(streams)]
    for stream in slow:
        stream.bind({"image": images[np.arange(batch) % items]})
    complete = complete_options(scenario, options)
    assert SCENARIOS[scenario].streams or streams == 1
    return Opened(model, config, slow, {"image": images}, complete, 100_000_000)


def first_scores(given: Opened) -> np.ndarray:
    """Outputs of the first batch on a stream of its own."""
    stream, batch = given.streams[-1], given.config.batch
    images = given.items["image"]
    stream.bind({"image": images[np.arange(batch) % len(images)]})
    stream.infer()
    return np.array(stream.read()["scores"])
