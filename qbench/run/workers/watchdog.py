"""A process that kills this one's workers when this one ends, however it ends."""

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
    """A child process that waits for the end of this one and then kills the groups still running.

    It reads lines ``+<group>`` and ``-<group>`` from its stdin; the end of its stdin means that
    this process has ended. It starts with the first job."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._groups: set[int] = set()
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.end)
        os.register_at_fork(after_in_child=self._forget)

    def watch(self, group: int) -> None:
        with self._lock:
            self._groups.add(group)
            if not self._send(f"+{group}\n"):
                self._start()
                self._send("".join(f"+{known}\n" for known in self._groups))

    def leave(self, group: int) -> None:
        with self._lock:
            self._groups.discard(group)
            self._send(f"-{group}\n")

    def end(self) -> None:
        """End the watchdog, which kills the groups still registered. A later job starts another."""
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
        if self._process is not None:  # it was killed
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

    def _send(self, lines: str) -> bool:
        """Send lines to the watchdog; False if it is not running."""
        if self._process is None:
            return False
        assert self._process.stdin
        try:
            self._process.stdin.write(lines.encode())
        except BrokenPipeError:
            return False
        return True

    def _forget(self) -> None:
        """Forget the watchdog in a fork of this process, so that it still sees the parent's end."""
        self._lock = threading.Lock()
        self._groups.clear()
        if self._process is not None and self._process.stdin:
            self._process.stdin.close()
        self._process = None
