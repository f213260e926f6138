"""Workers from the parent's side: batches, the watchdog, the protocol's edges, working folders."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from qbench.kit.apart import Ended
from qbench.run.workers import isolate
from qbench.run.workers.isolate import in_parallel, remove_stale, run_job, scratch_folder
from qbench.run.workers.watchdog import Watchdog

FAKE = "qbench.testing:FakeBackend"


@pytest.fixture
def adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes the adapter ``planted:Backend`` of a probe's body, and returns its target."""

    def make(body: str) -> str:
        folder = tmp_path / "modules"
        folder.mkdir()
        lines = "".join(f"        {line}\n" for line in body.splitlines())
        (folder / "planted.py").write_text(
            f"import os, sys, time\nclass Backend:\n    def probe(self):\n{lines}"
        )
        monkeypatch.setenv("PYTHONPATH", str(folder))
        return "planted:Backend"

    return make


def probe(target: str = FAKE, timeout_s: float = 20) -> isolate.Outcome:
    with scratch_folder() as folder:
        return run_job("probe", target, {}, folder, timeout_s=timeout_s)


def children() -> list[psutil.Process]:
    """Children of this process, except the watchdog."""
    watchdog = isolate._watchdog._process
    found = psutil.Process().children()
    return [p for p in found if watchdog is None or p.pid != watchdog.pid]


# --------------------------------------------------------------------------- batches


def test_results_come_in_the_order_of_the_items():
    def work(item: int) -> int:
        time.sleep(0.01 * (3 - item))
        return item * item

    assert in_parallel([0, 1, 2], work, 3) == [0, 1, 4]
    assert in_parallel([], work, 3) == []


def test_an_error_ends_the_jobs_that_run_and_those_that_would_start(adapter, tmp_path: Path):
    target = adapter(f"open({str(tmp_path / 'started')!r}, 'w').close(); time.sleep(600)")
    fates: dict[str, str] = {}
    go_on = threading.Event()

    def work(item: str) -> None:
        try:
            if item == "fails":
                while not (tmp_path / "started").exists():
                    time.sleep(0.01)
                raise RuntimeError("planted")
            if item == "late":
                go_on.wait(20)
            probe(target, timeout_s=60)
        except Ended:
            fates[item] = "ended"
            raise

    begin = time.monotonic()
    with pytest.raises(RuntimeError, match="planted"):
        in_parallel(["runs", "late", "fails"], work, 3)
    assert time.monotonic() - begin < 5
    go_on.set()
    while len(fates) < 2 and time.monotonic() - begin < 10:
        time.sleep(0.01)
    assert fates == {"runs": "ended", "late": "ended"}
    assert not children()


def test_a_worker_that_is_being_started_when_its_batch_ends_is_killed(
    monkeypatch: pytest.MonkeyPatch,
):
    """The window between the check before and the registration after the start."""
    started, go_on = threading.Event(), threading.Event()
    fates: list[str] = []
    popen = subprocess.Popen

    def slow(command, *args, **kwargs):
        process = popen(command, *args, **kwargs)
        if isolate._BOOT in command:
            started.set()
            go_on.wait(20)
        return process

    def work(item: str) -> None:
        if item == "fails":
            started.wait(20)
            raise RuntimeError("planted")
        try:
            probe(timeout_s=60)
        except Ended:
            fates.append("ended")

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", slow)
        with pytest.raises(RuntimeError, match="planted"):
            in_parallel(["starts", "fails"], work, 2)
        go_on.set()
        end = time.monotonic() + 5
        while not fates and time.monotonic() < end:
            time.sleep(0.01)
    assert fates == ["ended"]
    assert not children()


def test_jobs_run_again_after_a_batch_was_ended():
    def fail(item: int) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        in_parallel([1], fail, 1)
    assert probe().status == "ok"
    assert [o.status for o in in_parallel([FAKE, FAKE], probe, 2)] == ["ok", "ok"]


# --------------------------------------------------------------------------- the watchdog


