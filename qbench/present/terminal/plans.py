"""Plans and explanations in the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from qbench.present.terminal.cases import NotRun, reasons_table
from qbench.present.terminal.tables import simple_table, styled
from qbench.present.words.named import with_variant
from qbench.text import figure, percent

if TYPE_CHECKING:
    from qbench.analysis.explain import Explanation, Kind
    from qbench.run.plan import Plan

MAX_KINDS = 12
"""Maximum number of operator types that an explanation lists."""


def plan_tables(plan: Plan) -> tuple[Table, Table | None]:
    """The cases that a plan would run, and those that it would skip."""
    cells: dict[tuple[str, str], list[str]] = {}
    for planned in plan.runnable:
        case = planned.case
        row = cells.setdefault((case.model, case.backend), [])
        name = with_variant(case)
        if name not in row:
            row.append(name)
    counts = Counter((p.case.model, p.case.backend) for p in plan.runnable)
    rows = [(*key, ", ".join(names), counts[key]) for key, names in cells.items()]
    runs = simple_table(["model", "backend", "precisions", "cases"], rows)
    skipped = [p for p in plan.cases if p.preparation is None]
    if not skipped:
        return runs, None
    reasons = [
        NotRun(
            str(p.refused),
            p.case.backend,
            p.case.precision,
            p.case.model,
            p.skip or p.failure,
        )
        for p in skipped
    ]
    return runs, reasons_table("Not run", reasons)


def explanation_parts(found: Explanation) -> list[Table | Text]:
    """The output of ``qbench explain``: figures, operators with those of float32, layers, reasons
    and remedies."""
    row = found.row
    facts = [f"ran at {row.effective_precision}" if row.effective_precision else ""]
    facts += [row.flags or ""]
    if row.latency_p50_ms is not None:
        facts.append(f"p50 {figure(row.latency_p50_ms)} ms")
    if row.speedup is not None:
        facts.append(f"{row.speedup:.2f}x float32's speed")
    if row.accuracy_delta is not None:
        facts.append(f"accuracy {100 * row.accuracy_delta:+.1f} points")
    if row.sqnr_db is not None:
        facts.append(f"SQNR {row.sqnr_db:.1f} dB")
    parts: list[Table | Text] = [styled(found.case.label, style="bold")]
    parts.append(styled(" · ".join(fact for fact in facts if fact)))
    if found.kinds:
        parts.append(_kinds_table("Operators", found.kinds, found.ns))
    if found.twin_kinds:
        parts.append(_kinds_table("Operators in float32", found.twin_kinds, found.twin_ns))
    if found.worst_layers:
        rows = [
            (layer.name, layer.kind, f"{layer.sqnr_db:.1f}", f"{layer.drop_db:.1f}")
            for layer in found.worst_layers
        ]
        title = "Layers whose outputs differ most from float32"
        parts.append(simple_table(["layer", "kind", "SQNR dB", "lost here, dB"], rows, title))
    for note in found.notes:
        parts.append(styled(note, style="dim"))
    if not found.findings:
        parts.append(styled("Nothing stands out.", style="bold"))
    for finding in found.findings:
        parts.append(styled("Why  ", style="bold") + styled(finding.reason, style="default"))
        parts.append(styled("Try  ", style="bold") + styled(finding.advice, style="default"))
    return parts


def _kinds_table(title: str, kinds: Sequence[Kind], ns: float | None) -> Table:
    rows = [
        (
            kind.kind if kind.role != "convert" else f"{kind.kind} (converts)",
            kind.precision,
            kind.operators,
            None if kind.ns is None else figure(kind.ns / 1e6),
            percent(kind.share),
            None if kind.gmacs_per_s is None else figure(kind.gmacs_per_s),
            kind.fallback or None,
        )
        for kind in kinds[:MAX_KINDS]
    ]
    share = "share" if ns is not None else "share of operators"
    headers = ["type", "runs at", "operators", "ms", share, "GMAC/s", "outside the fast path"]
    title = title if ns is None else f"{title}: {figure(ns / 1e6)} ms in all"
    table = simple_table(headers, rows, title)
    rest = len(kinds) - len(rows)
    table.caption = f"{rest} more types, with lower shares, are left out" if rest else None
    return table
