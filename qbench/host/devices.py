"""Memory, board, accelerators: what a machine has beside its processors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from qbench.host.tree import Tree

PCI_CLASSES = {"0x03": "display", "0x12": "processing accelerator"}
"""Classes of PCI devices that may run networks (PCI Code and ID Assignment Specification)."""

NVIDIA = "10de"
"""The PCI vendor id."""


def memory_facts(tree: Tree) -> dict[str, Any]:
    """Capacity, modules where the kernel's error detection names them, and swap space."""
    known = tree.pairs("proc/meminfo")
    if "MemTotal" not in known and not tree.exists("proc"):
        import psutil

        return {
            "memory_bytes": psutil.virtual_memory().total,
            "memory_configuration": None,
            "swap_bytes": psutil.swap_memory().total,
        }
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
    """Who made the machine, and its model: of a virtual one, its hypervisor's names."""
    dmi = "sys/class/dmi/id"
    return {
        "system_vendor": tree.text(f"{dmi}/sys_vendor") or None,
        "system_product": tree.text(f"{dmi}/product_name")
        or tree.text("proc/device-tree/model")
        or None,
        "firmware_version": tree.text(f"{dmi}/bios_version") or None,
    }


def pci_accelerators(tree: Tree) -> list[dict[str, str | None]] | None:
    """Displays and accelerators on the PCI bus by ``vendor:device``; None where it cannot be read.
    Counting and naming what runs networks is for the vendor's library."""
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


# --------------------------------------------------------------------------- NVIDIA


class NoNvml(Exception):
    """NVML cannot be used here; the message says why."""


@contextmanager
def nvml() -> Iterator[Any]:
    """NVIDIA's management library (the module ``pynvml``), open while the block runs.

    Raises:
        NoNvml: its Python package, the library or the driver is missing.
    """
    try:
        import pynvml  # type: ignore[import-not-found]
    except ImportError:
        raise NoNvml("the package nvidia-ml-py is not installed") from None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise NoNvml(f"NVML: {error}") from None
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def ask(library: Any, call: str, *args: Any) -> tuple[Any, str | None]:
    """What a function of NVML says, or why it does not: any of them may answer "Not Supported",
    and an older package or driver may lack it."""
    function: Callable[..., Any] | None = getattr(library, call, None)
    if function is None:
        return None, f"nvidia-ml-py has no {call}"
    try:
        value = function(*args)
    except library.NVMLError as error:
        return None, str(error)
    return value.decode() if isinstance(value, bytes) else value, None


def bus_id(text: str) -> str:
    """A place on the PCI bus, ``domain:bus:device.function``, as all of qbench writes it: NVML has
    more digits of the domain than CUDA has, and both know several cases of letters."""
    domain, colon, rest = text.lower().partition(":")
    return f"{domain.lstrip('0').rjust(4, '0')}{colon}{rest}"


def handles(library: Any) -> dict[int, Any]:
    """By index, NVML's handles of the GPUs that it lets this process see."""
    count, _ = ask(library, "nvmlDeviceGetCount")
    found = {n: ask(library, "nvmlDeviceGetHandleByIndex", n)[0] for n in range(count or 0)}
    return {index: handle for index, handle in found.items() if handle is not None}


def nvidia_gpus() -> list[dict[str, Any]] | None:
    """The GPUs of this machine as NVML tells them; None where it cannot be asked."""
    try:
        with nvml() as library:
            driver, _ = ask(library, "nvmlSystemGetDriverVersion")
            cuda, _ = ask(library, "nvmlSystemGetCudaDriverVersion")
            common = {
                "driver": driver,
                "cuda": None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}",
            }
            return [{**_gpu(library, handle), **common} for handle in handles(library).values()]
    except NoNvml:
        return None


def _gpu(library: Any, handle: Any) -> dict[str, Any]:
    def of(call: str, *args: Any) -> Any:
        return ask(library, call, handle, *args)[0]

    from qbench.gpu.card import Card, settings

    memory = of("nvmlDeviceGetMemoryInfo")
    mig = of("nvmlDeviceGetMigMode")
    return {
        "vendor": "NVIDIA",
        "name": of("nvmlDeviceGetName"),
        "memory_bytes": None if memory is None else int(memory.total),
        "max_clock_mhz": of("nvmlDeviceGetMaxClockInfo", library.NVML_CLOCK_SM),
        "pcie_generation": of("nvmlDeviceGetMaxPcieLinkGeneration"),
        "pcie_lanes": of("nvmlDeviceGetMaxPcieLinkWidth"),
        "mig": None if mig is None else bool(mig[0]),
        **settings(library, Card.of_gpu(library, handle))[0],
    }
