"""The parent's side of a worker: start it, wait without spinning, end it, report the outcome.

The transport is the worker's stdin and stdout (JSON lines) and a working folder that holds the
job's files by name. Nothing above this module assumes more, so that a worker on another machine
needs only another transport.

A worker and the compilers that it starts never outlive the parent: they form one process group,
which the parent kills when the job ends; a watchdog does so if the parent itself is killed.
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
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar, cast, get_args

from qbench.errors import MachineryError
from qbench.kit.apart import Batch, kill_group
from qbench.kit.reasons import OUT_OF_MEMORY, short
from qbench.machine.host.tree import Tree
from qbench.run.workers.watchdog import Watchdog
from qbench.spec.case import Status

T = TypeVar("T")
R = TypeVar("R")

DISK_FULL = "No space left on device"
NO_ROOM_BYTES = 65536
"""With less free space, a failure is attributed to the disk: runtimes seldom report the cause."""

LOG_NAME = ".log"
LOG_LINES, LOG_BYTES = 100, 32768
LIMITS = {
    "prepare": "prepare_timeout_s",
    "compile": "prepare_timeout_s",
    "convert": "prepare_timeout_s",
    "evaluate": "evaluate_timeout_s",
    "measure": "trial_timeout_s",
}
"""The suite's limit (``limits``) of a job's time; others have none."""
LONGEST_LINE = 1 << 24
"""Longest line of a worker, in bytes; longer output is not the protocol."""
_BOOT = """
import sys
if "" in sys.path:
    sys.path.remove("")  # the working folder holds no modules
from qbench.kit.main import main
main()
"""


@dataclass(frozen=True)
class Interpreter:
    """A Python for workers, other than the parent's own.

    Attributes:
        python: the executable.
        kit: the folder with the modules that workers import of qbench and its adapters; nothing
            else of the parent's is on the path.
        variables: additional environment variables.
    """

    python: Path
    kit: Path
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """The end of a job.

    Attributes:
        status: ``ok``, or the kind of failure.
        reason: why it failed, in one line (``qbench.kit.reasons``); "" when ok.
        result: the job's answer; empty unless ok.
        phase: the last phase that the worker announced.
        log: the last lines printed by the worker or its runtime, with the raw text of the error;
            "" when ok.
        seconds: wall time of the whole process; 0 if there was none.
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
    """A working folder for one worker, removed afterwards. Its name holds host and process."""
    if parent is not None:
        parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{_mark()}-{os.getpid()}-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_stale(parent: Path) -> None:
    """Remove the scratch folders in ``parent`` of this machine's killed processes. Folders of live
    processes and of other machines stay."""
    import psutil

    for folder in parent.glob("*") if parent.is_dir() else ():
        mark, _, rest = folder.name.rpartition("-")
        mark, _, pid = mark.rpartition("-")
        if mark == _mark() and rest and pid.isdecimal() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def _mark() -> str:
    """The scope of process numbers: this host or container (a container has its own name)."""
    return f"qbench-{platform.node()}".replace(os.sep, "_")


_watchdog = Watchdog()


# --------------------------------------------------------------------------- several at a time


def in_parallel(items: Sequence[T], work: Callable[[T], R], workers: int) -> list[R]:
    """Call ``work`` on every item, ``workers`` at a time; return the results in order.

    The first error, or an interrupt, ends all of it at once, including the jobs that ``work``
    runs. Never used during measurements."""
    batch = Batch()
    pool = ThreadPoolExecutor(max_workers=workers, initializer=batch.join)
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
        job: name of a module in ``qbench.kit``.
        backend: ``module:Class``.
        request: the job's own fields, JSON values; files are named as in ``files``.
        folder: the worker's working folder, unused so far; the worker's files stay there.
        files: files and folders to link into ``folder``, by their names there.
        timeout_s: seconds after which the worker's process group is killed.
        memory_limit_bytes: private memory that the worker may use; None for no limit.
        interpreter: the Python to run it with; None for the parent's own.

    Raises:
        Ended: the job belongs to an ``in_parallel`` that has ended.
        ValueError: a file has the log's name.
    """
    batch = Batch.current()
    batch.check()
    files = files or {}
    if LOG_NAME in files:
        raise ValueError(f"a job's file cannot be called {LOG_NAME}: that is the worker's log")
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
            # temporary files are removed with the folder
            env={**_variables(interpreter), "TMPDIR": str(folder.absolute())},
            start_new_session=True,
        )
        talk = _Conversation()
        try:
            _watchdog.watch(process.pid)
            batch.add(process)
            talk = _converse(process, message, begin / 1e9 + timeout_s)
        finally:
            _end(process, patience_s=0.5 if talk.ended else 0)
            _watchdog.leave(process.pid)
            batch.remove(process)
        seconds = (time.monotonic_ns() - begin) / 1e9
        answer = talk.answer
        if answer is not None and answer.status == "ok":
            return Outcome("ok", result=answer.result, phase=talk.phase, seconds=seconds)
        text = _last_lines(log)
    if not talk.ended:
        remedy = f": raise {LIMITS[job]} in the suite's limits" if job in LIMITS else ""
        reason = f"the limit of {timeout_s:g} s ended it{_during(talk)}{remedy}"
        answer = _Answer("timeout", reason)
    if answer is None:
        answer = _cause_of_death(process.returncode, ooms, text, _during(talk))
    reason = answer.reason
    if answer.status == "oom" and memory_limit_bytes:
        reason += f" (the suite's limits give it memory_mb {memory_limit_bytes / 1e6:g})"
    return Outcome(answer.status, short(reason), phase=talk.phase, log=text, seconds=seconds)


def _variables(interpreter: Interpreter | None) -> dict[str, str]:
    """A worker's environment variables. Another interpreter finds its own packages and the kit
    only: none of the parent's packages, none of the user's site folder."""
    if interpreter is None:
        return dict(os.environ)
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONHOME", "VIRTUAL_ENV")}
    path = {"PYTHONPATH": str(interpreter.kit.absolute()), "PYTHONNOUSERSITE": "1"}
    return {**kept, **interpreter.variables, **path}


def stop_if_disk_full(outcome: Outcome, folder: Path) -> None:
    """Stop the run on a full disk: it is not a property of the case, and the run can continue
    later.

    Args:
        folder: the folder that the job wrote to.

    Raises:
        MachineryError: the job failed, and its disk is full.
    """
    if outcome.status in ("ok", "skipped"):
        return
    said_so = DISK_FULL in outcome.reason + outcome.log
    if said_so or shutil.disk_usage(folder).free < NO_ROOM_BYTES:
        raise MachineryError(
            "the disk is full",
            "Make room, then run the same command again: it continues from here.",
        )


@dataclass(frozen=True)
class _Answer:
    """A worker's last event."""

    status: Status
    reason: str = ""
    result: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class _Conversation:
    """The events of a worker.

    Attributes:
        answer: None if there was none.
        phase: the last phase announced; "" if there was none.
        ended: the worker has answered or closed its stream, and is about to exit.
    """

    answer: _Answer | None = None
    phase: str = ""
    ended: bool = False


