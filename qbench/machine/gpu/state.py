"""Clocks, power, temperature, throttling and memory of a card at this moment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qbench.machine.gpu.card import Card
from qbench.machine.gpu.nvml import ask

POWER_CAP = "power cap"
THROTTLING: Mapping[str, str] = {
    "SwPowerCap": POWER_CAP,
    "HwSlowdown": "hardware slowdown",
    "SyncBoost": "sync boost",
    "SwThermalSlowdown": "software thermal slowdown",
    "HwThermalSlowdown": "hardware thermal slowdown",
    "HwPowerBrakeSlowdown": "power brake",
}
"""NVML's reasons for low clocks that mean less speed than the GPU has; idling, and clocks that
somebody set, are none."""


def read_state(nvml: Any, card: Card) -> dict[str, Any]:
    """
    Returns:
        ``sm_clock_mhz, memory_clock_mhz, temperature_c, power_w, memory_used_bytes`` (of all
        processes), ``throttled`` (a list of reasons, empty if it is not), ``pcie_generation,
        pcie_width`` (an idle link is slower), each None where the GPU does not tell; then
        ``missing`` has its reason.
    """
    asked = {
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
    state = {name: value for name, (value, _) in asked.items()}
    if state["power_w"] is not None:
        state["power_w"] /= 1000
    if state["memory_used_bytes"] is not None:
        state["memory_used_bytes"] = int(state["memory_used_bytes"].used)
    if state["throttled"] is not None:
        state["throttled"] = _throttled(nvml, state["throttled"])
    missing = {name: reason for name, (_, reason) in asked.items() if reason is not None}
    return {**state, "missing": missing}


def read_power(nvml: Any, handle: Any) -> tuple[int | None, str | None]:
    """A GPU's milliwatts now; or None, and why.

    From Ampere on, A100 aside, ``nvmlDeviceGetPowerUsage`` is the mean of the last second (NVML's
    reference), so that the beginning of a window would hold what was before it. Newer drivers have
    the present figure as a field of its own.
    """
    instant = getattr(nvml, "NVML_FI_DEV_POWER_INSTANT", None)
    if instant is not None:
        fields, _ = ask(nvml, "nvmlDeviceGetFieldValues", handle, [instant])
        if fields is not None and fields[0].nvmlReturn == nvml.NVML_SUCCESS:
            return fields[0].value.uiVal, None
    return ask(nvml, "nvmlDeviceGetPowerUsage", handle)


def _throttled(nvml: Any, bits: int) -> list[str]:
    return [
        words
        for name, words in THROTTLING.items()
        if bits & getattr(nvml, f"nvmlClocksThrottleReason{name}", 0)
    ]
