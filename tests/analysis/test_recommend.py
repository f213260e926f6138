"""Which configuration to take: by hand-made case tables whose answers are known, and by runs."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crafted import Crafted
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import Page
from rich.console import Console
from rows import case_row

from qbench.analysis.compare.machines import Machine
from qbench.analysis.recommend.candidates import Measured, median
from qbench.analysis.recommend.ranking import Choice
from qbench.analysis.recommend.recommend import Answer, Recommendation, choose, recommend
from qbench.analysis.statistics.estimates import Estimate
from qbench.analysis.table.table import case_rows
from qbench.bundle.bundle import Bundle
from qbench.errors import UserError
from qbench.present.page import Options, write_report
from qbench.present.terminal.recommend import recommendation_parts
from qbench.present.words.recommend import changed, sentences, to_json
from qbench.spec.columns import CaseRow
from qbench.spec.costs import CostSheet
from qbench.spec.question import (
    ASPECTS,
    LIMITED,
    Limit,
    Question,
    read_column_limit,
    read_limit,
    read_limits,
    read_objective,
)

A, B = Machine("a0", "board A", "chip A"), Machine("b0", "board B", "chip B")
PROXY = {
    "energy_method": "proxy: cpu time",
    "energy_scope": "process",
    "energy_is_measured": False,
}
WALL = {"energy_method": "wall meter (W)", "energy_scope": "wall", "energy_is_measured": True}


def interval(name: str, unit: str, value: float, low: float | None, high: float | None) -> dict:
    return {f"{name}{unit}": value, f"{name}_low{unit}": low, f"{name}_high{unit}": high}


def case(
    backend: str,
    p50: float = 2.0,
    p99: float = 5.0,
    spread: float = 0.05,
    drop: float | None = 0.0,
    drop_spread: float = 0.4,
    memory: float = 50.0,
    precision: str = "int8-static",
    rounds: int = 12,
    **more: Any,
) -> CaseRow:
    """A row of a case table: latencies in ms, each known to ``spread`` (a share), the drop of
    accuracy in points, known to ``drop_spread``; below 6 rounds nothing is known of speed."""

    def around(value: float) -> tuple[float, float | None, float | None]:
        if rounds < 6:
            return value, None, None
        return value, value / (1 + spread), value * (1 + spread)

    row: dict[str, Any] = {
        "model": "net", "backend": backend, "precision": precision, "scenario": "single-stream",
        "batch_size": 1, "threads": 1, "source_format": "onnx", "status": "ok", "rounds": rounds,
        "noisy": False, "accuracy_metric": "top1", "accuracy": 0.9, "accuracy_low": 0.88,
        "accuracy_high": 0.92, "accuracy_items": 650, "accuracy_data": "imagenet: 650 items",
        "accuracy_items_needed": 1900, "sqnr_db": 30.0, "artifact_size_mb": 10.0,
        "memory_process_peak_mb": memory, "cold_start_ms": 300.0, "dataset_digest": "d" * 64,
        "model_digest": "m" * 64, "host_id": "a0", "run_id": "run-a",
    }  # fmt: skip
    row |= interval("latency_p50", "_ms", *around(p50))
    row |= interval("latency_p99", "_ms", *around(p99))
    row |= interval("throughput_ips", "", *around(1000 / p50))
    if drop is not None:
        ends = (-drop / 100, -(drop + drop_spread) / 100, -(drop - drop_spread) / 100)
        row |= dict(zip(("accuracy_delta", "accuracy_delta_low", "accuracy_delta_high"), ends,
                        strict=True))  # fmt: skip
    row |= more
    row["case_id"] = more.get("case_id") or "-".join(
        str(row[k]) for k in ("backend", "precision", "scenario", "batch_size", "threads", "model")
    )
    return case_row(**row)


def run(
    *rows: CaseRow,
    machine: Machine = A,
    run_id: str = "run-a",
    way: Mapping[str, Any] | None = None,
    spreads: Mapping[str, Mapping[str, Estimate]] | None = None,
) -> Measured:
    rows = tuple(replace(row, host_id=machine.key, run_id=run_id) for row in rows)
    found = {
        row.case_id: {
            name: Estimate(value, 0.99 * value, 1.01 * value)
            for name in ("memory_process_peak_mb", "cold_start_ms")
            if (value := getattr(row, name)) is not None
        }
        for row in rows
        if row.rounds >= 6
    }
    found = {key: {**of, **(spreads or {}).get(key, {})} for key, of in found.items()} | {
        key: of for key, of in (spreads or {}).items() if key not in found
    }
    return Measured(machine, run_id, rows, found, way or {"settings.timed_s": 1.0})


def limit_of(aspect: str, value: str) -> str:
    return f"{aspect}{'>=' if ASPECTS[aspect].least else '<='}{value}"


def question(minimize: str = "latency", **limits: str) -> Question:
    read = [read_limit(limit_of(name, text)) for name, text in limits.items()]
    return Question(tuple(read), read_objective(minimize))


def answer(*runs: Measured, of: Question, costs: CostSheet | None = None) -> Answer:
    (found,) = choose(runs, of, costs).answers
    return found


def labels(choices: Sequence[Choice]) -> list[str]:
    return [choice.candidate.row.backend for choice in choices]


def lists(found: Answer) -> dict[str, list[str]]:
    return {name: labels(getattr(found, name)) for name in ("sure", "maybe", "fails")}


# --------------------------------------------------------------------------- limits


@pytest.mark.parametrize(
    ("aspect", "text", "value"),
    [
        ("p99", "10ms", 10.0),
        ("p99", "10 ms", 10.0),
        ("p50", "250us", 0.25),
        ("p50", "250µs", 0.25),
        ("p99", "0.5s", 500.0),
        ("p99", "1e-3s", 1.0),
        ("accuracy_drop", "1pp", 1.0),
        ("accuracy_drop", "0.5%", 0.5),
        ("accuracy_drop", "0pp", 0.0),
        ("accuracy", "76%", 76.0),
        ("memory", "200MB", 200.0),
        ("memory", "200MiB", 209.7152),
        ("size", "1GB", 1000.0),
        ("size", "512kB", 0.512),
        ("energy", "5mJ", 5.0),
        ("energy", "0.005J", 5.0),
        ("energy", "700uJ", 0.7),
        ("throughput", "100ips", 100.0),
        ("throughput", "100/s", 100.0),
    ],
)
def test_limits_are_read_with_their_units(aspect, text, value):
    assert read_limit(limit_of(aspect, text)).value == pytest.approx(value)


@pytest.mark.parametrize(
    ("aspect", "text", "says"),
    [
        ("p99", "<=10", "Write 'p99<=10ms'."),
        ("p99", "<=10 parsecs", "no unit 'parsecs'"),
        ("p99", "<=fast", "Write 'p99<=10ms'."),
        ("p99", "<=-1ms", "Write 'p99<=10ms'."),
        ("p99", "<=0ms", "out of range"),
        ("p99", "<=1e999ms", "out of range"),
        ("p99", "<10ms", "NAME<=VALUE"),
        ("p99", ">=10ms", "an upper bound"),
        ("throughput", "<=10ips", "a lower bound"),
        ("memory", "<=200mb", "Write 'memory<=200MB'."),
        ("memory", "<=10ms", "no unit 'ms'"),
        ("accuracy_drop", "<=0.01", "Write 'accuracy_drop<=0.01pp'."),
        ("accuracy", ">=760%", "above 100 %"),
        ("energy", "<=", "Write 'energy<=5mJ'."),
        ("cost", "<=1", "there is no figure 'cost'"),
        ("latency_p99_ms", "<=1", "there is no figure 'latency_p99_ms'"),
    ],
)
def test_a_wrong_limit_is_refused_with_an_example(aspect, text, says):
    with pytest.raises(UserError) as error:
        read_limit(aspect + text)
    assert says in str(error.value)
    assert aspect in str(error.value)


def test_an_aspect_is_limited_once():
    with pytest.raises(UserError, match="p99 is limited twice"):
        read_limits(["p99<=10ms", "p50<=2ms", "p99<=8ms"])


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("p99<=10ms", ("latency_p99_ms", 10.0, False)),
        ("cold_start <= 0.5 s", ("cold_start_ms", 500.0, False)),
        ("accuracy>=76%", ("accuracy", 0.76, True)),
        ("accuracy_drop<=1pp", ("accuracy_delta", -0.01, True)),
        ("throughput>=100ips", ("throughput_ips", 100.0, True)),
        ("speedup>=1.5", ("speedup", 1.5, True)),
        ("latency_p99_ms<=10", ("latency_p99_ms", 10.0, False)),
    ],
)
def test_the_gate_reads_the_same_limits_and_columns_too(text, limit):
    column, value, least = read_column_limit(text)
    assert (column, least) == (limit[0], limit[2])
    assert value == pytest.approx(limit[1])


@pytest.mark.parametrize("text", ["speedup>=fast", "speedup>=nan", "speedup>1", "sped>=1"])
def test_a_limit_of_the_gate_is_a_number_on_a_known_column(text):
    with pytest.raises(UserError):
        read_column_limit(text)


@given(
    st.sampled_from([(n, u) for n in LIMITED for u in ASPECTS[n].units]),
    st.floats(1e-6, 99, allow_subnormal=False),
)
def test_every_unit_is_read_as_its_factor(unit, number):
    aspect, written = unit
    limit = read_limit(limit_of(aspect, f"{number!r}{written}"))
    assert limit.value == pytest.approx(number * ASPECTS[aspect].units[written])


@given(st.text(max_size=20))
def test_any_text_is_a_limit_or_a_users_error(text):
    for aspect in LIMITED:
        try:
            value = read_limit(limit_of(aspect, text)).value
        except UserError:
            continue
        assert math.isfinite(value) and value >= 0


# --------------------------------------------------------------------------- the three lists


def test_a_limit_inside_straddled_and_outside():
    found = answer(
        run(
            case("inside", p99=9.0),  # up to 9.45
            case("straddles", p99=9.8),  # 9.33 to 10.29
            case("outside", p99=11.0),  # from 10.48
        ),
        of=question(p99="10ms"),
    )
    assert lists(found) == {"sure": ["inside"], "maybe": ["straddles"], "fails": ["outside"]}
    (why,) = found.fails[0].broken
    assert why.excess == pytest.approx(11.0 / 1.05 / 10 - 1)
    assert "at most 10 ms: 4.76 % over it at the least" in why.says
    # ln(10.29/9.8) is 2.4 times ln(10/9.8): 12 rounds would have to be 70
    assert found.maybe[0].settles == ("p99: about 58 more rounds",)


def test_an_end_on_the_limit_keeps_it():
    row = case("edge", p99=8.0)
    assert lists(answer(run(row), of=question(p99=f"{8.0 * 1.05!r}ms")))["sure"] == ["edge"]


def test_minimum_limits_are_compared_with_the_lower_end():
    rows = run(case("fast", p50=2.0), case("slow", p50=4.0), case("near", p50=3.3))
    found = answer(rows, of=question(throughput="300ips"))
    assert lists(found) == {"sure": ["fast"], "maybe": ["near"], "fails": ["slow"]}
    assert "below it" in found.fails[0].broken[0].says


def test_too_few_rounds_are_no_interval():
    found = answer(run(case("few", p99=1.0, rounds=4), case("many")), of=question(p99="10ms"))
    assert lists(found) == {"sure": ["many"], "maybe": ["few"], "fails": []}
    assert found.maybe[0].settles == ("p99: 2 more rounds for an interval, it has 4",)


def test_the_number_of_items_needed_is_reported():
    found = answer(run(case("int8", drop=0.0, drop_spread=1.3)), of=question(accuracy_drop="1pp"))
    assert found.maybe[0].settles == ("accuracy drop: 1,900 items needed for 1 pp, you have 650",)
    # half of the room: four times the items
    found = answer(run(case("int8", drop=0.5, drop_spread=1.3)), of=question(accuracy_drop="1pp"))
    assert "7,600 items needed" in found.maybe[0].settles[0]


def test_items_of_metrics_without_pairs_grow_with_the_square_of_the_width():
    row = case("int8", drop=0.0, drop_spread=2.0, accuracy_items_needed=None, accuracy_metric="mAP")
    found = answer(run(row), of=question(accuracy_drop="1pp"))
    assert "2,600 items needed" in found.maybe[0].settles[0]


def test_float32_itself_loses_nothing_and_no_labels_leave_it_open():
    rows = run(
        case("reference", precision="fp32", drop=None, sqnr_db=None),
        case("unlabelled", accuracy=None, drop=None, accuracy_items=None),
        case("shipped", precision="as-shipped", drop=None, sqnr_db=None),
    )
    found = answer(rows, of=question(accuracy_drop="0pp"))
    assert lists(found)["sure"] == ["reference"]
    told = {c.candidate.row.backend: c.settles[0] for c in found.maybe}
    assert "not measured on this machine" in told["unlabelled"]
    assert "'accuracy>=76%'" in told["shipped"]


def test_unmeasured_figures_fail_with_a_reason_and_open_ones_may_still_pass():
    rows = run(
        case("skipped", status="skipped", reason="no VNNI", rounds=0),
        case("crashed", status="crashed", reason="signal 11"),
        case("open", status=None, reason="not measured yet: the run was interrupted", rounds=0),
    )
    found = answer(rows, of=question(p99="10ms"))
    assert lists(found) == {"sure": [], "maybe": ["open"], "fails": ["crashed", "skipped"]}
    told = to_json(Recommendation(question(), None, (found,)))["answers"][0]
    assert {choice["reason"] for choice in told["fails"]} == {"no VNNI", "signal 11"}
    assert "interrupted" in found.maybe[0].settles[0]


def test_memory_is_the_whole_process_with_an_interval_over_trials():
    row = case("one", memory=100.0)
    key = row.case_id
    wide = {key: {"memory_process_peak_mb": Estimate(100.0, 90.0, 130.0)}}
    assert lists(answer(run(row), of=question(memory="102MB")))["sure"] == ["one"]
    assert lists(answer(run(row, spreads=wide), of=question(memory="102MB")))["maybe"] == ["one"]


@given(st.lists(st.floats(0.1, 1e6), min_size=1, max_size=60))
def test_the_median_lies_in_its_interval_which_there_is_from_six_trials_on(values):
    found = median(np.array(values))
    assert found.value == pytest.approx(float(np.median(values)))
    if len(values) < 6:
        assert found.low is None and found.high is None
    else:
        assert found.low is not None and found.high is not None
        assert min(values) <= found.low <= found.value <= found.high <= max(values)


# --------------------------------------------------------------------------- ranking


def test_the_least_is_first_and_what_overlaps_it_is_within_noise():
    rows = run(case("slow", p50=3.0), case("best", p50=2.0), case("tie", p50=2.1))
    found = answer(rows, of=question(p99="10ms"))
    assert labels(found.sure) == ["best", "tie", "slow"]
    assert labels(found.best) == ["best", "tie"]
    assert found.sure[2].more == (
        pytest.approx(0.5),
        pytest.approx(3.0 / 1.05 / (2.0 * 1.05) - 1),
    )
    (says,) = sentences(found, choose([rows], question(p99="10ms")))
    assert "cannot be told apart in p50" in says


def test_a_clear_winner_is_reported():
    rows = run(case("slow", p50=3.0), case("best", p50=2.0))
    of = choose([rows], question(p99="10ms"))
    (says,) = sentences(of.answers[0], of)
    assert says.startswith("best int8-static surely keeps every limit, and has the lowest p50")
    assert "next is slow int8-static, at least 36.1 % more" in says


def test_without_intervals_nothing_is_called_first():
    rows = run(case("one", p50=1.0, rounds=3), case("two", p50=9.0, rounds=3))
    found = answer(rows, of=question("latency", size="20MB"))
    assert labels(found.best) == ["one", "two"]


def test_size_is_exact_and_equal_sizes_tie():
    rows = run(
        case("big", artifact_size_mb=12.0), case("small", artifact_size_mb=10.0), case("same")
    )
    found = answer(rows, of=question("size"))
    assert labels(found.best) == ["same", "small"]
    assert found.sure[-1].more == (pytest.approx(0.2), pytest.approx(0.2))


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"noisy": True, "noise_reason": "others used 0.9 cores"}, "noisy"),
        ({"inconclusive": True, "half_width": 0.06}, "inconclusive"),
        ({"flags": "int8 in name only"}, "int8 in name only"),
    ],
)
def test_a_doubtful_winner_is_marked_doubtful(more, word):
    rows = run(case("best", p50=1.0, **more), case("next"))
    of = choose([rows], question(p99="10ms"))
    says = sentences(of.answers[0], of)[0]
    assert "by figures in doubt" in says
    assert f"In doubt: best int8-static: {word}" in says


def test_a_result_that_loadgen_did_not_call_valid_is_never_sure():
    scenario: dict[str, Any] = {"scenario": "mlperf-single-stream"}
    rows = run(
        case("valid", p50=3.0, loadgen_valid=True, **scenario),
        case("invalid", p50=1.0, loadgen_valid=False, **scenario),
    )
    found = answer(rows, of=question(p99="10ms"))
    assert lists(found) == {"sure": ["valid"], "maybe": ["invalid"], "fails": []}
    assert found.changes[0].choice is None  # not the invalid one


def test_one_that_might_and_would_come_first_is_named():
    rows = run(case("sure", p99=9.0, p50=3.0), case("perhaps", p99=9.9, p50=1.0))
    of = choose([rows], question(p99="10ms"))
    says = sentences(of.answers[0], of)
    assert "might keep the limits and come before: perhaps int8-static" in says[1]


# --------------------------------------------------------------------------- sustained


def sustained(backend: str, p50: float, p99: float | None, **more: Any) -> dict[str, Any]:
    return case(
        backend,
        scenario="sustained",
        sustained_p50_ms=p50,
        sustained_p99_ms=p99,
        scenario_options="duration_s=60",
        **more,
    )


def test_sustained_figures_are_taken_where_there_are_some():
    cool, hot, lone = case("hot", p99=5.0), sustained("hot", 4.0, 12.0), case("lone", p99=5.0)
    known = {
        hot.case_id: {
            "sustained_p50_ms": Estimate(4.0, 3.9, 4.1),
            "sustained_p99_ms": Estimate(12.0, 11.0, 13.0),
        }
    }
    found = answer(run(cool, hot, lone, spreads=known), of=question(p99="10ms"))
    assert lists(found) == {"sure": ["lone"], "maybe": [], "fails": ["hot"]}
    assert "sustained p99" in found.fails[0].broken[0].says
    assert any("of 1 of 2 configurations" in note for note in found.notes)


def test_one_sustained_trial_gives_no_interval_but_a_remedy():
    rows = run(case("hot"), sustained("hot", 4.0, 9.0, rounds=1))
    found = answer(rows, of=question(p99="10ms"))
    assert lists(found)["maybe"] == ["hot"]
    assert found.maybe[0].settles == ("p99: 5 more rounds for an interval, it has 1",)
    assert found.notes[0] == "speed is that under sustained load"


def test_a_sustained_case_that_failed_leaves_its_speed_open():
    rows = run(case("hot"), sustained("hot", 4.0, 9.0, status="timeout", reason="120 s are over"))
    found = answer(rows, of=question(p99="10ms"))
    assert "sustained load: timeout: 120 s are over" in found.maybe[0].settles[0]


def test_missing_sustained_figures_are_reported():
    found = answer(run(case("one")), of=question(p99="10ms"))
    assert any("none was measured under sustained load" in note for note in found.notes)


# --------------------------------------------------------------------------- machines and energy


def test_two_machines_are_one_choice_and_each_has_its_own_accuracy():
    on_a = run(case("x", p50=2.0, drop=0.0))
    on_b = run(case("x", p50=1.0, drop=3.0), machine=B, run_id="run-b")
    found = answer(on_a, on_b, of=question(accuracy_drop="1pp"))
    assert [c.label for c in found.sure] == ["x int8-static on board A"]
    assert [c.label for c in found.fails] == ["x int8-static on board B"]


def test_accuracy_is_not_carried_to_a_machine_that_has_none():
    on_b = run(case("x", accuracy=None, drop=None), machine=B, run_id="run-b")
    found = answer(run(case("x")), on_b, of=question(accuracy_drop="1pp"))
    assert [c.label for c in found.maybe] == ["x int8-static on board B"]


@pytest.mark.parametrize(
    "other",
    [
        run(case("y"), machine=B, run_id="run-b", way={"settings.timed_s": 2.0}),
        run(case("y", accuracy_items=600), machine=B, run_id="run-b"),
        run(case("y", dataset_digest="e" * 64), machine=B, run_id="run-b"),
    ],
)
def test_runs_that_measured_otherwise_are_answered_apart(other):
    of = choose([run(case("x")), other], question(p99="10ms"))
    assert [labels(found.sure) for found in of.answers] == [["x"], ["y"]]
    assert all("answered apart" in found.notes[0] for found in of.answers)


def energy(mj: float, **how: Any) -> dict[str, Any]:
    return {**interval("energy_mj_per_inference", "", mj, 0.95 * mj, 1.05 * mj), **how}


def test_proxies_are_ranked_on_their_own_and_keep_no_limit():
    rows = run(
        case("metered", **energy(5.0, **WALL, idle_w=3.0)), case("guessed", **energy(1.0, **PROXY))
    )
    found = answer(rows, of=question("energy"))
    assert labels(found.sure) == ["metered", "guessed"]
    assert [choice.pool for choice in found.sure] == [0, 1]
    assert labels(found.best) == ["metered"]
    of = choose([rows], question("energy"))
    assert "Not ranked with these: guessed" in sentences(found, of)[1]
    found = answer(rows, of=question("energy", energy="6mJ"))
    assert lists(found) == {"sure": ["metered"], "maybe": ["guessed"], "fails": []}
    assert "a proxy" in found.maybe[0].settles[0]


def test_energy_of_two_machines_is_ranked_only_at_the_wall():
    def on(machine: Machine, how: Mapping[str, Any], mj: float) -> Measured:
        return run(
            case("x", **energy(mj, **how, idle_w=3.0)), machine=machine, run_id=f"run-{machine.key}"
        )

    rapl = {"energy_method": "rapl", "energy_scope": "cpu package", "energy_is_measured": True}
    wall = answer(on(A, WALL, 5.0), on(B, WALL, 4.0), of=question("energy"))
    assert [c.pool for c in wall.sure] == [0, 0]
    chips = answer(on(A, rapl, 5.0), on(B, rapl, 4.0), of=question("energy"))
    assert sorted(c.pool or 0 for c in chips.sure) == [0, 1]


def test_a_configuration_without_the_figure_is_listed_and_not_ranked():
    rows = run(case("x", **energy(5.0, **PROXY)), case("y", energy_reason="no sensor"))
    found = answer(rows, of=question("energy", p99="10ms"))
    assert labels(found.sure) == ["x", "y"]
    assert found.sure[1].pool is None and not found.sure[1].first
    of = choose([run(case("y"))], question("energy", p99="10ms"))
    assert "None has a figure of energy" in sentences(of.answers[0], of)[0]


def test_costs_choose_the_cheaper_machine():
    sheet = CostSheet.model_validate(
        {
            "machines": {
                name: {"price_per_hour": {"amount": euros, "currency": "EUR", "date": "2026-01-31",
                                          "source": "an offer"}}
                for name, euros in (("board A", 1.0), ("board B", 3.0))
            }
        }
    )  # fmt: skip
    on_a = run(case("x", p50=2.0))
    on_b = run(case("x", p50=1.0), machine=B, run_id="run-b")
    found = answer(on_a, on_b, of=question("cost"), costs=sheet)
    # 1 EUR an hour at 500 items a second; 3 EUR at 1000
    assert found.sure[0].label == "x int8-static on board A"
    assert found.sure[0].objective is not None and found.sure[0].objective.estimate is not None
    assert found.sure[0].objective.estimate.value == pytest.approx(1e6 / 500 / 3600)
    with pytest.raises(UserError, match="no costs are given"):
        choose([on_a], question("cost"))


# --------------------------------------------------------------------------- what is asked


def test_every_model_gets_an_answer_and_a_scenario_or_batch_can_be_asked_for():
    rows = run(case("x"), case("x", model="other"), case("x", batch_size=8))
    of = choose([rows], question(p99="10ms"))
    assert [(a.model, a.batch_size) for a in of.answers] == [("net", 1), ("net", 8), ("other", 1)]
    of = choose([rows], Question(models=("net",), batch_size=8))
    assert [(a.model, a.batch_size) for a in of.answers] == [("net", 8)]
    for wrong in (Question(models=("nte",)), Question(scenario="offlin"), Question(batch_size=3)):
        with pytest.raises(UserError, match="there is no case of"):
            choose([rows], wrong)


def test_it_is_sure_if_every_model_has_a_configuration():
    rows = [case("x"), case("x", model="slow", p99=50.0)]
    assert not choose([run(*rows)], question(p99="10ms")).is_sure
    assert choose([run(*rows)], question(p99="100ms")).is_sure


def test_no_answer_names_what_came_nearest():
    rows = run(case("near", p99=10.6), case("far", p99=20.0))
    of = choose([rows], question(p99="10ms"))
    assert of.answers[0].nearest is not None
    assert of.answers[0].nearest.label == "near int8-static"
    assert "Nearest is near int8-static: p99" in sentences(of.answers[0], of)[0]
    assert changed(of.answers[0].changes[0], of).startswith(
        "with p99 of 11.2 ms or more it would be near int8-static"
    )


def test_nothing_measured_is_an_answer():
    of = choose([run(case("x", status="skipped", reason="no", rounds=0))], question(p99="10ms"))
    assert sentences(of.answers[0], of) == ["Nothing was measured."]
    assert not of.is_sure


# --------------------------------------------------------------------------- what would change it


def test_the_point_where_the_answer_changes_is_reported_for_each_limit():
    rows = run(
        case("small", p50=1.0, p99=8.0, drop=0.5, drop_spread=0.3),  # p99 to 8.4, drop to 0.8
        case("exact", p50=2.0, p99=4.0, drop=0.0, drop_spread=0.1),
        case("wild", p50=0.5, p99=11.0, drop=0.0, drop_spread=0.1),  # to 11.55
    )
    of = choose([rows], question(p99="10ms", accuracy_drop="1pp"))
    assert labels(of.answers[0].sure) == ["small", "exact"]
    said = [changed(change, of) for change in of.answers[0].changes]
    assert said[0].startswith("with p99 below 8.4 ms it would be exact int8-static")
    assert said[0].endswith("100 % more)")
    assert said[1].startswith("with p99 of 11.6 ms or more it would be wild int8-static")
    assert said[1].endswith("50.0 % less)")
    assert said[2].startswith("with accuracy drop below 0.8 pp it would be exact")
    assert len(said) == 3


# --------------------------------------------------------------------------- whatever the table


@st.composite
def tables(draw: st.DrawFn) -> Measured:
    rows = []
    for number in range(draw(st.integers(1, 8))):
        status = draw(st.sampled_from(["ok", "ok", "ok", "ok", "skipped", "crashed", None]))
        rows.append(
            case(
                f"b{number}",
                p50=draw(st.floats(0.5, 4)),
                p99=draw(st.floats(4, 16)),
                spread=draw(st.floats(0.001, 0.5)),
                drop=draw(st.none() | st.floats(-1, 3)),
                drop_spread=draw(st.floats(0.05, 2)),
                memory=draw(st.floats(10, 400)),
                rounds=draw(st.sampled_from([3, 6, 12])),
                status=status,
                reason="why",
                loadgen_valid=draw(st.sampled_from([None, None, None, False])),
            )
        )
    return run(*rows)


asked = st.builds(
    lambda p99, drop, memory: Question(
        (Limit("p99", p99), Limit("accuracy_drop", drop), Limit("memory", memory))
    ),
    st.floats(3, 20),
    st.floats(0, 3),
    st.floats(10, 400),
)


@settings(deadline=None, max_examples=40)
@given(tables(), asked)
def test_every_case_is_in_one_list_and_the_worst_of_a_sure_one_keeps_every_limit(table, of):
    found = answer(table, of=of)
    keys = [c.candidate.row.case_id for c in (*found.sure, *found.maybe, *found.fails)]
    assert sorted(keys) == sorted(row.case_id for row in table.rows)
    p99, drop, memory = (limit.value for limit in of.limits)
    for choice in found.sure:
        row = choice.candidate.row
        assert row.status == "ok"
        assert row.latency_p99_high_ms <= p99
        assert -100 * row.accuracy_delta_low <= drop
        assert 1.01 * row.memory_process_peak_mb <= memory * (1 + 1e-12)
    values = [choice.candidate.row.latency_p50_ms for choice in found.sure]
    assert values == sorted(values)


@settings(deadline=None, max_examples=40)
@given(tables(), asked, st.sampled_from([0, 1, 2]), st.floats(0.3, 1))
def test_a_stricter_limit_never_finds_more(table, of, place, by):
    stricter = list(of.limits)
    stricter[place] = Limit(of.limits[place].aspect, of.limits[place].value * by)
    before = {c.candidate.row.case_id for c in answer(table, of=of).sure}
    after = {c.candidate.row.case_id for c in answer(table, of=Question(tuple(stricter))).sure}
    assert after <= before


@settings(deadline=None, max_examples=40)
@given(tables(), asked)
def test_the_answer_changes_at_the_reported_limit_and_not_before(table, of):
    found = answer(table, of=of)
    first = found.sure[0].candidate.row.case_id if found.sure else None
    for change in found.changes:

        def at(value: float, aspect: str = change.limit.aspect) -> str | None:
            limits = tuple(Limit(x.aspect, value) if x.aspect == aspect else x for x in of.limits)
            sure = answer(table, of=Question(limits)).sure
            return sure[0].candidate.row.case_id if sure else None

        told = None if change.choice is None else change.choice.candidate.row.case_id
        if change.direction == "stricter":
            assert at(change.value) == first
            assert at(math.nextafter(change.value, 0)) == told != first
        else:
            assert at(math.nextafter(change.value, 0)) == first
            assert at(change.value) == told != first


# --------------------------------------------------------------------------- bundles and commands


@pytest.mark.slow
def test_a_run_is_recommended_on(project):
    bundle = Bundle(project.root / project.run_json(project.suite(rounds=6))["bundle"])
    asked = ("recommend", bundle.path, "--limit", "p50<=10s", "--limit", "accuracy_drop<=50pp")
    done = project.qbench(*asked, "--limit", "memory<=10GB", "--json")
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)["answers"]
    assert len(found["sure"]) == 2
    by_id = {row.case_id: row for row in case_rows(bundle, bundle.trials_frame())}
    for choice in found["sure"]:
        row = by_id[choice["case_id"]]
        assert choice["objective"]["value"] == row.latency_p50_ms
        assert choice["figures"]["memory"]["value"] == row.memory_process_peak_mb
        assert choice["figures"]["memory"]["low"] <= row.memory_process_peak_mb
    values = [choice["objective"]["value"] for choice in found["sure"]]
    assert values == sorted(values)
    done = project.qbench("recommend", bundle.path, "--limit", "p50<=1ns")
    assert done.returncode == 1
    assert "Nothing surely keeps the limits. Nearest is fake" in done.stdout
    done = project.qbench("recommend", bundle.path, "--limit", "p50<=10")
    assert done.returncode == 2
    assert "limit 'p50<=10': p50 needs a unit" in done.stderr


NAME = "\x1b[31m<script>alert(1)</script>\u202enet"


@pytest.fixture
def crafted(tmp_path: Path) -> Bundle:
    """fp32 at 4 ms and int8 at 1.5 ms in seven rounds, of a model with a hostile name."""
    made = Crafted(tmp_path / "bundle", settings={"rounds": 7})
    rng = np.random.default_rng(0)
    made.labels = rng.integers(0, 10, 400)
    right = 2 * np.eye(10, dtype=np.float32)[made.labels]
    first = None
    for precision, ms in (("fp32", 4.0), ("int8-static", 1.5)):
        case_id = made.case(precision, model=NAME)
        for number in range(7):
            made.trial(case_id, number, ms * (1 + 0.01 * rng.normal()))
        outputs = (right + rng.normal(0, 1, right.shape)).astype(np.float32)
        made.evaluation(case_id, outputs, first)
        first = first or case_id
    made.case("bf16", skip="no such kernel", model=NAME)
    return made.done()


def test_names_from_bundles_do_not_steer_the_terminal(crafted):
    out = Console(file=io.StringIO(), width=200)
    for part in recommendation_parts(recommend([crafted], question(p99="10ms"))):
        out.print(part)
    text = out.file.getvalue()  # type: ignore[attr-defined]
    assert "alert(1)" in text
    assert "\x1b" not in text and "\u202e" not in text


def test_the_report_says_the_same(crafted, tmp_path):
    asked = question(p99="3ms", memory="40MB")
    found = recommend([crafted], asked)
    assert labels(found.answers[0].sure) == ["fake"]
    write_report([crafted], tmp_path / "page.html", Options(question=asked))
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    page = Page(html)
    for sentence in sentences(found.answers[0], found):
        assert sentence in page.text
    for change in found.answers[0].changes:
        assert changed(change, found)[1:] in page.text
    assert "not measured: skipped: no such kernel" in page.text
    assert "alert(1)</script>" not in html
    anchors = {attributes.get("id") for _, attributes in page.elements}
    led_to = {row["href"] for row in page.all("a") if "#case-A-" in (row.get("href") or "")}
    assert led_to and {href[1:] for href in led_to if href} <= anchors
    charts = {chart["name"].split(",")[0]: chart for chart in page.data["recommend"]}
    assert {name: chart["limit"] for name, chart in charts.items()} == {
        "p99": 3.0, "memory": 40.0, "p50": None,
    }  # fmt: skip
    standing = {point["label"]: point["standing"] for point in charts["p99"]["points"]}
    assert standing == {"fake int8-static": "surely", "fake fp32": "not"}


def test_a_report_that_is_not_asked_recommends_nothing(crafted, tmp_path):
    write_report([crafted], tmp_path / "page.html")
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "recommend" not in {attributes.get("id") for _, attributes in page.elements}
    assert page.data["recommend"] == []