def _converse(
    process: subprocess.Popen[bytes], message: Mapping[str, Any], deadline: float
) -> _Conversation:
    """Send the request; read events until the answer, the end of the stream or the deadline.

    Args:
        deadline: in seconds of ``time.monotonic``."""
    assert process.stdin and process.stdout
    with suppress(BrokenPipeError):
        process.stdin.write(json.dumps(message).encode() + b"\n")
        process.stdin.flush()
    talk, buffer = _Conversation(), b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not selector.select(left):
                return talk
            chunk = os.read(process.stdout.fileno(), 65536)
            talk.ended = not chunk
            *lines, buffer = (buffer + chunk).split(b"\n")
            events: Iterable[str | _Answer] = map(_event, lines)
            if len(buffer) > LONGEST_LINE:
                events = [_no_event(buffer)]
            for event in events:
                if isinstance(event, str):
                    talk.phase = event
                else:
                    talk.answer, talk.ended = event, True
                    break
            if talk.ended:
                return talk


def _event(line: bytes) -> str | _Answer:
    """A worker's line: the name of a phase, or the answer; an error if it is neither."""
    with suppress(ValueError, RecursionError):
        match json.loads(line):
            case {"event": "phase", "phase": str(phase)}:
                return phase
            case {"event": "done", "result": dict(result)}:
                return _Answer("ok", result=result)
            case {"event": "failed", "status": str(status), "reason": str(reason)}:
                if status in get_args(Status)[1:]:
                    return _Answer(cast("Status", status), reason)
    return _no_event(line)


def _no_event(line: bytes) -> _Answer:
    shown = line[:80].decode(errors="replace")
    reason = f"something other than the worker wrote to the stream of its answers: {shown!r}"
    return _Answer("error", reason)


def _end(process: subprocess.Popen[bytes], patience_s: float) -> None:
    """Wait a moment for a worker that has answered or is dying; then kill the rest of its group."""
    try:
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=patience_s)
    finally:
        kill_group(process)
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            with suppress(BrokenPipeError):
                pipe.close()


def _during(talk: _Conversation) -> str:
    return f" in the phase '{talk.phase}'" if talk.phase else ""


def _cause_of_death(code: int, ooms: int | None, log: str, during: str) -> _Answer:
    """Why a worker ended without an answer.

    Args:
        code: its exit code; a signal's number, negated.
        ooms: ``_oom_kills`` before it was started.
    """
    if any(sign in log for sign in OUT_OF_MEMORY):
        return _Answer("oom", f"out of memory{during}")
    now = _oom_kills()
    if code == -signal.SIGKILL and ooms is not None and now is not None and now > ooms:
        return _Answer("oom", "killed by the kernel because memory ran out")
    if code < 0:
        return _Answer("crashed", f"the worker died of {_signal_name(-code)}{during}")
    return _Answer("crashed", f"the worker ended without an answer{during}, exit code {code}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # real-time signals have none
        return f"signal {number}"


def _oom_kills() -> int | None:
    """Number of processes that the kernel has killed because memory ran out; None: unknown."""
    return Tree().pairs("proc/vmstat").get("oom_kill")


def _last_lines(log: IO[bytes]) -> str:
    log.seek(0, os.SEEK_END)
    log.seek(max(0, log.tell() - LOG_BYTES))
    text = log.read().decode(errors="replace")
    return "\n".join(text.splitlines()[-LOG_LINES:])
