"""The answer in three sentences: what was compared, which case is the fastest, and what that costs.

A sentence names a fastest case, or a faster machine, only where intervals lie apart.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from qbench.analysis.compare.machines import machines_of
from qbench.present.page.tables import otherwise
from qbench.present.words import cells
from qbench.present.words.ranking import Verdict
from qbench.present.words.run import Run
from qbench.spec.precisions import IN_NAME_ONLY, REFERENCE
from qbench.text import figure

MOST_NAMED = 3

Case = Mapping[str, Any]


def answer(
    runs: Sequence[Run],
    cases: Sequence[Case],
    verdicts: Sequence[Verdict],
    between: Sequence[str],
) -> list[str]:
    """Three sentences; between runs, as many more as there are machines after the first.

    Args:
        cases: of all runs, named.
        verdicts: each on cases of one run.
        between: what can be said of the machines side by side.
    """
    fastest = _fastest(verdicts, len(runs)) + "."
    if len(runs) > 1:
        fastest += " Each run is ranked by itself."
    return [_compared(runs, cases), " ".join([fastest, *between]), _price(cases, verdicts)]


# --------------------------------------------------------------------------- what was compared


def _compared(runs: Sequence[Run], cases: Sequence[Case]) -> str:
    good = [case for case in cases if case["status"] == "ok"]
    things = [
        _counted(word, [case[word] for case in good or cases])
        for word in ("model", "backend", "precision")
    ]
    days = dict.fromkeys(str(run.bundle.begin["started"])[:10] for run in runs)
    text = f"Compared: {', '.join(things[:2])} and {things[2]}"
    text += f" in {len(runs)} runs" if len(runs) > 1 else ""
    text += f"; {len(good):,} of {len(cases):,} {'case' if len(cases) == 1 else 'cases'} measured"
    if good:
        rounds = sorted({case["rounds"] for case in good})
        span = f"{rounds[0]}" if len(rounds) == 1 else f"{rounds[0]} to {rounds[-1]}"
        text += f" in {span} {'round' if rounds == [1] else 'rounds'}"
    return f"{text}, on {_machines(runs)}, {' and '.join(days)}."


def _counted(word: str, values: Sequence[Any]) -> str:
    """``3 backends (onnxruntime, openvino, tflite)``."""
    names = list(dict.fromkeys(str(value) for value in values))
    if len(names) == 1:
        return f"1 {word} ({names[0]})"
    told = ", ".join(names) if len(names) <= 6 else ", ".join([*names[:5], "…"])
    return f"{len(names)} {word}s ({told})"


def _machines(runs: Sequence[Run]) -> str:
    machines = machines_of(run.bundle for run in runs)
    if len(machines) == 1:
        host = runs[0].bundle.begin["host"]
        cores = host.get("cores_usable") or host.get("cores_logical")
        told = f" ({cores} {'core' if cores == 1 else 'cores'})" if cores else ""
        return f"{host.get('cpu_model') or 'an unnamed processor'}{told}"
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
        named = [str(case["label"]) for case in (best, *verdict.near)]
        left = len(named) - 1 - MOST_NAMED
        more = f" and {left} more" if left > 0 else ""
        return (
            f"No case is surely the fastest: {', '.join(named[: MOST_NAMED + 1])}{more} lie within "
            "noise of each other"
        )
    doubt = ", by figures in doubt," if verdict.in_doubt else ""
    others = len(verdict.near)
    beside = f" ({others} more of it within noise)" if others else ""
    figures = f"{verdict.by.title} {cells.said(best, verdict.by.name)}"
    return f"The fastest{doubt} is {best['label']}{beside}, {figures}: {_lead([verdict])}"


def _counts(verdicts: Sequence[Verdict], runs: int) -> str:
    noun = "models"
    if len(verdicts) > len({verdict.model for verdict in verdicts}):
        noun = f"comparisons (a model called in one way{', in one run' if runs > 1 else ''})"
    won: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        if verdict.best:
            first = verdict.best[0]
            told = first["kind"] if len(verdict.best) == 1 else first["precision"]
            won.setdefault(f"{first['backend']} {told}", []).append(verdict)
    ordered = sorted(won.items(), key=lambda pair: -len(pair[1]))
    told = [
        f"{name} for {'all' if len(wins) == len(verdicts) else len(wins)} ({_lead(wins)})"
        for name, wins in ordered[:MOST_NAMED]
    ]
    left = sum(len(wins) for _, wins in ordered[MOST_NAMED:])
    told += [f"others for {left}"] if left else []
    clear = (
        f"the fastest is {', '.join(told)}" if told else "none has a case that is surely fastest"
    )
    doubtful = sum(verdict.in_doubt for wins in won.values() for verdict in wins)
    doubts = [f"{doubtful} of these rest on figures in doubt"] if doubtful else []
    return "; ".join([f"Of {len(verdicts)} {noun}, {clear}", *doubts, *_undecided(verdicts)])


def _undecided(verdicts: Sequence[Verdict]) -> Iterator[str]:
    meet = sum(bool(verdict.near) and not verdict.best for verdict in verdicts)
    if meet:
        yield f"for {meet} it cannot be told, since intervals meet"
    for reason, count in Counter(v.reason for v in verdicts if v.reason).items():
        yield f"{count} {'is' if count == 1 else 'are'} not ranked: {reason}"


def _lead(wins: Sequence[Verdict]) -> str:
    """By how much, rounded down: it is a lower bound."""
    leads = [math.floor(100 * win.lead) / 100 for win in wins if win.lead is not None]
    least, most = f"{min(leads):.2f}", f"{max(leads):.2f}"
    if least == most == "1.00":
        return "by less than 1 %, at the least"
    return f"at least {least if least == most else f'{least} to {most}'} times as fast as the rest"


# --------------------------------------------------------------------------- what it costs


def _price(cases: Sequence[Case], verdicts: Sequence[Verdict]) -> str:
    good = [case for case in cases if case["status"] == "ok"]
    fastest = [case for verdict in verdicts for case in verdict.best]
    parts = [*_accuracy(fastest), *_doubts(good), *_not_measured(cases)]
    if any("not the official" in (case.get("accuracy_of") or "") for case in good):
        parts.append("accuracies are of parts of the official data sets, not official scores")
    text = "; ".join(parts) or "nothing speaks against the figures"
    return f"{text[0].upper()}{text[1:]}."


def _accuracy(fastest: Sequence[Case]) -> Iterator[str]:
    """What the fastest cases lose against float32, as far as that can be told."""
    known = [case for case in fastest if case["accuracy_delta_high"] is not None]
    lossy = [case for case in known if case["accuracy_delta_high"] < 0]
    rest = [case for case in known if case not in lossy]
    if len(fastest) == 1 and known:
        told = f"Δ {cells.said(known[0], 'accuracy_delta')}, {known[0]['accuracy_of']}"
        yield f"it loses accuracy: {told}" if lossy else f"no loss of accuracy can be told: {told}"
    elif lossy:
        worst = min(lossy, key=lambda case: case["accuracy_delta"])
        delta = f"Δ {cells.said(worst, 'accuracy_delta')}, {worst['accuracy_of']}"
        yield (
            f"{len(lossy)} of the {len(fastest)} fastest cases "
            f"{'loses' if len(lossy) == 1 else 'lose'} accuracy, the most "
            f"{worst['model']} {worst['label']}: {delta}"
        )
    if len(fastest) > 1 and rest:
        worst = min(rest, key=lambda case: case["accuracy_delta_low"])
        yield (
            f"for {len(rest)} of the fastest no loss of accuracy can be told, but up to "
            f"{figure(-100 * worst['accuracy_delta_low'])} pp cannot be excluded"
        )
    unknown = [c for c in fastest if c["accuracy_delta"] is None and c["precision"] != REFERENCE]
    if unknown:
        where = f" for {len(unknown)} of the fastest" if len(fastest) > 1 else ""
        yield f"accuracy was not compared with {REFERENCE}{where}"


def _doubts(good: Sequence[Case]) -> Iterator[str]:
    in_name_only = sum(IN_NAME_ONLY in (case["flags"] or "") for case in good)
    for count, words in (
        (sum(bool(case["noisy"]) for case in good), "noisy"),
        (sum(bool(case["inconclusive"]) for case in good), "inconclusive"),
        (in_name_only, IN_NAME_ONLY),
        (sum("emulated" in (case["flags"] or "") for case in good), "computed by emulation"),
        (sum(map(otherwise, good)), "computed in another precision than was asked for"),
    ):
        if count:
            yield f"{count} of {len(good)} cases {'is' if count == 1 else 'are'} {words}"


def _not_measured(cases: Sequence[Case]) -> Iterator[str]:
    counts = Counter(case["status"] for case in cases if case["status"] != "ok")
    if counts:
        told = ", ".join(f"{count} {status}" for status, count in counts.items())
        yield f"not measured: {told}"
