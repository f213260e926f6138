"""Read facts of memory, board and PCI accelerators."""

from __future__ import annotations

from collections import Counter
from typing import Any

from qbench.machine.host.tree import Tree

PCI_CLASSES = {"0x03": "display", "0x12": "processing accelerator"}
"""Classes of PCI devices that may run networks (PCI Code and ID Assignment Specification)."""


def memory_facts(tree: Tree) -> dict[str, Any]:
    """Return sizes of memory and swap space, and the memory modules if the kernel's error detection
    (EDAC) lists them."""
    known = tree.pairs("proc/meminfo")
    modules = Counter()
    for dimm in tree.paths("sys/devices/system/edac/mc/mc*/dimm*"):
        size, kind = tree.text(dimm / "size"), tree.text(dimm / "dimm_mem_type")
        if size and size != "0":
            modules[f"{size} MiB {kind or ''}".strip()] += 1
    return {
        "memory_bytes": _kib(known.get("MemTotal")),
        "memory_configuration": ", ".join(f"{n}x {what}" for what, n in modules.items()) or None,
        "swap_bytes": _kib(known.get("SwapTotal")),
    }


def _kib(value: int | None) -> int | None:
    return None if value is None else value * 1024


def board_facts(tree: Tree) -> dict[str, str | None]:
    """Return the machine's vendor and model; a virtual machine shows its hypervisor's."""
    dmi = "sys/class/dmi/id"
    return {
        "system_vendor": tree.text(f"{dmi}/sys_vendor") or None,
        "system_product": tree.text(f"{dmi}/product_name")
        or tree.text("proc/device-tree/model")
        or None,
        "firmware_version": tree.text(f"{dmi}/bios_version") or None,
    }


def pci_accelerators(tree: Tree) -> list[dict[str, str | None]] | None:
    """List displays and accelerators on the PCI bus by ``vendor:device``; None if the bus is not
    readable. Not every one can run networks: only the vendor's library knows."""
    if not tree.exists("sys/bus/pci/devices"):
        return None
    found = []
    for device in tree.paths("sys/bus/pci/devices/*"):
        kind = PCI_CLASSES.get((tree.text(device / "class") or "")[:4])
        if kind:
            ids = [(tree.text(device / part) or "")[2:] for part in ("vendor", "device")]
            driver = device / "driver"
            name = driver.resolve().name if driver.exists() else None
            found.append({"class": kind, "pci_id": ":".join(ids), "kernel_driver": name})
    return found
