"""Limits as people write them (``p99<=10ms``), and the question that a recommendation answers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from qbench.errors import UserError, check_known, nearest
from qbench.spec.columns import NAMES

Objective = Literal["latency", "energy", "cost", "size", "memory"]

_TIME = {"ns": 1e-6, "us": 1e-3, "µs": 1e-3, "μs": 1e-3, "ms": 1.0, "s": 1e3, "min": 6e4}
_BYTES = {
    "B": 1e-6, "kB": 1e-3, "KB": 1e-3, "MB": 1.0, "GB": 1e3,
    "KiB": 1024e-6, "MiB": 1024**2 * 1e-6, "GiB": 1024**3 * 1e-6,
}  # fmt: skip
_JOULES = {"nJ": 1e-6, "uJ": 1e-3, "µJ": 1e-3, "μJ": 1e-3, "mJ": 1.0, "J": 1e3}
_RATE = {"ips": 1.0, "/s": 1.0, "items/s": 1.0}


class Aspect(NamedTuple):
    """A figure of a case that can be limited or minimized.

    Attributes:
        words: its name for readers.
        unit: unit of its figures and of parsed limits.
        units: units that a limit may be written in, each as a multiple of ``unit``.
        example: a limit; "" if this aspect cannot be limited.
        column: the column of the case table that the gate compares; "" if there is none.
        factor: the column's value for one ``unit``. Negative if the column falls as this grows.
        least: whether a limit is a lower bound.
    """

    words: str
    unit: str
    units: Mapping[str, float]
    example: str
    column: str
    factor: float = 1.0
    least: bool = False


ASPECTS: dict[str, Aspect] = {
    "p50": Aspect("p50", "ms", _TIME, "p50<=2ms", "latency_p50_ms"),
    "p99": Aspect("p99", "ms", _TIME, "p99<=10ms", "latency_p99_ms"),
    "accuracy_drop": Aspect(
        "accuracy drop", "pp", {"pp": 1.0, "%": 1.0}, "accuracy_drop<=1pp", "accuracy_delta", -0.01
    ),
    "accuracy": Aspect("accuracy", "%", {"%": 1.0}, "accuracy>=76%", "accuracy", 0.01, True),
    "memory": Aspect("memory", "MB", _BYTES, "memory<=200MB", "memory_process_peak_mb"),
    "device_memory": Aspect(
        "device memory", "MB", _BYTES, "device_memory<=2GB", "device_memory_mb"
    ),
    "size": Aspect("size", "MB", _BYTES, "size<=20MB", "artifact_size_mb"),
    "cold_start": Aspect("cold start", "ms", _TIME, "cold_start<=500ms", "cold_start_ms"),
    "energy": Aspect("energy", "mJ", _JOULES, "energy<=5mJ", "energy_mj_per_inference"),
    "throughput": Aspect(
        "throughput", "items/s", _RATE, "throughput>=100ips", "throughput_ips", least=True
    ),
    "cost": Aspect("cost", "per million", {}, "", ""),
}
"""By name. ``memory`` is the peak of the whole process, ``device_memory`` the memory that it took
on the GPU; ``accuracy_drop`` is in percentage points against float32, on the same items."""
LIMITED = tuple(name for name, aspect in ASPECTS.items() if aspect.example)
"""Names of aspects that can be limited."""

OBJECTIVES: dict[Objective, str] = {
    "latency": "p50", "energy": "energy", "cost": "cost", "size": "size", "memory": "memory",
}  # fmt: skip
"""Objectives of ``--minimize``, with the aspect that each minimizes."""

_LIMIT = re.compile(r"\s*(\w+)\s*(<=|>=)\s*(.*?)\s*", re.ASCII)
_NUMBER = re.compile(r"([0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+)\s*(\S*)")
_FORM = "Write NAME<=VALUE or NAME>=VALUE, such as 'p99<=10ms'."


@dataclass(frozen=True)
class Limit:
    """An upper or lower bound on an aspect.

    Attributes:
        aspect: a name of ``ASPECTS``; it decides the direction.
        value: in the aspect's unit.
    """

    aspect: str
    value: float

    @property
    def of(self) -> Aspect:
        return ASPECTS[self.aspect]


class ColumnLimit(NamedTuple):
    """A bound on a column of the case table, in the column's unit; ``least``: a lower bound."""

    column: str
    value: float
    least: bool


