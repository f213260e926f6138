"""The machine's lock, and the note of who holds it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from qbench.errors import UserError
from qbench.machine.lock import lock_path, measuring_lock

HOLD = """
import sys
from qbench.machine.lock import measuring_lock
with measuring_lock():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder():
    """Another process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, "planted", "command"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout and process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.communicate()


def note(pid: int) -> Path:
    return lock_path().with_name(f"{lock_path().name}.{pid}.json")


def test_the_lock_is_the_machines_whatever_tmpdir_says(monkeypatch: pytest.MonkeyPatch):
    assert str(lock_path()) == os.environ["QBENCH_LOCK"]
    monkeypatch.delenv("QBENCH_LOCK")
    assert Path(tempfile.gettempdir()) != Path("/tmp")
    assert lock_path() == Path("/tmp/qbench-measuring.lock")
    monkeypatch.setattr(Path, "is_dir", lambda path: False)
    assert lock_path().parent == Path(tempfile.gettempdir())


def test_the_holder_is_named_and_its_note_goes_with_it():
    with measuring_lock():
        facts = json.loads(note(os.getpid()).read_text())
        assert facts["pid"] == os.getpid()
    assert not note(os.getpid()).exists()


def test_another_process_is_refused_with_the_holders_name(holder):
    with pytest.raises(UserError, match=rf"process {holder.pid}, `qbench planted command`"):
        measuring_lock().__enter__()


def test_notes_of_killed_runs_are_passed_over_and_removed(holder):
    mine = json.loads(note(holder.pid).read_text())
    stale = note(1)  # this process is there, but it did not write the note
    stale.write_text(json.dumps({**mine, "pid": 1}))
    note(2**22 + 5).write_text(json.dumps({**mine, "pid": 2**22 + 5}))
    note(7).write_text("no json")
    with pytest.raises(UserError, match=f"process {holder.pid},"):
        measuring_lock().__enter__()
    holder.communicate()
    with measuring_lock():
        assert not stale.exists()
        assert not note(2**22 + 5).exists()


def test_the_note_of_a_killed_holder_does_not_break_the_next_run(holder):
    holder.kill()
    holder.wait()
    assert note(holder.pid).exists()
    with measuring_lock():
        assert not note(holder.pid).exists()
        assert note(os.getpid()).exists()


def test_notes_that_cannot_be_written_or_removed_are_no_error(monkeypatch: pytest.MonkeyPatch):
    def refuse(*args, **kwargs):
        raise PermissionError(1, "Operation not permitted")

    note(1).write_text("{}")
    monkeypatch.setattr(Path, "unlink", refuse)
    monkeypatch.setattr(Path, "open", refuse)
    with measuring_lock():
        pass


def test_a_note_is_not_written_through_a_link(tmp_path: Path):
    mine = tmp_path / "mine.txt"
    mine.write_text("precious")
    note(os.getpid()).symlink_to(mine)
    with measuring_lock():
        pass
    assert mine.read_text() == "precious"


def test_a_holder_without_a_note_is_reported(holder):
    note(holder.pid).unlink()
    with pytest.raises(UserError, match="left no note"):
        measuring_lock().__enter__()


def test_a_lock_that_cannot_be_taken_names_its_file(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("QBENCH_LOCK", "/proc/no/such/lock")
    with pytest.raises(UserError, match=r"/proc/no/such/lock.*"):
        measuring_lock().__enter__()
