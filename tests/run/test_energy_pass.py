"""The energy pass on a machine of the tests' own, and the case table's columns from its records."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Project
from crafted import Crafted
from energy_machine import FakeNvml, Kept, Machine
from pydantic import ValidationError

from qbench.analysis.recompute import recompute
from qbench.analysis.statistics.estimates import Estimate
from qbench.analysis.table.energy import (
    OPERATIONS,
    Energy,
    NoEnergy,
    Work,
    cpu_time_proxy,
    energy_columns,
    measured,
    operations_proxy,
)
from qbench.bundle.bundle import Bundle
from qbench.bundle.find import find_bundle
from qbench.bundle.records.energy import EnergyRecord, Window
from qbench.bundle.records.run import CpuPower
from qbench.machine.energy.sensors import find_sensors
from qbench.machine.energy.wall import PowerLog
from qbench.run.energy import EnergyPass, measure_energy
from qbench.run.workers.isolate import Outcome
from qbench.spec.case import Case
from qbench.spec.energy import EnergySettings

NO_GPU = FakeNvml(problem="Driver Not Loaded")
CASES = {"fast": "net fp32", "slow": "net int8"}
WATTS = {"fast": 30.0, "slow": 12.0}
POWER = CpuPower(watts_per_core=4.0, source="a data sheet")
WORK = Work(np.full(6, 1e9), np.full(6, 2e9), np.full(6, 200.0))


def prepared(machine: Machine, kept: Kept, nvml: Any = NO_GPU, **changes: Any) -> EnergyPass:
    fields: dict[str, Any] = {
        "found": find_sensors(machine.root, nvml),
        "settings": EnergySettings(windows=6, idle_s=5),
        "run_window": lambda case: machine.worker(WATTS[case]),
        "record": kept.record,
        "progress": kept,
        "sitting": 1,
        "seed": 7,
        "clock": machine.clock,
        "burn": machine.burn,
    }
    return EnergyPass(**{**fields, **changes})


def mj(energy: Energy) -> Estimate:
    assert energy.mj is not None
    return energy.mj


def columns(kept: Kept, case: str = "fast", device: str = "cpu", **changes: Any) -> dict[str, Any]:
    known = {"work": WORK, "cpu_power": POWER, "macs": None, "moved_bytes": None, **changes}
    which = Case(model="net", backend="fake", precision="fp32", device=device)
    return energy_columns(kept.lines, which, case, **known)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    machine.add_rapl("intel-rapl:0", "package-0", range_uj=900_000_000)
    return machine


def test_energy_is_what_the_load_adds_to_idle(machine: Machine):
    kept = Kept()
    measure_energy(prepared(machine, kept), CASES, [])
    for record in kept.records:
        EnergyRecord.model_validate(record)
    assert len(kept.kind("window")) == 12
    row = columns(kept)
    assert row["energy_mj_per_inference"] == pytest.approx(1e3 * 30 * 5 / 100, rel=1e-4)
    assert row["energy_gross_mj_per_inference"] == pytest.approx(1e3 * 40 * 5 / 100, rel=1e-4)
    assert row["energy_mj_per_inference_low"] == pytest.approx(1500, rel=1e-3)
    assert row["energy_mj_per_inference_high"] == pytest.approx(1500, rel=1e-3)
    assert (row["power_w"], row["idle_w"]) == (pytest.approx(40), pytest.approx(10))
    assert row["energy_window_s"] == pytest.approx(5)
    assert (row["energy_method"], row["energy_scope"]) == ("rapl package-0", "cpu package")
    assert row["energy_is_measured"] is True and row["energy_reason"] is None
    assert columns(kept, "slow")["energy_mj_per_inference"] == pytest.approx(600, rel=1e-4)


def test_every_series_is_kept_and_gives_the_joules_again(machine: Machine):
    kept = Kept()
    measure_energy(prepared(machine, kept), CASES, [])
    for record in kept.kind("window") + kept.kind("idle"):
        for reading in record["sensors"]:
            series = kept.series[reading["series"]]
            assert series.dtype == np.float64 and series.ndim == 2 and series.shape[1] == 2
            ends = np.interp([record["begin_ns"], record["end_ns"]], *series.T)
            assert ends[1] - ends[0] == pytest.approx(reading["joules"])
    names = [r["series"] for w in kept.kind("window") for r in w["sensors"]]
    assert len(set(names)) == 12


def test_an_interrupted_pass_goes_on_where_it_was(machine: Machine):
    whole, first, rest = Kept(), Kept(), Kept()
    measure_energy(prepared(machine, whole), CASES, [])

    def interrupted(case: str) -> Outcome:
        if len(first.kind("window")) == 5:
            raise KeyboardInterrupt
        return machine.worker(WATTS[case])

    with pytest.raises(KeyboardInterrupt):
        measure_energy(prepared(machine, first, run_window=interrupted), CASES, [])
    measure_energy(prepared(machine, rest, sitting=2), CASES, first.lines)
    order = [[(r["round"], r["case_id"]) for r in kept.kind("window")] for kept in (first, rest)]
    assert len(order[0]) == 5
    assert order[0] + order[1] == [(r["round"], r["case_id"]) for r in whole.kind("window")]
    assert {r["sitting"] for r in rest.kind("idle")} == {2}
    again = Kept()
    measure_energy(prepared(machine, again), CASES, whole.lines)
    assert [r["kind"] for r in again.records] == ["begin"]


def test_a_case_that_fails_is_recorded_and_not_run_again(machine: Machine):
    kept = Kept()

    def run(case: str) -> Outcome:
        return Outcome("crashed", "killed by signal 9") if case == "slow" else machine.worker(20)

    measure_energy(prepared(machine, kept, run_window=run), CASES, [])
    failed = [r for r in kept.kind("window") if r["case_id"] == "slow"]
    assert [(r["status"], r["items"]) for r in failed] == [("crashed", None)]
    assert len(kept.kind("window")) == 7
    row = columns(kept, "slow")
    assert row["energy_is_measured"] is False and "killed by signal 9" in row["energy_reason"]


def test_without_a_sensor_no_worker_is_run_and_the_reason_stands(tmp_path: Path):
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidiactl").touch()
    machine, kept = Machine(tmp_path), Kept()
    measure_energy(prepared(machine, kept, run_window=lambda case: pytest.fail(case)), CASES, [])
    assert [r["kind"] for r in kept.records] == ["begin"]
    EnergyRecord.model_validate(kept.records[0])
    row = columns(kept)
    assert row["energy_method"] == "proxy: cpu time x 4 W per core (a data sheet)"
    assert row["energy_reason"] == "not measured: nvml: NVML: Driver Not Loaded"


def test_a_sensor_that_dies_is_none_with_its_reason(machine: Machine):
    kept = Kept()
    file = machine.rapl[0][0]

    def run(case: str) -> Outcome:
        machine.rapl.clear()
        file.write_text("")
        return machine.worker(20)

    measure_energy(prepared(machine, kept, run_window=run), {"fast": "x"}, [])
    (reading,) = kept.kind("window")[0]["sensors"]
    assert reading["joules"] is None and reading["watts"] is None
    assert "do not cover the window" in reading["reason"] and "no integer" in reading["reason"]
    row = columns(kept)
    assert (
        row["energy_is_measured"] is False and "cpu package: the readings" in row["energy_reason"]
    )


def test_a_load_below_the_idle_power_is_not_a_negative_energy(machine: Machine):
    """... and what the machine drew was measured all the same."""
    kept = Kept()
    machine.loads.append((machine.now_ns, machine.now_ns + 6 * 10**9, 50.0))  # while it is "idle"
    measure_energy(prepared(machine, kept), CASES, [])
    row = columns(kept)
    assert "does not rise above the idle power" in row["energy_reason"]
    assert row["energy_mj_per_inference"] is None and row["energy_mj_per_inference_low"] is None
    assert row["energy_is_measured"] is True and row["energy_scope"] == "cpu package"
    assert row["energy_gross_mj_per_inference"] == pytest.approx(1e3 * 40 * 5 / 100, rel=1e-4)
    assert (row["power_w"], row["idle_w"]) == (pytest.approx(40), pytest.approx(60))


def windows(joules: list[float], scope: str = "board", idle_w: float | None = 4.0) -> list[Any]:
    """Records of windows of 5 s and 100 items, as a sensor gives them."""
    readings = [
        {
            "name": scope, "method": f"the {scope}'s", "scope": scope, "kind": "power",
            "joules": one, "watts": one / 5, "idle_w": idle_w, "reason": "",
        }
        for one in joules
    ]  # fmt: skip
    return [
        {
            "kind": "window", "sitting": 1, "case_id": "fast", "round": number, "status": "ok",
            "reason": "", "begin_ns": 0, "end_ns": 5 * 10**9, "items": 100,
            "meter_cpu_share": None, "sensors": [reading],
        }
        for number, reading in enumerate(readings)
    ]  # fmt: skip


def test_one_window_below_idle_costs_no_figure():
    """A camera's light load on a Jetson's rail. Above idle (20 J in 5 s) the six have 0.43 J in the
    mean, with a standard deviation of sqrt(0.271 / 5) J; t of 5 degrees of freedom is 2.5706."""
    kept = Kept()
    kept.records = windows([20.6, 20.5, 20.4, 19.98, 20.5, 20.6])
    narrower = windows([9.0] * 6, "cpu package", 1.0)
    for window, other in zip(kept.records, narrower, strict=True):
        window["sensors"] += other["sensors"]
    row = columns(kept)
    assert (row["energy_scope"], row["energy_reason"]) == ("board", None)
    assert row["energy_mj_per_inference"] == pytest.approx(4.3)
    half = 2.570582 * (0.271 / 5 / 6) ** 0.5 * 10
    assert row["energy_mj_per_inference_low"] == pytest.approx(4.3 - half, rel=1e-5)
    assert row["energy_mj_per_inference_high"] == pytest.approx(4.3 + half, rel=1e-5)
    assert row["energy_gross_mj_per_inference"] == pytest.approx(204.3)
    assert (row["power_w"], row["idle_w"]) == (pytest.approx(4.1), 4.0)


def test_an_energy_indistinguishable_from_idle_has_an_interval_with_0():
    kept = Kept()
    kept.records = windows([20.6, 19.5, 20.5, 19.8, 20.3, 19.7])
    row = columns(kept)
    assert row["energy_mj_per_inference"] == pytest.approx(10 * 0.4 / 6)
    assert row["energy_mj_per_inference_low"] < 0 < row["energy_mj_per_inference_high"]


def test_without_a_baseline_there_is_still_the_energy_with_the_idle_share():
    kept = Kept()
    kept.records = windows([20.0] * 6, idle_w=None)
    row = columns(kept)
    assert row["energy_mj_per_inference"] is None and row["idle_w"] is None
    assert row["energy_reason"] == "board: there is no idle baseline"
    assert row["energy_gross_mj_per_inference"] == pytest.approx(200)
    assert row["energy_is_measured"] is True


def test_a_busy_idle_baseline_is_reported(machine: Machine, monkeypatch):
    monkeypatch.setattr("psutil.cpu_percent", lambda: 42.0)
    kept = Kept()
    measure_energy(prepared(machine, kept), {"fast": "x"}, [])
    assert kept.kind("idle")[0]["busy_share"] == pytest.approx(0.42)
    assert "42% of the machine was busy" in kept.notes[0]


def test_a_job_on_another_core_marks_the_energy(machine: Machine):
    """Two of six windows met a job that took as much again; the other case's did not."""
    kept = Kept()

    def run(case: str) -> Outcome:
        done = [r for r in kept.kind("window") if r["case_id"] == case]
        if case == "fast" and len(done) in (2, 4):
            return machine.worker(2 * WATTS[case], others_cores=0.9)
        return machine.worker(WATTS[case])

    measure_energy(prepared(machine, kept, run_window=run), CASES, [])
    for record in kept.records:
        EnergyRecord.model_validate(record)
    row = columns(kept)
    assert row["energy_mj_per_inference"] == pytest.approx(2000, rel=1e-3)  # nothing is dropped
    assert row["energy_noise"] == (
        "2 of 6 windows are doubtful; at worst: others used 0.9 cores (2)"
    )
    assert columns(kept, "slow")["energy_noise"] is None
    for window in kept.kind("window"):  # as records were before
        del window["met"]
        EnergyRecord.model_validate(window)
    assert columns(kept)["energy_noise"] is None


