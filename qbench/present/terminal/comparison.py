"""A comparison as text and a table: for the terminal, and as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from qbench.analysis.compare.compare import FALSE_SHARE, Comparison, Pair
from qbench.analysis.compare.predictions import Delta
from qbench.analysis.statistics.verdict import Rule, Verdict
from qbench.analysis.table.trials import Ratio
from qbench.present.terminal.tables import bare_table, fitting, styled
from qbench.present.words.named import varying_conditions, with_variant
from qbench.spec.columns import CaseRow
from qbench.text import count, figure, markdown, percent

SHOWN_FIELDS = 8
"""Maximum number of fields listed on which two machines differ; JSON has all."""
FEWEST_ROUNDS = next(n for n in range(1, 99) if 2 * 0.5**n < Rule().level)
"""With fewer rounds, the minimum p-value of the sign test is not below the rule's level."""
_CONDITIONS = (
    "environment", "scenario", "scenario_options", "batch_size", "threads", "streams", "recipe",
    "device",
)  # fmt: skip
_WORDS = {Verdict.REGRESSION: "slower", Verdict.IMPROVEMENT: "faster"}
_STYLES = {"slower": "red", "faster": "green"}


class _Column(NamedTuple):
    """A column of the table of pairs.

    ``rank``: order in which columns are left out on a narrow terminal, the highest first; 0: never.
    """

    title: str
    cell: Callable[[Pair], str | None]
    rank: int = 0
    is_word: bool = False


# --------------------------------------------------------------------------- two forms


def comparison_parts(comparison: Comparison, console: Console) -> list[Table | Text]:
    """Text and table for the terminal."""
    columns = _columns(comparison)

    def table_of(shown: Sequence[_Column]) -> Table:
        table = bare_table()
        for column in shown:
            side = "left" if column.is_word else "right"
            table.add_column(column.title, justify=side, no_wrap=True)
        for cells in _cells(comparison, shown):
            table.add_row(*[styled(cell, _STYLES.get(cell.split(" ")[0], "")) for cell in cells])
        return table

    ranks = [column.rank for column in columns]
    table = fitting(table_of, columns, ranks, console, "--format markdown")
    return [
        *[styled(line) for line in _head(comparison)],
        table,
        *[styled(line, style="dim") for line in _notes(comparison)],
    ]


def comparison_markdown(comparison: Comparison) -> str:
    """The same as Markdown, with all text from bundles escaped."""
    columns = _columns(comparison)
    lines = ["- " + markdown(line) for line in _head(comparison)] + [""]
    lines.append("| " + " | ".join(markdown(column.title) for column in columns) + " |")
    lines.append(
        "|" + "|".join(" --- " if column.is_word else " ---: " for column in columns) + "|"
    )
    for row in _cells(comparison, columns):
        lines.append("| " + " | ".join(markdown(cell) for cell in row) + " |")
    notes = _notes(comparison)
    lines += ["", *["- " + markdown(note) for note in notes]] if notes else []
    return "\n".join(lines) + "\n"


# --------------------------------------------------------------------------- what is compared


def _head(comparison: Comparison) -> list[str]:
    """The two sides, the claims that they allow, and the number of pairs."""
    pairs, a, b = comparison.pairs, comparison.a_label, comparison.b_label
    if comparison.column is not None:
        lines = [f"{comparison.column} A: {a}, B: {b}, in {comparison.run_id}"]
        rounds = sorted({pair.decision.rounds for pair in pairs if pair.decision is not None})
        lines.append(
            f"Paired by round ({_span(rounds)}). Verdicts come from a low percentile and from "
            "stalls, by the sign test over all pairs (at most "
            f"{percent(FALSE_SHARE)} of the alarms false)."
        )
    else:
        lines = [
            f"A: {a}",
            f"B: {b}",
            "Not paired: two runs, one after the other. Of 100 such comparisons of equal versions, "
            "20 to 48 show a difference, so there are intervals but no verdicts. For verdicts, "
            "measure both in the same rounds of one run.",
        ]
    lines += [*_machines(comparison), *_versions(pairs)]
    same = sum(pair.claim == "same artifact" for pair in pairs)
    lines.append(f"{count(len(pairs), 'pair')}: {same} of the same artifact{_only_work(pairs)}")
    lines.append("Ratios are B over A, with 95 % intervals.")
    return lines


