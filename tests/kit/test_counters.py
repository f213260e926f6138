"""The processor's counters: the real system call where it is permitted, and every way it is not."""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from qbench.kit.readings import counters
from qbench.kit.readings.counters import Counters
from qbench.machine.doctor.sensors import performance_counters

TASK_CLOCK = {"task_clock": (1, 1)}
"""PERF_TYPE_SOFTWARE, PERF_COUNT_SW_TASK_CLOCK: the kernel's own count of ns on a processor, which
virtual machines have too."""
linux = pytest.mark.skipif(sys.platform != "linux", reason="perf_event_open is Linux's")


def opened(events=counters.EVENTS) -> Counters:
    made = Counters(events)
    if made.reason is not None:
        pytest.skip(made.reason)
    return made


def read(made: Counters) -> dict[str, int]:
    counts = made.read()
    assert counts is not None
    return counts


def open_files() -> set[str]:
    return {file.name for file in Path("/proc/self/fd").iterdir() if file.exists()}


def work(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


# --------------------------------------------------------------------------- the real thing


@linux
def test_the_own_thread_and_later_ones_are_counted():
    """Against the process's own clock, of which the thread that sleeps has nothing."""
    idle = threading.Event()
    earlier = threading.Thread(target=idle.wait)
    earlier.start()
    made = opened(TASK_CLOCK)
    begin, before = time.process_time_ns(), read(made)
    later = threading.Thread(target=work, args=(0.1,))
    later.start()
    work(0.05)
    later.join()
    spent, after = time.process_time_ns() - begin, read(made)
    idle.set()
    earlier.join()
    made.close()
    assert after["task_clock"] - before["task_clock"] == pytest.approx(spent, rel=0.1)
    assert spent >= 150_000_000
    assert after["counting_ns"] == after["enabled_ns"]  # no hardware to take turns for


@linux
def test_closed_counters_stop_counting():
    made = opened(TASK_CLOCK)
    made.close()
    made.close()
    assert made.read() is None


@linux
def test_instructions_of_equal_work_are_equal():
    """MEASURING: retired instructions vary by less than a hundredth of a per cent."""
    made = opened()
    matrix = np.random.default_rng(0).random((32, 32), np.float32)
    counts = []
    for _ in range(6):
        before = read(made)
        for _ in range(200):
            np.matmul(matrix, matrix)
        counts.append(read(made)["instructions"] - before["instructions"])
    made.close()
    rest = counts[1:]  # the first loads code
    assert min(rest) > 200 * 32**3 / 16  # more than 16 products in an instruction is not to be had
    assert max(rest) - min(rest) < 0.002 * min(rest)


# --------------------------------------------------------------------------- where there are none


def failing(number: int):
    def fail(kind: int, config: int) -> int:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOENT, "no such counters"),
        (errno.EOPNOTSUPP, "no such counters"),
        (errno.ENOSYS, "no perf_event_open"),
        (errno.EMFILE, "Too many open files"),
    ],
)
def test_the_reason_there_are_none(monkeypatch, number, said):
    monkeypatch.setattr(counters, "_open", failing(number))
    made = Counters()
    assert made.reason is not None and said in made.reason
    assert made.read() is None


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
@pytest.mark.parametrize(
    ("level", "said"),
    [
        ("4\n", "kernel.perf_event_paranoid is 4; sudo sysctl kernel.perf_event_paranoid=2"),
        ("2\n", "in a container"),
        ("?\n", "in a container"),
    ],
)
def test_the_remedy_for_a_missing_permission(monkeypatch, tmp_path: Path, number, level, said):
    (tmp_path / "level").write_text(level)
    monkeypatch.setattr(counters, "_PARANOID", tmp_path / "level")
    monkeypatch.setattr(counters, "_open", failing(number))
    reason = Counters().reason
    assert reason is not None and said in reason


@linux
def test_a_processor_whose_number_of_the_call_is_not_known(monkeypatch):
    monkeypatch.setattr(counters, "SYSCALL", {})
    reason = Counters().reason
    assert reason is not None and "on this processor is unknown" in reason


@linux
def test_of_two_events_one_that_is_not_there_closes_the_other():
    before = open_files()
    made = Counters({**TASK_CLOCK, "none": (1, 9999)})
    assert made.reason is not None and made.read() is None
    assert open_files() == before


# --------------------------------------------------------------------------- turns


@pytest.fixture
def kernel(monkeypatch, tmp_path: Path):
    """Writes what the kernel would give for each event: count, enabled, counting."""

    def answer(**values: tuple[int, int, int]) -> Counters:
        files = iter(values.items())

        def open_file(kind: int, config: int) -> int:
            name, three = next(files)
            path = tmp_path / name
            path.write_bytes(np.array(three, np.uint64).tobytes())
            return os.open(path, os.O_RDONLY)

        monkeypatch.setattr(counters, "_open", open_file)
        return Counters(dict.fromkeys(values, (0, 0)))

    return answer


def test_counts_of_a_part_of_the_time_are_scaled_up_and_say_so(kernel):
    made = kernel(instructions=(1000, 80, 80), cycles=(500, 80, 20))
    assert made.read() == {
        "instructions": 1000, "cycles": 2000, "counting_ns": 20, "enabled_ns": 80,
    }  # fmt: skip


def test_an_event_that_never_had_its_turn_is_not_zero(kernel):
    """The counter opens, so only a reading shows it: the trial's record then says why."""
    made = kernel(instructions=(1000, 80, 80), cycles=(0, 80, 0))
    assert made.reason is None
    assert made.read() is None
    assert made.reason is not None and "cycles can be opened, but were never" in made.reason


def test_the_doctor_tries_whether_counters_count(kernel, monkeypatch):
    made = kernel(instructions=(0, 80, 0), cycles=(0, 80, 0))
    monkeypatch.setattr("qbench.machine.doctor.sensors.Counters", lambda: made)
    finding = performance_counters()
    assert finding.status == "warn" and "never counted" in finding.found
    assert not made._files  # closed
    made = kernel(instructions=(1000, 80, 80), cycles=(500, 80, 80))
    assert performance_counters().status == "good"
