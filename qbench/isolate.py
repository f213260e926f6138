"""The parent's side of a worker: start one, wait without spinning, end it, say what happened.

The transport is the worker's stdin and stdout (JSON lines) and a working folder that files are
put into and fetched from by name. Nothing above this module assumes more, so a worker on another
machine needs only another transport.

No worker outlives its parent, nor do the compilers that it starts: they are in one process group,
which the parent kills when the job is over; a parent that is itself killed has a watchdog do it.
"""

from __future__ import annotations

import json
import os
import platform
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar, get_args

from qbench.errors import MachineryError
from qbench.spec.case import Status
from qbench.watchdog import Watchdog

T = TypeVar("T")
R = TypeVar("R")

OUT_OF_MEMORY = ("bad_alloc", "MemoryError", "Memory allocation", "Cannot allocate memory")
"""What runtimes print before they give up for want of memory."""

DISK_FULL = "No space left on device"
NO_ROOM_BYTES = 65536
"""Less than this free and a failure is put down to the disk: runtimes seldom say what they lack."""

LOG_NAME = ".log"
LOG_LINES = 20
LONGEST_LINE = 1 << 24
"""A worker that writes so many bytes without an end of line does not speak the protocol."""
_BOOT = """
import sys
if "" in sys.path:
    sys.path.remove("")  # the working folder is no place for modules
from qbench.worker.main import main
main()
"""


class Ended(Exception):
    """The job was ended with its batch (``in_parallel``): it has no outcome, and nothing may be
    recorded of it."""


@dataclass(frozen=True)
class Interpreter:
    """Another Python than the parent's own for workers to run in.

    Attributes:
        python: the executable.
        kit: a folder with all that they import of qbench: the only thing on its path beside its
            own packages.
        variables: environment variables for them.
    """

    python: Path
    kit: Path
    variables: Mapping[str, str] = field(default_factory=dict)


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


# --------------------------------------------------------------------------- working folders


@contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """A working folder for one worker, removed afterwards. Its name tells whose it is."""
    if parent is not None:
        parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{_mark()}-{os.getpid()}-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_stale(parent: Path) -> None:
    """Remove the scratch folders in ``parent`` that processes of this machine left when they were
    killed. Those of live processes, and of other machines, stay."""
    import psutil

    for folder in parent.glob("*") if parent.is_dir() else ():
        mark, _, rest = folder.name.rpartition("-")
        mark, _, pid = mark.rpartition("-")
        if mark == _mark() and rest and pid.isdecimal() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def _mark() -> str:
    """Where process numbers mean something: this host, and container (it has its own name)."""
    return f"qbench-{platform.node()}".replace(os.sep, "_")


_watchdog = Watchdog()


# --------------------------------------------------------------------------- several at a time