def test_the_watchdog_is_one_starts_with_the_first_job_and_is_reaped(tmp_path: Path):
    script = """
import atexit, psutil
atexit.register(lambda: print("left", len(psutil.Process().children())))
from pathlib import Path
from qbench.run.workers import isolate
print("before", len(psutil.Process().children()))
for _ in range(2):
    with isolate.scratch_folder() as folder:
        assert isolate.run_job("probe", "qbench.testing:FakeBackend", {}, folder).status == "ok"
print("jobs done", len(psutil.Process().children()))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.split("\n") == ["before 0", "jobs done 1", "left 0", ""], done.stderr


def test_a_watchdog_that_was_killed_is_replaced():
    assert probe().status == "ok"
    first = isolate._watchdog._process
    assert first
    first.kill()
    first.wait()
    assert probe().status == "ok"
    second = isolate._watchdog._process
    assert second and second.pid != first.pid and second.poll() is None


def test_the_watchdog_kills_only_what_is_still_registered():
    watchdog = Watchdog()
    sleepers = [subprocess.Popen(["sleep", "60"], start_new_session=True) for _ in range(2)]
    for sleeper in sleepers:
        watchdog.watch(sleeper.pid)
    watchdog.leave(sleepers[1].pid)
    watchdog.end()
    assert sleepers[0].wait(timeout=5) == -9
    assert sleepers[1].poll() is None
    sleepers[1].kill()
    sleepers[1].wait()


def test_a_fork_of_the_parent_does_not_keep_the_watchdog():
    watchdog = Watchdog()
    sleeper = subprocess.Popen(["sleep", "60"], start_new_session=True)
    watchdog.watch(sleeper.pid)
    child = os.fork()
    if child == 0:
        time.sleep(30)
        os._exit(0)
    try:
        watchdog.end()
        assert sleeper.wait(timeout=2) == -9
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


# --------------------------------------------------------------------------- the protocol


def test_a_safe_path_keeps_its_first_entry(monkeypatch: pytest.MonkeyPatch, adapter):
    target = adapter("from qbench.kit.adapter import Ready\nreturn Ready('1', {'cpu': ('fp32',)})")
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    outcome = probe(target)
    assert outcome.status == "ok", outcome


def test_the_working_folder_is_no_place_for_modules(tmp_path: Path):
    (tmp_path / "numpy.py").write_text("raise RuntimeError('taken from the working folder')")
    assert run_job("probe", FAKE, {}, tmp_path).status == "ok"


def test_a_result_that_json_cannot_hold_is_an_error_that_names_the_type(adapter):
    target = adapter(
        "import numpy\nfrom qbench.kit.adapter import Ready\n"
        "return Ready('1', {'cpu': (numpy.int64(3),)})"
    )
    outcome = probe(target)
    assert outcome.status == "error"
    assert "numpy.int64" in outcome.reason


GARBAGE = {
    "no json": (r"b'hello\n'", "error"),
    "no object": (r"b'3\n'", "error"),
    "no event": (r"b'{}\n'", "error"),
    "another event": (r"""b'{"event": "other"}\n'""", "error"),
    "no result": (r"""b'{"event": "done", "result": 3}\n'""", "error"),
    "a failure that is ok": (
        r"""b'{"event": "failed", "status": "ok", "reason": ""}\n'""",
        "error",
    ),
    "bytes": (r"b'\xff\xfe\n'", "error"),
    "nesting": (r"b'[' * 30000 + b'\n'", "error"),
    "endless": ("b'x' * (1 << 25)", "error"),
    "half a line": ("b'{'", "crashed"),
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_in_the_stream_of_answers_is_a_failure(monkeypatch: pytest.MonkeyPatch, kind: str):
    text, status = GARBAGE[kind]
    monkeypatch.setattr(isolate, "_BOOT", f"import sys; sys.stdout.buffer.write({text})")
    outcome = probe()
    assert outcome.status == status
    assert outcome.reason and len(outcome.reason) < 500


def test_a_worker_that_never_stops_talking_meets_its_deadline(monkeypatch: pytest.MonkeyPatch):
    line = json.dumps({"event": "phase", "phase": "p"})
    monkeypatch.setattr(isolate, "_BOOT", f"while True: print('{line}', flush=True)")
    begin = time.monotonic()
    assert probe(timeout_s=0.5).status == "timeout"
    assert time.monotonic() - begin < 5


def test_a_signal_without_a_name_is_reported_by_number(adapter):
    assert "signal 40" in probe(adapter("os.kill(os.getpid(), 40); time.sleep(5)")).reason


# --------------------------------------------------------------------------- the working folder


def test_no_file_takes_the_logs_place_or_is_written_by_it(adapter, tmp_path: Path):
    target = adapter("print('to the log', flush=True); raise RuntimeError('planted')")
    mine = tmp_path / "mine.txt"
    mine.write_text("precious")
    with scratch_folder() as folder:
        outcome = run_job("probe", target, {}, folder, {"log.txt": mine})
    assert "to the log" in outcome.log
    assert mine.read_text() == "precious"
    with scratch_folder() as folder, pytest.raises(ValueError, match=isolate.LOG_NAME):
        run_job("probe", target, {}, folder, {isolate.LOG_NAME: mine})
    with scratch_folder() as folder:
        (folder / isolate.LOG_NAME).symlink_to(mine)
        with pytest.raises(FileExistsError):
            run_job("probe", target, {}, folder)
    assert mine.read_text() == "precious"


def test_stale_folders_go_and_those_of_live_processes_and_others_stay(tmp_path: Path):
    gone = subprocess.Popen(["true"])
    gone.wait()
    work = tmp_path / "work"
    with scratch_folder(work) as mine:
        assert f"-{os.getpid()}-" in mine.name
        stale = work / mine.name.replace(f"-{os.getpid()}-", f"-{gone.pid}-")
        other = work / f"qbench-another.host-{gone.pid}-abcdefgh"
        for folder in (stale, other, work / "unknown"):
            folder.mkdir()
            (folder / "file").write_text("x")
        remove_stale(work)
        assert sorted(p.name for p in work.iterdir()) == sorted([mine.name, other.name, "unknown"])
    assert not mine.exists()
    remove_stale(tmp_path / "not there")


# --------------------------------------------------------------------------- cores
