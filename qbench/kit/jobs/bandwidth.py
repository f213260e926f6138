"""Job: measure memory bandwidth, with one thread and with several.

NumPy loops copy large arrays, or read without writing; they run in parallel because NumPy releases
the interpreter's lock. Bytes are counted as in STREAM (McCalpin 1995): a copy reads and writes each
byte once; lines that a cache fetches only to overwrite them are not counted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from qbench.kit.adapter import Adapter
from qbench.kit.main import Emit


def run(backend: Adapter, request: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Request: ``threads`` (a list of numbers of threads), ``bytes`` (size of each of two arrays;
    several times the size of all caches, else their bandwidth is measured), ``repeats``.

    Result: ``copy`` and ``read``: bytes per second of every repeat, by number of threads (as a
    string). The backend is not used."""
    emit("allocate")
    numbers = request["bytes"] // 8
    source, target = np.ones(numbers, np.int64), np.ones(numbers, np.int64)  # maps every page
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
    """Run ``work`` in threads that start together; return nanoseconds until the last one ends."""
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
