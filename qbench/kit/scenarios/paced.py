"""A camera: one frame every ``1 / rate_hz`` seconds, whether or not the last one is done.

A frame that arrives while another is processed is dropped, as by a camera without a queue. Every
frame is bound, inferred and read. Its response time runs from the time it was due to its result, so
it includes the operating system's delay in waking the process.

Between frames the process sleeps. Spinning would be punctual, but would hide the processor time
that is left, and the clock frequency and caches that a model meets after a pause.
"""

from __future__ import annotations

import time
from array import array

import numpy as np

from qbench.kit.scenarios.lane import Lane, describe, library_of, put_back
from qbench.kit.scenarios.window import MIN_CALLS_FOR_P99, Opened, Timed


def drive(opened: Opened) -> Timed:
    """Options: ``rate_hz``, ``duration_s``, ``deadline_ms`` (None: one period).

    Samples are the response times of the processed frames."""
    clock = time.perf_counter_ns
    period = 1e9 / opened.options["rate_hz"]
    frames = max(1, round(opened.options["duration_s"] * opened.options["rate_hz"]))
    library = library_of(opened)
    items = library.size // opened.config.batch or 1
    lane = Lane(opened.streams[0], library)

    responses, wakes = array("q"), array("q")
    opened.begin()
    cpu_begin, begin = time.process_time_ns(), clock()
    frame = 0
    while frame < frames:
        due = begin + round(frame * period)
        wait = due - clock()
        if wait > 0:
            time.sleep(wait / 1e9)
            wakes.append(clock() - due)
        first = frame % items * opened.config.batch
        lane.run(range(first, min(first + opened.config.batch, library.size)))
        done = clock()
        responses.append(done - due)
        # the next frame that is due after this one is done
        frame = max(frame + 1, -int((begin - done) // period))
    end = begin + round(frames * period)
    if clock() < end:
        time.sleep((end - clock()) / 1e9)  # the pause after the last frame is part of the window
    wall_ns, cpu_ns = clock() - begin, time.process_time_ns() - cpu_begin

    put_back(opened)
    samples = np.asarray(responses, dtype=np.int64)
    deadline_ms = opened.options["deadline_ms"]
    deadline = period if deadline_ms is None else deadline_ms * 1e6
    late, dropped = int((samples > deadline).sum()), frames - len(samples)
    p50, p99 = np.percentile(samples, [50, 99])
    return Timed(
        samples=samples,
        items=len(samples) * opened.config.batch,
        wall_ns=wall_ns,
        cpu_ns=cpu_ns,
        figures={
            "paced_hz": len(samples) / wall_ns * 1e9,
            "deadline_miss_rate": (late + dropped) / frames,
            "paced_jitter_ms": float(p99 - p50) / 1e6
            if len(samples) >= MIN_CALLS_FOR_P99
            else None,
            "processor_left": max(0.0, 1 - cpu_ns / (wall_ns * opened.config.threads)),
        },
        facts={
            "frames": frames,
            "late": late,
            "dropped": dropped,
            "deadline_ms": deadline / 1e6,
            "wake_p50_us": float(np.median(wakes)) / 1e3 if wakes else None,
            "wake_max_us": max(wakes) / 1e3 if wakes else None,
            **describe([lane]),
        },
    )
