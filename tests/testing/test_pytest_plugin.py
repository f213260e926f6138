"""The pytest plugin, as a user meets it: pytest in a process of its own, on the fake backend."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tomllib
from paths import ROOT
from sessions import Pytest

pytestmark = pytest.mark.slow


def bundles(project, results: str = "results") -> list[Path]:
    return sorted(path.parent for path in (project.root / results).glob("*/manifest.json"))


def planned(bundle: Path) -> list[str]:
    """The precisions of a bundle's cases."""
    plan = json.loads((bundle / "plan.json").read_text())
    return [entry["case"]["precision"] for entry in plan["cases"]]


def suite(project, name: str = "small.qbench", **content: Any) -> Path:
    content.setdefault("roofline", False)
    path = project.suite(name, **content)
    assert path.name.endswith(".qbench.yaml")
    return path


# --------------------------------------------------------------------------- suites as tests


def test_each_case_of_a_suite_is_a_test_and_the_suite_is_run_once(project):
    path = suite(project, precisions=["fp32", "int8-static", "fp16"])
    done = Pytest(project, path.name, "-p", "timeout", "--timeout", "0.5")  # not of suites
    assert done.code == 0, done.out
    assert done.outcomes == {
        "net fake fp32": "passed",
        "net fake int8-static": "passed",
        "net fake fp16": "skipped",
        "the run": "passed",
    }
    assert "the fake backend has no half precision" in done.messages["net fake fp16"]
    (bundle,) = bundles(project)
    assert planned(bundle) == ["fp32", "int8-static", "fp16"]
    assert f"run: {bundle}" in done.out
    shown = done.properties["net fake fp32"]["qbench_figures"]
    assert "accuracy 1.00" in shown and "2 rounds" in shown
    assert f"net fake fp32: {shown}" in done.out


def test_a_failing_case_is_reported_with_reason_and_remedy(project):
    project.model(fail={"int8-static:prepare": "error"})
    done = Pytest(project, suite(project, gate={"broken_share": 0.5}).name)
    assert done.code == 1
    assert done.outcomes["net fake fp32"] == done.outcomes["the run"] == "passed"
    told = done.messages["net fake int8-static"]
    assert "failing: error: " in told and "planted failure in prepare" in told
    (bundle,) = bundles(project)
    assert f"next: `qbench gate {bundle}`" in told
    assert "qbench/testing/pytest_plugin.py" not in done.out and "Traceback" not in done.out


def test_a_case_fails_by_the_gates_limits_and_a_run_of_wreckage_says_nothing(project):
    project.model(fail={"int8-static:infer": "crash"})
    limits = ["throughput_ips>=1e15"]
    done = Pytest(project, suite(project, gate={"limits": limits}).name)
    assert "below its limit of 1e+15" in done.messages["net fake fp32"]
    assert "accuracy 1.00" in done.messages["net fake fp32"], "the figures stand beside it"
    assert "qbench accept " in done.messages["net fake fp32"]
    assert "SIGSEGV" in done.messages["net fake int8-static"]
    assert "1 of its 2 cases are broken" in done.messages["the run"]


def test_only_what_is_selected_is_measured_as_often_and_where_the_command_line_says(project):
    options = ["--qbench-results", "elsewhere", "--qbench-rounds", "1"]
    done = Pytest(project, suite(project).name, "-k", "int8", *options)
    assert done.outcomes == {"net fake int8-static": "passed"}, done.out
    assert "1 round" in done.properties["net fake int8-static"]["qbench_figures"]
    (bundle,) = bundles(project, "elsewhere")
    assert planned(bundle) == ["int8-static"]
    assert not bundles(project)
    wrong = Pytest(project, "--qbench-rounds", "0")
    assert wrong.code == pytest.ExitCode.USAGE_ERROR and "must be at least 1" in wrong.out


def test_a_case_is_measured_with_its_counterpart_in_another_environment(project):
    """Selecting the one brings the other along, since they are judged as a pair."""
    twin = {"python": sys.executable, "backends": ["fake"]}
    path = suite(
        project, environments={"twin": twin}, gate={"baselines": ["environment:twin"]}, rounds=1
    )
    done = Pytest(project, path.name, "-k", "fp32 and not twin")
    assert done.code == 0, done.out
    assert done.outcomes == {"net fake fp32": "passed"}
    (bundle,) = bundles(project)
    cases = [e["case"] for e in json.loads((bundle / "plan.json").read_text())["cases"]]
    assert sorted((c["environment"], c["precision"]) for c in cases) == [
        ("default", "fp32"),
        ("twin", "fp32"),
    ]
    verdict = json.loads((bundle.parent / f"{bundle.name}.gate.json").read_text())
    assert verdict["valid"] is True and "environment:twin" in json.dumps(verdict)


