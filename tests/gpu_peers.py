"""References for tests/gpu: trtexec, and arithmetic. Needs no GPU."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

SERIES = {"h2d": "h2dMs", "compute": "computeMs", "d2h": "d2hMs", "latency": "latencyMs"}
"""qbench's names of trtexec's series."""


def trtexec_command(
    program: str,
    help_text: str,
    engine: Path,
    times: Path,
    device: int = 0,
    transfers: bool = True,
    warmup_ms: int = 500,
    duration_s: int = 3,
) -> list[str]:
    """trtexec, to time an engine as qbench does: one call after the other, with a CUDA graph,
    waiting actively.

    TensorRT 10's does none of these by itself, and copies data. TensorRT 11's has graphs and
    active waiting on and copies off by default, and flags that 10's does not know. So the output
    of ``trtexec --help`` decides.

    Args:
        help_text: output of ``trtexec --help``.
        times: the JSON file to write, for ``trtexec_times``.
        transfers: whether inputs and outputs are copied in every call.
    """
    flags = []
    if "--includeDataTransfers" in help_text:
        flags += ["--includeDataTransfers"] if transfers else []
    elif not transfers:
        flags += ["--noDataTransfers"]
    if "--noCudaGraph" not in help_text:
        flags += ["--useCudaGraph"]
    if "--noSpinWait" not in help_text:
        flags += ["--useSpinWait"]
    if transfers and "--exposeDMA" in help_text:
        flags += ["--exposeDMA"]  # else the next call's copies run beside this one's kernels
    return [
        program,
        f"--loadEngine={engine}",
        f"--device={device}",
        f"--warmUp={warmup_ms}",
        f"--duration={duration_s}",
        f"--exportTimes={times}",
        *flags,
    ]


def trtexec_times(text: str) -> dict[str, np.ndarray]:
    """The series of a file that ``--exportTimes`` wrote, warm-up left out.

    Returns:
        ``h2d, compute, d2h, latency`` (their sum) and ``enqueue``, each ``[calls]`` float64,
        nanoseconds. Format: exportJSONTrace in samples/common/sampleReporting.cpp of
        github.com/NVIDIA/TensorRT, a list of objects of milliseconds.

    Raises:
        ValueError: there are no calls in it.
    """
    calls = json.loads(text)
    if not calls:
        raise ValueError("trtexec wrote no calls")
    series = {ours: [call[theirs] for call in calls] for ours, theirs in SERIES.items()}
    series["enqueue"] = [call["endEnqMs"] - call["startEnqMs"] for call in calls]
    return {name: np.asarray(values, np.float64) * 1e6 for name, values in series.items()}


def apart(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """How far the medians of two sets of processes lie apart, as a share of the second: 0.02 is
    2 %. Of several processes the median, since clocks differ from one to the next."""
    return float(np.median(ours) / np.median(theirs) - 1)


def segments_ns(record: Mapping[str, Mapping[str, float]]) -> float:
    """The device's part of a call by a trial's ``segments``: the medians of copying in, computing
    and copying out, added up."""
    return sum(record[name]["p50_ns"] for name in ("h2d", "compute", "d2h") if name in record)
