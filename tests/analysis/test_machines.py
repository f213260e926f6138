"""Machines side by side: distinguished, compared only on the same work, on the page with costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crafted import Crafted
from paths import ROOT
from rows import case_row

from qbench.analysis.compare.machines import Cell, Line, machine_of, machines_of, side_by_side
from qbench.analysis.table.table import case_rows
from qbench.bundle.bundle import Bundle
from qbench.errors import UserError
from qbench.present.page import Options, write_report
from qbench.spec.costs import CostSheet

DAY = "2026-01-31"
HOST = {
    "host_id": "a" * 12, "hostname": "a", "cpu_model": "a processor", "gpus": None,
    "cpu_flags": ["avx2"], "governor": None, "power_mode": None, "caches": None,
}  # fmt: skip
REFERENCE = ROOT / "results" / "reference"


def made(
    folder: Path, run_id: str, machine: str = "a", factor: float = 1.0, digest: str = "d" * 64,
    precisions: tuple[str, ...] = ("fp32", "int8-static"), rounds: int = 6, **begin: Any,
) -> Crafted:  # fmt: skip
    """A run on a machine of that name, whose calls take ``factor`` times 4 and 2 ms, give or take a
    few percent."""
    host = HOST | {"host_id": machine * 12, "hostname": machine}
    run = Crafted(folder, run_id, host=host, **begin)
    run.labels = np.arange(12) % 3
    scores = np.eye(3)[run.labels].astype(np.float32)
    for place, precision in enumerate(precisions):
        case = run.case(precision)
        run.cases[-1]["dataset_digest"] = digest
        run.evaluation(case, scores)
        for number in range(rounds):
            run.trial(case, number, factor * (4 - 2 * place) * (1 + 0.01 * (number % 3)))
    return run


def beside(*bundles: Bundle):
    return side_by_side(bundles, [case_rows(b, b.trials_frame()) for b in bundles])


@pytest.mark.slow
def test_two_names_make_two_machines_of_one(project):
    paths = []
    for name in ("lab-1", "lab-2"):
        args = ("run", project.suite(rounds=1), "--json", "--no-report")
        done = project.qbench(*args, QBENCH_MACHINE=name)
        assert done.returncode == 0, done.stderr
        paths.append(project.root / json.loads(done.stdout)["bundle"])
    a, b = map(Bundle, paths)
    one, other = machines_of([a, b])
    assert one.key != other.key and one.chip == other.chip
    host = a.begin.host.hostname  # which they share
    assert (one.name, other.name) == (f"{host} ({one.key})", f"{host} ({other.key})")
    assert machines_of([b, a, b]) == [other, one]
    assert machine_of(a).name == host == machines_of([a])[0].name
    assert project.qbench("merge", *paths, "-o", "both").returncode == 0
    costs = project.write("costs.yaml", {"machines": {one.key: {}, other.name: {}}})
    done = project.qbench("cost", "both", "--costs", costs, "--json")  # a collection: all in it
    assert done.returncode == 0, done.stderr
    assert [case["host_id"] for case in json.loads(done.stdout)["cases"]] == [
        one.key,
        other.key,
    ] * 2


def test_a_machine_twice_as_slow_is_reported_with_an_interval(tmp_path):
    fast, slow = made(tmp_path, "r1").done(), made(tmp_path, "r2", "b", 2.0).done()
    side = beside(fast, slow)
    assert [machine.name for machine in side.machines] == ["a", "b"]
    assert [line.fastest for line in side.lines] == [0, 0]
    assert [line.fastest for line in beside(slow, fast).lines] == [1, 1]
    for line in side.lines:
        first, second = line.cells
        assert first is not None and second is not None
        assert first.p50 is None and second.reason is None
        for ratio, expected in ((second.p50, 2.0), (second.throughput, 0.5)):
            assert ratio is not None and not ratio.paired and ratio.rounds == 6
            assert ratio.value == pytest.approx(expected, rel=1e-6)
            assert ratio.low is not None and ratio.high is not None
            assert 0.97 * expected < ratio.low < expected < ratio.high < 1.03 * expected
        assert first.row.accuracy == second.row.accuracy == 1
        assert second.energy is None and second.energy_reason
    few = beside(fast, made(tmp_path, "r3", "c", 2.0, rounds=5).done())
    assert [line.fastest for line in few.lines] == [None, None]
    cell = few.lines[0].cells[1]
    assert cell is not None and cell.p50 is not None and cell.p50.low is None


def test_accuracy_is_each_machines_own(tmp_path):
    known = made(tmp_path, "r1").done()
    blind = made(tmp_path, "r2", "b")
    blind.evaluated.clear()
    first, second = beside(known, blind.done()).lines[0].cells
    assert first is not None and first.row.accuracy == 1
    assert second is not None and second.row.accuracy is None


def test_different_work_is_not_compared(tmp_path):
    settings = {"cpu_power": None, "rounds": 10, "timed_s": 5.0}
    one = made(tmp_path, "r1").done()
    longer = made(tmp_path, "r2", "b", settings=settings).done()
    data = made(tmp_path, "r3", "c", digest="e" * 64).done()
    for other, told in ((longer, "settings.timed_s"), (data, "dataset_digest")):
        for line in beside(one, other).lines:
            cell = line.cells[1]
            assert cell is not None and cell.p50 is cell.throughput is cell.energy is None
            assert told in (cell.reason or "")
            assert line.fastest is None


def test_of_two_runs_of_a_machine_the_newest_complete_one_stands(tmp_path):
    old = made(tmp_path, "r1", started="2026-01-01T00:00:00+0000").done()
    new = made(tmp_path, "r2", started="2026-01-02T00:00:00+0000").done()
    torn = made(tmp_path, "r3", started="2026-01-03T00:00:00+0000").open()
    side = beside(new, old, torn)
    assert len(side.machines) == 1 and len(side.lines) == 2
    assert {row.run_id for row in side.rows_of(side.machines[0])} == {"r2"}
    assert [(told.run_id, told.complete, told.stand, told.cases) for told in side.runs] == [
        ("r2", True, 2, 2),
        ("r1", True, 0, 2),
        ("r3", False, 0, 2),
    ]
    # a case that failed in the newest run is taken from the one before
    crashed = made(tmp_path, "r4", started="2026-01-04T00:00:00+0000")
    crashed.trials = [
        (t, s) if t["case_id"].endswith("0") else ({**t, "status": "crashed"}, None)
        for t, s in crashed.trials
    ]
    mixed = beside(crashed.done(), old)
    assert [row.run_id for row in mixed.rows_of(mixed.machines[0])] == ["r4", "r1"]
    assert all(line.cells[0] and line.cells[0].ok for line in mixed.lines)


def test_a_case_that_only_one_machine_has_or_can_do_keeps_its_reason(tmp_path):
    one = made(tmp_path, "r1").done()
    run = made(tmp_path, "r2", "b", precisions=("fp32",))
    run.case("int8-static", skip="no such instruction")
    w8 = run.case("w8")
    run.trial(w8, 0, 1.0)
    _, skipped, alone = beside(one, run.done()).lines
    assert skipped.cells[1] is not None
    assert skipped.cells[1].reason == "skipped: no such instruction"
    assert alone.cells[0] is None and alone.cells[1] is not None
    assert alone.cells[1].reason == "the first machine has no such case"


def test_settings_of_the_machine_do_not_separate_cases(tmp_path):
    runs = []
    for machine, threads in (("a", 8), ("b", 4)):
        run = Crafted(tmp_path, f"r{threads}", host=HOST | {"host_id": machine * 12})
        case = run.case("fp32", threads=threads)
        run.cases[-1]["case_id"] = run.cases[-1]["case_id"].replace("c", machine)
        run.cases[-1]["dataset_digest"] = "d" * 64
        run.trial(case.replace("c", machine), 0, 4.0)
        run.prepared = {}
        runs.append(run.done())
    (line,) = beside(*runs).lines
    assert [cell and cell.row.threads for cell in line.cells] == [8, 4]
    assert line.cells[1] is not None and line.cells[1].reason is None


def ends(low: float | None, high: float | None, scenario: str = "single-stream") -> Cell:
    name = "throughput_ips_{}" if scenario == "offline" else "latency_p50_{}_ms"
    told = {
        "status": "ok",
        "scenario": scenario,
        name.format("low"): low,
        name.format("high"): high,
    }
    return Cell(case_row(**told))


def test_the_fastest_is_named_only_where_intervals_lie_apart():
    assert Line((ends(2, 3), ends(1, 1.5), None)).fastest == 1
    assert Line((ends(1.53, 3), ends(1, 1.5))).fastest is None  # 2 % apart: hours differ by more
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


def test_the_page_has_machines_costs_and_where_they_come_from(tmp_path):
    hostile = "<img src=x onerror=alert(1)>\u202e" + "x" * 500
    fast = made(tmp_path, "r1").done()
    slow = made(tmp_path, "r2", "b", 2.0, system={"system_name": hostile}).done()
    page = tmp_path / "page.html"
    write_report([fast], page)
    assert 'id="machines"' not in page.read_text()
    costs = sheet(**{"a" * 12: {"price": 100, "load": 10}, "b" * 12: {"price": 50, "load": 2}})
    write_report([fast, slow], page, Options(costs=costs, rate_ips=1e6))
    text = page.read_text()
    assert text.index('id="machines"') < text.index('id="cases"')
    assert "slower than machine 1 in 2 (0.500 times as fast)" in text
    assert "<img" not in text and "\u202e" not in text and "&lt;img src=x" in text
    assert text.count("a plug meter") == 2 and "written off evenly" in text
    assert "CO2, a million: the energy was not measured" in text
    data = json.loads(text.split('id="data">')[1].split("</script>")[0])["costs"]
    assert [axis["name"] for axis in data["axes"]] == ["price", "watts"]
    assert [point["price"] for point in data["points"]] == pytest.approx([100, 50] * 2, rel=1e-3)
    assert [point["watts"] for point in data["points"]] == pytest.approx([10, 2] * 2, rel=1e-3)
    write_report([fast, slow], page)
    assert "Cost and power" not in page.read_text() and "over 1" in page.read_text()
    with pytest.raises(UserError, match="there is no run on a machine 'nobody'"):
        write_report([fast, slow], page, Options(costs=sheet(nobody={"price": 1, "load": 2})))


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
