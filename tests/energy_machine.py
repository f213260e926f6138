"""A machine whose time, load and sensors the tests move themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from qbench.bundle.records.energy import EnergyLine, EnergyRecord
from qbench.machine.clock import Clock
from qbench.run.workers.isolate import Outcome

START_NS = 40_000_000_000_000
STEP_NS = 100_000_000


class Machine:
    """Its power is ``idle_w`` and, on top, that of its loads: (begin, end, watts) in its time."""

    def __init__(self, root: Path, idle_w: float = 10.0) -> None:
        self.root, self.idle_w = root, idle_w
        self.now_ns = START_NS
        self.loads: list[tuple[int, int, float]] = []
        self.rapl: list[tuple[Path, int, float]] = []  # file, range, share of the power
        self._ticking: list[list[Any]] = []  # [due, period, call]
        self.clock = Clock(lambda: self.now_ns, self.sleep, self.every)

    def _energy(self, times_ns: np.ndarray) -> np.ndarray:
        """Joules from the machine's start to each time."""
        steps = sorted([(b, w) for b, _, w in self.loads] + [(e, -w) for _, e, w in self.loads])
        edges = np.array([START_NS - 10**12, *(t for t, _ in steps), self.now_ns + 10**12], float)
        watts = self.idle_w + np.concatenate([[0.0], np.cumsum([w for _, w in steps])])
        energy = np.concatenate([[0.0], np.cumsum(np.diff(edges) * watts)])
        return np.interp(times_ns, edges, energy) * 1e-9

    def joules(self, begin_ns: int, end_ns: int) -> float:
        """The truth, from the loads themselves."""
        total = self.idle_w * (end_ns - begin_ns)
        for begin, end, load in self.loads:
            total += load * max(0, min(end, end_ns) - max(begin, begin_ns))
        return total * 1e-9

    def add_rapl(
        self, zone: str, name: str, range_uj: int = 262_143_328_850, share: float = 1.0
    ) -> Path:
        folder = self.root / "sys/class/powercap" / zone
        folder.mkdir(parents=True)
        (folder / "name").write_text(f"{name}\n")
        (folder / "max_energy_range_uj").write_text(f"{range_uj}\n")
        self.rapl.append((folder / "energy_uj", range_uj, share))
        self._write()
        return folder

    def _write(self) -> None:
        for path, range_uj, share in self.rapl:
            used = int(self.joules(START_NS, self.now_ns) * share * 1e6)
            path.write_text(f"{used % range_uj}\n")

    def sleep(self, seconds: float) -> None:
        self.until(self.now_ns + round(seconds * 1e9))

    def until(self, end_ns: int) -> None:
        while self.now_ns < end_ns:
            self.now_ns = min(end_ns, self.now_ns + STEP_NS)
            self._write()
            for entry in self._ticking:
                if self.now_ns >= entry[0]:
                    entry[0] += entry[1]
                    entry[2]()

    @contextmanager
    def every(self, period_s: float, call: Callable[[], None]) -> Iterator[None]:
        call()
        entry = [self.now_ns + period_s * 1e9, period_s * 1e9, call]
        self._ticking.append(entry)
        try:
            yield
        finally:
            self._ticking.remove(entry)
        call()

    def work(self, seconds: float, watts: float) -> tuple[int, int]:
        begin = self.now_ns
        end = begin + round(seconds * 1e9)
        self.loads.append((begin, end, watts))
        self.until(end)
        return begin, end

    def burn(self, edges: Sequence[int], cores: int) -> None:
        assert cores >= 1
        self.loads += [(a, b, 30.0) for a, b in zip(edges[::2], edges[1::2], strict=True)]
        self.until(edges[-1])

    def worker(
        self, watts: float, items: int = 100, seconds: float = 5.0, others_cores: float = 0.0
    ) -> Outcome:
        """One worker: starts, warms up, runs its timed window, ends. ``others_cores``: what it
        reads of others meanwhile."""
        self.work(1.0, 5.0)
        self.work(0.5, watts)
        window = self.work(seconds, watts)
        self.work(0.3, 2.0)
        wall_ns = window[1] - window[0]
        met = {
            "cpu_ns": wall_ns, "wall_ns": wall_ns, "warmup": {"stable": True}, "loop": {},
            "conditions": {"cpus": 2, "others_cpu_ns": int(others_cores * wall_ns)},
        }  # fmt: skip
        return Outcome("ok", result={"window": list(window), "items": items, **met})

    def wall_log(
        self,
        hz: float = 1.0,
        offset_s: float = 0.0,
        rate: float = 1.0,
        noise_w: float = 0.0,
        begin_ns: int = START_NS - 60 * 10**9,
    ) -> tuple[np.ndarray, np.ndarray]:
        """A meter's log from ``begin_ns`` until a minute after now: the mean power since its last
        line, by a clock that shows ``offset_s + rate * ours``."""
        step = 1e9 / hz
        ends = np.arange(begin_ns, self.now_ns + 60e9, step)
        watts = (self._energy(ends) - self._energy(ends - step)) / (step * 1e-9)
        watts += np.random.default_rng(1).normal(0, noise_w, len(watts))
        return offset_s + rate * ends * 1e-9, np.maximum(watts, 0)


