"""The study's analysis on made-up recordings, where the truth is known. The study itself:
``tests/benchmarks/study.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).parent / "benchmarks"
ROUNDS, CALLS = 45, 60


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import study  # type: ignore[import-not-found]

    return study


def made_up(study: Any, planted: bool) -> pd.DataFrame:
    """Trials with a little noise between processes and within; injections have an effect only if
    ``planted``."""
    random = np.random.default_rng(5)
    rows = []
    slots = [*study.recording.SAME, *study.recording.INJECTED]
    for number in range(ROUNDS):
        for position, slot in enumerate(random.permutation(slots)):
            share, every = study.recording.INJECTED.get(slot, (0.0, 1))
            calls = 1e6 * (1 + random.normal(0, 0.005)) * (1 + random.exponential(0.02, CALLS))
            if planted:
                calls[every - 1 :: every] *= 1 + share
            rows.append(
                {
                    "round": number,
                    "slot": slot,
                    "position": position,
                    "seconds": 0.5,
                    "wall_ns": int(calls.sum()),
                    "cpu_ns": int(calls.sum()),
                    "samples": calls.astype(np.int64),
                }
            )
    return pd.DataFrame(rows)


def test_only_the_planted_effect_is_found(study: Any):
    results = study.analyse(study.as_rounds(made_up(study, planted=True)), comparisons=40)
    found = results["found"]["p10"]
    assert found["the same"]["share"]["value"] <= 0.05
    for kind in ("slower by 3 %", "slower by 5 %", "stall in every 20th call"):
        assert found[kind]["share"]["value"] == 1.0, kind
    assert found["slower by 5 %"]["because"] == {"latency": 40, "stalls": 0}
    assert found["stall in every 20th call"]["because"]["stalls"] == 40
    # nine rounds of two trials of half a second each
    assert found["slower by 5 %"]["seconds_median"] == pytest.approx(9.0)


def test_nothing_is_found_where_nothing_is(study: Any):
    results = study.analyse(study.as_rounds(made_up(study, planted=False)), comparisons=40)
    for kind, row in results["found"]["p10"].items():
        assert row["share"]["value"] <= 0.05, kind
    # as many calls as there are: each looks like evidence, though only the trial is
    assert results["designs"]["all calls pooled, t-test"]["false_alarms"] > 0.2


def test_the_same_recording_gives_the_same_results(study: Any):
    rounds = study.as_rounds(made_up(study, planted=True))
    assert study.analyse(rounds, comparisons=5) == study.analyse(rounds, comparisons=5)


def test_a_short_recording_is_refused(study: Any):
    rounds = study.as_rounds(made_up(study, planted=False))[:20]
    with pytest.raises(ValueError, match="40 rounds"):
        study.analyse(rounds, comparisons=5)


def test_a_recording_comes_back_as_it_was_written(study: Any, tmp_path: Path):
    trials = made_up(study, planted=True)
    study.recording._write(tmp_path / "trials.parquet", trials)
    back = study.recording.read_trials(tmp_path)
    assert list(back["slot"]) == list(trials["slot"])
    assert all(
        np.array_equal(a, b) for a, b in zip(back["samples"], trials["samples"], strict=True)
    )
    bytes_each = (tmp_path / "trials.parquet").stat().st_size / (len(trials) * CALLS)
    assert bytes_each < 4


def test_a_recording_goes_on_where_it_was(
    study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Real trials of the smallest shipped network, next to a busy process."""
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("PYTHONPATH", str(BENCHMARKS))
    monkeypatch.setattr(study.recording, "WARMUP_S", 0.01)
    monkeypatch.setattr(study.recording, "TIMED_S", 0.02)
    said: list[str] = []
    for rounds in (1, 2):
        study.recording.record(tmp_path, rounds, True, said.append, "digits_cnn")
    assert [line.partition(":")[0] for line in said] == ["round 1 of 1", "round 2 of 2"]
    slots = {*study.recording.SAME, *study.recording.INJECTED}
    rounds = study.read_rounds(tmp_path)
    assert [set(one) for one in rounds] == [slots, slots]
    stalled = [study.stall_share(one["stall in every 20th call"].samples) for one in rounds]
    assert min(stalled) > 0.03, "every 20th call takes twice as long"
    with pytest.raises(ValueError, match="load"):
        study.recording.record(tmp_path, 3, False, said.append, "digits_cnn")


def test_nights_find_the_planted_case_and_no_other(study: Any, monkeypatch: pytest.MonkeyPatch):
    import nights  # type: ignore[import-not-found]

    from qbench.spec.gate import GateSettings

    monkeypatch.setattr(nights, "CASES", 10)
    settings, random = GateSettings(confirm_rounds=15), np.random.RandomState(0)
    planted = nights.recorded(study.as_rounds(made_up(study, planted=True)))
    for slot in ("slower by 5 %", "stall in every 20th call"):
        played = [nights.play(planted, settings, 15, slot, random) for _ in range(5)]
        assert [one.confirmed for one in played] == [{0}] * 5, slot
    same = nights.recorded(study.as_rounds(made_up(study, planted=False)))
    for slot in (None, "slower by 5 %"):
        played = [nights.play(same, settings, 15, slot, random) for _ in range(5)]
        assert [one.confirmed for one in played] == [set()] * 5
