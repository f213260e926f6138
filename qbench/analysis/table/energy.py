"""Compute the energy columns of the case table: from the energy pass if a sensor was read, else
from a proxy.

Figures of different methods are never compared, and only those of a wall meter are ranked across
machines; each case has one method, which the table names. Of several sensors the one with the
widest scope is used, never a sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from qbench.analysis.statistics import estimates
from qbench.analysis.table.noise import windows_noise
from qbench.bundle.records.energy import (
    Alignment,
    Begin,
    EnergyLine,
    Reading,
    Window,
    WindowReading,
)
from qbench.bundle.records.run import CpuPower, Place
from qbench.spec.case import Case

CPU_SCOPES = ("wall", "board", "platform", "cpu package")
"""Scopes that include the energy of an inference on the processor, the widest first."""
CUDA_SCOPES = ("wall", "board", "gpu")
"""Scopes for an NVIDIA GPU: platform counters of the processor may exclude the card."""
ROUNDING = 1e-9
"""A smaller share of the whole is rounding, not energy."""
DISAGREE = 0.1
"""Maximum relative difference between a GPU's energy counter and its mean power times the time."""
ACROSS_MACHINES = ("wall",)
"""Scopes that mean the same on every machine."""


@dataclass(frozen=True)
class Energy:
    """Energy of a case by one method.

    Attributes:
        mj: millijoules for one item, above idle if measured; None if there is no baseline, or the
            load does not exceed it.
        gross_mj: idle power included; None for a proxy.
        power_w: mean power in the window, idle included.
        idle_w: power with nothing running; None for a proxy, and where there is no baseline.
        window_s: length of a window (median); None if the method has none.
        reason: why no wider scope or better method was used, or why ``mj`` is missing; else "".
        doubt: contradiction by another sensor; else "".
    """

    mj: estimates.Estimate | None
    method: str
    scope: str
    is_measured: bool
    gross_mj: float | None = None
    power_w: float | None = None
    idle_w: float | None = None
    window_s: float | None = None
    reason: str = ""
    doubt: str = ""

    def columns(self) -> dict[str, Any]:
        """Return the columns of the case table."""
        value, low, high = self.mj or (None, None, None)
        return {
            "energy_mj_per_inference": value,
            "energy_mj_per_inference_low": low,
            "energy_mj_per_inference_high": high,
            "energy_gross_mj_per_inference": self.gross_mj,
            "power_w": self.power_w,
            "idle_w": self.idle_w,
            "energy_window_s": self.window_s,
            "energy_method": self.method,
            "energy_scope": self.scope,
            "energy_is_measured": self.is_measured,
            "energy_reason": self.reason or None,
        }


class NoEnergy(Exception):
    """A method has no figure for a case; the message is the reason."""


class Work(NamedTuple):
    """Work of a case's successful trials, for the processor-time proxy; ``[trials]`` each."""

    cpu_ns: np.ndarray
    wall_ns: np.ndarray
    items: np.ndarray


def energy_columns(
    records: Sequence[EnergyLine],
    case: Case,
    case_id: str,
    work: Work,
    cpu_power: CpuPower | None,
    macs: Mapping[str, int] | None,
    moved_bytes: int | None,
    gpu: Place | None = None,
) -> dict[str, Any]:
    """Return the energy columns of a case: from a sensor, else from the first proxy with a figure.

    Args:
        records: the bundle's energy records, of all cases.
        cpu_power: the suite's, or None.
        macs: multiply-accumulates of one call by effective precision, or None.
        moved_bytes: bytes that one call moves from and to memory, or None.
        gpu: position of its GPU, or None.
    """
    reasons: list[str] = []
    if records:
        try:
            found = measured(records, case_id, case.device, gpu)
            noise = windows_noise(_windows(records, case_id), case)
            noise = "; ".join(filter(None, [noise, found.doubt])) or None
            return {**found.columns(), "energy_noise": noise}
        except NoEnergy as error:
            reasons.append(f"not measured: {error}")
    for name, proxy in (
        ("processor time", lambda: cpu_time_proxy(work, cpu_power, case.device)),
        ("operations", lambda: operations_proxy(macs, moved_bytes, case.batch_size)),
    ):
        try:
            return replace(proxy(), reason="; ".join(reasons)).columns()
        except NoEnergy as error:
            reasons.append(f"{name}: {error}")
    return {"energy_reason": "; ".join(reasons)}


# --------------------------------------------------------------------------- measured


class _Read(NamedTuple):
    """One sensor's reading of a successful window."""

    window: Window
    reading: Reading

    @property
    def seconds(self) -> float:
        assert self.window.begin_ns is not None and self.window.end_ns is not None
        return (self.window.end_ns - self.window.begin_ns) * 1e-9