class NVMLError(Exception):
    """As pynvml's."""


@dataclass
class FakeNvml:
    """``pynvml`` with the same names. ``millijoules``: of GPU 0 at each reading, the last for ever;
    None: not supported. What a test changes while something watches is seen at the next reading.

    Handles: the GPU's number, or ``("part", number)`` of a part of it (MIG).
    """

    millijoules: list[int] | None = None
    milliwatts: int | None = 250_000
    milliwatts_now: int | None = None  # not the mean of a second; None: an older driver
    gpus: int = 1
    throttle: int = 0
    problem: str = ""
    sm_mhz: int = 1980
    degrees: int = 41
    used_bytes: int | None = None
    processes: list[tuple[int, int | None]] | None = field(default_factory=list)
    corrected: int | None = 3
    limit_w: int = 700
    parts: tuple[str, ...] = ()  # UUIDs of parts of GPU 0
    refuses: tuple[str, ...] = ()  # functions that it does not support

    NVMLError = NVMLError
    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
    NVML_MEMORY_ERROR_TYPE_CORRECTED, NVML_MEMORY_ERROR_TYPE_UNCORRECTED = 0, 1
    NVML_VOLATILE_ECC = 0
    NVML_SUCCESS, NVML_ERROR_NOT_SUPPORTED, NVML_FI_DEV_POWER_INSTANT = 0, 3, 186
    NVML_COMPUTEMODE_DEFAULT, NVML_COMPUTEMODE_EXCLUSIVE_THREAD = 0, 1
    NVML_COMPUTEMODE_PROHIBITED, NVML_COMPUTEMODE_EXCLUSIVE_PROCESS = 2, 3
    nvmlClocksThrottleReasonSwPowerCap = 0x4
    nvmlClocksThrottleReasonHwSlowdown = 0x8
    nvmlClocksThrottleReasonSyncBoost = 0x10
    nvmlClocksThrottleReasonSwThermalSlowdown = 0x20
    nvmlClocksThrottleReasonHwThermalSlowdown = 0x40
    nvmlClocksThrottleReasonHwPowerBrakeSlowdown = 0x80

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("nvmlDevice") and name in self.refuses:
            return _refuse
        return super().__getattribute__(name)

    def nvmlInit(self) -> None:
        if self.problem:
            raise NVMLError(self.problem)

    def nvmlShutdown(self) -> None: ...

    # ------------------------------------------------------------------ which GPU

    def nvmlDeviceGetCount(self) -> int:
        return self.gpus

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        if index >= self.gpus:
            raise NVMLError("Invalid Argument")
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Any:
        if uuid in self.parts:
            return ("part", 0)
        for index in range(self.gpus):
            if gpu_facts(index)["uuid"] == uuid:
                return index
        raise NVMLError("Not Found")

    def nvmlDeviceGetHandleByPciBusId(self, place: str) -> int:
        for index in range(self.gpus):
            if gpu_facts(index)["pci_bus_id"] == place:
                return index
        raise NVMLError("Not Found")

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, part: Any) -> int:
        return part[1]

    def nvmlDeviceGetPciInfo(self, handle: int) -> Any:
        return SimpleNamespace(busId=f"0000{gpu_facts(handle)['pci_bus_id']}")

    # ------------------------------------------------------------------ readings

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
        if self.millijoules is None:
            raise NVMLError("Not Supported")
        return self.millijoules.pop(0) if len(self.millijoules) > 1 else self.millijoules[0]

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        if self.milliwatts is None:
            raise NVMLError("Not Supported")
        return self.milliwatts

    def nvmlDeviceGetFieldValues(self, handle: int, fields: list[int]) -> list[Any]:
        assert fields == [self.NVML_FI_DEV_POWER_INSTANT]
        lacks = self.milliwatts_now is None
        status = self.NVML_ERROR_NOT_SUPPORTED if lacks else self.NVML_SUCCESS
        value = SimpleNamespace(uiVal=0 if lacks else self.milliwatts_now)
        return [SimpleNamespace(nvmlReturn=status, value=value)]

    def nvmlDeviceGetClockInfo(self, handle: int, kind: int) -> int:
        assert isinstance(handle, int), "a part of a GPU has no clock of its own"
        return {1: self.sm_mhz, 2: 2619}[kind]

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:
        return self.degrees

    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any:
        if self.used_bytes is None:
            raise NVMLError("Not Supported")
        return SimpleNamespace(total=80 * 10**9, used=self.used_bytes)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: int) -> int:
        return self.throttle

    def nvmlDeviceGetCurrPcieLinkGeneration(self, handle: int) -> int:
        return 5

    def nvmlDeviceGetCurrPcieLinkWidth(self, handle: int) -> int:
        return 16

    def nvmlDeviceGetComputeRunningProcesses(self, handle: Any) -> list[Any]:
        if self.processes is None:
            raise NVMLError("Insufficient Permissions")
        return [SimpleNamespace(pid=pid, usedGpuMemory=size) for pid, size in self.processes]

    def nvmlDeviceGetTotalEccErrors(self, handle: int, kind: int, counter: int) -> int:
        if self.corrected is None:
            raise NVMLError("Not Supported")
        return self.corrected if kind == self.NVML_MEMORY_ERROR_TYPE_CORRECTED else 0

    # ------------------------------------------------------------------ settings

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: int) -> int:
        return self.limit_w * 1000

    def nvmlDeviceGetPowerManagementDefaultLimit(self, handle: int) -> int:
        return 700_000

    def nvmlDeviceGetEccMode(self, handle: int) -> list[int]:
        return [1, 1]

    def nvmlDeviceGetPersistenceMode(self, handle: int) -> int:
        return 1

    def nvmlDeviceGetComputeMode(self, handle: int) -> int:
        return self.NVML_COMPUTEMODE_DEFAULT


