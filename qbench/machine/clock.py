"""Time, and a periodic thread. Tests replace both by a clock that they advance."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass


@contextmanager
def every(period_s: float, call: Callable[[], None]) -> Iterator[None]:
    """Call ``call`` from one thread: immediately, then every ``period_s``, and once at the end.

    The thread sleeps in between. If ``call`` takes longer than a period, calls are left out. An
    exception of ``call`` ends the thread and is raised at the end of the block.
    """
    stop = threading.Event()
    errors: list[BaseException] = []

    def loop() -> None:
        try:
            due = time.monotonic()
            while True:
                call()
                now = time.monotonic()
                due = max(due + period_s, now + period_s / 2)
                if stop.wait(due - now):
                    call()
                    return
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=loop, name="meter", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if errors:
        raise errors[0]


@dataclass(frozen=True)
class Clock:
    """Time, as meters and watchers read it."""

    now_ns: Callable[[], int] = time.monotonic_ns
    sleep: Callable[[float], None] = time.sleep
    every: Callable[[float, Callable[[], None]], AbstractContextManager[None]] = every
