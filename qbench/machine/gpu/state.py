"""Read clocks, power, temperature, throttling and memory of a card now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qbench.machine.gpu.card import Card
from qbench.machine.gpu.nvml import Answer, Reported, ask

POWER_CAP = "power cap"
THROTTLING: Mapping[str, str] = {
    "SwPowerCap": POWER_CAP,
    "HwSlowdown": "hardware slowdown",
    "SyncBoost": "sync boost",
    "SwThermalSlowdown": "software thermal slowdown",
    "HwThermalSlowdown": "hardware thermal slowdown",
    "HwPowerBrakeSlowdown": "power brake",
}
"""Throttling by NVML's reasons for low clocks. Idling and clocks set by a user are not among
them."""


def read_state(nvml: Any, card: Card) -> Reported:
    """Read a card's state: ``sm_clock_mhz, memory_clock_mhz, temperature_c, power_w,
    memory_used_bytes`` (of all processes), ``throttled`` (a list of reasons, empty if it is not),
    ``pcie_generation, pcie_width`` (an idle link is slower)."""
    answers = {
        "sm_clock_mhz": ask(nvml, "nvmlDeviceGetClockInfo", card.whole, nvml.NVML_CLOCK_SM),
        "memory_clock_mhz": ask(nvml, "nvmlDeviceGetClockInfo", card.whole, nvml.NVML_CLOCK_MEM),
        "temperature_c": ask(
            nvml, "nvmlDeviceGetTemperature", card.whole, nvml.NVML_TEMPERATURE_GPU
        ),
        "power_w": read_power(nvml, card.whole),
        "memory_used_bytes": ask(nvml, "nvmlDeviceGetMemoryInfo", card.part),
        "throttled": ask(nvml, "nvmlDeviceGetCurrentClocksThrottleReasons", card.whole),
        "pcie_generation": ask(nvml, "nvmlDeviceGetCurrPcieLinkGeneration", card.whole),
        "pcie_width": ask(nvml, "nvmlDeviceGetCurrPcieLinkWidth", card.whole),
    }
    state = {name: answer.value for name, answer in answers.items()}
    if state["power_w"] is not None:
        state["power_w"] /= 1000
    if state["memory_used_bytes"] is not None:
        state["memory_used_bytes"] = int(state["memory_used_bytes"].used)
    if state["throttled"] is not None:
        state["throttled"] = _throttled(nvml, state["throttled"])
    missing = {name: why for name, (_, why) in answers.items() if why is not None}
    return Reported(state, missing)


def read_power(nvml: Any, handle: Any) -> Answer:
    """Read a GPU's power now, in milliwatts.

    From Ampere on, except on A100, ``nvmlDeviceGetPowerUsage`` is the mean of the last second
    (NVML's reference), so a window's first readings would include the time before it. Newer
    drivers have a field for the current power.
    """
    instant = getattr(nvml, "NVML_FI_DEV_POWER_INSTANT", None)
    if instant is not None:
        fields = ask(nvml, "nvmlDeviceGetFieldValues", handle, [instant]).value
        if fields is not None and fields[0].nvmlReturn == nvml.NVML_SUCCESS:
            return Answer(fields[0].value.uiVal, None)
    return ask(nvml, "nvmlDeviceGetPowerUsage", handle)


def _throttled(nvml: Any, bits: int) -> list[str]:
    return [
        words
        for name, words in THROTTLING.items()
        if bits & getattr(nvml, f"nvmlClocksThrottleReason{name}", 0)
    ]
