"""Check whether this machine is fit to measure. Every finding has its remedy."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from qbench.machine.doctor import load, processor, sensors
from qbench.machine.doctor.finding import Finding, Status
from qbench.machine.host.cgroup import affinity
from qbench.machine.host.tree import Tree

__all__ = ["HEADERS", "Finding", "Status", "examine", "rows", "verdict"]

WATCH_S = 0.5
_ORDER = {"bad": 0, "warn": 1, "unknown": 2, "good": 3}


def examine(
    root: Path = Path("/"),
    folders: Mapping[str, Path] | None = None,
    watch_s: float = WATCH_S,
    others: Sequence[Finding] = (),
) -> list[Finding]:
    """Run all checks; the worst findings come first. Changes nothing, and takes little longer than
    ``watch_s`` seconds.

    Args:
        root: where the kernel's files are read; tests have another. Processes, the cost of reading
            the clock, counters and GPUs are always this machine's.
        folders: folders that need free disk space, by name.
        others: findings of other modules, such as ``qbench.machine.lock.another_run``.
    """
    tree = Tree(root)
    seen = load.watch(tree, watch_s)
    found = [
        *others,
        load.others(seen),
        load.stolen(tree, seen),
        load.virtual(tree, os.environ),
        processor.governor(tree),
        processor.boost(tree),
        processor.threads_per_core(tree),
        processor.power_source(tree),
        processor.mode(tree),
        processor.heat(tree),
        load.quota(tree, seen),
        processor.isolation(tree, affinity()),
        load.free_memory(tree),
        load.swap(tree, seen),
        processor.huge_pages(tree),
        processor.clock(tree),
        sensors.performance_counters(),
        sensors.energy_sensors(tree),
        *sensors.gpus(tree),
        *(load.disk(name, folder) for name, folder in (folders or {}).items()),
    ]
    return sorted((f for f in found if f is not None), key=lambda f: _ORDER[f.status])


def verdict(findings: Sequence[Finding]) -> str:
    """Return one sentence: fit or not, and the number of findings by status."""
    counts = {status: sum(f.status == status for f in findings) for status in _ORDER}
    word = "not fit" if counts["bad"] else "fit"
    listed = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    return f"this machine is {word} to measure: {listed}"


HEADERS = ("", "check", "found", "why it matters", "remedy")


def rows(findings: Sequence[Finding]) -> list[tuple[str, str, str, str, str]]:
    """Return the rows of a table with ``HEADERS``."""
    return [(f.status, f.check, f.found, f.why, f.fix or "") for f in findings]
