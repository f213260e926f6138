"""What a choice is asked for: limits, as a person writes them (``10ms``, ``1pp``, ``200MB``), and
what is to be least within them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from qbench.errors import UserError, nearest

Objective = Literal["latency", "energy", "cost", "size", "memory"]

_TIME = {"ns": 1e-6, "us": 1e-3, "µs": 1e-3, "μs": 1e-3, "ms": 1.0, "s": 1e3, "min": 6e4}
_BYTES = {
    "B": 1e-6, "kB": 1e-3, "KB": 1e-3, "MB": 1.0, "GB": 1e3,
    "KiB": 1024e-6, "MiB": 1024**2 * 1e-6, "GiB": 1024**3 * 1e-6,
}  # fmt: skip
_JOULES = {"nJ": 1e-6, "uJ": 1e-3, "µJ": 1e-3, "μJ": 1e-3, "mJ": 1.0, "J": 1e3}
_RATE = {"ips": 1.0, "/s": 1.0, "items/s": 1.0}


class Aspect(NamedTuple):
    """Something of a case that a limit may be set for, or that may be least.

    Attributes:
        option: of the command line; "" if there is no limit of it.
        words: what a reader calls it.
        unit: of its figures and of limits, once read.
        units: what a limit may be written in, and how much of ``unit`` each is.
        example: a limit.
        least: whether a limit is the least that is allowed, not the most.
    """

    option: str
    words: str
    unit: str
    units: Mapping[str, float]
    example: str
    least: bool = False


ASPECTS: dict[str, Aspect] = {
    "p50": Aspect("--max-p50", "p50", "ms", _TIME, "2ms"),
    "p99": Aspect("--max-p99", "p99", "ms", _TIME, "10ms"),
    "accuracy_drop": Aspect(
        "--max-accuracy-drop", "accuracy drop", "pp", {"pp": 1.0, "%": 1.0}, "1pp"
    ),
    "accuracy": Aspect("--min-accuracy", "accuracy", "%", {"%": 1.0}, "76%", True),
    "memory": Aspect("--max-memory", "memory", "MB", _BYTES, "200MB"),
    "device_memory": Aspect("--max-device-memory", "device memory", "MB", _BYTES, "2GB"),
    "size": Aspect("--max-size", "size", "MB", _BYTES, "20MB"),
    "cold_start": Aspect("--max-cold-start", "cold start", "ms", _TIME, "500ms"),
    "energy": Aspect("--max-energy", "energy", "mJ", _JOULES, "5mJ"),
    "throughput": Aspect("--min-throughput", "throughput", "items/s", _RATE, "100ips", True),
    "cost": Aspect("", "cost", "per million", {}, ""),
}
"""By name. Memory is the peak of the whole process, all that has to be there, and device memory
what it took on a GPU beside that; the drop of accuracy
is in points of accuracy, on the items that float32 saw, too."""

OBJECTIVES: dict[Objective, str] = {
    "latency": "p50", "energy": "energy", "cost": "cost", "size": "size", "memory": "memory",
}  # fmt: skip
"""What may be least, and the aspect that it is."""

_NUMBER = re.compile(r"([0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+)\s*(\S*)")


@dataclass(frozen=True)
class Limit:
    """The most, or the least, that is allowed.

    Attributes:
        aspect: a name of ``ASPECTS``.
        value: in its unit.
    """

    aspect: str
    value: float

    @property
    def of(self) -> Aspect:
        return ASPECTS[self.aspect]


@dataclass(frozen=True)
class Question:
    """What is asked of bundles.

    Attributes:
        limits: that a configuration has to keep, each aspect once.
        minimize: what is to be least of those that keep them.
        models: only these; all, if empty.
        scenario, batch_size: only cases of it; None: of every one.
        rate_ips: for costs: the required rate, in items per second; None: what a machine does.
    """

    limits: tuple[Limit, ...] = ()
    minimize: Objective = "latency"
    models: tuple[str, ...] = ()
    scenario: str | None = None
    batch_size: int | None = None
    rate_ips: float | None = None

    @property
    def by(self) -> str:
        """The aspect that is to be least."""
        return OBJECTIVES[self.minimize]


def read_limit(aspect: str, text: str) -> Limit:
    """A limit, as it stands on the command line: ``10ms`` of ``p99``.

    Raises:
        UserError: it is no positive number with a unit of the aspect. No accuracy need be lost, so
            a drop may be 0.
    """
    of = ASPECTS[aspect]
    found = _NUMBER.fullmatch(text.strip())
    if found is None:
        raise UserError(f"{of.option} {text}: this is no limit", f"Say {of.example}.")
    number, unit = found.groups()
    if unit not in of.units:
        said = f"has no unit '{unit}'" if unit else "needs a unit"
        meant = next((name for name in of.units if name.lower() == unit.lower()), _written(of))
        raise UserError(
            f"{of.option} {text}: {of.words} {said}",
            f"Say {number}{meant}. Units: {', '.join(of.units)}.",
        )
    value = float(number) * of.units[unit]
    if not math.isfinite(value) or value < 0 or (value == 0 and aspect != "accuracy_drop"):
        raise UserError(f"{of.option} {text}: this is out of range", f"Say {of.example}.")
    if of.unit in ("pp", "%") and value > 100:
        raise UserError(f"{of.option} {text}: this is more than all", f"Say {of.example}.")
    return Limit(aspect, value)


def _written(of: Aspect) -> str:
    """The unit of the example."""
    return of.example.lstrip("0123456789.")


def read_objective(text: str) -> Objective:
    """
    Raises:
        UserError: it is none.
    """
    for name in OBJECTIVES:
        if name == text:
            return name
    raise UserError(f"--minimize {text}: there is no such figure", nearest(text, OBJECTIVES))
