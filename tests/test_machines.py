"""Machines side by side: told apart, compared only where they did the same, on the page with their
costs. A second machine is simulated: the same bundle with all its times changed by a factor."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qbench.analysis.columns import NAMES
from qbench.analysis.machines import Cell, Line, machine_of, machines_of, side_by_side
from qbench.analysis.table import case_rows
from qbench.bundle import Bundle
from qbench.costs import CostSheet
from qbench.errors import UserError
from qbench.report import Options, write_report

DAY = "2026-01-31"
REFERENCE = Path(__file__).parents[1] / "results" / "reference"


def measured(project, *args: str | Path, rounds: int = 6, **env: str) -> Bundle:
    """A run of two cases, on a machine of that name."""
    os.environ.update(env)  # undone by the fixture ``named``
    project.env.update(env)
    return Bundle(project.root / project.run_json(project.suite(rounds=rounds), *args)["bundle"])


def simulated(
    bundle: Bundle, folder: Path, factor: float = 1.0, host: dict[str, Any] | None = None,
    **begin: Any,
) -> Bundle:  # fmt: skip
    """A copy whose calls took ``factor`` times as long, with other facts of its host and run; as if
    the run had not been completed, so that nothing is taken from what was derived."""
    shutil.copytree(bundle.path, folder)
    for name in ("manifest.json", "trials.parquet", "samples.parquet"):
        (folder / name).unlink()
    told = json.loads((folder / "begin.json").read_text())
    told = {**told, "run_id": folder.name, **begin, "host": {**told["host"], **(host or {})}}
    (folder / "begin.json").write_text(json.dumps(told))
    for path in (folder / "samples").glob("*.npy"):
        np.save(path, np.round(np.load(path) * factor).astype(np.int64))
    journal = folder / "journal.jsonl"
    trials = [json.loads(line) for line in journal.read_text().splitlines()]
    for trial in trials:
        trial["wall_ns"] = round(trial["wall_ns"] * factor)
    journal.write_text("".join(json.dumps(trial) + "\n" for trial in trials))
    return Bundle(folder)


def beside(*bundles: Bundle):
    return side_by_side(bundles, [case_rows(b, b.trials_frame()) for b in bundles])


@pytest.fixture
def run(project) -> Bundle:
    return measured(project)


def test_two_names_make_two_machines_of_one(project, monkeypatch):
    a, b = (
        Bundle(
            project.root
            / json.loads(
                project.qbench(
                    "run", project.suite(rounds=1), "--json", "--no-report", QBENCH_MACHINE=name
                ).stdout
            )["bundle"]
        )
        for name in ("lab-1", "lab-2")
    )
    one, other = machines_of([a, b])
    assert one.key != other.key and one.chip == other.chip
    host = a.begin["host"]["hostname"]  # which they share
    assert (one.name, other.name) == (f"{host} ({one.key})", f"{host} ({other.key})")
    assert machines_of([b, a, b]) == [other, one]
    assert machine_of(a).name == host == machines_of([a])[0].name
    costs = project.write("costs.yaml", {"machines": {one.key: {}, other.name: {}}})
    done = project.qbench("cost", a.path, b.path, "--costs", costs, "--json")
    assert done.returncode == 0, done.stderr
    cases = json.loads(done.stdout)["cases"]
    assert [case["host_id"] for case in cases] == [one.key, other.key] * 2
    # the folder of a collection stands for the bundles in it
    assert project.qbench("merge", a.path, b.path, "-o", "both").returncode == 0
    again = project.qbench("cost", "both", "--costs", costs, "--json")
    assert again.returncode == 0 and json.loads(again.stdout)["cases"] == cases


def test_a_machine_that_is_twice_as_slow_is_told_so_with_an_interval(run, tmp_path):
    slow = simulated(run, tmp_path / "slow", 2.0, {"host_id": "b" * 12, "hostname": "slow"})
    side = beside(run, slow)
    assert [machine.name for machine in side.machines] == [run.begin["host"]["hostname"], "slow"]
    assert len(side.lines) == 2
    for line in side.lines:
        first, second = line.cells
        assert first is not None and second is not None
        assert first.p50 is None and second.reason is None
        for ratio, expected in ((second.p50, 2.0), (second.throughput, 0.5)):
            assert ratio is not None and not ratio.paired and ratio.rounds == 6
            assert ratio.value == pytest.approx(expected, rel=1e-3)
            assert ratio.low is not None and ratio.high is not None
            assert ratio.low < expected < ratio.high
        # equal numbers on both, each its own: the outputs were not changed
        assert first.row["accuracy"] == second.row["accuracy"] is not None
        assert second.energy is None and second.energy_reason
    far = simulated(run, tmp_path / "far", 50.0, {"host_id": "c" * 12, "hostname": "far"})
    assert {line.fastest for line in beside(far, run).lines} == {1}


def test_what_was_not_the_same_is_not_divided(run, tmp_path):
    settings = {**run.begin["settings"], "timed_s": 5.0}
    longer = simulated(run, tmp_path / "longer", 1, {"host_id": "b" * 12}, settings=settings)
    data = simulated(run, tmp_path / "data", 1, {"host_id": "c" * 12})
    plan = json.loads((data.path / "plan.json").read_text())
    for entry in plan["cases"]:
        entry["dataset_digest"] = "d" * 64
    (data.path / "plan.json").write_text(json.dumps(plan))
    for other, told in ((longer, "settings.timed_s"), (Bundle(data.path), "dataset_digest")):
        for line in beside(run, other).lines:
            cell = line.cells[1]
            assert cell is not None and cell.p50 is cell.throughput is cell.energy is None
            assert told in (cell.reason or "")
            assert line.fastest is None


def test_of_two_runs_of_a_machine_the_newest_complete_one_stands(project, run, tmp_path):
    again = measured(project, rounds=1)
    torn = simulated(run, tmp_path / "torn", 9.0, started="2099-01-01T00:00:00+0000")
    side = beside(again, run, torn)
    assert len(side.machines) == 1 and len(side.lines) == 2
    assert {row["run_id"] for row in side.rows_of(side.machines[0])} == {again.run_id}
    assert [(told.run_id, told.complete, told.stand, told.cases) for told in side.runs] == [
        (again.run_id, True, 2, 2),
        (run.run_id, True, 0, 2),
        ("torn", False, 0, 2),
    ]
    # a case that failed in the newest run is taken from the one before
    rows = [case_rows(b, b.trials_frame()) for b in (again, run)]
    rows[0][0] = {**rows[0][0], "status": "crashed", "reason": "planted"}
    mixed = side_by_side([again, run], rows)
    assert {row["run_id"] for row in mixed.rows_of(mixed.machines[0])} == {again.run_id, run.run_id}
    assert all(line.cells[0] and line.cells[0].ok for line in mixed.lines)


def test_a_case_that_only_one_machine_has_or_can_do_keeps_its_reason(run, tmp_path):
    other = simulated(run, tmp_path / "other", 1, {"host_id": "b" * 12})
    rows = [case_rows(b, b.trials_frame()) for b in (run, other)]
    rows[1][1] = {**rows[1][1], "status": "skipped", "reason": "no such instruction"}
    extra = {**rows[1][0], "case_id": "e" * 12, "precision": "w8"}
    side = side_by_side([run, other], [rows[0], [*rows[1], extra]])
    _, skipped, alone = side.lines
    assert skipped.cells[1] is not None
    assert skipped.cells[1].reason == "skipped: no such instruction"
    assert alone.cells[0] is None and alone.cells[1] is not None
    assert alone.cells[1].reason == "the first machine has no such case"


def ends(low: float | None, high: float | None, scenario: str = "single-stream") -> Cell:
    name = "throughput_ips_{}" if scenario == "offline" else "latency_p50_{}_ms"
    told = {
        "status": "ok",
        "scenario": scenario,
        name.format("low"): low,
        name.format("high"): high,
    }
    return Cell({**dict.fromkeys(NAMES), **told})


def test_the_fastest_is_named_only_where_intervals_lie_apart():
    assert Line((ends(2, 3), ends(1, 1.5), None)).fastest == 1
    assert Line((ends(2, 3), ends(1, 2.5))).fastest is None
    assert Line((ends(2, 3), ends(1, 1.5), ends(1.4, 2))).fastest is None
    assert Line((ends(2, 3), ends(None, None))).fastest is None
    assert Line((ends(2, 3), None)).fastest is None
    assert Line((ends(2, 3, "offline"), ends(1, 1.5, "offline"))).fastest == 0


# --------------------------------------------------------------------------- the page


def sheet(**machines: dict[str, Any]) -> CostSheet:
    def money(amount: float) -> dict[str, Any]:
        return {"amount": amount, "currency": "EUR", "date": DAY, "source": "the list"}

    every = {
        "lifetime": {"years": 4, "source": "the books"},
        "utilisation": {"share": 0.5, "source": "the monitor"},
        "price_per_kwh": money(0.3),
    }
    own = {
        name: {
            "price": money(told["price"]),
            "watts": {"load": told["load"], "idle": 1, "source": "a plug meter"},
        }
        for name, told in machines.items()
    }
    return CostSheet.model_validate({"every_machine": every, "machines": own})


def test_the_page_has_machines_costs_and_where_they_come_from(run, tmp_path):
    hostile = "<img src=x onerror=alert(1)>\u202e" + "x" * 500
    slow = simulated(run, tmp_path / "slow", 2.0, {"host_id": "b" * 12, "hostname": hostile})
    page = tmp_path / "page.html"
    write_report([run], page)
    assert 'id="machines"' not in page.read_text()
    costs = sheet(
        **{
            run.begin["host"]["host_id"]: {"price": 100, "load": 10},
            "b" * 12: {"price": 50, "load": 2},
        }
    )
    write_report([run, slow], page, Options(costs=costs, rate_ips=1e6))
    text = page.read_text()
    assert text.index('id="machines"') < text.index('id="cases"')
    assert "slower than machine 1 in 2 (" in text and "times as fast)" in text
    assert "<img" not in text and "\u202e" not in text and "&lt;img src=x" in text
    assert text.count("a plug meter") == 2 and "written off evenly" in text
    assert "CO2, a million: the energy was not measured" in text
    data = json.loads(text.split('id="data">')[1].split("</script>")[0])["costs"]
    assert [axis["name"] for axis in data["axes"]] == ["price", "watts"]
    assert [point["price"] for point in data["points"]] == pytest.approx([100, 50] * 2, rel=1e-3)
    assert [point["watts"] for point in data["points"]] == pytest.approx([10, 2] * 2, rel=1e-3)
    write_report([run, slow], page)
    assert "Cost and power" not in page.read_text() and "over 1" in page.read_text()
    with pytest.raises(UserError, match="no run is of a machine 'nobody'"):
        write_report([run, slow], page, Options(costs=sheet(nobody={"price": 1, "load": 2})))


def test_real_machines_side_by_side():
    """Reference runs of two machines, where they are."""
    found = [Bundle(path.parent) for path in sorted(REFERENCE.glob("*/manifest.json"))]
    machines = machines_of(found)
    if len(machines) < 2:
        pytest.skip("there are no reference runs of two machines")
    side = beside(*found)
    assert [machine.key for machine in side.machines] == [machine.key for machine in machines]
    both = [line for line in side.lines if all(cell and cell.ok for cell in line.cells[:2])]
    assert both
    for line in both:
        cell = line.cells[1]
        assert cell is not None
        assert (cell.p50 is None) == (cell.reason is not None)
