"""A recommendation in the terminal: the answer, then its figures."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from qbench.analysis.recommend.ranking import Choice
from qbench.analysis.recommend.recommend import Answer, Recommendation
from qbench.present.terminal.tables import bare_table, simple_table, styled
from qbench.present.words.recommend import (
    against,
    changed,
    figure_text,
    objective,
    sentences,
    title,
    why_not,
)
from qbench.spec.question import ASPECTS


def recommendation_parts(of: Recommendation) -> list[Table | Text]:
    """For each answer: its sentences, tables of the configurations that surely keep the limits,
    that might, and that do not, and the limits that would change it."""
    return [part for answer in of.answers for part in _parts(answer, of)]


def _parts(answer: Answer, of: Recommendation) -> Iterable[Table | Text]:
    yield styled(title(answer), "bold")
    for sentence in sentences(answer, of):
        yield styled(sentence, "green" if answer.sure else "yellow")
    if answer.sure:
        yield _sure(answer, of)
    if answer.maybe:
        yield _maybe(answer, of)
    if answer.fails:
        yield _fails(answer)
    if answer.changes:
        yield styled("What would change it", "bold")
        for change in answer.changes:
            yield styled(f"  {changed(change, of)}")
    for note in answer.notes:
        yield styled(f"  {note}", "dim")
    yield styled("")


def _sure(answer: Answer, of: Recommendation) -> Table:
    by = of.question.by
    limits = [limit for limit in of.question.limits if limit.aspect != by]
    table = bare_table("Surely" if of.question.limits else "In order")
    table.add_column("configuration", overflow="fold")
    table.add_column(ASPECTS[by].words, justify="right")
    table.add_column("against the first")
    for limit in limits:
        table.add_column(limit.of.words, justify="right")
    table.add_column("front")
    table.add_column("in doubt", overflow="fold")
    for choice in answer.sure:
        figures = choice.candidate.figures
        limited = [figure_text(limit.aspect, figures[limit.aspect], of) for limit in limits]
        cells = [choice.label, objective(choice, of), against(choice), *limited]
        cells += [choice.front or "–", "; ".join(map(str, choice.doubts)) or "–"]
        table.add_row(*[styled(cell) for cell in cells])
    table.caption = (
        "front: of a short run's latency and accuracy (fidelity, where there are no labels), among "
        "all that were measured"
    )
    return table


def _maybe(answer: Answer, of: Recommendation) -> Table:
    table = bare_table("Perhaps")
    table.add_column("configuration", overflow="fold")
    table.add_column(ASPECTS[of.question.by].words, justify="right")
    table.add_column("figures that leave it open", overflow="fold")
    table.add_column("what would settle it", overflow="fold")
    for choice in answer.maybe:
        opened = [held.says for held in choice.held if held.state == "open"]
        says = "; ".join([*opened, *map(str, choice.doubts)]) or "–"
        cells = (choice.label, objective(choice, of), says, "; ".join(choice.settles))
        table.add_row(*[styled(cell) for cell in cells])
    return table


def _fails(answer: Answer) -> Table:
    """Configurations that do not keep the limits, by reason."""
    reasons: dict[str, list[Choice]] = {}
    for choice in answer.fails:
        reasons.setdefault(why_not(choice), []).append(choice)
    rows = [("; ".join(choice.label for choice in some), why) for why, some in reasons.items()]
    return simple_table(["configuration", "why"], rows, "Not")
