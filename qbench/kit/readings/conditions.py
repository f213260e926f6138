"""What the machine did to this process meanwhile: read just before and just after a timed window,
nothing within it. Linux tells it in /proc and /sys; what a machine does not tell is None.

A counter that stands at 0 since the machine was started, though one that is kept would have moved
by the window's end, is offered by the kernel but not kept (steal of a hypervisor that does not
tell, pressure under ``psi=0``, /proc/stat of some sandboxes). It is None too: 0 would say
"undisturbed".
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
"""/proc/stat counts in hundredths of a second (USER_HZ, 100 on every machine of today)."""
ACCOUNTED = 0.9
"""The threads whose waiting is known must have done this share of the process's work, but for a
tick that the kernel may not have booked yet. Else one has ended and took what was known along."""
CPU_SENSORS = ("coretemp", "k10temp", "zenpower", "x86_pkg", "cpu", "soc")
"""Parts of the names that sensors of a processor's temperature go by."""
PLAUSIBLE_C = (-50.0, 150.0)
"""Outside of it, or exactly 0, a temperature is that of a sensor which is not connected."""


class _Scheduled(NamedTuple):
    """What the scheduler did with one thread since it was started, in ns."""

    ran: int
    waited: int


_gone: list[tuple[int, _Scheduled]] = []
"""Threads that ended, with their last reading: see ``thread_ends``."""


def thread_ends() -> None:
    """To be called last by a thread that ends within a timed window: with the thread, the kernel
    forgets how long it waited for a processor."""
    last = _told(_scheduled, Path("/proc/thread-self/schedstat"))
    if last is not None:
        _gone.append((threading.get_native_id(), last))


class Conditions:
    """Reads both ends of a window, in about a millisecond each: ``begin``, then ``end``.

    Args:
        root: what stands for ``/``, so that a test can read another machine's files.
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
        """Read the window's beginning; what concerns this process alone comes last."""
        self._frequency = self._frequency_khz("scaling_cur_freq")
        self._machine = self._machine_counters()
        self._ended = len(_gone)
        self._threads = self._scheduled_threads()
        self._cpu_ns = time.process_time_ns()
        self._process = _process_counters()

    def end(self) -> dict[str, int | float | None]:
        """What came since ``begin``, or the state now. None: the machine does not tell.

        - ``involuntary_switches``, ``major_faults`` (served from storage), ``minor_faults``: of
          this process.
        - ``run_delay_ns``: how long its threads could have run and waited for a processor, summed
          over threads.
        - ``cpus``: how many processors it may use. Of these: ``steal_ns``, which the hypervisor
          gave to others; ``others_cpu_ns``, which other processes and the kernel used. Both are
          counted in ticks of 10 ms for each processor.
        - ``cpu_pressure_ns``, ``memory_pressure_ns``: how long any process of the machine waited
          for a processor, or for memory (pressure stall information, "some").
        - ``throttled_ns``, ``throttled_periods``: how long, summed over processors, and how often
          the quota of its control groups stopped it.
        - ``frequency_khz_begin``, ``frequency_khz_end``, ``frequency_max_khz``: the highest clock
          of the processors that its threads ran on last (those that idle tell nothing), and what
          they can do at most.
        - ``temperature_c``: the processor's hottest sensor.
        - ``thermal_throttles``: how often heat lowered the clock.
        - ``load_average``: the machine's, over the last minute.
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
            "load_average": _told(_load_average, self._proc / "loadavg"),
        }

    # ------------------------------------------------------------------ this process

    def _tasks(self) -> list[Path]:
        return _told(lambda: list((self._proc / "self/task").iterdir())) or []

    def _scheduled_threads(self) -> dict[int, _Scheduled] | None:
        """Every living thread's; None where the kernel does not keep it."""
        threads = {int(task.name): _told(_scheduled, task / "schedstat") for task in self._tasks()}
        return {thread: times for thread, times in threads.items() if times} or None

    def _run_delay_ns(self, threads: dict[int, _Scheduled] | None, cpu_ns: int) -> int | None:
        if self._threads is None or threads is None:
            return None
        ran = waited = 0
        # one that has said so may not have ended yet, and is counted once
        for thread, last in (dict(_gone[self._ended :]) | threads).items():
            first = self._threads.get(thread, _Scheduled(0, 0))
            ran += last.ran - first.ran
            waited += last.waited - first.waited
        return waited if ran + TICK_NS >= ACCOUNTED * cpu_ns else None

    def _frequency_khz(self, name: str) -> int | None:
        if not self._has_clock:
            return None
        cpus = {_told(_last_cpu, task / "stat") for task in self._tasks()} - {None}
        clocks = [_told(_number, self._cpu_folder / f"cpu{cpu}/cpufreq/{name}") for cpu in cpus]
        return max((clock for clock in clocks if clock), default=None)

    # ------------------------------------------------------------------ the machine

    def _machine_counters(self) -> dict[str, int | None]:
        busy, stolen = _told(_machine_time, self._proc / "stat", self._cpus) or (None, None)
        own = time.process_time_ns()
        waited = _told(_pressure_ns, self._proc / "pressure/cpu")
        short = _told(_pressure_ns, self._proc / "pressure/memory")
        throttled = [pair for file in self._quotas if (pair := _told(_throttled, file))]
        return {
            "steal_ns": stolen,
            "others_cpu_ns": busy - own if busy else None,
            "cpu_pressure_ns": waited,
            "memory_pressure_ns": short,
            "throttled_ns": sum(ns for ns, _ in throttled) if throttled else None,
            "throttled_periods": sum(periods for _, periods in throttled) if throttled else None,
            "thermal_throttles": self._thermal_throttles(),
        }

    def _machine_differences(self, last: Mapping[str, int | None]) -> dict[str, int | None]:
        """What came since ``begin``. Whether a counter is kept its last reading tells: on a fresh
        machine the first one may be a true 0."""
        told = _differences(self._machine, last)
        # 0 can be true of memory: that pressure is counted at all, the processors' tells
        for name, sign in (
            ("steal_ns", "steal_ns"),
            ("cpu_pressure_ns", "cpu_pressure_ns"),
            ("memory_pressure_ns", "cpu_pressure_ns"),
        ):
            if not last[sign]:
                told[name] = None
        return told

    def _thermal_throttles(self) -> int | None:
        """Of all cores and packages. What a core met its hyperthreads count alike, and what a
        package met all of its processors: each counts once."""
        counts: dict[tuple[int | str, ...], int] = {}
        for cpu, core in self._heat.items():
            for name, place in (("core", core), ("package", core[:1])):
                count = _told(_number, cpu / f"thermal_throttle/{name}_throttle_count")
                if count is not None:
                    counts[place] = max(count, counts.get(place, 0))
        return sum(counts.values()) if counts else None

    def _temperature_c(self) -> float | None:
        low, high = PLAUSIBLE_C
        degrees = [value / 1000 for file in self._sensors if (value := _told(_number, file))]
        return max((value for value in degrees if low < value < high), default=None)