def measured(
    records: Sequence[EnergyLine], case_id: str, device: str, gpu: Place | None = None
) -> Energy:
    """Return the energy of a case from the widest sensor that covers ``device``; with several GPUs,
    from that of ``gpu``, if known.

    Each window counts once, with the baseline of its sitting. Figures are arithmetic means over
    windows, each a fresh process: if a sensor's resolution hides the load, single windows may be
    below idle.

    Raises:
        NoEnergy: no sensor has a figure.
    """
    windows = _windows(records, case_id)
    good = [window for window in windows if window.status == "ok"]
    if not good:
        raise NoEnergy(_why_no_window(records, windows))
    alignments = [record for record in records if isinstance(record, Alignment)]
    by_window: dict[tuple[int, str, int], WindowReading] = {
        (alignment.sitting, reading.case_id, reading.round): reading
        for alignment in alignments
        for reading in alignment.windows
    }
    readings: list[_Read] = []
    for window in good:
        of_wall = by_window.get((window.sitting, case_id, window.round))
        for reading in (*window.sensors, *([of_wall] if of_wall else [])):
            readings.append(_Read(window, reading))
    sittings = {window.sitting for window in good}
    reasons = [f"wall: {a.reason}" for a in alignments if a.reason and a.sitting in sittings]
    for scope in CUDA_SCOPES if device.startswith("cuda") else CPU_SCOPES:
        of_scope = [read for read in readings if read.reading.scope == scope]
        try:
            if scope == "gpu":
                of_scope = _on_card(of_scope, records, gpu)
            if of_scope:
                found = _of_card(of_scope) if scope == "gpu" else _of_sensor(of_scope)
                own = [f"{scope}: {found.reason}"] if found.reason else []
                return replace(found, reason="; ".join([*reasons, *own]))
        except NoEnergy as error:
            reasons.append(f"{scope}: {error}")
    raise NoEnergy("; ".join(reasons) or f"no sensor of this machine covers {device}")


def _windows(records: Iterable[EnergyLine], case_id: str) -> list[Window]:
    """Return the windows of a case; the last of each round."""
    found = {r.round: r for r in records if isinstance(r, Window) and r.case_id == case_id}
    return list(found.values())


def _why_no_window(records: Iterable[EnergyLine], windows: Sequence[Window]) -> str:
    if windows:
        return f"the window's worker failed: {windows[-1].reason}"
    begins = [record for record in records if isinstance(record, Begin)]
    if begins and not begins[-1].sensors:
        refused = (f"{each.name}: {each.reason}" for each in begins[-1].refused)
        return "; ".join(refused) or "there is no sensor"
    return "the energy pass has not come to this case, or leaves its scenario out"


def _on_card(
    readings: Sequence[_Read], records: Iterable[EnergyLine], gpu: Place | None
) -> list[_Read]:
    """Return NVML's readings of the card that a case runs on; of all cards if its card is unknown.
    GPUs of other vendors are left out.

    Raises:
        NoEnergy: the case runs on a part of a card.
    """
    of_nvml = [read for read in readings if read.reading.method.startswith("nvml")]
    if gpu is None or not of_nvml:
        return of_nvml
    if gpu.mig:
        raise NoEnergy("it runs on a part of a GPU (MIG), whose sensors count all parts together")
    places = {
        (record.sitting, sensor.name): sensor.device
        for record in records
        if isinstance(record, Begin)
        for sensor in record.sensors
    }
    own = (gpu.pci_bus_id, None)
    return [r for r in of_nvml if places.get((r.window.sitting, r.reading.name)) in own]


def _of_card(readings: Sequence[_Read]) -> Energy:
    """Return the figure of a card's energy counter, checked against its power; without a counter,
    the figure of its power."""
    counters = [read for read in readings if read.reading.kind == "counter"]
    powers = [read for read in readings if read.reading.kind == "power"]
    if all(read.reading.joules is None for read in counters):
        found = _of_sensor(powers or counters)
        own = [f"{r.reading.method}: {r.reading.reason}" for r in counters[:1] if powers]
        return replace(found, reason="; ".join(filter(None, [*own, found.reason])))
    found = _of_sensor(counters)
    counted, powered = (
        {
            (read.window.sitting, read.window.round): read.reading.joules
            for read in some
            if read.reading.joules is not None
        }
        for some in (counters, powers)
    )
    both = counted.keys() & powered.keys()
    of_counter, of_power = (sum(some[key] for key in both) for some in (counted, powered))
    if of_power and abs(of_counter / of_power - 1) > DISAGREE:
        doubt = (
            f"the GPU's counter says {of_counter:.4g} J, its mean power times the time "
            f"{of_power:.4g} J"
        )
        return replace(found, doubt=doubt)
    return found


