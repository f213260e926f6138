"""Watching a card while a worker runs on it, on a fake NVML and a clock that the tests move."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from energy_machine import FakeNvml, Machine, gpu_facts
from paths import ROOT

from qbench.bundle.records.gpu import Gpu
from qbench.kit.readings import gpu_clock
from qbench.machine.energy.sensors import find_sensors
from qbench.machine.gpu.card import NoCard, find_card, is_ours, place
from qbench.machine.gpu.sharing import SharedGpu, refuse_shared
from qbench.machine.gpu.state import THROTTLING, read_state
from qbench.machine.gpu.watch import Watcher, watching

GB = 10**9
FOREIGN = 99_999_999  # no process has this id here: as of another container's
MIG = "MIG-11111111-2222-3333-4444-555555555555"


class Trial:
    """A trial of three seconds on a fake GPU, of which the middle one is the window."""

    def __init__(self, root: Path, nvml: FakeNvml, **how: Any) -> None:
        self.nvml, self.machine = nvml, Machine(root)
        self.card = find_card(nvml, how.pop("facts", gpu_facts(0)))
        self.how = {"ours": lambda pid: pid == os.getpid(), **how}

    @contextmanager
    def running(self) -> Iterator[Machine]:
        self.watcher = Watcher(self.nvml, self.card, self.machine.clock, **self.how)
        with self.watcher:
            self.machine.sleep(1)
            self.begin = self.machine.now_ns
            yield self.machine
            self.end = self.machine.now_ns
            self.machine.sleep(1)

    def summary(self) -> dict[str, Any]:
        found = self.watcher.summary(self.begin, self.end)
        Gpu.model_validate(found)
        return found


# --------------------------------------------------------------------------- which card


def test_a_device_is_found_by_what_it_is_and_not_by_its_number(tmp_path: Path):
    """CUDA_VISIBLE_DEVICES=1 makes NVML's second GPU cuda:0."""
    nvml = FakeNvml(gpus=2)
    facts = gpu_facts(1)
    assert facts["index"] == 0
    assert find_card(nvml, facts).whole == 1
    renamed = {**facts, "uuid": "GPU-something-that-a-virtual-machine-made-up"}
    assert find_card(nvml, renamed).whole == 1
    assert place(facts) == {"pci_bus_id": "0000:3c:00.0", "mig": False}
    with pytest.raises(NoCard, match=r"does not show the GPU at 0000:3E:00\.0: Not Found"):
        find_card(nvml, gpu_facts(3))


def test_a_part_of_a_gpu_has_its_own_memory_and_the_clock_of_the_whole():
    facts = {**gpu_facts(0), "uuid": MIG}
    card = find_card(FakeNvml(parts=(MIG,)), facts)
    assert (card.whole, card.part, card.mig) == (0, ("part", 0), True)
    assert place(facts) == {"pci_bus_id": "0000:3b:00.0", "mig": True}
    with pytest.raises(NoCard, match=r"this MIG instance: Not Found"):
        find_card(FakeNvml(), facts)


def test_the_state_of_a_gpu_names_missing_readings():
    nvml = FakeNvml(throttle=0x4 | 0x40 | 0x1 | 0x2)  # ... idle, and clocks that somebody set
    state, missing = read_state(nvml, find_card(nvml, gpu_facts(0)))
    assert state["throttled"] == ["power cap", "hardware thermal slowdown"]
    assert (state["sm_clock_mhz"], state["temperature_c"], state["power_w"]) == (1980, 41, 250)
    assert state["memory_used_bytes"] is None
    assert missing == {"memory_used_bytes": "Not Supported"}
    nvml.throttle = 0x1 | 0x2 | 0x100
    assert read_state(nvml, find_card(nvml, gpu_facts(0))).values["throttled"] == []


@pytest.mark.parametrize(
    ("how", "watts"),
    [
        ({"milliwatts_now": 610_000}, 610),
        ({"milliwatts_now": None}, 250),
        ({"milliwatts_now": 610_000, "refuses": ("nvmlDeviceGetFieldValues",)}, 250),
    ],
)
def test_power_is_instantaneous_where_the_driver_has_it(tmp_path: Path, how, watts):
    """And the mean of the last second, which holds what was before a window, where it does not."""
    nvml = FakeNvml(**how)
    assert read_state(nvml, find_card(nvml, gpu_facts(0))).values["power_w"] == watts
    (power,) = (s for s in find_sensors(tmp_path, nvml).sensors if s.kind == "power")
    assert power.read() == watts


# --------------------------------------------------------------------------- the window