class _Batch:
    """The jobs of one ``in_parallel``; once it is over, none of them runs, nor will any start."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live: set[subprocess.Popen[bytes]] = set()
        self._over = False

    def check(self) -> None:
        if self._over:
            raise Ended

    def add(self, process: subprocess.Popen[bytes]) -> None:
        with self._lock:
            self.check()
            self._live.add(process)

    def remove(self, process: subprocess.Popen[bytes]) -> None:
        with self._lock:
            self._live.discard(process)
            self.check()

    def end(self) -> None:
        with self._lock:
            self._over = True
            for process in self._live:
                _kill_group(process)


_thread = threading.local()
"""Its ``batch`` is the one that the thread works for; not set in other threads."""


def in_parallel(items: Sequence[T], work: Callable[[T], R], workers: int) -> list[R]:
    """``work`` on every item, ``workers`` at a time; the results are in the items' order. The
    first error, or an interrupt, ends all of it at once, the jobs that ``work`` runs included.
    Never used while measuring."""
    batch = _Batch()

    def join() -> None:
        _thread.batch = batch

    pool = ThreadPoolExecutor(max_workers=workers, initializer=join)
    try:
        futures = [pool.submit(work, item) for item in items]
        wait(futures, return_when=FIRST_EXCEPTION)
        for future in futures:
            if future.done():
                future.result()
    except BaseException:
        batch.end()
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()
    return [future.result() for future in futures]


# --------------------------------------------------------------------------- one job


def run_job(
    job: str,
    backend: str,
    request: Mapping[str, Any],
    folder: Path,
    files: Mapping[str, Path] | None = None,
    timeout_s: float = 600,
    memory_limit_bytes: int | None = None,
    interpreter: Interpreter | None = None,
) -> Outcome:
    """Run one job in a fresh process and wait for it.

    Args:
        job: name of a module in ``qbench.worker``.
        backend: ``module:Class``.
        request: the job's own fields, JSON values; files are named as in ``files``.
        folder: the worker's working folder, which no other job has used; what it writes stays
            there.
        files: by the name the worker knows it under, the file or folder to put there.
        timeout_s: after this many seconds the worker's whole process group is killed.
        memory_limit_bytes: private memory that the worker may take; None for no limit.
        interpreter: the Python to run it in; None for the parent's own.

    Raises:
        Ended: the job belongs to an ``in_parallel`` that is over.
        ValueError: a file has the log's name.
    """
    batch: _Batch | None = getattr(_thread, "batch", None)
    if batch:
        batch.check()
    files = files or {}
    if LOG_NAME in files:
        raise ValueError(f"no file of a job may be called {LOG_NAME}: that is the worker's log")
    with (folder / LOG_NAME).open("x+b", buffering=0) as log:
        for name, path in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
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
        process = subprocess.Popen(
            [interpreter.python if interpreter else sys.executable, "-c", _BOOT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=folder,
            # what is temporary goes when the folder goes
            env={**_variables(interpreter), "TMPDIR": str(folder.absolute())},
            start_new_session=True,
        )
        answer, phase, leaves = None, "", False
        try:
            _watchdog.watch(process.pid)
            if batch:
                batch.add(process)
            answer, phase = _converse(process, message, begin / 1e9 + timeout_s)
            leaves = answer is None or answer["event"] != "timeout"
        finally:
            _end(process, patience_s=0.5 if leaves else 0)
            _watchdog.leave(process.pid)
            if batch:
                batch.remove(process)
        seconds = (time.monotonic_ns() - begin) / 1e9
        if answer is not None and answer["event"] == "done":
            return Outcome("ok", result=answer["result"], phase=phase, seconds=seconds)
        text = _last_lines(log)
    status, reason = _verdict(process.returncode, answer, timeout_s, ooms, text)
    if phase and status != "skipped":
        reason = f"{reason} (in phase {phase})"
    return Outcome(status, reason, phase=phase, log=text, seconds=seconds)


def _variables(interpreter: Interpreter | None) -> dict[str, str]:
    """A worker's environment variables. Another interpreter finds its own packages and the kit:
    nothing of the parent's, and nothing of the user's own folder."""
    if interpreter is None:
        return dict(os.environ)
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONHOME", "VIRTUAL_ENV")}
    path = {"PYTHONPATH": str(interpreter.kit.absolute()), "PYTHONNOUSERSITE": "1"}
    return {**kept, **interpreter.variables, **path}


def stop_if_disk_full(outcome: Outcome, folder: Path) -> None:
    """A full disk is no property of a case or a model: stop, so that the run can go on later.

    Args:
        folder: where the job wrote.

    Raises:
        MachineryError: the job failed, and its disk is full.
    """
    if outcome.status in ("ok", "skipped"):
        return
    said_so = DISK_FULL in outcome.reason + outcome.log
    if said_so or shutil.disk_usage(folder).free < NO_ROOM_BYTES:
        raise MachineryError(
            "the disk is full", "Make room, then run the same command again: it goes on from here."
        )


def _converse(
    process: subprocess.Popen[bytes], message: Mapping[str, Any], deadline: float
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
            left = deadline - time.monotonic()
            if left <= 0 or not selector.select(left):
                return {"event": "timeout"}, phase
            chunk = os.read(process.stdout.fileno(), 65536)
            if not chunk:
                return None, phase
            *lines, buffer = (buffer + chunk).split(b"\n")
            if len(buffer) > LONGEST_LINE:
                return _no_event(buffer), phase
            for line in lines:
                event = _event(line)
                if event["event"] != "phase":
                    return event, phase
                phase = event["phase"]


def _event(line: bytes) -> dict[str, Any]:
    """What a worker's line says; a failure if it is none of the protocol's."""
    with suppress(ValueError, RecursionError):
        event = json.loads(line)
        match event:
            case {"event": "phase", "phase": str()} | {"event": "done", "result": dict()}:
                return event
            case {"event": "failed", "status": str(status), "reason": str()}:
                if status in get_args(Status)[1:]:
                    return event
    return _no_event(line)


def _no_event(line: bytes) -> dict[str, Any]:
    shown = line[:80].decode(errors="replace")
    reason = f"something other than the worker wrote to the stream of its answers: {shown!r}"
    return {"event": "failed", "status": "error", "reason": reason}


def _end(process: subprocess.Popen[bytes], patience_s: float) -> None:
    """Give a worker that has answered, or is dying, a moment to leave by itself; kill what is
    left of its group."""
    try:
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=patience_s)
    finally:
        _kill_group(process)
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            with suppress(BrokenPipeError):
                pipe.close()


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _verdict(
    code: int, answer: Mapping[str, Any] | None, timeout_s: float, ooms: int | None, log: str
) -> tuple[Status, str]:
    if answer is not None and answer["event"] == "failed":
        return answer["status"], answer["reason"]
    if answer is not None:
        return "timeout", f"took longer than the limit of {timeout_s:g} s and was ended"
    if any(sign in log for sign in OUT_OF_MEMORY):
        return "oom", "out of memory"
    now = _oom_kills()
    if code == -signal.SIGKILL and ooms is not None and now is not None and now > ooms:
        return "oom", "killed by the kernel for want of memory"
    if code < 0:
        return "crashed", f"the worker died of {_signal_name(-code)}"
    return "crashed", f"the worker ended without an answer, exit code {code}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # real-time signals have none
        return f"signal {number}"


def _oom_kills() -> int | None:
    """How many processes this machine's kernel has killed for want of memory."""
    try:
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except OSError:
        pass
    return None


def _last_lines(log: IO[bytes]) -> str:
    log.seek(0, os.SEEK_END)
    log.seek(max(0, log.tell() - 8192))
    text = log.read().decode(errors="replace")
    return "\n".join(text.splitlines()[-LOG_LINES:])
