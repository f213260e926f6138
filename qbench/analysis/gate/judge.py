"""Judge a run from bundles, without measuring.

``gate_verdict`` compares a run with its baselines and returns every finding with its figures. A
regression of a measured figure needs four conditions: its interval excludes zero, its size reaches
the threshold, new trials in another run show both again, and the combined p-value stands among all
cases (``qbench.analysis.gate.figures``). Without new trials it is a suspicion. ``qbench.run.gate``
finds the bundles and runs the new trials.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from qbench.analysis.gate.baselines import (
    Against,
    Evidence,
    befores_of,
    beside,
    beside_again,
    choose,
)
from qbench.analysis.gate.figures import Tested, adjusted_twice, look_at, worse
from qbench.analysis.gate.findings import (
    Before,
    Figure,
    Finding,
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
from qbench.bundle.bundle import Bundle
from qbench.errors import MachineryError
from qbench.spec.accepted import Acceptance, Accepted
from qbench.spec.columns import CaseRow
from qbench.spec.gate import GateSettings, Kind
from qbench.spec.suite import MIN_ROUNDS

__all__ = [
    "Evidence", "Figure", "Finding", "GateResult", "Judged", "Night", "Severity", "gate_verdict",
]  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """One case of the run, as lists of all cases show it."""

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
        baselines: in words.
        candidates: number of cases outside the baselines' environments.
        compared: number of candidates that were compared with a baseline.
        invalid: why the run is invalid; None if it is valid.
        notes: further remarks for the reader.
        confirmed_by: the run of the new trials; None if there is none.
    """

    run_id: str
    suite: str
    baselines: tuple[str, ...]
    cases: tuple[Judged, ...]
    candidates: int
    compared: int
    findings: tuple[Finding, ...]
    invalid: str | None = None
    notes: tuple[str, ...] = ()
    confirmed_by: str | None = None

    @property
    def exit_code(self) -> int:
        """3 for an invalid run, 1 for a regression or a failed case, else 0."""
        if self.invalid is not None:
            return MachineryError.exit_code
        return 1 if self.of("regression") else 0

    def of(self, severity: Severity) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity == severity]

    @property
    def to_confirm(self) -> list[str]:
        """Ids of the cases that new trials could confirm or refute, and of their counterparts."""
        found = [f for f in self.findings if can_be_confirmed(f) and f.confirmed is None]
        ids = [case_id for f in found for case_id in (f.case_id, f.counterpart) if case_id]
        return list(dict.fromkeys(ids))


def gate_verdict(bundle: Bundle, settings: GateSettings, evidence: Evidence) -> GateResult:
    """Judge a complete run.

    Raises:
        UserError: a bundle is damaged, a baseline is missing, or a limit is on a column of text.
        MachineryError: the run is incomplete.
    """
    if not bundle.complete:
        raise MachineryError(
            f"{bundle.path} is incomplete: the run was interrupted",
            "Give the run's command again, which goes on from there, and then the gate's.",
        )
    night = Night(bundle)
    last = next(iter(evidence.earlier), None)
    baselines, notes = choose(night, settings, last)
    against = [beside(bundle, night, baseline, evidence) for baseline in baselines]
    befores = befores_of(against, last)
    tested = [one for each in against for one in look_at(each, settings)]
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
        findings = _confirmed(findings, against, tested, settings, evidence)
    findings = [_weighed(finding, settings) for finding in findings]
    findings = [_accepted(finding, evidence.accepted) for finding in findings]
    return GateResult(
        run_id=bundle.run_id,
        suite=bundle.begin.suite,
        baselines=tuple(f"{each.name}: {each.where}" for each in against),
        cases=tuple(_listed(night, row) for row in night.rows.values()),
        candidates=sum(row.environment not in exempt for row in night.rows.values()),
        compared=len({pair.b.case_id for each in against for pair in each.pairs}),
        findings=tuple(sorted(findings, key=lambda f: _ORDER.index(f.severity))),
        invalid=_invalid(night, befores, against, settings),
        notes=(
            *notes,
            *_doubts(against, tested, settings),
            *_changes(against, findings),
            *_expired(findings, evidence.accepted),
        ),
        confirmed_by=evidence.confirmation.run_id if evidence.confirmation else None,
    )


