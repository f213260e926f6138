"""Machine conditions (scheduling, clocks, heat), sampled immediately before and after the timed
window, never inside it, from Linux's /proc and /sys. A value that is unavailable is None.

A counter that is still 0 since boot at the window's end, although a working one would have moved,
is exposed by the kernel but not maintained (steal under some hypervisors, pressure under ``psi=0``,
/proc/stat in some sandboxes). It is None as well: 0 would mean "undisturbed".
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeVar

T = TypeVar("T")

TICK_NS = 10_000_000
"""Length of a tick of /proc/stat (USER_HZ, 100 per second on all current machines)."""
ACCOUNTED = 0.9
"""Minimum share of the process's work, apart from one tick that the kernel may not have booked yet,
by threads whose wait is known. Below it, a thread has ended and its wait is lost."""
CPU_SENSORS = ("coretemp", "k10temp", "zenpower", "x86_pkg", "cpu", "soc")
"""Parts of the names of processor temperature sensors."""
PLAUSIBLE_C = (-50.0, 150.0)
"""Range of plausible temperatures; others, and exactly 0, come from unconnected sensors."""


class _Scheduled(NamedTuple):
    """Scheduling of one thread since its start: time on a processor and waiting for one, in ns."""

    ran: int
    waited: int


_gone: list[tuple[int, _Scheduled]] = []
"""Ended threads with their last reading; see ``thread_ends``."""


def thread_ends() -> None:
    """Keep the calling thread's wait for a processor, which the kernel drops with the thread. A
    thread that ends within a timed window calls this last."""
    last = _try(_scheduled, Path("/proc/thread-self/schedstat"))
    if last is not None:
        _gone.append((threading.get_native_id(), last))


class Conditions:
    """Conditions of a window: call ``begin``, then ``end``; each takes about a millisecond.

    Args:
        root: the root of the file system; tests have another machine's files.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._proc = root / "proc"
        self._cpu_folder = root / "sys/devices/system/cpu"
        self._cpus = _usable_cpus()
        self._quotas = _quota_files(root)
        self._sensors = _cpu_sensors(root / "sys/class")
        folders = [self._cpu_folder / f"cpu{cpu}" for cpu in self._cpus]
        self._heat = {cpu: _core(cpu) for cpu in folders if (cpu / "thermal_throttle").is_dir()}
        self._has_clock = any(self._cpu_folder.glob("cpu[0-9]*/cpufreq"))

    def begin(self) -> None:
        """Read at the window's beginning; this process's own counters last."""
        self._frequency = self._frequency_khz("scaling_cur_freq")
        self._machine = self._machine_counters()
        self._ended = len(_gone)
        self._threads = self._scheduled_threads()
        self._cpu_ns = time.process_time_ns()
        self._process = _process_counters()

    def end(self) -> dict[str, int | float | None]:
        """Return differences since ``begin``, or the current state. None: unavailable.

        - ``involuntary_switches``, ``major_faults`` (served from storage), ``minor_faults``: of
          this process.
        - ``run_delay_ns``: time that its threads were runnable and waited for a processor, summed
          over threads.
        - ``cpus``: number of processors that it may use. On these, in ticks of 10 ms per processor:
          ``steal_ns``: time that the hypervisor gave to others; ``others_cpu_ns``: time used by
          other processes and the kernel.
        - ``cpu_pressure_ns``, ``memory_pressure_ns``: time that any process of the machine waited
          for a processor, or for memory (pressure stall information, "some").
        - ``throttled_ns``, ``throttled_periods``: time, summed over processors, and number of
          periods that the quota of its control groups stopped it.
        - ``frequency_khz_begin``, ``frequency_khz_end``: highest clock of the processors that its
          threads ran on last (idle ones do not count); ``frequency_max_khz``: their maximum clock.
        - ``temperature_c``: of the processor's hottest sensor.
        - ``thermal_throttles``: number of times that heat lowered the clock.
        - ``load_average``: of the machine, over the last minute.
        """
        process, cpu_ns = _process_counters(), time.process_time_ns() - self._cpu_ns
        threads, machine = self._scheduled_threads(), self._machine_counters()
        return {
            **_differences(self._process, process),
            "run_delay_ns": self._run_delay_ns(threads, cpu_ns),
            "cpus": len(self._cpus) or None,
            **self._machine_differences(machine),
            "frequency_khz_begin": self._frequency,
            "frequency_khz_end": self._frequency_khz("scaling_cur_freq"),
            "frequency_max_khz": self._frequency_khz("cpuinfo_max_freq"),
            "temperature_c": self._temperature_c(),
            "load_average": _try(_load_average, self._proc / "loadavg"),
        }

    # ------------------------------------------------------------------ this process

    def _tasks(self) -> list[Path]:
        return _try(lambda: list((self._proc / "self/task").iterdir())) or []

    def _scheduled_threads(self) -> dict[int, _Scheduled] | None:
        """Return the scheduling of all living threads; None if the kernel does not keep it."""
        threads = {int(task.name): _try(_scheduled, task / "schedstat") for task in self._tasks()}
        return {thread: times for thread, times in threads.items() if times} or None

    def _run_delay_ns(self, threads: dict[int, _Scheduled] | None, cpu_ns: int) -> int | None:
        if self._threads is None or threads is None:
            return None
        ran = waited = 0
        # a thread in ``_gone`` may still be alive; it counts once
        for thread, last in (dict(_gone[self._ended :]) | threads).items():
            first = self._threads.get(thread, _Scheduled(0, 0))
            ran += last.ran - first.ran
            waited += last.waited - first.waited
        return waited if ran + TICK_NS >= ACCOUNTED * cpu_ns else None

    def _frequency_khz(self, name: str) -> int | None:
        if not self._has_clock:
            return None
        cpus = {_try(_last_cpu, task / "stat") for task in self._tasks()} - {None}
        clocks = [_try(_number, self._cpu_folder / f"cpu{cpu}/cpufreq/{name}") for cpu in cpus]
        return max((clock for clock in clocks if clock), default=None)

    # ------------------------------------------------------------------ the machine

    def _machine_counters(self) -> dict[str, int | None]:
        busy, stolen = _try(_machine_time, self._proc / "stat", self._cpus) or (None, None)
        own = time.process_time_ns()
        waited = _try(_pressure_ns, self._proc / "pressure/cpu")
        short = _try(_pressure_ns, self._proc / "pressure/memory")
        throttled = [found for file in self._quotas if (found := _try(_throttled, file))]
        return {
            "steal_ns": stolen,
            "others_cpu_ns": busy - own if busy else None,
            "cpu_pressure_ns": waited,
            "memory_pressure_ns": short,
            "throttled_ns": sum(one.ns for one in throttled) if throttled else None,
            "throttled_periods": sum(one.periods for one in throttled) if throttled else None,
            "thermal_throttles": thermal_throttles(self._heat),
        }

    def _machine_differences(self, last: Mapping[str, int | None]) -> dict[str, int | None]:
        """Return differences since ``begin``. The last reading shows whether a counter is
        maintained: soon after boot the first one may be a true 0."""
        found = _differences(self._machine, last)
        # memory pressure may be a true 0; processor pressure shows whether both are maintained
        for name, sign in (
            ("steal_ns", "steal_ns"),
            ("cpu_pressure_ns", "cpu_pressure_ns"),
            ("memory_pressure_ns", "cpu_pressure_ns"),
        ):
            if not last[sign]:
                found[name] = None
        return found

    def _temperature_c(self) -> float | None:
        low, high = PLAUSIBLE_C
        degrees = [value / 1000 for file in self._sensors if (value := _try(_number, file))]
        return max((value for value in degrees if low < value < high), default=None)


