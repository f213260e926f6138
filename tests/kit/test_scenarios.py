"""Scenarios: options, what cannot run here, and what ``paced`` and ``sustained`` measure."""

from __future__ import annotations

import importlib
import re
import time
from pathlib import Path

import numpy as np
import pytest
from paths import ROOT
from streams import first_scores, opened

from qbench.kit.model import TensorSpec
from qbench.kit.scenarios import lane, paced, sustained
from qbench.kit.scenarios.window import Timed
from qbench.spec import scenarios
from qbench.spec.scenarios import SCENARIOS, complete_options, longest_s, why_not
from qbench.spec.suite import Suite
from qbench.spec.yamlfile import load


@pytest.fixture(autouse=True)
def in_a_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


def figure(timed: Timed, name: str) -> float:
    value = timed.figures[name]
    assert value is not None, name
    return value


# ---------------------------------------------------------------------------- the vocabulary


def test_every_scenario_has_a_module_that_drives():
    for name, one in SCENARIOS.items():
        if why_not(name) is None:
            module = importlib.import_module(f"qbench.kit.scenarios.{one.module}")
            assert callable(module.drive), name


@pytest.mark.parametrize(
    ("name", "options", "told"),
    {
        "an option that is not there": ("single-stream", {"rate_hz": 3}, "rate_hz"),
        "no frames at all": ("paced", {"rate_hz": 0}, "rate_hz"),
        "a rate that is no number": ("paced", {"rate_hz": float("inf")}, "rate_hz"),
        "fewer than five steps": ("sustained", {"duration_s": 4}, "step_s"),
        "no latency limit": ("mlperf-server", {}, "latency_ms"),
        "too short for a queue to grow": (
            "mlperf-server",
            {"latency_ms": 100, "min_duration_s": 2},
            "min_duration_s must be at least 4",
        ),
        "all of the queries": ("mlperf-server", {"latency_ms": 5, "percentile": 100}, "percentile"),
        "ended before it can be valid": (
            "mlperf-single-stream",
            {"min_duration_s": 61},
            "max_duration_s",
        ),
    }.values(),
)
def test_wrong_options_are_refused(name: str, options: dict, told: str):
    with pytest.raises(ValueError, match=told):
        complete_options(name, options)


DOCUMENT = ROOT / "docs" / "scenarios.md"


def test_the_example_of_the_document_loads(tmp_path: Path):
    (example,) = re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text(), re.S)
    head = "name: x\nmodels: [m]\nprecisions: [fp32]\nbackends: [b]\n"
    (tmp_path / "suite.yaml").write_text(head + example)
    suite, _ = load(tmp_path / "suite.yaml", Suite)
    assert [choice.name for choice in suite.scenarios][-1] == "mlperf-server"


def test_every_option_is_explained_in_the_document():
    text = DOCUMENT.read_text()
    for name, one in SCENARIOS.items():
        assert f"`{name}`" in text
        for option in one.options.model_fields:
            assert f"`{option}`" in text, (name, option)


def test_a_trial_is_given_the_time_that_its_options_ask_for():
    assert longest_s("single-stream", {}) == 0
    assert longest_s("sustained", {"duration_s": 1800}) == 1800
    server = {"latency_ms": 5, "probes": 4, "max_duration_s": 10}
    assert longest_s("mlperf-server", server) == 90  # four, and five to confirm


