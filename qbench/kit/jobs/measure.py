"""Job: one trial. Opens an artifact, warms it up, and lets a scenario drive the timed window; raw
nanoseconds come back as ``samples.npy``.

Nothing is imported here but the standard library, NumPy, the one runtime, and what the scenario
needs.
"""

from __future__ import annotations

import importlib
import time
from pathlib import Path
from typing import Any

import numpy as np

from qbench.kit.adapter import Backend, Program, Stream
from qbench.kit.jobs.evaluate import load_artifact, save_outputs
from qbench.kit.main import STARTED_NS, Emit
from qbench.kit.model import Model, RunConfig
from qbench.kit.readings.conditions import Conditions
from qbench.kit.readings.counters import Counters
from qbench.kit.readings.gpu_clock import GpuClock
from qbench.kit.readings.memory import Memory
from qbench.kit.scenarios.closed_loop import in_threads, time_calls
from qbench.kit.scenarios.window import Opened

WINDOW_NS = 20_000_000
"""Warm-up is judged by windows of at least this length."""
WINDOW_CALLS = 5
"""... and of at least so many calls."""
STABLE_CHANGE = 0.02
"""Warm when the lower quartiles of two windows in a row differ by at most this share, twice
running. Quartiles, because what disturbs a shared machine makes calls slower and never faster. On
a GPU whose clock is told, it has to keep within the same share over these windows, too."""
LEAST_ON_GPU_NS = 200_000_000
"""A GPU is warmed up for at least so long, as trtexec does (``--warmUp=200``)."""

SEGMENTS_NS, LEAST_SEGMENTED, MOST_SEGMENTED = 300_000_000, 20, 1000
"""The pass that tells a call's segments has as many calls as fit this time, within these bounds."""


