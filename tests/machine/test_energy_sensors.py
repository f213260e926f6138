"""Sensors against a fake file system and a fake NVML, and what becomes of their samples."""

from __future__ import annotations

import time
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from energy_machine import FakeNvml, Machine
from hypothesis import given, settings
from hypothesis import strategies as st

from qbench.machine.energy.integral import NoReading, joules
from qbench.machine.energy.meter import Meter
from qbench.machine.energy.sensor import Sensor, SensorError
from qbench.machine.energy.sensors import find_sensors

NO_GPU = FakeNvml(problem="Driver Not Loaded")


def hwmon(root: Path, number: int, **files: object) -> Path:
    folder = root / f"sys/class/hwmon/hwmon{number}"
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_text(f"{content}\n")
    return folder


def only(root: Path, nvml: object = NO_GPU, kind: str = "") -> Sensor:
    """The one sensor, or the one of its kind."""
    found = find_sensors(root, nvml)
    assert not found.refused
    (sensor,) = [sensor for sensor in found.sensors if kind in sensor.kind]
    return sensor


# --------------------------------------------------------------------------- RAPL


def test_an_empty_machine_has_no_sensor_and_refuses_none(tmp_path: Path):
    found = find_sensors(tmp_path, NO_GPU)
    assert (found.sensors, found.refused) == ((), ())


def test_rapl_domains_are_kept_apart_and_cores_belong_to_their_package(tmp_path: Path):
    machine = Machine(tmp_path)
    for zone, name in (
        ("intel-rapl:0", "package-0"),
        ("intel-rapl:0:0", "core"),
        ("intel-rapl:0:1", "dram"),
        ("intel-rapl:1", "psys"),
        ("intel-rapl-mmio:0", "package-0"),
    ):
        machine.add_rapl(zone, name)
    found = find_sensors(tmp_path, NO_GPU)
    assert {(s.method, s.scope, s.kind) for s in found.sensors} == {
        ("rapl package-0", "cpu package", "counter"),
        ("rapl dram", "dram", "counter"),
        ("rapl psys", "platform", "counter"),
    }
    assert not found.refused


def test_rapl_counts_on_when_its_counter_wraps(tmp_path: Path):
    machine = Machine(tmp_path, idle_w=100)
    machine.add_rapl("intel-rapl:0", "package-0", range_uj=70_000_000)  # 0.7 s of 100 W
    sensor = only(tmp_path)
    with Meter([sensor], 10, machine.clock) as meter:
        machine.sleep(5)
    series = meter.series(sensor)
    assert len(series) == 52 and (np.diff(series[:, 1]) >= 0).all()
    begin, end = machine.now_ns - 4_000_000_000, machine.now_ns - 1_000_000_000
    assert joules(series, "counter", begin, end) == pytest.approx(300)


def test_the_packages_of_two_sockets_make_one_sensor(tmp_path: Path):
    machine = Machine(tmp_path, idle_w=60)
    machine.add_rapl("intel-rapl:0", "package-0", range_uj=10_000_000, share=0.75)
    machine.add_rapl("intel-rapl:1", "package-1", range_uj=90_000_000, share=0.25)
    sensor = only(tmp_path)
    assert sensor.method == "rapl package-0 + package-1"
    before = after = sensor.read()
    for _ in range(20):
        machine.sleep(0.1)
        after = sensor.read()
    assert after - before == pytest.approx(120, rel=1e-4)


def test_a_counter_that_only_root_reads_is_refused_with_the_command(tmp_path: Path, monkeypatch):
    Machine(tmp_path).add_rapl("intel-rapl:0", "package-0")
    real = Path.open

    def guarded(self: Path, *args, **kwargs):
        if self.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", guarded)
    found = find_sensors(tmp_path, NO_GPU)
    assert not found.sensors
    (refused,) = found.refused
    assert refused.name == "rapl-package"
    assert "Permission denied: sudo chmod a+r" in refused.reason


