"""Locks: one measuring run per machine, since two would disturb each other; one writer per folder.

The machine's lock is the file ``/tmp/qbench-measuring.lock``, regardless of TMPDIR, or the file
that the environment variable QBENCH_LOCK names. The holder leaves a note for others in the same
folder, ``<lock>.<pid>.json``.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from qbench.errors import MachineryError, UserError
from qbench.machine.doctor.finding import Finding

FOLDER_LOCK = ".qbench.lock"
"""Name of the lock file in a folder of bundles."""


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder of bundles while the block runs: two commands that write to it
    would resume each other's bundles.

    Raises:
        MachineryError: another command holds it.
    """
    import filelock

    try:
        with filelock.FileLock(folder / FOLDER_LOCK, timeout=0):
            yield
    except filelock.Timeout:
        raise MachineryError(
            f"another command writes to {folder}/", "Wait for it, or give another folder."
        ) from None


def lock_path() -> Path:
    """Return the path of the machine's lock file."""
    named = os.environ.get("QBENCH_LOCK")
    if named:
        return Path(named)
    shared = Path("/tmp")
    folder = shared if shared.is_dir() else Path(tempfile.gettempdir())
    return folder / "qbench-measuring.lock"


@contextmanager
def measuring_lock() -> Iterator[None]:
    """Hold this machine's lock while the block runs; the system releases it with the process.

    Raises:
        MachineryError: another run holds it; the message identifies it.
        UserError: the lock file is not usable.
    """
    import filelock

    path = lock_path()
    lock = filelock.FileLock(path, mode=0o666)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise MachineryError(
            f"another qbench run is measuring on this machine: {_describe(path)}",
            "Wait for it to end: simultaneous runs would disturb each other.",
        ) from None
    except OSError as error:
        raise UserError(
            f"cannot take the lock {path}: {error.strerror}",
            "Remove it if no run is active, or name another file in QBENCH_LOCK.",
        ) from None
    try:
        _leave_note(path)
        yield
    finally:
        _remove(_note(path, os.getpid()))
        lock.release()


def another_run() -> Finding:
    """Check for another qbench that measures now."""
    check, why = "another run", "simultaneous runs disturb each other"
    try:
        with measuring_lock():
            return Finding(check, "good", "none")
    except MachineryError as error:
        return Finding(check, "bad", error.message, why)
    except UserError as error:  # the lock is not usable
        return Finding(check, "unknown", error.message, why)


def _note(path: Path, pid: int) -> Path:
    return path.with_name(f"{path.name}.{pid}.json")


def _leave_note(path: Path) -> None:
    """Write a note that identifies the holder. Failures are ignored: the note is informative
    only."""
    import psutil

    for note, facts in _notes(path):
        if not _holds(facts):
            _remove(note)
    with suppress(OSError, psutil.Error):
        facts = {
            "pid": os.getpid(),
            "born": psutil.Process().create_time(),
            "command": sys.argv[1:],
            "cwd": str(Path.cwd()),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        note = _note(path, os.getpid())
        _remove(note)
        with note.open("x") as file:  # never follows a link
            json.dump(facts, file)


def _remove(note: Path) -> None:
    with suppress(OSError):  # missing, or another user's in a sticky folder
        note.unlink()


def _notes(path: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Return the notes next to the lock with their content, including those of killed runs."""
    found = []
    with suppress(OSError):
        for note in path.parent.iterdir():
            if note.name.startswith(f"{path.name}.") and note.suffix == ".json":
                with suppress(OSError, ValueError):
                    found.append((note, json.loads(note.read_text())))
    return found


def _holds(facts: Any) -> bool:
    """Return whether the process that wrote a note is still alive."""
    import psutil

    try:
        return abs(psutil.Process(facts["pid"]).create_time() - facts["born"]) < 2
    except psutil.AccessDenied:
        return True
    except (psutil.Error, KeyError, TypeError, ValueError, OverflowError):
        return False


def _describe(path: Path) -> str:
    for _, facts in _notes(path):
        if _holds(facts):
            with suppress(KeyError, TypeError):
                command = " ".join(["qbench", *facts["command"]])
                return f"process {facts['pid']}, `{command}` in {facts['cwd']}, " + (
                    f"since {facts['since']}"
                )
    return "its holder has left no note"