def _refuse(*args: Any) -> Any:
    raise NVMLError("Not Supported")


def gpu_facts(index: int) -> dict[str, Any]:
    """CUDA's description of the GPU with the NVML index ``index``."""
    return {
        "index": 0,
        "name": "NVIDIA H100 80GB HBM3",
        "compute_capability": "9.0",
        "driver": "13.0",
        "memory_bytes": 85_000_000_000,
        "pci_bus_id": f"0000:{0x3B + index:02X}:00.0",
        "uuid": f"GPU-00000000-0000-0000-0000-{index:012d}",
    }


class Kept:
    """Where a pass's records and progress go."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.series: dict[str, np.ndarray] = {}
        self.notes: list[str] = []

    def record(self, record: dict[str, Any], series: Any) -> None:
        self.records.append(record)
        self.series.update(series)

    @property
    def lines(self) -> list[EnergyLine]:
        """The records as a bundle gives them."""
        return [EnergyRecord.model_validate(record).root for record in self.records]

    def kind(self, name: str) -> list[dict[str, Any]]:
        return [r for r in self.records if r["kind"] == name]

    def stage(self, name: str, total: int) -> None: ...
    def working(self, label: str, known: str = "") -> None: ...
    def done(self, label: str, status: str, reason: str) -> None: ...
    def total(self, total: int) -> None: ...
    def note(self, text: str) -> None:
        self.notes.append(text)
