"""Entry point of a worker process, and the protocol it speaks.

A worker does one job and ends. It reads one JSON line from stdin (the request), writes JSON
lines to what was stdout when it started (events, then exactly one answer), and everything that
anyone else prints goes to stderr, which the parent keeps as a log. Files are named relative to
the worker's working folder; the transport puts them there and fetches them from there.

Request: ``{"job": "measure", "backend": "module:Class", ...}``; the rest is the job's own.

Answers::

    {"event": "phase", "phase": "load"}                          while it works
    {"event": "done", "result": {...}}                           the job's result
    {"event": "failed", "status": "skipped", "reason": "..."}    see ``_failure``

The worker kit (this package and ``qbench/kit/adapter.py``) needs only the standard library, NumPy
and one adapter with its runtime, and keeps to Python 3.10.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

STARTED_NS = time.monotonic_ns()
"""When the interpreter had started and began with this module (the machine's monotonic clock)."""

Emit = Callable[[str], None]


def main() -> None:
    """Serve the one request on stdin."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def reply(line: str) -> None:
        replies.write(line + "\n")
        replies.flush()

    line = sys.stdin.readline()
    if not line:
        return  # the parent has gone before it could ask
    request = json.loads(line)
    threading.Thread(target=_end_when_pipe_closes, daemon=True).start()
    try:
        result = _run(request, lambda phase: reply(json.dumps({"event": "phase", "phase": phase})))
        answer = json.dumps({"event": "done", "result": result}, default=_refuse)
    except BaseException as error:
        import traceback  # costs 3 ms, which a trial that goes well need not pay

        with suppress(OSError):  # a full disk may refuse the log, but not the answer
            traceback.print_exc()
        answer = json.dumps({"event": "failed", **_failure(error)})
    reply(answer)
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(0)  # runtimes crash or hang in their destructors; everything is written by now


def _run(request: dict[str, Any], emit: Emit) -> dict[str, Any]:
    if request.get("memory_limit_bytes"):
        _limit_memory(request["memory_limit_bytes"])
    module, _, name = request["backend"].partition(":")
    backend = getattr(importlib.import_module(module), name)()
    job = importlib.import_module(f"qbench.kit.jobs.{request['job']}")
    return job.run(backend, request, emit)


def _refuse(value: object) -> None:
    """Called by ``json`` with what it cannot write."""
    kind = type(value)
    raise TypeError(
        f"the adapter's answer holds a {kind.__module__}.{kind.__qualname__}, which JSON cannot: "
        "give Python's own int, float, str, list or dict"
    )


def _failure(error: BaseException) -> dict[str, str]:
    """Status and reason of what ended the job."""
    from qbench.kit.adapter import PrepareError, Unsupported

    text = str(error) or type(error).__name__
    if isinstance(error, Unsupported):
        status = "skipped"
    elif isinstance(error, MemoryError) or any(
        sign in text for sign in ("bad_alloc", "Failed to allocate memory", "Cannot allocate")
    ):
        status, text = "oom", f"out of memory: {text}"
    elif isinstance(error, PrepareError):
        status = "prepare_failed"
    else:
        status, text = "error", f"{type(error).__name__}: {text}"
    return {"status": status, "reason": text}


def _limit_memory(limit: int) -> None:
    """Let allocations fail beyond ``limit`` bytes of private memory (Linux counts heap and
    anonymous maps as data; file-backed maps such as shared libraries are not counted)."""
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _end_when_pipe_closes() -> None:
    """The parent holds the other end of stdin for as long as it wants this job. When it is gone,
    end the whole process group, grandchildren (compilers) too."""
    while os.read(0, 4096):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)