@pytest.mark.parametrize("content", ["", "12x4\n", "1.5\n", "9" * 100, "\x00\x00"])
def test_a_torn_file_is_no_reading(tmp_path: Path, content: str):
    folder = Machine(tmp_path).add_rapl("intel-rapl:0", "package-0")
    sensor = only(tmp_path)
    (folder / "energy_uj").write_text(content)
    with pytest.raises(SensorError, match="energy_uj holds no integer"):
        sensor.read()
    (folder / "max_energy_range_uj").write_text(content)
    (refused,) = find_sensors(tmp_path, NO_GPU).refused
    assert "max_energy_range_uj holds no integer" in refused.reason


# --------------------------------------------------------------------------- hwmon


def test_hwmon_gives_watts_joules_and_what_they_cover(tmp_path: Path):
    hwmon(tmp_path, 0, name="power_meter", power1_average=85_500_000)
    hwmon(
        tmp_path, 1, name="amdgpu", power1_input=31_000_000, power1_average=30_000_000,
        power1_label="PPT",
    )  # fmt: skip
    hwmon(tmp_path, 2, name="xe", energy1_input=2_500_000, temp1_input=40_000)
    hwmon(tmp_path, 3, name="ina226", power1_input=4_000_000)
    found = find_sensors(tmp_path, NO_GPU)
    assert {s.method: (s.scope, s.kind, s.read()) for s in found.sensors} == {
        "hwmon power_meter power1": ("board", "power", pytest.approx(85.5)),
        "hwmon amdgpu PPT": ("gpu", "power", pytest.approx(31)),
        "hwmon xe energy1": ("gpu", "counter", pytest.approx(2.5)),
        "hwmon ina226 power1": ("rail", "power", pytest.approx(4)),
    }
    assert len({s.name for s in found.sensors}) == 4


def test_a_jetsons_ina3221_is_volts_times_amperes_of_each_enabled_channel(tmp_path: Path):
    hwmon(
        tmp_path, 3, name="ina3221",
        in1_label="VDD_IN", in1_input=5000, curr1_input=1500, in1_enable=1,
        in2_label="VDD_CPU_GPU_CV", in2_input=4800, curr2_input=500,
        in3_label="VDD_SOC", in3_enable=0, in3_input=0, curr3_input=0,
        in4_input=12, in7_label="sum of shunt voltages", in7_input=15, curr4_input=2000,
    )  # fmt: skip
    found = find_sensors(tmp_path, NO_GPU)
    assert {s.method: (s.scope, s.read()) for s in found.sensors} == {
        "hwmon ina3221 VDD_IN": ("board", pytest.approx(7.5)),
        "hwmon ina3221 VDD_CPU_GPU_CV": ("rail", pytest.approx(2.4)),
    }
    assert found.refused == (("hwmon3-in3", "channel VDD_SOC is disabled"),)


def test_an_older_jetsons_ina3221x_has_its_own_paths(tmp_path: Path):
    folder = tmp_path / "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
    folder.mkdir(parents=True)
    for name, content in (
        ("rail_name_0", "POM_5V_IN"), ("in_voltage0_input", 5000), ("in_current0_input", 640),
        ("rail_name_1", "POM_5V_GPU"), ("in_voltage1_input", 5000), ("in_current1_input", 40),
    ):  # fmt: skip
        (folder / name).write_text(f"{content}\n")
    found = find_sensors(tmp_path, NO_GPU)
    assert {s.name: (s.method, s.scope, s.read()) for s in found.sensors} == {
        "ina3221x-6-0040-0": ("iio ina3221x POM_5V_IN", "board", pytest.approx(3.2)),
        "ina3221x-6-0040-1": ("iio ina3221x POM_5V_GPU", "rail", pytest.approx(0.2)),
    }


# --------------------------------------------------------------------------- NVML


def test_nvml_gives_its_energy_counter(tmp_path: Path):
    sensor = only(tmp_path, FakeNvml(millijoules=[5_000, 5_000, 7_500]), "counter")
    assert (sensor.method, sensor.scope, sensor.kind) == ("nvml total energy", "gpu", "counter")
    assert sensor.read() == pytest.approx(7.5)


