"""Does a run pass? The judging of a night, pure: from bundles to a verdict, nothing measured.

``judge`` holds a run against its baselines and gives every finding with its figures. A regression
of a measured figure needs four things: its interval excludes zero, its size reaches the guard, it
stands among all cases (``gate_figures``), and new trials in another run show it again. Without
those trials it is a suspicion. ``qbench.gate`` finds the bundles and has the trials made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from qbench.accepted import Accepted
from qbench.analysis.compare import Row, compare_runs, compare_within
from qbench.analysis.gate_figures import Against, Tested, rounds_needed, test_figures, worse
from qbench.analysis.gate_findings import (
    Before,
    Figure,
    Finding,
    Kind,
    Night,
    Severity,
    broken,
    can_be_confirmed,
    failures,
    inconclusive,
    lost_precision,
    missing,
    over_limit,
)
from qbench.bundle import Bundle
from qbench.errors import MachineryError, UserError, nearest
from qbench.gate_settings import BASELINE, Baseline, GateSettings

__all__ = [
    "Evidence", "Figure", "Finding", "GateResult", "Judged", "Kind", "Night", "Severity", "judge",
]  # fmt: skip


@dataclass(frozen=True)
class Evidence:
    """What a run is judged by, beside itself.

    Attributes:
        earlier: runs of the same suite on the same machine, the newest first; as few are read as
            are needed. The first is ``last``.
        anchors: by name, as the settings' baselines have it.
        confirmation: a run of the suspicious cases, with new trials; None if there is none.
        accepted: the known changes.
    """

    earlier: Sequence[Bundle] = ()
    anchors: Mapping[str, Bundle] | None = None
    confirmation: Bundle | None = None
    accepted: Accepted = Accepted()


@dataclass(frozen=True)
class Judged:
    """One case of the run, for lists of all of them."""

    case_id: str
    label: str
    environment: str
    status: str
    reason: str | None
    latency_p50_ms: float | None


@dataclass(frozen=True)
class GateResult:
    """The verdict on a run.

    Attributes:
        baselines: what it was held against, in words.
        compared: how many cases could be held against one of them.
        invalid: why the run says nothing; None if it does.
        notes: what else a reader should know.
        confirmed_by: the run of the new trials; None if there is none.
    """

    run_id: str
    suite: str
    baselines: tuple[str, ...]
    cases: tuple[Judged, ...]
    compared: int
    findings: tuple[Finding, ...]
    invalid: str | None = None
    notes: tuple[str, ...] = ()
    confirmed_by: str | None = None

    @property
    def exit_code(self) -> int:
        """3 for a run that says nothing, 1 for a regression or a failed case, else 0."""
        if self.invalid is not None:
            return MachineryError.exit_code
        return 1 if self.of("regression") else 0

    def of(self, severity: Severity) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity == severity]

    @property
    def to_confirm(self) -> list[str]:
        """Ids of the cases, with their counterparts, that new trials could clear or convict."""
        found = [f for f in self.findings if can_be_confirmed(f) and f.confirmed is None]
        ids = [case_id for f in found for case_id in (f.case_id, f.counterpart) if case_id]
        return list(dict.fromkeys(ids))


def judge(bundle: Bundle, settings: GateSettings, evidence: Evidence = Evidence()) -> GateResult:
    """The verdict on a complete run.

    Raises:
        UserError: a bundle is damaged, a baseline is not there, or a limit is on a column of words.
        MachineryError: the run was interrupted, and so is no night.
    """
    if not bundle.complete:
        raise MachineryError(
            f"{bundle.path} is incomplete: the run was interrupted",
            "Give the run's command again, which goes on from there, and then the gate's.",
        )
    night = Night(bundle)
    last = next(iter(evidence.earlier), None)
    baselines, notes = _chosen(night, settings, last)
    against = [_against(bundle, night, baseline, evidence) for baseline in baselines]
    befores = _befores(against, last)
    tested = [one for each in against for one in test_figures(each, settings)]
    exempt = [b.environment for b in baselines if b.environment]
    findings = [
        *failures(night, befores),
        *missing(night, Night(last) if last else None, settings),
        *lost_precision(night, befores, settings),
        *over_limit(night, settings, exempt),
        *worse(night, tested),
        *inconclusive(night, evidence.earlier, settings),
        *_outputs(night, against, settings),
    ]
    if evidence.confirmation is not None:
        findings = _confirmed(findings, against, settings, evidence)
    findings = [_weighed(finding, settings, against) for finding in findings]
    findings = [_accepted(finding, evidence.accepted) for finding in findings]
    return GateResult(
        run_id=bundle.run_id,
        suite=bundle.begin["suite"],
        baselines=tuple(f"{each.name}: {each.where}" for each in against),
        cases=tuple(_listed(night, row) for row in night.rows.values()),
        compared=len({pair.b["case_id"] for each in against for pair in each.pairs}),
        findings=tuple(sorted(findings, key=lambda f: _ORDER.index(f.severity))),
        invalid=_invalid(night, befores, against, settings),
        notes=(*notes, *_doubts(against, tested, settings), *_expired(findings, evidence.accepted)),
        confirmed_by=evidence.confirmation.run_id if evidence.confirmation else None,
    )


_ORDER: tuple[Severity, ...] = ("regression", "suspicion", "accepted", "notice")


def _listed(night: Night, row: Row) -> Judged:
    return Judged(
        row["case_id"],
        night.label(row["case_id"]),
        row["environment"],
        row["status"],
        row["reason"],
        row["latency_p50_ms"],
    )


# --------------------------------------------------------------------------- baselines


def _chosen(
    night: Night, settings: GateSettings, last: Bundle | None
) -> tuple[list[Baseline], list[str]]:
    """What the run is held against, and what to say about it."""
    wanted = list(settings.baselines)
    if not wanted:
        own = BASELINE in night.environments and len(night.environments) > 1
        wanted = [Baseline(environment=BASELINE) if own else Baseline(last=True)]
    if last is None and any(baseline.last for baseline in wanted):
        wanted = [baseline for baseline in wanted if not baseline.last]
        return wanted, ["there is no earlier run of this suite on this machine: nothing is 'last'"]
    return wanted, []


def _against(bundle: Bundle, night: Night, baseline: Baseline, evidence: Evidence) -> Against:
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
    return _beside(name, earlier, bundle)


def _beside(name: str, earlier: Bundle, bundle: Bundle) -> Against:
    comparison = compare_runs(earlier, bundle)
    seen = comparison.comparability
    same = seen is None or seen.level != "different machine"
    return Against(name, f"run {earlier.run_id}", (comparison,), paired=False, same_machine=same)


def _befores(against: Iterable[Against], last: Bundle | None) -> dict[str, list[Before]]:
    """By case id, what it was in each baseline, and last time."""
    found: dict[str, list[Before]] = {}
    for each in against:
        where = f"in {each.where}"
        for comparison in each.comparisons:
            for pair in (*comparison.pairs, *comparison.refused):
                before = Before(pair.a, where, each.name)
                found.setdefault(pair.b["case_id"], []).append(before)
    if last is not None and not any(each.name == "last" for each in against):
        for case_id, row in Night(last).rows.items():
            before = Before(row, f"in run {last.run_id}", "last")
            found.setdefault(case_id, []).append(before)
    return found


def _invalid(
    night: Night,
    befores: Mapping[str, Sequence[Before]],
    against: Sequence[Against],
    settings: GateSettings,
) -> str | None:
    """Why the run says nothing: too much of it broke, or a baseline has nothing in common with it
    (which is what an environment that could not be made looks like)."""
    failed = len(broken(night, befores))
    runs = failed + sum(row["status"] == "ok" for row in night.rows.values())
    if failed > settings.broken_share * runs:
        return (
            f"{failed} of its {runs} cases are broken, more than {settings.broken_share:.0%}: "
            "that is the machine or the set-up, and no regression of a case"
        )
    empty = [each.where for each in against if not each.pairs]
    return f"none of its cases can be compared with {' or '.join(empty)}" if empty else None


# --------------------------------------------------------------------------- findings


def _outputs(night: Night, against: Sequence[Against], settings: GateSettings) -> list[Finding]:
    """The artifact is the same, and computes something else."""
    severity: Severity = "regression" if settings.outputs == "fail" else "notice"
    return [
        night.finding(
            pair.b,
            "outputs_changed",
            severity,
            f"the same artifact gave other outputs in {each.where}",
            against=each.name,
        )
        for each in against
        for pair in each.pairs
        if pair.outputs_changed
    ]


def _confirmed(
    findings: Sequence[Finding],
    against: Sequence[Against],
    settings: GateSettings,
    evidence: Evidence,
) -> list[Finding]:
    """The findings with what the new trials say of those that they can speak to."""
    assert evidence.confirmation is not None
    again = Night(evidence.confirmation)
    wanted = {(f.case_id, f.kind) for f in findings if can_be_confirmed(f)}
    tested: dict[tuple[str | None, str, Kind], Tested] = {}
    for each in against:
        if any(f.against == each.name and can_be_confirmed(f) for f in findings):
            newly = _against_again(each, again, evidence)
            for one in test_figures(newly, settings, only=wanted):
                tested[each.name, one.pair.b["case_id"], one.kind] = one
    limits = {f.case_id: f for f in over_limit(again, settings, ()) if f.severity == "regression"}
    found: list[Finding] = []
    for finding in findings:
        row = again.rows.get(finding.case_id)
        if not can_be_confirmed(finding) or row is None:
            found.append(finding)
            continue
        if row["status"] != "ok":
            says = f"in the confirming run {again.bundle.run_id} it was {row['status']}: "
            found += [finding, again.finding(row, "failing", "regression", says + row["reason"])]
            continue
        if finding.kind == "limit":
            seen = limits.get(finding.case_id)
            found.append(_told(finding, seen is not None, seen.figure if seen else None))
        else:
            one = tested.get((finding.against, finding.case_id, finding.kind))
            told = _told(finding, one.alarm, one.figure) if one else finding
            found.append(told)
    return found


def _against_again(each: Against, again: Night, evidence: Evidence) -> Against:
    """The baseline beside the new trials."""
    if not each.paired:
        earlier = evidence.anchors or {}
        bundle = evidence.earlier[0] if each.name == "last" else earlier[each.name]
        return _beside(each.name, bundle, again.bundle)
    name = each.comparisons[0].a_label
    others = [other for other in again.environments if other != name]
    if name not in again.environments:
        return replace(each, comparisons=())
    comparisons = (compare_within(again.bundle, "environment", name, other) for other in others)
    return replace(each, comparisons=tuple(comparisons))


def _told(finding: Finding, confirmed: bool, again: Figure | None) -> Finding:
    """A finding after the new trials: a regression, or no more than a notice."""
    severity: Severity = "regression" if confirmed else "notice"
    return replace(finding, severity=severity, confirmed=confirmed, again=again)


def _weighed(finding: Finding, settings: GateSettings, against: Sequence[Against]) -> Finding:
    """A suspicion that nothing confirmed fails only if the settings say so and it is paired."""
    paired = any(each.paired and each.name == finding.against for each in against)
    if finding.severity == "suspicion" and settings.unconfirmed == "fail" and paired:
        return replace(finding, severity="regression")
    return finding


def _accepted(finding: Finding, accepted: Accepted) -> Finding:
    if finding.severity not in ("regression", "suspicion"):
        return finding
    for entry in accepted.current:
        if entry.covers(finding):
            says = f"{finding.says}; accepted until {entry.until}: {entry.reason}"
            return replace(finding, severity="accepted", says=says)
    return finding


# --------------------------------------------------------------------------- notes


def _expired(findings: Sequence[Finding], accepted: Accepted) -> list[str]:
    """Acceptances that have run out, where what they were about is still there."""
    return [
        f"the acceptance of {entry.label or entry.case} has expired on {entry.until}: "
        f"{entry.reason}"
        for entry in accepted.expired
        if any(entry.covers(f) and f.severity in ("regression", "suspicion") for f in findings)
    ]


def _doubts(
    against: Sequence[Against], tested: Sequence[Tested], settings: GateSettings
) -> list[str]:
    """What the comparisons could not have shown."""
    notes = []
    for each in against:
        slower = [one for one in tested if one.against is each and one.kind == "slower"]
        rounds = min((one.figure.rounds or 0 for one in slower), default=0)
        needed = rounds_needed(len(slower), settings.q)
        if slower and each.paired and rounds < needed:
            notes.append(
                f"with {rounds} rounds a single slower case among {len(slower)} cannot be told "
                f"from chance: at least {needed} rounds are needed, and 20 on a busy machine"
            )
        if not each.paired and each.same_machine and slower:
            notes.append(
                f"{each.where} was measured at another time: below "
                f"{settings.unpaired_slowdown:.0%} a slowdown is taken for drift; an environment "
                "of the same run as baseline is sharper"
            )
        if not each.same_machine:
            notes.append(
                f"{each.where} is of another machine: speed, memory and start-up are not compared"
            )
        for comparison in each.comparisons:
            refused = [r for r in comparison.refused if "status" not in r.fields]
            notes += [
                f"{refusal.b['model']} {refusal.b['backend']} {refusal.b['precision']} is not "
                f"compared with {each.where}: {refusal.reason}"
                for refusal in refused
            ]
    return notes