MOST_CHANGES = 8
"""Maximum number of changed facts in a note; `qbench compare` lists all."""
_ORDER: tuple[Severity, ...] = ("regression", "suspicion", "accepted", "notice")


def _listed(night: Night, row: CaseRow) -> Judged:
    return Judged(
        row.case_id,
        night.label(row.case_id),
        row.environment,
        row.status or "",
        row.reason,
        row.latency_p50_ms,
    )


# --------------------------------------------------------------------------- findings


def _invalid(
    night: Night,
    befores: Mapping[str, Sequence[Before]],
    against: Sequence[Against],
    settings: GateSettings,
) -> str | None:
    """Return why the run is invalid: too many cases failed, or a baseline has no case in common
    with it, for instance because an environment could not be built."""
    failed = len(broken(night, befores))
    runs = failed + sum(row.status == "ok" for row in night.rows.values())
    if failed > settings.broken_share * runs:
        return (
            f"{failed} of its {runs} cases are broken, more than {settings.broken_share:.0%}: "
            "that is the machine or the set-up, and no regression of a case"
        )
    for each in against:
        if not each.pairs:
            reasons = [r.reason for c in each.comparisons for r in c.refused]
            told = f": {reasons[0]}" if reasons else ""
            return f"none of its cases can be compared with {each.where}{told}"
    return None


def _outputs(night: Night, against: Sequence[Against], settings: GateSettings) -> list[Finding]:
    """Report equal artifacts whose outputs differ."""
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
    tested: Sequence[Tested],
    settings: GateSettings,
    evidence: Evidence,
) -> list[Finding]:
    """Confirm or refute findings by the new trials, as far as these cover them."""
    assert evidence.confirmation is not None
    again = Night(evidence.confirmation)
    seen = _seen_again(findings, against, tested, again, settings, evidence)
    limits = {f.case_id: f for f in over_limit(again, settings, ()) if f.severity == "regression"}
    found: list[Finding] = []
    for finding in findings:
        row = again.rows.get(finding.case_id)
        if not can_be_confirmed(finding) or row is None:
            found.append(finding)
        elif row.status != "ok":
            says = f"in the confirming run {again.bundle.run_id} it was {row.status}: "
            says += row.reason or ""
            found += [finding, again.finding(row, "failing", "regression", says)]
        elif finding.kind == "limit":
            over = limits.get(finding.case_id)
            found.append(_settled(finding, over is not None, over.figure if over else None))
        else:
            outcome = seen.get((finding.against, finding.case_id, finding.kind))
            found.append(_settled(finding, *outcome) if outcome else finding)
    return found


def _seen_again(
    findings: Sequence[Finding],
    against: Sequence[Against],
    tested: Sequence[Tested],
    again: Night,
    settings: GateSettings,
    evidence: Evidence,
) -> dict[tuple[str | None, str, Kind], tuple[bool, Figure]]:
    """Return, by baseline, case and kind of each suspicion, whether both runs together make it a
    regression, and the figure of the confirming run."""
    found: dict[tuple[str | None, str, Kind], tuple[bool, Figure]] = {}
    suspicions = [finding for finding in findings if can_be_confirmed(finding)]
    wanted: set[tuple[str, Kind]] = {(one.case_id, one.kind) for one in suspicions}
    for each in against:
        kinds: set[Kind] = {f.kind for f in suspicions if f.against == each.name}
        if not kinds:
            continue
        newly = look_at(beside_again(each, again, evidence), settings, only=wanted)
        for kind in kinds:
            family = [one for one in tested if one.against is each and one.kind == kind]
            new = {one.pair.b.case_id: one for one in newly if one.kind == kind}
            second = {
                place: new[one.pair.b.case_id].p_value
                for place, one in enumerate(family)
                if one.suspicious and one.pair.b.case_id in new
            }
            p_values = adjusted_twice([one.p_value for one in family], second)
            for place in second:
                case_id = family[place].pair.b.case_id
                p_value, one = p_values[place], new[case_id]
                stands = p_value is None or p_value <= settings.q
                figure = replace(one.figure, adjusted_p=p_value)
                found[each.name, case_id, kind] = (one.suspicious and stands, figure)
    return found


