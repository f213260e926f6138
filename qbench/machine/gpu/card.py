"""Which of NVML's cards a CUDA device is, how it is set, and which processes compute on it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from qbench.machine.gpu.nvml import ask, bus_id

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


class NoCard(Exception):
    """NVML does not show a CUDA device; the message is the reason."""


@dataclass(frozen=True)
class Card:
    """A GPU, or a part of one.

    Attributes:
        whole: NVML's handle of the GPU: clocks, power, temperature and the bus are the GPU's.
        part: its handle of the MIG instance, if the device is one, else the same as ``whole``:
            memory and processes are the instance's own.
        pci_bus_id: as ``qbench.machine.gpu.nvml.bus_id`` writes it; "" where it is not told.
        mig: whether it is a part of a GPU.
    """

    whole: Any
    part: Any
    pci_bus_id: str
    mig: bool = False

    @classmethod
    def of_gpu(cls, nvml: Any, handle: Any) -> Card:
        """The card of a handle of a whole GPU."""
        return cls(handle, handle, card_bus_id(nvml, handle) or "")


def card_bus_id(nvml: Any, handle: Any) -> str | None:
    """Where NVML says that a GPU sits, as ``bus_id`` writes it; None where it does not."""
    info, _ = ask(nvml, "nvmlDeviceGetPciInfo", handle)
    if info is None:
        return None
    return bus_id(info.busId.decode() if isinstance(info.busId, bytes) else info.busId)


def find_card(nvml: Any, facts: Mapping[str, Any]) -> Card:
    """The card that a CUDA device is. Never by its number: CUDA_VISIBLE_DEVICES and
    CUDA_DEVICE_ORDER number devices otherwise than NVML does.

    Args:
        facts: of ``qbench.kit.cuda.Device``: ``uuid`` and ``pci_bus_id``.

    Raises:
        NoCard: NVML does not show it.
    """
    part, reason = ask(nvml, "nvmlDeviceGetHandleByUUID", facts["uuid"])
    if facts["uuid"].startswith("MIG-"):
        if part is None:
            raise NoCard(f"NVML does not show this part of a GPU (MIG): {reason}")
        whole, reason = ask(nvml, "nvmlDeviceGetDeviceHandleFromMigDeviceHandle", part)
        if whole is None:
            raise NoCard(f"NVML does not tell which GPU this part (MIG) is of: {reason}")
        return Card(whole, part, bus_id(facts["pci_bus_id"]), mig=True)
    if part is None:  # virtual GPUs may have another UUID inside
        part, reason = ask(nvml, "nvmlDeviceGetHandleByPciBusId", facts["pci_bus_id"])
    if part is None:
        raise NoCard(f"NVML does not show the GPU at {facts['pci_bus_id']}: {reason}")
    return Card(part, part, bus_id(facts["pci_bus_id"]))


def place(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Where the GPU of a CUDA device sits (``pci_bus_id``), and whether the device is but a part of
    it (``mig``): what a bundle keeps to know whose sensor is whose."""
    return {
        "pci_bus_id": bus_id(facts["pci_bus_id"]),
        "mig": facts["uuid"].startswith("MIG-"),
    }


# --------------------------------------------------------------------------- how it is set


def settings(nvml: Any, card: Card) -> tuple[dict[str, Any], dict[str, str]]:
    """What does not change while a worker runs, each None where it is not told; and why.

    ``power_limit_w``, ``power_limit_default_w``, ``ecc`` (whether memory errors are corrected),
    ``persistence`` (whether the driver stays loaded), ``compute_mode`` (who may use the card).
    """
    limit = ask(nvml, "nvmlDeviceGetEnforcedPowerLimit", card.whole)
    usual = ask(nvml, "nvmlDeviceGetPowerManagementDefaultLimit", card.whole)
    ecc = ask(nvml, "nvmlDeviceGetEccMode", card.whole)
    persistence = ask(nvml, "nvmlDeviceGetPersistenceMode", card.whole)
    mode = ask(nvml, "nvmlDeviceGetComputeMode", card.whole)
    modes = {getattr(nvml, name): words for name, words in COMPUTE_MODES.items()}
    values = {
        "power_limit_w": None if limit[0] is None else limit[0] / 1000,
        "power_limit_default_w": None if usual[0] is None else usual[0] / 1000,
        "ecc": None if ecc[0] is None else bool(ecc[0][0]),  # now, and after the next start
        "persistence": None if persistence[0] is None else bool(persistence[0]),
        "compute_mode": None if mode[0] is None else modes.get(mode[0], str(mode[0])),
    }
    told = dict(zip(values, (limit, usual, ecc, persistence, mode), strict=True))
    return values, {name: why for name, (_, why) in told.items() if why is not None}


def ecc_counts(nvml: Any, card: Card) -> tuple[dict[str, int | None], dict[str, str]]:
    """Memory errors since the driver was loaded, each None where it is not told; and why."""
    counts: dict[str, int | None] = {}
    missing: dict[str, str] = {}
    for name, kind in ECC_ERRORS.items():
        count, reason = ask(
            nvml,
            "nvmlDeviceGetTotalEccErrors",
            card.whole,
            getattr(nvml, kind),
            nvml.NVML_VOLATILE_ECC,
        )
        counts[name] = count
        if reason is not None:
            missing[name] = reason
    return counts, missing


# --------------------------------------------------------------------------- who computes on it


def compute_processes(nvml: Any, card: Card) -> tuple[dict[int, int | None] | None, str | None]:
    """By process id, the bytes of the card's memory that it holds (None: not told); or None, and
    why. In a container the ids may be those of another namespace, or processes be left out."""
    listed, reason = ask(nvml, "nvmlDeviceGetComputeRunningProcesses", card.part)
    if listed is None:
        return None, reason
    found: dict[int, int | None] = {}
    for process in listed:
        held, more = found.get(process.pid), process.usedGpuMemory
        found[process.pid] = more if held is None else held + (more or 0)
    return found, None


def is_ours(pid: int) -> bool:
    """Whether a process is this one, or was started by it."""
    import psutil

    if pid == os.getpid():
        return True
    try:
        return os.getpid() in (parent.pid for parent in psutil.Process(pid).parents())
    except (psutil.Error, ValueError, OverflowError):
        return False


def named(pids: Iterable[int]) -> str:
    """Such as ``4321 (python3), 4400``: a name is not to be had of another container's process."""
    import psutil

    words = []
    for pid in sorted(pids):
        try:
            words.append(f"{pid} ({psutil.Process(pid).name()})")
        except (psutil.Error, ValueError, OverflowError):
            words.append(str(pid))
    return ", ".join(words)