# --------------------------------------------------------------------------- which sensor


def test_the_widest_scope_is_published_and_none_is_added_up(tmp_path: Path):
    machine, kept = Machine(tmp_path), Kept()
    for number, (name, share) in enumerate((("package-0", 0.5), ("psys", 0.9), ("dram", 0.1))):
        machine.add_rapl(f"intel-rapl:{number}", name, share=share)
    nvml = FakeNvml(millijoules=list(range(0, 10**9, 5000)))
    measure_energy(prepared(machine, kept, nvml), {"fast": "x"}, [])
    row = columns(kept)
    assert (row["energy_method"], row["energy_scope"]) == ("rapl psys", "platform")
    assert row["energy_mj_per_inference"] == pytest.approx(0.9 * 1500, rel=1e-3)
    # a GPU's case has nothing to do with the processor's counters
    reason = columns(kept, device="cuda:0")["energy_reason"]
    assert "rise above" in reason  # this one's load is constant


def test_a_gpus_own_counter_is_published_for_its_cases_only(tmp_path: Path):
    machine, kept = Machine(tmp_path), Kept()
    truth = Machine(tmp_path / "gpu", idle_w=70)

    class Nvml(FakeNvml):
        def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
            truth.loads = machine.loads
            return int(truth.joules(10**12, machine.now_ns) * 1e3)

    measure_energy(prepared(machine, kept, Nvml()), {"fast": "x"}, [])
    row = columns(kept, device="cuda:0")
    assert (row["energy_method"], row["energy_scope"]) == ("nvml total energy", "gpu")
    assert row["energy_mj_per_inference"] == pytest.approx(1500, rel=1e-3)
    assert (row["idle_w"], row["power_w"]) == (pytest.approx(70), pytest.approx(100))
    other = columns(kept)
    assert other["energy_is_measured"] is False
    assert "no sensor of this machine covers cpu" in other["energy_reason"]


