"""Whether a report may be published: the options of ``qbench report --publish``, and its words."""

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
    typer.Option("--redact", help="Leave out host and user names, folders, addresses, serials."),
]
Publish = Annotated[
    bool,
    typer.Option("--publish", help="Check what a stranger would miss; a draft until it is there."),
]
Waive = Annotated[
    list[str] | None,
    typer.Option(
        "--waive", metavar="ID=REASON", help="With --publish: what may stay, and why; repeatable."
    ),
]
WaiversFile = Annotated[
    Path | None, typer.Option("--waivers", help="With --publish: a YAML of what may stay, and why.")
]
PublishJson = Annotated[
    bool, typer.Option("--json", help="With --publish: print the findings as JSON on stdout.")
]
MOST_CASES = 6
"""So many cases of a finding are named in the terminal."""


def check_publishing(
    bundles: Sequence[Bundle],
    publish: bool,
    waive: list[str] | None,
    waivers: Path | None,
    as_json: bool,
) -> Publishing | None:
    """What is missing in bundles; None where nobody asks.

    Raises:
        UserError: a waiver is none, or one is given and nobody asks.
    """
    from qbench.analysis.publish.checks import Publishing, check
    from qbench.analysis.publish.waivers import load_waivers, parse_waiver

    if not publish:
        if waive or waivers or as_json:
            raise UserError("--waive, --waivers and --json go with --publish", "Add --publish.")
        return None
    given = load_waivers(waivers) if waivers else {}
    given |= dict(map(parse_waiver, waive or ()))
    return Publishing.of(check(bundles, given), given)


def print_publishing(found: Publishing, page: Path) -> None:
    from qbench.present.terminal import printable

    for finding in found.findings:
        for line in _lines(finding):
            print(printable(line))
    for name in found.unused:
        print(f"--waive {name}: waives nothing, as nothing of that kind is missing")
    counts = f"{len(found.open)} missing, {len(found.waived)} waived"
    print(f"{page}: {'a draft' if found.open else 'fit to be published'}: {counts}")


def _lines(finding: Finding) -> list[str]:
    cases = list(finding.cases[:MOST_CASES])
    if len(finding.cases) > MOST_CASES:
        cases.append(f"and {len(finding.cases) - MOST_CASES} more")
    where = f"{finding.run}: {', '.join(cases)}" if cases else finding.run
    told = finding.fix if finding.waived is None else f"Waived: {finding.waived}"
    state = "missing" if finding.waived is None else "waived "
    return [f"{state}  {finding.id}: {finding.missing}", f"         {where}", f"         {told}"]


def publishing_json(found: Publishing, page: Path) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "report": str(page),
        "draft": bool(found.open),
        "findings": [asdict(finding) for finding in found.findings],
        "unused_waivers": list(found.unused),
    }
