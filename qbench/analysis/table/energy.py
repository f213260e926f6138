"""The case table's energy columns: from the energy pass where a sensor answered, else a proxy.

Figures of different methods are never compared, and only those of a wall meter may be ranked
across machines; the table publishes one method for each case and keeps its name beside it. Of
several sensors the one with the widest scope is published, never a sum of two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from qbench.analysis.statistics import estimates
from qbench.analysis.table.noise import case_noise

Record = Mapping[str, Any]

CPU_SCOPES = ("wall", "board", "platform", "cpu package")
"""The scopes that hold the energy of an inference on the processor, the widest first."""
CUDA_SCOPES = ("wall", "board", "gpu")
"""... and on an NVIDIA GPU: what the processor's platform reports need not include a card."""
ROUNDING = 1e-9
"""A smaller share of the whole than this is what is left of equal numbers, and no energy."""
DISAGREE = 0.1
"""A GPU's energy counter and its mean power times the time may differ by this share."""
ACROSS_MACHINES = ("wall",)
"""The scopes that mean the same on every machine."""


@dataclass(frozen=True)
class Energy:
    """Energy of a case by one method.

    Attributes:
        mj: millijoules for one item: above idle where it was measured; None if there is no
            baseline, or the load does not rise above it.
        gross_mj: with the idle share; None for a proxy.
        power_w: mean power in the window, idle included.
        idle_w: power with nothing running; None for a proxy, and where there is no baseline.
        window_s: length of a window (median); None if the method has none.
        reason: why it is not of a wider scope or a better method, or has no ``mj``; else "".
        doubt: what another sensor says of the same work, where that speaks against it; else "".
    """

    mj: estimates.Estimate | None
    gross_mj: float | None
    power_w: float | None
    idle_w: float | None
    window_s: float | None
    method: str
    scope: str
    is_measured: bool
    reason: str = ""
    doubt: str = ""

    def columns(self) -> dict[str, Any]:
        """As columns of the case table."""
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


