"""Check other load of the machine, and the resources that are left."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from qbench.kit.readings.conditions import Conditions
from qbench.machine.doctor.finding import Finding, Status, judged
from qbench.machine.host.cgroup import limits
from qbench.machine.host.processor import is_virtual
from qbench.machine.host.software import container
from qbench.machine.host.tree import Tree

BUSY = 0.05, 0.25
"""Shares of the processors that others keep busy: thresholds of the statuses ``warn`` and ``bad``.
So are all pairs below."""
STOLEN = 0.005, 0.02
MIN_NAMED = 0.02
"""Load from which a process is named, in processors."""
MIN_MEMORY = 1 << 30, 1 << 28
MIN_DISK = 5 << 30, 1 << 30
SWAPPINESS = 10
"""Above it, the kernel swaps out programs before it drops cached files."""


class Busy(NamedTuple):
    """Load of a process, in processors."""

    name: str
    processors: float


class _Used(NamedTuple):
    """Processor time of a process so far."""

    name: str
    seconds: float


@dataclass(frozen=True)
class Watched:
    """Activity of the machine while this process slept.

    Attributes:
        seconds: length of the sleep.
        conditions: see ``qbench.kit.readings.conditions.Conditions``.
        busiest: the busiest visible other processes.
        swapped_pages: pages read from or written to swap space; None if unknown.
    """

    seconds: float
    conditions: Mapping[str, int | float | None]
    busiest: Sequence[Busy]
    swapped_pages: int | None

    def share(self, key: str) -> float | None:
        """Return one of ``conditions`` in ns as a share of the time of all usable processors."""
        ns, cpus = self.conditions[key], self.conditions["cpus"]
        return None if ns is None or not cpus else ns * 1e-9 / (self.seconds * cpus)


def watch(tree: Tree, seconds: float) -> Watched:
    """Read the machine's counters, sleep, and read them again."""
    conditions = Conditions(tree.root)
    worked, swapped = _processor_seconds(), _swapped_pages(tree)
    conditions.begin()
    begin = time.monotonic()
    time.sleep(seconds)
    elapsed = time.monotonic() - begin
    met = conditions.end()
    work = [
        Busy(used.name, (used.seconds - worked.get(pid, _Used("", 0.0)).seconds) / elapsed)
        for pid, used in _processor_seconds().items()
    ]
    last = _swapped_pages(tree)
    return Watched(
        seconds=elapsed,
        conditions=met,
        busiest=sorted(
            (one for one in work if one.processors >= MIN_NAMED), key=lambda one: -one.processors
        )[:3],
        swapped_pages=None if swapped is None or last is None else last - swapped,
    )


def _processor_seconds() -> dict[int, _Used]:
    """Return name and processor time of every other process, by process id."""
    found = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):  # it has ended
            name, _, rest = file.read_text(errors="replace").partition("(")[2].rpartition(")")
            user, system = rest.split()[11:13]
            ticks = int(user) + int(system)
            found[int(file.parent.name)] = _Used(name, ticks / os.sysconf("SC_CLK_TCK"))
    found.pop(os.getpid(), None)
    return found


def _swapped_pages(tree: Tree) -> int | None:
    counted = tree.pairs("proc/vmstat")
    both = counted.get("pswpin"), counted.get("pswpout")
    return None if None in both else sum(n for n in both if n)


def others(seen: Watched) -> Finding:
    """Check the load of other processes."""
    check, why = "other work", "it takes cores, caches and memory bandwidth: stop it, or wait"
    share, cpus = seen.share("others_cpu_ns"), seen.conditions["cpus"]
    if share is None or not cpus:
        return Finding(check, "unknown", "not in /proc/stat", why)
    names = ", ".join(f"{name} {cores:.1f}" for name, cores in seen.busiest)
    average = seen.conditions["load_average"]
    return judged(
        check,
        _level(share, BUSY),
        f"{share * cpus:.1f} of {cpus} processors busy over {seen.seconds:.1f} s"
        + (f" ({names})" if names else "")
        + (f"; load average {average:g}" if average is not None else ""),
        why,
    )


def stolen(tree: Tree, seen: Watched) -> Finding:
    """Check the time that the hypervisor gave to other virtual machines."""
    check, why = "steal", "another virtual machine uses these processors: use a dedicated host"
    # user nice system idle iowait irq softirq steal; guests' time is within user's
    counted = (tree.text("proc/stat") or "").partition("\n")[0].split()[1:9]
    ticks = [int(word) for word in counted if word.isdigit()]
    if len(ticks) < 8 or not sum(ticks):
        return Finding(check, "unknown", "not in /proc/stat", why)
    if not ticks[7]:
        if is_virtual(tree) is False:
            return Finding(check, "good", "none: not a virtual machine")
        return Finding(check, "unknown", "none since boot: the host may not report it", why)
    now, before = seen.share("steal_ns"), ticks[7] / sum(ticks)
    found = f"{before:.1%} since boot"
    if now is not None:
        found = f"{now:.1%} over {seen.seconds:.1f} s, {found}"
    status = _level(now or 0.0, STOLEN)
    if status == "good" and before >= STOLEN[0]:
        status = "warn"
    return judged(check, status, found, why)


