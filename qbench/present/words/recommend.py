"""A recommendation as sentences, and as plain values for JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

from qbench.analysis.recommend.candidates import Figure
from qbench.analysis.recommend.limits import Held, limit_text, with_unit
from qbench.analysis.recommend.ranking import Choice
from qbench.analysis.recommend.recommend import Answer, Recommendation
from qbench.analysis.recommend.sensitivity import Change
from qbench.spec.question import ASPECTS
from qbench.text import count, figure

NAMED = 4
"""Maximum number of configurations that a sentence names."""


def title(answer: Answer) -> str:
    """``mobilenet (single-stream, batch 1)``."""
    issued = " ".join(filter(None, [answer.scenario, answer.scenario_options]))
    return f"{answer.model} ({issued}, batch {answer.batch_size})"


def sentences(answer: Answer, of: Recommendation) -> list[str]:
    """The answer in one to three sentences."""
    if not answer.sure:
        return [_none(answer)]
    if not answer.best:
        words = ASPECTS[of.question.by].words
        keep = "could be chosen" if not of.question.limits else "surely keep the limits"
        return [f"None has a figure of {words}, so nothing comes first; {len(answer.sure)} {keep}."]
    return [*_first(answer, of), *_other_pools(answer, of), *_better(answer, of)]


def _none(answer: Answer) -> str:
    if answer.nearest is None:
        return "Nothing was measured."
    might = f"; {count(len(answer.maybe), 'configuration')} might" if answer.maybe else ""
    near = answer.nearest
    says = "; ".join(
        [*(h.says for h in near.held if h.state != "kept"), *(d.word for d in near.doubts)]
    )
    settles = f" (to be settled: {'; '.join(near.settles)})" if near.settles else ""
    return f"Nothing surely keeps the limits{might}. Nearest is {near.label}: {says}{settles}."


def _first(answer: Answer, of: Recommendation) -> Iterable[str]:
    best, words = answer.best, ASPECTS[of.question.by].words
    if len(best) == 1:
        yield _single(answer, best[0], of)
        return
    named = "; ".join(f"{c.label}, {objective(c, of)}" for c in best[:NAMED])
    more = f"; and {len(best) - NAMED} more" if len(best) > NAMED else ""
    surely = "surely keep every limit and " if of.question.limits else ""
    yield f"{len(best)} {surely}cannot be told apart in {words}: {named}{more}.{_doubtful(best)}"


def _single(answer: Answer, best: Choice, of: Recommendation) -> str:
    words = ASPECTS[of.question.by].words
    surely = "surely keeps every limit, and has" if of.question.limits else "has"
    doubt = ", by figures in doubt," if best.doubts else ""
    others = [c for c in answer.sure if c.pool == best.pool and c is not best]
    if others:
        least = others[0].more[1] if others[0].more else None
        far = "" if least is None else f", at least {figure(100 * least)} % more"
        rest = f"; next is {others[0].label}{far}"
    else:
        rest = "; no other surely does" if of.question.limits else "; no other was measured"
    lowest = f"{surely}{doubt} the lowest {words}, {objective(best, of)}"
    return f"{best.label} {lowest}{rest}.{_doubtful([best])}"


def _doubtful(choices: Sequence[Choice]) -> str:
    named = [f"{c.label}: {', '.join(d.word for d in c.doubts)}" for c in choices if c.doubts][
        :NAMED
    ]
    return f" In doubt: {'; '.join(named)}." if named else ""


def _other_pools(answer: Answer, of: Recommendation) -> Iterable[str]:
    """The first configurations of the groups that cannot be ranked with the best."""
    lead = answer.best[0].pool
    pools = {c.pool: None for c in answer.sure if c.pool not in (lead, None)}
    for pool in pools:
        first = next(c for c in answer.sure if c.pool == pool)
        yield (
            f"Not ranked with these: {first.label}, {objective(first, of)}, first by "
            f"{first.candidate.row.energy_method}."
        )


def _better(answer: Answer, of: Recommendation) -> Iterable[str]:
    """The configurations that might keep the limits, and would then rank first."""
    lead = answer.best[0]
    better = [c for c in answer.maybe if c.pool == lead.pool and c.sort_key < lead.sort_key]
    if better:
        might = better[0]
        settles = "; ".join(might.settles)
        yield (
            f"{count(len(better), 'configuration')} might keep the limits and come before: "
            f"{might.label}, {objective(might, of)} (to be settled: {settles})."
        )


def objective(choice: Choice, of: Recommendation) -> str:
    """The objective with its interval: ``1.234 ms (1.210 … 1.258)``."""
    return figure_text(of.question.by, choice.objective, of)


def unit_of(aspect: str, of: Recommendation) -> str:
    unit = ASPECTS[aspect].unit
    return f"{of.currency or ''} {unit}".strip() if aspect == "cost" else unit


def figure_text(aspect: str, found: Figure | None, of: Recommendation) -> str:
    if found is None or found.estimate is None:
        return "–"
    text = with_unit(*found.estimate, unit_of(aspect, of))
    return f"{text} {found.of}" if found.of else text


def against(choice: Choice) -> str:
    """The objective relative to the first configuration."""
    if choice.pool is None:
        return "–"
    if choice.more is None:
        return "first" if choice.first else "–"
    value, least = choice.more
    if choice.first:
        return "within noise of the first"
    return f"+{figure(100 * value)} %" + (
        "" if least is None else f", at least {100 * least:.1f} %"
    )


def changed(change: Change, of: Recommendation) -> str:
    """``with accuracy drop below 0.4 pp it would be openvino fp32 (p50 2.1 ms)``."""
    limit, least = change.limit.of, change.limit.of.least
    up = (change.direction == "looser") != least
    value = limit_text(_rounded(change.value, up), limit.unit)
    if change.direction == "stricter":
        begin = f"with {limit.words} {'above' if least else 'below'} {value}"
    else:
        begin = f"with {limit.words} of {value} or {'less' if least else 'more'}"
    if change.choice is None:
        return f"{begin} nothing surely keeps the limits"
    objective_text = f"{ASPECTS[of.question.by].words} {objective(change.choice, of)}"
    if change.against is not None and not change.apart:
        far = ", within noise of the first"
    elif change.against is not None:
        word = "more" if change.against > 0 else "less"
        far = f", {figure(100 * abs(change.against))} % {word}"
    else:
        far = ""
    return f"{begin} it would be {change.choice.label} ({objective_text}{far})"


def _rounded(value: float, up: bool) -> float:
    """Rounded to three digits, in the direction in which the statement stays true."""
    if value == 0:
        return 0.0
    exact = Decimal(f"{value:.9g}")  # without floating-point residue
    step = Decimal(1).scaleb(exact.adjusted() - 2)
    rounding = ROUND_CEILING if up else ROUND_FLOOR
    return float((exact / step).to_integral_value(rounding) * step)


def why_not(choice: Choice) -> str:
    """Why a configuration fails."""
    if not choice.is_measured:
        return f"not measured: {choice.status}: {choice.candidate.row.reason}"
    return "; ".join(held.says for held in choice.broken)


# --------------------------------------------------------------------------- JSON


def to_json(of: Recommendation) -> dict[str, Any]:
    """All of it as plain values; figures in the units that their aspects have."""
    question = of.question
    return {
        "question": {
            "limits": [_limit(limit.aspect, limit.value) for limit in question.limits],
            "minimize": question.minimize,
            "rate_ips": question.rate_ips,
        },
        "currency": of.currency,
        "is_sure": of.is_sure,
        "answers": [_answer(answer, of) for answer in of.answers],
    }


def _limit(aspect: str, value: float) -> dict[str, Any]:
    limit = ASPECTS[aspect]
    return {
        "aspect": aspect,
        "value": value,
        "unit": limit.unit,
        "least": limit.least,
    }


def _answer(answer: Answer, of: Recommendation) -> dict[str, Any]:
    return {
        "model": answer.model,
        "scenario": answer.scenario,
        "scenario_options": answer.scenario_options,
        "batch_size": answer.batch_size,
        "runs": list(answer.runs),
        "says": " ".join(sentences(answer, of)),
        **{
            name: [_choice(choice) for choice in getattr(answer, name)]
            for name in ("sure", "maybe", "fails")
        },
        "nearest": None if answer.nearest is None else _choice(answer.nearest),
        "changes": [
            {
                **_limit(change.limit.aspect, change.value),
                "direction": change.direction,
                "case_id": None if change.choice is None else _id(change.choice),
                "label": None if change.choice is None else change.choice.label,
                "against": change.against,
                "apart": change.apart,
                "says": changed(change, of),
            }
            for change in answer.changes
        ],
        "notes": list(answer.notes),
    }


def _id(choice: Choice) -> str:
    return str(choice.candidate.row.case_id)


def _choice(choice: Choice) -> dict[str, Any]:
    row, machine = choice.candidate.row, choice.candidate.measured.machine
    return {
        "label": choice.label,
        "case_id": _id(choice),
        "run_id": choice.candidate.measured.run_id,
        "machine": machine.name,
        "host_id": machine.key,
        "backend": row.backend,
        "precision": row.precision,
        "variant": row.variant,
        "environment": row.environment,
        "recipe": row.recipe,
        "device": row.device,
        "threads": row.threads,
        "streams": row.streams,
        "status": choice.status,
        "reason": row.reason,
        "figures": {name: _figure(found) for name, found in choice.candidate.figures.items()},
        "limits": [_held(held) for held in choice.held],
        "objective": None if choice.objective is None else _figure(choice.objective),
        "pool": choice.pool,
        "first": choice.first,
        "more": None if choice.more is None else choice.more[0],
        "more_at_least": None if choice.more is None else choice.more[1],
        "doubts": [str(doubt) for doubt in choice.doubts],
        "settles": list(choice.settles),
        "front": choice.front,
    }  # fmt: skip


def _held(held: Held) -> dict[str, Any]:
    return {
        "aspect": held.limit.aspect,
        "state": held.state,
        "worst": held.worst,
        "excess": held.excess,
        "says": held.says,
        "settles": held.settles,
    }


def _figure(found: Figure) -> dict[str, Any]:
    value, low, high = found.estimate or (None, None, None)
    return {
        "value": value,
        "low": low,
        "high": high,
        "rounds": found.rounds or None,
        "of": found.of or None,
        "exact": found.exact,
        "reason": found.reason or None,
    }