@dataclass(frozen=True)
class Question:
    """The limits and the objective of a recommendation.

    Attributes:
        limits: at most one for each aspect.
        minimize: the objective among the configurations that keep the limits.
        models: only these; empty: all.
        scenario, batch_size: only cases with it; None: all.
        rate_ips: required rate in items per second, for costs; None: one machine at full load.
    """

    limits: tuple[Limit, ...] = ()
    minimize: Objective = "latency"
    models: tuple[str, ...] = ()
    scenario: str | None = None
    batch_size: int | None = None
    rate_ips: float | None = None

    @property
    def by(self) -> str:
        """The aspect that is minimized."""
        return OBJECTIVES[self.minimize]


def read_limit(text: str) -> Limit:
    """Parse a limit such as ``p99<=10ms``.

    Raises:
        UserError: it is not a limit on an aspect, or not a positive number with one of its units.
            An accuracy drop may be 0.
    """
    name, is_lower, value = _parts(text, LIMITED)
    return _of_aspect(text, name, is_lower, value)


def read_limits(texts: list[str]) -> tuple[Limit, ...]:
    """Parse the limits of a question.

    Raises:
        UserError: as ``read_limit``; or two limit the same aspect.
    """
    limits = tuple(map(read_limit, texts))
    for place, limit in enumerate(limits):
        if limit.aspect in [earlier.aspect for earlier in limits[:place]]:
            raise UserError(f"{limit.of.words} is limited twice", "Give the stricter limit only.")
    return limits


def read_column_limit(text: str) -> ColumnLimit:
    """Parse a limit of the gate: on an aspect (``p99<=10ms``), or on any column of the case table,
    as a number in the column's unit (``speedup>=1.5``).

    Raises:
        UserError: it is neither.
    """
    name, is_lower, value = _parts(text, (*LIMITED, *NAMES))
    if name in LIMITED:
        limit = _of_aspect(text, name, is_lower, value)
        factor = limit.of.factor
        return ColumnLimit(limit.of.column, factor * limit.value, is_lower != (factor < 0))
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UserError(
            f"limit '{text}': '{value}' is not a number",
            f"Write a number in the unit of the column, such as '{name}<=10'.",
        )
    return ColumnLimit(name, number, is_lower)


def _parts(text: str, known: tuple[str, ...]) -> tuple[str, bool, str]:
    """Name, whether the limit is a lower bound, and the value as written."""
    found = _LIMIT.fullmatch(text)
    if found is None:
        raise UserError(f"'{text}' is not a limit", _FORM)
    name, sign, value = found.groups()
    check_known(name, known, f"limit '{text}': there is no figure '{name}'")
    return name, sign == ">=", value


def _of_aspect(text: str, name: str, is_lower: bool, written: str) -> Limit:
    of = ASPECTS[name]
    say = f"Write '{of.example}'."
    if is_lower != of.least:
        bound = "a lower" if of.least else "an upper"
        raise UserError(f"limit '{text}': {of.words} takes {bound} bound", say)
    found = _NUMBER.fullmatch(written)
    if found is None:
        raise UserError(f"limit '{text}': '{written}' is not a positive number with a unit", say)
    number, unit = found.groups()
    if unit not in of.units:
        problem = f"has no unit '{unit}'" if unit else "needs a unit"
        usual = re.sub(r".*[<>]=[0-9.]+", "", of.example)
        meant = next((known for known in of.units if known.lower() == unit.lower()), usual)
        sign = ">=" if of.least else "<="
        raise UserError(
            f"limit '{text}': {of.words} {problem}",
            f"Write '{name}{sign}{number}{meant}'. Units: {', '.join(of.units)}.",
        )
    value = float(number) * of.units[unit]
    if not math.isfinite(value) or (value == 0 and name != "accuracy_drop"):
        raise UserError(f"limit '{text}': the value is out of range", say)
    if of.unit in ("pp", "%") and value > 100:
        raise UserError(f"limit '{text}': the value is above 100 %", say)
    return Limit(name, value)


def read_objective(text: str) -> Objective:
    """
    Raises:
        UserError: it is none of ``OBJECTIVES``.
    """
    for name in OBJECTIVES:
        if name == text:
            return name
    raise UserError(f"--minimize {text}: there is no such objective", nearest(text, OBJECTIVES))
