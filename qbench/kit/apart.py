"""Call a function in its own process, because it may crash or hang: drivers, damaged
installations."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
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


class Died(Exception):
    """The process ended without an answer.

    Attributes:
        how: a predicate such as ``died of SIGSEGV``.
        hung: whether it was killed at the timeout.
        step: the last step that it reported; "" before the first.
        said: the last line that it printed, or "".
    """

    def __init__(self, how: str, hung: bool, step: str, said: str) -> None:
        super().__init__(f"{how} in step '{step}': {said}")
        self.how, self.hung, self.step, self.said = how, hung, step, said


def call(function: str, timeout_s: float, **request: Any) -> Mapping[str, Any]:
    """Call a function in a fresh process with this process's environment variables.

    Args:
        function: ``module:name``; called with a :data:`Step` and the request.
        request: JSON values.

    Returns:
        The function's result: JSON values by name.

    Raises:
        Died: it crashed, raised an exception, ended its process, or reached the timeout.
    """
    command = [sys.executable, "-c", _BOOT, function, json.dumps(request)]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s
        )
    except subprocess.TimeoutExpired as error:
        how = f"did not answer within {timeout_s:.0f} s"
        raise _died(how, True, error.stdout or b"", error.stderr or b"") from error
    lines = done.stdout.splitlines()
    if done.returncode == 0 and lines:
        answer = json.loads(lines[-1])
        if isinstance(answer, dict):
            return answer
    raise _died(_ending(done.returncode), False, done.stdout, done.stderr)


def serve(function: str, request: str) -> None:
    """Serve :func:`call` in the other process. Each line of output is JSON: a string for a step, an
    object for the answer. All other output goes to standard error."""
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
    said = errors.decode(errors="replace").strip().splitlines()
    return Died(
        how, hung, json.loads(steps[-1]) if steps else "", said[-1][:LONGEST] if said else ""
    )


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended its process with exit code {code}"
    try:
        return f"died of {signal.Signals(-code).name}"
    except ValueError:  # real-time signals have no name
        return f"died of signal {-code}"