def _machines(comparison: Comparison) -> list[str]:
    found = comparison.comparability
    if found is None:
        return []
    shown = [str(difference) for difference in found.differences[:SHOWN_FIELDS]]
    more = len(found.differences) - len(shown)
    shown += [f"and {more} more (--json has all)"] if more else []
    line = found.level[0].upper() + found.level[1:]
    line += f"; they differ in {'; '.join(shown)}" if shown else ", with the same set-up"
    against = found.reasons_against("regression")
    lines = [line]
    if against:
        lines.append(
            "Valid for a choice, but not for detecting regressions: "
            + "; ".join(against[:3])
            + ("; ..." if len(against) > 3 else "")
        )
    return lines


def _versions(pairs: Sequence[Pair]) -> Iterable[str]:
    """Runtimes whose versions differ."""
    changed = {
        f"{a.backend} {a.backend_version} → {b.backend_version}": None
        for a, b in ((pair.a, pair.b) for pair in pairs)
        if a.backend == b.backend and a.backend_version != b.backend_version
    }
    if changed:
        yield f"Versions: {', '.join(changed)}"


def _only_work(pairs: Sequence[Pair]) -> str:
    rest = [pair for pair in pairs if pair.claim == "same work"]
    if not rest:
        return ""
    fields = dict.fromkeys(name for pair in rest for name in pair.differs)
    return f", {len(rest)} only of the same work (different {', '.join(fields)})"


def _span(rounds: Sequence[int]) -> str:
    if not rounds:
        return "none in common"
    return " to ".join(map(str, sorted({rounds[0], rounds[-1]}))) + " each"


# --------------------------------------------------------------------------- the table


def _columns(comparison: Comparison) -> list[_Column]:
    """The columns that are not empty."""
    pairs = comparison.pairs
    conditions = varying_conditions(_CONDITIONS, [pair.b for pair in pairs]) if pairs else []
    names = [
        _Column(name, lambda pair, name=name: _name(pair, name), is_word=True)
        for name in ("model", "backend", "precision")
    ]
    names += [
        _Column(name.replace("_", " "), lambda pair, name=name: _name(pair, name), 0, True)
        for name in conditions
        if name != comparison.column
    ]
    latency = "/".join(dict.fromkeys(pair.percentile for pair in pairs if pair.percentile))
    both = {pair.claim for pair in pairs} == {"same artifact", "same work"}
    figures = [
        _Column(latency or "latency", lambda pair: _ratio(pair.latency)),
        _Column("shows", _shows, is_word=True),
        _Column("p50", lambda pair: _ratio(pair.p50), 3),
        _Column("p99", lambda pair: _ratio(pair.p99), 7),
        _Column("items/s", lambda pair: _ratio(pair.throughput), 4),
        _Column("memory", lambda pair: _ratio(pair.memory), 5),
        _Column("size", lambda pair: _ratio(pair.size), 6),
        _Column("load", lambda pair: _ratio(pair.load), 8),
        _Column("energy", lambda pair: _ratio(pair.energy), 7),
        _Column("accuracy Δ pp", lambda pair: _points(pair.accuracy_delta), 1),
        _Column("SQNR dB", _fidelity, 6),
        _Column("outputs", lambda pair: "changed" if pair.outputs_changed else None, 2, True),
    ]
    figures += [_Column("same", lambda pair: pair.claim[5:], 2, True)] if both else []
    return names + [one for one in figures if any(one.cell(pair) is not None for pair in pairs)]


def _cells(comparison: Comparison, columns: Sequence[_Column]) -> list[list[str]]:
    return [[column.cell(pair) or "–" for column in columns] for pair in comparison.pairs]


def _name(pair: Pair, name: str) -> str:
    if name == "precision":
        return _both(with_variant(pair.a), with_variant(pair.b))
    return _both(getattr(pair.a, name), getattr(pair.b, name))


def _both(*values: object) -> str:
    """The common value, or A's and B's."""
    a, b = ("–" if value is None else str(value) for value in values)
    return a if a == b else f"{a} → {b}"


def _ratio(ratio: Ratio | None) -> str | None:
    if ratio is None:
        return None
    if ratio.low is None or ratio.high is None:
        return _times(ratio.value)
    return f"{_times(ratio.value)} ({_times(ratio.low)} to {_times(ratio.high)})"


def _times(value: float) -> str:
    """Near 1 to 0.1 %, else to three digits."""
    return f"{value:.3f}" if 0.5 <= value < 2 else figure(value)


