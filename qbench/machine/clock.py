"""A clock that sampling threads keep to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass


@contextmanager
def every(period_s: float, call: Callable[[], None]) -> Iterator[None]:
    """Call ``call`` from one thread: at once, then every ``period_s``, and once more at the end.

    The thread sleeps in between; where ``call`` takes longer than a period, calls are left out.
    An error that it raises ends the thread and comes out at the end of the block.
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
    """Time, as the energy pass sees it; tests have one that they move themselves."""

    now_ns: Callable[[], int] = time.monotonic_ns
    sleep: Callable[[float], None] = time.sleep
    every: Callable[[float, Callable[[], None]], AbstractContextManager[None]] = every
