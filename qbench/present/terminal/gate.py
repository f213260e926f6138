"""The verdict of the gate in the terminal."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from qbench.analysis.gate.judge import Finding, GateResult
from qbench.analysis.gate.record import headline
from qbench.present.exports.gate import TITLES, confirmation_text
from qbench.present.terminal.tables import bare_table, styled

COLOURS = {"regression": "red", "suspicion": "yellow", "accepted": "cyan", "notice": ""}
MOST = 20
"""Maximum number of notices listed; the JSON has all."""


def gate_parts(result: GateResult) -> list[Table | Text]:
    """Findings by severity, notes, and the verdict last."""
    parts: list[Table | Text] = []
    for severity, title in TITLES.items():
        found = [f for f in result.findings if f.severity == severity]
        if found:
            shown = found[:MOST] if severity == "notice" else found
            parts.append(_findings(title, shown, COLOURS[severity]))
            if len(shown) < len(found):
                parts.append(styled(f"... and {len(found) - len(shown)} more: --json has all"))
    parts += [styled(f"note  {note}", "dim") for note in result.notes]
    against = "; ".join(result.baselines) or "nothing"
    parts.append(
        styled(
            f"run   {result.run_id}: {result.compared} of {result.candidates} cases compared with "
            f"{against}"
        )
    )
    if result.confirmed_by:
        parts.append(styled(f"new trials  {result.confirmed_by}"))
    parts.append(styled(f"gate  {headline(result)}", "bold red" if result.exit_code else "bold"))
    return parts


def _findings(title: str, findings: list[Finding], colour: str) -> Table:
    table = bare_table(title)
    for header in ("case", "", "what", "found"):
        table.add_column(header, overflow="fold")
    for finding in findings:
        table.add_row(
            styled(finding.label),
            styled(finding.case_id, "dim"),
            styled(finding.kind.replace("_", " "), colour),
            styled(finding.says + confirmation_text(finding)),
        )
    return table