def test_of_two_gpus_neither_is_published(tmp_path: Path):
    machine, kept = Machine(tmp_path), Kept()
    nvml = FakeNvml(millijoules=list(range(0, 10**9, 5000)), gpus=2)
    measure_energy(prepared(machine, kept, nvml), {"fast": "x"}, [])
    with pytest.raises(NoEnergy, match=r"several \(nvml-0-energy, nvml-1-energy\)"):
        measured(kept.lines, "fast", "cuda:0")


# --------------------------------------------------------------------------- the wall meter


class Logger:
    """Writes a machine's log whenever it is asked for."""

    def __init__(self, machine: Machine, path: Path, late: int = 0, **how: Any) -> None:
        self.machine, self.path, self.late, self.how = machine, path, late, how
        self.method, self.same_clock = PowerLog(path).method, False

    running = PowerLog.running

    def read(self):
        self.late -= 1
        if self.late < 0:
            times, watts = self.machine.wall_log(**self.how)
            rows = [f"{t:.3f},{w:.2f}\n" for t, w in zip(times, watts, strict=True)]
            self.path.write_text("time,watts\n" + "".join(rows))
        return PowerLog(self.path).read()


def test_a_wall_meter_an_hour_off_gives_the_whole_machines_energy(machine: Machine):
    kept = Kept()
    log = Logger(machine, machine.root / "meter.csv", late=3, hz=4, offset_s=3600, rate=1.0003)
    measure_energy(prepared(machine, kept, wall=log), CASES, [])
    for record in kept.records:
        EnergyRecord.model_validate(record)
    (alignment,) = kept.kind("alignment")
    assert alignment["rate"] == pytest.approx(1.0003, abs=3e-4) and len(alignment["windows"]) == 12
    row = columns(kept)
    assert (row["energy_method"], row["energy_scope"]) == ("wall meter (meter.csv)", "wall")
    assert row["energy_mj_per_inference"] == pytest.approx(1500, rel=0.03)
    assert row["idle_w"] == pytest.approx(10, rel=0.01)
    assert row["energy_is_measured"] is True and row["energy_reason"] is None
    # the narrower sensor is not lost
    rapl = measured([r for r in kept.lines if r.kind != "alignment"], "fast", "cpu")
    assert rapl.method == "rapl package-0"


