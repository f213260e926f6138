"""The answer in three sentences: what was compared, the fastest case, and its price in accuracy.

A fastest case, or a faster machine, is named only where intervals do not overlap.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from qbench.analysis.compare.machines import machines_of
from qbench.analysis.quality.plausible import FAR
from qbench.present.page.tables import otherwise
from qbench.present.words import cells
from qbench.present.words.named import PageCase
from qbench.present.words.ranking import Verdict
from qbench.present.words.run import Run
from qbench.spec.precisions import IN_NAME_ONLY, QUANTIZED_IN_NAME_ONLY, REFERENCE
from qbench.text import count, figure, names

MOST_NAMED = 3


def answer(
    runs: Sequence[Run],
    cases: Sequence[PageCase],
    verdicts: Sequence[Verdict],
    between: Sequence[str],
) -> list[str]:
    """Three sentences, and one more for each machine after the first.

    Args:
        cases: of all runs.
        verdicts: each on cases of one run.
        between: sentences on the machines side by side.
    """
    fastest = _fastest(verdicts, len(runs)) + "."
    if len(runs) > 1:
        fastest += " Each run is ranked by itself."
    return [_compared(runs, cases), " ".join([fastest, *between]), _price(cases, verdicts)]


# --------------------------------------------------------------------------- what was compared


def _compared(runs: Sequence[Run], cases: Sequence[PageCase]) -> str:
    good = [case for case in cases if case.status == "ok"]
    things = [
        _counted(word, [getattr(case, word) for case in good or cases])
        for word in ("model", "backend", "precision")
    ]
    days = dict.fromkeys(run.bundle.begin.started[:10] for run in runs)
    text = f"Compared: {', '.join(things[:2])} and {things[2]}"
    text += f" in {len(runs)} runs" if len(runs) > 1 else ""
    text += f"; {len(good):,} of {count(len(cases), 'case')} measured"
    if good:
        rounds = sorted({case.rounds for case in good})
        span = f"{rounds[0]}" if len(rounds) == 1 else f"{rounds[0]} to {rounds[-1]}"
        text += f" in {span} {'round' if rounds == [1] else 'rounds'}"
    return f"{text}, on {_machines(runs)}, {' and '.join(days)}."


def _counted(word: str, values: Sequence[Any]) -> str:
    """``3 backends (onnxruntime, openvino, tflite)``."""
    known = list(dict.fromkeys(str(value) for value in values))
    if len(known) == 1:
        return f"1 {word} ({known[0]})"
    listed = ", ".join(known if len(known) <= 6 else [*known[:5], "…"])
    return f"{len(known)} {word}s ({listed})"


def _machines(runs: Sequence[Run]) -> str:
    machines = machines_of(run.bundle for run in runs)
    if len(machines) == 1:
        host = runs[0].bundle.begin.host
        cores = host.cores_usable or host.cores_logical
        listed = f" ({count(cores, 'core')})" if cores else ""
        return f"{host.cpu_model or 'an unnamed processor'}{listed}"
    return f"{len(machines)} machines ({', '.join(machine.name for machine in machines)})"


# --------------------------------------------------------------------------- which is the fastest


def _fastest(verdicts: Sequence[Verdict], runs: int) -> str:
    if not any(verdict.ranked for verdict in verdicts):
        measured = any(verdict.reason.startswith("no case has") for verdict in verdicts)
        what = "has a figure to rank by" if measured else "was measured"
        return f"No case {what}, so there is no answer"
    return _only(verdicts[0]) if len(verdicts) == 1 else _counts(verdicts, runs)


def _only(verdict: Verdict) -> str:
    best = verdict.ranked[0]
    if verdict.reason:
        return f"Nothing is ranked: {verdict.reason}"
    if verdict.near and not verdict.best:
        named = names([case.label for case in (best, *verdict.near)], MOST_NAMED + 1)
        return f"No case is surely the fastest: {named} lie within noise of each other"
    doubt = ", by figures in doubt," if verdict.in_doubt else ""
    others = len(verdict.near)
    alike = f" ({others} more of it within noise)" if others else ""
    figures = f"{verdict.by.title} {cells.format_cell(best, verdict.by.name)}"
    return f"The fastest{doubt} is {best.label}{alike}, {figures}: {_lead([verdict])}"


def _counts(verdicts: Sequence[Verdict], runs: int) -> str:
    noun = "models"
    if len(verdicts) > len({verdict.model for verdict in verdicts}):
        noun = f"comparisons (a model called in one way{', in one run' if runs > 1 else ''})"
    won: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        if verdict.best:
            first = verdict.best[0]
            kind = first.kind if len(verdict.best) == 1 else first.precision
            won.setdefault(f"{first.backend} {kind}", []).append(verdict)
    ordered = sorted(won.items(), key=lambda pair: -len(pair[1]))
    winners = [
        f"{name} for {'all' if len(wins) == len(verdicts) else len(wins)} ({_lead(wins)})"
        for name, wins in ordered[:MOST_NAMED]
    ]
    left = sum(len(wins) for _, wins in ordered[MOST_NAMED:])
    winners += [f"others for {left}"] if left else []
    clear = (
        f"the fastest is {', '.join(winners)}"
        if winners
        else "none has a case that is surely fastest"
    )
    doubtful = sum(verdict.in_doubt for wins in won.values() for verdict in wins)
    doubts = [f"{doubtful} of these rest on figures in doubt"] if doubtful else []
    return "; ".join([f"Of {len(verdicts)} {noun}, {clear}", *doubts, *_undecided(verdicts)])


def _undecided(verdicts: Sequence[Verdict]) -> Iterator[str]:
    meet = sum(bool(verdict.near) and not verdict.best for verdict in verdicts)
    if meet:
        yield f"for {meet} it is open, since intervals overlap"
    for reason, number in Counter(v.reason for v in verdicts if v.reason).items():
        yield f"{number} {'is' if number == 1 else 'are'} not ranked: {reason}"


def _lead(wins: Sequence[Verdict]) -> str:
    """The lead over the rest: a lower bound, rounded down."""
    leads = [math.floor(100 * win.lead) / 100 for win in wins if win.lead is not None]
    least, most = f"{min(leads):.2f}", f"{max(leads):.2f}"
    if least == most == "1.00":
        return "by a margin that may be below 1 %"
    return f"at least {least if least == most else f'{least} to {most}'} times as fast as the rest"


# --------------------------------------------------------------------------- what it costs


def _price(cases: Sequence[PageCase], verdicts: Sequence[Verdict]) -> str:
    good = [case for case in cases if case.status == "ok"]
    fastest = [case for verdict in verdicts for case in verdict.best]
    parts = [*_accuracy(fastest), *_doubts(good), *_not_measured(cases)]
    if any("not the official" in (case.accuracy_of or "") for case in good):
        parts.append("accuracies are of parts of the official data sets, not official scores")
    text = "; ".join(parts) or "no doubts about the figures"
    return f"{text[0].upper()}{text[1:]}."


def _accuracy(fastest: Sequence[PageCase]) -> Iterator[str]:
    """Accuracy that the fastest cases lose against float32, as far as it is known."""
    known = [case for case in fastest if case.accuracy_delta_high is not None]
    lossy = [case for case in known if (case.accuracy_delta_high or 0) < 0]
    rest = [case for case in known if case not in lossy]
    if len(fastest) == 1 and known:
        delta = f"Δ {cells.format_cell(known[0], 'accuracy_delta')}, {known[0].accuracy_of}"
        yield f"it loses accuracy: {delta}" if lossy else f"no loss of accuracy is shown: {delta}"
    elif lossy:
        worst = min(lossy, key=lambda case: case.accuracy_delta or 0)
        delta = f"Δ {cells.format_cell(worst, 'accuracy_delta')}, {worst.accuracy_of}"
        yield (
            f"{len(lossy)} of the {len(fastest)} fastest cases "
            f"{'loses' if len(lossy) == 1 else 'lose'} accuracy, the most "
            f"{worst.model} {worst.label}: {delta}"
        )
    if len(fastest) > 1 and rest:
        most = max(-100 * (case.accuracy_delta_low or 0) for case in rest)
        yield (
            f"for {len(rest)} of the fastest no loss of accuracy is shown, but up to "
            f"{figure(most)} pp cannot be excluded"
        )
    unknown = [c for c in fastest if c.accuracy_delta is None and c.precision != REFERENCE]
    if unknown:
        where = f" for {len(unknown)} of the fastest" if len(fastest) > 1 else ""
        yield f"accuracy was not compared with {REFERENCE}{where}"


def _doubts(good: Sequence[PageCase]) -> Iterator[str]:
    in_name_only = sum(IN_NAME_ONLY in (case.flags or "") for case in good)
    for number, words in (
        (sum(bool(case.noisy) for case in good), "noisy"),
        (sum(bool(case.inconclusive) for case in good), "inconclusive"),
        (in_name_only, IN_NAME_ONLY),
        (sum(QUANTIZED_IN_NAME_ONLY in (c.flags or "") for c in good), QUANTIZED_IN_NAME_ONLY),
        (sum(FAR in (case.flags or "") for case in good), FAR),
        (sum("emulated" in (case.flags or "") for case in good), "computed by emulation"),
        (sum(map(otherwise, good)), "computed in another precision than was asked for"),
    ):
        if number:
            yield f"{number} of {len(good)} cases {'is' if number == 1 else 'are'} {words}"


def _not_measured(cases: Sequence[PageCase]) -> Iterator[str]:
    counts = Counter(case.status for case in cases if case.status != "ok")
    if counts:
        listed = ", ".join(f"{number} {status}" for status, number in counts.items())
        yield f"not measured: {listed}"
