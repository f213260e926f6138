"""Calls in a closed loop, on every stream: the timed loop behind all latencies.

The two clock readings of a sample enclose the call of ``Stream.infer`` and nothing else. Processor
time is read between blocks of calls only, since reading it takes longer than a small network.
"""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from qbench.kit.adapter import Stream
from qbench.kit.readings.conditions import thread_ends
from qbench.kit.scenarios.window import Opened, Timed

BLOCK_NS = 1_000_000
"""Minimum length of a block of calls: long enough that reading processor time around it (a third of
a microsecond) is negligible."""
CLEAN_RATIO, CLEAN_NS = 1.02, 2_000
"""A block is clean if its wall time is at most its processor time times the first, plus the second
in nanoseconds: nothing else had the processor meanwhile."""
OWN_WORK = 0.9
"""Minimum share of the process's processor time that the calling threads must use for the two
figures of ``_describe`` that rest on it."""
HEAD = 5
"""The first of this many parts of a window is compared with the rest."""
MIN_CALLS = 20
"""Minimum calls for splitting a window into parts."""


class Loop(NamedTuple):
    """Measurements of one stream's loop.

    Attributes:
        samples: ``[calls]`` int64 ns.
        calls: ``[blocks]`` number of calls of each block.
        wall_ns, cpu_ns: ``[blocks]`` wall time, and processor time of the calling thread.
    """

    samples: array[int]
    calls: array[int]
    wall_ns: array[int]
    cpu_ns: array[int]


def drive(opened: Opened) -> Timed:
    """Call every stream in a loop for ``timed_ns``, each in its own thread if there are several.

    ``wall_ns`` and ``cpu_ns`` (of the whole process) span the window; throughput is items over
    wall time."""
    streams = opened.streams
    cpu_begin, begin = time.process_time_ns(), time.perf_counter_ns()
    if len(streams) == 1:
        loops = [time_blocks(streams[0].infer, opened.timed_ns)]
    else:
        loops = in_threads(streams, lambda stream: time_blocks(stream.infer, opened.timed_ns))
    wall_ns, cpu_ns = time.perf_counter_ns() - begin, time.process_time_ns() - cpu_begin
    samples = np.concatenate([np.frombuffer(loop.samples, np.int64) for loop in loops])
    return Timed(
        samples=samples,
        items=len(samples) * opened.config.batch,
        wall_ns=wall_ns,
        cpu_ns=cpu_ns,
        facts={"loop": _describe(loops, cpu_ns)},
    )


def time_calls(infer: Callable[[], None], length_ns: int, least: int, deadline: int) -> array[int]:
    """Return the durations in ns of successive calls: for ``length_ns`` and at least ``least``
    calls, with no new call after ``deadline``; at least one call."""
    clock = time.perf_counter_ns
    samples = array("q")
    append = samples.append
    end_soonest = clock() + length_ns
    while True:
        before = clock()
        infer()
        after = clock()
        append(after - before)
        if after >= deadline or (after >= end_soonest and len(samples) >= least):
            return samples


def time_blocks(infer: Callable[[], None], length_ns: int) -> Loop:
    """Run blocks of calls for ``length_ns``."""
    wall, cpu = time.perf_counter_ns, time.thread_time_ns
    loop = Loop(array("q"), array("q"), array("q"), array("q"))
    before = wall()
    end = before + length_ns
    while before < end:
        used = cpu()
        block = time_calls(infer, BLOCK_NS, 1, end)
        loop.cpu_ns.append(cpu() - used)
        after = wall()
        loop.wall_ns.append(after - before)
        before = after
        loop.calls.append(len(block))
        loop.samples.extend(block)
    return loop


def in_threads(streams: Sequence[Stream], work: Callable[[Stream], Any]) -> list[Any]:
    """Call ``work`` on every stream, each in its own thread.

    Raises:
        BaseException: the first exception of a thread, after all have ended.
    """
    results: list[Any] = []
    errors: list[BaseException] = []

    def one(stream: Stream) -> None:
        try:
            results.append(work(stream))
        except BaseException as error:
            errors.append(error)
        thread_ends()

    threads = [threading.Thread(target=one, args=(stream,)) for stream in streams]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


def _describe(loops: Sequence[Loop], cpu_ns: int) -> dict[str, float | None]:
    """Summarize the window by the order of its calls and their processor time.

    ``clean_share``: share of the time in clean blocks. ``head_over_rest``: median of the first
    fifth of the calls over the median of the others; None with few calls. ``worst_work``: maximum
    processor time of a call, by blocks, over the median block's, of blocks that took a millisecond
    more: a compiler takes that long, a cold cache does not. ``clean_share`` and ``worst_work`` are
    None if the calling threads did less than ``OWN_WORK`` of the process's work, ``cpu_ns``: the
    other threads are not observed."""
    samples = [np.frombuffer(loop.samples, np.int64) for loop in loops]
    enough = all(len(calls) >= MIN_CALLS for calls in samples)
    found: dict[str, float | None] = {
        "clean_share": None,
        "head_over_rest": max(_head_over_rest(calls) for calls in samples) if enough else None,
        "worst_work": None,
    }
    if sum(sum(loop.cpu_ns) for loop in loops) >= OWN_WORK * cpu_ns:
        calls, wall, cpu = (
            np.concatenate([np.frombuffer(getattr(loop, name), np.int64) for loop in loops])
            for name in ("calls", "wall_ns", "cpu_ns")
        )
        clean = wall <= CLEAN_RATIO * cpu + CLEAN_NS
        found["clean_share"] = float(wall[clean].sum() / wall.sum())
        usual = float(np.median(cpu / calls))
        much = cpu - calls * usual >= BLOCK_NS
        if usual > 0:
            found["worst_work"] = float((cpu[much] / calls[much]).max(initial=usual) / usual)
    return found


def _head_over_rest(samples: np.ndarray) -> float:
    head = len(samples) // HEAD
    return float(np.median(samples[:head]) / np.median(samples[head:]))
