"""``qbench gate`` and ``qbench accept`` as commands: a planted regression is caught, confirmed by a
run of its own and accepted; exit codes; files for CI; refusals."""

from __future__ import annotations

import json
import shutil
import sys
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from crafted import Crafted

from qbench.bundle.find import earlier_runs, find_run
from qbench.bundle.verdict import is_valid, verdict_path
from qbench.errors import UserError
from qbench.spec.accepted import read_accepted
from qbench.spec.suite import Suite
from qbench.spec.yamlfile import load

LAGGING = """
import os
from qbench.testing.fake import FakeBackend

class Backend(FakeBackend):
    name = "lagging"

    def open(self, artifact, config, inspect=False):
        program = super().open(artifact, config, inspect)
        slow = artifact.target.precision == "fp32" and "OLD_VERSION" not in os.environ
        program.content["infer_us"] = 400 if slow else 300
        return program
"""
TOMORROW = (date.today() + timedelta(days=1)).isoformat()


def lagging(project, **content: Any) -> Path:
    """A suite of a backend whose newer version has become slower by a third at fp32."""
    project.adapter("lagging", LAGGING)
    older = {
        "python": sys.executable,
        "backends": ["lagging", "fake"],  # fake, since it brings what lagging is made of
        "variables": {"OLD_VERSION": "1"},
    }
    gate = {"confirm_rounds": 9, "slowdown": 0.1}  # machines that run tests are busy
    gate |= {"start_growth": None, "memory_growth": None, "stalls": None}
    return project.suite(
        backends=["lagging", "fake"],
        exclude=[{"backend": "fake"}],
        environments={"baseline": older},
        rounds=9,
        roofline=False,
        gate=gate,
        **content,
    )


def gate_json(project, *args: str | Path) -> tuple[int, dict[str, Any]]:
    done = project.qbench("gate", *args, "--json")
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.slow
def test_a_planted_regression_is_caught_confirmed_and_accepted(project):
    suite = lagging(project)
    answer = project.run_json(suite)
    bundle = project.root / answer["bundle"]

    code, first = gate_json(project, "latest")
    (suspicion,) = [f for f in first["findings"] if f["severity"] != "notice"]
    assert (code, suspicion["kind"], suspicion["severity"]) == (0, "slower", "suspicion")
    assert suspicion["label"] == "net lagging fp32" and suspicion["against"].endswith("baseline")
    assert suspicion["figure"]["value"] == pytest.approx(1 / 3, abs=0.1)

    # what the suite says of the gate may change between a run and its confirmation
    suite.write_text(suite.read_text().replace("slowdown: 0.1", "slowdown: 0.12"))
    code, told = gate_json(project, "latest", "--confirm", "--junit", "gate.xml")
    (found,) = [f for f in told["findings"] if f["severity"] == "regression"]
    assert code == 1 and found["confirmed"] and found["case_id"] == suspicion["case_id"]
    again = project.root / "results" / told["confirmed_by"]
    begin = json.loads((again / "begin.json").read_text())
    assert begin["confirms"] == bundle.name and begin["settings"]["rounds"] == 9
    cases = json.loads((again / "plan.json").read_text())["cases"]
    assert {c["case"]["environment"] for c in cases} == {"default", "baseline"}
    assert {c["case"]["precision"] for c in cases} == {"fp32"}
    tests = ElementTree.parse(project.root / "gate.xml").getroot().iter("testcase")
    assert [t.get("name") for t in tests if t.find("failure") is not None] == [
        f"net lagging fp32 [{found['case_id']}]"
    ]

    # the verdict stands beside the bundle, which is as it was
    verdict = json.loads((bundle.parent / f"{bundle.name}.gate.json").read_text())
    assert (verdict["valid"], verdict["exit_code"]) == (True, 1)
    assert project.qbench("verify", bundle).returncode == 0

    # the same trials answer whoever asks again; 'latest' is the night and not its confirmation
    before = sorted(p.name for p in (project.root / "results").iterdir())
    code, same = gate_json(project, "latest", "--confirm")
    assert (code, same["run_id"], same["confirmed_by"]) == (1, bundle.name, again.name)
    assert sorted(p.name for p in (project.root / "results").iterdir()) == before

    accepting = ("accept", "fp32", "lagging", "default", "--until", TOMORROW, "--reason", "known")
    done = project.qbench(*accepting[:1], found["case_id"], *accepting[4:], "--kind", "slower")
    assert done.returncode == 0, done.stderr
    done = project.qbench("gate", "latest", "--summary", "page.md")
    assert done.returncode == 0, done.stderr
    assert "accepted until" in done.stdout and "passed" in done.stdout
    assert "### Accepted" in (project.root / "page.md").read_text()

    # a suite that was changed since cannot confirm
    shutil.rmtree(again)
    (project.root / "results" / "accepted.yaml").unlink()
    suite.write_text(suite.read_text().replace("timed_s: 0.02", "timed_s: 0.03"))
    done = project.qbench("gate", "latest", "--confirm")
    assert done.returncode == 2 and "changed since" in done.stderr and "--suite" in done.stderr


