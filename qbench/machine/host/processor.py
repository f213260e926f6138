"""Read facts of the processors and their clocks."""

from __future__ import annotations

import platform
import re
from collections import Counter
from typing import Any

from qbench.machine.host.tree import Tree

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
    "asimdhp",
    "i8mm",
    "bf16",
    "sve",
    "sve2",
)
"""Instruction sets that affect the speed and the accuracy of quantized networks."""

ARM_CORES = {
    (0x41, 0xD03): "Cortex-A53",
    (0x41, 0xD04): "Cortex-A35",
    (0x41, 0xD05): "Cortex-A55",
    (0x41, 0xD07): "Cortex-A57",
    (0x41, 0xD08): "Cortex-A72",
    (0x41, 0xD09): "Cortex-A73",
    (0x41, 0xD0A): "Cortex-A75",
    (0x41, 0xD0B): "Cortex-A76",
    (0x41, 0xD0C): "Neoverse-N1",
    (0x41, 0xD0D): "Cortex-A77",
    (0x41, 0xD40): "Neoverse-V1",
    (0x41, 0xD41): "Cortex-A78",
    (0x41, 0xD42): "Cortex-A78AE",
    (0x41, 0xD44): "Cortex-X1",
    (0x41, 0xD46): "Cortex-A510",
    (0x41, 0xD47): "Cortex-A710",
    (0x41, 0xD49): "Neoverse-N2",
    (0x41, 0xD4F): "Neoverse-V2",
    (0x4E, 0x003): "Denver 2",
    (0x4E, 0x004): "Carmel",
}
"""Names of cores by implementer and part, the only identification that Linux gives on aarch64 (from
util-linux's lscpu-arm.c)."""

CPUS = "sys/devices/system/cpu"


def processor_facts(tree: Tree) -> dict[str, Any]:
    """Read facts of the processors; None if one is unavailable."""
    blocks = _cpuinfo(tree)
    first = blocks[0] if blocks else {}
    flags = set((first.get("flags") or first.get("Features") or "").split())
    identity = ("cpu family", "model", "stepping")
    return {
        "cpu_model": first.get("model name") or _arm_name(blocks) or platform.processor() or None,
        "cpu_vendor": first.get("vendor_id") or first.get("CPU implementer"),
        "cpu_signature": "/".join(first[key] for key in identity)
        if all(key in first for key in identity)
        else None,
        "cpu_flags": [flag for flag in CPU_FLAGS if flag in flags],
        "microcode": first.get("microcode"),
        **_counts(tree),
        "caches": _caches(tree),
        "numa_nodes": len(tree.paths("sys/devices/system/node/node[0-9]*")) or None,
        "hypervisor": is_virtual(tree),
        "governor": governors(tree),
        "max_frequency_mhz": _max_frequency(tree),
        "turbo": turbo(tree),
        "smt": {"0": False, "1": True}.get(tree.text(f"{CPUS}/smt/active") or ""),
        "power_mode": power_mode(tree),
    }


def governors(tree: Tree) -> str | None:
    """Return the frequency governors of all processors: one name, or several joined by commas."""
    found = {tree.text(p) for p in tree.paths(f"{CPUS}/cpu[0-9]*/cpufreq/scaling_governor")}
    return ", ".join(sorted(name for name in found if name)) or None


def turbo(tree: Tree) -> bool | None:
    """Return whether clocks may exceed the nominal one; None if unknown."""
    off = tree.number(f"{CPUS}/intel_pstate/no_turbo")
    if off is not None:
        return off == 0
    on = tree.number(f"{CPUS}/cpufreq/boost")
    return None if on is None else on == 1


def is_virtual(tree: Tree) -> bool | None:
    """Return whether this is a virtual machine; None if unknown: on ARM there is no flag for it."""
    if tree.exists("sys/hypervisor/type") or tree.exists("proc/device-tree/hypervisor"):
        return True
    first = next(iter(_cpuinfo(tree)), {})
    return "hypervisor" in first["flags"].split() if "flags" in first else None


def _cpuinfo(tree: Tree) -> list[dict[str, str]]:
    """Read /proc/cpuinfo: one mapping for each processor."""
    blocks = []
    for text in (tree.text("proc/cpuinfo") or "").split("\n\n"):
        pairs = (line.partition(":") for line in text.splitlines())
        blocks.append({key.strip(): value.strip() for key, _, value in pairs})
    return [block for block in blocks if block]


def _arm_name(blocks: list[dict[str, str]]) -> str | None:
    """Return such as ``4x Cortex-A76 + 4x Cortex-A55``; None without ARM cores."""
    names = Counter()
    for block in blocks:
        try:
            key = int(block["CPU implementer"], 16), int(block["CPU part"], 16)
        except (KeyError, ValueError):
            continue
        names[ARM_CORES.get(key, f"ARM core {key[0]:#04x}:{key[1]:#05x}")] += 1
    if len(names) == 1:
        return next(iter(names))
    return " + ".join(f"{count}x {name}" for name, count in names.items()) or None


def _counts(tree: Tree) -> dict[str, int | None]:
    topology = tree.paths(f"{CPUS}/cpu[0-9]*/topology")
    siblings = {
        tree.text(cpu / "core_cpus_list") or tree.text(cpu / "thread_siblings_list")
        for cpu in topology
    }
    packages = {tree.text(cpu / "physical_package_id") for cpu in topology}
    return {
        "sockets": len(packages - {None}) or None,
        "cores_physical": len(siblings - {None}) or None,
        "cores_logical": len(topology) or len(_cpuinfo(tree)) or None,
    }


def _caches(tree: Tree) -> list[dict[str, Any]]:
    """List caches: ``level`` (L1d, L1i, L2, ...), ``bytes`` of one, number of ``instances``."""
    letters = {"Data": "d", "Instruction": "i"}
    found: dict[tuple[str, int], set[str | None]] = {}
    for folder in tree.paths(f"{CPUS}/cpu[0-9]*/cache/index[0-9]*"):
        level, kind = tree.text(folder / "level"), tree.text(folder / "type")
        size = re.fullmatch(r"(\d+)([KM])", tree.text(folder / "size") or "")
        if level and size:
            name = f"L{level}{letters.get(kind or '', '')}"
            bytes_ = int(size[1]) * {"K": 1024, "M": 1024**2}[size[2]]
            found.setdefault((name, bytes_), set()).add(tree.text(folder / "shared_cpu_list"))
    return [
        {"level": name, "bytes": size, "instances": len(shared)}
        for (name, size), shared in sorted(found.items())
    ]


def _max_frequency(tree: Tree) -> int | None:
    """Return the maximum frequency of the fastest processor in MHz."""
    found = [tree.number(p) for p in tree.paths(f"{CPUS}/cpu[0-9]*/cpufreq/cpuinfo_max_freq")]
    return max((khz // 1000 for khz in found if khz), default=None)


def power_mode(tree: Tree) -> str | None:
    """Return the power mode of a Jetson's nvpmodel or a laptop's firmware."""
    mode = re.search(r"pmode:0*(\d+)", tree.text("var/lib/nvpmodel/status") or "")
    if mode is None:
        return tree.text("sys/firmware/acpi/platform_profile")
    names = tree.text("etc/nvpmodel.conf") or ""
    name = re.search(rf"POWER_MODEL\s+ID={mode[1]}\s+NAME=(\w+)", names)
    return f"nvpmodel {mode[1]}" + (f" ({name[1]})" if name else "")