def thermal_throttles(cores: Mapping[Path, tuple[object, object]]) -> int | None:
    """Count how often heat has lowered the clock of a core or a package since boot; None if
    unknown. Hyperthreads repeat their core's count, and processors their package's: each counts
    once.

    Args:
        cores: the package and the core of each processor, by its folder in sysfs.
    """
    counts: dict[tuple[object, ...], int] = {}
    for cpu, core in cores.items():
        for name, place in (("core", core), ("package", core[:1])):
            count = _try(_number, cpu / f"thermal_throttle/{name}_throttle_count")
            if count is not None:
                counts[place] = max(count, counts.get(place, 0))
    return sum(counts.values()) if counts else None


# --------------------------------------------------------------------------- one file each


def _try(read: Callable[..., T], *arguments: object) -> T | None:
    """Return the result of ``read``; None if its file is missing, unreadable or malformed, which is
    no failure of the trial."""
    try:
        return read(*arguments)
    except (OSError, ValueError, IndexError):
        return None


def _number(file: Path) -> int:
    return int(file.read_bytes())


def _load_average(file: Path) -> float:
    load = float(file.read_bytes().split()[0])
    if not math.isfinite(load):
        raise ValueError(load)
    return load


def _scheduled(file: Path) -> _Scheduled:
    """Read a thread's ``schedstat``: ns on a processor, ns runnable but waiting, number of time
    slices. A kernel that does not maintain them writes 0 0 0, even for the reading thread."""
    ran, waited, times = map(int, file.read_bytes().split())
    if not times:
        raise ValueError("not kept")
    return _Scheduled(ran, waited)


