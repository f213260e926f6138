"""Baselines of a run: another environment of it, the previous run, or an older one (an anchor)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from qbench.analysis.compare.compare import Comparison, Pair, compare_runs, compare_within
from qbench.analysis.gate.findings import Before, Night
from qbench.bundle.bundle import Bundle
from qbench.errors import UserError, nearest
from qbench.spec.accepted import Accepted
from qbench.spec.gate import BASELINE, Baseline, GateSettings


@dataclass(frozen=True)
class Evidence:
    """Inputs of the verdict on a run, other than the run.

    Attributes:
        earlier: runs of the same suite on the same machine, the newest first, read lazily. The
            first is ``last``.
        anchors: by name, as in the baselines of the settings.
        confirmation: a run of the suspicious cases, with new trials; None if there is none.
        accepted: accepted changes.
    """

    earlier: Sequence[Bundle] = ()
    anchors: Mapping[str, Bundle] | None = None
    confirmation: Bundle | None = None
    accepted: Accepted = Accepted()


@dataclass(frozen=True)
class Against:
    """A baseline, and the comparisons of the run with it.

    Attributes:
        name: ``environment:baseline``, ``last`` or ``anchor:NAME``.
        where: in words, such as ``environment baseline`` or ``run 20261122-...``.
        comparisons: with the baseline as A and the run, or one of its environments, as B.
        paired: whether trials are from the same rounds.
        same_machine: if not, speed, memory and start-up are not compared.
    """

    name: str
    where: str
    comparisons: tuple[Comparison, ...]
    paired: bool
    same_machine: bool = True

    @property
    def pairs(self) -> list[Pair]:
        return [pair for comparison in self.comparisons for pair in comparison.pairs]


def choose(
    night: Night, settings: GateSettings, last: Bundle | None
) -> tuple[list[Baseline], list[str]]:
    """Choose the baselines of the run; also return notes about the choice."""
    wanted = list(settings.baselines)
    if not wanted:
        own = BASELINE in night.environments and len(night.environments) > 1
        wanted = [Baseline(environment=BASELINE) if own else Baseline(last=True)]
    if last is None and any(baseline.last for baseline in wanted):
        wanted = [baseline for baseline in wanted if not baseline.last]
        return wanted, ["there is no earlier run of this suite on this machine: nothing is 'last'"]
    return wanted, []


def beside(bundle: Bundle, night: Night, baseline: Baseline, evidence: Evidence) -> Against:
    """Compare the run with one baseline.

    Raises:
        UserError: the run has no such environment, or no other one.
    """
    name = str(baseline)
    if baseline.environment:
        known = night.environments
        if baseline.environment not in known or len(known) < 2:
            raise UserError(
                f"{bundle.run_id} has no environment '{baseline.environment}' beside another one",
                f"{nearest(baseline.environment, known)} Or give another --baseline.",
            )
        others = [other for other in known if other != baseline.environment]
        comparisons = tuple(
            compare_within(bundle, "environment", baseline.environment, other) for other in others
        )
        return Against(name, f"environment {baseline.environment}", comparisons, paired=True)
    earlier = evidence.earlier[0] if baseline.last else (evidence.anchors or {})[name]
    return _beside_run(name, earlier, bundle)


def _beside_run(name: str, earlier: Bundle, bundle: Bundle) -> Against:
    comparison = compare_runs(earlier, bundle)
    seen = comparison.comparability
    same = seen is None or seen.level != "different machine"
    return Against(name, f"run {earlier.run_id}", (comparison,), paired=False, same_machine=same)


def befores_of(against: Iterable[Against], last: Bundle | None) -> dict[str, list[Before]]:
    """Return the earlier results of each case, by its id: in each baseline, and in the last run."""
    found: dict[str, list[Before]] = {}
    for each in against:
        where = f"in {each.where}"
        for comparison in each.comparisons:
            for pair in (*comparison.pairs, *comparison.refused):
                before = Before(pair.a, where, each.name)
                found.setdefault(pair.b.case_id, []).append(before)
    if last is not None and not any(each.name == "last" for each in against):
        for case_id, row in Night(last).rows.items():
            before = Before(row, f"in run {last.run_id}", "last")
            found.setdefault(case_id, []).append(before)
    return found


def beside_again(each: Against, again: Night, evidence: Evidence) -> Against:
    """Compare the baseline with the new trials."""
    if not each.paired:
        earlier = evidence.anchors or {}
        bundle = evidence.earlier[0] if each.name == "last" else earlier[each.name]
        return _beside_run(each.name, bundle, again.bundle)
    name = each.comparisons[0].a_label
    others = [other for other in again.environments if other != name]
    if name not in again.environments:
        return replace(each, comparisons=())
    comparisons = (compare_within(again.bundle, "environment", name, other) for other in others)
    return replace(each, comparisons=tuple(comparisons))
