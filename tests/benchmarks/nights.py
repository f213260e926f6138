"""How often the gate alarms on nights in which nothing changed, and what it finds when one case of
a hundred has become slower::

    python tests/benchmarks/nights.py results/reference/study-quiet results/reference/study-load

Nights are replayed from the trials that ``study.py`` has recorded, 90 of them with 100 cases each.
A case of a night is a number of successive rounds of a recording, starting at a random one; each
round gives two trials adjacent in time, one for the baseline and one for the candidate. All cases
go through the gate's own rule (``gate_figures``): a suspicious case is measured again in the rounds
that follow, on other trials than the night's, and both results must hold after correction for a
hundred cases. For comparison it also gives the verdict of the night's trials alone, corrected for a
hundred cases. It writes ``results.json`` and ``results.md``; the same recordings give the same
results.

Limit: the cases of a night come from the same 100 rounds of one model, so they are less independent
of each other than a hundred models' would be.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import recording
import study

from qbench.analysis.gate.figures import adjusted_twice, is_suspicious
from qbench.analysis.gate.findings import Figure
from qbench.analysis.statistics.estimates import wilson
from qbench.analysis.statistics.verdict import paired_shift, stall_share
from qbench.spec.gate import GateSettings
from qbench.storage import write_file

NIGHTS, CASES, SEED = 90, 100, 20251124
REPEATS = 5
"""Sets of 90 nights, from other draws."""
ROUNDS = (12, 20, 30, 40)
"""Of a night; a suspicious case gets as many rounds again as the settings say."""
GUARDS = {"latency": "slowdown", "stalls": "stalls"}
OUT = Path("results/reference/nights")


class Recorded(NamedTuple):
    """A recording.

    Attributes:
        rounds: its trials, by slot.
        figures: of each round, by slot: the logarithm of p1 in ns, and the share of stalls.
    """

    rounds: Sequence[study.Round]
    figures: Sequence[dict[str, tuple[float, float]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("recordings", type=Path, nargs="+", help="folders of study.py")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    results = {
        folder.name: replay(read(folder), GateSettings(), NIGHTS, REPEATS)
        for folder in given.recordings
    }
    given.out.mkdir(parents=True, exist_ok=True)
    write_file(given.out / "results.json", json.dumps(results, indent=1) + "\n")
    text = markdown(results)
    write_file(given.out / "results.md", text)
    study.say(text)


def read(folder: Path) -> Recorded:
    return recorded(study.read_rounds(folder))


def recorded(rounds: Sequence[study.Round]) -> Recorded:
    """Rounds with what the gate looks at: of the same percentile as ``compare`` takes."""
    figures = [
        {
            slot: (float(np.log(np.percentile(t.samples, 1))), stall_share(t.samples))
            for slot, t in slots.items()
        }
        for slots in rounds
    ]
    return Recorded(rounds, figures)


def replay(of: Recorded, settings: GateSettings, nights: int, repeats: int) -> dict[str, Any]:
    """All figures, by rounds of a night.

    Returns:
        ``{rounds: {"nothing changed": {...}, "slower by 3 %": {...}, ...}}``: for nights in which
        nothing changed, how many cases were suspected and confirmed in each set of nights; for
        nights with one slower case, the share in which it was found.
    """
    found: dict[str, Any] = {}
    for rounds in ROUNDS:
        random = np.random.RandomState(SEED)
        sets = [
            [play(of, settings, rounds, None, random) for _ in range(nights)]
            for _ in range(repeats)
        ]
        by_kind: dict[str, Any] = {
            "nothing changed": {
                "nights": nights,
                "cases": CASES,
                **{
                    name: [sum(len(getattr(one, name)) for one in played) for played in sets]
                    for name in Played._fields
                },
            }
        }
        for slot in recording.INJECTED:
            played = [play(of, settings, rounds, slot, random) for _ in range(nights)]
            by_kind[slot] = {
                "nights": nights,
                **{
                    name: wilson(sum(0 in getattr(one, name) for one in played), nights)._asdict()
                    for name in Played._fields
                },
                "others_confirmed": sum(len(one.confirmed - {0}) for one in played),
            }
        found[str(rounds)] = by_kind
    return found


class Played(NamedTuple):
    """The gate's verdict on one night, as indices of cases; the planted one is 0.

    Attributes:
        suspected: measured again.
        confirmed: a regression.
        alone: a regression by the night's trials alone.
    """

    suspected: set[int]
    confirmed: set[int]
    alone: set[int]


def play(
    of: Recorded,
    settings: GateSettings,
    rounds: int,
    slot: str | None,
    random: np.random.RandomState,
) -> Played:
    """One night.

    Args:
        slot: what case 0's candidate is, as recorded; None: the same as its baseline.
    """
    begins = [random.randint(len(of.rounds)) for _ in range(CASES)]
    slots = [slot if case == 0 else None for case in range(CASES)]
    night = [
        differences(of, begin, rounds, kind, random)
        for begin, kind in zip(begins, slots, strict=True)
    ]
    again: dict[int, dict[str, np.ndarray]] = {}
    result = Played(set(), set(), set())
    for name, guard_name in GUARDS.items():
        guard = getattr(settings, guard_name)
        first = [looked(name, case[name], guard) for case in night]
        suspected = [case for case, look in enumerate(first) if look.suspicious]
        for case in suspected:
            if case not in again:
                begin = begins[case] + rounds
                again[case] = differences(of, begin, settings.confirm_rounds, slots[case], random)
        second = {case: looked(name, again[case][name], guard) for case in suspected}
        p_values = [look.p_value for look in first]
        once = stands(adjusted_twice(p_values), settings.q)
        again_ps = {case: look.p_value for case, look in second.items()}
        both = stands(adjusted_twice(p_values, again_ps), settings.q)
        result.suspected.update(suspected)
        result.alone.update(set(suspected) & once)
        result.confirmed.update(
            case for case, look in second.items() if look.suspicious and case in both
        )
    return result


def differences(
    of: Recorded, begin: int, rounds: int, slot: str | None, random: np.random.RandomState
) -> dict[str, np.ndarray]:
    """``[rounds]`` candidate less baseline, of the logarithm of latency and of the stalls."""
    found = []
    for step in range(rounds):
        index = (begin + step) % len(of.rounds)
        a, b = study.draw_pair(of.rounds[index], slot, random)
        found.append(np.subtract(of.figures[index][b], of.figures[index][a]))
    latency, stalls = np.array(found).T
    return {"latency": latency, "stalls": stalls}


class Look(NamedTuple):
    """One figure of one case."""

    suspicious: bool
    p_value: float


def looked(name: str, case: np.ndarray, guard: float) -> Look:
    shift = paired_shift(case)
    of_logs = np.expm1 if name == "latency" else float
    value, low, high = (
        None if end is None else float(of_logs(end)) for end in (shift.value, shift.low, shift.high)
    )
    assert value is not None
    return Look(is_suspicious(Figure(value, low, high), guard), shift.p_value)


def stands(p_values: Sequence[float | None], q: float) -> set[int]:
    """The cases whose adjusted p-value is at most q."""
    return {case for case, p in enumerate(p_values) if p is not None and p <= q}


def markdown(results: dict[str, Any]) -> str:
    """The results for people."""
    percent = lambda share: f"{100 * share['value']:.0f} %"  # noqa: E731
    lines = [
        "# Nights in which nothing changed, and nights with one slower case of a hundred",
        "",
        f"{NIGHTS} nights of {CASES} cases, replayed from recorded trials (`study-quiet`, "
        "`study-load`); what is suspected is confirmed by "
        f"{GateSettings().confirm_rounds} rounds of other trials. Written by "
        "`tests/benchmarks/nights.py`, which says what this cannot show.",
        "",
        f"False alarms in {NIGHTS} nights x {CASES} cases with nothing changed, in each of "
        f"{REPEATS} sets:",
        "",
        "| recording | rounds | looked at again | regressions | by the night alone |",
        "|---|---|---|---|---|",
    ]
    for name, by_rounds in results.items():
        for rounds, kinds in by_rounds.items():
            same = kinds["nothing changed"]
            shown = [", ".join(map(str, same[key])) for key in Played._fields]
            lines.append(f"| {name} | {rounds} | {' | '.join(shown)} |")
    lines += [
        "",
        f"Nights, of {NIGHTS}, in which the one slower case was found:",
        "",
        "| recording | rounds | slower | looked at again | regression | by the night alone |",
        "|---|---|---|---|---|---|",
    ]
    for name, by_rounds in results.items():
        for rounds, kinds in by_rounds.items():
            for kind, row in kinds.items():
                if kind in recording.INJECTED:
                    shown = [percent(row[key]) for key in Played._fields]
                    lines.append(f"| {name} | {rounds} | {kind} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
