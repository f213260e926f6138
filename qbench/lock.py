"""One measuring run per machine: two at a time would measure each other."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qbench.errors import UserError


@contextmanager
def measuring_lock() -> Iterator[None]:
    """Hold this machine's lock while the block runs; it falls with the process, however it ends.

    Raises:
        UserError: another run holds it; the message says which.
    """
    import filelock

    path = Path(tempfile.gettempdir()) / "qbench-measuring.lock"
    holder = path.with_suffix(".json")
    lock = filelock.FileLock(path, mode=0o666)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise UserError(
            f"another qbench run is measuring on this machine: {_describe(holder)}",
            "Wait for it to end: two runs at a time would spoil both.",
        ) from None
    except OSError as error:
        raise UserError(
            f"cannot take the lock {path}: {error.strerror}", "Remove it if no run is going on."
        ) from None
    try:
        facts = {"pid": os.getpid(), "command": sys.argv[1:], "cwd": str(Path.cwd())}
        holder.unlink(missing_ok=True)
        holder.write_text(json.dumps({**facts, "since": time.strftime("%Y-%m-%d %H:%M:%S")}))
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _describe(holder: Path) -> str:
    try:
        facts = json.loads(holder.read_text())
        command = " ".join(["qbench", *facts["command"]])
        return f"process {facts['pid']}, `{command}` in {facts['cwd']}, since {facts['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "its holder has left no note"
