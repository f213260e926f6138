"""The suite's key ``gate:``: baselines and limits of the gate."""

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
"""The environment that is the default baseline, if the suite has it."""


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
    """The counterpart of a run; exactly one of the three.

    Attributes:
        environment: another environment of the same run, measured in the same rounds. Only its
            ratios are paired, so only it is reliable for speed.
        last: the newest earlier run of the same suite on the same machine.
        anchor: the path or id of an old run, such as a release's. It shows a slow decline of half a
            per cent a night.
    """

    environment: str | None = None
    last: bool = False
    anchor: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        """Accept ``last``, ``environment:NAME`` and ``anchor:RUN``, as on the command line."""
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
    """Rules of ``qbench gate``. A threshold is the smallest change that counts; null disables it.

    Attributes:
        baselines: counterparts of the run, compared one by one. Default: its environment
            ``baseline`` if there is one, else the last run.
        slowdown: threshold of latency: relative increase of a low percentile.
        unpaired_slowdown: the same against ``last`` and anchors, which were measured at another
            time: a machine drifts by more than versions differ.
        stalls: threshold of the share of calls that stall, as a share of all calls.
        accuracy_drop_points: threshold of accuracy, in points (hundredths of the metric).
        memory_growth: threshold of the peak while loading or running, relative; growth below 2 MB
            never counts.
        size_growth: threshold of the artifact's size, relative.
        start_growth: threshold of the time to load and compile in a fresh process, relative.
        limits: absolute limits, independent of baselines.
        q: accepted share of false alarms among the alarms of one figure over all cases (Benjamini
            & Hochberg).
        inconclusive_nights: number of consecutive inconclusive runs after which a case fails,
            counted as for ``last``.
        broken_share: share of failed cases above which the whole run is invalid.
        missing: a case of the last run is missing: ``fail`` or ``report``.
        effective_precision: a case ran in int8 before and does not now: ``fail`` or ``report``.
        outputs: an unchanged artifact computes other outputs: ``fail`` or ``report``.
        confirm_rounds: rounds of ``--confirm`` for a suspicious case and its counterpart.
        unconfirmed: a suspicion without new trials: ``fail`` or ``report``. Only one that is
            significant among all cases fails; one against ``last`` or an anchor never does, since
            its figures are of two different times.
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
