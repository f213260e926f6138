"""Two sets of cases side by side: two runs, or two environments, backends or precisions of one.

Cases of one run were measured in the same rounds, so that each round gives one difference: such a
comparison is *paired*, and a verdict rests on it. Two runs saw the machine at two times. Whatever
test one takes, 20 to 48 of 100 such comparisons of equal versions come out as a difference at a
nominal 5 % (``docs/method.md``), so they get intervals and never a verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from qbench.analysis.comparable import Comparability
from qbench.bundle import Bundle
from qbench.decide import Decision, Shift, Verdict

Row = Mapping[str, Any]
"""A case's row of the case table."""
Column = Literal["environment", "backend", "precision"]
"""What the two sides of one bundle may differ in."""


@dataclass(frozen=True)
class Ratio:
    """A figure of B over the same figure of A.

    Attributes:
        value: paired, the exponential of the median over rounds of the log ratio; else the ratio
            of the geometric means over trials.
        low, high: its 95 % interval: paired, the one that inverts the sign test
            (``qbench.decide``); else Welch's on the logarithms. None where there are fewer than 6
            trials, and where the figure is no figure of trials, as the size of an artifact.
        paired: whether A and B are from the same rounds of one run.
        rounds: how many pairs; else the smaller number of trials; 0 for a figure without trials.
        p_value: two-sided, of the same test as the interval; None where there is no interval, or
            no spread to test against.
    """

    value: float
    low: float | None
    high: float | None
    paired: bool
    rounds: int
    p_value: float | None


@dataclass(frozen=True)
class Delta:
    """A metric of B less that of A, in the metric's unit: 0.01 of a share is one point.

    Attributes:
        low, high: its 95 % interval: for matched pairs, or the paired bootstrap; None unless
            paired.
        paired: whether it was taken item by item of both sides' predictions.
        items: how many items; None if the two sides were not of the same items.
        p_value: McNemar's exact one; None where not paired, or the metric is no share of items.
    """

    value: float
    low: float | None
    high: float | None
    paired: bool
    items: int | None
    p_value: float | None


@dataclass(frozen=True)
class Pair:
    """Two cases that did the same work, A's and B's.

    Attributes:
        a, b: their rows of the case table.
        claim: ``same artifact``: the same prepared files, run in the same way; else ``same work``.
        differs: columns that speak against the same artifact (``comparable.same_artifact``).
        percentile: which one of each trial ``latency`` is of: ``p1`` where it was taken of the
            samples and every trial has 100 calls, else ``p10``, and ``p50`` below 10 calls.
        latency: of that low percentile: what gates use. None where no rounds are shared.
        p50, p99: of a call's latency; p99 is None where a trial has below 100 calls.
        throughput: items per second; above 1 is better, here only.
        memory: peak over the process with its runtime imported.
        size: of the prepared files.
        load: loading and compiling the artifact: start-up.
        energy: per inference; None for the reason that ``energy_reason`` gives.
        stalls: B's share of stalls less A's (``decide.stall_share``); None unless paired.
        accuracy_delta: None where one of the two has no accuracy.
        decision: what the paired rounds show of this pair alone; None unless paired.
        p_value: of the decision: twice the smaller one of latency and stalls (Bonferroni).
        adjusted_p: the same after Benjamini & Hochberg over all pairs of the comparison.
        outputs_changed: whether the outputs differ though the artifact is the same; None where it
            is not, or they are not known.
    """

    a: Row
    b: Row
    claim: Literal["same artifact", "same work"]
    differs: tuple[str, ...]
    percentile: Literal["p1", "p10", "p50"] | None
    latency: Ratio | None
    p50: Ratio | None
    p99: Ratio | None
    throughput: Ratio | None
    memory: Ratio | None
    size: Ratio | None
    load: Ratio | None
    energy: Ratio | None
    energy_reason: str | None
    stalls: Shift | None
    accuracy_delta: Delta | None
    decision: Decision | None
    p_value: float | None
    adjusted_p: float | None
    outputs_changed: bool | None

    @property
    def verdict(self) -> Verdict | None:
        """The decision's, if it stands among all pairs' (``adjusted_p``); None unless paired."""
        if self.decision is None:
            return None
        alarm = self.decision.verdict in (Verdict.REGRESSION, Verdict.IMPROVEMENT)
        if alarm and (self.adjusted_p is None or self.adjusted_p >= FALSE_SHARE):
            return Verdict.INCONCLUSIVE
        return self.decision.verdict


FALSE_SHARE = 0.05
"""Of the alarms over all pairs, at most this share is false (Benjamini & Hochberg's q)."""


@dataclass(frozen=True)
class Refusal:
    """Two cases that belong together by what was requested, but must not be compared.

    Attributes:
        a, b: their rows.
        fields: the columns that say so: ``status`` where one did not run, ``model`` where the same
            file goes by two names, else those of ``comparable.same_work``.
        reason: in a sentence.
    """

    a: Row
    b: Row
    fields: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Comparison:
    """What two sides have in common, and what not.

    Every case of A is in exactly one of ``pairs``, ``refused`` and ``only_a``; so for B.

    Attributes:
        a_label, b_label: run ids, or the values of the column of one bundle.
        paired: from the same rounds of one run.
        comparability: of machine, software and settings of two runs; None within one.
        only_a, only_b: rows without a counterpart.
    """

    a_label: str
    b_label: str
    paired: bool
    comparability: Comparability | None
    pairs: tuple[Pair, ...]
    only_a: tuple[Row, ...]
    only_b: tuple[Row, ...]
    refused: tuple[Refusal, ...]


def compare_runs(a: Bundle, b: Bundle) -> Comparison:
    """Two runs, unpaired: intervals by Welch on the logarithms of trials' figures, no verdicts.

    Raises:
        UserError: a bundle is damaged.
    """
    raise NotImplementedError


def compare_within(bundle: Bundle, column: Column, a: str, b: str) -> Comparison:
    """Two values of a column of one bundle, paired by round and sitting: of each two cases that
    are equal in all other fields.

    Raises:
        UserError: the bundle is damaged, or has no case of such a value.
    """
    raise NotImplementedError
