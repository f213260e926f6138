"""Which runs, cases and energies may be compared, and on which fields they differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from crafted import Crafted
from rows import case_row

from qbench.analysis.compare.comparable import (
    Comparability,
    NotComparable,
    comparable_energy,
    compare_bundles,
    energy_groups,
    energy_ratio,
    same_artifact,
    same_work,
)
from qbench.bundle.bundle import Bundle
from qbench.machine.host import fingerprint
from qbench.spec.columns import CaseRow

HOST = {
    **fingerprint(),
    "host_id": "aaaaaaaaaaaa",
    "hostname": "one",
    "cpu_model": "a processor",
    "cpu_flags": ["avx2"],
    "governor": "performance",
    "kernel": "6.1",
    "packages": {"numpy": "2.0", "onnxruntime": "1.22"},
    "packages_digest": "1",
    "environment_variables": {},
    "cgroup": {"cpu_quota": None},
    "gpus": [{"name": "a GPU", "driver": "570"}],
}


def bundle(folder: Path, **begin: Any) -> Bundle:
    crafted = Crafted(folder, **({"run_id": begin.pop("run_id")} if "run_id" in begin else {}))
    crafted.begin = {"host": HOST, **begin}
    return crafted.open()


def compared(tmp_path: Path, **other: Any) -> Comparability:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    return compare_bundles(bundle(tmp_path / "a"), bundle(tmp_path / "b", **other))


def test_the_same(tmp_path: Path):
    found = compared(tmp_path, host={**HOST, "hostname": "renamed"})
    assert found == Comparability("same machine and software", ())
    assert found.reasons_against("regression") == found.reasons_against("choice") == []


def test_a_new_package_is_what_a_regression_asks_about(tmp_path: Path):
    packages = {"numpy": "2.0", "onnxruntime": "1.23", "onnx": "1.18"}
    found = compared(tmp_path, host={**HOST, "packages": packages, "packages_digest": "2"})
    assert found.level == "same machine"
    assert [str(difference) for difference in found.differences] == [
        "host.packages.onnxruntime: 1.22 against 1.23",
        "host.packages.onnx: not known against 1.18",
    ]
    assert found.reasons_against("regression") == []


@pytest.mark.parametrize(
    ("change", "reason", "level"),
    [
        (
            {"governor": "powersave"},
            "host.governor: performance against powersave",
            "same machine and software",
        ),
        (
            {"cgroup": {"cpu_quota": 2.0}},
            "host.cgroup.cpu_quota: not known against 2.0",
            "same machine and software",
        ),
        ({"kernel": "6.2"}, "host.kernel: 6.1 against 6.2", "same machine"),
        (
            {"environment_variables": {"OMP_NUM_THREADS": "1"}},
            "host.environment_variables.OMP_NUM_THREADS: not known against 1",
            "same machine",
        ),
        (
            {"gpus": [{"name": "a GPU", "driver": "580"}]},
            "host.gpus.0.driver: 570 against 580",
            "same machine",
        ),
    ],
)
def test_a_machine_set_up_otherwise_bears_no_regression(
    tmp_path: Path, change: dict[str, Any], reason: str, level: str
):
    found = compared(tmp_path, host={**HOST, **change})
    assert found.level == level
    assert found.reasons_against("regression") == [reason]
    assert found.reasons_against("choice") == []


def test_environments_are_software_and_how_a_run_is_judged_is_no_difference(tmp_path: Path):
    made = {"requirements": [], "resolved": {"onnxruntime": "1.30.1"}, "python": "3", "digest": "d"}
    found = compared(
        tmp_path,
        environments={"previous": made},
        settings={"cpu_power": None, "rounds": 10, "gate": {"slowdown": 0.02}},
    )
    assert [str(difference) for difference in found.differences] == [
        "backends.environments.previous.onnxruntime: not known against 1.30.1"
    ]
    assert found.level == "same machine" and found.reasons_against("regression") == []


def test_two_machines_bear_a_choice_and_no_regression(tmp_path: Path):
    other = {**HOST, "host_id": "bbbbbbbbbbbb", "cpu_model": "another"}
    found = compared(tmp_path, host=other, system={"cooling": "passive"})
    assert found.level == "different machine"
    assert found.reasons_against("regression") == [
        "they were measured on different machines",
        "host.cpu_model: a processor against another",
        "system.cooling: not known against passive",
    ]
    assert found.reasons_against("choice") == []


def test_another_qbench_measures_otherwise(tmp_path: Path):
    found = compared(tmp_path, software={"qbench": "2"})
    assert found.level == "same machine"
    for claim in ("regression", "choice"):
        assert found.reasons_against(claim) == ["software.qbench: 0 against 2"]


@pytest.mark.parametrize(
    ("change", "reason", "claims"),
    [
        ({"timed_s": 60.0}, "settings.timed_s: 1.0 against 60.0", {"choice", "regression"}),
        ({"warmup_s": 0.0}, "settings.warmup_s: 1.0 against 0.0", {"choice", "regression"}),
        ({"rounds": 30}, "settings.rounds: 10 against 30", {"regression"}),
    ],
)
def test_other_ways_of_measuring_bear_no_choice(
    tmp_path: Path, change: dict[str, Any], reason: str, claims: set[str]
):
    """More rounds give a narrower interval of the same figure."""
    ours = {"rounds": 10, "warmup_s": 1.0, "timed_s": 1.0}
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    found = compare_bundles(
        bundle(tmp_path / "a", settings=ours), bundle(tmp_path / "b", settings=ours | change)
    )
    assert found.reasons_against("choice") == [reason] * ("choice" in claims)
    assert found.reasons_against("regression") == [reason] * ("regression" in claims)


# --------------------------------------------------------------------------- cases


def row(**changes: Any) -> CaseRow:
    return case_row(
        **{
            "case_id": "c1",
            "host_id": "aaaaaaaaaaaa",
            "model": "net",
            "source_format": "onnx",
            "model_digest": "m",
            "dataset_digest": "d",
            "artifact_digest": "f",
            "accuracy_metric": "top1",
            "accuracy_items": 100,
            "scenario": "single-stream",
            "scenario_options": None,
            "batch_size": 1,
            "backend": "onnxruntime",
            "environment": "default",
            "precision": "fp32",
            "variant": None,
            "recipe": "best",
            "device": "cpu",
            "threads": 1,
            "streams": 1,
            "energy_mj_per_inference": 2.0,
            "energy_gross_mj_per_inference": 5.0,
            "energy_method": "rapl package-0",
            "energy_scope": "cpu package",
            "energy_is_measured": True,
            "idle_w": 5.0,
            **changes,
        }
    )


@pytest.mark.parametrize(
    ("changes", "work", "artifact"),
    [
        ({}, [], []),
        ({"host_id": "b"}, [], []),
        ({"batch_size": 8, "case_id": "c2"}, ["batch_size"], ["batch_size"]),
        ({"dataset_digest": "e"}, ["dataset_digest"], ["dataset_digest"]),
        ({"model_digest": "n"}, ["model_digest"], ["model_digest"]),
        ({"accuracy_metric": "mAP"}, ["accuracy_metric"], ["accuracy_metric"]),
        (
            {"scenario": "paced", "scenario_options": "rate_hz=60"},
            ["scenario", "scenario_options"],
            ["scenario", "scenario_options"],
        ),
        (
            {"backend": "tflite", "source_format": "tflite", "model_digest": "n", "case_id": "c2"},
            [],
            ["backend"],
        ),
        (
            {"precision": "int8-static", "artifact_digest": "g", "case_id": "c2"},
            [],
            ["precision", "artifact_digest"],
        ),
        ({"artifact_digest": "g"}, [], ["artifact_digest"]),
        ({"threads": 2, "case_id": "c2"}, [], ["threads"]),
        ({"case_id": "c2"}, [], ["case_id"]),
    ],
)
def test_two_cases_differ_in(changes: dict[str, Any], work: list[str], artifact: list[str]):
    assert same_work(row(), row(**changes)) == work
    assert same_artifact(row(), row(**changes)) == artifact


def test_a_digest_that_is_missing_is_no_proof():
    nothing = {"model_digest": None, "dataset_digest": None, "artifact_digest": None}
    both = row(**nothing), row(**nothing)
    assert same_work(*both) == ["dataset_digest", "model_digest"]
    assert same_artifact(*both) == ["dataset_digest", "model_digest", "artifact_digest"]


# --------------------------------------------------------------------------- energy

PROXY = {
    "energy_method": "proxy: cpu time x 3 W per core (a data sheet)",
    "energy_scope": "process",
    "energy_is_measured": False,
    "idle_w": None,
}
WALL = {"energy_method": "wall meter (log)", "energy_scope": "wall"}


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ({}, {}),
        (PROXY, PROXY),
        (WALL, {**WALL, "host_id": "b"}),
        (WALL, {**WALL, "host_id": "b", "energy_method": "wall meter (command)"}),
    ],
)
def test_energies_that_may_be_compared(a: dict[str, Any], b: dict[str, Any]):
    pair = row(**a), row(**{**b, "energy_mj_per_inference": 3.0})
    assert comparable_energy(*pair) is None
    assert energy_ratio(*pair) == 1.5


@pytest.mark.parametrize(
    ("a", "b", "reason"),
    [
        ({}, {"energy_mj_per_inference": None}, "no energy of case c1"),
        ({}, PROXY, "the other is a proxy"),
        ({}, {"energy_method": "rapl psys"}, "different methods: rapl package-0 against rapl psys"),
        (PROXY, {**PROXY, "energy_method": "proxy: operations and bytes"}, "different methods"),
        ({}, {"energy_scope": "platform"}, "different parts of the machine"),
        ({}, WALL, "different parts of the machine"),
        ({}, {"idle_w": None}, "idle power"),
        (WALL, {**WALL, "host_id": "b", "idle_w": None}, "idle power"),
        ({}, {"host_id": "b"}, "covers other parts on another machine"),
        (PROXY, {**PROXY, "host_id": "b"}, "a proxy holds on one machine only"),
        (
            {**PROXY, "energy_scope": "wall"},
            {**PROXY, "energy_scope": "wall", "host_id": "b"},
            "a proxy holds on one machine only",
        ),
        ({"energy_method": None}, {"energy_method": None}, "different methods: not known"),
    ],
)
def test_energies_that_must_not_be(a: dict[str, Any], b: dict[str, Any], reason: str):
    for pair in ((row(**a), row(**b)), (row(**b), row(**a))):
        with pytest.raises(NotComparable):
            energy_ratio(*pair)
    told = comparable_energy(row(**a), row(**b))
    assert told is not None and reason in told


def test_an_energy_with_the_idle_share_is_listed_next_to_the_others():
    """It is shown with them, though nothing can be divided by it."""
    only_gross = row(case_id="c2", energy_mj_per_inference=None)
    none = row(case_id="c3", energy_mj_per_inference=None, energy_gross_mj_per_inference=None)
    other = row(case_id="c4", energy_scope="board")
    assert energy_groups([row(), only_gross, none, other]) == [[row(), only_gross], [other]]
    with pytest.raises(NotComparable, match="no energy of case c2"):
        energy_ratio(row(), only_gross)
