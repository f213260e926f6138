"""How often qbench's comparison is wrong, how much it finds, and how long that takes::

    python tests/benchmarks/study.py record --out FOLDER [--load] [--rounds 100]
    python tests/benchmarks/study.py analyse FOLDER

``record`` measures real trials (see ``recording.py``) and goes on where it was when it is given the
same folder again. ``analyse`` plays comparisons from what was recorded: each begins at a round
drawn by lot and takes the following ones, A and B of a round lying next to each other as they do in
a run of two cases, until ``qbench.analysis.statistics.verdict`` has decided. It writes
``results.json`` and ``results.md``; the same recording gives the same.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import designs
import numpy as np
import pandas as pd
import recording

from qbench.analysis.statistics.estimates import wilson
from qbench.analysis.statistics.verdict import Decision, Rule, Verdict, decide, stall_share
from qbench.storage import write_file

COMPARISONS = 400
SEED = 20251122
QUANTILES = {"p1": 0.01, "p5": 0.05, "p10": 0.1}
"""Which percentile of a trial's calls stands for its latency: the rule takes any."""
BUDGET_S = 40.0
"""What a pair may take."""


class Trial(NamedTuple):
    """One recorded trial."""

    position: int
    seconds: float
    samples: np.ndarray


Round = dict[str, Trial]
"""By slot."""


class Played(NamedTuple):
    """One comparison that was played."""

    decision: Decision
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("record", help="measure rounds of trials")
    command.add_argument("--out", type=Path, required=True, help="the recording's folder")
    command.add_argument("--load", action="store_true", help="with another busy process")
    command.add_argument("--rounds", type=int, default=100)
    command.add_argument("--model", default=recording.MODEL)
    command = commands.add_parser("analyse", help="play comparisons from a recording")
    command.add_argument("folder", type=Path)
    given = parser.parse_args()
    if given.command == "record":
        recording.workers_find_this_folder()
        recording.record(given.out, given.rounds, given.load, say, given.model)
    else:
        results = analyse(read_rounds(given.folder))
        setup = json.loads((given.folder / "setup.json").read_text())
        write_file(
            given.folder / "results.json", json.dumps({"setup": setup, **results}, indent=1) + "\n"
        )
        text = markdown(setup, results)
        write_file(given.folder / "results.md", text)
        say(text)


def say(text: str) -> None:
    print(text, flush=True)


def read_rounds(folder: Path) -> list[Round]:
    """The recording's rounds, in their order."""
    return as_rounds(recording.read_trials(folder))


def as_rounds(trials: pd.DataFrame) -> list[Round]:
    """Rows of ``recording.read_trials`` by rounds."""
    return [
        {
            row["slot"]: Trial(row["position"], row["seconds"], np.asarray(row["samples"]))
            for row in rows.to_dict("records")
        }
        for _, rows in trials.groupby("round")
    ]


def analyse(rounds: Sequence[Round], comparisons: int = COMPARISONS) -> dict[str, Any]:
    """All figures of the study.

    Args:
        comparisons: of A and A; of A and each slow-down.

    Raises:
        ValueError: fewer rounds than a comparison may take.
    """
    most = Rule().looks[-1]
    if len(rounds) < most:
        raise ValueError(
            f"a comparison may take {most} rounds, and only {len(rounds)} are recorded"
        )
    return {
        "rounds": len(rounds),
        "comparisons": comparisons,
        "rule": asdict(Rule()),
        "trials": {
            "same": len(rounds) * len(recording.SAME),
            "between_processes": spread(rounds),
        },
        "found": {
            name: by_rule(rounds, quantile, comparisons) for name, quantile in QUANTILES.items()
        },
        "designs": compare_designs(rounds, comparisons),
    }


def by_rule(rounds: Sequence[Round], quantile: float, comparisons: int) -> dict[str, Any]:
    """The rule's verdicts on A against A, and on A against each slow-down, with ``quantile`` of a
    trial's calls as its latency."""
    figures = [
        {
            slot: (float(np.log(np.quantile(t.samples, quantile))), stall_share(t.samples))
            for slot, t in slots.items()
        }
        for slots in rounds
    ]
    found = {}
    for kind in ("the same", *recording.INJECTED):
        slot = kind if kind in recording.INJECTED else None
        random = np.random.RandomState(SEED)
        played = [play(rounds, figures, slot, random) for _ in range(comparisons)]
        found[kind] = summary(slot is None, played)
    return found


def play(
    rounds: Sequence[Round],
    figures: Sequence[dict[str, tuple[float, float]]],
    slot: str | None,
    random: np.random.RandomState,
) -> Played:
    """One comparison of a plain trial with ``slot`` (None: with another plain one) in successive
    rounds, by the rule's looks."""
    rule = Rule()
    latency, stalls, seconds = [], [], 0.0
    decision = None
    for index in successive(len(rounds), rule.looks[-1], random):
        a, b = draw_pair(rounds[index], slot, random)
        (log_a, stalls_a), (log_b, stalls_b) = figures[index][a], figures[index][b]
        latency.append(log_b - log_a)
        stalls.append(stalls_b - stalls_a)
        seconds += rounds[index][a].seconds + rounds[index][b].seconds
        if len(latency) in rule.looks:
            decision = decide(np.array(latency), np.array(stalls), rule)
            if decision.decided:
                break
    assert decision is not None and decision.decided  # the last look decides
    return Played(decision, seconds)


def successive(recorded: int, wanted: int, random: np.random.RandomState) -> Iterator[int]:
    """Rounds from one drawn by lot; after the last comes the first. None comes twice."""
    begin = random.randint(recorded)
    return ((begin + step) % recorded for step in range(wanted))


