"""Checks of counters and sensors, and of GPUs."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from qbench.machine.doctor.finding import Finding, Status, judged
from qbench.machine.gpu.nvml import NVIDIA, NoNvml, ask, handles, nvml
from qbench.machine.host.devices import pci_accelerators
from qbench.machine.host.tree import Tree

BUSY_GPU_PERCENT = 5
TRIED_S = 0.02
"""So long counters are tried: several turns, where they have to take turns."""


def performance_counters() -> Finding:
    """Instructions and cycles through perf_event_open: tried on a little work, since some machines
    open a counter that never counts."""
    from qbench.kit.readings.counters import Counters

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
    """Counters and sensors of power: there, and readable."""
    from qbench.machine.energy.sensors import RAPL_HIDDEN, find_sensors

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
    """For every NVIDIA GPU: who else uses it, what slows it down, whether it stays ready."""
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
            "other users of a GPU, and its clocks, cannot be seen",
            "pip install nvidia-ml-py" if "not installed" in reason else None,
        )
    ]


def _gpu(library: Any, handle: Any, index: int) -> list[Finding]:
    from qbench.machine.gpu.card import Card, settings
    from qbench.machine.gpu.state import read_state

    card = Card.of_gpu(library, handle)
    state, (set_to, refused) = read_state(library, card), settings(library, card)
    found = [
        _gpu_users(library, handle, index),
        _gpu_clocks(index, state),
        _gpu_persistence(index, set_to["persistence"], refused),
        _gpu_power_limit(index, set_to),
        _gpu_ecc(index, set_to["ecc"]),
        _gpu_parts(library, handle, index),
        _gpu_mode(index, set_to["compute_mode"]),
        _gpu_link(library, handle, index, state["pcie_width"]),
    ]
    return [finding for finding in found if finding is not None]


def _gpu_users(library: Any, handle: Any, index: int) -> Finding:
    from qbench.machine.gpu.card import named

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
    elif running is None:  # a process of another container may be hidden, but its work shows
        status = "unknown"
    shown = f"busy: {busy_reason}" if percent is None else f"{percent} % busy"
    who = named(pids) or "none" if running is not None else str(reason)
    return judged(check, status, f"compute processes: {who}; {shown}", why)


def _gpu_clocks(index: int, state: Mapping[str, Any]) -> Finding:
    check, why = f"GPU {index}, clocks", "the GPU runs slower than it could"
    slowed = state["throttled"]
    if slowed is None:
        return Finding(check, "unknown", state["missing"]["throttled"], why)
    found = ", ".join(slowed) or "nothing slows it down"
    found += f"; {state['sm_clock_mhz']} MHz now" if state["sm_clock_mhz"] is not None else ""
    found += f", {state['temperature_c']} °C" if state["temperature_c"] is not None else ""
    return judged(check, "bad" if slowed else "good", found, why)


def _gpu_persistence(index: int, on: bool | None, missing: Mapping[str, str]) -> Finding:
    check, why = f"GPU {index}, persistence", "without it every process starts the driver anew"
    if on is None:
        return Finding(check, "unknown", missing["persistence"], why)
    return judged(
        check,
        "good" if on else "warn",
        "on" if on else "off",
        why,
        f"sudo nvidia-smi -i {index} -pm 1",
    )


def _gpu_power_limit(index: int, set_to: Mapping[str, Any]) -> Finding | None:
    """None where it is not told, as of laptops and Jetsons."""
    check = f"GPU {index}, power limit"
    why = "a lower limit makes the GPU slower than others of its kind"
    limit, usual = set_to["power_limit_w"], set_to["power_limit_default_w"]
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
    """None where the GPU's memory has none (most cards for desktops)."""
    if on is None:
        return None
    return judged(
        f"GPU {index}, ECC",
        "good" if on else "warn",
        "on" if on else "off",
        "errors of memory go unseen; other cards of its kind are slower by what it costs",
        f"sudo nvidia-smi -i {index} -e 1",
    )


def _gpu_parts(library: Any, handle: Any, index: int) -> Finding | None:
    """None where the GPU cannot be parted."""
    check, why = f"GPU {index}, parts", "parts share power, clocks and the bus with each other"
    mode, _ = ask(library, "nvmlDeviceGetMigMode", handle)
    if mode is None:
        return None
    found = "parted (MIG)" if mode[0] else "whole"
    return judged(
        check, "warn" if mode[0] else "good", found, why, f"sudo nvidia-smi -i {index} -mig 0"
    )


def _gpu_mode(index: int, mode: str | None) -> Finding | None:
    """None where it is not told."""
    if mode is None:
        return None
    check, why = f"GPU {index}, compute mode", "no process may compute on it"
    status: Status = "bad" if mode == "prohibited" else "good"
    return judged(check, status, mode, why, f"sudo nvidia-smi -i {index} -c DEFAULT")


def _gpu_link(library: Any, handle: Any, index: int, width: int | None) -> Finding | None:
    """Its lanes; an idle link lowers its generation, not its width. None where it is not told."""
    most, _ = ask(library, "nvmlDeviceGetMaxPcieLinkWidth", handle)
    if width is None or most is None:
        return None
    check = f"GPU {index}, PCIe"
    why = "copies to and from the GPU take longer: another slot, or a card that is not seated well"
    return judged(check, "warn" if width < most else "good", f"{width} of {most} lanes", why)
