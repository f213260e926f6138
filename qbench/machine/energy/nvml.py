"""Energy and power of each NVIDIA GPU, by NVML.

Functions take the module ``pynvml`` (distribution ``nvidia-ml-py``), or a fake of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from qbench.machine.energy.sensor import Refused, Sensor, SensorError
from qbench.machine.gpu.card import card_bus_id
from qbench.machine.gpu.nvml import Answer, ask
from qbench.machine.gpu.state import read_power

SPOT_POWER = (
    "NVML's power is an average over part of the time only: a quarter of it on A100 and H100 "
    "(arXiv:2312.02741)"
)


def nvml_sensors(root: Path, nvml: Any) -> Iterator[Sensor | Refused]:
    """Yield each GPU's energy counter, if it has one, and its power, which checks the counter."""
    present = (root / "dev/nvidiactl").exists()
    if nvml is None:
        try:
            import pynvml as nvml
        except ImportError:
            if present:
                yield Refused("nvml", "pynvml is not installed: pip install nvidia-ml-py")
            return
    try:
        nvml.nvmlInit()
        count = nvml.nvmlDeviceGetCount()
    except nvml.NVMLError as error:
        if present:
            yield Refused("nvml", f"NVML: {error}")
        return
    for index in range(count):
        yield from _gpu(nvml, index)


def _gpu(nvml: Any, index: int) -> Iterator[Sensor | Refused]:
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
    except nvml.NVMLError as error:
        yield Refused(f"nvml-{index}", f"NVML: {error}")
        return
    energy = _reader(lambda: ask(nvml, "nvmlDeviceGetTotalEnergyConsumption", handle))  # mJ
    power = _reader(lambda: read_power(nvml, handle))  # mW
    device = card_bus_id(nvml, handle)
    try:
        energy()
    except SensorError as error:
        yield Refused(f"nvml-{index}-energy", str(error))
    else:
        name = f"nvml-{index}-energy"
        yield Sensor(name, "nvml total energy", "gpu", "counter", energy, device=device)
    name = f"nvml-{index}-power"
    yield Sensor(name, "nvml power", "gpu", "power", power, SPOT_POWER, device)


def _reader(answer: Callable[[], Answer]) -> Callable[[], float]:
    def read() -> float:
        value, reason = answer()
        if value is None:
            raise SensorError(f"NVML: {reason}")
        return value * 1e-3

    return read
