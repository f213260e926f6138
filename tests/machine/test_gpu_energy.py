"""The energy of GPU cases: of the very GPU, and its counter against its power."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from energy_machine import FakeNvml, Kept, Machine, gpu_facts

from qbench.analysis.table.energy import NoEnergy, Work, energy_columns, measured
from qbench.bundle.records.energy import EnergyRecord
from qbench.bundle.records.run import Place
from qbench.machine.energy.sensors import find_sensors
from qbench.machine.gpu.card import place
from qbench.run.energy import EnergyPass, measure_energy
from qbench.spec.case import Case
from qbench.spec.energy import EnergySettings

IDLE_W = (60.0, 80.0)
LOAD_W = 300.0


class Gpus(FakeNvml):
    """Two GPUs, of which the second does the work. ``wrong``: error of the power reading;
    ``order``: of NVML's indices, which may change at a reboot."""

    def __init__(self, machine: Machine, wrong: float = 1.0, order: Sequence[int] = (0, 1)) -> None:
        super().__init__(gpus=2)
        self.wrong, self.order, self.machine = wrong, order, machine
        self.truths = [Machine(machine.root / f"gpu{n}", idle) for n, idle in enumerate(IDLE_W)]

    def _truth(self, handle: int) -> Machine:
        gpu = self.order[handle]
        truth = self.truths[gpu]
        truth.loads = self.machine.loads if gpu == 1 else []
        return truth

    def nvmlDeviceGetPciInfo(self, handle: int) -> Any:
        return super().nvmlDeviceGetPciInfo(self.order[handle])

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
        return int(self._truth(handle).joules(10**12, self.machine.now_ns) * 1e3)

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        now = self.machine.now_ns
        joules = self._truth(handle).joules(now - 10**6, now)
        return int(joules * 1e3 * self.wrong * 1e3)


def metered(tmp_path: Path, nvml: FakeNvml | None = None, **how: Any) -> Kept:
    machine, kept = Machine(tmp_path), Kept()
    run = EnergyPass(
        found=find_sensors(machine.root, nvml or Gpus(machine, **how)),
        settings=EnergySettings(windows=6, idle_s=5),
        run_window=lambda case: machine.worker(LOAD_W),
        record=kept.record,
        progress=kept,
        sitting=1,
        seed=7,
        clock=machine.clock,
    )
    measure_energy(run, {"case": "net fp32"}, [])
    for record in kept.records:
        EnergyRecord.model_validate(record)
    return kept


CASE = Case(model="net", backend="fake", precision="fp32", device="cuda:0")


def placed(number: int, **changed: Any) -> Place:
    return Place.model_validate({**place(gpu_facts(number)), **changed})


def columns(kept: Kept, gpu: Place | None) -> dict[str, Any]:
    work = Work(*(np.array([value], float) for value in (1e9, 1e9, 10)))
    return energy_columns(kept.lines, CASE, "case", work, None, None, None, gpu)


def test_of_two_gpus_the_one_that_does_the_work_is_published(tmp_path: Path):
    """100 items in 5 s at 300 W above idle: 15 J for each."""
    kept = metered(tmp_path)
    row = columns(kept, placed(1))
    assert (row["energy_method"], row["energy_scope"]) == ("nvml total energy", "gpu")
    assert row["energy_mj_per_inference"] == pytest.approx(15_000, rel=1e-3)
    assert (row["idle_w"], row["power_w"]) == (pytest.approx(80), pytest.approx(380))
    assert row["energy_noise"] is None, "its power says the same"
    other = columns(kept, placed(0))
    assert other["energy_mj_per_inference"] is None
    assert other["power_w"] == pytest.approx(60)


def test_nvmls_numbers_do_not_matter(tmp_path: Path):
    row = columns(metered(tmp_path, order=(1, 0)), placed(1))
    assert row["power_w"] == pytest.approx(380)


def test_of_two_gpus_neither_is_published_where_it_is_not_known_which_works(tmp_path: Path):
    with pytest.raises(NoEnergy, match=r"several \(nvml-0-energy, nvml-1-energy\)"):
        measured(metered(tmp_path).lines, "case", "cuda:0")


def test_a_gpu_that_nvml_does_not_show_has_no_energy(tmp_path: Path):
    with pytest.raises(NoEnergy, match="covers cuda:0"):
        measured(metered(tmp_path).lines, "case", "cuda:0", placed(4))


def test_a_part_of_a_gpu_has_no_energy_of_its_own(tmp_path: Path):
    row = columns(metered(tmp_path), placed(1, mig=True))
    assert "part of a GPU (MIG)" in row["energy_reason"]


@pytest.mark.parametrize(("wrong", "doubted"), [(1.08, False), (1.15, True), (0.8, True)])
def test_a_counter_that_disagrees_with_its_power_is_reported(tmp_path: Path, wrong, doubted):
    row = columns(metered(tmp_path, wrong=wrong), placed(1))
    assert row["energy_mj_per_inference"] == pytest.approx(15_000, rel=1e-3), "the counter's"
    noise = row["energy_noise"] or ""
    assert ("the GPU's counter says 1.14e+04 J" in noise) is doubted
    assert bool(noise) is doubted


def test_without_a_counter_its_power_is_published(tmp_path: Path):
    class NoCounter(Gpus):
        def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
            raise self.NVMLError("Not Supported")

    machine = Machine(tmp_path)
    kept = Kept()
    nvml = NoCounter(machine)
    run = EnergyPass(
        find_sensors(machine.root, nvml), EnergySettings(windows=2, idle_s=5),
        lambda case: machine.worker(LOAD_W), kept.record, kept, 1, 7, clock=machine.clock,
    )  # fmt: skip
    measure_energy(run, {"case": "net fp32"}, [])
    row = columns(kept, placed(1))
    assert row["energy_method"] == "nvml power"
    assert row["energy_mj_per_inference"] == pytest.approx(15_000, rel=0.05)


def test_other_processes_on_the_card_mark_its_energy(tmp_path: Path):
    kept = metered(tmp_path)
    for record in kept.records:
        if record["kind"] == "window":
            record["met"]["gpu"] = {"samples": 50, "missing": {}, "others": 2}
        EnergyRecord.model_validate(record)
    noise = columns(kept, placed(1))["energy_noise"]
    assert "6 of 6 windows are doubtful" in noise
    assert "2 other processes computed on the GPU" in noise


def test_records_that_name_no_device_are_read_as_before(tmp_path: Path):
    """Of a machine with one GPU, and of a version that did not write down where it sits."""
    machine, kept = Machine(tmp_path), metered(tmp_path / "more", FakeNvml(millijoules=None))
    for record in kept.records:
        if record["kind"] == "begin":
            record["sensors"] = [
                {k: v for k, v in s.items() if k != "device"} for s in record["sensors"]
            ]
        EnergyRecord.model_validate(record)
    assert machine.root.is_dir()
    row = columns(kept, placed(1))
    assert row["power_w"] == pytest.approx(250)
