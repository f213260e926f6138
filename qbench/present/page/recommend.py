"""The page's section of a recommendation; it agrees with `qbench recommend`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qbench.analysis.recommend.candidates import Figure
from qbench.analysis.recommend.limits import with_unit
from qbench.analysis.recommend.ranking import Choice
from qbench.analysis.recommend.recommend import Answer, Recommendation, recommend
from qbench.present.page.options import Options
from qbench.present.words.recommend import (
    against,
    changed,
    figure_text,
    objective,
    sentences,
    title,
    unit_of,
    why_not,
)
from qbench.present.words.run import Run
from qbench.present.words.traces import rounded
from qbench.spec.question import ASPECTS

STANDINGS = {"sure": "surely", "maybe": "perhaps", "fails": "not"}


def recommended(runs: Sequence[Run], options: Options) -> Recommendation | None:
    """The recommendation for the runs; None without a question.

    Raises:
        UserError: as ``recommend``.
    """
    if options.question is None:
        return None
    return recommend([run.bundle for run in runs], options.question, options.costs)


def section(found: Recommendation | None, runs: Sequence[Run]) -> dict[str, Any] | None:
    """The section: the question, and for each answer its sentences and three lists; None without a
    recommendation."""
    if found is None:
        return None
    by = ASPECTS[found.question.by].words
    limits = [limit for limit in found.question.limits if limit.aspect != found.question.by]
    letters = {run.bundle.run_id: run.letter for run in runs}
    return {
        "asked": asked(found),
        "by": by,
        "within": bool(found.question.limits),
        "limits": [limit.of.words for limit in limits],
        "answers": [
            {
                "title": title(answer),
                "sentences": sentences(answer, found),
                "sure": [
                    {
                        **_row(choice, found, letters),
                        "figures": [
                            _split(
                                figure_text(
                                    limit.aspect, choice.candidate.figures[limit.aspect], found
                                )
                            )
                            for limit in limits
                        ],
                    }
                    for choice in answer.sure
                ],
                "maybe": [_row(choice, found, letters) for choice in answer.maybe],
                "fails": [
                    {**_row(choice, found, letters), "why": why_not(choice)}
                    for choice in answer.fails
                ],
                "changes": [changed(change, found) for change in answer.changes],
                "notes": list(answer.notes),
            }
            for answer in found.answers
        ],
    }


def asked(of: Recommendation) -> str:
    """``minimum p50 with p99 of at most 10 ms``."""
    limits = [
        f"{limit.of.words} of {'at least' if limit.of.least else 'at most'} "
        f"{limit.value:.10g} {limit.of.unit}"
        for limit in of.question.limits
    ]
    within = f" with {', '.join(limits)}" if limits else ""
    return f"minimum {ASPECTS[of.question.by].words}{within}"


def _row(choice: Choice, of: Recommendation, letters: dict[str, str]) -> dict[str, Any]:
    return {
        "label": choice.label,
        "anchor": _anchor(choice, letters),
        "objective": _split(objective(choice, of)),
        "against": against(choice),
        "front": choice.front or "–",
        "doubts": [(doubt.word, doubt.detail) for doubt in choice.doubts],
        "open": [held.says for held in choice.held if held.state == "open"],
        "settles": list(choice.settles),
    }


def _split(text: str) -> tuple[str, str]:
    """A figure, and its interval, which is shown below it."""
    value, _, ends = text.partition(" (")
    return value, f"({ends}" if ends else ""


def _anchor(choice: Choice, letters: dict[str, str]) -> str:
    """Anchor of the case's details."""
    letter = letters[choice.candidate.measured.run_id]
    return f"case-{letter}-{choice.candidate.row.case_id}"


# --------------------------------------------------------------------------- what is drawn


def chart(found: Recommendation | None, runs: Sequence[Run]) -> list[dict[str, Any]]:
    """For every answer and every figure that decides it: ``name``, ``unit``, ``limit`` (None if the
    figure is not limited), and ``points`` with ``label``, ``anchor``, ``standing``, ``value``,
    ``low``, ``high`` and ``text``."""
    if found is None:
        return []
    letters = {run.bundle.run_id: run.letter for run in runs}
    limits = {limit.aspect: limit.value for limit in found.question.limits}
    aspects = dict.fromkeys([*limits, found.question.by])
    charts = []
    for answer in found.answers:
        for aspect in aspects:
            points = _points(answer, aspect, found, letters)
            if points:
                charts.append(
                    {
                        "name": f"{ASPECTS[aspect].words}, {title(answer)}",
                        "unit": unit_of(aspect, found),
                        "limit": limits.get(aspect),
                        "least": ASPECTS[aspect].least,
                        "points": points,
                    }
                )
    return charts


def _points(
    answer: Answer, aspect: str, of: Recommendation, letters: dict[str, str]
) -> list[dict[str, Any]]:
    points = []
    for name, standing in STANDINGS.items():
        for choice in getattr(answer, name):
            figure: Figure | None = choice.candidate.figures.get(aspect)
            if figure is None or figure.estimate is None:
                continue
            value, low, high = figure.estimate
            letter = letters[choice.candidate.measured.run_id]
            points.append(
                {
                    "label": f"{letter} {choice.label}" if len(letters) > 1 else choice.label,
                    "anchor": _anchor(choice, letters),
                    "standing": standing,
                    "backend": choice.candidate.row.backend,
                    "value": rounded(value),
                    "low": rounded(low),
                    "high": rounded(high),
                    "text": with_unit(value, low, high, unit_of(aspect, of)),
                }
            )
    return points
