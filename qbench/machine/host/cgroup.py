"""Limits of this process's control groups (version 1, version 2 and hybrid)."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qbench.machine.host.tree import Tree

_MOUNT = "sys/fs/cgroup"


@dataclass(frozen=True)
class Limits:
    """Limits of a container; None if there is none.

    Attributes:
        cpu_quota: processor time per time, such as 1.5 processors.
        memory_bytes: of all its processes together.
        memory_used_bytes: current use of that memory.
        cpuset: the processors that it may run on, as the kernel lists them.
        throttled: number of periods in which the quota stopped it so far.
    """

    cpu_quota: float | None
    memory_bytes: int | None
    memory_used_bytes: int | None
    cpuset: str | None
    throttled: int | None


def limits(tree: Tree) -> Limits:
    """Return the tightest limit of each kind, of the process's group or an ancestor."""
    cpu = list(_groups(tree, "cpu"))
    memory = list(_groups(tree, "memory"))
    quotas = [(quota, group) for group in cpu if (quota := _quota(tree, group)) is not None]
    sizes = [(size, group) for group in memory if (size := _memory(tree, group)) is not None]
    quota, stopped = min(quotas, default=(None, None))
    size, full = min(sizes, default=(None, None))
    return Limits(
        cpu_quota=quota,
        memory_bytes=size,
        memory_used_bytes=_first(tree, full, "memory.current", "memory.usage_in_bytes"),
        cpuset=_cpuset(tree),
        throttled=tree.pairs(stopped / "cpu.stat").get("nr_throttled") if stopped else None,
    )


def affinity() -> set[int]:
    """Return the processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def usable_cores(root: Path = Path("/")) -> int:
    """Return the number of processors that this process may use: those of its affinity, or its
    quota of processor time, rounded up, if that is less."""
    tree = Tree(root)
    quotas = [q for group in _groups(tree, "cpu") if (q := _quota(tree, group)) is not None]
    return max(1, min([len(affinity()), *map(math.ceil, quotas)]))


def _groups(tree: Tree, controller: str) -> Iterator[Path]:
    """Yield the folders of this process's groups of a controller, the innermost first. A container
    may see its host's paths in /proc, but only its own group in /sys."""
    own = {}
    for line in (tree.text("proc/self/cgroup") or "").splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        own |= dict.fromkeys(controllers.split(","), path)
    bases = [Path(_MOUNT), Path(_MOUNT, controller)]
    for base, path in zip(bases, (own.get("", "/"), own.get(controller, "/")), strict=True):
        inner = Path(path.lstrip("/"))
        for group in [base / inner, *(base / parent for parent in inner.parents)]:
            if ".." not in group.parts and tree.exists(str(group)):
                yield group


def _quota(tree: Tree, group: Path) -> float | None:
    """Return a group's quota, in processors."""
    both = tree.text(group / "cpu.max")
    if both is None:
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        both = " ".join(str(tree.text(group / name)) for name in names)
    try:
        quota, period = map(int, both.split())
    except ValueError:  # "max", or there is no such file
        return None
    return quota / period if quota > 0 and period > 0 else None


def _memory(tree: Tree, group: Path) -> int | None:
    """Return a group's limit in bytes; None if it is all memory, which version 1 writes as a number
    near 2^63."""
    size = _first(tree, group, "memory.max", "memory.limit_in_bytes")
    total = tree.pairs("proc/meminfo").get("MemTotal")
    return None if size is None or (total and size >= total * 1024) else size


def _cpuset(tree: Tree) -> str | None:
    names = ("cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus")
    for group in _groups(tree, "cpuset"):
        for name in names:
            if text := tree.text(group / name):
                return text
    return None


def _first(tree: Tree, group: Path | None, *names: str) -> int | None:
    found = (tree.number(group / name) for name in names) if group is not None else iter(())
    return next((number for number in found if number is not None), None)
