"""The wall meter: its log in every form, a command that prints watts, and the marker load."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from energy_machine import START_NS, Machine
from hypothesis import given, settings
from hypothesis import strategies as st

from qbench.machine.energy import marker
from qbench.machine.energy.wall import Log, MeterError, PowerCommand, PowerLog, read_power_log


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "meter.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


# --------------------------------------------------------------------------- the log's forms

FORMS = {
    "no names": "0,10\n1,11.5\n2,12\n",
    "names": "time,watts\n0,10\n1,11.5\n2,12\n",
    "other names and columns": "Volts,Power [W],Timestamp\n230,10,0\n230,11.5,1\n231,12,2\n",
    "semicolons with decimal commas": "time;watts\n0,0;10\n1,0;11,5\n2,0;12\n",
    "tabs": "t\tW\n0\t10\n1\t11.5\n2\t12\n",
    "comments and empty lines": "# a meter\n\ntime,watts\n0,10\n\n1,11.5\n# half\n2,12\n",
    "quotes": '"time","watts"\n"0","10"\n"1","11.5"\n"2","12"\n',
    "carriage returns and a mark": "\ufefftime,watts\r\n0,10\r\n1,11.5\r\n2,12\r\n",
    "a last line in the writing": "time,watts\n0,10\n1,11.5\n2,12\n3,1",
    "epoch": "epoch,watts\n1767225600,10\n1767225601,11.5\n1767225602,12\n",
    "ISO in UTC": "time,watts\n2026-01-01T00:00:00Z,10\n2026-01-01T00:00:01Z,11.5\n"
    "2026-01-01T00:00:02Z,12\n",
    "ISO with a zone and a space": "time,watts\n2026-01-01 01:00:00+01:00,10\n"
    "2026-01-01 01:00:01+01:00,11.5\n2026-01-01 01:00:02+01:00,12\n",
    "ISO without a zone": "time,watts\n2026-01-01T00:00:00,10\n2026-01-01T00:00:01,11.5\n"
    "2026-01-01T00:00:02.000,12\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_a_log_is_read_in_each_of_its_forms(tmp_path: Path, form: str):
    log = read_power_log(written(tmp_path, FORMS[form]))
    epoch = "epoch" in form or "ISO" in form
    start = datetime(2026, 1, 1, tzinfo=UTC).timestamp() if epoch else 0
    assert log.times_s.tolist() == [start, start + 1, start + 2]
    assert log.watts.tolist() == [10, 11.5, 12]


WRONG = {
    "nothing": ("", r":1: the power log is empty"),
    "only names": ("time,watts\n", r":1: the power log has no rows"),
    "unknown names": ("when,what\n1,2\n", r":1: no columns of time and watts"),
    "two columns of power": ("time,watts,power\n1,2,3\n", r":1: no columns of time"),
    "three columns without names": ("1,2,3\n", r":1: no columns of time"),
    "one column": ("time\n1\n", r":1: no comma, semicolon or tab"),
    "a word for a number": ("time,watts\n0,10\n1,many\n", r":3: 'many' is not a number"),
    "no number at all": ("time,watts\n0,10\n1,nan\n", r":3: 'nan' is not a number"),
    "without an end": ("time,watts\n0,10\n1,inf\n", r":3: 'inf' is not a number"),
    "Python's underscores": ("time,watts\n0,1_0\n", r":2: '1_0' is not a number"),
    "below zero": ("time,watts\n0,-10\n", r":2: -10 W is not plausible"),
    "too much": ("time,watts\n0,1e9\n", r":2: 1e\+09 W is not plausible"),
    "a missing field": ("time,watts\n0,10\n1\n", r":3: 1 fields, not 2"),
    "a field too many": ("time,watts\n0,10\n1,2,3\n", r":3: 3 fields, not 2"),
    "time goes back": ("time,watts\n5,10\n4,10\n", r":3: the time does not increase"),
    "time stands": ("time,watts\n5,10\n5,10\n", r":3: the time does not increase"),
    "milliseconds": ("time,watts\n1767225600000,1\n", r":2: .*milliseconds\?"),
    "another clock below": (
        "time,watts\n0,1\n2026-01-01T00:00:00Z,1\n",
        r":3: '2026.* not a number",
    ),
    "a time of day": ("time,watts\n12:00:00,1\n", r":2: '12:00:00' is not a time"),
    "a date alone": ("time,watts\n2026-01-01,1\n", r":2: '2026-01-01' is not a time"),
    "years": ("time,watts\n0,1\n1e8,1\n", r":3: the log spans more than 7 days"),
    "an open quote": ('time,watts\n"0,10\n', r":2: an unclosed quote"),
    "a long line": ("time,watts\n" + "1" * 2000 + ",1\n", r":2: longer than 1000"),
    "bytes": (b"time,watts\n0,10\n\xff\xfe,3\n", r":3: this is not UTF-8"),
}


@pytest.mark.parametrize("name", WRONG)
def test_errors_are_named_with_their_line(tmp_path: Path, name: str):
    content, message = WRONG[name]
    path = written(tmp_path, content)
    with pytest.raises(MeterError, match=message) as caught:
        read_power_log(path)
    assert str(path) in caught.value.message and caught.value.fix


def test_a_log_that_is_missing_or_huge_is_refused(tmp_path: Path, monkeypatch):
    with pytest.raises(MeterError, match="cannot read the power log"):
        read_power_log(tmp_path / "none.csv")
    monkeypatch.setattr("qbench.machine.energy.wall.MAX_BYTES", 10)
    with pytest.raises(MeterError, match="is larger than"):
        read_power_log(written(tmp_path, "time,watts\n0,10\n"))
    with (
        pytest.raises(MeterError, match="no such folder"),
        PowerLog(tmp_path / "x/y.csv").running(),
    ):
        pass


@given(
    st.lists(st.tuples(st.integers(1, 5000), st.integers(0, 10**7)), min_size=1, max_size=30),
    st.sampled_from([",", ";", "\t"]),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_written_lines_are_read_back(
    tmp_path_factory, rows, separator: str, iso: bool, names: bool
):
    moments = np.cumsum([step for step, _ in rows])  # milliseconds
    expected = [int(m) / 1000 for m in moments]
    lines = ["date" + separator + "power"] if names else []
    for moment, (_, milliwatts) in zip(expected, rows, strict=True):
        when = datetime.fromtimestamp(moment, UTC).isoformat() if iso else f"{moment:.3f}"
        watts = f"{milliwatts / 1000:.3f}"
        if separator == ";":
            watts = watts.replace(".", ",")
            when = when if iso else when.replace(".", ",")
        lines.append(f"{when}{separator}{watts}")
    log = read_power_log(written(tmp_path_factory.mktemp("log"), "\n".join(lines) + "\n"))
    assert log.times_s.tolist() == pytest.approx(expected)
    assert log.watts.tolist() == pytest.approx([w / 1000 for _, w in rows])


@given(st.text(alphabet="0123456789.,;\t\n-:TZ#\"' ewattime", max_size=80))
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_log_or_a_clear_error(tmp_path_factory, text: str):
    path = written(tmp_path_factory.mktemp("log"), text)
    try:
        log = read_power_log(path)
    except MeterError as error:
        assert str(path) in error.message
    else:
        assert len(log.times_s) == len(log.watts) >= 1
        assert np.isfinite(log.times_s).all() and (np.diff(log.times_s) > 0).all()


# --------------------------------------------------------------------------- the command


def printing(*steps: str) -> str:
    program = "; ".join(["import sys, time", *steps])
    return f"{sys.executable} -c '{program}'"


def test_a_commands_lines_get_our_time():
    meter = PowerCommand(
        printing("[(print(20 + i % 3, flush=True), time.sleep(0.01)) for i in range(9999)]")
    )
    begin = time.monotonic()
    with meter.running():
        time.sleep(0.3)
        log = meter.read()
    assert 3 <= len(log.watts) <= 40 and set(log.watts) <= {20, 21, 22}
    assert (np.diff(log.times_s) > 0).all()
    assert begin < log.times_s[0] and log.times_s[-1] < time.monotonic()
    assert meter.method.startswith("wall meter (python")
    with meter.running():  # tried once, and then used
        assert meter.read().times_s[0] > log.times_s[-1]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("/no/such/program", "cannot run /no/such/program: No such file"),
        ("", "is empty"),
        ("echo 'x", "Close its quotes|No closing quotation"),
        ("echo watts", "line 1: 'watts' is not a number"),
        ("true", "it ended after 0 lines"),
        (printing('sys.exit("no meter on this port")'), "no meter on this port"),
        ("echo 12 $(id)", "is not a number"),  # there is no shell
    ],
)
def test_a_command_that_gives_no_watts_is_refused_at_once(command: str, message: str):
    with pytest.raises(MeterError, match=message), PowerCommand(command).running():
        pass


def test_a_command_that_breaks_off_is_found_out():
    meter = PowerCommand(printing("print(5, flush=True)"))
    with meter.running():
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                meter.read()
            except MeterError as error:
                assert "it ended after 1 lines" in error.message
                return
            time.sleep(0.01)
    pytest.fail("it was not found out")


# --------------------------------------------------------------------------- the marker


def test_the_pattern_is_barkers_code_between_two_rests():
    edges = marker.marker_edges(1000, chip_s=1e-9)
    on = [
        any(a <= t < b for a, b in zip(edges[::2], edges[1::2], strict=True))
        for t in range(1000, 1013)
    ]
    assert on == [bool(int(c)) for c in "0" + "11100010010" + "0"]
    # what the code is chosen for: every other shift of it fits it by at most 1 of 11
    signs = np.array(marker.CODE) * 2 - 1
    sidelobes = np.correlate(signs, signs, mode="full")
    assert sidelobes.max() == 11 and np.sort(np.abs(sidelobes))[-2] == 1


@pytest.mark.usefixtures("undisturbed")
def test_the_load_keeps_processors_busy_in_its_pattern_only():
    begin = time.monotonic_ns() + 400_000_000
    edges = [begin, begin + 400_000_000, begin + 1_600_000_000, begin + 2_000_000_000]
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    marker.burn(edges, 1)
    busy = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    assert time.monotonic_ns() >= edges[-1]
    # 0.8 s of load, less what others took, and starting Python; with the rests it would be 2 s
    assert 0.05 < busy < 1.3


def passed(tmp_path: Path, hours: float = 0.5) -> tuple[Machine, tuple[int, int]]:
    """A machine after an energy pass: a marker at each end, and workers in between."""
    machine = Machine(tmp_path)
    begins = []
    machine.sleep(20)
    for _ in range(2):
        begins.append(machine.now_ns)
        machine.burn(marker.marker_edges(machine.now_ns), 2)
        machine.sleep(6)
        end = machine.now_ns + hours * 3600e9
        while len(begins) == 1 and machine.now_ns < end:
            machine.worker(25)
    return machine, (begins[0], begins[1])


@pytest.fixture(scope="module")
def pass_of_an_hour(tmp_path_factory) -> tuple[Machine, tuple[int, int]]:
    return passed(tmp_path_factory.mktemp("machine"), hours=1)


@pytest.mark.parametrize("hz", [0.7, 1, 10])
@pytest.mark.parametrize(
    ("offset_s", "rate"), [(0, 1), (3600, 1), (1.767e9 - 40_000, 1.0002), (-7200.3, 0.9995)]
)
def test_clocks_an_hour_apart_and_drifting_are_aligned(
    pass_of_an_hour, hz: float, offset_s: float, rate: float
):
    machine, begins = pass_of_an_hour
    log = Log(*machine.wall_log(hz, offset_s, rate, noise_w=1.0))
    found = marker.align(log, begins)
    assert found.rate == pytest.approx(rate, abs=1e-4)
    assert found.correlation > 0.8
    # a meter tells the mean of its last interval: half of it is its delay, which is found too
    middle = sum(begins) * 0.5e-9
    theirs = (middle * rate + offset_s) + 0.5 / hz * rate
    assert found.offset_s + found.rate * middle == pytest.approx(theirs, abs=0.15)
    assert found.to_ours(np.array([theirs]))[0] == pytest.approx(middle * 1e9, abs=0.15e9)


def edited(log: Log, where: Sequence[bool] | np.ndarray, watts: float | None = None) -> Log:
    if watts is None:
        return Log(log.times_s[where], log.watts[where])
    return Log(log.times_s, np.where(where, watts, log.watts))


def test_a_log_without_the_marker_is_refused(pass_of_an_hour):
    machine, begins = pass_of_an_hour
    log = Log(*machine.wall_log(1.0, 500.0))
    ours = (log.times_s - 500) * 1e9
    another = Log(log.times_s, np.random.default_rng(0).normal(60, 5, len(log.watts)))
    cases = {
        "another machine": (another, "is not in the log"),
        "a flat line": (edited(log, log.watts >= 0, 60.0), "is not in the log"),
        "the first is missing": (edited(log, ours < begins[0] + 30e9, 12.0), "is not in the log"),
        "the last is missing": (edited(log, ours > begins[1], 12.0), "is not in the log"),
        "it ended early": (edited(log, ours < begins[1] - 60e9), "is not in the log"),
        "it is short": (edited(log, ours > begins[0] + 120e9), "the log spans"),
        "too slow": (edited(log, np.arange(len(ours)) % 3 == 0), "too slow"),
        "nothing": (edited(log, log.watts < 0), "the log spans 0 s"),
    }
    for name, (wrong, reason) in cases.items():
        with pytest.raises(marker.NotAligned, match=reason):
            marker.align(wrong, begins)
            pytest.fail(name)


def test_two_runs_in_one_log_are_ambiguous(tmp_path: Path):
    machine, begins = passed(tmp_path, hours=0.02)
    times, watts = machine.wall_log(2.0)
    twice = Log(np.concatenate([times, times + times[-1] - times[0] + 0.5]), np.tile(watts, 2))
    with pytest.raises(marker.NotAligned, match="fits the log at two positions"):
        marker.align(twice, begins)
    # read live, only the first one can be meant; a meter at 2 Hz is late by a quarter of a second
    assert marker.align(twice, begins, same_clock=True).offset_s == pytest.approx(0.25, abs=0.1)


def test_a_live_meter_may_be_late_by_seconds_only(tmp_path: Path):
    machine, begins = passed(tmp_path, hours=0.02)
    times, watts = machine.wall_log(1.0)
    found = marker.align(Log(times + 3, watts), begins, same_clock=True)
    assert (found.rate, found.offset_s) == (1, pytest.approx(3.5, abs=0.15))
    with pytest.raises(marker.NotAligned, match="is not in the log"):
        marker.align(Log(times + 40, watts), begins, same_clock=True)


def test_a_clock_that_runs_away_is_refused(tmp_path: Path):
    machine, begins = passed(tmp_path, hours=0.1)
    assert begins[0] > START_NS
    with pytest.raises(marker.NotAligned):
        marker.align(Log(*machine.wall_log(2.0, 0, 1.01)), begins)
