"""The parent's side of a worker: start one, wait without spinning, end it, say what happened.

The transport is the worker's stdin and stdout (JSON lines) and a working folder that files are
put into and fetched from by name. Nothing above this module assumes more, so a worker on another
machine needs only another transport.
"""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Status = Literal["ok", "skipped", "prepare_failed", "error", "crashed", "timeout", "oom"]

_live: dict[subprocess.Popen[bytes], bool] = {}
"""Workers that run now, and whether ``end_all`` has ended them."""
_live_lock = threading.Lock()

LOG_NAME = "log.txt"
LOG_LINES = 20
_BOOT = "import sys; del sys.path[0]; from qbench.worker.main import main; main()"


class Ended(Exception):
    """The job was ended by ``end_all``: it has no outcome, and nothing may be recorded of it."""


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
        status: ``ok``, or what kind of failure.
        reason: one line; "" when ok.
        result: the job's answer; empty unless ok.
        phase: the last phase that the worker announced.
        log: the last lines that the worker or its runtime printed; "" when ok.
        seconds: wall time of the whole process.
    """

    status: Status
    reason: str = ""
    result: Mapping[str, Any] = field(default_factory=dict)
    phase: str = ""
    log: str = ""
    seconds: float = 0.0


@contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """A working folder for one worker, removed afterwards."""
    if parent is not None:
        parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="qbench-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_job(
    job: str,
    backend: str,
    request: Mapping[str, Any],
    folder: Path,
    files: Mapping[str, Path] | None = None,
    timeout_s: float = 600,
    memory_limit_bytes: int | None = None,
    on_phase: Callable[[str], None] = lambda phase: None,
) -> Outcome:
    """Run one job in a fresh process and wait for it.

    Args:
        job: name of a module in ``qbench.worker``.
        backend: ``module:Class``.
        request: the job's own fields, JSON values; files are named as in ``files``.
        folder: the worker's working folder; what it writes stays there.
        files: by the name the worker knows it under, the file or folder to put there.
        timeout_s: after this many seconds the worker's whole process group is killed.
        memory_limit_bytes: private memory that the worker may take; None for no limit.
        on_phase: called with the name of each phase as it begins.
    """
    for name, path in (files or {}).items():
        (folder / name).symlink_to(path.absolute())
    begin = time.monotonic_ns()
    message = {
        **request,
        "job": job,
        "backend": backend,
        "memory_limit_bytes": memory_limit_bytes,
        "spawned_ns": begin,
    }
    ooms = _oom_kills()
    with (folder / LOG_NAME).open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", _BOOT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=folder,
            start_new_session=True,
        )
    with _live_lock:
        _live[process] = False
    try:
        answer, phase = _converse(process, message, begin / 1e9 + timeout_s, on_phase)
    finally:
        _end(process)
        with _live_lock:
            ended = _live.pop(process)
    if ended:
        raise Ended
    seconds = (time.monotonic_ns() - begin) / 1e9
    if answer is not None and answer["event"] == "done":
        return Outcome("ok", result=answer["result"], phase=phase, seconds=seconds)
    text = _last_lines(folder / LOG_NAME)
    status, reason = _verdict(process.returncode, answer, timeout_s, ooms, text)
    if phase and status != "skipped":
        reason = f"{reason} (in phase {phase})"
    return Outcome(status, reason, phase=phase, log=text, seconds=seconds)


def end_all() -> None:
    """Kill every worker that runs now, whichever thread waits for it (after an interrupt)."""
    with _live_lock:
        for process in _live:
            _live[process] = True
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _converse(
    process: subprocess.Popen[bytes],
    message: Mapping[str, Any],
    deadline: float,
    on_phase: Callable[[str], None],
) -> tuple[dict[str, Any] | None, str]:
    """Send the request; read events until the answer, the end of the stream or the deadline.

    Returns the answer (None if there was none; ``{"event": "timeout"}`` at the deadline) and the
    last phase."""
    assert process.stdin and process.stdout
    with suppress(BrokenPipeError):
        process.stdin.write(json.dumps(message).encode() + b"\n")
        process.stdin.flush()
    phase, buffer = "", b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                return {"event": "timeout"}, phase
            chunk = os.read(process.stdout.fileno(), 65536)
            if not chunk:
                return None, phase
            *lines, buffer = (buffer + chunk).split(b"\n")
            for line in lines:
                event = json.loads(line)
                if event["event"] != "phase":
                    return event, phase
                phase = event["phase"]
                on_phase(phase)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let a worker that has answered leave by itself; kill what is left of its group."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=0.5)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            with suppress(BrokenPipeError):
                pipe.close()


def _verdict(
    code: int, answer: Mapping[str, Any] | None, timeout_s: float, ooms: int | None, log: str
) -> tuple[Status, str]:
    if answer is not None and answer["event"] == "failed":
        return answer["status"], answer["reason"]
    if answer is not None:
        return "timeout", f"took longer than the limit of {timeout_s:g} s and was ended"
    if "bad_alloc" in log or "MemoryError" in log:
        return "oom", "out of memory"
    now = _oom_kills()
    if code == -signal.SIGKILL and ooms is not None and now is not None and now > ooms:
        return "oom", "killed by the kernel for want of memory"
    if code < 0:
        return "crashed", f"the worker died of {signal.Signals(-code).name}"
    return "crashed", f"the worker ended without an answer, exit code {code}"


def _oom_kills() -> int | None:
    """How many processes this machine's kernel has killed for want of memory."""
    try:
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except OSError:
        pass
    return None


def _last_lines(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - 8192))
        text = file.read().decode(errors="replace")
    return "\n".join(text.splitlines()[-LOG_LINES:])