def draw_pair(slots: Round, slot: str | None, random: np.random.RandomState) -> tuple[str, str]:
    """B, and the plain trial next to it in time as A; by lot where there are several."""
    b = slot or recording.SAME[random.randint(len(recording.SAME))]
    others = [name for name in recording.SAME if name != b]
    random.shuffle(others)
    return min(others, key=lambda a: abs(slots[a].position - slots[b].position)), b


def summary(same: bool, played: Sequence[Played]) -> dict[str, Any]:
    """How the comparisons of one kind ended."""
    verdicts = [one.decision.verdict for one in played]
    alarms = [v in (Verdict.REGRESSION, Verdict.IMPROVEMENT) for v in verdicts]
    hits = alarms if same else [v is Verdict.REGRESSION for v in verdicts]
    in_time = [hit and one.seconds <= BUDGET_S for hit, one in zip(hits, played, strict=True)]
    seconds = np.array([one.seconds for one in played])
    return {
        "share": wilson(sum(hits), len(hits))._asdict(),
        "share_within_budget": sum(in_time) / len(in_time),
        "verdicts": {v.value: verdicts.count(v) for v in Verdict},
        "because": {
            name: sum(name in one.decision.because for one in played)
            for name in ("latency", "stalls")
        },
        "rounds_median": float(np.median([one.decision.rounds for one in played])),
        "seconds_median": float(np.median(seconds)),
        "seconds_p95": float(np.quantile(seconds, 0.95)),
    }


def spread(rounds: Sequence[Round]) -> dict[str, dict[str, float]]:
    """Noise between processes of the same thing, by percentile of their calls: coefficient of
    variation, and of the paired log ratios the standard deviation and what the quartiles say it
    is, if they were normal."""
    result = {}
    random = np.random.RandomState(SEED)
    pairs = [(slots, *draw_pair(slots, None, random)) for slots in rounds for _ in range(2)]
    for name, quantile in (("min", 0), ("p1", 0.01), ("p10", 0.1), ("p25", 0.25), ("p50", 0.5)):
        values = [
            [np.quantile(slots[slot].samples, quantile) for slot in recording.SAME]
            for slots in rounds
        ]
        logs = [
            np.log(np.quantile(slots[b].samples, quantile))
            - np.log(np.quantile(slots[a].samples, quantile))
            for slots, a, b in pairs
        ]
        quartiles = np.quantile(logs, [0.25, 0.75])
        result[name] = {
            "cv": float(np.std(values) / np.mean(values)),
            "paired_sd": float(np.std(logs)),
            "paired_sd_by_quartiles": float((quartiles[1] - quartiles[0]) / 1.349),
        }
    return result


def compare_designs(rounds: Sequence[Round], comparisons: int) -> dict[str, dict[str, float]]:
    """Share of comparisons that each design calls different: A with A, and A with a slow-down of
    3 %."""
    count = designs.ROUNDS
    random = np.random.RandomState(SEED)
    result: dict[str, dict[str, float]] = {}
    for column, slot in (("false_alarms", None), ("power_at_3_percent", "slower by 3 %")):
        found: dict[str, list[bool]] = {name: [] for name in [*designs.PAIRED, designs.IN_TURN]}
        for _ in range(comparisons):
            chosen = [rounds[i] for i in successive(len(rounds), 2 * count, random)]
            pairs = [draw_pair(slots, slot, random) for slots in chosen]
            a = [slots[pair[0]].samples for slots, pair in zip(chosen, pairs, strict=True)]
            b = [slots[pair[1]].samples for slots, pair in zip(chosen, pairs, strict=True)]
            for name, different in designs.PAIRED.items():
                found[name].append(different(a[:count], b[:count]))
            found[designs.IN_TURN].append(designs.unpaired(a[:count], b[count:]))
        for name, answers in found.items():
            result.setdefault(name, {})[column] = float(np.mean(answers))
    return result


def markdown(setup: dict[str, Any], results: dict[str, Any]) -> str:
    """The results for people."""
    percent: Callable[[float], str] = lambda share: f"{100 * share:.1f} %"  # noqa: E731
    host = setup["host"]
    lines = [
        f"# {setup['model']} on {recording.BACKEND}, "
        + ("another process busy" if setup["load"] else "nothing else started"),
        "",
        f"{results['trials']['same']} trials of the same thing in {results['rounds']} rounds, on "
        f"{host['cores_usable']} cores of {host['cpu_model']}; {results['comparisons']} "
        "comparisons of each kind, played from them.",
        "",
        "| B is | latency by | called different | within 40 s | rounds | time | 95 % within |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind in ("the same", *recording.INJECTED):
        for name, found in results["found"].items():
            row = found[kind]
            share = row["share"]
            lines.append(
                f"| {kind} | {name} | {percent(share['value'])} ({percent(share['low'])} to "
                f"{percent(share['high'])}) | {percent(row['share_within_budget'])} | "
                f"{row['rounds_median']:.0f} | {row['seconds_median']:.0f} s | "
                f"{row['seconds_p95']:.0f} s |"
            )
    lines += [
        "",
        f"Other designs, {designs.ROUNDS} trials of each, nominal 5 %:",
        "",
        "| design | false alarms | power at 3 % |",
        "|---|---|---|",
    ]
    for name, row in results["designs"].items():
        lines.append(
            f"| {name} | {percent(row['false_alarms'])} | {percent(row['power_at_3_percent'])} |"
        )
    lines += [
        "",
        "Noise between processes of the same thing:",
        "",
        "| percentile | variation | paired log ratio | the same by its quartiles |",
        "|---|---|---|---|",
    ]
    for name, row in results["trials"]["between_processes"].items():
        lines.append("| " + " | ".join([name, *map(percent, row.values())]) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