def energy_columns(
    records: Sequence[Record],
    case: Mapping[str, Any],
    good: Mapping[str, Any] | pd.DataFrame,
    cpu_power: Mapping[str, Any] | None,
    macs: Mapping[str, int] | None,
    moved_bytes: int | None,
    gpu: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The energy columns of one case: of a sensor, else of the first proxy that has a figure.

    Args:
        records: the bundle's energy records, of all cases.
        case: with ``case_id``, ``batch_size``, and what ``case_noise`` asks of it.
        good: its good trials, for the proxy by processor time.
        cpu_power: the suite's, or None.
        macs: multiply-accumulates of one call by effective precision, or None.
        moved_bytes: bytes that one call moves from and to memory, or None.
        gpu: where its GPU sits (``qbench.machine.gpu.card.place``), or None.
    """
    reasons: list[str] = []
    if records:
        try:
            found = measured(records, case["case_id"], case["device"], gpu)
            noise = "; ".join(filter(None, [_noise(records, case), found.doubt])) or None
            return {**found.columns(), "energy_noise": noise}
        except NoEnergy as error:
            reasons.append(f"not measured: {error}")
    for name, proxy in (
        ("processor time", lambda: cpu_time_proxy(good, cpu_power, case["device"])),
        ("operations", lambda: operations_proxy(macs, moved_bytes, case["batch_size"])),
    ):
        try:
            return replace(proxy(), reason="; ".join(reasons)).columns()
        except NoEnergy as error:
            reasons.append(f"{name}: {error}")
    return {"energy_reason": "; ".join(reasons)}


# --------------------------------------------------------------------------- measured


def measured(
    records: Sequence[Record], case_id: str, device: str, gpu: Mapping[str, Any] | None = None
) -> Energy:
    """What the widest sensor that covers ``device`` says of a case; of several GPUs, that of the
    one which does the work, if ``gpu`` tells it.

    Each window counts once, with its own sitting's baseline. Figures are arithmetic means over
    windows, each of which was a fresh process: what a load adds to idle may be lost in a sensor's
    steps, and then single windows come out below idle.

    Raises:
        NoEnergy: no sensor has a figure.
    """
    windows = _windows(records, case_id)
    good = [window for window in windows if window["status"] == "ok"]
    if not good:
        raise NoEnergy(_why_no_window(records, windows))
    wall = {
        (a["sitting"], w["case_id"], w["round"]): w
        for a in records
        if a["kind"] == "alignment"
        for w in a["windows"]
    }
    readings: list[tuple[Record, Record]] = []
    for window in good:
        of_wall = wall.get((window["sitting"], case_id, window["round"]))
        for reading in (*window["sensors"], *([of_wall] if of_wall else [])):
            readings.append((window, reading))
    sittings = {window["sitting"] for window in good}
    reasons = [
        f"wall: {r['reason']}"
        for r in records
        if r["kind"] == "alignment" and r["reason"] and r["sitting"] in sittings
    ]
    for scope in CUDA_SCOPES if device.startswith("cuda") else CPU_SCOPES:
        of_scope = [(window, reading) for window, reading in readings if reading["scope"] == scope]
        try:
            if scope == "gpu":
                of_scope = _on_card(of_scope, records, gpu)
            if of_scope:
                found = _of_card(of_scope) if scope == "gpu" else _of_sensor(of_scope)
                told = [f"{scope}: {found.reason}"] if found.reason else []
                return replace(found, reason="; ".join([*reasons, *told]))
        except NoEnergy as error:
            reasons.append(f"{scope}: {error}")
    raise NoEnergy("; ".join(reasons) or f"no sensor of this machine covers {device}")


def _noise(records: Iterable[Record], case: Mapping[str, Any]) -> str | None:
    """What disturbed a quarter of a case's windows or more: a sensor counts what others do."""
    windows = [
        {**r["met"], "status": "ok", "window": [r["begin_ns"], r["end_ns"]]}
        for r in _windows(records, case["case_id"])
        if r["status"] == "ok" and r.get("met") is not None
    ]
    return case_noise(windows, case, "windows")


def _windows(records: Iterable[Record], case_id: str) -> list[Record]:
    """A case's windows; of one that was measured again, the last."""
    found = {r["round"]: r for r in records if r["kind"] == "window" and r["case_id"] == case_id}
    return list(found.values())


def _why_no_window(records: Iterable[Record], windows: Sequence[Record]) -> str:
    if windows:
        return f"the window's worker failed: {windows[-1]['reason']}"
    begins = [record for record in records if record["kind"] == "begin"]
    refused = list(begins[-1]["refused"]) if begins else []
    if begins and not begins[-1]["sensors"]:
        return "; ".join(f"{r['name']}: {r['reason']}" for r in refused) or "there is no sensor"
    return "the energy pass has not come to this case, or leaves its scenario out"


def _on_card(
    readings: Sequence[tuple[Record, Record]],
    records: Iterable[Record],
    gpu: Mapping[str, Any] | None,
) -> list[tuple[Record, Record]]:
    """NVML's readings of the card that a case runs on; of all cards, where it is not known which
    that is. Another maker's GPU beside it is none of the case's business.

    Raises:
        NoEnergy: the case runs on a part of a card.
    """
    of_nvml = [(w, r) for w, r in readings if r["method"].startswith("nvml")]
    if gpu is None or not of_nvml:
        return of_nvml
    if gpu["mig"]:
        raise NoEnergy("it runs on a part of a GPU (MIG), whose sensors count all parts together")
    places = {
        (record["sitting"], sensor["name"]): sensor.get("device")
        for record in records
        if record["kind"] == "begin"
        for sensor in record["sensors"]
    }
    own = (gpu["pci_bus_id"], None)
    return [(w, r) for w, r in of_nvml if places.get((w["sitting"], r["name"])) in own]


def _of_card(readings: Sequence[tuple[Record, Record]]) -> Energy:
    """The figure of a card's energy counter, checked against its power; of its power, where it has
    no counter."""
    counters = [(w, r) for w, r in readings if r["kind"] == "counter"]
    powers = [(w, r) for w, r in readings if r["kind"] == "power"]
    if all(reading["joules"] is None for _, reading in counters):
        found = _of_sensor(powers or counters)
        told = [f"{r['method']}: {r['reason']}" for _, r in counters[:1] if powers]
        return replace(found, reason="; ".join(filter(None, [*told, found.reason])))
    found = _of_sensor(counters)
    counted, powered = (
        {(w["sitting"], w["round"]): r["joules"] for w, r in some if r["joules"] is not None}
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


def _of_sensor(readings: Sequence[tuple[Record, Record]]) -> Energy:
    """The figure of one sensor over a case's windows."""
    names = sorted({reading["name"] for _, reading in readings})
    if len(names) > 1:
        raise NoEnergy(
            f"there are several ({', '.join(names)}), and which does the work is unknown"
        )
    known = [(w, r) for w, r in readings if r["joules"] is not None]
    if not known:
        raise NoEnergy(readings[0][1]["reason"] or "there is no reading")
    joules = np.array([r["joules"] for _, r in known])
    seconds = np.array([(w["end_ns"] - w["begin_ns"]) * 1e-9 for w, _ in known])
    items = np.array([w["items"] for w, _ in known], dtype=float)
    idle_w = np.array([r["idle_w"] for _, r in known], dtype=float)  # NaN: no baseline
    based = ~np.isnan(idle_w)
    gross, above, reason = estimates.mean(1e3 * joules / items), None, ""
    if based.any():
        above = estimates.mean(1e3 * ((joules - idle_w * seconds) / items)[based])
    if above is None:
        reason = "there is no idle baseline"
    elif above.value <= ROUNDING * gross.value:
        above, reason = None, "the load does not rise above the idle power"
    reading = known[0][1]
    return Energy(
        mj=above,
        gross_mj=gross.value,
        power_w=float(np.median(joules / seconds)),
        idle_w=float(np.median(idle_w[based])) if based.any() else None,
        window_s=float(np.median(seconds)),
        method=reading["method"],
        scope=reading["scope"],
        is_measured=True,
        reason=reason,
    )


# --------------------------------------------------------------------------- proxies


def cpu_time_proxy(
    good: Mapping[str, Any] | pd.DataFrame, cpu_power: Mapping[str, Any] | None, device: str = "cpu"
) -> Energy:
    """Processor time times the suite's watts per core: good for ratios on one machine.

    Args:
        good: of the good trials ``cpu_ns``, ``wall_ns`` and ``items``, each ``[trials]``.
        cpu_power: the suite's: ``watts_per_core`` and their ``source``.

    Raises:
        NoEnergy: the suite does not say ``cpu_power``, or the trials have no processor time.
    """
    if device != "cpu":
        raise NoEnergy(f"the work is done on {device}")
    if cpu_power is None:
        raise NoEnergy("the suite gives no cpu_power")
    watts = cpu_power["watts_per_core"]
    cpu_s = np.asarray(good["cpu_ns"], float) * 1e-9
    if not len(cpu_s) or not (cpu_s > 0).all():  # windows shorter than the processor clock's step
        raise NoEnergy("a trial has no processor time")
    wall_s = np.asarray(good["wall_ns"], float) * 1e-9
    return Energy(
        mj=estimates.geometric_mean(1e3 * watts * cpu_s / np.asarray(good["items"], float)),
        gross_mj=None,
        power_w=float(np.median(watts * cpu_s / wall_s)),
        idle_w=None,
        window_s=float(np.median(wall_s)),
        method=f"proxy: cpu time x {watts:g} W per core ({cpu_power['source']})",
        scope="process",
        is_measured=False,
    )


MAC_PJ = {"fp32": 3.7 + 0.9, "int8": 0.2 + 0.1}
"""Picojoules of one multiply-accumulate: a product and an addition in float32; a product of two
int8 and an addition in int32 (M. Horowitz, "Computing's energy problem (and what we can do about
it)", ISSCC 2014, figure 1.1.9, 45 nm and 0.9 V)."""
DRAM_PJ_PER_BYTE = ((1.3e3 * 2.6e3) ** 0.5) / 8
"""The same: 1.3 to 2.6 nJ for 64 bit, of which the geometric mean is taken."""
OPERATIONS = (
    "proxy: operations and bytes (Horowitz, ISSCC 2014, 45 nm; DRAM 1.3-2.6 nJ per 64 bit, "
    "geometric mean)"
)


def operations_proxy(
    macs: Mapping[str, int] | None, moved_bytes: int | None, batch: int = 1
) -> Energy:
    """Arithmetic and memory traffic at the cost that each had in one process of 2014.

    It knows nothing of the machine: for ratios between models and precisions.

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
        gross_mj=None,
        power_w=None,
        idle_w=None,
        window_s=None,
        method=OPERATIONS,
        scope="model",
        is_measured=False,
    )
