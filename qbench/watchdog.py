"""A process that outlives this one just long enough to end its workers, however it ended."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import threading

_SCRIPT = """
import os, sys
groups = set()
for line in sys.stdin.buffer:
    (groups.add if line[:1] == b"+" else groups.discard)(int(line[1:]))
for group in groups:
    try:
        os.killpg(group, 9)
    except OSError:
        pass
"""


class Watchdog:
    """A process that lives as long as this one and then kills the groups that are still there.

    It is told of groups by lines of ``+<group>`` and ``-<group>``, and knows by the end of its
    stdin that this process is gone, however it ended. It starts with the first job."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._groups: set[int] = set()
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.end)
        os.register_at_fork(after_in_child=self._forget)

    def watch(self, group: int) -> None:
        with self._lock:
            self._groups.add(group)
            if not self._tell(f"+{group}\n"):
                self._start()
                self._tell("".join(f"+{known}\n" for known in self._groups))

    def leave(self, group: int) -> None:
        with self._lock:
            self._groups.discard(group)
            self._tell(f"-{group}\n")

    def end(self) -> None:
        """End the watchdog; it kills what is still registered. A later job starts another."""
        with self._lock:
            process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin
        process.stdin.close()
        try:
            process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _start(self) -> None:
        if self._process is not None:  # somebody has killed it
            self._process.communicate()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _SCRIPT],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )

    def _tell(self, lines: str) -> bool:
        """False if there is nobody to tell."""
        if self._process is None:
            return False
        assert self._process.stdin
        try:
            self._process.stdin.write(lines.encode())
        except BrokenPipeError:
            return False
        return True

    def _forget(self) -> None:
        """In a fork of this process, which must not keep the parent's watchdog from its end."""
        self._lock = threading.Lock()
        self._groups.clear()
        if self._process is not None and self._process.stdin:
            self._process.stdin.close()
        self._process = None