def _shows(pair: Pair) -> str | None:
    """The verdict; for unpaired cases, the place of the interval."""
    if pair.verdict is not None and pair.decision is not None:
        word = _WORDS.get(pair.verdict, pair.verdict.value)
        return f"{word} (stalls)" if pair.decision.because == ("stalls",) else word
    ratio = pair.latency
    if ratio is None:
        return None
    if ratio.low is None or ratio.high is None:
        return "too few trials"
    if ratio.low <= 1 <= ratio.high:
        return "holds 1"
    return "above 1" if ratio.low > 1 else "below 1"


def _points(delta: Delta | None) -> str | None:
    if delta is None:
        return None
    if delta.low is None or delta.high is None:
        return f"{100 * delta.value:+.2f}" + ("" if delta.paired else " (not paired)")
    return f"{100 * delta.value:+.2f} ({100 * delta.low:+.2f} to {100 * delta.high:+.2f})"


def _fidelity(pair: Pair) -> str | None:
    a, b = (None if row.sqnr_db is None else f"{row.sqnr_db:.0f}" for row in (pair.a, pair.b))
    return None if a is b is None else _both(a, b)


# --------------------------------------------------------------------------- notes


def _notes(comparison: Comparison) -> list[str]:
    """Doubts about the figures, and cases that were left out."""
    return [
        *_few_rounds(comparison),
        *_noise(comparison.pairs),
        *_energy(comparison.pairs),
        *_outputs(comparison.pairs),
        *_left_out(comparison),
    ]


def _few_rounds(comparison: Comparison) -> Iterable[str]:
    few = [p for p in comparison.pairs if p.decision and p.decision.rounds < FEWEST_ROUNDS]
    if few:
        yield (
            f"{count(len(few), 'pair')} with fewer than {FEWEST_ROUNDS} rounds: too few for a "
            "verdict"
        )
    apart = sum(comparison.paired and pair.decision is None for pair in comparison.pairs)
    if apart:
        yield f"{count(apart, 'pair')} without a round in common: no ratios of speed"


def _noise(pairs: Sequence[Pair]) -> Iterable[str]:
    rows = {row.case_id: row for pair in pairs for row in (pair.a, pair.b) if row.noisy}
    if rows:
        reason, _ = Counter(row.noise_reason for row in rows.values()).most_common(1)[0]
        yield f"{count(len(rows), 'case')} disturbed while measured, such as: {reason}"


def _energy(pairs: Sequence[Pair]) -> Iterable[str]:
    methods = Counter(pair.b.energy_method for pair in pairs if pair.energy is not None)
    for method, number in methods.items():
        yield f"energy, {count(number, 'pair')}: {method}"
    missing = Counter(
        pair.energy_reason
        for pair in pairs
        if pair.energy_reason and pair.a.energy_method and pair.b.energy_method
    )
    for reason, number in missing.items():
        yield f"no ratio of energy, {count(number, 'pair')}: {reason}"


def _outputs(pairs: Sequence[Pair]) -> Iterable[str]:
    changed = sum(pair.outputs_changed is True for pair in pairs)
    if changed:
        yield f"{count(changed, 'pair')} of the same artifact with other outputs: see 'outputs'"
    unpaired = sum(p.accuracy_delta is not None and not p.accuracy_delta.paired for p in pairs)
    if unpaired:
        yield (
            f"{count(unpaired, 'pair')} whose accuracies are not compared item by item: their "
            "predictions or labels are missing, or of other items"
        )


def _left_out(comparison: Comparison) -> Iterable[str]:
    for side, rows in (("A", comparison.only_a), ("B", comparison.only_b)):
        if rows:
            yield f"only in {side}, {count(len(rows), 'case')}: {_labels(rows)}"
    reasons: dict[str, list[CaseRow]] = {}
    for refusal in comparison.refused:
        reasons.setdefault(refusal.reason, []).append(refusal.a)
    for reason, rows in reasons.items():
        yield f"not compared, {count(len(rows), 'case')}: {_labels(rows)}: {reason}"


def _labels(rows: Sequence[CaseRow]) -> str:
    labels = [f"{row.model} {row.backend} {row.precision}" for row in rows]
    shown = list(dict.fromkeys(labels))
    return ", ".join(shown[:5]) + (", ..." if len(shown) > 5 else "")
