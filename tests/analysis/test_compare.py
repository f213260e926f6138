"""Compare two runs, or two environments, backends or precisions of one run: matching of cases,
figures worked out by hand or by SciPy, and refusals."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Project
from crafted import Crafted
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rows import case_row
from scipy import stats as scipy_stats

from qbench.analysis.compare.compare import Comparison, compare_runs, compare_within
from qbench.analysis.compare.matching import find_column, match_runs
from qbench.analysis.statistics.estimates import Estimate
from qbench.analysis.statistics.verdict import Verdict
from qbench.analysis.table.table import case_table
from qbench.analysis.table.trials import Trials, ratio_of_estimates, welch_ratios
from qbench.bundle.bundle import Bundle
from qbench.bundle.records.run import to_json
from qbench.bundle.trials import TRIAL_COLUMNS
from qbench.cli.compare import compare
from qbench.errors import UserError
from qbench.present.terminal.comparison import comparison_markdown, comparison_parts
from qbench.spec.case import Filters
from qbench.spec.columns import CaseRow

NINE = [1.01, 1.02, 1.03, 1.04, 1.05, 1.06, 1.07, 1.08, 1.09]
"""Ratios of nine rounds. Their median is 1.05; the second on either side bounds the sign test's
interval of 96.1 % (Hollander, Wolfe & Chicken, table A.2)."""


def add(crafted: Crafted, precision: str = "fp32", **fields: Any) -> str:
    """A case on a known data set, whose artifact is that of its precision and model."""
    case_id = crafted.case(precision, **fields)
    if "skip" not in fields:
        crafted.cases[-1]["dataset_digest"] = "e" * 64
        model = fields.get("model", "net")
        crafted.prepared[f"a{case_id}"]["digest"] = f"{precision} of {model}"
    return case_id


def measure(crafted: Crafted, case_id: str, latencies_ms: list[float], **fields: Any) -> None:
    for number, latency in enumerate(latencies_ms):
        crafted.trial(case_id, number, latency, **fields)


def two_environments(folder: Path, ratios: list[float] = NINE) -> Crafted:
    crafted = Crafted(folder)
    measure(crafted, add(crafted, environment="old"), [2.0] * len(ratios))
    measure(crafted, add(crafted, environment="new"), [2 * ratio for ratio in ratios])
    return crafted


def a_run(folder: Path, name: str, latencies_ms: list[float], **begin: Any) -> Crafted:
    crafted = Crafted(folder, f"20260101-000000-{name}-0001", **begin)
    measure(crafted, add(crafted), latencies_ms)
    return crafted


def shown(comparison: Comparison, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    for part in comparison_parts(comparison, console):
        console.print(part)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


# --------------------------------------------------------------------------- paired


def test_rounds_of_one_run_by_hand(tmp_path: Path):
    found = compare_within(two_environments(tmp_path).done(), "environment", "old", "new")
    (pair,) = found.pairs
    assert found.paired and pair.percentile == "p1"
    assert pair.latency is not None and pair.latency.paired and pair.latency.rounds == 9
    ratio = pair.latency
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((1.05, 1.02, 1.08), abs=1e-6)
    assert ratio.p_value == pytest.approx(2 / 2**9)
    assert pair.p_value == pair.adjusted_p == pytest.approx(4 / 2**9)  # of latency and stalls
    assert pair.verdict is Verdict.REGRESSION
    assert pair.throughput is not None
    assert pair.throughput.value == pytest.approx(1 / 1.05, abs=1e-6)
    assert pair.memory is not None and (pair.memory.low, pair.memory.value) == (1, 1)
    back = compare_within(two_environments(tmp_path / "b").done(), "environment", "new", "old")
    assert back.pairs[0].verdict is Verdict.IMPROVEMENT
    assert "slower" in shown(found) and "faster" in shown(back)


def test_environments_run_the_same_artifact_and_precisions_do_not(tmp_path: Path):
    crafted = two_environments(tmp_path)
    measure(crafted, add(crafted, "int8-static", environment="new"), [1.0] * 9)
    bundle = crafted.done()
    (pair,) = compare_within(bundle, "environment", "old", "new").pairs
    assert (pair.claim, pair.differs) == ("same artifact", ("environment",))
    found = compare_within(bundle, "precision", "fp32", "int8-static")
    (pair,) = found.pairs
    assert (pair.claim, pair.differs) == ("same work", ("precision", "artifact_digest"))
    assert [row.environment for row in found.only_a] == ["old"]
    assert pair.size is not None and pair.size.value == 1


def test_only_rounds_of_one_sitting_are_paired(tmp_path: Path):
    crafted = Crafted(tmp_path)
    old, new = add(crafted, environment="old"), add(crafted, environment="new")
    for number in range(4):
        crafted.trial(old, number, 2.0)
        crafted.trial(new, number, 3.0)
    crafted.trial(old, 4, 2.0, sitting=1)
    crafted.trial(new, 4, 50.0, sitting=2)
    crafted.trial(new, 5, 50.0)
    (pair,) = compare_within(crafted.done(), "environment", "old", "new").pairs
    assert pair.latency is not None and pair.decision is not None
    assert (pair.latency.rounds, pair.latency.value) == (4, pytest.approx(1.5))
    assert pair.latency.low is None, "four rounds have no interval"
    assert pair.verdict is Verdict.INCONCLUSIVE


def test_no_round_in_common_gives_no_ratio(tmp_path: Path):
    crafted = Crafted(tmp_path)
    crafted.trial(add(crafted, environment="old"), 0, 2.0)
    crafted.trial(add(crafted, environment="new"), 1, 2.0)
    found = compare_within(crafted.done(), "environment", "old", "new")
    (pair,) = found.pairs
    assert pair.latency is None and pair.decision is None and pair.verdict is None
    assert "without a round in common" in shown(found)


@pytest.mark.parametrize(("calls", "point"), [(100, "p1"), (99, "p10"), (9, "p50")])
def test_the_percentile_is_the_lowest_that_a_trial_has_calls_for(
    tmp_path: Path, calls: int, point: str
):
    crafted = two_environments(tmp_path)
    record, samples = crafted.trials[0]
    assert samples is not None
    crafted.trials[0] = ({**record, "calls": calls, "items": calls}, samples[:calls])
    found = compare_within(crafted.done(), "environment", "old", "new")
    assert found.pairs[0].percentile == point
    assert found.pairs[0].latency is not None
    assert found.pairs[0].latency.value == pytest.approx(1.05, abs=1e-6)
    assert f" {point} " in shown(found)


def test_one_alarm_among_many_pairs_is_weighed_with_them(tmp_path: Path):
    crafted = Crafted(tmp_path)
    calm = [1.001 if number % 2 else 0.999 for number in range(9)]
    for index in range(7):
        for environment, ratios in (("old", [1.0] * 9), ("new", NINE if index == 0 else calm)):
            case_id = add(crafted, environment=environment, threads=index + 1)
            measure(crafted, case_id, [2 * ratio for ratio in ratios])
    found = compare_within(crafted.done(), "environment", "old", "new")
    alone = [pair for pair in found.pairs if pair.decision and pair.decision.because]
    assert [pair.b.threads for pair in alone] == [1]
    assert alone[0].adjusted_p == pytest.approx(7 * 4 / 2**9)  # the least of 7, times 7
    assert alone[0].verdict is Verdict.INCONCLUSIVE


def test_stalls_alone_make_a_verdict(tmp_path: Path):
    crafted = two_environments(tmp_path, [1.0] * 9)
    for index, (record, samples) in enumerate(crafted.trials):
        if record["case_id"].endswith("1"):  # the new environment's
            assert samples is not None
            samples = samples.copy()
            samples[::20] *= 3
            crafted.trials[index] = (record, samples)
    found = compare_within(crafted.done(), "environment", "old", "new")
    (pair,) = found.pairs
    assert pair.latency is not None and pair.latency.value == 1
    assert pair.stalls is not None and pair.stalls.value == pytest.approx(0.05, abs=0.011)
    assert pair.verdict is Verdict.REGRESSION
    assert "slower (stalls)" in shown(found)


def test_variants_of_a_precision_are_each_compared_with_the_one_that_has_none(tmp_path: Path):
    crafted = Crafted(tmp_path)
    options = {"calibration": "minmax", "per_channel": True, "calibration_items": 10}
    measure(crafted, add(crafted), [4.0] * 6)
    for per_channel in (True, False):
        case_id = add(crafted, "int8-static", options={**options, "per_channel": per_channel})
        measure(crafted, case_id, [2.0] * 6)
    bundle = crafted.done()
    found = compare_within(bundle, "precision", "fp32", "int8-static")
    assert len({pair.b.case_id for pair in found.pairs}) == len(found.pairs) == 2
    assert not found.only_a and not found.only_b


# --------------------------------------------------------------------------- unpaired


def frame(figures: Mapping[str, list[float]]) -> pd.DataFrame:
    rows = [
        {"trial": f"{case}{n}", "case_id": case, "status": "ok", "sitting": 1, "round": n,
         "p10_ns": value, "p50_ns": value, "items": 1, "wall_ns": 1, "calls": 1}
        for case, values in figures.items()
        for n, value in enumerate(values)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=TRIAL_COLUMNS)


LATENCIES = st.lists(st.floats(1e3, 1e9), min_size=6, max_size=12)


@given(LATENCIES, LATENCIES)
def test_unpaired_intervals_are_welch_s(first: list[float], last: list[float]):
    a, b = Trials(frame({"x": first})), Trials(frame({"y": last, "z": first}))
    (ratio, other) = welch_ratios(a, b, [("x", "y"), ("x", "z")], "p10")
    assert ratio is not None and other is not None
    assert not ratio.paired and ratio.rounds == min(len(first), len(last))
    assert other.value == pytest.approx(1)
    logs = np.log(last), np.log(first)
    if min(np.ptp(part) for part in logs) < 1e-3:
        return  # nothing to test against
    wanted: Any = scipy_stats.ttest_ind(*logs, equal_var=False)
    ends = np.exp(wanted.confidence_interval(0.95))
    assert ratio.value == pytest.approx(math.exp(logs[0].mean() - logs[1].mean()), rel=1e-6)
    assert (ratio.low, ratio.high) == pytest.approx(tuple(ends), rel=1e-6)
    assert ratio.p_value == pytest.approx(wanted.pvalue, rel=1e-6, abs=1e-12)


def test_two_runs_get_intervals_and_no_verdict(tmp_path: Path):
    rng = np.random.default_rng(5)
    slow = [3 * value for value in rng.lognormal(0, 0.01, 12).tolist()]
    a, b = a_run(tmp_path, "a", [2.0, 2.01] * 6), a_run(tmp_path, "b", slow)
    found = compare_runs(a.done(), b.done())
    (pair,) = found.pairs
    assert not found.paired and pair.decision is None and pair.verdict is None
    assert pair.percentile == "p10" and pair.latency is not None
    assert pair.latency.low is not None and pair.latency.low > 1.4
    for text in (shown(found), comparison_markdown(found)):
        assert "Not paired" in text and "20 to 48" in text and "above 1" in text
        assert "slower" not in text


def test_rows_of_two_runs_are_those_of_the_case_table_except_journal_columns(tmp_path: Path):
    crafted = two_environments(tmp_path)
    measure(crafted, add(crafted, "bf16", environment="new"), [1.0] * 9)
    bundle = crafted.done()
    table = case_table(bundle).to_dict("records")
    pairs = compare_runs(bundle, bundle).pairs
    assert len(pairs) == len(table) == 3
    for of, pair in zip(table, pairs, strict=True):
        assert {name for name, value in of.items() if getattr(pair.a, str(name)) != value} <= {
            "noisy", "noise_reason", "doubtful_trials",
        }  # fmt: skip
    assert table[2]["speedup"] == pytest.approx(2.1, rel=0.01)


def test_runs_without_spread_or_with_few_trials_have_no_test(tmp_path: Path):
    a, b = a_run(tmp_path, "a", [2.0] * 6).done(), a_run(tmp_path, "b", [3.0] * 6).done()
    few = a_run(tmp_path, "c", [3.0] * 5).done()
    ratio = compare_runs(a, b).pairs[0].latency
    assert ratio is not None
    assert (ratio.low, ratio.high, ratio.p_value) == (pytest.approx(1.5), pytest.approx(1.5), None)
    ratio = compare_runs(a, few).pairs[0].latency
    assert ratio is not None and ratio.value == pytest.approx(1.5)
    assert (ratio.low, ratio.high, ratio.p_value, ratio.rounds) == (None, None, None, 5)


def test_the_interval_of_a_ratio_from_two_intervals():
    a, b = Estimate(2.0, 1.8, 2.0 / 0.9), Estimate(3.0, 3.0 / 1.2, 3.0 * 1.2)
    ratio, back = ratio_of_estimates(a, b), ratio_of_estimates(b, a)
    half = math.hypot(math.log(1 / 0.9), math.log(1.2))  # of symmetric ones: their root of squares
    assert ratio.value == 1.5
    assert (ratio.low, ratio.high) == pytest.approx((1.5 / math.exp(half), 1.5 * math.exp(half)))
    assert (back.low, back.high) == pytest.approx((1 / (ratio.high or 0), 1 / (ratio.low or 0)))
    assert ratio_of_estimates(a, Estimate(3.0, None, None)).low is None


# --------------------------------------------------------------------------- which belong together


def row(**changes: Any) -> CaseRow:
    return case_row(**{
        "case_id": "c", "model": "net", "model_digest": "m", "backend": "x", "environment": "e",
        "precision": "fp32", "variant": None, "recipe": "best", "device": "cpu",
        "scenario": "single-stream", "scenario_options": None, "batch_size": 1, "threads": 1,
        "streams": 1, **changes,
    })  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "belong"),
    [
        ({}, True),
        ({"case_id": "other"}, True),  # other settings of the runtime
        ({"case_id": "other", "threads": 4}, True),
        ({"case_id": "other", "device": "cuda", "threads": 4}, True),
        ({"case_id": "other", "model": "renamed"}, True),  # the same file: refused, and told why
        ({"case_id": "other", "model": "renamed", "model_digest": "n"}, False),
        ({"case_id": "other", "precision": "int8-static"}, False),
        ({"case_id": "other", "backend": "y"}, False),
        ({"case_id": "other", "batch_size": 8}, False),
        ({"case_id": "other", "scenario": "paced"}, False),
    ],
)
def test_cases_of_two_runs_that_belong_together(changes: dict[str, Any], belong: bool):
    matches = match_runs([row()], [row(**changes)])
    assert (len(matches.pairs), len(matches.only_a), len(matches.only_b)) == (
        (1, 0, 0) if belong else (0, 1, 1)
    )


def test_a_case_with_two_counterparts_has_none():
    several = [row(case_id="x", threads=2), row(case_id="y", threads=4)]
    matches = match_runs([row(case_id="c", threads=1)], several)
    assert not matches.pairs and len(matches.only_b) == 2
    exact = match_runs([row(case_id="y", threads=4)], several)
    assert [last.case_id for _, last in exact.pairs] == ["y"]


CASES = st.lists(
    st.builds(
        row,
        case_id=st.sampled_from("abcdef"),
        model=st.sampled_from(["net", "other"]),
        threads=st.integers(1, 3),
        device=st.sampled_from(["cpu", "cuda"]),
        model_digest=st.sampled_from(["m", None]),
    ),
    max_size=8,
)


@given(CASES, CASES)
def test_every_case_is_in_one_place(a: list[CaseRow], b: list[CaseRow]):
    matches = match_runs(a, b)
    for side, rows in enumerate((a, b)):
        placed = [pair[side] for pair in matches.pairs] + [matches.only_a, matches.only_b][side]
        assert sorted(map(id, placed)) == sorted(map(id, rows))


def test_a_renamed_model_is_reported_and_not_compared(tmp_path: Path):
    a, b = a_run(tmp_path, "a", [2.0] * 6), Crafted(tmp_path, "20260101-000000-b-0001")
    measure(b, add(b, model="renamed"), [2.0] * 6)
    b.cases[-1]["case_id"] = "c00000000009"
    for trial, _ in b.trials:
        trial["case_id"] = "c00000000009"
    found = compare_runs(a.done(), b.done())
    (refusal,) = found.refused
    assert not found.pairs and refusal.fields == ("model",)
    assert refusal.reason == "not the same work: model net against renamed"


def test_cases_that_did_not_run_or_did_other_work_are_refused(tmp_path: Path):
    sides = []
    for name in "ab":
        crafted = Crafted(tmp_path, f"20260101-000000-{name}-0001")
        measure(crafted, add(crafted), [2.0] * 6)
        measure(crafted, add(crafted, "int8-static"), [2.0] * 6)
        measure(crafted, add(crafted, "bf16"), [2.0] * 6)
        crafted.case("fp16", skip="no such kernels")
        sides.append(crafted)
    a, b = sides
    b.cases[1]["dataset_digest"] = "f" * 64
    b.trial("c00000000002", 6, 2.0, status="crashed")
    found = compare_runs(a.done(), b.done())
    assert [pair.b.precision for pair in found.pairs] == ["fp32"]
    assert {refusal.a.precision: (refusal.fields, refusal.reason) for refusal in found.refused} == {
        "int8-static": (
            ("dataset_digest",),
            "not the same work: dataset_digest eeeeeeeeeeee against ffffffffffff",
        ),
        "bf16": (("status",), "B crashed: planned crashed"),
        "fp16": (("status",), "A and B skipped: no such kernels"),
    }
    assert "no such kernels" in shown(found)


def test_another_artifact_is_the_same_work_only(tmp_path: Path):
    a, b = (a_run(tmp_path, name, [2.0] * 6) for name in "ab")
    b.prepared["ac00000000000"]["digest"] = "another"
    found = compare_runs(a.done(), b.done())
    (pair,) = found.pairs
    assert (pair.claim, pair.differs) == ("same work", ("artifact_digest",))
    assert "1 only of the same work (different artifact_digest)" in shown(found)


# --------------------------------------------------------------------------- names


def test_names_are_found_in_their_column(tmp_path: Path):
    crafted = two_environments(tmp_path)
    add(crafted, "int8-static", backend="other", environment="old")
    add(crafted, "bf16", environment="int8-static")
    add(crafted, "bf16", environment="bf16")
    bundle = crafted.done()
    assert find_column(bundle, "old", "new") == "environment"
    assert find_column(bundle, "fake", "other") == "backend"
    assert find_column(bundle, "fp32", "bf16") == "precision"
    for a, b, said in (
        ("old", "newer", "'newer' is not a bundle, nor an environment"),
        ("old", "newer", "Did you mean 'new'?"),
        ("fp32", "fake", "'fp32' is a name of precisions, and 'fake' of backends"),
        ("int8-static", "bf16", "names of environments and of precisions"),
        ("old", "old", "compared with itself"),
    ):
        with pytest.raises(UserError) as refused:
            find_column(bundle, a, b)
        assert said in str(refused.value)


def test_filters_leave_out_and_know_their_names(tmp_path: Path):
    crafted = two_environments(tmp_path)
    for environment in ("old", "new"):
        measure(crafted, add(crafted, "bf16", environment=environment), [2.0] * 9)
    bundle = crafted.done()
    few = compare_within(bundle, "environment", "old", "new", Filters(precisions=("bf16",)))
    assert [pair.a.precision for pair in few.pairs] == ["bf16"]
    runs = compare_runs(bundle, bundle, Filters(precisions=("bf16",)))
    assert [pair.a.precision for pair in runs.pairs] == ["bf16"] * 2
    with pytest.raises(UserError, match="no precision 'bf15' to compare") as refused:
        compare_runs(bundle, bundle, Filters(precisions=("bf15",)))
    assert "Did you mean 'bf16'?" in str(refused.value)


# --------------------------------------------------------------------------- accuracy, energy


def judged(folder: Path, name: str, wrong: int, labels: np.ndarray | None = None) -> Crafted:
    """A run with 100 items, of which the first ``wrong`` are wrong."""
    crafted = a_run(folder, name, [2.0] * 6)
    crafted.labels = np.arange(100) % 10
    outputs = np.eye(10, dtype=np.float32)[crafted.labels]
    outputs[:wrong] = np.roll(outputs[:wrong], 1, axis=1)
    crafted.evaluation("c00000000000", outputs)
    if labels is not None:
        crafted.labels = labels
    return crafted


def test_accuracies_are_compared_item_by_item(tmp_path: Path):
    a, b = judged(tmp_path, "a", 2).done(), judged(tmp_path, "b", 7).done()
    (pair,) = compare_runs(a, b).pairs
    delta = pair.accuracy_delta
    assert delta is not None and delta.paired and delta.items == 100
    assert delta.value == pytest.approx(-0.05)
    # Agresti & Min 2005: 0 gained, 5 lost, a half added to each of four cells
    centre, spread = (0.5 - 5.5) / 102, math.sqrt(6 - 25 / 102) / 102
    ends = (centre - 1.959964 * spread, centre + 1.959964 * spread)
    assert (delta.low, delta.high) == pytest.approx(ends, rel=1e-5)
    assert delta.p_value == pytest.approx(2 / 2**5)  # McNemar: 5 of 5 to one side
    assert pair.outputs_changed is True
    (same,) = compare_runs(a, judged(tmp_path, "c", 2).done()).pairs
    assert same.outputs_changed is False and same.accuracy_delta is not None
    assert (same.accuracy_delta.value, same.accuracy_delta.low, same.accuracy_delta.high) == (
        0,
    ) * 3


def test_within_a_run_it_is_the_case_table_s_own_delta(tmp_path: Path):
    crafted = judged(tmp_path, "a", 2)
    quantized = add(crafted, "int8-static")
    measure(crafted, quantized, [1.0] * 6)
    outputs = crafted.evaluated["ec00000000000"][1]["scores"].copy()
    outputs[50:54] = np.roll(outputs[50:54], 1, axis=1)
    crafted.evaluation(quantized, outputs, reference="c00000000000")
    bundle = crafted.done()
    (pair,) = compare_within(bundle, "precision", "fp32", "int8-static").pairs
    table = case_table(bundle).to_dict("records")[1]
    delta = pair.accuracy_delta
    assert delta is not None and delta.value == table["accuracy_delta"] == pytest.approx(-0.04)
    assert (delta.low, delta.high) == (table["accuracy_delta_low"], table["accuracy_delta_high"])
    assert pair.outputs_changed is None, "it is another artifact"


@pytest.mark.parametrize("what", ["labels", "predictions", "chosen", "damaged"])
def test_without_the_same_items_only_the_figures_are_compared(tmp_path: Path, what: str):
    other = np.arange(100)[::-1] % 10 if what == "labels" else None
    a, b = judged(tmp_path, "a", 2).done(), judged(tmp_path, "b", 7, other).done()
    folder = b.path / "predictions"
    if what == "predictions":
        (folder / "ec00000000000" / "0.npy").unlink()
    elif what == "damaged":
        (folder / "ec00000000000" / "0.npy").write_bytes(b"\x93NUMPY" + b"\xff" * 20)
    elif what == "chosen":
        np.save(folder / "chosen-net.npy", np.arange(100))
    found = compare_runs(a, b)
    delta = found.pairs[0].accuracy_delta
    assert delta is not None and not delta.paired and delta.value == pytest.approx(-0.05)
    assert (delta.low, delta.high, delta.p_value, delta.items) == (None,) * 4
    assert "not compared item by item" in shown(found)


def test_energy_is_compared_by_method_only(tmp_path: Path):
    def power(watts: float) -> dict[str, Any]:
        source = {"watts_per_core": watts, "source": "a data sheet"}
        return {"settings": {"cpu_power": source, "rounds": 10}}

    a = a_run(tmp_path, "a", [2.0] * 6, **power(3.0)).done()
    same = a_run(tmp_path, "b", [3.0] * 6, **power(3.0)).done()
    other = a_run(tmp_path, "c", [3.0] * 6, **power(4.0)).done()
    (pair,) = compare_runs(a, same).pairs
    assert pair.energy is not None and pair.energy.value == pytest.approx(1.5)
    assert pair.energy_reason is None
    found = compare_runs(a, other)
    assert found.pairs[0].energy is None
    assert "different methods" in str(found.pairs[0].energy_reason)
    assert "no ratio of energy, 1 pair: they were found by different methods" in shown(found)


# --------------------------------------------------------------------------- hostile


HOSTILE = "<script>alert(1)</script>|[x](http://evil)\x1b[31m\u202e`net`"


def test_another_architecture_is_a_choice_and_no_regression(tmp_path: Path):
    host = to_json(a_run(tmp_path, "a", [2.0] * 6).open().begin.host)
    power = {"cpu_power": {"watts_per_core": 3.0, "source": "x"}, "rounds": 10}
    a = a_run(tmp_path, "b", [2.0] * 6, host={**host, "machine": "x86_64"}, settings=power)
    arm = {**host, "machine": "aarch64", "host_id": "i" * 12, "cpu_flags": ["asimd"]}
    b = a_run(tmp_path, "c", [3.0] * 6, host=arm, settings=power)
    found = compare_runs(a.done(), b.done())
    text = shown(found)
    assert "Different machine" in text and "host.machine: x86_64 against aarch64" in text
    assert "Valid for a choice, but not for detecting regressions" in text
    assert found.pairs[0].energy is None
    assert "one machine only" in str(found.pairs[0].energy_reason)


def test_names_from_elsewhere_do_nothing(tmp_path: Path):
    sides = []
    for name in "ab":
        host = {**to_json(Crafted(tmp_path).open().begin.host), "governor": HOSTILE + name}
        crafted = Crafted(tmp_path / name, f"20260101-000000-{name}-0001", host=host)
        measure(crafted, add(crafted, model=HOSTILE), [2.0] * 6)
        crafted.case("bf16", skip=HOSTILE, model=HOSTILE)
        sides.append(crafted.done())
        (tmp_path / "20260101-000000-crafted-0001").rename(tmp_path / f"gone-{name}")
    found = compare_runs(*sides)
    assert len(found.pairs) == len(found.refused) == 1
    text = shown(found)
    assert "\x1b" not in text and "\u202e" not in text
    page = comparison_markdown(found)
    assert "<script>" not in page and "\x1b" not in page and "[x](" not in page
    table = [line for line in page.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1


def test_missing_samples_are_named_and_runs_do_not_need_them(tmp_path: Path):
    bundle = two_environments(tmp_path).done()
    (bundle.path / "samples.parquet").unlink()
    assert len(compare_runs(bundle, bundle).pairs) == 2
    with pytest.raises(UserError, match=r"samples\.parquet is missing or damaged"):
        compare_within(bundle, "environment", "old", "new")


def test_a_torn_journal(tmp_path: Path):
    bundle = two_environments(tmp_path).done()
    journal = bundle.path / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-40])
    with pytest.raises(UserError, match="the journal and trials"):
        compare_within(bundle, "environment", "old", "new")
    (bundle.path / "manifest.json").unlink()  # incomplete: what is whole of the journal counts
    (pair,) = compare_within(Bundle(bundle.path), "environment", "old", "new").pairs
    assert pair.decision is not None and pair.decision.rounds == 8


# --------------------------------------------------------------------------- command line


def test_the_command_line(project: Project):
    project.run_json(project.suite(rounds=1))
    done = project.qbench("compare", "fp32", "int8-static")
    assert done.returncode == 0, done.stderr
    assert "Paired" in done.stdout and "fp32 → int8-static" in done.stdout
    done = project.qbench("compare", "fp32", "int7-static")
    assert done.returncode == 2 and "Did you mean 'int8-static'?" in done.stderr


def test_its_forms(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for name in "ab":
        judged(tmp_path, name, 2).done()
    first, last = (f"20260101-000000-{name}-0001" for name in "ab")
    assert compare(first, "latest", results=tmp_path, as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["a_label"], found["b_label"], found["paired"]) == (first, last, False)
    assert found["comparability"]["level"] == "same machine and software"
    (pair,) = found["pairs"]
    assert (pair["claim"], pair["verdict"]) == ("same artifact", None)
    assert pair["latency"]["value"] == 1 and pair["latency"]["paired"] is False
    assert pair["accuracy_delta"]["paired"] is True
    out = tmp_path / "out.json"
    assert compare(str(tmp_path / first), last, results=tmp_path, format="json", output=out) == 0
    assert json.loads(out.read_text()) == found
    assert compare(first, last, results=tmp_path, format="markdown") == 0
    assert f"- A: {first}" in capsys.readouterr().out


def test_within_a_run_its_verdict_is_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    two_environments(tmp_path).done()
    assert compare("old", "new", results=tmp_path, as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["column"], found["a_label"], found["b_label"]) == ("environment", "old", "new")
    (pair,) = found["pairs"]
    assert pair["verdict"] == pair["decision"]["verdict"] == "regression"
    assert pair["stalls"]["value"] == 0


def test_bad_input(tmp_path: Path):
    a_run(tmp_path, "a", [2.0] * 6).done()
    other = Crafted(tmp_path, "20260101-000000-b-0001")
    measure(other, add(other, "bf16"), [2.0] * 6)
    other.cases[-1]["case_id"] = other.trials[0][0]["case_id"] = "c00000000009"
    other.trials = other.trials[:1]
    other.done()
    first, last = (f"20260101-000000-{name}-0001" for name in "ab")
    for names, said in (
        ((first, last), "no case that can be compared"),
        ((first, last), "1 only in A, 1 only in B"),
        (("fp32", first), "there is no bundle 'fp32'"),
        ((first, "20260101-000000-c-0001"), "Did you mean '20260101-000000-b-0001'?"),
        (("bf16", "fp32"), "'fp32' is not a bundle, nor an environment, backend or precision"),
    ):
        with pytest.raises(UserError) as refused:
            compare(*names, results=tmp_path)
        assert said in str(refused.value) and refused.value.exit_code == 2
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"models": ["nut"]}, "Did you mean 'net'?"),
        ({"format": "html"}, "there is no format 'html'"),
        ({"output": tmp_path / "out.txt"}, "--format markdown or json"),
        ({"as_json": True, "output": tmp_path / "no" / "out.json"}, "there is no folder"),
    ]
    for options, said in wrong:
        with pytest.raises(UserError) as refused:
            compare(first, first, results=tmp_path, **options)
        assert said in str(refused.value)