def test_only_the_window_is_summed_up(tmp_path: Path):
    nvml = FakeNvml(sm_mhz=345, milliwatts=70_000)
    trial = Trial(tmp_path, nvml)
    with trial.running() as machine:
        nvml.sm_mhz, nvml.milliwatts, nvml.degrees = 1980, 600_000, 62
        machine.sleep(0.95)
    # ... after which the card idles again
    nvml.sm_mhz = 345
    gpu = trial.summary()
    assert (gpu["sm_clock_mhz"], gpu["memory_clock_mhz"]) == (1980, 2619)
    assert 8 <= gpu["samples"] <= 11
    assert gpu["power_w"] == pytest.approx(600, rel=0.15)
    assert gpu["temperature_c"] == 62
    assert (gpu["throttled"], gpu["others"]) == ({}, 0)
    assert (gpu["power_limit_w"], gpu["power_limit_default_w"]) == (700, 700)
    assert (gpu["ecc"], gpu["persistence"], gpu["compute_mode"]) == (True, True, "default")
    assert (gpu["pcie_generation"], gpu["pcie_width"], gpu["mig"]) == (5, 16, False)


def test_throttling_is_a_share_of_the_readings_and_the_clock_has_its_ends(tmp_path: Path):
    nvml = FakeNvml()
    trial = Trial(tmp_path, nvml)
    with trial.running() as machine:
        machine.sleep(1)
        nvml.throttle, nvml.sm_mhz = 0x40, 1200
        machine.sleep(1)
        nvml.throttle, nvml.sm_mhz = 0x1, 1980
        machine.sleep(2)
    gpu = trial.summary()
    assert gpu["throttled"] == {"hardware thermal slowdown": pytest.approx(0.25, abs=0.03)}
    assert (gpu["sm_clock_low_mhz"], gpu["sm_clock_high_mhz"]) == (1200, 1980)
    assert gpu["sm_clock_mhz"] == 1980


def test_memory_errors_are_those_that_came_meanwhile(tmp_path: Path):
    nvml = FakeNvml(corrected=7)
    trial = Trial(tmp_path, nvml)
    with trial.running() as machine:
        machine.sleep(1)
        nvml.corrected = 9
    assert (trial.summary()["ecc_corrected"], trial.summary()["ecc_uncorrected"]) == (2, 0)


def test_missing_readings_are_none_with_a_reason(tmp_path: Path):
    refuses = ("nvmlDeviceGetClockInfo", "nvmlDeviceGetEccMode", "nvmlDeviceGetTotalEccErrors")
    trial = Trial(tmp_path, FakeNvml(refuses=refuses, processes=None))
    with trial.running() as machine:
        machine.sleep(1)
    gpu = trial.summary()
    for name in ("sm_clock_mhz", "memory_clock_mhz", "ecc", "ecc_corrected"):
        assert (gpu[name], gpu["missing"][name]) == (None, "Not Supported"), name
    assert (gpu["others"], gpu["missing"]["others"]) == (None, "Insufficient Permissions")
    assert gpu["memory_process_bytes"] is None and "memory_process_bytes" in gpu["missing"]
    assert gpu["power_w"] == 250 and "power_w" not in gpu["missing"]


def test_a_window_that_is_too_short_has_no_reading(tmp_path: Path):
    trial = Trial(tmp_path, FakeNvml())
    with trial.running() as machine:
        machine.now_ns += 10_000_000
        trial.begin += 1_000_000
    gpu = trial.summary()
    assert (gpu["samples"], gpu["sm_clock_mhz"], gpu["throttled"]) == (0, None, None)
    assert gpu["missing"]["sm_clock_mhz"] == "no sample within the window of 0.009 s"


# --------------------------------------------------------------------------- processes


def test_the_workers_memory_is_its_own_figure(tmp_path: Path):
    """Beside another process, which was there before."""
    nvml = FakeNvml(used_bytes=30 * GB, processes=[(FOREIGN, 29 * GB)])
    trial = Trial(tmp_path, nvml)
    with trial.running() as machine:
        nvml.processes = [(FOREIGN, 29 * GB), (os.getpid(), 2 * GB)]
        machine.sleep(0.5)
        nvml.processes = [(FOREIGN, 29 * GB), (os.getpid(), 3 * GB)]
        machine.sleep(0.5)
    gpu = trial.summary()
    assert (gpu["memory_process_bytes"], gpu["memory_process_by"]) == (3 * GB, "process")
    assert gpu["others"] == 1


def test_in_a_container_the_process_that_came_is_the_worker(tmp_path: Path):
    nvml = FakeNvml(used_bytes=1 * GB)
    trial = Trial(tmp_path, nvml)
    with trial.running() as machine:
        nvml.processes = [(FOREIGN, 2 * GB)]
        machine.sleep(1)
    gpu = trial.summary()
    assert (gpu["memory_process_bytes"], gpu["others"]) == (2 * GB, 0)


def test_a_process_that_was_there_before_is_never_the_worker(tmp_path: Path):
    nvml = FakeNvml(used_bytes=1 * GB, processes=[(FOREIGN, 1 * GB)])
    trial = Trial(tmp_path, nvml)
    with trial.running() as machine:
        nvml.used_bytes = 2 * GB
        machine.sleep(1)
    gpu = trial.summary()
    assert (gpu["memory_process_bytes"], gpu["others"]) == (None, 1)