# --------------------------------------------------------------------------- one file each


def _told(read: Callable[..., T], *arguments: object) -> T | None:
    """What ``read`` returns; None if its file is not there, not readable or holds something else:
    a machine that does not tell is no failure of the trial."""
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
    """A thread's ``schedstat``: ns on a processor, ns runnable but waiting, times it was put on
    one. A kernel that does not keep them writes 0 0 0, even to the thread that reads it."""
    ran, waited, times = map(int, file.read_bytes().split())
    if not times:
        raise ValueError("not kept")
    return _Scheduled(ran, waited)


def _last_cpu(file: Path) -> int:
    """Field 39 of a thread's ``stat``; field 2, its name, may hold anything, brackets too."""
    return int(file.read_bytes().rpartition(b")")[2].split()[36])


def _machine_time(file: Path, cpus: Iterable[int]) -> tuple[int, int]:
    """Busy and stolen time of ``cpus``, in ns, from ``/proc/stat``: user, nice, system, idle,
    iowait, irq, softirq, steal (guests' time is within user's)."""
    lines = [line.split() for line in file.read_bytes().splitlines() if line.startswith(b"cpu")]
    counts = {words[0]: words[1:9] for words in lines}
    busy = stolen = 0
    for cpu in cpus:
        counted = map(int, counts.get(b"cpu%d" % cpu, ()))
        user, nice, system, _idle, _iowait, irq, softirq, steal = counted
        busy += user + nice + system + irq + softirq
        stolen += steal
    return busy * TICK_NS, stolen * TICK_NS


def _pressure_ns(file: Path) -> int:
    """The total of "some": ``some avg10=0.00 avg60=0.00 avg300=0.00 total=microseconds``."""
    some = file.read_bytes().splitlines()[0].split()
    if some[0] != b"some":
        raise ValueError(some[0])
    return 1000 * int(some[-1].removeprefix(b"total="))


def _throttled(file: Path) -> tuple[int, int]:
    """Time in ns, summed over processors, and periods that a quota cut short, from a control
    group's ``cpu.stat`` (version 2 counts microseconds, version 1 nanoseconds)."""
    facts = dict(line.split()[:2] for line in file.read_bytes().splitlines())
    if b"throttled_usec" in facts:
        return 1000 * int(facts[b"throttled_usec"]), int(facts.get(b"nr_throttled", b""))
    return int(facts.get(b"throttled_time", b"")), int(facts.get(b"nr_throttled", b""))


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
    """At least 0: counters of different steps, taken from each other, may come out below."""
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
    """``cpu.stat`` of this process's control group and of all above it, up to the mount, since
    each may have a quota. A container may be told its group's name outside, which it cannot see:
    there the mount is its group."""
    mounts, files = root / "sys/fs/cgroup", dict[Path, None]()
    for line in (_told((root / "proc/self/cgroup").read_text) or "").splitlines():
        _, controllers, group = (*line.split(":", 2), "", "")[:3]
        if controllers == "":  # version 2; beside version 1 it has no processor quota
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
    """A processor's package and its core, whose number is unique within the package. Where that is
    not told, a machine is one package, and each processor a core."""
    package = _told(_number, cpu / "topology/physical_package_id")
    core = _told(_number, cpu / "topology/core_id")
    return "the only" if package is None else package, cpu.name if core is None else core


def _cpu_sensors(classes: Path) -> list[Path]:
    """The processor's temperature sensors; all thermal zones where none goes by such a name."""
    zones = {zone / "temp": zone / "type" for zone in classes.glob("thermal/thermal_zone*")}
    chips = {file: file.parent / "name" for file in classes.glob("hwmon/hwmon*/temp[0-9]*_input")}
    named = [
        file
        for file, name in (zones | chips).items()
        if any(part in (_told(name.read_text) or "").lower() for part in CPU_SENSORS)
    ]
    return named or list(zones)