def _settled(finding: Finding, confirmed: bool, again: Figure | None) -> Finding:
    """Return the finding after new trials: a regression if confirmed, else a notice."""
    severity: Severity = "regression" if confirmed else "notice"
    return replace(finding, severity=severity, confirmed=confirmed, again=again)


def _weighed(finding: Finding, settings: GateSettings) -> Finding:
    """Make an unconfirmed suspicion a regression if the settings require it, it is paired, and its
    adjusted p-value stands by itself."""
    figure = finding.figure
    stands = figure is not None and (figure.adjusted_p or 0.0) <= settings.q
    paired = finding.counterpart is not None
    if finding.severity == "suspicion" and settings.unconfirmed == "fail" and paired and stands:
        return replace(finding, severity="regression")
    return finding


def _accepted(finding: Finding, accepted: Accepted) -> Finding:
    if finding.severity not in ("regression", "suspicion"):
        return finding
    for entry in accepted.current:
        if _covers(entry, finding):
            says = f"{finding.says}; accepted until {entry.until}: {entry.reason}"
            return replace(finding, severity="accepted", says=says)
    return finding


def _covers(entry: Acceptance, finding: Finding) -> bool:
    """Whether an acceptance, expired or not, applies to the finding."""
    if finding.case_id != entry.case or (entry.kinds and finding.kind not in entry.kinds):
        return False
    return entry.most is None or finding.figure is None or finding.figure.value <= entry.most


# --------------------------------------------------------------------------- notes


def _expired(findings: Sequence[Finding], accepted: Accepted) -> list[str]:
    """Return notes on expired acceptances whose findings persist."""
    return [
        f"the acceptance of {entry.label or entry.case} has expired on {entry.until}: "
        f"{entry.reason}"
        for entry in accepted.expired
        if any(_covers(entry, f) and f.severity in ("regression", "suspicion") for f in findings)
    ]


def _doubts(
    against: Sequence[Against], tested: Sequence[Tested], settings: GateSettings
) -> list[str]:
    """Return notes on the limits of the comparisons."""
    notes: list[str] = []
    for each in against:
        slower = [one for one in tested if one.against is each and one.kind == "slower"]
        rounds = min((one.figure.rounds or 0 for one in slower), default=0)
        if slower and rounds < MIN_ROUNDS:
            notes.append(
                f"some cases have {rounds} rounds, too few to find anything against {each.where}: "
                f"at least {MIN_ROUNDS} are needed, and 20 to find 3 % on most nights"
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
                f"{refusal.b.model} {refusal.b.backend} {refusal.b.precision} is not "
                f"compared with {each.where}: {refusal.reason}"
                for refusal in refused
            ]
    return notes


def _changes(against: Sequence[Against], findings: Sequence[Finding]) -> list[str]:
    """Return changes of machine, software and settings since a baseline that is better."""
    notes: list[str] = []
    for each in against:
        worse_than = any(f.against == each.name and f.severity != "notice" for f in findings)
        for comparison in each.comparisons if worse_than else ():
            seen = comparison.comparability
            changed = [str(difference) for difference in seen.differences] if seen else []
            shown = "; ".join(changed[:MOST_CHANGES])
            more = len(changed) - MOST_CHANGES
            if changed:
                shown += f"; and {more} more" if more > 0 else ""
                notes.append(f"{each.where} against this one: {shown}")
    return notes
