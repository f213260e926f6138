"""Minutes of load, so that a machine that heats up shows it.

Every stream calls without pause, in a thread of its own. The run is cut into steps, and a time
series tells of each step what a reader of the whole would like to see. Single calls are kept only
of the first and the last part: hours of a fast network would fill the memory.
"""

from __future__ import annotations

import threading
import time
from array import array
from queue import SimpleQueue

import numpy as np

from qbench.kit.adapter import Stream
from qbench.kit.readings.conditions import Conditions, thread_ends
from qbench.kit.scenarios.closed_loop import time_calls
from qbench.kit.scenarios.window import FEWEST_FOR_P99, Opened, Timed

COLUMNS = (
    "end_s",
    "calls",
    "p10_ms",
    "p50_ms",
    "p99_ms",
    "max_ms",
    "processors",
    "frequency_khz",
    "temperature_c",
)
"""Of ``series.npy``, float64 ``[steps, columns]``, one row a step: when it ended, the calls that it
began, their latencies, processor time over wall time (2 is two cores), the clock of the processors
that were in use, and the processor's hottest sensor. NaN: not known, or no call."""
MET = ("frequency_khz_end", "temperature_c")
"""The last columns, as ``Conditions`` calls them."""
PART_S, PART_SHARE = 60.0, 0.2
"""The first and the last part are a minute each, or a fifth of a load that is shorter than five."""
MOST_SAMPLES = 500_000
"""Of each part, so many calls are kept at the most: every second one, every third one, ..."""

Slices = SimpleQueue["array[int] | BaseException"]
"""What a thread hands over: for each step the durations of its calls in ns; or why it ended."""


def drive(opened: Opened) -> Timed:
    """Options: ``duration_s``, ``step_s``.

    The samples are calls of the first part, then of the last one."""
    step_ns = int(opened.options["step_s"] * 1e9)
    steps = max(2, round(opened.options["duration_s"] / opened.options["step_s"]))
    part = max(1, min(round(PART_S / opened.options["step_s"]), int(steps * PART_SHARE)))

    conditions = Conditions()
    conditions.begin()
    cpu_begin, begin = time.process_time_ns(), time.perf_counter_ns()
    queues: list[Slices] = [SimpleQueue() for _ in opened.streams]
    failed: list[BaseException] = []
    threads = [
        threading.Thread(target=_load, args=(stream, begin, step_ns, steps, queue, failed))
        for stream, queue in zip(opened.streams, queues, strict=True)
    ]
    for thread in threads:
        thread.start()
    series = np.empty((steps, len(COLUMNS)))
    kept: list[np.ndarray] = []
    calls, then, used = 0, begin, cpu_begin
    for step in range(steps):
        durations = np.concatenate([_next(queue) for queue in queues])
        now, cpu = time.perf_counter_ns(), time.process_time_ns()
        met = conditions.end()
        series[step] = [
            (now - begin) / 1e9,
            *_latencies(durations),
            (cpu - used) / (now - then),
            *(np.nan if met[name] is None else met[name] for name in MET),
        ]
        if step < part or step >= steps - part:
            kept.append(durations)
        calls, then, used = calls + len(durations), now, cpu
    for thread in threads:
        thread.join()
    wall_ns, cpu_ns = time.perf_counter_ns() - begin, time.process_time_ns() - cpu_begin

    np.save("series.npy", series)
    first, last = (np.concatenate(parts) for parts in (kept[:part], kept[part:]))
    p50 = float(np.median(last)) / 1e6 if len(last) else None
    p99 = float(np.percentile(last, 99)) / 1e6 if len(last) >= FEWEST_FOR_P99 else None
    ratio = float(np.median(last) / np.median(first)) if len(first) and len(last) else None
    samples = [_thinned(first), _thinned(last)]
    return Timed(
        samples=np.concatenate(samples),
        items=calls * opened.config.batch,
        wall_ns=wall_ns,
        cpu_ns=cpu_ns,
        figures={
            "sustained_p50_ms": p50,
            "sustained_p99_ms": p99,
            "sustained_ratio": ratio,
        },
        facts={
            "columns": list(COLUMNS),
            "part_s": part * step_ns / 1e9,
            "calls": calls,
            "calls_of_parts": [len(first), len(last)],
            "samples_of_parts": [len(each) for each in samples],
        },
        files=("series.npy",),
    )


def _load(
    stream: Stream,
    begin: int,
    step_ns: int,
    steps: int,
    slices: Slices,
    failed: list[BaseException],
) -> None:
    """One stream's thread. A call that is longer than a step leaves the next one empty, so that all
    threads hand over as many. What ends one thread ends all."""
    try:
        for step in range(steps):
            end = begin + (step + 1) * step_ns
            if failed:
                raise failed[0]
            left = end - time.perf_counter_ns()
            slices.put(time_calls(stream.infer, left, 1, end) if left > 0 else array("q"))
    except BaseException as error:
        failed.append(error)
        slices.put(error)
    thread_ends()


def _latencies(durations: np.ndarray) -> list[float]:
    """The columns from ``calls`` to ``max_ms``."""
    if not len(durations):
        return [0, *[np.nan] * 4]
    return [len(durations), *np.percentile(durations, [10, 50, 99, 100]) / 1e6]


def _next(slices: Slices) -> np.ndarray:
    """What a thread did in its next step, as int64 ns.

    Raises:
        BaseException: what ended the thread.
    """
    got = slices.get()
    if isinstance(got, BaseException):
        raise got
    return np.frombuffer(got, np.int64) if got else np.empty(0, np.int64)


def _thinned(durations: np.ndarray) -> np.ndarray:
    """At most ``MOST_SAMPLES`` of them, evenly taken."""
    return durations[:: -(-len(durations) // MOST_SAMPLES) or 1]