def test_where_no_case_can_run_all_are_skipped(project):
    done = Pytest(project, suite(project, precisions=["fp16"]).name)
    assert done.code == 0, done.out
    assert done.outcomes == {"net fake fp16": "skipped", "the run": "passed"}
    assert "no half precision" in done.messages["net fake fp16"]
    assert not bundles(project)


def test_a_suite_that_is_wrong_is_an_error_with_its_line(project):
    path = suite(project, backends=["fakee"])
    done = Pytest(project, path.name)
    assert done.code == pytest.ExitCode.INTERRUPTED
    line = 1 + path.read_text().splitlines().index("- fakee")
    assert f"{path.name}:{line}: unknown backend 'fakee'" in done.out
    assert "Did you mean 'fake'?" in done.out
    assert "qbench/testing/pytest_plugin.py" not in done.out


@pytest.mark.parametrize(
    ("args", "ini", "collected"),
    [
        ([], {}, False),
        (["."], {}, True),
        (["bench/small.qbench.yaml"], {}, True),
        ([], {"testpaths": "bench"}, True),
        ([], {"qbench_collect": "always"}, True),
        (["bench"], {"qbench_collect": "never"}, False),
        (["bench", "--qbench-skip"], {}, False),
        (["bench", "-m", "not qbench"], {}, False),
    ],
)
def test_which_files_are_collected(project, args: list[str], ini: dict[str, str], collected: bool):
    """A session that was given no path must not measure for minutes because of a file somewhere."""
    (project.root / "bench").mkdir()
    suite(project).rename(project.root / "bench" / "small.qbench.yaml")
    (project.root / "models").rename(project.root / "bench" / "models")
    (project.root / "net.fake").rename(project.root / "bench" / "net.fake")
    (project.root / "datasets").rename(project.root / "bench" / "datasets")
    (project.root / "blobs.npz").rename(project.root / "bench" / "blobs.npz")
    lines = [f"{name} = {value}" for name, value in ini.items()]
    project.write("pytest.ini", "\n".join(["[pytest]", *lines]))
    done = Pytest(project, "--collect-only", "-q", *args)
    assert ("net fake int8-static" in done.out) == collected, done.out
    assert done.code == (pytest.ExitCode.OK if collected else pytest.ExitCode.NO_TESTS_COLLECTED)


def test_a_run_that_goes_on_elsewhere_is_named(project):
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from qbench.machine.lock import measuring_lock\n"
            "with measuring_lock(): print(flush=True); sys.stdin.read()",
            "nightly",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout and holder.stdout.readline()
    try:
        done = Pytest(project, suite(project).name)
    finally:
        holder.communicate()
    assert set(done.outcomes.values()) == {"failure"}
    told = done.messages["net fake fp32"]
    assert f"process {holder.pid}" in told and "nightly" in told and "Wait for it to end" in told
    assert "qbench/testing/pytest_plugin.py" not in done.out


def test_xdist_has_to_leave_a_suite_to_one_worker_and_the_workers_measure_in_turn(project):
    path = suite(project, rounds=1)
    spread = Pytest(project, path.name, "-p", "xdist", "-n", "2")
    assert set(spread.outcomes.values()) == {"failure"}
    assert "--dist loadfile" in spread.messages["net fake fp32"]
    assert not bundles(project)
    project.write("test_nets.py", MARKED)
    how = ["-p", "xdist", "-n", "2", "--dist", "loadfile"]
    grouped = Pytest(project, path.name, "test_nets.py", *how)
    assert grouped.code == 0, grouped.out
    assert len(grouped.outcomes) == 4
    assert len(bundles(project)) == 2
    assert all(f"run: {bundle}" in grouped.out for bundle in bundles(project))


SLOWABLE = """
import os
from qbench.testing.fake import FakeBackend
class Backend(FakeBackend):
    name = "slowable"
    def open(self, artifact, config, inspect=False):
        program = super().open(artifact, config, inspect)
        program.content["infer_us"] = int(os.environ["INFER_US"])
        return program
"""


def test_a_case_that_becomes_slower_fails_once_new_trials_show_it_too(project):
    """Against the last run in the results folder; what slows it down is planted."""
    project.adapter("slowable", SLOWABLE)
    path = suite(
        project,
        backends=["slowable"],
        precisions=["fp32"],
        rounds=6,
        gate={"baselines": ["last"], "confirm_rounds": 9},
    )
    case = "net slowable fp32"
    faster = Pytest(project, path.name, INFER_US="1000")
    assert faster.outcomes.get(case) == "passed", faster.out
    slower = Pytest(project, path.name, INFER_US="2000")
    assert slower.outcomes[case] == "failure", slower.out
    first, second, confirming = bundles(project)
    told = slower.messages[case]
    assert "slower" in told and first.name in told
    assert f"qbench gate {second}" in told
    begin = json.loads((confirming / "begin.json").read_text())
    assert begin["confirms"] == second.name


