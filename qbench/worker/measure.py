"""Job: one trial. Opens an artifact and times it; raw nanoseconds come back as ``samples.npy``.

Nothing is imported here but the standard library, NumPy and the one runtime, and between the two
clock readings of a sample stands the call of ``Stream.infer`` and nothing else.
"""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from qbench.backend import Backend, Model, RunConfig, Stream
from qbench.worker.evaluate import load_artifact, save_outputs
from qbench.worker.main import STARTED_NS, Emit
from qbench.worker.proc import Memory, involuntary_switches

WINDOW_NS = 20_000_000
"""Warm-up is judged by windows of at least this length."""
WINDOW_CALLS = 5
"""... and of at least so many calls."""
STABLE_CHANGE = 0.02
"""Warm when the medians of two windows in a row differ by at most this share, twice running."""


def run(backend: Backend, request: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Request: ``artifact`` (folder), ``config``, ``feeds`` (by input name, ``.npy`` file of
    ``[items, ...]``, of which the first batch is used), ``warmup_s``, ``timed_s``,
    ``spawned_ns`` (the parent's monotonic clock when it started this process, if it is the same
    machine's)."""
    clock = time.perf_counter_ns
    config = RunConfig(**request["config"])
    artifact = load_artifact(Path(request["artifact"]))
    feed = {
        name: _first_batch(np.load(file, mmap_mode="r"), config.batch)
        for name, file in request["feeds"].items()
    }
    phases: dict[str, int | None] = {}
    spawned = request.get("spawned_ns")
    phases["start_ns"] = STARTED_NS - spawned if spawned else None

    emit("import")
    begin = clock()
    version = backend.import_runtime()
    phases["import_ns"] = clock() - begin
    memory = Memory()

    emit("load")
    begin = clock()
    program = backend.open(artifact, config)
    streams = [program.stream() for _ in range(config.streams)]
    phases["load_ns"] = clock() - begin
    load_peak = memory.over_baseline(memory.peak())
    memory.reset()

    begin = clock()
    for stream in streams:
        stream.bind(feed)
    phases["bind_ns"] = (clock() - begin) // len(streams)
    begin = clock()
    streams[0].infer()
    phases["first_inference_ns"] = clock() - begin
    phases["cold_ns"] = time.monotonic_ns() - spawned if spawned else None

    emit("warmup")
    warmup = _warm_up(streams, int(request["warmup_s"] * 1e9))
    peak = memory.over_baseline(memory.peak())  # before samples pile up, which are not the model's
    emit("timed")
    timed = _timed(streams, int(request["timed_s"] * 1e9))
    outputs = _outputs(artifact.model, streams[0], config.batch)
    np.save("samples.npy", timed.pop("samples"))
    return {
        **timed,
        "outputs": save_outputs(outputs),
        "phases": phases,
        "warmup": warmup,
        "runtime_version": version,
        "memory": {
            "baseline_bytes": memory.baseline,
            "load_peak_bytes": load_peak,
            "peak_bytes": peak,
            "process_peak_bytes": memory.process_peak,
        },
    }


def _first_batch(items: np.ndarray, batch: int) -> np.ndarray:
    """The first ``batch`` items, repeated from the start where there are fewer."""
    return np.ascontiguousarray(items[np.arange(batch) % len(items)])


def _outputs(model: Model, stream: Stream, batch: int) -> dict[str, np.ndarray]:
    """What the last timed call computed, for the parent to compare with the evaluation. A program
    that returned nothing, or not one row per item, has not done the work."""
    outputs = stream.read()
    for name in model.outputs:
        if name not in outputs or len(outputs[name]) != batch:
            got = list(outputs[name].shape) if name in outputs else "nothing"
            raise RuntimeError(f"output '{name}' should hold {batch} items, got {got}")
    return {name: outputs[name] for name in model.outputs}


def _warm_up(streams: list[Stream], limit_ns: int) -> dict[str, Any]:
    """Run until two successive changes of the windows' medians are small, or time is up.

    ``stable`` is None where time was up before there were three windows to compare."""
    clock = time.perf_counter_ns
    begin = clock()
    calls, windows, calm, last = 0, 0, 0, 0
    while calm < 2 and clock() - begin < limit_ns:
        samples = time_calls(streams[0].infer, WINDOW_NS, WINDOW_CALLS, begin + limit_ns)
        for stream in streams[1:]:
            stream.infer()
        calls += len(samples)
        now = sorted(samples)[len(samples) // 2]
        calm = calm + 1 if last and abs(now - last) <= STABLE_CHANGE * last else 0
        last = now
        windows += 1
    return {"calls": calls, "ns": clock() - begin, "stable": calm >= 2 if windows >= 3 else None}


def time_calls(infer: Callable[[], None], length_ns: int, least: int, deadline: int) -> array[int]:
    """Durations in ns of calls in a row: for ``length_ns`` and at least ``least`` calls, but no
    new call after ``deadline``; one call at the least."""
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


def _timed(streams: list[Stream], length_ns: int) -> dict[str, Any]:
    """The timed window: every stream in a loop, each in its own thread if there are several.

    ``wall_ns`` and ``cpu_ns`` (of the whole process) span the window; throughput is calls over
    wall time."""
    clock = time.perf_counter_ns
    results: list[array[int]] = []
    switches = involuntary_switches()
    cpu_begin, begin = time.process_time_ns(), clock()
    if len(streams) == 1:
        results.append(time_calls(streams[0].infer, length_ns, 1, begin + length_ns))
    else:
        results = _in_threads(streams, length_ns, begin)
    wall_ns, cpu_ns = clock() - begin, time.process_time_ns() - cpu_begin
    after = involuntary_switches()
    return {
        "samples": np.concatenate([np.frombuffer(samples, np.int64) for samples in results]),
        "calls": sum(len(samples) for samples in results),
        "wall_ns": wall_ns,
        "cpu_ns": cpu_ns,
        "involuntary_switches": None if switches is None or after is None else after - switches,
    }


def _in_threads(streams: list[Stream], length_ns: int, begin: int) -> list[array[int]]:
    results: list[array[int]] = []
    errors: list[BaseException] = []

    def work(stream: Stream) -> None:
        try:
            results.append(time_calls(stream.infer, length_ns, 1, begin + length_ns))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(stream,)) for stream in streams]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results
