"""Find the NVML device of a CUDA device; read its settings and its compute processes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qbench.machine.gpu.nvml import Answer, Reported, ask, bus_id

COMPUTE_MODES = {
    "NVML_COMPUTEMODE_DEFAULT": "default",
    "NVML_COMPUTEMODE_EXCLUSIVE_THREAD": "exclusive thread",
    "NVML_COMPUTEMODE_PROHIBITED": "prohibited",
    "NVML_COMPUTEMODE_EXCLUSIVE_PROCESS": "exclusive process",
}
ECC_ERRORS = {
    "ecc_corrected": "NVML_MEMORY_ERROR_TYPE_CORRECTED",
    "ecc_uncorrected": "NVML_MEMORY_ERROR_TYPE_UNCORRECTED",
}
_PROC = Path("/proc")


class NoCard(Exception):
    """NVML does not show a CUDA device; the message is the reason."""


@dataclass(frozen=True)
class Card:
    """A GPU, or a MIG instance of one.

    Attributes:
        whole: NVML's handle of the GPU, for clocks, power, temperature and the bus.
        part: NVML's handle of the MIG instance, else the same as ``whole``; for memory and
            processes.
        pci_bus_id: as ``qbench.machine.gpu.nvml.bus_id`` writes it; "" if unknown.
        mig: whether it is a MIG instance.
    """

    whole: Any
    part: Any
    pci_bus_id: str
    mig: bool = False

    @classmethod
    def of_gpu(cls, nvml: Any, handle: Any) -> Card:
        """Return the card of a whole GPU's handle."""
        return cls(handle, handle, card_bus_id(nvml, handle) or "")


def card_bus_id(nvml: Any, handle: Any) -> str | None:
    """Return a GPU's PCI address as ``bus_id`` writes it; None if NVML does not report it."""
    info = ask(nvml, "nvmlDeviceGetPciInfo", handle).value
    if info is None:
        return None
    return bus_id(info.busId.decode() if isinstance(info.busId, bytes) else info.busId)


def find_card(nvml: Any, facts: Mapping[str, Any]) -> Card:
    """Find the card of a CUDA device by UUID or PCI address. Its number is no key:
    CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER give CUDA other numbers than NVML.

    Args:
        facts: of ``qbench.kit.cuda.Device``: ``uuid`` and ``pci_bus_id``.

    Raises:
        NoCard: NVML does not show it.
    """
    part, reason = ask(nvml, "nvmlDeviceGetHandleByUUID", facts["uuid"])
    if facts["uuid"].startswith("MIG-"):
        if part is None:
            raise NoCard(f"NVML does not show this MIG instance: {reason}")
        whole, reason = ask(nvml, "nvmlDeviceGetDeviceHandleFromMigDeviceHandle", part)
        if whole is None:
            raise NoCard(f"NVML does not report the GPU of this MIG instance: {reason}")
        return Card(whole, part, bus_id(facts["pci_bus_id"]), mig=True)
    if part is None:  # virtual GPUs may have another UUID inside
        part, reason = ask(nvml, "nvmlDeviceGetHandleByPciBusId", facts["pci_bus_id"])
    if part is None:
        raise NoCard(f"NVML does not show the GPU at {facts['pci_bus_id']}: {reason}")
    return Card(part, part, bus_id(facts["pci_bus_id"]))


def place(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the PCI address of a CUDA device's GPU (``pci_bus_id``), and whether the device is a
    MIG instance (``mig``). A bundle keeps both to match sensors with devices."""
    return {
        "pci_bus_id": bus_id(facts["pci_bus_id"]),
        "mig": facts["uuid"].startswith("MIG-"),
    }


# --------------------------------------------------------------------------- settings


def settings(nvml: Any, card: Card) -> Reported:
    """Read the settings that stay constant while a worker runs.

    ``power_limit_w``, ``power_limit_default_w``, ``ecc`` (whether memory errors are corrected),
    ``persistence`` (whether the driver stays loaded), ``compute_mode`` (who may use the card).
    """
    modes = {getattr(nvml, name): words for name, words in COMPUTE_MODES.items()}
    calls = {
        "power_limit_w": ("nvmlDeviceGetEnforcedPowerLimit", lambda mw: mw / 1000),
        "power_limit_default_w": (
            "nvmlDeviceGetPowerManagementDefaultLimit",
            lambda mw: mw / 1000,
        ),
        "ecc": ("nvmlDeviceGetEccMode", lambda pair: bool(pair[0])),  # current, pending
        "persistence": ("nvmlDeviceGetPersistenceMode", bool),
        "compute_mode": ("nvmlDeviceGetComputeMode", lambda mode: modes.get(mode, str(mode))),
    }
    values: dict[str, Any] = {}
    missing: dict[str, str] = {}
    for name, (call, converted) in calls.items():
        value, reason = ask(nvml, call, card.whole)
        values[name] = None if value is None else converted(value)
        if reason is not None:
            missing[name] = reason
    return Reported(values, missing)


def ecc_counts(nvml: Any, card: Card) -> Reported:
    """Count memory errors since the driver was loaded."""
    answers = {
        name: ask(
            nvml,
            "nvmlDeviceGetTotalEccErrors",
            card.whole,
            getattr(nvml, kind),
            nvml.NVML_VOLATILE_ECC,
        )
        for name, kind in ECC_ERRORS.items()
    }
    return Reported(
        {name: answer.value for name, answer in answers.items()},
        {name: answer.reason for name, answer in answers.items() if answer.reason is not None},
    )


# --------------------------------------------------------------------------- processes


def compute_processes(nvml: Any, card: Card) -> Answer:
    """List the processes that compute on a card: bytes of its memory by process id, None for a
    process whose bytes are unknown. In a container the ids may belong to another namespace, and
    processes may be missing."""
    listed, reason = ask(nvml, "nvmlDeviceGetComputeRunningProcesses", card.part)
    if listed is None:
        return Answer(None, reason)
    found: dict[int, int | None] = {}
    for process in listed:
        held, more = found.get(process.pid), process.usedGpuMemory
        found[process.pid] = more if held is None else held + (more or 0)
    return Answer(found, None)


def is_ours(pid: int) -> bool:
    """Return whether a process is this one or one of its descendants."""
    while pid > 1 and pid != os.getpid():
        try:  # the parent is field 4; field 2, the name in brackets, may hold anything
            pid = int((_PROC / f"{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            return False
    return pid == os.getpid()


def named(pids: Iterable[int]) -> str:
    """Return such as ``4321 (python3), 4400``. The name of another container's process is
    unknown."""
    words = []
    for pid in sorted(pids):
        try:
            words.append(f"{pid} ({(_PROC / f'{pid}/comm').read_text(errors='replace').strip()})")
        except OSError:
            words.append(str(pid))
    return ", ".join(words)