def test_a_gpu_without_a_counter_gives_power_and_both_say_why(tmp_path: Path):
    found = find_sensors(tmp_path, FakeNvml(millijoules=None))
    (sensor,) = found.sensors
    assert (sensor.method, sensor.kind) == ("nvml power", "power")
    assert sensor.read() == pytest.approx(250) and "a quarter" in sensor.note
    assert found.refused == (("nvml-0-energy", "NVML: Not Supported"),)
    assert sensor.device == "0000:3b:00.0"


def test_a_gpu_with_a_counter_has_power_too(tmp_path: Path):
    found = find_sensors(tmp_path, FakeNvml(millijoules=[5_000], gpus=2))
    assert [(s.name, s.kind, s.device) for s in found.sensors] == [
        ("nvml-0-energy", "counter", "0000:3b:00.0"), ("nvml-0-power", "power", "0000:3b:00.0"),
        ("nvml-1-energy", "counter", "0000:3c:00.0"), ("nvml-1-power", "power", "0000:3c:00.0"),
    ]  # fmt: skip


def test_a_gpu_that_supports_neither_is_refused(tmp_path: Path):
    found = find_sensors(tmp_path, FakeNvml(millijoules=None, milliwatts=None))
    assert not found.sensors
    assert [r.name for r in found.refused] == ["nvml-0-energy", "nvml-0-power"]


def test_a_driver_that_fails_matters_only_where_there_is_a_gpu(tmp_path: Path):
    assert not find_sensors(tmp_path, NO_GPU).refused
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidiactl").touch()
    assert find_sensors(tmp_path, NO_GPU).refused == (("nvml", "NVML: Driver Not Loaded"),)


def test_a_counter_that_was_reset_gives_no_joules(tmp_path: Path):
    counts = [0, 0, *range(1000, 3000, 100), *range(0, 9000, 100)]
    machine = Machine(tmp_path)
    sensor = only(tmp_path, FakeNvml(millijoules=counts), "counter")
    with Meter([sensor], 10, machine.clock) as meter:
        machine.sleep(6)
    series = meter.series(sensor)
    with pytest.raises(NoReading, match="it was reset"):
        joules(series, "counter", machine.now_ns - 5_000_000_000, machine.now_ns - 10**8)
    # 0.1 J in 0.1 s after the reset
    begin = machine.now_ns - 3_000_000_000
    assert joules(series, "counter", begin, begin + 2 * 10**9) == pytest.approx(2, rel=0.01)


def test_the_fake_has_the_names_of_the_real_module():
    pynvml = pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
    for name in dir(FakeNvml):
        if name.lower().startswith("nvml"):
            real = getattr(pynvml, name)
            assert real == getattr(FakeNvml, name) or callable(real), name


# --------------------------------------------------------------------------- the meter


def test_a_reading_that_fails_now_and_then_is_left_out(tmp_path: Path):
    machine, values = Machine(tmp_path), iter(range(1000))

    def read() -> float:
        value = next(values)
        if value % 3 == 0:
            raise SensorError("busy")
        return 20.0

    sensor = Sensor("s", "m", "rail", "power", read)
    with Meter([sensor], 10, machine.clock) as meter:
        machine.sleep(4)
    assert len(meter.series(sensor)) == 28 and meter.failures == {"s": "busy"}
    assert joules(
        meter.series(sensor), "power", machine.now_ns - 3 * 10**9, machine.now_ns - 10**9
    ) == pytest.approx(40)


def test_the_thread_samples_at_its_rate_and_costs_next_to_nothing(tmp_path: Path):
    Machine(tmp_path).add_rapl("intel-rapl:0", "package-0")
    sensor = only(tmp_path)
    with Meter([sensor], 50) as meter:
        time.sleep(0.5)
    series = meter.series(sensor)
    assert 5 <= len(series) <= 28  # fewer where the machine is busy, never more
    assert (np.diff(series[:, 0]) > 0).all()
    share = meter.cpu_share
    assert share is not None and 0 < share < 0.2  # a thread that spins has about 1