def swap(tree: Tree, seen: Watched) -> Finding:
    """Check the use of swap space."""
    check, why = "swap", "access to a page that was swapped out takes milliseconds"
    memory = tree.pairs("proc/meminfo")
    if "SwapTotal" not in memory:
        return Finding(check, "unknown", "not in /proc/meminfo", why)
    total, used = memory["SwapTotal"], memory["SwapTotal"] - memory.get("SwapFree", 0)
    if not total:
        return Finding(check, "good", "none")
    eagerness = tree.number("proc/sys/vm/swappiness")
    moving = seen.swapped_pages
    eager = eagerness is not None and eagerness > SWAPPINESS
    return judged(
        check,
        "bad" if moving else "warn" if used or eager else "good",
        f"{_gb(used * 1024)} of {_gb(total * 1024)} used"
        + (f", {moving} pages moved over {seen.seconds:.1f} s" if moving else "")
        + (f"; swappiness {eagerness}" if eagerness is not None else ""),
        why,
        "sudo swapoff -a && sudo swapon -a" if used else "sudo sysctl vm.swappiness=1",
    )


def free_memory(tree: Tree) -> Finding:
    """Check the free memory of the machine and of this container."""
    check, why = "memory", "models that do not fit are swapped or killed"
    memory, group = tree.pairs("proc/meminfo"), limits(tree)
    if "MemAvailable" not in memory:
        return Finding(check, "unknown", "not in /proc/meminfo", why)
    left = memory["MemAvailable"] * 1024
    found = f"{_gb(left)} of {_gb(memory.get('MemTotal', 0) * 1024)} free"
    if group.memory_bytes is not None:
        inside = group.memory_bytes - (group.memory_used_bytes or 0)
        found += f"; {_gb(inside)} of the container's limit of {_gb(group.memory_bytes)}"
        left = min(left, inside)
    status = "bad" if left < MIN_MEMORY[1] else "warn" if left < MIN_MEMORY[0] else "good"
    return judged(check, status, found, why)


def quota(tree: Tree, seen: Watched) -> Finding:
    """Check the container's quota of processor time."""
    check, found = "processor quota", limits(tree)
    if found.cpu_quota is None:
        readable = tree.exists("sys/fs/cgroup")
        return (
            Finding(check, "good", "none")
            if readable
            else Finding(check, "unknown", "no /sys/fs/cgroup", "a quota stops processes")
        )
    stopped = f", stopped {found.throttled} times so far" if found.throttled is not None else ""
    return judged(
        check,
        "bad" if seen.conditions["throttled_periods"] or found.cpu_quota < 1 else "warn",
        f"{found.cpu_quota:g} processors{stopped}",
        "a process that has used up its quota is stopped until the next period, for tens of "
        "milliseconds: assign processors instead of a quota (docker run --cpuset-cpus 0-1)",
    )


def virtual(tree: Tree, environment: Mapping[str, str]) -> Finding:
    """Check for a virtual machine and a container."""
    inside, guest = container(tree, environment), is_virtual(tree)
    box = f"container ({inside['engine'] or 'unnamed'})" if inside else "no container"
    why = "other machines on the host share its caches, memory and clocks; counters may be missing"
    if guest is None:
        return Finding("virtualization", "unknown", f"the kernel does not report it; {box}", why)
    return judged(
        "virtualization",
        "warn" if guest else "good",
        f"{'' if guest else 'not '}a virtual machine, {box}",
        why,
    )


def disk(name: str, folder: Path) -> Finding:
    """Check the free disk space for results or artifacts."""
    place = next((p for p in [folder, *folder.absolute().parents] if p.exists()), Path("/"))
    try:
        free = shutil.disk_usage(place).free
    except OSError as error:
        return Finding(f"disk, {name}", "unknown", f"{place}: {error.strerror}")
    status = "bad" if free < MIN_DISK[1] else "warn" if free < MIN_DISK[0] else "good"
    fix = "qbench cache clean" if name == "cache" else None
    return judged(f"disk, {name}", status, f"{_gb(free)} free", "a run needs disk space", fix)


def _level(value: float, bounds: tuple[float, float]) -> Status:
    return "bad" if value >= bounds[1] else "warn" if value >= bounds[0] else "good"


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB"
