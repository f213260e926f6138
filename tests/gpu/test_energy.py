"""Compare joules by the GPU's counter with its power readings."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpu.running import Run
from qbench.bundle.records.run import to_json
from qbench.machine.energy.integral import joules

pytestmark = pytest.mark.gpu

READ_EVERY_S = 0.05
WITHIN = 0.10


def test_energy_is_power_times_time(
    run: Callable[..., Run], nvml: tuple[Any, Any], backend: str, assets: Path
):
    """A steady load: the joules of every window, from the counter, are the mean of the power that
    this test reads itself times the window's length, within 10 %."""
    pynvml, handle = nvml
    try:
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError as error:
        pytest.skip(f"this GPU has no energy counter: {error}")
    readings: list[tuple[float, float]] = []
    ended = threading.Event()

    def read() -> None:
        while not ended.wait(READ_EVERY_S):
            readings.append((time.monotonic_ns(), pynvml.nvmlDeviceGetPowerUsage(handle) * 1e-3))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        done = run(
            models=["mobilenet_v2_100_224"],
            backends=[backend],
            batch_sizes=[32],
            warmup_s=2.0,
            energy={"window_s": 10, "windows": 3, "idle_s": 5},
        )
    finally:
        ended.set()
        reader.join()

    power = np.asarray(readings)
    windows = [line for line in map(to_json, done.bundle.energy) if line["kind"] == "window"]
    assert len(windows) == 3
    for window in windows:
        assert window["status"] == "ok", window["reason"]
        counted = [s["joules"] for s in window["sensors"] if s["method"] == "nvml total energy"]
        expected = joules(power, "power", window["begin_ns"], window["end_ns"])
        ratios = [used / expected - 1 for used in counted if used]
        assert min(map(abs, ratios), default=1) < WITHIN, (counted, expected)