def test_an_error_in_the_thread_comes_out(tmp_path: Path):
    def read() -> float:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), Meter([Sensor("s", "m", "rail", "power", read)], 10):
        pass


# --------------------------------------------------------------------------- joules


@st.composite
def traces(draw: st.DrawFn) -> tuple[list[int], list[int], int, int]:
    """Knots (ns, mW) and a window that holds at least a second of them."""
    steps = draw(st.lists(st.integers(10**6, 2 * 10**8), min_size=20, max_size=40))
    start = draw(st.integers(0, 8 * 10**15))  # doubles hold each nanosecond of 104 days
    times = [start]
    for step in steps:
        times.append(times[-1] + step)
    values = draw(st.lists(st.integers(0, 10**6), min_size=len(times), max_size=len(times)))
    length = times[-1] - times[0]
    begin = times[0] + draw(st.integers(0, length // 10))
    end = times[-1] - draw(st.integers(0, length // 10))
    return times, values, begin, end


def exactly(times: list[int], values: list[int], begin: int, end: int) -> Fraction:
    """The integral of the straight lines between knots, in mW ns, by rational numbers."""
    total = Fraction(0)
    for (t0, v0), (t1, v1) in pairwise(zip(times, values, strict=True)):
        a, b = max(t0, begin), min(t1, end)
        if a < b:
            slope = Fraction(v1 - v0, t1 - t0)
            middle = Fraction(a + b, 2)
            total += (v0 + slope * (middle - t0)) * (b - a)
    return total


@given(traces())
@settings(max_examples=200, deadline=None)
def test_power_is_integrated_exactly_for_any_trace_and_window(trace):
    times, values, begin, end = trace
    series = np.array([[t, v * 1e-3] for t, v in zip(times, values, strict=True)])
    times = [int(t) for t in series[:, 0]]  # what a double keeps of them
    if max(b - a for a, b in pairwise(times)) > 0.25 * (end - begin):
        with pytest.raises(NoReading, match="longer one"):
            joules(series, "power", begin, end)
        return
    expected = float(exactly(times, values, begin, end)) * 1e-12
    assert joules(series, "power", begin, end) == pytest.approx(expected, rel=1e-6, abs=1e-6)


@given(traces())
@settings(max_examples=100, deadline=None)
def test_a_counters_windows_add_up(trace):
    times, steps, begin, end = trace
    series = np.column_stack([np.array(times, float), np.cumsum(steps) * 1e-3 + 1.0])
    middle = (begin + end) // 2
    try:
        parts = [joules(series, "counter", *w) for w in ((begin, middle), (middle, end))]
        whole = joules(series, "counter", begin, end)
    except NoReading as error:
        assert "longer one" in str(error) or "did not change" in str(error)
        return
    assert sum(parts) == pytest.approx(whole, rel=1e-6)
    assert whole <= series[-1, 1] - series[0, 1] + 1e-6


def test_a_linear_counter_is_read_between_its_samples():
    times = np.arange(0, 11) * 10**9
    series = np.column_stack([times.astype(float), 5.0 * times * 1e-9])  # 5 W
    assert joules(series, "counter", 1_500_000_000, 8_250_000_000) == pytest.approx(33.75)


@pytest.mark.parametrize(
    ("times_s", "values", "reason"),
    [
        ([], [], "gave no reading"),
        ([1, 2, 3, 4, 5, 6, 7, 8, 9], [1] * 9, "do not cover"),
        ([0, 1, 2, 3, 4, 5, 6, 7], [1] * 8, "do not cover"),
        ([0, 1, 2, 3, 6.5, 7, 8, 9, 10, 11], [1] * 10, "no reading for 3.5 s of a window of 9.0"),
        ([0, 2, 4, 6, 8, 10], [7] * 6, "did not change"),
    ],
)
def test_unknown_energy_has_a_reason(times_s: list[float], values: list[float], reason: str):
    series = np.array([times_s, values], float).T * [1e9, 1]
    with pytest.raises(NoReading, match=reason):
        joules(series.reshape(-1, 2), "counter", 500_000_000, 9_500_000_000)
