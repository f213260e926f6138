"""Which trial comes next: rounds, adaptive stop, budgets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qbench.bundle.records.run import Trial
from qbench.run.plan import Plan, Planned
from qbench.run.schedule import Schedule
from qbench.spec.case import Case
from qbench.spec.suite import Suite

FP32 = Case(model="net", backend="fake", precision="fp32")
INT8 = Case(model="net", backend="fake", precision="int8-static")
OTHER = Case(model="other", backend="fake", precision="fp32")


def plan(*cases: Case, **suite: Any) -> Plan:
    content = {
        "name": "s",
        "models": ["net"],
        "precisions": ["fp32"],
        "backends": ["fake"],
        **suite,
    }
    return Plan(Suite.model_validate(content), tuple(map(Planned, cases)), cards={})


class Machine:
    """Makes the trials that a schedule asks for: lognormal p10s of a given spread."""

    def __init__(self, schedule: Schedule, spread: dict[str, float], seconds: float = 1.0) -> None:
        self.schedule, self.spread, self.seconds = schedule, spread, seconds
        self.rng = np.random.default_rng(3)
        self.made: list[tuple[int, str]] = []
        self.noisy: set[str] = set()
        self.broken: set[str] = set()

    def run(self, most: int = 10_000) -> dict[str, int]:
        """Go on until nothing is left; how many trials each case got."""
        while (following := self.schedule.next()) is not None:
            number, planned = following
            assert len(self.made) < most
            self.make(number, planned.case)
        counts = dict.fromkeys(self.spread, 0)
        for _, case_id in self.made:
            counts[case_id] += 1
        return counts

    def make(self, number: int, case: Case) -> None:
        self.made.append((number, case.case_id))
        clean = 0.1 if case.case_id in self.noisy else 1.0
        record = {
            "trial": f"r{number:03d}-{case.case_id}",
            "reason": "",
            "case_id": case.case_id,
            "round": number,
            "sitting": 1,
            "seconds": self.seconds,
            "status": "error" if case.case_id in self.broken else "ok",
            "calls": 100,
            "items": 100,
            "figures": {},
            "wall_ns": 100_000_000,
            "window": [0, 100_000_000],
            "cpu_ns": 100_000_000,
            "warmup": {"stable": True},
            "conditions": {},
            "loop": {"clean_share": clean, "head_over_rest": 1.0, "worst_work": 1.0},
        }
        factor = np.exp(self.rng.normal(0, self.spread[case.case_id]))
        samples = np.full(100, int(1e6 * factor))
        trial = Trial.model_validate(record)
        self.schedule.add(trial, None if trial.status == "error" else samples)


def test_a_number_of_rounds_is_that_number_for_all():
    made = plan(FP32, INT8, rounds=4)
    machine = Machine(Schedule(made, made.cases, 0), {FP32.case_id: 0.5, INT8.case_id: 0.0})
    assert machine.run() == {FP32.case_id: 4, INT8.case_id: 4}
    assert [number for number, _ in machine.made] == [0, 0, 1, 1, 2, 2, 3, 3]


def test_the_order_of_a_round_is_random_and_the_same_for_the_same_seed():
    many = [FP32.model_copy(update={"model": f"net{i}"}) for i in range(12)]
    made = plan(*many, rounds=3)

    def order(seed: int) -> list[tuple[int, str]]:
        machine = Machine(Schedule(made, made.cases, seed), {c.case_id: 0.0 for c in many})
        machine.run()
        return machine.made

    assert order(1) == order(1)
    assert order(1) != order(2)
    first, second = order(1)[:12], order(1)[12:24]
    assert [i for _, i in first] != [i for _, i in second]


def test_a_steady_case_stops_at_the_minimum_and_an_unsteady_one_continues():
    made = plan(FP32, OTHER, rounds={"least": 6, "most": 40, "target": 0.01})
    machine = Machine(Schedule(made, made.cases, 0), {FP32.case_id: 0.001, OTHER.case_id: 0.02})
    counts = machine.run()
    assert counts[FP32.case_id] == 6
    assert 6 < counts[OTHER.case_id] < 40  # 2 % between trials: about (2 x 2 / 1)^2 rounds
    assert machine.schedule.half_width(OTHER.case_id) <= 0.01


def test_an_unsettled_case_ends_at_the_maximum_of_rounds():
    made = plan(FP32, rounds={"least": 6, "most": 9, "target": 0.01})
    machine = Machine(Schedule(made, made.cases, 0), {FP32.case_id: 0.5})
    assert machine.run() == {FP32.case_id: 9}
    assert machine.schedule.half_width(FP32.case_id) > 0.01


def test_float32_goes_on_as_long_as_what_is_compared_with_it():
    made = plan(FP32, INT8, rounds={"least": 6, "most": 12, "target": 0.01})
    machine = Machine(Schedule(made, made.cases, 0), {FP32.case_id: 0.001, INT8.case_id: 0.3})
    assert machine.run() == {FP32.case_id: 12, INT8.case_id: 12}


def test_the_default_environment_goes_on_as_long_as_what_is_compared_with_it():
    older = INT8.model_copy(update={"environment": "older"})
    cases = (FP32, INT8, older)
    made = plan(*cases, rounds={"least": 6, "most": 12, "target": 0.01})
    spread = {FP32.case_id: 0.001, INT8.case_id: 0.001, older.case_id: 0.3}
    machine = Machine(Schedule(made, made.cases, 0), spread)
    # the older version is compared with the default one, and that with its own float32
    assert machine.run() == {FP32.case_id: 12, INT8.case_id: 12, older.case_id: 12}


def test_rests_are_part_of_what_a_budget_buys():
    made = plan(
        FP32,
        rounds={"least": 6, "most": 40, "target": 0.01},
        budget={"case_minutes": 0.25},
        cool_down_s=0.5,
    )
    machine = Machine(Schedule(made, made.cases, 0), {FP32.case_id: 0.5}, seconds=1.0)
    assert machine.run() == {FP32.case_id: 10}  # of 1.5 s each


@pytest.mark.parametrize(
    ("budget", "expected"),
    [({"case_minutes": 0.15}, 9), ({"run_minutes": 0.2}, 12), ({"case_minutes": 0.01}, 6)],
)
def test_a_budget_ends_what_is_not_settled_but_not_the_least_rounds(budget, expected):
    made = plan(FP32, rounds={"least": 6, "most": 40, "target": 0.01}, budget=budget)
    machine = Machine(Schedule(made, made.cases, 0), {FP32.case_id: 0.5}, seconds=1.0)
    assert machine.run() == {FP32.case_id: expected}


def test_a_disturbed_case_gets_extra_rounds_and_comes_first_in_them():
    many = [OTHER.model_copy(update={"model": f"net{i}"}) for i in range(8)]
    made = plan(*many, rounds={"least": 6, "most": 8, "target": 0.01})
    machine = Machine(Schedule(made, made.cases, 0), {c.case_id: 0.3 for c in many})
    machine.noisy = {many[5].case_id}
    machine.run()
    for number in (6, 7):
        assert next(i for n, i in machine.made if n == number) == many[5].case_id
    steady = Machine(Schedule(made, made.cases, 0), {c.case_id: 0.0001 for c in many})
    steady.noisy = {many[5].case_id}
    counts = steady.run()
    assert counts[many[5].case_id] == 8
    assert counts[many[4].case_id] == 6


def test_a_case_that_failed_is_not_run_again():
    made = plan(FP32, INT8, rounds=4)
    machine = Machine(Schedule(made, made.cases, 0), {FP32.case_id: 0.1, INT8.case_id: 0.1})
    machine.broken = {INT8.case_id}
    assert machine.run() == {FP32.case_id: 4, INT8.case_id: 1}


def test_trials_of_an_earlier_sitting_are_not_made_again():
    made = plan(FP32, INT8, rounds=3)
    first = Machine(Schedule(made, made.cases, 0), {FP32.case_id: 0.1, INT8.case_id: 0.1})
    first.run()
    second = Machine(Schedule(made, made.cases, 0), first.spread)
    by_id = {c.case_id: c for c in (FP32, INT8)}
    for number, case_id in first.made[:3]:
        second.make(number, by_id[case_id])
    assert second.schedule.left()[0] == 3
    second.run()
    assert second.made == first.made


def test_a_scenario_may_have_fewer_rounds():
    paced = FP32.model_copy(
        update={"scenario": "paced", "scenario_options": {"rounds": 2, "rate_hz": 30.0}}
    )
    made = plan(FP32, paced, rounds=5)
    machine = Machine(Schedule(made, made.cases, 0), {FP32.case_id: 0.1, paced.case_id: 0.1})
    assert machine.run() == {FP32.case_id: 5, paced.case_id: 2}


# --------------------------------------------------------------------------- through a run


@pytest.mark.slow
def test_a_run_measures_until_its_cases_are_known_well_enough(project):
    project.run_json(project.suite(rounds={"least": 6, "most": 9, "target": 0.9}))
    for row in project.cases():
        assert 6 <= row["rounds"] <= 9
        assert row["inconclusive"] is False and 0 < row["half_width"] <= 0.9


@pytest.mark.slow
def test_a_run_says_which_cases_it_could_not_settle(project):
    suite = project.suite(rounds={"least": 6, "most": 7, "target": 0.000001})
    done = project.qbench("run", suite, "--no-report")
    assert done.returncode == 0, done.stderr
    assert "2 of 2 cases are inconclusive" in done.stdout
    for row in project.cases():
        assert row["rounds"] == 7
        assert row["inconclusive"] is True and row["half_width"] > 0.000001


def test_a_number_of_rounds_is_neither_conclusive_nor_not(project):
    project.run_json(project.suite())
    assert {row["inconclusive"] for row in project.cases()} == {None}
