"""The fingerprint of a machine: what has to be known to compare its figures with another's."""

from __future__ import annotations

import hashlib
import math
import os
import platform
import socket
from pathlib import Path
from typing import Any

CPU_FLAGS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "avx_vnni",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
)
"""Instruction sets that decide how fast, and how exactly, quantized networks run."""


def fingerprint() -> dict[str, Any]:
    """Facts of this machine; None where one cannot be read.

    ``host_id`` digests what makes the machine the same machine: its identity and its processor.
    """
    import psutil

    cpu = _cpu()
    facts = {
        "hostname": socket.gethostname(),
        "cpu_model": cpu.get("model name") or platform.processor() or None,
        "cpu_flags": [flag for flag in CPU_FLAGS if flag in _flags(cpu)],
        "microcode": cpu.get("microcode"),
        "architecture": platform.machine(),
        "cores_physical": psutil.cpu_count(logical=False),
        "cores_logical": psutil.cpu_count(logical=True),
        "cores_usable": usable_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "hypervisor": "hypervisor" in _flags(cpu) if cpu else None,
        "system": platform.system(),
        "kernel": platform.release(),
        "os": _os_name(),
        "python": platform.python_version(),
    }
    identity = [_read("/etc/machine-id"), facts["hostname"], facts["cpu_model"]]
    facts["host_id"] = hashlib.sha256(repr(identity).encode()).hexdigest()[:12]
    return facts


def usable_cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """How many processors this process may run on: as many as its affinity says, or fewer where
    a container has a quota of processor time (a started one counts)."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota = _quota(cgroup)
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def _quota(cgroup: Path) -> float | None:
    """Processors' worth of time that the container gets (control groups, version 2 or 1)."""
    both = _read(f"{cgroup}/cpu.max")
    if both is None:
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        both = " ".join(str(_read(f"{cgroup}/cpu/{name}")) for name in names)
    try:
        quota, period = map(int, both.split())
    except ValueError:  # "max", or there is no such file
        return None
    return quota / period if quota > 0 and period > 0 else None


def _cpu() -> dict[str, str]:
    """The first processor's entries in /proc/cpuinfo."""
    entries = {}
    for line in (_read("/proc/cpuinfo") or "").split("\n\n")[0].splitlines():
        key, _, value = line.partition(":")
        entries[key.strip()] = value.strip()
    return entries


def _flags(cpu: dict[str, str]) -> set[str]:
    return set((cpu.get("flags") or cpu.get("Features") or "").split())


def _os_name() -> str | None:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return None


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None