def test_a_missing_package_is_reported_with_its_install_command(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(
        SCENARIOS,
        "mlperf-offline",
        scenarios.Scenario("mlperf_offline", "", package="no-such-distribution"),
    )
    reason = why_not("mlperf-offline")
    assert reason is not None
    assert reason.endswith("not installed: pip install no-such-distribution")
    assert why_not("single-stream") is None


# ---------------------------------------------------------------------------- items in memory


IMAGE = {"image": TensorSpec("float32", ("N", 2))}


def test_a_feed_has_the_batch_where_the_input_has_it():
    states = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    rates = np.full(4, 16000, np.int64)
    inputs = {
        "state": TensorSpec("float32", (2, "N", 3), batch=1),
        "rate": TensorSpec("int64", ()),
    }
    library = lane.Library({"state": states, "rate": rates}, inputs, batch=2)
    feed = library.feed([3, 1])
    np.testing.assert_array_equal(feed["state"], np.stack([states[3], states[1]], axis=1))
    assert feed["rate"].shape == () and feed["rate"] == 16000


def test_a_feed_has_the_items_asked_for_whatever_the_order_they_were_loaded_in():
    images = np.arange(20, dtype=np.float32).reshape(10, 2)
    library = lane.Library({"image": images}, IMAGE, batch=3)
    library.load([7, 2, 3, 9, 0])
    for wanted in ([2, 3, 9], [0, 7, 2], [9, 9, 9]):
        np.testing.assert_array_equal(library.feed(wanted)["image"], images[wanted])
    np.testing.assert_array_equal(library.feed([3])["image"], images[[3, 3, 3]])
    assert library.feed([2, 3, 9])["image"].flags.c_contiguous


def test_large_items_do_not_fill_the_memory():
    items = np.lib.stride_tricks.as_strided(
        np.zeros(1, np.float32), shape=(5000, 2**22), strides=(0, 0)
    )  # 16 MiB each
    assert lane.Library({"image": items[:, :1]}, IMAGE, 1).size == 1024
    assert lane.Library({"image": items}, IMAGE, 1).size == 16


# ---------------------------------------------------------------------------- paced


# The machine may be busy with other tests: sleeps end late, never early. So bounds from below are
# exact, and those from above leave room.


@pytest.mark.usefixtures("undisturbed")
def test_a_fast_model_keeps_up_with_the_camera(tmp_path: Path):
    given = opened(tmp_path, "paced", {"rate_hz": 20, "duration_s": 1.5}, seconds=0.002)
    begin = time.perf_counter()
    timed = paced.drive(given)
    took_s = time.perf_counter() - begin
    assert timed.facts["frames"] == 30
    assert 25 <= timed.items == len(timed.samples) <= 30
    assert figure(timed, "deadline_miss_rate") <= 0.2
    assert 1.5 <= timed.wall_ns / 1e9 <= took_s
    assert timed.items / took_s <= figure(timed, "paced_hz") <= timed.items / 1.5
    assert figure(timed, "processor_left") > 0.5
    assert timed.figures["paced_jitter_ms"] is None  # fewer than 100 frames
    assert timed.samples.min() >= 2e6
    np.testing.assert_array_equal(given.streams[0].read()["scores"], first_scores(given))


@pytest.mark.usefixtures("undisturbed")
def test_frames_that_come_while_a_slow_model_works_are_dropped(tmp_path: Path):
    """150 ms for a frame, one every 100 ms: every second frame is dropped, the others are late."""
    given = opened(tmp_path, "paced", {"rate_hz": 10, "duration_s": 2.0}, seconds=0.15)
    timed = paced.drive(given)
    assert timed.figures["deadline_miss_rate"] == 1.0
    assert 7 <= len(timed.samples) <= 10
    assert timed.facts["late"] == len(timed.samples)
    assert timed.facts["late"] + timed.facts["dropped"] == timed.facts["frames"] == 20
    assert 3 < figure(timed, "paced_hz") <= 5
    assert timed.samples.min() >= 150e6
    assert np.median(timed.samples) < 250e6  # a backlog would be 400 ms by then


@pytest.mark.usefixtures("undisturbed")
def test_one_stall_costs_the_frames_that_it_lasted(tmp_path: Path):
    given = opened(
        tmp_path,
        "paced",
        {"rate_hz": 10, "duration_s": 2.0},
        seconds=lambda call: 0.55 if call == 10 else 0.001,
    )
    timed = paced.drive(given)
    # frame 10 is late, 11 to 15 are dropped
    assert timed.facts["dropped"] in range(5, 8) and timed.facts["late"] in range(1, 4)
    missed = timed.facts["dropped"] + timed.facts["late"]
    assert timed.figures["deadline_miss_rate"] == pytest.approx(missed / 20)


@pytest.mark.usefixtures("undisturbed")
def test_a_deadline_of_its_own(tmp_path: Path):
    options = {"rate_hz": 20, "duration_s": 0.5, "deadline_ms": 1.0}
    timed = paced.drive(opened(tmp_path, "paced", options, seconds=0.004))
    assert timed.facts["dropped"] <= 2
    assert timed.figures["deadline_miss_rate"] == 1.0


# ---------------------------------------------------------------------------- sustained


@pytest.mark.usefixtures("undisturbed")
def test_a_program_that_slows_down_shows_it(tmp_path: Path):
    """After the half of it a call takes 25 ms instead of 5."""
    begins: list[float] = []

    def seconds(call: int) -> float:
        begins.append(time.perf_counter())
        return 0.005 if begins[-1] - begins[0] < 2 else 0.025

    options = {"duration_s": 4.0, "step_s": 0.4}
    timed = sustained.drive(opened(tmp_path, "sustained", options, seconds=seconds))
    assert 1.5 < figure(timed, "sustained_ratio") < 6
    assert 25 <= figure(timed, "sustained_p50_ms") < 40
    first, last = timed.facts["calls_of_parts"]
    assert 0 < last <= 33 < first <= 160  # 0.8 s each, and a call that began before

    series = np.load("series.npy")
    column = {name: series[:, i] for i, name in enumerate(timed.facts["columns"])}
    assert series.shape == (10, len(column)) and timed.files == ("series.npy",)
    assert (column["end_s"] >= np.arange(1, 11) * 0.4).all()
    assert (column["end_s"] < np.arange(1, 11) * 0.4 + 0.4).all()
    assert column["calls"].sum() == timed.items == timed.facts["calls"]
    assert column["p10_ms"][0] < 25 <= column["p10_ms"][-1]
    assert (column["p10_ms"] <= column["max_ms"]).all()
    assert (column["processors"] >= 0).all() and (column["processors"] < 3).all()
    assert 4 <= timed.wall_ns / 1e9 < 5
    # the samples are the first and the last fifth
    assert len(timed.samples) == column["calls"][:2].sum() + column["calls"][-2:].sum()


@pytest.mark.usefixtures("undisturbed")
def test_streams_work_at_the_same_time_and_calls_longer_than_a_step_are_counted(tmp_path: Path):
    options = {"duration_s": 2.0, "step_s": 0.2}
    given = opened(tmp_path, "sustained", options, seconds=0.5, streams=2)
    timed = sustained.drive(given)
    assert 6 <= timed.items <= 10
    calls = np.load("series.npy")[:, 1]
    assert calls.sum() == timed.items and (calls == 0).sum() >= 3
    # one after the other, the calls would take longer than the whole
    assert timed.items * 0.5 > 1.2 * timed.wall_ns / 1e9


def test_a_handful_of_calls_has_no_99th_percentile(tmp_path: Path):
    options = {"duration_s": 1.0, "step_s": 0.1}
    timed = sustained.drive(opened(tmp_path, "sustained", options, seconds=0.02))
    first, last = timed.facts["calls_of_parts"]
    assert 0 < last <= 10 and 0 < first <= 10  # a fifth of a second, 20 ms a call
    assert figure(timed, "sustained_p50_ms") >= 20
    assert timed.figures["sustained_p99_ms"] is None


def test_a_failing_stream_ends_the_load(tmp_path: Path):
    def fail(call: int) -> float:
        if call == 20:
            raise RuntimeError("the device is gone")
        return 0.001

    given = opened(tmp_path, "sustained", {"duration_s": 600.0}, seconds=fail, streams=2)
    begin = time.perf_counter()
    with pytest.raises(RuntimeError, match="the device is gone"):
        sustained.drive(given)
    assert time.perf_counter() - begin < 5


def test_samples_are_thinned_evenly_and_only_where_there_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sustained, "MAX_SAMPLES", 30)
    given = opened(tmp_path, "sustained", {"duration_s": 2.0, "step_s": 0.2}, seconds=0.001)
    timed = sustained.drive(given)
    first, last = timed.facts["samples_of_parts"]
    assert len(timed.samples) == first + last
    for kept, calls in zip((first, last), timed.facts["calls_of_parts"], strict=True):
        assert calls > 30 >= kept > 15
    if timed.facts["calls_of_parts"][1] >= 100:  # 400, unless the machine is busy
        assert figure(timed, "sustained_p99_ms") >= figure(timed, "sustained_p50_ms")
