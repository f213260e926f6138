"""Job: how fast this machine's memory is, with one thread and with more.

Large arrays are copied, and read without writing; both take NumPy's own loops, which run beside
each other. Bytes are counted as a program sees them, as STREAM does (McCalpin 1995): a copy reads
and writes each byte once; what a cache fetches in order to overwrite it is not counted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from qbench.kit.adapter import Backend
from qbench.kit.main import Emit


def run(backend: Backend, request: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Request: ``threads`` (a list of numbers), ``bytes`` (of each of two arrays; several
    times what all caches hold, or their speed is measured), ``repeats``.

    Result: ``copy`` and ``read``: for each number of threads, as a string, bytes per second of
    every repeat. The backend is not used."""
    emit("allocate")
    numbers = request["bytes"] // 8
    source, target = np.ones(numbers, np.int64), np.ones(numbers, np.int64)  # every page is there
    result: dict[str, dict[str, list[float]]] = {"copy": {}, "read": {}}
    for threads in request["threads"]:
        emit(f"threads-{threads}")
        sources, targets = np.array_split(source, threads), np.array_split(target, threads)

        def copy(index: int, into: Any = targets, of: Any = sources) -> None:
            np.copyto(into[index], of[index])

        def read(index: int, of: Any = sources) -> None:
            np.bitwise_or.reduce(of[index])

        for name, work, moved in (("copy", copy, 2 * source.nbytes), ("read", read, source.nbytes)):
            times = [_together(work, threads) for _ in range(request["repeats"])]
            result[name][str(threads)] = [moved / (ns * 1e-9) for ns in times]
    return result


def _together(work: Callable[[int], None], threads: int) -> int:
    """Nanoseconds until every thread has done its part; all begin at once."""
    begun: list[int] = []
    barrier = threading.Barrier(threads, lambda: begun.append(time.perf_counter_ns()))

    def part(index: int) -> None:
        barrier.wait()
        work(index)

    workers = [threading.Thread(target=part, args=(index,)) for index in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return time.perf_counter_ns() - begun[0]
