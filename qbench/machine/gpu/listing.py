"""The GPUs of this machine, for its fingerprint."""

from __future__ import annotations

from typing import Any

from qbench.machine.gpu.card import Card, settings
from qbench.machine.gpu.nvml import NoNvml, ask, handles, nvml


def nvidia_gpus() -> list[dict[str, Any]] | None:
    """Return facts of each GPU, as NVML reports them; None if NVML is not usable."""
    try:
        with nvml() as library:
            cuda = ask(library, "nvmlSystemGetCudaDriverVersion").value
            common = {
                "driver": ask(library, "nvmlSystemGetDriverVersion").value,
                "cuda": None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}",
            }
            return [{**_gpu(library, handle), **common} for handle in handles(library).values()]
    except NoNvml:
        return None


def _gpu(library: Any, handle: Any) -> dict[str, Any]:
    def of(call: str, *args: Any) -> Any:
        return ask(library, call, handle, *args).value

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
        **settings(library, Card.of_gpu(library, handle)).values,
    }
