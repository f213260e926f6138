"""MLPerf's scenarios with the real LoadGen: what it measured, its verdict, and its logs."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from conftest import Project
from streams import first_scores, opened

from qbench.kit.adapter import Unsupported
from qbench.spec.scenarios import why_not

if reason := why_not("mlperf-server"):
    pytest.skip(reason, allow_module_level=True)

from qbench.kit.scenarios import (
    mlperf_multi_stream,
    mlperf_offline,
    mlperf_server,
    mlperf_single_stream,
)


@pytest.fixture(autouse=True)
def in_a_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


def check_logs(files: tuple[str, ...]) -> str:
    """The last run's summary. All listed files exist, and no trace or accuracy log."""
    there = {path.name for path in Path().iterdir()}
    assert there >= set(files)
    assert not [name for name in there if name.endswith(".json")]
    summary = next(name for name in reversed(files) if name.endswith("summary.txt"))
    return Path(summary).read_text()


@pytest.mark.usefixtures("undisturbed")
def test_single_stream_is_what_a_loop_of_the_same_steps_measures(tmp_path: Path):
    options = {"min_duration_s": 0.5, "min_queries": 100}
    given = opened(tmp_path, "mlperf-single-stream", options, seconds=0.002)
    timed = mlperf_single_stream.drive(given)
    assert timed.figures["loadgen_valid"] is True
    assert timed.items == len(timed.samples) >= 100
    told = timed.facts["loadgen"]
    assert told["invalid_because"] is None and told["result_query_count"] == timed.items
    # LoadGen's clock and ours agree on the same queries
    p50 = told["result_50.00_percentile_latency_ns"]
    assert np.median(timed.samples) == pytest.approx(p50, rel=0.05)
    p90 = told["result_90.00_percentile_latency_ns"] / 1e6
    assert timed.figures["loadgen_latency_ms"] >= p90  # early stopping is on the safe side
    assert timed.facts["infer_p50_ms"] < timed.facts["call_p50_ms"]
    assert timed.samples.sum() <= timed.wall_ns < 1.5 * timed.samples.sum()
    assert "Result is : VALID" in check_logs(timed.files)
    np.testing.assert_array_equal(given.streams[0].read()["scores"], first_scores(given))


@pytest.mark.usefixtures("undisturbed")
def test_a_run_with_too_few_queries_is_invalid_and_says_why(tmp_path: Path):
    options = {"min_duration_s": 0.1, "max_duration_s": 0.2, "min_queries": 1000}
    timed = mlperf_single_stream.drive(opened(tmp_path, "mlperf-single-stream", options, 0.005))
    assert timed.figures["loadgen_valid"] is False
    assert timed.figures["loadgen_latency_ms"] is None
    assert "Max test duration reached" in timed.facts["loadgen"]["invalid_because"]
    assert "Need to process at least 64 queries" in timed.facts["loadgen"]["invalid_because"]
    assert 10 <= len(timed.samples) < 64


def test_single_stream_takes_no_batches(tmp_path: Path):
    with pytest.raises(Unsupported, match="batch 1"):
        mlperf_single_stream.drive(opened(tmp_path, "mlperf-single-stream", {}, batch=2))


@pytest.mark.usefixtures("undisturbed")
@pytest.mark.parametrize(("streams", "batch"), [(1, 4), (2, 4)])
def test_multi_stream_works_a_query_off_in_batches_on_all_streams(
    tmp_path: Path, streams: int, batch: int
):
    options = {"min_duration_s": 0.1, "min_queries": 100}
    given = opened(tmp_path, "mlperf-multi-stream", options, 0.01, streams, batch)
    timed = mlperf_multi_stream.drive(given)
    assert timed.items == 8 * len(timed.samples)
    told = timed.facts["loadgen"]
    p50 = told["result_50.00_percentile_per_query_latency_ns"]
    assert np.median(timed.samples) == pytest.approx(p50, rel=0.05)
    # two batches of 10 ms, one after the other or side by side; a sleep may end late
    assert 2 / streams <= np.percentile(timed.samples, 10) / 10e6 < 1.4 * 2 / streams
    # 662 queries would be needed for a 99th percentile
    assert timed.figures["loadgen_valid"] is False
    assert "662 queries" in told["invalid_because"]


