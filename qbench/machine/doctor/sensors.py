"""Check counters, energy sensors and GPUs."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from qbench.kit.readings.counters import Counters
from qbench.machine.doctor.finding import Finding, Status, judged
from qbench.machine.energy.sensors import RAPL_HIDDEN, find_sensors
from qbench.machine.gpu.card import Card, named, settings
from qbench.machine.gpu.nvml import NVIDIA, NoNvml, Reported, ask, handles, nvml
from qbench.machine.gpu.state import read_state
from qbench.machine.host.devices import pci_accelerators
from qbench.machine.host.tree import Tree

BUSY_GPU_PERCENT = 5
TRIED_S = 0.02
"""Duration of the trial of the counters: several turns if the kernel multiplexes them."""


def performance_counters() -> Finding:
    """Check that perf_event_open counts instructions and cycles, on a little work: some machines
    open counters that never count."""
    check, counters = "performance counters", Counters()
    end = time.thread_time() + TRIED_S
    while time.thread_time() < end:
        pass
    counters.read()
    reason = counters.reason
    counters.close()
    if reason is None:
        return Finding(check, "good", "instructions and cycles can be counted")
    found, _, command = reason.partition("; sudo ")
    return Finding(
        check,
        "warn",
        found,
        "instructions per inference stay empty",
        f"sudo {command}" if command else None,
    )


def energy_sensors(tree: Tree) -> Finding:
    """Check that there are energy counters or power sensors, and that they are readable."""
    check, why = "energy sensors", "energy is then a proxy, or read from a wall meter"
    found = find_sensors(tree.root)
    closed = [
        f"{refused.name}: {refused.reason.partition(': sudo ')[0]}" for refused in found.refused
    ]
    hidden = any(RAPL_HIDDEN in refused.reason for refused in found.refused)
    shown = [f"{sensor.method} ({sensor.scope})" for sensor in found.sensors]
    if not shown and not closed:
        return Finding(check, "unknown", "none found: no RAPL, no hwmon power, no NVML", why)
    return judged(
        check,
        "warn" if closed else "good",
        "; ".join([*shown, *closed]),
        why,
        RAPL_HIDDEN.partition(" (")[0] if hidden else None,
    )


def gpus(tree: Tree) -> list[Finding]:
    """Check every NVIDIA GPU: other users, throttling, settings."""
    try:
        with nvml() as library:
            found = handles(library)
            if found:
                return [
                    finding
                    for index, handle in found.items()
                    for finding in _gpu(library, handle, index)
                ]
            reason = "NVML finds no GPU"
    except NoNvml as error:
        reason = str(error)
    devices = pci_accelerators(tree)
    if devices is not None and not any(str(d["pci_id"]).startswith(NVIDIA) for d in devices):
        return [Finding("GPU", "good", "no NVIDIA GPU on the PCI bus")]
    return [
        Finding(
            "GPU",
            "unknown",
            reason,
            "other users of a GPU and its clocks are unknown",
            "pip install nvidia-ml-py" if "not installed" in reason else None,
        )
    ]


def _gpu(library: Any, handle: Any, index: int) -> list[Finding]:
    card = Card.of_gpu(library, handle)
    state, chosen = read_state(library, card), settings(library, card)
    found = [
        _gpu_users(library, handle, index),
        _gpu_clocks(index, state),
        _gpu_persistence(index, chosen),
        _gpu_power_limit(index, chosen.values),
        _gpu_ecc(index, chosen.values["ecc"]),
        _gpu_parts(library, handle, index),
        _gpu_mode(index, chosen.values["compute_mode"]),
        _gpu_link(library, handle, index, state.values["pcie_width"]),
    ]
    return [finding for finding in found if finding is not None]


def _gpu_users(library: Any, handle: Any, index: int) -> Finding:
    check, why = f"GPU {index}, users", "they share its clocks, memory and time"
    running, reason = ask(library, "nvmlDeviceGetComputeRunningProcesses", handle)
    busy, busy_reason = ask(library, "nvmlDeviceGetUtilizationRates", handle)
    if running is None and busy is None:
        return Finding(check, "unknown", str(reason), why)
    pids = [process.pid for process in running or [] if process.pid != os.getpid()]
    percent = None if busy is None else int(busy.gpu)
    status: Status = "good"
    if pids or (percent is not None and percent >= BUSY_GPU_PERCENT):
        status = "bad"
    elif running is None:  # another container's process may be hidden, but its work shows
        status = "unknown"
    shown = f"busy: {busy_reason}" if percent is None else f"{percent} % busy"
    who = named(pids) or "none" if running is not None else str(reason)
    return judged(check, status, f"compute processes: {who}; {shown}", why)


def _gpu_clocks(index: int, state: Reported) -> Finding:
    check, why = f"GPU {index}, clocks", "the GPU is slower than it could be"
    slowed, clock = state.values["throttled"], state.values["sm_clock_mhz"]
    if slowed is None:
        return Finding(check, "unknown", state.missing["throttled"], why)
    found = ", ".join(slowed) or "not throttled"
    found += f"; {clock} MHz now" if clock is not None else ""
    heat = state.values["temperature_c"]
    found += f", {heat} °C" if heat is not None else ""
    return judged(check, "bad" if slowed else "good", found, why)


def _gpu_persistence(index: int, chosen: Reported) -> Finding:
    check, why = f"GPU {index}, persistence", "without it every process loads the driver again"
    on = chosen.values["persistence"]
    if on is None:
        return Finding(check, "unknown", chosen.missing["persistence"], why)
    return judged(
        check,
        "good" if on else "warn",
        "on" if on else "off",
        why,
        f"sudo nvidia-smi -i {index} -pm 1",
    )


def _gpu_power_limit(index: int, chosen: Mapping[str, Any]) -> Finding | None:
    """None if it is unknown, as on laptops and Jetsons."""
    check = f"GPU {index}, power limit"
    why = "a lower limit makes the GPU slower than others of its kind"
    limit, usual = chosen["power_limit_w"], chosen["power_limit_default_w"]
    if limit is None or usual is None:
        return None
    return judged(
        check,
        "warn" if limit < usual else "good",
        f"{limit:.0f} W, the default is {usual:.0f} W",
        why,
        f"sudo nvidia-smi -i {index} -pl {usual:.0f}",
    )


def _gpu_ecc(index: int, on: bool | None) -> Finding | None:
    """None if the GPU's memory has no ECC, as on most desktop cards."""
    if on is None:
        return None
    return judged(
        f"GPU {index}, ECC",
        "good" if on else "warn",
        "on" if on else "off",
        "memory errors go unnoticed; cards of this model with ECC on are slower",
        f"sudo nvidia-smi -i {index} -e 1",
    )


