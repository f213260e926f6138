"""Interrupts, kills, full disks and other runs: nothing is lost, torn or left behind."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.slow

KILLS = 20
LATE = """
import subprocess, time
from qbench.testing.fake import FakeBackend
class Backend(FakeBackend):
    name = "late"
    def open(self, artifact, config, inspect=False):
        program = super().open(artifact, config, inspect)
        import sys
        if "qbench.kit.jobs.measure" in sys.modules:
            subprocess.Popen(["sleep", "600"])
            time.sleep(600)
        return program
"""
SLOW = """
import subprocess, time
from qbench.testing.fake import FakeBackend
class Backend(FakeBackend):
    name = "slow"
    def probe(self):
        subprocess.Popen(["sleep", "600"])
        time.sleep(600)
"""


def start(project, *args: str, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        project.command(*args),
        cwd=project.root,
        env={**project.env, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    )


def heed_interrupts() -> None:
    """A shell starts its background jobs, which may be these tests, with SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def workers(project) -> list[psutil.Process]:
    """Processes of this test that are still there (its cache folder marks them), without the
    watchdog of the commands that ran in pytest's own process."""
    found = []
    for process in psutil.process_iter():
        try:
            ours = process.environ().get("QBENCH_CACHE") == project.env["QBENCH_CACHE"]
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    own = {os.getpid(), *(p.pid for p in psutil.Process().children() if "-S" in p.cmdline())}
    return [p for p in found if p.pid not in own]