def run(backend: Backend, request: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Request: ``artifact`` (folder), ``config``, ``feeds`` (by input name, ``.npy`` file of
    ``[items, ...]``, of which the first batch is bound), ``scenario`` (a module of
    ``qbench.kit.scenarios``) and its ``options``, ``warmup_s``, ``timed_s``, ``spawned_ns`` (the
    parent's monotonic clock when it started this process, if it is the same machine's), ``gpu``
    (facts of the device, if it is one and they are known)."""
    clock = time.perf_counter_ns
    config = RunConfig(**request["config"])
    scenario = importlib.import_module(f"qbench.kit.scenarios.{request['scenario']}")
    artifact = load_artifact(Path(request["artifact"]))
    items = {name: np.load(file, mmap_mode="r") for name, file in request["feeds"].items()}
    feed = {name: _first_batch(array, config.batch) for name, array in items.items()}
    phases: dict[str, int | None] = {}
    spawned = request.get("spawned_ns")
    phases["start_ns"] = STARTED_NS - spawned if spawned else None
    counters = Counters()  # before the runtime, so that its threads are counted

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
    loaded = _memory(memory)

    begin = clock()
    for stream in streams:
        stream.bind(feed)
    phases["bind_ns"] = (clock() - begin) // len(streams)
    begin = clock()
    streams[0].infer()
    phases["first_inference_ns"] = clock() - begin
    phases["cold_ns"] = time.monotonic_ns() - spawned if spawned else None

    emit("warmup")
    on_gpu = GpuClock(request.get("gpu")) if config.device != "cpu" else None
    warmup = _warm_up(streams, int(request["warmup_s"] * 1e9), on_gpu)
    ran = _memory(memory)  # before samples pile up, which are not the model's
    emit("timed")
    around = _Around(counters)
    timed_ns = int(request["timed_s"] * 1e9)
    opened = Opened(
        artifact.model, config, streams, items, request["options"], timed_ns, around.begin
    )
    around.begin()
    timed = scenario.drive(opened)
    met = around.end()
    outputs = _outputs(artifact.model, streams[0], config.batch)
    emit("segments")
    segments = _segments(streams[0], timed.samples)
    facts = dict(timed.facts)
    np.save("samples.npy", timed.samples)
    return {
        "calls": len(timed.samples),
        "items": timed.items,
        "wall_ns": timed.wall_ns,
        "cpu_ns": timed.cpu_ns,
        "figures": dict(timed.figures),
        "loop": facts.pop("loop", {}),
        "facts": facts,
        "files": list(timed.files),
        **met,
        "outputs": save_outputs(outputs),
        "segments": segments,
        "device_memory": _device_memory(program),
        "phases": phases,
        "warmup": warmup,
        "runtime_version": version,
        "memory": {
            "baseline_bytes": memory.baseline,
            "process_peak_bytes": memory.process_peak,
            **{f"load_{name}": size for name, size in loaded.items()},
            **ran,
        },
    }


def _memory(memory: Memory) -> dict[str, int | None]:
    """What a phase that ends now took over the baseline; the next one begins."""
    peak, split = memory.over_baseline(memory.peak()), memory.split()
    memory.reset()
    return {
        "peak_bytes": peak,
        "anonymous_bytes": split["anonymous_bytes"] if split else None,
        "file_bytes": split["file_bytes"] if split else None,
    }


class _Around:
    """What is read at both ends of the window."""

    def __init__(self, counters: Counters) -> None:
        self._counters, self._conditions = counters, Conditions()

    def begin(self) -> None:
        self._conditions.begin()
        self._counted, self._begin_ns = self._counters.read(), time.monotonic_ns()

    def end(self) -> dict[str, Any]:
        end_ns, counted, before = time.monotonic_ns(), self._counters.read(), self._counted
        counters = None
        if before is not None and counted is not None:
            counters = {name: counted[name] - before[name] for name in counted}
        return {
            "window": [self._begin_ns, end_ns],
            "counters": counters,
            "counters_missing": self._counters.reason,
            "conditions": self._conditions.end(),
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


def _segments(stream: Stream, samples: np.ndarray) -> dict[str, Any] | None:
    """Where the time of a call goes, by segment, in calls of their own after the window; None where
    the stream does not tell."""
    told = getattr(stream, "segments", None)
    if told is None:
        return None
    call_ns = float(np.median(samples)) if len(samples) else np.inf
    calls = int(np.clip(SEGMENTS_NS / call_ns, LEAST_SEGMENTED, MOST_SEGMENTED))
    found: dict[str, Any] = {"calls": calls}
    for name, series in told(calls).items():
        p50, p90, p99 = np.percentile(series, (50, 90, 99)).tolist()
        mean = float(np.mean(series))
        cov = float(np.std(series)) / mean if mean else None
        found[name] = {"p50_ns": p50, "p90_ns": p90, "p99_ns": p99, "mean_ns": mean, "cov": cov}
    return found


def _device_memory(program: Program) -> dict[str, int]:
    """Bytes by purpose that the program holds on its device; empty where it does not tell."""
    told = getattr(program, "device_memory_bytes", None)
    return {name: int(size) for name, size in told().items()} if told else {}


def _warm_up(
    streams: list[Stream], limit_ns: int, gpu_clock: GpuClock | None = None
) -> dict[str, Any]:
    """Run until two successive changes of the windows' lower quartiles are small, or time is up; on
    a GPU (whose clock is given), until its clock is steady as well.

    ``stable`` is None where time was up before there were three windows to compare.
    ``clock_steady`` is None where the clock is not told, or was not often enough."""
    clock = time.perf_counter_ns
    least_ns = 0 if gpu_clock is None else LEAST_ON_GPU_NS
    limit_ns = max(limit_ns, least_ns)
    begin = clock()
    calls, windows, calm, last, steady = 0, 0, 0, 0, None
    clocks: list[int | None] = []
    while clock() - begin < limit_ns:
        if calm >= 2 and steady is not False and clock() - begin >= least_ns:
            break
        samples = _window(streams, begin + limit_ns)
        calls += len(samples)
        now = sorted(samples)[len(samples) // 4]
        calm = calm + 1 if last and abs(now - last) <= STABLE_CHANGE * last else 0
        last = now
        windows += 1
        if gpu_clock is not None:
            clocks.append(gpu_clock.mhz())
            steady = _steady(clocks[-3:])
    return {
        "calls": calls,
        "ns": clock() - begin,
        "stable": calm >= 2 if windows >= 3 else None,
        "clock_steady": steady,
    }


def _steady(clocks: list[int | None]) -> bool | None:
    """Whether the clock kept within a small share from the beginning to the end of two windows."""
    known = [mhz for mhz in clocks if mhz]
    if len(known) < 3:
        return None
    return max(known) - min(known) <= STABLE_CHANGE * max(known)


def _window(streams: list[Stream], deadline: int) -> list[int]:
    """Durations in ns of one window's calls, of all streams at once."""

    def one(stream: Stream) -> list[int]:
        return time_calls(stream.infer, WINDOW_NS, WINDOW_CALLS, deadline).tolist()

    if len(streams) == 1:
        return one(streams[0])
    return [sample for samples in in_threads(streams, one) for sample in samples]