def _gpu_parts(library: Any, handle: Any, index: int) -> Finding | None:
    """None if the GPU does not support MIG."""
    check, why = f"GPU {index}, parts", "MIG instances share power, clocks and the bus"
    mode, _ = ask(library, "nvmlDeviceGetMigMode", handle)
    if mode is None:
        return None
    found = "split into MIG instances" if mode[0] else "whole"
    return judged(
        check, "warn" if mode[0] else "good", found, why, f"sudo nvidia-smi -i {index} -mig 0"
    )


def _gpu_mode(index: int, mode: str | None) -> Finding | None:
    """None if it is unknown."""
    if mode is None:
        return None
    check, why = f"GPU {index}, compute mode", "no process may compute on it"
    status: Status = "bad" if mode == "prohibited" else "good"
    return judged(check, status, mode, why, f"sudo nvidia-smi -i {index} -c DEFAULT")


def _gpu_link(library: Any, handle: Any, index: int, width: int | None) -> Finding | None:
    """Check the link's width: an idle link lowers its generation only. None if it is unknown."""
    most, _ = ask(library, "nvmlDeviceGetMaxPcieLinkWidth", handle)
    if width is None or most is None:
        return None
    check = f"GPU {index}, PCIe"
    why = "copies to and from the GPU take longer: use another slot, or reseat the card"
    return judged(check, "warn" if width < most else "good", f"{width} of {most} lanes", why)