# --------------------------------------------------------------------------- crafted runs


def crafted(
    folder: Path, run_id: str, started: str, failing: int = 0, cases: int = 8, **begin: Any
) -> Path:
    """A complete run in which the last ``failing`` cases crash."""
    made = Crafted(folder, run_id, started=started, **begin)
    for number in range(cases):
        case_id = made.case("fp32", batch_size=number + 1)
        made.cases[-1] |= {"case_id": f"{number:012x}", "dataset_digest": "e" * 64}
        made.prepared[f"a{case_id}"]["digest"] = f"{number:064d}"
        made.evaluated = {}
        made.cases[-1]["evaluation_id"] = None
        status = "crashed" if number >= cases - failing else "ok"
        made.trial(f"{number:012x}", 0, 1.0, status=status)
    return made.done().path


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "project" / "results"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_exit_codes_of_a_failing_an_invalid_and_a_recovered_run(project, results):
    crafted(results, "20260101-000000-a-0001", "2026-01-01T00:00:00+0000")
    one = crafted(results, "20260102-000000-a-0002", "2026-01-02T00:00:00+0000", failing=1)
    code, told = gate_json(project, one)
    assert code == 1 and [f["kind"] for f in told["findings"]] == ["newly_failing"]
    many = crafted(results, "20260103-000000-a-0003", "2026-01-03T00:00:00+0000", failing=4)
    code, told = gate_json(project, many)
    assert (code, told["valid"]) == (3, False)
    good = find_run(
        str(crafted(results, "20260104-000000-a-0004", "2026-01-04T00:00:00+0000")), results
    )
    # an invalid run is nobody's last, nor is one of another suite or machine, or a later one
    crafted(results, "20260105-000000-a-0005", "2026-01-05T00:00:00+0000")
    crafted(results, "20260103-120000-b-0006", "2026-01-03T12:00:00+0000", suite="other")
    crafted(results, "20260103-130000-b-0007", "2026-01-03T13:00:00+0000", confirms=one.name)
    assert not is_valid(many)
    earlier = earlier_runs(good, results, 5)
    assert [run.run_id[-4:] for run in earlier] == ["0002", "0001"]
    # a damaged verdict may have been "invalid": no baseline is chosen in its place
    verdict_path(one).write_text("{")
    with pytest.raises(UserError, match=r"0002.gate.json is damaged.*") as raised:
        earlier_runs(good, results, 5)
    assert "`qbench gate` writes it again" in str(raised.value)


def test_an_anchor_is_found_by_name_and_a_wrong_one_names_what_is_there(project, results):
    (results / "anchors").mkdir()
    crafted(results / "anchors", "release-1.0", "2025-01-01T00:00:00+0000")
    run = crafted(results, "20260102-000000-a-0002", "2026-01-02T00:00:00+0000")
    code, told = gate_json(project, run, "--baseline", "anchor:release-1.0")
    assert code == 0 and told["compared"] == 8
    done = project.qbench("gate", run, "--baseline", "anchor:relaese")
    assert done.returncode == 2 and "relaese" in done.stderr


def test_a_summary_is_added_to_the_cis_own_page(project, results):
    run = crafted(results, "20260102-000000-a-0002", "2026-01-02T00:00:00+0000")
    page = project.root / "summary.md"
    page.write_text("# what came before\n")
    done = project.qbench("gate", run, "--summary", page, GITHUB_STEP_SUMMARY=str(page))
    assert done.returncode == 0, done.stderr
    assert page.read_text().startswith("# what came before\n## qbench gate: passed")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--limit", "latency_p50_ms<9"], "<="),
        (["--limit", "latency_p5_ms<=9"], "latency_p50_ms"),
        (["--limit", "p99<=9"], "p99<=9ms"),
        (["--baseline", "yesterday"], "environment:NAME"),
        (["--junit", "no/such/gate.xml"], "no folder"),
        (["--confirm"], None),
    ],
)
def test_wrong_options_are_refused_with_the_next_step(project, results, args, said):
    run = crafted(results, "20260102-000000-a-0002", "2026-01-02T00:00:00+0000")
    done = project.qbench("gate", run, *args)
    if said is None:  # nothing is suspected: nothing to confirm
        assert done.returncode == 0, done.stderr
    else:
        assert done.returncode == 2 and said in done.stderr


