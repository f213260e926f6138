"""Job: one trial. Open an artifact, warm it up, and run the scenario's timed window. Samples in
nanoseconds are returned as ``samples.npy``.

Imports only the standard library, NumPy, the one runtime, and the packages of the scenario.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qbench.kit.adapter import Adapter, Program, Stream
from qbench.kit.feeds import load_items
from qbench.kit.jobs.evaluate import load_artifact, save_outputs
from qbench.kit.main import STARTED_NS, Emit
from qbench.kit.model import Model, RunConfig, first_batch, scattered
from qbench.kit.readings.conditions import Conditions
from qbench.kit.readings.counters import Counters
from qbench.kit.readings.gpu_clock import GpuClock
from qbench.kit.readings.memory import Memory
from qbench.kit.scenarios.closed_loop import in_threads, time_calls
from qbench.kit.scenarios.window import Opened

WINDOW_NS = 20_000_000
"""Minimum length of the windows that warm-up is judged by."""
WINDOW_CALLS = 5
"""Minimum calls of these windows."""
STABLE_CHANGE = 0.02
"""Warm-up ends when the lower quartiles of two successive windows differ by at most this share,
twice in a row. Lower quartiles, because disturbances on a shared machine only make calls slower. On
a GPU whose clock is known, the clock must stay within the same share over these windows as well."""
MIN_GPU_WARMUP_NS = 200_000_000
"""Minimum warm-up on a GPU, as in trtexec (``--warmUp=200``)."""

SEGMENTS_NS, MIN_SEGMENTED, MAX_SEGMENTED = 300_000_000, 20, 1000
"""Length of the pass that times a call's segments, with its minimum and maximum number of calls."""


def run(backend: Adapter, request: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Request: ``artifact`` (folder), ``config``, ``feeds`` (``.npy`` files of ``[items, ...]``, by
    input name; the first batch is bound), ``scenario`` (a module of ``qbench.kit.scenarios``)
    and
    its ``options``, ``warmup_s``, ``timed_s``, ``spawned_ns`` (the monotonic clock when the parent
    started this process, if both run on one machine), ``gpu`` (facts of the device, if it is a GPU
    and they are known)."""
    clock = time.perf_counter_ns
    config = RunConfig(**request["config"])
    scenario = importlib.import_module(f"qbench.kit.scenarios.{request['scenario']}")
    artifact = load_artifact(Path(request["artifact"]))
    items = load_items(request["feeds"], artifact.model.inputs)
    feed = first_batch(items, artifact.model.inputs, config.batch)
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
    ran = _memory(memory)  # before the samples, which are not the model's
    emit("timed")
    around = _Around(counters)
    timed_ns = int(request["timed_s"] * 1e9)
    opened = Opened(
        artifact.model, config, streams, items, request["options"], timed_ns, around.begin
    )
    around.begin()
    timed = scenario.drive(opened)
    met = around.end()
    if artifact.model.states:
        _check_states(artifact.model, streams)
        streams[0].bind(feed)  # the evaluation's outputs are those of the initial state
        streams[0].infer()
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
    """Return the memory over the baseline of the phase that ends now, and begin the next one."""
    peak, split = memory.over_baseline(memory.peak()), memory.split()
    memory.reset()
    return {
        "peak_bytes": peak,
        "anonymous_bytes": split["anonymous_bytes"] if split else None,
        "file_bytes": split["file_bytes"] if split else None,
    }


class _Around:
    """Readings at both ends of the window."""

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


def _check_states(model: Model, streams: Sequence[Stream]) -> None:
    """
    Raises:
        RuntimeError: a state that the timed calls fed back is not finite: they computed nothing.
    """
    for stream in streams:
        outputs = stream.read()
        for name, state in model.states.items():
            if not np.isfinite(outputs[state.output]).all():
                raise RuntimeError(
                    f"the state '{name}' grew to NaN or infinity in calls that fed it back: give "
                    "real inputs, or leave it out of the card's states"
                )


def _outputs(model: Model, stream: Stream, batch: int) -> dict[str, np.ndarray]:
    """Return the outputs of the last timed call by item, which the parent compares with the
    evaluation.

    Raises:
        RuntimeError: an output is missing or does not hold all items: the work was not done.
    """
    read = stream.read()
    if missing := set(model.outputs) - set(read):
        raise RuntimeError(f"output '{min(missing)}' should hold {batch} items, got nothing")
    outputs = scattered({name: read[name] for name in model.outputs}, model.outputs, batch)
    for name, array in outputs.items():
        if len(array) != batch:
            got = list(read[name].shape)
            raise RuntimeError(f"output '{name}' should hold {batch} items, got {got}")
    return outputs


def _segments(stream: Stream, samples: np.ndarray) -> dict[str, Any] | None:
    """Time the segments of a call, in separate calls after the window; None if the stream has no
    segments."""
    call_ns = float(np.median(samples)) if len(samples) else np.inf
    calls = int(np.clip(SEGMENTS_NS / call_ns, MIN_SEGMENTED, MAX_SEGMENTED))
    segments = stream.segments(calls)
    if segments is None:
        return None
    found: dict[str, Any] = {"calls": calls}
    for name, series in segments.items():
        p50, p90, p99 = np.percentile(series, (50, 90, 99)).tolist()
        mean = float(np.mean(series))
        cov = float(np.std(series)) / mean if mean else None
        found[name] = {"p50_ns": p50, "p90_ns": p90, "p99_ns": p99, "mean_ns": mean, "cov": cov}
    return found


def _device_memory(program: Program) -> dict[str, int]:
    """Return the bytes that the program holds on its device, by purpose; empty if unknown."""
    sizes = program.device_memory_bytes() or {}
    return {name: int(size) for name, size in sizes.items()}


def _warm_up(
    streams: list[Stream], limit_ns: int, gpu_clock: GpuClock | None = None
) -> dict[str, Any]:
    """Run until two successive changes of the windows' lower quartiles are small, or the time limit
    is reached; on a GPU (whose clock is given), until its clock is steady as well.

    ``stable`` is None if the limit was reached before three windows were complete. ``clock_steady``
    is None if fewer than three of the last readings of the clock are known."""
    clock = time.perf_counter_ns
    least_ns = 0 if gpu_clock is None else MIN_GPU_WARMUP_NS
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
    """Return whether the clock stayed within a small share from the beginning to the end of two
    windows; None if too few readings are known."""
    known = [mhz for mhz in clocks if mhz]
    if len(known) < 3:
        return None
    return max(known) - min(known) <= STABLE_CHANGE * max(known)


def _window(streams: list[Stream], deadline: int) -> list[int]:
    """Return the durations in ns of one window's calls, of all streams in parallel."""

    def one(stream: Stream) -> list[int]:
        return time_calls(stream.infer, WINDOW_NS, WINDOW_CALLS, deadline).tolist()

    if len(streams) == 1:
        return one(streams[0])
    return [sample for samples in in_threads(streams, one) for sample in samples]
