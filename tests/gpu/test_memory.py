"""Bytes on the card against bytes that were allocated."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from gpu.running import Run, child
from qbench.kit import cuda
from qbench.machine.gpu.card import NoCard, find_card
from qbench.machine.gpu.watch import Watcher

pytestmark = pytest.mark.gpu

MIB = 2**20


def held(pynvml: Any, gpu: cuda.Device, amount: int) -> dict[str, Any]:
    """The watcher's figures for a process that holds this many bytes."""
    try:
        card = find_card(pynvml, gpu.facts())
    except NoCard as error:
        pytest.skip(str(error))
    with Watcher(pynvml, card) as watcher, child("allocate.py", amount):
        begin = time.monotonic_ns()
        time.sleep(1.0)
        end = time.monotonic_ns()
    return watcher.summary(begin, end)


def test_an_allocation_is_seen(gpu: cuda.Device, nvml: tuple[Any, Any]):
    """Of two processes that differ by 1 GiB, and hold CUDA's own memory alike."""
    less, more = held(nvml[0], gpu, 256 * MIB), held(nvml[0], gpu, 1280 * MIB)
    assert less["memory_process_by"] == more["memory_process_by"]
    assert less["memory_process_bytes"] is not None, less["missing"]
    difference = more["memory_process_bytes"] - less["memory_process_bytes"]
    assert difference == pytest.approx(1024 * MIB, rel=0.02)
    assert less["memory_process_bytes"] >= 256 * MIB


def test_a_program_holds_what_it_says_it_holds(run: Callable[..., Run], backend: str):
    """The process holds the engine's memory and CUDA's own."""
    done = run(models=["digits_mobilenet"], backends=[backend], batch_sizes=[32], timed_s=2.0)
    for trial in done.trials():
        if not trial.get("device_memory"):
            pytest.skip(f"{backend} does not tell what it holds")
        assert all(size >= 0 for size in trial["device_memory"].values())
        own = sum(trial["device_memory"].values())
        whole = trial["gpu"]["memory_process_bytes"]
        assert own > 0
        if whole is not None:
            assert own <= whole