def _of_sensor(readings: Sequence[_Read]) -> Energy:
    """Return the figure of one sensor over a case's windows."""
    names = sorted({read.reading.name for read in readings})
    if len(names) > 1:
        raise NoEnergy(
            f"there are several ({', '.join(names)}), and which does the work is unknown"
        )
    known = [read for read in readings if read.reading.joules is not None]
    if not known:
        raise NoEnergy(readings[0].reading.reason or "there is no reading")
    joules = np.array([read.reading.joules for read in known], dtype=float)
    seconds = np.array([read.seconds for read in known])
    items = np.array([read.window.items for read in known], dtype=float)
    idle_w = np.array([r.reading.idle_w for r in known], dtype=float)  # NaN: no baseline
    based = ~np.isnan(idle_w)
    gross, above, reason = estimates.mean(1e3 * joules / items), None, ""
    if based.any():
        above = estimates.mean(1e3 * ((joules - idle_w * seconds) / items)[based])
    if above is None:
        reason = "there is no idle baseline"
    elif above.value <= ROUNDING * gross.value:
        above, reason = None, "the load does not rise above the idle power"
    first = known[0].reading
    return Energy(
        mj=above,
        gross_mj=gross.value,
        power_w=float(np.median(joules / seconds)),
        idle_w=float(np.median(idle_w[based])) if based.any() else None,
        window_s=float(np.median(seconds)),
        method=first.method,
        scope=first.scope,
        is_measured=True,
        reason=reason,
    )


# --------------------------------------------------------------------------- proxies


def cpu_time_proxy(work: Work, cpu_power: CpuPower | None, device: str = "cpu") -> Energy:
    """Estimate energy as processor time times the suite's watts per core, for ratios on a machine.

    Raises:
        NoEnergy: the suite has no ``cpu_power``, or the trials have no processor time.
    """
    if device != "cpu":
        raise NoEnergy(f"the work is done on {device}")
    if cpu_power is None:
        raise NoEnergy("the suite gives no cpu_power")
    watts = cpu_power.watts_per_core
    cpu_s, wall_s = work.cpu_ns * 1e-9, work.wall_ns * 1e-9
    if not len(cpu_s) or not (cpu_s > 0).all():  # windows shorter than the processor clock's step
        raise NoEnergy("a trial has no processor time")
    return Energy(
        mj=estimates.geometric_mean(1e3 * watts * cpu_s / work.items),
        power_w=float(np.median(watts * cpu_s / wall_s)),
        window_s=float(np.median(wall_s)),
        method=f"proxy: cpu time x {watts:g} W per core ({cpu_power.source})",
        scope="process",
        is_measured=False,
    )


MAC_PJ = {"fp32": 3.7 + 0.9, "int8": 0.2 + 0.1}
"""Picojoules of one multiply-accumulate: a product and an addition in float32; a product of two
int8 and an addition in int32 (M. Horowitz, "Computing's energy problem (and what we can do about
it)", ISSCC 2014, figure 1.1.9, 45 nm and 0.9 V)."""
DRAM_PJ_PER_BYTE = ((1.3e3 * 2.6e3) ** 0.5) / 8
"""Energy of a DRAM access (same source): geometric mean of 1.3 and 2.6 nJ for 64 bit."""
OPERATIONS = (
    "proxy: operations and bytes (Horowitz, ISSCC 2014, 45 nm; DRAM 1.3-2.6 nJ per 64 bit, "
    "geometric mean)"
)


def operations_proxy(
    macs: Mapping[str, int] | None, moved_bytes: int | None, batch: int = 1
) -> Energy:
    """Estimate energy from arithmetic and memory traffic, at published costs for a 45 nm process.
    Independent of the machine: for ratios between models and precisions.

    Args:
        macs: multiply-accumulates of one call by effective precision.
        moved_bytes: bytes that one call moves from and to memory.

    Raises:
        NoEnergy: one of them is not known, or the paper has no figure for a precision.
    """
    if macs is None:
        raise NoEnergy("the multiply-accumulates are not known")
    if moved_bytes is None:
        raise NoEnergy("the bytes that are moved are not known")
    if missing := sorted(name for name, count in macs.items() if count and name not in MAC_PJ):
        raise NoEnergy(f"the model has no figure for {', '.join(missing)}")
    picojoules = sum(MAC_PJ[name] * count for name, count in macs.items() if count)
    picojoules += DRAM_PJ_PER_BYTE * moved_bytes
    return Energy(
        mj=estimates.Estimate(picojoules * 1e-9 / batch, None, None),
        method=OPERATIONS,
        scope="model",
        is_measured=False,
    )