def test_where_processes_are_not_listed_memory_is_the_difference_to_before(tmp_path: Path):
    nvml = FakeNvml(used_bytes=1 * GB)
    trial = Trial(tmp_path, nvml)
    with trial.running() as machine:
        nvml.used_bytes = 4 * GB
        machine.sleep(1)
    gpu = trial.summary()
    assert (gpu["memory_process_bytes"], gpu["memory_process_by"]) == (3 * GB, "difference")
    assert gpu["memory_used_bytes"] == 4 * GB
    nvml.used_bytes, nvml.processes = 1 * GB, []
    with trial.running() as machine:
        nvml.used_bytes, nvml.processes = 4 * GB, [(FOREIGN, None)]  # as under Windows' drivers
        machine.sleep(1)
    assert trial.summary()["memory_process_by"] == "difference"


def test_ours_are_this_process_and_what_it_started():
    assert is_ours(os.getpid())
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert is_ours(child.pid)
    finally:
        child.communicate()
    assert not is_ours(os.getppid()) and not is_ours(FOREIGN)


def test_a_part_of_a_gpu_is_watched_too(tmp_path: Path):
    trial = Trial(tmp_path, FakeNvml(parts=(MIG,)), facts={**gpu_facts(0), "uuid": MIG})
    with trial.running() as machine:
        machine.sleep(1)
    assert (trial.summary()["mig"], trial.summary()["sm_clock_mhz"]) == (True, 1980)


# --------------------------------------------------------------------------- in a run


def test_the_processor_has_no_gpu_and_a_gpu_without_nvml_a_reason(monkeypatch: pytest.MonkeyPatch):
    with watching(None) as watcher:
        pass
    assert watcher.summary(0, 1) is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with watching(gpu_facts(0)) as watcher:
        pass
    summary = watcher.summary(0, 1)
    assert summary == {
        "samples": 0, "missing": {"all": "the package nvidia-ml-py is not installed"},
    }  # fmt: skip
    Gpu.model_validate(summary)
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())
    with watching(gpu_facts(5)) as watcher:
        pass
    assert "does not show the GPU" in str(watcher.summary(0, 1))


def test_watching_for_real_costs_the_parent_next_to_nothing(monkeypatch: pytest.MonkeyPatch):
    """The cost of Python's part, by the watcher's own clock; NVML's calls need a GPU."""
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())
    with watching(gpu_facts(0)) as watcher:
        begin = time.monotonic_ns()
        time.sleep(1.0)
        end = time.monotonic_ns()
    summary = watcher.summary(begin, end)
    assert summary is not None
    assert 5 <= summary["samples"] <= 11
    assert 0 <= summary["watch_cpu_share"] < 0.02


def test_a_card_that_others_compute_on_is_refused(monkeypatch: pytest.MonkeyPatch):
    nvml = FakeNvml(gpus=2, processes=[(os.getpid(), GB), (FOREIGN, GB), (1, GB)])
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    with pytest.raises(SharedGpu) as refused:
        refuse_shared({"cuda:0": gpu_facts(1)})
    message = str(refused.value)
    assert "cuda:0 (NVIDIA H100 80GB HBM3) is shared" in message
    assert "1 (" in message and str(FOREIGN) in message
    assert str(os.getpid()) not in message
    nvml.processes = [(os.getpid(), GB)]
    refuse_shared({"cuda:0": gpu_facts(1)})


def test_without_nvmls_list_of_processes_nothing_is_refused(monkeypatch: pytest.MonkeyPatch):
    for nvml in (None, FakeNvml(problem="Driver Not Loaded"), FakeNvml(processes=None)):
        monkeypatch.setitem(sys.modules, "pynvml", nvml)
        refuse_shared({"cuda:0": gpu_facts(0)})
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())
    refuse_shared({"cuda:0": gpu_facts(7)})


def test_every_name_of_nvml_that_is_used_is_a_real_one():
    """Those called by ctypes are the library's own, which pynvml calls by the same names."""
    pynvml = pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
    real = Path(pynvml.__file__).read_text()
    code = "".join(path.read_text() for path in (ROOT / "qbench").rglob("*.py"))
    used = set(re.findall(r"\b(?:nvml(?:Init|Shutdown|System|Device)\w*|NVML_\w+)\b", code))
    assert len(used) > 20
    # nvml.h has the constants that ctypes needs as numbers, and pynvml under the same names
    assert not {name for name in used if not re.search(rf"\b{name}\b", real)}
    assert gpu_clock._CLOCK_SM == pynvml.NVML_CLOCK_SM
    for name in THROTTLING:
        assert hasattr(pynvml, f"nvmlClocksThrottleReason{name}")
