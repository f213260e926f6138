"""The suite's key ``gate:``: what makes a night fail, and against what it is held."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from qbench.errors import UserError
from qbench.spec.question import ColumnLimit, read_column_limit
from qbench.spec.yamlfile import Strict

Share = Annotated[float, Field(ge=0, le=10)]
"""0.01 is 1 %."""
Kind = Literal[
    "slower",
    "stalls",
    "accuracy",
    "memory",
    "size",
    "start_up",
    "limit",
    "missing",
    "newly_failing",
    "failing",
    "effective_precision_lost",
    "inconclusive_for_nights",
    "outputs_changed",
]
"""Kinds of findings."""
BASELINE = "baseline"
"""The environment that a run is held against if nothing else is said and the suite has it."""


class GateLimit(Strict):
    """An absolute limit, on all cases or on those that match.

    Attributes:
        limit: as ``qbench.spec.question.read_column_limit`` parses it: ``p99<=10ms``,
        ``speedup>=1.5``. model, backend, environment, precision, scenario: only cases with this;
        None: all.
    """

    limit: str
    model: str | None = None
    backend: str | None = None
    environment: str | None = None
    precision: str | None = None
    scenario: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        """A string is a limit on all cases."""
        return {"limit": value} if isinstance(value, str) else value

    @field_validator("limit")
    @classmethod
    def _can_be_read(cls, value: str) -> str:
        try:
            read_column_limit(value)
        except UserError as error:
            raise ValueError(f"{error.message}. {error.fix}") from None
        return value

    @property
    def bound(self) -> ColumnLimit:
        return read_column_limit(self.limit)


class Baseline(Strict):
    """What a run is held against; one of the three.

    Attributes:
        environment: another environment of the same run, measured in the same rounds. The only one
            whose ratios are paired, and so the only one to be relied on for speed.
        last: the newest earlier run of the same suite on the same machine.
        anchor: a run of old, such as a release's: its path, or its id. What creeps by half a per
            cent a night shows against it.
    """

    environment: str | None = None
    last: bool = False
    anchor: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        """``last``, ``environment:NAME`` and ``anchor:RUN`` are words, as on the command line."""
        if not isinstance(value, str):
            return value
        kind, _, name = value.partition(":")
        if value == "last":
            return {"last": True}
        if kind in ("environment", "anchor") and name:
            return {kind: name}
        raise ValueError("a baseline is 'last', 'environment:NAME' or 'anchor:RUN'")

    @model_validator(mode="after")
    def _one_of_three(self) -> Baseline:
        if [bool(self.environment), self.last, bool(self.anchor)].count(True) != 1:
            raise ValueError("a baseline is one of 'environment', 'last' and 'anchor'")
        return self

    def __str__(self) -> str:
        if self.last:
            return "last"
        return f"environment:{self.environment}" if self.environment else f"anchor:{self.anchor}"


class GateSettings(Strict):
    """When ``qbench gate`` fails. A guard that is null is off.

    Attributes:
        baselines: what the run is held against, each on its own; empty: its environment
            ``baseline`` if it has one, else the last run.
        slowdown: guard of latency; an increase of a low percentile below this share is none.
        unpaired_slowdown: the same against ``last`` and anchors, which are of another time: a
            machine's own drift is larger than what versions differ by.
        stalls: guard of the share of calls that stall, in shares of all calls.
        accuracy_drop_points: guard of accuracy, in points (hundredths of the metric).
        memory_growth: guard of the peak while loading or running, a share; below 2 MB nothing has
            grown.
        size_growth: guard of the artifact's size, a share.
        start_growth: guard of the time to load and compile in a fresh process, a share.
        limits: absolute limits, whatever the baseline says.
        q: the share of false alarms among the alarms of one figure over all cases that is put up
            with (Benjamini & Hochberg).
        inconclusive_nights: a case that is inconclusive for so many runs in a row fails; the runs
            are those of ``last``.
        broken_share: more cases than this share that should have run and did not: the run is
            invalid, and says nothing of the others.
        missing: a case of the last run that this one does not have: ``fail`` or ``report``.
        effective_precision: int8 before and something else today: the same.
        outputs: the artifact is the same and computes something else: the same.
        confirm_rounds: how often ``--confirm`` measures a suspicious case and its counterpart.
        unconfirmed: a suspicion that new trials have not confirmed: the same. ``fail`` is for those
            that stand among all cases by themselves; one against ``last`` or an anchor never fails
            unconfirmed, since it is of two times.
    """

    baselines: list[Baseline] = []
    slowdown: Share | None = 0.01
    unpaired_slowdown: Share | None = 0.05
    stalls: Share | None = 0.02
    accuracy_drop_points: Annotated[float, Field(ge=0, le=100)] | None = 0.5
    memory_growth: Share | None = 0.05
    size_growth: Share | None = 0.02
    start_growth: Share | None = 0.25
    limits: list[GateLimit] = []
    q: Annotated[float, Field(gt=0, lt=1)] = 0.05
    inconclusive_nights: Annotated[int, Field(ge=1)] | None = 5
    broken_share: Annotated[float, Field(ge=0, le=1)] = 0.2
    missing: Literal["fail", "report"] = "fail"
    effective_precision: Literal["fail", "report"] = "fail"
    outputs: Literal["fail", "report"] = "report"
    confirm_rounds: Annotated[int, Field(ge=9)] = 40
    unconfirmed: Literal["fail", "report"] = "report"
