"""Warming a GPU up, and reading its clock through a library that stands in for the driver's."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from energy_machine import gpu_facts

from qbench.kit.jobs import measure
from qbench.kit.readings import gpu_clock
from qbench.kit.readings.gpu_clock import GpuClock

LIBRARY = r"""
#include <string.h>
#include <stdlib.h>
int nvmlInitWithFlags(unsigned flags) { return flags || getenv("FAKE_NVML_FAILS") ? 9 : 0; }
int nvmlDeviceGetHandleByPciBusId_v2(const char *place, void **device) {
    if (strcmp(place, "0000:3C:00.0")) return 6;
    *device = (void *)0x7fffdeadbeef1000;
    return 0;
}
int nvmlDeviceGetClockInfo(void *device, int kind, unsigned *clock) {
    if (device != (void *)0x7fffdeadbeef1000) return 2;
    *clock = kind == 1 ? 1755 : 1;
    return 0;
}
"""


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    source, built = tmp_path / "nvml.c", tmp_path / "libnvidia-ml.so.1"
    source.write_text(LIBRARY)
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-o", built, source], check=True)
    except FileNotFoundError:
        pytest.skip("there is no C compiler")
    monkeypatch.setattr(gpu_clock, "LIBRARY", str(built))
    return built


def test_the_clock_is_that_of_the_card_at_its_place(library: Path):
    assert GpuClock(gpu_facts(1)).mhz() == 1755
    assert GpuClock(gpu_facts(0)).mhz() is None
    assert GpuClock(None).mhz() is None


def test_a_failing_or_missing_library_gives_no_clock(
    library: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FAKE_NVML_FAILS", "1")
    assert GpuClock(gpu_facts(1)).mhz() is None
    for name in ("libc.so.6", "libno-such-library.so.1"):
        monkeypatch.setattr(gpu_clock, "LIBRARY", name)
        assert GpuClock(gpu_facts(1)).mhz() is None


class Clock(GpuClock):
    """One that climbs by ``step`` MHz at each reading until it is at its end."""

    def __init__(self, begin: int | None, end: int = 1980, step: int = 100) -> None:
        super().__init__(None)
        self.now, self.end, self.step, self.readings = begin, end, step, 0

    def mhz(self) -> int | None:
        self.readings += 1
        if self.now is not None:
            self.now = min(self.end, self.now + self.step)
        return self.now


class Steady:
    """A stream whose calls all take as long."""

    def infer(self) -> None:
        time.sleep(0.0005)


def warmed(clock: GpuClock | None, limit_s: float = 2.0) -> dict[str, Any]:
    return measure._warm_up([Steady()], int(limit_s * 1e9), clock)  # type: ignore[list-item]


def test_a_gpu_is_warm_when_its_clock_is_steady():
    """Which takes 25 readings here, of 20 ms each, though calls take as long from the beginning."""
    clock = Clock(begin=345, step=75)
    found = warmed(clock)
    assert found["clock_steady"] is True and found["stable"] is True
    assert clock.now == 1980 and clock.readings >= 22
    assert 0.4e9 < found["ns"] < 2e9


def test_an_unsteady_clock_is_reported():
    found = warmed(Clock(begin=400, end=10**6, step=100), limit_s=0.5)
    assert found["clock_steady"] is False
    assert found["ns"] >= 0.5e9


def test_a_gpu_warms_up_for_a_fifth_of_a_second_whatever_its_clock():
    for clock in (Clock(1980), Clock(None)):
        found = warmed(clock)
        assert 0.2e9 <= found["ns"] < 0.5e9
    assert found["clock_steady"] is None


def test_the_processor_is_warm_as_soon_as_calls_are():
    found = warmed(None)
    assert found["clock_steady"] is None
    assert found["ns"] < 0.2e9
