"""Entry point and protocol of a worker process.

A worker does one job and exits. It reads the request, one JSON line, from stdin, and writes JSON
lines (events, then exactly one answer) to the stdout that it was started with. All other output
goes to stderr, which the parent keeps as a log. File names are relative to the worker's working
folder; the transport puts files there and fetches them from there.

Request: ``{"job": "measure", "backend": "module:Class", ...}``; the other keys depend on the job.

Answers::

    {"event": "phase", "phase": "load"}                          while it works
    {"event": "done", "result": {...}}                           the job's result
    {"event": "failed", "status": "skipped", "reason": "..."}    see ``qbench.kit.reasons``

The worker kit runs on Python 3.10 and needs only the standard library, NumPy and one adapter with
its runtime.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qbench.kit.reasons import Known

STARTED_NS = time.monotonic_ns()
"""Time at which the started interpreter reached this module, by the machine's monotonic clock."""

Emit = Callable[[str], None]


def main() -> None:
    """Serve one request from stdin."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def reply(line: str) -> None:
        replies.write(line + "\n")
        replies.flush()

    line = sys.stdin.readline()
    if not line:
        return  # the parent died before it sent a request
    request = json.loads(line)
    known: Sequence[Known] = ()
    threading.Thread(target=end_when_pipe_closes, daemon=True).start()
    try:
        if request.get("memory_limit_bytes"):
            limit_memory(request["memory_limit_bytes"])
        backend = _load(request["backend"])
        known = getattr(backend, "messages", ())  # a probe may find out that it is no adapter
        job = importlib.import_module(f"qbench.kit.jobs.{request['job']}")

        def emit(phase: str) -> None:
            reply(json.dumps({"event": "phase", "phase": phase}))

        result = job.run(backend, request, emit)
        answer = json.dumps({"event": "done", "result": result}, default=_refuse)
    except BaseException as error:
        import traceback  # takes 3 ms, only needed here

        from qbench.kit.reasons import explain

        with suppress(OSError):  # on a full disk the log fails, the answer does not
            traceback.print_exc()
        status, reason = explain(error, known)
        answer = json.dumps({"event": "failed", "status": status, "reason": reason})
    reply(answer)
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(0)  # runtimes may crash or hang in their destructors; everything is written


def _load(target: str) -> Any:
    """A new object of the class ``module:Class``."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)()


def _refuse(value: object) -> None:
    """Raise ValueError for a value that ``json`` cannot write."""
    kind = type(value)
    raise ValueError(
        f"the adapter's answer holds a {kind.__module__}.{kind.__qualname__}, which is not JSON: "
        "return Python's own int, float, str, list or dict"
    )


def limit_memory(limit: int) -> None:
    """Make allocations fail beyond ``limit`` bytes of data (on Linux the heap and anonymous maps,
    not file-backed maps such as shared libraries)."""
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def end_when_pipe_closes() -> None:
    """Kill the process group, with grandchildren such as compilers, when the parent closes stdin or
    dies."""
    while os.read(0, 4096):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)