def _last_cpu(file: Path) -> int:
    """Read field 39 of a thread's ``stat``; field 2, its name, may hold any text, even brackets."""
    return int(file.read_bytes().rpartition(b")")[2].split()[36])


class _MachineTime(NamedTuple):
    """Time of several processors, in ns."""

    busy: int
    stolen: int


def _machine_time(file: Path, cpus: Iterable[int]) -> _MachineTime:
    """Read the time of ``cpus`` from ``/proc/stat``: user, nice, system, idle, iowait, irq,
    softirq, steal (user includes guests)."""
    lines = [line.split() for line in file.read_bytes().splitlines() if line.startswith(b"cpu")]
    counts = {words[0]: words[1:9] for words in lines}
    busy = stolen = 0
    for cpu in cpus:
        counted = map(int, counts.get(b"cpu%d" % cpu, ()))
        user, nice, system, _idle, _iowait, irq, softirq, steal = counted
        busy += user + nice + system + irq + softirq
        stolen += steal
    return _MachineTime(busy * TICK_NS, stolen * TICK_NS)


def _pressure_ns(file: Path) -> int:
    """Read the total of "some": ``some avg10=0.00 avg60=0.00 avg300=0.00 total=microseconds``."""
    some = file.read_bytes().splitlines()[0].split()
    if some[0] != b"some":
        raise ValueError(some[0])
    return 1000 * int(some[-1].removeprefix(b"total="))


class _Throttled(NamedTuple):
    """Throttling by a quota: time in ns, summed over processors, and number of periods."""

    ns: int
    periods: int


def _throttled(file: Path) -> _Throttled:
    """Read a control group's ``cpu.stat`` (version 2: microseconds, version 1: nanoseconds)."""
    facts = dict(line.split()[:2] for line in file.read_bytes().splitlines())
    periods = int(facts.get(b"nr_throttled", b""))
    if b"throttled_usec" in facts:
        return _Throttled(1000 * int(facts[b"throttled_usec"]), periods)
    return _Throttled(int(facts.get(b"throttled_time", b"")), periods)


def _process_counters() -> dict[str, int | None]:
    try:
        import resource
    except ImportError:  # not a Unix
        return dict.fromkeys(("involuntary_switches", "major_faults", "minor_faults"))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "involuntary_switches": usage.ru_nivcsw,
        "major_faults": usage.ru_majflt,
        "minor_faults": usage.ru_minflt,
    }


def _differences(
    before: Mapping[str, int | None], after: Mapping[str, int | None]
) -> dict[str, int | None]:
    """Return differences by name, at least 0: counters that tick at different times may yield
    less."""
    return {
        name: None if first is None or last is None else max(0, last - first)
        for name, last in after.items()
        for first in [before[name]]
    }


# --------------------------------------------------------------------------- where the files are


def _usable_cpus() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return []


def _quota_files(root: Path) -> list[Path]:
    """Find ``cpu.stat`` of this process's control group and its ancestors, up to the mount: each
    may have a quota. A container may see its group's name on the host, whose folder is hidden: then
    the mount is its group."""
    mounts, files = root / "sys/fs/cgroup", dict[Path, None]()
    for line in (_try((root / "proc/self/cgroup").read_text) or "").splitlines():
        _, controllers, group = (*line.split(":", 2), "", "")[:3]
        if controllers == "":  # version 2; in a hybrid hierarchy it has no processor quota
            places = [mounts]
        elif "cpu" in controllers.split(","):
            places = [mounts / controllers, mounts / "cpu"]
        else:
            continue
        names = PurePosixPath(group.lstrip("/"))
        inside = [] if ".." in names.parts else [names, *names.parents]
        for place in places:
            for name in (*inside, PurePosixPath()):
                if (file := place / name / "cpu.stat").is_file():
                    files[file.resolve()] = None  # cpu is often a link to cpu,cpuacct
    return list(files)


def _core(cpu: Path) -> tuple[int | str, int | str]:
    """Return a processor's package, and its core within the package. If these are unavailable, the
    machine counts as one package, and each processor as a core."""
    package = _try(_number, cpu / "topology/physical_package_id")
    core = _try(_number, cpu / "topology/core_id")
    return "the only" if package is None else package, cpu.name if core is None else core


def _cpu_sensors(classes: Path) -> list[Path]:
    """Find the processor's temperature sensors by name; if none matches, return all thermal
    zones."""
    zones = {zone / "temp": zone / "type" for zone in classes.glob("thermal/thermal_zone*")}
    chips = {file: file.parent / "name" for file in classes.glob("hwmon/hwmon*/temp[0-9]*_input")}
    named = [
        file
        for file, name in (zones | chips).items()
        if any(part in (_try(name.read_text) or "").lower() for part in CPU_SENSORS)
    ]
    return named or list(zones)
