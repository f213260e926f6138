"""NVIDIA's management library: energy, and the state that a GPU is in.

Every function takes the module ``pynvml`` (distribution ``nvidia-ml-py``), or a fake of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from qbench.energy.sensors import Refused, Sensor, SensorError

SPOT_POWER = (
    "NVML's power is an average over part of the time only: a quarter of it on A100 and H100 "
    "(arXiv:2312.02741)"
)


def nvml_sensors(root: Path, nvml: Any) -> Iterator[Sensor | Refused]:
    """One sensor for each GPU: its energy counter, or its power where it has no counter."""
    there = (root / "dev/nvidiactl").exists()
    if nvml is None:
        try:
            import pynvml as nvml
        except ImportError:
            if there:
                yield Refused("nvml", "pynvml is not installed: pip install nvidia-ml-py")
            return
    try:
        nvml.nvmlInit()
        count = nvml.nvmlDeviceGetCount()
    except nvml.NVMLError as error:
        if there:
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
    energy = _reader(nvml, nvml.nvmlDeviceGetTotalEnergyConsumption, handle)  # millijoules
    power = _reader(nvml, nvml.nvmlDeviceGetPowerUsage, handle)  # milliwatts
    try:
        energy()
    except SensorError as error:
        yield Refused(f"nvml-{index}-energy", str(error))
        yield Sensor(f"nvml-{index}-power", "nvml power", "gpu", "power", power, SPOT_POWER)
    else:
        yield Sensor(f"nvml-{index}-energy", "nvml total energy", "gpu", "counter", energy)


def _reader(nvml: Any, function: Callable[[Any], int], handle: Any) -> Callable[[], float]:
    def read() -> float:
        try:
            return function(handle) * 1e-3
        except nvml.NVMLError as error:
            raise SensorError(f"NVML: {error}") from None

    return read


THROTTLING = {
    "SwPowerCap": "power cap",
    "HwSlowdown": "hardware slowdown",
    "SwThermalSlowdown": "software thermal slowdown",
    "HwThermalSlowdown": "hardware thermal slowdown",
    "HwPowerBrakeSlowdown": "power brake",
}
"""NVML's reasons for low clocks that mean less speed than the GPU has; idling, and clocks that
somebody set, are none."""


def gpu_state(nvml: Any, index: int) -> dict[str, Any]:
    """Clocks, temperature, power, memory in use and throttling of a GPU at this moment.

    Returns:
        ``sm_clock_mhz, memory_clock_mhz, temperature_c, power_w, memory_used_bytes`` and
        ``throttled`` (a list of reasons, empty if it is not), each None where the GPU does not
        tell; then ``missing`` has its reason.

    Raises:
        SensorError: there is no such GPU.
    """
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
    except nvml.NVMLError as error:
        raise SensorError(f"NVML: {error}") from None
    readings: dict[str, Callable[[], Any]] = {
        "sm_clock_mhz": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),
        "memory_clock_mhz": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM),
        "temperature_c": lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
        "power_w": lambda: nvml.nvmlDeviceGetPowerUsage(handle) * 1e-3,
        "memory_used_bytes": lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used,
        "throttled": lambda: _throttled(nvml, handle),
    }
    state: dict[str, Any] = {}
    missing: dict[str, str] = {}
    for name, read in readings.items():
        try:
            state[name] = read()
        except nvml.NVMLError as error:
            state[name] = None
            missing[name] = str(error)
    return {**state, "missing": missing}


def _throttled(nvml: Any, handle: Any) -> list[str]:
    bits = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
    return [
        words
        for name, words in THROTTLING.items()
        if bits & getattr(nvml, f"nvmlClocksThrottleReason{name}")
    ]