def test_a_log_that_does_not_fit_leaves_the_other_sensor_and_says_why(machine: Machine):
    kept = Kept()
    log = Logger(machine, machine.root / "meter.csv")
    log.machine = Machine(machine.root / "another")  # whose plug the meter is in
    log.machine.now_ns += 10**12
    before = machine.now_ns
    measure_energy(prepared(machine, kept, wall=log), {"fast": "x"}, [])
    assert machine.now_ns - before < 300e9
    (alignment,) = kept.kind("alignment")
    EnergyRecord.model_validate(alignment)
    assert "is not in the log" in alignment["reason"] and not alignment["windows"]
    assert "is not in the log" in kept.notes[-1]
    row = columns(kept)
    assert row["energy_method"] == "rapl package-0" and "is not in the log" in row["energy_reason"]
    # and it is measured again when the run goes on with the meter where it belongs
    more = Kept()
    good = Logger(machine, machine.root / "meter.csv", hz=4, begin_ns=machine.now_ns)
    measure_energy(prepared(machine, more, wall=good, sitting=2), {"fast": "x"}, kept.lines)
    both = Kept()
    both.records = kept.records + more.records
    assert len(more.kind("window")) == 6
    assert not kept.series.keys() & more.series.keys()  # what earlier records name stays as it was
    assert columns(both)["energy_scope"] == "wall" and not columns(both)["energy_reason"]


