"""docs/recipes: every recipe is read by what its host would read it with, and its commands are run
as far as a machine without that host can."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from paths import ROOT

from qbench.spec.suite import Suite
from qbench.spec.yamlfile import load

pytestmark = pytest.mark.slow

RECIPES = ROOT / "docs" / "recipes"
GITHUB, GITLAB = "github-actions.yml", "gitlab-ci.yml"
INSTALLS = re.compile(r"-m venv|bin/pip|GITHUB_PATH|export PATH")


def recipe(name: str) -> dict[str, Any]:
    return yaml.safe_load((RECIPES / name).read_text())


def github_steps() -> list[str]:
    (job,) = recipe(GITHUB)["jobs"].values()
    return [step["run"] for step in job["steps"] if "run" in step]


def gitlab_lines() -> list[str]:
    job = recipe(GITLAB)["nightly"]
    return [line for part in ("before_script", "script", "after_script") for line in job[part]]


def cron_command() -> str:
    (line,) = re.findall(r"^\d.*$", (RECIPES / "crontab").read_text(), re.M)
    return line.split(None, 5)[5]


# --------------------------------------------------------------------------- what they say


def test_the_suite_loads_and_holds_today_against_a_pinned_version():
    suite, _ = load(RECIPES / "nightly.yaml", Suite)
    (baseline,) = suite.gate.baselines
    assert baseline.environment == "ort-previous"
    assert suite.environments["ort-previous"].requirements == ["onnxruntime==1.30.*"]
    assert suite.gate.slowdown == 0.02


@pytest.mark.parametrize(
    ("name", "schema"), [(GITHUB, "vendor.github-workflows"), (GITLAB, "vendor.gitlab-ci")]
)
def test_a_workflow_is_what_its_host_takes(name: str, schema: str):
    if importlib.util.find_spec("check_jsonschema") is None:
        pytest.skip("needs check-jsonschema, which ships the hosts' schemas")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema]
    done = subprocess.run([*command, RECIPES / name], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_bundle_is_kept_whatever_the_verdict():
    (job,) = recipe(GITHUB)["jobs"].values()
    (kept,) = [s for s in job["steps"] if s.get("uses", "").startswith("actions/upload-artifact")]
    assert kept["if"] == "always()" and kept["with"]["path"] == "out/"
    kept = recipe(GITLAB)["nightly"]["artifacts"]
    assert kept["when"] == "always" and kept["paths"] == ["out/"]
    assert kept["reports"]["junit"] == "out/gate.xml"


def test_two_nights_never_run_at_once():
    assert recipe(GITHUB)["concurrency"] == {"group": "qbench", "cancel-in-progress": False}
    assert recipe(GITLAB)["nightly"]["resource_group"] == "qbench"


def test_every_command_is_one_that_a_shell_takes():
    for text in [*github_steps(), "\n".join(gitlab_lines()), cron_command()]:
        plain = re.sub(r"\$\{\{.*?\}\}", "x", text)
        done = subprocess.run(["bash", "-n"], input=plain, capture_output=True, text=True)
        assert done.returncode == 0, (text, done.stderr)
    assert "%" not in cron_command(), "cron ends a command there"


def test_all_recipes_run_the_one_script():
    unit = (RECIPES / "qbench-nightly.service").read_text()
    for text in ["\n".join(github_steps()), "\n".join(gitlab_lines()), cron_command(), unit]:
        assert "nightly.sh nightly.yaml" in text


def test_systemd_takes_the_units(tmp_path: Path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here")
    for name in ("qbench-nightly.service", "qbench-nightly.timer"):
        text = (RECIPES / name).read_text()
        script = RECIPES / "nightly.sh"
        (tmp_path / name).write_text(text.replace("/srv/nightly/nightly.sh", str(script)))
    units = [tmp_path / "qbench-nightly.service", tmp_path / "qbench-nightly.timer"]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr.strip(), done.stderr
    (when,) = re.findall(r"^OnCalendar=(.*)$", units[1].read_text(), re.M)
    done = subprocess.run(["systemd-analyze", "calendar", when], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --------------------------------------------------------------------------- what they do


@pytest.fixture
def night(project, tmp_path: Path) -> dict[str, str]:
    """The project's folder as a repository of the walkthrough, with a suite of the fake backend in
    place of the real one; returns the environment of its commands."""
    shutil.copy(RECIPES / "nightly.sh", project.root)
    figures = ("slowdown", "unpaired_slowdown", "stalls", "memory_growth", "start_growth")
    gate = {"broken_share": 1.0, **dict.fromkeys(figures)}  # what fails is for test_gate_*.py
    project.model("other")
    content = {"models": ["net", "other"], "precisions": ["fp32"], "roofline": False}
    project.suite("nightly", rounds=2, gate=gate, **content)
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    for name, command in (("qbench", f'"{sys.executable}" -m qbench.cli'), ("python3", None)):
        path = bin_folder / name
        path.write_text(f'#!/bin/sh\nexec {command or sys.executable} "$@"\n')
        path.chmod(0o755)
    return {**project.env, "PATH": f"{bin_folder}:{os.environ['PATH']}"}


def shell(text: str, project, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-eo", "pipefail", "-c", text],
        cwd=project.root,
        env=env,
        capture_output=True,
        text=True,
        timeout=180,
    )


def test_nights_pass_until_a_case_fails_and_what_people_read_is_there(project, night):
    done = shell("bash nightly.sh nightly.yaml", project, night)
    assert done.returncode == 0, done.stderr
    out = project.root / "out"
    names = {"run.json", "gate.xml", "gate.md", "report.html", "history.html", "bundle.tar.gz"}
    assert {path.name for path in out.iterdir()} == names
    assert ElementTree.parse(out / "gate.xml").getroot().tag in ("testsuites", "testsuite")
    first = json.loads((out / "run.json").read_text())["bundle"]
    project.model("other", fail={"infer": "error"})  # ok last time, and failed today
    done = shell("bash nightly.sh nightly.yaml", project, night)
    assert done.returncode == 1, done.stdout + done.stderr
    assert json.loads((out / "run.json").read_text())["bundle"] != first
    text = (out / "gate.md").read_text()
    assert "newly" in text and "other fake fp32" in text


def test_a_night_that_cannot_be_measured_ends_with_its_own_code(project, night):
    done = shell("bash nightly.sh missing.yaml", project, night)
    assert done.returncode == 2 and "missing" in done.stderr


def test_the_steps_of_github(project, night, tmp_path: Path):
    summary = tmp_path / "summary.md"
    summary.write_text("a step before\n")
    env = {**night, "GITHUB_STEP_SUMMARY": str(summary), "QBENCH_RESULTS": str(tmp_path / "kept")}
    steps = [step for step in github_steps() if not INSTALLS.search(step)]
    assert len(steps) == 2
    for step in steps:
        done = shell(step, project, env)
        assert done.returncode == 0, done.stderr
    assert (
        summary.read_text().startswith("a step before\n") and "qbench gate" in summary.read_text()
    )
    assert list((tmp_path / "kept").glob("*/manifest.json"))


def verdict(project, code: int) -> None:
    """A night in no time, for what recipes do around it."""
    script = project.root / "nightly.sh"
    script.write_text(
        "#!/usr/bin/env bash\nmkdir -p out\n"
        f"echo 'the verdict is {code}' > out/gate.md\necho 'the log'\nexit {code}\n"
    )
    script.chmod(0o755)


@pytest.mark.parametrize("code", [0, 1, 3])
def test_the_script_of_gitlab_shows_the_verdict_and_fails_as_it_does(project, night, code: int):
    verdict(project, code)
    job = recipe(GITLAB)["nightly"]
    done = shell("\n".join(job["script"]), project, night)
    assert done.returncode == code
    done = shell("\n".join(job["after_script"]), project, night)
    assert done.returncode == 0 and f"the verdict is {code}" in done.stdout


@pytest.mark.parametrize("code", [0, 1])
def test_cron_mails_what_a_failed_night_says_and_nothing_else(project, night, code: int):
    verdict(project, code)
    done = shell(cron_command().replace("/srv/nightly", str(project.root)), project, night)
    told = "the log\nthe verdict is 1\n"
    assert (done.returncode, done.stdout) == (0, told if code else "")