def assert_no_orphans(project) -> None:
    end = time.monotonic() + 5
    while (left := workers(project)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not left, [p.cmdline() for p in left]


def assert_whole(project, bundle: Path, rounds: int, cases: int) -> None:
    """Every trial exactly once, and all digests and figures agree."""
    lines = (bundle / "journal.jsonl").read_text().splitlines()
    made = [(t["round"], t["case_id"]) for t in map(json.loads, lines)]
    assert len(made) == len(set(made)) == rounds * cases
    done = project.qbench("verify", str(bundle), "--recompute")
    assert done.returncode == 0, done.stdout
    assert not list(bundle.rglob(".*")), "temporary files were left"


@pytest.mark.timeout(900)
def test_twenty_kills_lose_nothing(project):
    """Killed at random moments again and again, the same command brings every run to its end."""
    rng = random.Random(20)
    suite = project.suite(rounds=4, timed_s=0.1, precisions=["fp32", "int8-static", "int8-dynamic"])
    kills = runs = 0
    while kills < KILLS:
        process = start(project, "run", str(suite), "--no-report", "--json")
        try:
            out, err = process.communicate(timeout=rng.uniform(0.8, 4.0))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
            assert_no_orphans(project)
            continue
        assert process.returncode == 0, err
        assert_whole(project, project.root / json.loads(out)["bundle"], 4, 3)
        runs += 1
    answer = project.run_json(suite)
    assert_whole(project, project.root / answer["bundle"], 4, 3)
    bundles = list((project.root / "results").glob("*/manifest.json"))
    assert len(bundles) > runs  # more where a run was killed after its bundle was complete
    for path in bundles:
        assert_whole(project, path.parent, 4, 3)
    assert len(list((project.root / "results").glob("*/begin.json"))) == len(bundles)


@pytest.mark.parametrize("stage", ["prepare", "evaluate", "measure"])
def test_an_interrupt_leaves_a_run_that_goes_on(project, stage: str):
    project.model(infer_us=3000)
    suite = project.suite(rounds=3, timed_s=0.3)
    process = start(project, "run", str(suite), "--no-report")
    assert process.stderr
    while not process.stderr.readline().startswith(f"{stage}:"):
        assert process.poll() is None
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "same command" in err
    assert_no_orphans(project)
    answer = project.run_json(suite)
    bundle = project.root / answer["bundle"]
    assert answer["counts"] == {"ok": 2}
    assert len(list((project.root / "results").glob("*/begin.json"))) == 1, "it went on, not anew"
    assert_whole(project, bundle, 3, 2)


@pytest.mark.parametrize("step", ["prepare", "open", "infer"])
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_parent_leaves_no_grandchild(project, step: str, sent: signal.Signals):
    """The worker hangs, and so does the process that it has started."""
    project.model(fail={step: "hang"})
    process = start(project, "run", str(project.suite(precisions=["fp32"])), "--no-report")
    end = time.monotonic() + 20
    while not any(p.name() == "sleep" for p in workers(project)):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(sent)
    process.communicate(timeout=60)
    assert_no_orphans(project)


def test_a_parent_killed_while_it_measures_leaves_no_grandchild(project):
    """It hangs in the trial only, after an evaluation that goes well."""
    project.adapter("late", LATE)
    suite = project.suite(precisions=["fp32"], backends=["late"])
    process = start(project, "run", str(suite), "--no-report")
    assert process.stderr
    while not process.stderr.readline().startswith("measure:"):
        assert process.poll() is None
    end = time.monotonic() + 20
    while not any(p.name() == "sleep" for p in workers(project)):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert_no_orphans(project)


@pytest.mark.parametrize("command", ["run", "plan"])
def test_an_interrupt_of_a_probe_that_hangs_is_quick(project, command: str):
    project.adapter("slow", SLOW)
    suite = project.suite(backends=["slow", "fake"])
    process = start(project, command, str(suite))
    end = time.monotonic() + 20
    while not any(p.name() == "sleep" for p in workers(project)):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - begin < 5
    assert process.returncode == 130, err
    assert_no_orphans(project)


def test_a_second_run_with_another_lock_leaves_a_live_ones_files(project, tmp_path: Path):
    project.model(fail={"prepare": "hang"})
    project.model("other")
    process = start(project, "run", str(project.suite()), "--no-report")
    work = Path(project.env["QBENCH_CACHE"]) / "work"
    while not (work.is_dir() and list(work.glob("*/out"))):
        assert process.poll() is None
        time.sleep(0.02)
    (live, *_) = work.glob("*/out")
    suite = project.suite("second", models=["other"])
    elsewhere = ("--results", "elsewhere")
    lock = str(tmp_path / "another")
    done = project.qbench("run", suite, "--no-report", *elsewhere, QBENCH_LOCK=lock)
    assert done.returncode == 0, done.stderr
    assert live.is_dir()
    assert process.poll() is None
    process.kill()
    process.communicate()


def test_leftovers_of_a_killed_run_in_its_working_folder_are_removed(project):
    project.model(fail={"prepare": "hang"})
    suite = project.suite(precisions=["fp32"])
    process = start(project, "run", str(suite), "--no-report")
    work = Path(project.env["QBENCH_CACHE"]) / "work"
    while not (work.is_dir() and list(work.glob("*/out"))):
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert_no_orphans(project)
    assert list(work.iterdir())
    project.model()
    project.run_json(suite)
    assert not list(work.iterdir())


def test_a_resumed_round_is_marked_and_fresh_restarts(project):
    project.model(infer_us=3000)
    suite = project.suite(rounds=8, timed_s=0.3)
    process = start(project, "run", str(suite), "--no-report")
    assert process.stderr
    journal = lambda: list((project.root / "results").glob("*/journal.jsonl"))  # noqa: E731
    while not any(path.stat().st_size for path in journal()):  # made, and a trial in it
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    first = journal()[0].parent
    fresh = project.run_json(suite, "--fresh")
    assert project.root / fresh["bundle"] != first
    resumed = project.root / project.run_json(suite)["bundle"]
    assert resumed == first
    sittings = {json.loads(line)["sitting"] for line in journal_lines(resumed)}
    assert sittings == {1, 2}


def journal_lines(bundle: Path) -> list[str]:
    return (bundle / "journal.jsonl").read_text().splitlines()


def test_another_seed_or_filter_does_not_go_on_with_it(project):
    suite = project.suite(rounds=2, timed_s=0.3)
    process = start(project, "run", str(suite), "--no-report")
    assert process.stderr
    while not process.stderr.readline().startswith("measure:"):
        pass
    process.kill()
    process.communicate()
    answer = project.run_json(suite, "--seed", "5")
    assert json.loads((project.root / answer["bundle"] / "begin.json").read_text())["seed"] == 5
    assert len(list((project.root / "results").glob("*/begin.json"))) == 2


def test_two_runs_at_a_time_are_refused_and_the_holder_is_named(project):
    project.model(infer_us=3000)
    suite = project.suite(rounds=5, timed_s=0.5)
    process = start(project, "run", str(suite), "--no-report")
    assert process.stderr
    while not process.stderr.readline().startswith("prepare:"):
        pass
    other = project.qbench("run", str(suite), "--no-report")
    process.kill()
    process.communicate()
    assert other.returncode == 3
    assert str(process.pid) in other.stderr
    assert suite.name in other.stderr


def test_the_lock_of_a_killed_run_is_free(project):
    suite = project.suite()
    process = start(project, "run", str(suite), "--no-report")
    assert process.stderr
    while not process.stderr.readline().startswith("prepare:"):
        pass
    process.kill()
    process.communicate()
    assert project.run_json(suite)["counts"] == {"ok": 2}


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system with room for 300 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a small file system needs root and a kernel that permits it")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


def test_a_full_disk_ends_the_run_and_room_lets_it_go_on(project, small_disk: Path):
    suite = project.suite(rounds=2)
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * 230_000)
    done = project.qbench(
        "run", str(suite), "--no-report", "--json", "--results", str(small_disk / "results")
    )
    assert done.returncode == 3, done.stdout + done.stderr
    assert "disk is full" in done.stderr
    filler.unlink()
    answer = project.run_json(suite, "--results", str(small_disk / "results"))
    assert answer["counts"] == {"ok": 2}
    assert_whole(project, Path(answer["bundle"]), 2, 2)


def test_a_full_cache_disk_is_no_property_of_a_case(project, small_disk: Path):
    project.model(padding="x" * 100_000)
    (small_disk / "filler").write_bytes(b"x" * 240_000)
    done = project.qbench(
        "run", str(project.suite()), "--no-report", QBENCH_CACHE=str(small_disk / "cache")
    )
    assert done.returncode == 3, done.stderr
    assert "disk is full" in done.stderr


def test_a_second_run_in_the_same_results_folder_is_refused_whatever_its_lock(project, tmp_path):
    """With locks of their own, the second would go on with the first one's bundle."""
    project.model(infer_us=3000)
    suite = project.suite(rounds=3, timed_s=0.5)
    process = start(project, "run", str(suite), "--no-report")
    assert process.stderr
    while not process.stderr.readline().startswith("measure:"):
        assert process.poll() is None
    done = project.qbench("run", suite, "--no-report", QBENCH_LOCK=str(tmp_path / "other"))
    assert done.returncode == 3 and "another command writes to results/" in done.stderr
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    (bundle,) = (project.root / "results").glob("*/begin.json")
    assert_whole(project, bundle.parent, 3, 2)
