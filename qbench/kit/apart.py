"""Call a function in its own process, because it may crash or hang: drivers, damaged
installations, a user's code.

The process and those that it starts are one group, which ends with the call, with the batch of
calls that it belongs to (:class:`Batch`), and with this process, however that ends.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

Step = Callable[[str], None]
"""Reports the name of the next step."""

LONGEST = 300
"""Length at which a process's last line of output is cut, in characters."""

_BOOT = """
import sys
if "" in sys.path:
    sys.path.remove("")  # the working folder is no place for modules
from qbench.kit.apart import serve
serve(*sys.argv[1:])
"""


class Ended(Exception):
    """The process was killed with its batch: there is no outcome to record."""


class Batch:
    """Processes that end together: those that the threads which have joined it start. After ``end``
    none runs, and none will start."""

    _of_thread = threading.local()

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live: set[subprocess.Popen[bytes]] = set()
        self._over = False

    def join(self) -> None:
        """Let the calling thread belong to this batch."""
        self._of_thread.batch = self

    @classmethod
    def current(cls) -> Batch:
        """The calling thread's batch; one of its own if it has joined none."""
        batch: Batch | None = getattr(cls._of_thread, "batch", None)
        return batch or cls()

    def check(self) -> None:
        """
        Raises:
            Ended: the batch has ended.
        """
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
                kill_group(process)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that leads a group, and the group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


class Died(Exception):
    """The process ended without an answer.

    Attributes:
        how: a predicate such as ``died of SIGSEGV``.
        hung: whether it was killed at the timeout.
        step: the last step that it reported; "" before the first.
        said: the last line that it printed, or "".
        log: all that it printed.
    """

    def __init__(self, how: str, hung: bool, step: str, log: str) -> None:
        lines = log.strip().splitlines()
        self.said = lines[-1][:LONGEST] if lines else ""
        super().__init__(f"{how} in step '{step}': {self.said}")
        self.how, self.hung, self.step, self.log = how, hung, step, log


def call(
    function: str, timeout_s: float, memory_limit_bytes: int | None = None, **request: Any
) -> Mapping[str, Any]:
    """Call a function in a fresh process with this process's environment variables.

    Args:
        function: ``module:name``; called with a :data:`Step` and the request.
        memory_limit_bytes: private memory that it may use; None for no limit.
        request: JSON values.

    Returns:
        The function's result: JSON values by name.

    Raises:
        Died: it crashed, raised an exception, ended its process, or reached the timeout.
        Ended: it was killed with its batch.
    """
    batch = Batch.current()
    batch.check()
    command = [sys.executable, "-c", _BOOT, function, json.dumps(request), str(memory_limit_bytes)]
    its_end, ours = os.pipe()  # the process ends when ours is closed, also by our death
    try:
        process = subprocess.Popen(
            command,
            stdin=its_end,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            batch.add(process)
            output, errors = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            kill_group(process)
            try:
                output, errors = process.communicate(timeout=1)
            except subprocess.TimeoutExpired as late:  # what left its session holds the pipes
                output, errors = late.output or b"", late.stderr or b""
            how = f"did not answer within {timeout_s:g} s"
            raise _died(how, True, output, errors) from None
        finally:
            kill_group(process)
            process.wait()
            batch.remove(process)
    finally:
        os.close(its_end)
        os.close(ours)
    lines = output.splitlines()
    if process.returncode == 0 and lines:
        answer = json.loads(lines[-1])
        if isinstance(answer, dict):
            return answer
    raise _died(_ending(process.returncode), False, output, errors)


def serve(function: str, request: str, memory_limit_bytes: str) -> None:
    """Serve :func:`call` in the other process. Each line of output is JSON: a string for a step, an
    object for the answer. All other output goes to standard error."""
    from qbench.kit.main import end_when_pipe_closes, limit_memory

    threading.Thread(target=end_when_pipe_closes, daemon=True).start()
    if memory_limit_bytes != "None":
        limit_memory(int(memory_limit_bytes))
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def reply(value: object) -> None:
        replies.write(json.dumps(value) + "\n")
        replies.flush()

    module, _, name = function.partition(":")
    reply(getattr(importlib.import_module(module), name)(reply, **json.loads(request)))
    os._exit(0)  # drivers may crash in their destructors; the answer is already written


def _died(how: str, hung: bool, output: bytes, errors: bytes) -> Died:
    steps = output.decode(errors="replace").splitlines()
    return Died(how, hung, json.loads(steps[-1]) if steps else "", errors.decode(errors="replace"))


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended its process with exit code {code}"
    try:
        return f"died of {signal.Signals(-code).name}"
    except ValueError:  # real-time signals have no name
        return f"died of signal {-code}"