# --------------------------------------------------------------------------- kept and derived again


def lines(bundle: Bundle, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the records of a bundle's ``energy.jsonl``."""
    path = bundle.path / "energy.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for record in records:
        change(record)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def test_joules_are_derived_again_from_what_the_bundle_keeps(machine: Machine, tmp_path: Path):
    crafted = Crafted(tmp_path / "bundle")
    crafted.trial(crafted.case("fp32"), 0, 1.0)
    bundle = crafted.done()
    log = Logger(machine, machine.root / "meter.csv", hz=4)
    run = prepared(machine, Kept(), wall=log, record=bundle.add_energy)
    measure_energy(run, CASES, [])
    assert recompute(bundle) == []

    name = str(next((bundle.path / "energy").glob("fast-s1-w003-*")).relative_to(bundle.path))
    other = next((bundle.path / "energy").glob("slow-s1-w003-*"))
    kept = (bundle.path / name).read_bytes()
    (bundle.path / name).write_bytes(other.read_bytes())
    found = recompute(bundle)
    assert found and all(line.startswith(f"{name}, window 3 of fast: ") for line in found)
    assert "joules is None, recorded" in found[0]  # the readings of another time
    np.save(bundle.path / name, np.arange(3.0))
    assert any(f"{name} is damaged" in line for line in recompute(bundle))
    (bundle.path / name).write_bytes(kept)

    def less(record: dict[str, Any]) -> None:
        for window in record.get("windows", []):
            if (window["case_id"], window["round"]) == ("slow", 0):
                window["joules"] *= 0.99

    lines(bundle, less)
    (found,) = recompute(bundle)
    assert found.startswith("energy/wall-s1.npy, window 0 of slow: joules is ")


WITH_A_GAUGE = """
from qbench.machine.energy import sensors
gauge = sensors.Sensor("gauge", "a gauge", "board", "power", lambda: 5.0)
sensors.find_sensors = lambda: sensors.Found([gauge], [])
from qbench.cli import main
main()
"""


def test_a_runs_own_windows_hold_what_the_records_ask_for(project: Project):
    """With a sensor that always says 5 W: what a load adds to that is nothing."""
    project.suite(
        precisions=["fp32"], rounds=1, energy={"window_s": 1.0, "windows": 1, "idle_s": 1.0}
    )
    words = [sys.executable, "-c", WITH_A_GAUGE, "run", "small.yaml", "--no-report"]
    done = subprocess.run(words, cwd=project.root, env=project.env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (row,) = project.cases()
    assert row["energy_mj_per_inference"] is None
    assert row["energy_reason"] == "board: the load does not rise above the idle power"
    assert row["energy_gross_mj_per_inference"] > 0
    assert (row["power_w"], row["idle_w"]) == (pytest.approx(5), pytest.approx(5))
    bundle = find_bundle("latest", project.root / "results")
    (window,) = [record for record in bundle.energy if isinstance(record, Window)]
    assert window.met and window.met.wall_ns >= 1e9
    assert "others_cpu_ns" in window.met.conditions
    assert recompute(bundle) == []


# --------------------------------------------------------------------------- proxies


def test_processor_time_is_a_proxy_with_its_source():
    energy = cpu_time_proxy(WORK, POWER)
    assert mj(energy).value == pytest.approx(4 * 1 / 200 * 1e3)
    assert (energy.power_w, energy.idle_w, energy.scope) == (pytest.approx(2), None, "process")
    assert energy.is_measured is False and "a data sheet" in energy.method
    assert mj(energy).low == pytest.approx(20)
    with pytest.raises(NoEnergy, match="no cpu_power"):
        cpu_time_proxy(WORK, None)
    with pytest.raises(NoEnergy, match="no processor time"):
        cpu_time_proxy(WORK._replace(cpu_ns=np.zeros(6)), POWER)


def test_operations_cost_what_the_paper_says():
    # 10^9 multiply-accumulates of 3.7 + 0.9 pJ; of 0.2 + 0.1 pJ
    assert mj(operations_proxy({"fp32": 10**9}, 0)).value == pytest.approx(4.6)
    assert mj(operations_proxy({"int8": 10**9, "fp16": 0}, 0)).value == pytest.approx(0.3)
    # 8 MB are 10^6 words of 1.3 to 2.6 nJ
    traffic = mj(operations_proxy({}, 8 * 10**6)).value
    assert 1.3 < traffic < 2.6 and traffic / 1.3 == pytest.approx(2.6 / traffic)
    mixed = operations_proxy({"fp32": 10**8, "int8": 10**9}, 8 * 10**6, batch=4)
    assert mj(mixed).value == pytest.approx((0.46 + 0.3 + traffic) / 4)
    assert mj(mixed).low is None and mixed.is_measured is False and "ISSCC 2014" in mixed.method


@pytest.mark.parametrize(
    ("macs", "moved", "reason"),
    [
        (None, 1, "multiply-accumulates are not known"),
        ({"fp32": 1}, None, "bytes that are moved are not known"),
        ({"fp32": 1, "fp16": 2, "bf16": 1}, 1, "no figure for bf16, fp16"),
    ],
)
def test_operations_that_have_no_figure_have_a_reason(macs, moved, reason: str):
    with pytest.raises(NoEnergy, match=reason):
        operations_proxy(macs, moved)


def test_the_table_takes_the_first_method_that_has_a_figure():
    nothing = Kept()
    row = columns(nothing)
    assert row["energy_method"].startswith("proxy: cpu time") and row["energy_reason"] is None
    row = columns(nothing, cpu_power=None, macs={"int8": 10**6}, moved_bytes=10**6)
    assert (row["energy_method"], row["energy_scope"]) == (OPERATIONS, "model")
    assert row["energy_reason"] == "processor time: the suite gives no cpu_power"
    assert row["power_w"] is None and row["idle_w"] is None and row["energy_window_s"] is None
    row = columns(nothing, cpu_power=None)
    assert "energy_mj_per_inference" not in row and "operations:" in row["energy_reason"]


# --------------------------------------------------------------------------- hostile records


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "whatever"},
        {"items": 0},
        {"items": None},
        {"end_ns": None},
        {"end_ns": 5},
        {"status": "fine"},
        {"sensors": [{"name": "x"}]},
        {"sensors": [{"name": "x", "method": "m", "scope": "the moon", "joules": 1.0,
                      "watts": 1.0, "idle_w": 1.0}]},
        {"sensors": [{"name": "x", "method": "m", "scope": "wall", "joules": float("nan"),
                      "watts": 1.0, "idle_w": 1.0}]},
    ],
)  # fmt: skip
def test_a_record_that_means_nothing_is_refused(change: dict[str, Any]):
    good = {
        "kind": "window", "sitting": 1, "case_id": "c", "round": 0, "status": "ok", "reason": "",
        "begin_ns": 10, "end_ns": 20, "items": 3, "meter_cpu_share": None, "sensors": [],
    }  # fmt: skip
    EnergyRecord.model_validate(good)
    with pytest.raises(ValidationError):
        EnergyRecord.model_validate({**good, **change})


@pytest.mark.parametrize("wrong", [{"window_s": 0.1}, {"windows": 0}, {"hz": 3}, {"idle_s": "5"}])
def test_settings_are_strict(wrong: dict[str, Any]):
    with pytest.raises(ValidationError):
        EnergySettings.model_validate(wrong)