def test_an_interrupted_run_is_a_failure_of_the_machinery(project, results):
    run = crafted(results, "20260102-000000-a-0002", "2026-01-02T00:00:00+0000")
    (run / "manifest.json").unlink()
    done = project.qbench("gate", run)
    assert done.returncode == 3 and "interrupted" in done.stderr


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        ("gate: {slowdwn: 0.02}", "Did you mean 'slowdown'?"),
        ("gate:\n  limits:\n  - limit: latency_p50<=3", "latency_p50_ms"),
        ("gate: {limits: [accuracy<=90%]}", "lower bound"),
        ("gate: {baselines: [lastt]}", "'last'"),
        ("gate: {baselines: [{last: true, anchor: x}]}", "one of"),
    ],
)
def test_wrong_gate_settings_of_a_suite_are_reported_with_their_line(project, gate, said):
    path = project.suite()
    lines = path.read_text().count("\n")
    path.write_text(path.read_text() + gate + "\n")
    with pytest.raises(UserError) as error:
        load(path, Suite)
    line = int(str(error.value).split(f"{path.name}:")[1].split(":")[0])
    assert said in str(error.value) and line > lines


# --------------------------------------------------------------------------- accepted.yaml


def test_accepting_keeps_comments_and_what_is_there(project, results):
    run = crafted(results, "20260102-000000-a-0002", "2026-01-02T00:00:00+0000", failing=1)
    path = results / "accepted.yaml"
    path.write_text(
        "# agreed with the runtime's team\naccepted:\n"
        "- case: 000000000001\n  until: 2020-01-01\n  reason: long ago  # ticket 12\n"
    )
    # digits only would be a number in YAML
    done = project.qbench("accept", "b8", "--run", run, "--until", TOMORROW, "--reason", "a: b #c")
    assert done.returncode == 2 and f"{path.name}:3" in done.stderr
    path.write_text(path.read_text().replace("000000000001", "'000000000001'"))
    done = project.qbench("accept", "b8", "--run", run, "--until", TOMORROW, "--reason", "a: b #c")
    assert done.returncode == 0, done.stderr
    text = path.read_text()
    assert "# agreed with the runtime's team" in text and "# ticket 12" in text
    entries = yaml.safe_load(text)["accepted"]
    assert entries[0]["reason"] == "long ago"
    assert entries[1]["case"] == "000000000007" and entries[1]["reason"] == "a: b #c"
    code, told = gate_json(project, run)
    assert code == 0 and [f["severity"] for f in told["findings"]] == ["accepted"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["b8", "--until", "2020-01-01", "--reason", "x"], "has passed"),
        (["b8", "--until", "soon", "--reason", "x"], "2026-12-31"),
        (["b8", "--until", TOMORROW, "--reason", " "], "empty"),
        (["b99", "--until", TOMORROW, "--reason", "x"], "no case fits"),
        (["b8", "--until", TOMORROW, "--reason", "x", "--kind", "slow"], "slower"),
    ],
)
def test_unacceptable_changes_are_refused(project, results, args, said):
    run = crafted(results, "20260102-000000-a-0002", "2026-01-02T00:00:00+0000")
    done = project.qbench("accept", *args, "--run", run)
    assert done.returncode == 2 and said in done.stderr
    assert not (results / "accepted.yaml").exists()


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("accepted:\n- case: aaaaaaaaaaaa\n  untill: 2026-01-01\n  reason: x\n", 3, "until"),
        ("accepted:\n- case: aaaaaaaaaaaa\n  until: soon\n  reason: x\n", 3, "until"),
        ("accepted:\n- case: AAA\n  until: 2026-01-01\n  reason: x\n", 2, "pattern"),
        ("accepted: [", 1, "YAML"),
        ("accepted:\n- &a {case: aaaaaaaaaaaa}\n", 2, "anchors"),
    ],
)
def test_a_wrong_file_of_known_changes_is_reported_with_its_line(tmp_path, text, line, said):
    path = tmp_path / "accepted.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=f"accepted.yaml:{line}.*{said}"):
        read_accepted(path)