# --------------------------------------------------------------------------- marker and fixture

MARKED = """
import pytest
@pytest.mark.qbench("net", backend="fake", rounds=1)
def test_good(): ...
"""
TESTS = """
import unittest
import pytest

BODIES = []

@pytest.mark.qbench("net", backend="fake", precision="int8-static", rounds=1)
def test_good():
    BODIES.append("good")

@pytest.mark.qbench("net.fake", backend="fake", rounds=1, gate={"limits": [
    "artifact_size_mb<=0.0001"]})
def test_too_large():
    BODIES.append("too large")

@pytest.mark.qbench("net", backend="fake", precision="fp16")
def test_not_here():
    BODIES.append("not here")

@pytest.mark.qbench("nett", backend="fake")
class TestCase(unittest.TestCase):
    def test_misspelt(self):
        BODIES.append("misspelt")

@pytest.mark.qbench("net")
def test_without_backend(): ...

@pytest.mark.qbench("net", backend="fake", gate={"slow_down": 1})
def test_wrong_setting(): ...

def test_bodies():
    assert BODIES == ["good"]
"""


def test_the_marker_measures_before_the_test_and_fails_by_the_gates_rules(project):
    project.write("test_nets.py", TESTS)
    done = Pytest(project, "test_nets.py", "--strict-markers", "-m", "qbench or not qbench")
    assert done.outcomes == {
        "test_good": "passed",
        "test_too_large": "failure",
        "test_not_here": "skipped",
        "test_misspelt": "failure",
        "test_without_backend": "failure",
        "test_wrong_setting": "failure",
        "test_bodies": "passed",
    }, done.out
    assert "above its limit of 0.0001" in done.messages["test_too_large"]
    assert "Did you mean 'net'?" in done.messages["test_misspelt"]
    assert "missing a required argument: 'backend'" in done.messages["test_without_backend"]
    assert "Did you mean 'slowdown'?" in done.messages["test_wrong_setting"]
    assert "qbench/testing/pytest_plugin.py" not in done.out
    names = {json.loads((b / "begin.json").read_text())["suite"] for b in bundles(project)}
    assert len(names) == 2, "runs of two tests are never each other's last"


ONE_OFF = """
from pathlib import Path
import pytest

def test_figures(qbench_case, tmp_path):
    found = qbench_case("net", backend="fake", precision="int8-static", rounds=2)
    assert found.accuracy > 0.9 and found.rounds == 2
    assert 0.02 <= found.latency_p50_ms < 50
    assert found.row["latency_p50_ms"] == found.latency_p50_ms
    assert found.latency_p50_low_ms is None
    assert found.bundle.is_relative_to(tmp_path) and (found.bundle / "manifest.json").is_file()
    with pytest.raises(AttributeError, match="Did you mean 'latency_p50_ms'"):
        found.latency_p50

def test_a_file(qbench_case):
    found = qbench_case(Path("net.fake"), backend="fake", rounds=1)
    assert found.accuracy is None and found.model == "net"

def test_not_here(qbench_case):
    qbench_case("net", backend="fake", precision="fp16")

def test_broken(qbench_case):
    qbench_case("broken.fake", backend="fake", rounds=1)

def test_misspelt(qbench_case):
    qbench_case("net", backend="fake", precision="int8")
"""


def test_the_fixture_gives_the_figures_of_one_case(project):
    project.write("test_one.py", ONE_OFF)
    project.model("broken", fail={"infer": "error"})
    done = Pytest(project, "test_one.py")
    assert done.outcomes == {
        "test_figures": "passed",
        "test_a_file": "passed",
        "test_not_here": "skipped",
        "test_broken": "failure",
        "test_misspelt": "failure",
    }, done.out
    assert "planted failure in infer" in done.messages["test_broken"]
    assert "there is no precision 'int8'" in done.messages["test_misspelt"]
    assert not bundles(project), "they lie in tmp_path"
    none = Pytest(project, "test_one.py", "--qbench-skip")
    assert set(none.outcomes.values()) == {"skipped"}


# --------------------------------------------------------------------------- cost


def test_the_plugin_is_registered():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"qbench": "qbench.testing.pytest_plugin"}


def test_a_session_that_measures_nothing_imports_nothing_for_it():
    """Whoever has qbench installed loads the plugin with every session of pytest."""
    code = (
        "import sys, pytest; before = set(sys.modules); import qbench.testing.pytest_plugin;"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["qbench", "qbench.testing", "qbench.testing.pytest_plugin"]
