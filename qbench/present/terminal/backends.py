"""Tables of the backends: whether each works here, on which devices, at which precisions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from qbench.kit.adapter import Ready, Unavailable
from qbench.present.terminal.tables import simple_table

HEADERS = ("backend", "version", "device", "precisions, or why not")
GPU_HEADERS = ("device", "GPU", "capability", "memory", "CUDA of the driver", "PCI bus")


def backend_tables(
    probes: Mapping[str, Ready | Unavailable],
) -> tuple[list[Table], list[str]]:
    """A table of the adapters, one of the GPUs if there are any, and lines on unavailable
    precisions."""
    tables = [simple_table(HEADERS, [row for n, p in probes.items() for row in _rows(n, p)])]
    gpus = {row: None for probe in probes.values() for row in _gpus(probe)}
    if gpus:
        tables.append(simple_table(GPU_HEADERS, list(gpus)))
    return tables, [line for name, probe in probes.items() for line in _missing(name, probe)]


def _rows(name: str, probe: Ready | Unavailable) -> list[tuple[str, ...]]:
    if isinstance(probe, Unavailable):
        return [(name, "not here", "", f"{probe.reason}. {probe.fix}")]
    return [
        (name, probe.version, device, ", ".join(_marked(probe, device)) or "none")
        for device in probe.precisions
    ]


def _marked(probe: Ready, device: str) -> list[str]:
    emulated = probe.emulated.get(device, ())
    return [f"{p} (emulated)" if p in emulated else p for p in probe.precisions[device]]


def _gpus(probe: Ready | Unavailable) -> list[tuple[Any, ...]]:
    if isinstance(probe, Unavailable):
        return []
    return [
        (
            device,
            facts.get("name"),
            facts.get("compute_capability"),
            _gibibytes(facts.get("memory_bytes")),
            facts.get("driver"),
            facts.get("pci_bus_id"),
        )
        for device, facts in probe.devices.items()
        if device != "cpu"
    ]


def _gibibytes(size_bytes: int | None) -> str | None:
    return None if size_bytes is None else f"{size_bytes / 2**30:.1f} GiB"


def _missing(name: str, probe: Ready | Unavailable) -> list[str]:
    """One line for each reason, with the precisions and devices that it applies to."""
    if isinstance(probe, Unavailable):
        return []
    where: dict[tuple[str, str], list[str]] = {}
    for device, reasons in probe.missing.items():
        for reason in dict.fromkeys(reasons.values()):
            precisions = ", ".join(p for p, other in reasons.items() if other == reason)
            where.setdefault((precisions, reason), []).append(device)
    return [
        f"{name}, {', '.join(devices)}: no {precisions}: {reason}"
        for (precisions, reason), devices in where.items()
    ]
