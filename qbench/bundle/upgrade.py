"""Bundles of older schemas, in the form that this version writes.

A finished bundle is never changed. Its records are taken from one schema to the next as they are
read, by pure functions: ``STEPS[n]`` makes records of schema n + 1 of those of schema n. What the
older schema did not measure becomes None, or stays away where that means the same; a value is put
in only where the older version could not have had another. ``migrate_bundle`` writes a bundle of
this version's schema beside the old one, whose manifest's digest it names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qbench.errors import UserError
from qbench.storage import digest_json

SCHEMA = 4
"""Raised when records change their meaning or have to hold more; then a step is added below."""

Record = dict[str, Any]
Cases = Mapping[str, Record]
"""A plan's cases by their ids, both as the older schema has them."""


@dataclass(frozen=True)
class Step:
    """From one schema to the next. Functions return a new record, and leave theirs as it is.

    Attributes:
        begin, plan: of these files.
        lines: by file, of each line; the plan's cases are given too.
    """

    begin: Callable[[Record], Record] = lambda record: record
    plan: Callable[[Record], Record] = lambda record: record
    lines: Mapping[str, Callable[[Record, Cases], Record]] = field(default_factory=dict)


# --------------------------------------------------------------------------- 2 -> 3


def _begin_3(begin: Record) -> Record:
    """Fingerprints came to hold the power mode and caches; suites a budget, a rest before trials,
    and energy, none of which there was."""
    host = {"power_mode": None, "caches": None, **begin["host"]}
    budget = {"case_minutes": None, "run_minutes": None}
    settings = {"budget": budget, "cool_down_s": 0.0, "energy": None, **begin["settings"]}
    return {"system": None, **begin, "host": host, "settings": settings}


def _plan_3(plan: Record) -> Record:
    """Cases came to name their scenario's options, which their ids digest; before, the scenarios
    had none. Yardsticks are new."""
    return {
        **plan,
        "cases": [_entry_3(entry) for entry in plan["cases"]],
        "yardsticks": [],
        "references": {
            model: [_entry_3(entry) for entry in entries]
            for model, entries in plan["references"].items()
        },
    }


def _entry_3(entry: Record) -> Record:
    case = _case_3(entry["case"])
    return {**entry, "case": case, "case_id": _case_id(case)}


def _case_3(case: Record) -> Record:
    return {**case, "scenario_options": {"rounds": None}}


def _case_id(case: Record) -> str:
    """As ``qbench.spec.case.Case`` has it in schemas 2 to 4."""
    return digest_json(case)[:12]


def _evaluated_3(record: Record, cases: Cases) -> Record:
    """The bytes that an inference moves came to be counted."""
    effective = record.get("effective")
    if effective is None:
        return record
    return {**record, "effective": {"weight_bytes": None, "activation_bytes": None, **effective}}


def _trial_3(record: Record, cases: Cases) -> Record:
    """Trials came to tell their items, the window on the machine's clock, and what they met. All
    scenarios were closed loops, so that a call was one batch."""
    case = cases[record["case_id"]]
    record = {**record, "case_id": _case_id(_case_3(case))}
    if record["status"] != "ok":
        return record
    calls, batch = record["calls"], case["batch_size"]
    if type(calls) is not int or type(batch) is not int:
        raise TypeError("calls and batch_size are integers")
    unknown = {"window": None, "conditions": {}, "counters": None, "loop": {}, "figures": {}}
    return {**unknown, **record, "items": calls * batch}


# --------------------------------------------------------------------------- 3 -> 4


def _begin_4(begin: Record) -> Record:
    """Runs came to say which one they confirm, of which cases they are, which environments they
    have beside the default one, and by which limits they are judged."""
    filters = {"cases": [], **begin.get("filters", {})}
    settings = {"gate": None, **begin["settings"]}
    told = {**begin, "filters": filters, "settings": settings}
    return {"confirms": None, "environments": {}, **told}


STEPS: Mapping[int, Step] = {
    2: Step(
        begin=_begin_3,
        plan=_plan_3,
        lines={"evaluate.jsonl": _evaluated_3, "journal.jsonl": _trial_3},
    ),
    3: Step(begin=_begin_4),
}
"""By the schema that they begin at. Schema 1 had several forms before anything was published."""
TABLES = 3
"""``trials.parquet`` has its columns since this schema; of an older one it is computed anew."""


# --------------------------------------------------------------------------- reading


def check_schema(schema: Any, path: Path) -> int:
    """``schema``, if this version reads it.

    Raises:
        UserError: it does not.
    """
    reads = f"this version reads {min(STEPS)} to {SCHEMA}"
    if type(schema) is not int or schema < 1:
        raise UserError(
            f"{path} was written with schema {schema!r:.40}, {reads}",
            "Its begin.json is damaged: get a copy.",
        )
    if schema > SCHEMA:
        raise UserError(
            f"{path} was written with schema {schema}, {reads}",
            "Update qbench: begin.json names the version that wrote it under software.",
        )
    if schema < min(STEPS):
        raise UserError(
            f"{path} was written with schema {schema}, {reads}",
            "Schema 1 was never published and had several forms: run the suite again.",
        )
    return schema


class Upgrade:
    """Takes the records of one bundle from its schema to this version's. All methods raise
    ValueError where a record lacks what a step needs."""

    def __init__(self, schema: int) -> None:
        self._schema = schema
        self._steps = [STEPS[number] for number in range(schema, SCHEMA)]
        self._cases: list[Cases] = []

    def begin(self, record: Record) -> Record:
        for step in self._steps:
            record = _applied(step.begin, record)
        return record

    def plan(self, record: Record) -> Record:
        self._cases = []
        for step in self._steps:
            self._cases.append(_applied(_by_id, record))
            record = _applied(step.plan, record)
        return record

    def line(self, name: str, record: Record) -> Record:
        """One line of the file ``name``; ``plan`` has to be read before."""
        for step, cases in zip(self._steps, self._cases, strict=True):
            change = step.lines.get(name)
            if change is not None:
                record = _applied(change, record, cases)
        return record


def _by_id(plan: Record) -> Cases:
    entries = [*plan["cases"], *plan.get("yardsticks", [])]
    return {entry["case_id"]: entry["case"] for entry in entries}


def _applied(change: Callable[..., Any], *given: Any) -> Any:
    try:
        return change(*given)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it lacks what older bundles have: {error!r:.80}") from None


# --------------------------------------------------------------------------- writing