@pytest.mark.usefixtures("undisturbed")
def test_offline_gives_the_rate_of_all_streams(tmp_path: Path):
    given = opened(tmp_path, "mlperf-offline", {"min_duration_s": 0.5}, 0.02, 2, 4)
    timed = mlperf_offline.drive(given)
    assert timed.figures["loadgen_valid"] is True, timed.facts["loadgen"]["invalid_because"]
    assert 220 < (timed.figures["loadgen_qps"] or 0) <= 400  # two streams, 4 items in 20 ms
    assert timed.items / timed.wall_ns * 1e9 == pytest.approx(timed.figures["loadgen_qps"], rel=0.1)
    assert len(timed.samples) == -(-timed.items // 4)
    assert timed.facts["capped"] is False


def test_offline_makes_no_more_samples_than_it_may(tmp_path: Path):
    options = {"min_duration_s": 0.5, "max_samples": 60}
    timed = mlperf_offline.drive(opened(tmp_path, "mlperf-offline", options, 0.002))
    assert timed.items <= 60
    assert timed.facts["capped"] is True
    assert timed.figures["loadgen_valid"] is False
    assert "larger" in timed.facts["loadgen"]["invalid_because"]


def test_a_failing_stream_is_an_error_and_no_hang(tmp_path: Path):
    def fail(call: int) -> float:
        if call == 250:
            raise RuntimeError("the device is gone")
        return 0.001

    given = opened(tmp_path, "mlperf-offline", {"min_duration_s": 1.0}, fail, streams=2)
    with pytest.raises(RuntimeError, match="the device is gone"):
        mlperf_offline.drive(given)


# ---------------------------------------------------------------------------- server


@pytest.mark.slow
@pytest.mark.usefixtures("undisturbed")
def test_server_finds_a_rate_below_what_the_stream_can_do(tmp_path: Path):
    """2 ms for a call: 500 a second if they came one after the other. Arriving at random, nine of
    ten wait no longer than 8 ms up to about eight tenths of that; a busy machine costs some."""
    options = {
        "latency_ms": 10,
        "percentile": 90,
        "min_duration_s": 0.4,
        "min_queries": 150,
        "probes": 5,
    }
    given = opened(tmp_path, "mlperf-server", options, seconds=0.002)
    timed = mlperf_server.drive(given)
    if timed.figures["target_qps"] is None:
        pytest.skip(f"this machine is too busy: {timed.facts['no_rate_because']}")
    assert 100 < timed.figures["target_qps"] < 500
    assert timed.figures["loadgen_valid"] is True
    assert timed.figures["loadgen_qps"] == pytest.approx(timed.figures["target_qps"], rel=0.3)
    assert np.percentile(timed.samples, 90) <= 10e6
    probes = timed.facts["probes"]
    assert probes[-1]["valid"] and probes[-1]["target_qps"] == timed.figures["target_qps"]
    assert probes[-1]["seed"] != probes[0]["seed"], "confirmed with other arrivals"
    # LoadGen's figure, of when queries were due, and the samples are of the same queries
    p50 = timed.facts["loadgen"]["result_50.00_percentile_latency_ns"]
    assert np.median(timed.samples) == pytest.approx(p50, rel=0.05)
    assert "Scenario : Server" in check_logs(timed.files)
    assert sum(name.endswith("summary.txt") for name in timed.files) == len(probes)
    np.testing.assert_array_equal(given.streams[0].read()["scores"], first_scores(given))


def test_server_without_any_hope_says_so_at_once(tmp_path: Path):
    begin = time.perf_counter()
    given = opened(tmp_path, "mlperf-server", {"latency_ms": 2}, seconds=0.01)
    timed = mlperf_server.drive(given)
    assert time.perf_counter() - begin < 3
    assert timed.figures == {"loadgen_valid": None, "loadgen_qps": None, "target_qps": None}
    assert "even without waiting" in timed.facts["no_rate_because"]
    assert np.median(timed.samples) >= 10e6


def test_server_says_when_no_rate_held(tmp_path: Path):
    """Every tenth call takes far longer than the limit, however few come."""
    given = opened(
        tmp_path,
        "mlperf-server",
        {"latency_ms": 5, "min_duration_s": 0.2, "min_queries": 50, "probes": 2},
        seconds=lambda call: 0.03 if call % 10 == 0 else 0.001,
    )
    timed = mlperf_server.drive(given)
    assert timed.figures == {"loadgen_valid": False, "loadgen_qps": None, "target_qps": None}
    assert "no rate was valid" in timed.facts["no_rate_because"]
    assert [probe["valid"] for probe in timed.facts["probes"]] == [False, False]


def test_a_rate_that_fails_with_other_arrivals_is_lowered_in_growing_steps():
    asked = []

    def probe(rate: float, seed: int) -> bool:
        asked.append((rate, seed))
        return rate < 80

    found = mlperf_server._confirmed(probe, 100.0)
    assert found == asked[-1][0]
    assert [rate for rate, _ in asked] == pytest.approx([100, 100 / 1.05, 86.4, 71.1], rel=1e-3)
    assert len({seed for _, seed in asked}) == len(asked)
    assert mlperf_server._confirmed(lambda rate, seed: False, 100.0) is None
    assert mlperf_server._confirmed(probe, None) is None


@pytest.mark.usefixtures("undisturbed")
def test_server_needs_the_time_for_its_queries(tmp_path: Path):
    options = {"latency_ms": 40, "min_duration_s": 1.6, "max_duration_s": 1.7}
    timed = mlperf_server.drive(opened(tmp_path, "mlperf-server", options, seconds=0.01))
    assert "raise max_duration_s" in timed.facts["no_rate_because"]


@pytest.mark.parametrize(
    ("limit", "start", "most"), [(100.0, 80.0, 12), (100.0, 800.0, 12), (100.0, 10.0, 16)]
)
def test_the_search_comes_within_five_percent(limit: float, start: float, most: int):
    asked = []

    def probe(rate: float) -> bool:
        asked.append(rate)
        return rate <= limit

    found = mlperf_server.highest(probe, start, 0.0, most)
    assert found is not None
    assert limit / 1.05 <= found <= limit
    assert len(asked) == len(set(asked)) <= most


def test_the_search_ends_where_there_is_nothing_to_find():
    asked = []
    assert mlperf_server.highest(lambda rate: bool(asked.append(rate)), 80.0, 15.0, 10) is None
    assert asked == [80.0, 40.0, 20.0]
    assert mlperf_server.highest(lambda rate: False, 10.0, 15.0, 10) is None


# ---------------------------------------------------------------------------- a whole run


@pytest.mark.slow
def test_a_suite_with_scenarios_runs_in_workers(project: Project):
    """The figures come into the case table, and the files into the bundle."""
    scenarios = [
        {"mlperf-single-stream": {"min_duration_s": 0.2, "rounds": 1}},
        {"paced": {"rate_hz": 50, "duration_s": 0.4}},
        {"sustained": {"duration_s": 0.5, "step_s": 0.1}},
    ]
    project.suite(precisions=["fp32"], rounds=1, streams=[1], scenarios=scenarios)
    project.run_json("small.yaml")
    cases = {case["scenario"]: case for case in project.cases()}
    assert {case["status"] for case in cases.values()} == {"ok"}, cases
    assert cases["mlperf-single-stream"]["loadgen_valid"] is True
    assert cases["mlperf-single-stream"]["sustained_ratio"] is None
    assert 0 <= cases["paced"]["deadline_miss_rate"] <= 1
    assert cases["sustained"]["sustained_ratio"] > 0
    bundle = project.root / "results"
    (summary,) = bundle.glob("2*/**/mlperf_log_summary.txt")
    assert "Scenario : SingleStream" in summary.read_text()
    (series,) = bundle.glob("2*/**/series.npy")
    assert np.load(series).shape[0] == 5
