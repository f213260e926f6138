"""Compute the GPU columns of the case table, and trtexec's warnings from a call's segments."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from qbench.bundle.records.gpu import Gpu
from qbench.bundle.records.run import Segment, Trial
from qbench.text import percent

# The thresholds are those of trtexec (NVIDIA/TensorRT, samples/common/sampleReporting.cpp,
# printEpilog: kENQUEUE_BOUND_REPORTING_THRESHOLD, kUNSTABLE_PERF_REPORTING_THRESHOLD), on the
# medians and the coefficient of variation of a pass of calls made one after the other.

ENQUEUE_BOUND = 0.8
"""Bound by the host: enqueueing a call takes more than this share of the GPU's time."""
TRANSFER_BOUND = 1.0
"""Bound by transfers: copying takes at least this share of the GPU's time."""
UNSTABLE = 0.01
"""Unstable: the GPU's time has a coefficient of variation above this."""
SEGMENTS = ("compute", "h2d", "d2h", "enqueue")


def gpu_columns(trials: Sequence[Trial]) -> dict[str, Any]:
    """Return the GPU columns of a case from its successful trials; None if no trial has a value."""
    watched = [trial.gpu for trial in trials if trial.gpu]
    timed = _segments(trials)
    memory, by = device_memory(trials)
    return {
        **{f"gpu_{name}_p50_ms": _scaled(ns, 1e-6) for name, ns in _p50_ns(timed).items()},
        "gpu_sm_clock_mhz": _middle([gpu.sm_clock_mhz for gpu in watched]),
        "gpu_memory_clock_mhz": _middle([gpu.memory_clock_mhz for gpu in watched]),
        "gpu_power_w": _middle([gpu.power_w for gpu in watched]),
        "gpu_temperature_c": _of_known(max, [gpu.temperature_c for gpu in watched]),
        "gpu_throttled": _throttled(watched),
        "gpu_warnings": "; ".join(_warnings(timed)) or None,
        "device_memory_mb": _scaled(_middle(memory), 1e-6),
        "device_memory_by": by,
    }


def _segments(trials: Sequence[Trial]) -> dict[str, list[Segment]]:
    """Return, by segment, its times in each trial that has it."""
    timed = [trial.segments for trial in trials if trial.segments]
    return {
        name: [segment for each in timed if (segment := getattr(each, name)) is not None]
        for name in SEGMENTS
    }


def _p50_ns(timed: Mapping[str, Sequence[Segment]]) -> dict[str, float | None]:
    return {name: _middle([each.p50_ns for each in segments]) for name, segments in timed.items()}


def _warnings(timed: Mapping[str, Sequence[Segment]]) -> Iterator[str]:
    """Yield trtexec's warnings, from medians over trials."""
    p50 = _p50_ns(timed)
    compute = p50["compute"]
    if compute:
        if (enqueue := p50["enqueue"]) is not None and enqueue > ENQUEUE_BOUND * compute:
            yield (
                "throughput may be bound by the host: handing a call over takes "
                f"{percent(enqueue / compute)} of the GPU's time (a CUDA graph takes less)"
            )
        for name, what in (("h2d", "inputs to the GPU"), ("d2h", "outputs from the GPU")):
            copying = p50[name]
            if copying is not None and copying >= TRANSFER_BOUND * compute:
                yield (
                    f"throughput may be bound by copying {what}: it takes "
                    f"{percent(copying / compute)} of the time of computing"
                )
    cov = _middle([segment.cov for segment in timed["compute"]])
    if cov is not None and cov > UNSTABLE:
        yield f"the GPU's time is unstable: its coefficient of variation is {percent(cov, 1)}"


def device_memory(trials: Sequence[Trial]) -> tuple[list[int], str | None]:
    """Return the maximum bytes that each trial used on the device, and their source in words: the
    best source that any trial has, and only trials that have it."""
    watched = [trial.gpu for trial in trials if trial.gpu]
    for by, words in (("process", "NVML, of the process"), ("difference", "NVML, by difference")):
        known = [
            gpu.memory_process_bytes
            for gpu in watched
            if gpu.memory_process_by == by and gpu.memory_process_bytes is not None
        ]
        if known:
            return known, words
    counted = [trial.device_memory for trial in trials if trial.device_memory]
    if counted:
        return [sum(purposes.values()) for purposes in counted], "the runtime's own figure"
    return [], None


def _throttled(watched: Sequence[Gpu]) -> str | None:
    """Return the reasons for a lowered clock, each with its maximum share of the readings; ``no``
    if the clock was not lowered, None if unknown."""
    told = [gpu.throttled for gpu in watched if gpu.throttled is not None]
    if not told:
        return None
    reasons = dict.fromkeys(reason for shares in told for reason in shares)
    worst = {reason: max(shares.get(reason, 0.0) for shares in told) for reason in reasons}
    return ", ".join(f"{r} ({percent(share)})" for r, share in worst.items()) or "no"


def _middle(values: Sequence[float | None]) -> float | None:
    return _of_known(median, values)


def _of_known(
    function: Callable[[Sequence[float]], float], values: Sequence[float | None]
) -> float | None:
    known = [value for value in values if value is not None]
    return function(known) if known else None


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
