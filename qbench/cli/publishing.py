"""The publication check of ``qbench report --publish``: its options and its output."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qbench.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qbench.analysis.publish.checks import Finding, Publishing
    from qbench.bundle.bundle import Bundle

Redact = Annotated[
    bool,
    typer.Option("--redact", help="Leave out host names, users, paths and serial numbers."),
]
Publish = Annotated[
    bool,
    typer.Option(
        "--publish", help="Run the publishing checks; mark the page as a draft until they pass."
    ),
]
Waive = Annotated[
    list[str] | None,
    typer.Option(
        "--waive", metavar="ID=REASON", help="With --publish: waive a finding; repeatable."
    ),
]
WaiversFile = Annotated[
    Path | None,
    typer.Option("--waivers", metavar="FILE", help="With --publish: YAML of waived findings."),
]
PublishJson = Annotated[
    bool, typer.Option("--json", help="With --publish: print the findings as JSON.")
]
MOST_CASES = 6
"""Maximum number of cases that a finding names in the terminal."""


def check_publishing(
    bundles: Sequence[Bundle],
    publish: bool,
    waive: list[str] | None,
    waivers: Path | None,
    as_json: bool,
) -> Publishing | None:
    """Check bundles for publication; None without ``publish``.

    Raises:
        UserError: a waiver cannot be parsed, or one is given without ``publish``.
    """
    from qbench.analysis.publish.checks import Publishing, check
    from qbench.analysis.publish.waivers import load_waivers, parse_waiver

    if not publish:
        if waive or waivers or as_json:
            raise UserError("--waive, --waivers and --json need --publish", "Add --publish.")
        return None
    given = load_waivers(waivers) if waivers else {}
    given |= dict(map(parse_waiver, waive or ()))
    return Publishing.of(check(bundles, given), given)


def print_publishing(found: Publishing, page: Path) -> None:
    from qbench.text import printable

    for finding in found.findings:
        for line in _lines(finding):
            print(printable(line))
    for name in found.unused:
        print(f"--waive {name}: unused, nothing of that kind is missing")
    counts = f"{len(found.open)} missing, {len(found.waived)} waived"
    print(f"{page}: {'a draft' if found.open else 'ready to publish'}: {counts}")


def _lines(finding: Finding) -> list[str]:
    from qbench.text import names

    cases = names(finding.cases, MOST_CASES)
    where = f"{finding.run}: {cases}" if cases else finding.run
    remark = finding.fix if finding.waived is None else f"Waived: {finding.waived}"
    state = "missing" if finding.waived is None else "waived "
    return [f"{state}  {finding.id}: {finding.missing}", f"         {where}", f"         {remark}"]


def publishing_json(found: Publishing, page: Path) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "report": str(page),
        "draft": bool(found.open),
        "findings": [asdict(finding) for finding in found.findings],
        "unused_waivers": list(found.unused),
    }
