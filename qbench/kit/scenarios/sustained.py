"""Minutes of load, long enough for a machine to heat up.

Every stream calls without pause, in its own thread. The run is divided into steps, summarized in a
time series. Samples are kept of the first and the last part only: hours of a fast network would
fill
the memory.
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
from qbench.kit.scenarios.window import MIN_CALLS_FOR_P99, Opened, Timed

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
"""Columns of ``series.npy``, float64 ``[steps, columns]``: time of the step's end, number of calls
begun in it, their latencies, processor time over wall time (2 means two cores), the highest clock
of
the processors in use, and the processor's hottest sensor. NaN: unknown, or no call."""
CONDITIONS = ("frequency_khz_end", "temperature_c")
"""The keys of ``Conditions`` for the last columns."""
PART_S, PART_SHARE = 60.0, 0.2
"""Length of the first and of the last part: a minute, or a fifth of a load under five minutes."""
MAX_SAMPLES = 500_000
"""Maximum number of samples kept of each part: every second one, every third one, ..."""

Slices = SimpleQueue["array[int] | BaseException"]
"""A thread's results: for each step the durations of its calls in ns, or the exception that ended
it."""


def drive(opened: Opened) -> Timed:
    """Options: ``duration_s``, ``step_s``.

    Samples are of calls of the first part, then of the last."""
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
            *(np.nan if met[name] is None else met[name] for name in CONDITIONS),
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
    p99 = float(np.percentile(last, 99)) / 1e6 if len(last) >= MIN_CALLS_FOR_P99 else None
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
    """Run one stream's thread. A call longer than a step leaves the next step empty, so that all
    threads return the same number of steps. An exception in one thread ends all."""
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
    """Return the columns from ``calls`` to ``max_ms``."""
    if not len(durations):
        return [0, *[np.nan] * 4]
    return [len(durations), *np.percentile(durations, [10, 50, 99, 100]) / 1e6]


def _next(slices: Slices) -> np.ndarray:
    """Return the durations of a thread's next step, int64 ns.

    Raises:
        BaseException: the exception that ended the thread.
    """
    got = slices.get()
    if isinstance(got, BaseException):
        raise got
    return np.frombuffer(got, np.int64) if got else np.empty(0, np.int64)


def _thinned(durations: np.ndarray) -> np.ndarray:
    """Return at most ``MAX_SAMPLES`` of them, at even intervals."""
    return durations[:: -(-len(durations) // MAX_SAMPLES) or 1]
