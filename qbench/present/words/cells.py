"""How a column of the case table is told to readers: its unit, its interval, and as many digits as
the interval supports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from qbench.spec.columns import NAMES
from qbench.text import figure

Case = Mapping[str, Any]

NOTHING = "–"
"""What stands for a value that there is none of."""
INTERVALS = {
    name.replace("_low", ""): (name, name.replace("_low", "_high"))
    for name in NAMES
    if "_low" in name
}
"""Columns with an interval, and the columns of its ends."""
PERCENT = {
    "accuracy", "agreement", "int8_mac_share", "clean_share", "run_delay_share", "half_width",
    "roofline_share", "deadline_miss_rate", "processor_left",
}  # fmt: skip
POINTS = {"accuracy_delta"}
"""Differences of shares, in percentage points; their sign is always said."""
_UNITS = {
    "throughput_ips": "items/s", "energy_mj_per_inference": "mJ",
    "energy_gross_mj_per_inference": "mJ", "speedup": "× fp32", "speedup_p10": "× fp32",
    "sustained_ratio": "×", "accuracy_items_needed": "items", "fps": "per s",
    "warmup_calls": "calls", "others_cores": "cores", "late": "frames", "dropped": "frames",
    "frames": "frames",
}  # fmt: skip
_SUFFIXES = {
    "ms": "ms", "us": "µs", "s": "s", "mb": "MB", "db": "dB", "w": "W", "hz": "per s",
    "qps": "per s", "ghz": "GHz", "mhz": "MHz", "c": "°C",
}  # fmt: skip


def unit(name: str) -> str:
    """The unit that a column is shown in; "" where it is a word or a plain number."""
    if name in PERCENT:
        return "%"
    if name in POINTS:
        return "pp"
    return _UNITS.get(name) or _SUFFIXES.get(name.rpartition("_")[2], "")


def text(case: Case, name: str) -> str:
    """The value of a column in its unit, which is not named."""
    value = case.get(name)
    if value is None or value == "":
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and name not in PERCENT | POINTS:
        return f"{value:,}"
    return _figure(case, name, value) if isinstance(value, int | float) else str(value)


def ends(case: Case, name: str) -> str:
    """The interval of a column, such as ``1.21 … 1.26``; "" where there is none."""
    low, high = _interval(case, name)
    if case.get(name) is None or low is None or high is None:
        return ""
    return f"{_figure(case, name, low)} … {_figure(case, name, high)}"


def said(case: Case, name: str) -> str:
    """All of it: ``1.234 ms (1.210 … 1.258)``; an accuracy with the items that it is of."""
    value = text(case, name)
    if value == NOTHING:
        return value
    interval = ends(case, name)
    whole = f"{value} {unit(name)}".rstrip() + (f" ({interval})" if interval else "")
    items = case.get("accuracy_of") if name == "accuracy" else None
    return f"{whole}, {items}" if items else whole


def accuracy_of(items: int | None, official: Mapping[str, Any] | None) -> str | None:
    """``n = 650 of 50,000, not the official score``: what an accuracy is of.

    Args:
        items: how many were evaluated.
        official: the data set that they are a part of, its ``items`` all told; None: not known.
    """
    if items is None:
        return None
    if official is None:
        return f"n = {items:,}"
    if items == official["items"]:
        return f"n = {items:,}, the whole set"
    return f"n = {items:,} of {official['items']:,}, not the official score"


def texts(case: Case, names: Iterable[str]) -> dict[str, str]:
    """``said`` of those columns that have a value and are no end of an interval."""
    bounds = {end for both in INTERVALS.values() for end in both}
    return {n: said(case, n) for n in names if n not in bounds and case.get(n) is not None}


def _interval(case: Case, name: str) -> tuple[float | None, float | None]:
    low, high = INTERVALS.get(name, ("", ""))
    return case.get(low), case.get(high)


def _figure(case: Case, name: str, value: float) -> str:
    """``value``, which is the column's or an end of its interval."""
    factor = 100 if name in PERCENT | POINTS else 1
    low, high = (None if end is None else factor * end for end in _interval(case, name))
    shown = figure(factor * value, low, high, "+" if name in POINTS else "")
    return shown.replace("-", "−")
