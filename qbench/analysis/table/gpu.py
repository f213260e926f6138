"""What the trials of a case tell of the GPU that it ran on: columns of the case table, and the
warnings that trtexec gives, from a call's time by segment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median
from typing import Any

Trial = Mapping[str, Any]

# The thresholds are those of trtexec (NVIDIA/TensorRT, samples/common/sampleReporting.cpp,
# printEpilog: kENQUEUE_BOUND_REPORTING_THRESHOLD, kUNSTABLE_PERF_REPORTING_THRESHOLD), on the
# medians and the coefficient of variation of a pass of calls made one after the other.

ENQUEUE_BOUND = 0.8
"""The host takes more than this share of the GPU's time to hand a call over."""
TRANSFER_BOUND = 1.0
"""Copying takes this share of the GPU's time, or more."""
UNSTABLE = 0.01
"""Coefficient of variation of the GPU's time."""
SEGMENTS = ("compute", "h2d", "d2h", "enqueue")


def gpu_columns(trials: Sequence[Trial]) -> dict[str, Any]:
    """The GPU's columns of a case, of its good trials; each None where no trial tells it."""
    watched = [trial["gpu"] for trial in trials if trial.get("gpu")]
    timed = _segments(trials)
    memory, by = device_memory(trials)
    return {
        **{
            f"gpu_{name}_p50_ms": _scaled(_middle([t.get("p50_ns") for t in timed[name]]), 1e-6)
            for name in SEGMENTS
        },
        "gpu_sm_clock_mhz": _middle([gpu.get("sm_clock_mhz") for gpu in watched]),
        "gpu_memory_clock_mhz": _middle([gpu.get("memory_clock_mhz") for gpu in watched]),
        "gpu_power_w": _middle([gpu.get("power_w") for gpu in watched]),
        "gpu_temperature_c": _most([gpu.get("temperature_c") for gpu in watched]),
        "gpu_throttled": _throttled(watched),
        "gpu_warnings": "; ".join(_warnings(timed)) or None,
        "device_memory_mb": _scaled(_middle(memory), 1e-6),
        "device_memory_by": by,
    }


def _segments(trials: Sequence[Trial]) -> dict[str, list[Mapping[str, Any]]]:
    """By segment, what each trial that timed it says of it."""
    told = [trial["segments"] for trial in trials if trial.get("segments")]
    return {name: [of[name] for of in told if of.get(name)] for name in SEGMENTS}


def _warnings(timed: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    """trtexec's warnings on the medians over trials."""
    p50 = {name: _middle([t.get("p50_ns") for t in timed[name]]) for name in SEGMENTS}
    compute = p50["compute"]
    if compute:
        if (enqueue := p50["enqueue"]) is not None and enqueue > ENQUEUE_BOUND * compute:
            yield (
                "throughput may be bound by the host: handing a call over takes "
                f"{_percent(enqueue / compute)} of the GPU's time (a CUDA graph takes less)"
            )
        for name, what in (("h2d", "inputs to the GPU"), ("d2h", "outputs from the GPU")):
            copying = p50[name]
            if copying is not None and copying >= TRANSFER_BOUND * compute:
                yield (
                    f"throughput may be bound by copying {what}: it takes "
                    f"{_percent(copying / compute)} of the time of computing"
                )
    cov = _middle([t.get("cov") for t in timed["compute"]])
    if cov is not None and cov > UNSTABLE:
        yield f"the GPU's time is unstable: its coefficient of variation is {_percent(cov, 1)}"


def device_memory(trials: Sequence[Trial]) -> tuple[list[int], str | None]:
    """Bytes that each of the trials took on the device at most, and how that is known: in the best
    way that any trial knows it in, and only of those that do."""
    watched = [trial["gpu"] for trial in trials if trial.get("gpu")]
    for by, words in (("process", "NVML, of the process"), ("difference", "NVML, by difference")):
        known = [g["memory_process_bytes"] for g in watched if g.get("memory_process_by") == by]
        if known:
            return known, words
    told = [trial["device_memory"] for trial in trials if trial.get("device_memory")]
    if told:
        return [sum(purposes.values()) for purposes in told], "the runtime's own figure"
    return [], None


def _throttled(watched: Sequence[Mapping[str, Any]]) -> str | None:
    """What lowered the clock, and in how many of the readings at most; ``no`` if nothing did."""
    told = [gpu["throttled"] for gpu in watched if gpu.get("throttled") is not None]
    if not told:
        return None
    reasons = dict.fromkeys(reason for shares in told for reason in shares)
    worst = {reason: max(shares.get(reason, 0.0) for shares in told) for reason in reasons}
    return ", ".join(f"{r} ({_percent(share)})" for r, share in worst.items()) or "no"


def _middle(values: Sequence[float | None]) -> float | None:
    return _of_known(median, values)


def _most(values: Sequence[float | None]) -> float | None:
    return _of_known(max, values)


def _of_known(
    function: Callable[[Sequence[float]], float], values: Sequence[float | None]
) -> float | None:
    known = [value for value in values if value is not None]
    return function(known) if known else None


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _percent(share: float, digits: int = 0) -> str:
    return f"{100 * share:.{digits}f} %"
