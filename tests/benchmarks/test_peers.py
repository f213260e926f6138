"""Compare with the runtimes' own benchmark tools on the same files:
pytest tests/benchmarks/test_peers.py --benchmark-enable -s

A ratio is of the best of three fresh processes each, in turns and in random order; the interval of
the median of ten ratios (``qbench.analysis.statistics.verdict``) has to lie within 2 % of 1. Both
sides give the same percentile, a low one, and the best of several, since disturbances on a shared
machine make calls slower and never faster.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from prepared import Prepared, prepare

from qbench.analysis.statistics.verdict import paired_shift

PAIRS, BEST_OF = 10, 3
WITHIN = (0.98, 1.02)
WARMUP_S, TIMED_S = 0.4, 1.0
NETWORK, TINY = "mobilenet_v2_100_224", "digits_cnn"

Tool = Callable[[Prepared, Path], float]
"""Runs another tool on an artifact, in a folder of its own; returns nanoseconds."""


def benchmark_app(prepared: Prepared, folder: Path) -> float:
    """OpenVINO's own: p10 of the plugin's latency."""
    name, spec = next(iter(prepared.artifact.model.source_inputs.items()))
    sizes = prepared.artifact.model.inputs[name].at(1)
    command: list[str | Path] = [
        Path(sys.executable).with_name("benchmark_app"),
        *("-m", prepared.stored.file, "-d", "CPU", "-api", "sync", "-hint", "none"),
        *("-nstreams", "1", "-nthreads", "1", "-pin", "NO", "-infer_precision", "f32"),
        # without these an input that looks like a picture is taken as uint8 and converted
        *("-ip", "f32", "-op", "f32"),
        *("-shape", f"{spec.name}[{','.join(map(str, sizes))}]"),
        *("-t", f"{TIMED_S:.0f}", "-latency_percentile", "10"),
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    found = re.search(r"10 percentile:\s+([\d.]+) (ms|us)", done.stdout)
    assert found, done.stdout + done.stderr
    return float(found[1]) * {"ms": 1e6, "us": 1e3}[found[2]]


LITERT = """
import ai_edge_litert.tools.benchmark_litert_model as tool
tool.round = lambda value, digits: value  # it rounds its results to 10 microseconds
tool.main()
"""


def benchmark_litert_model(prepared: Prepared, folder: Path, seconds: float = TIMED_S) -> float:
    """LiteRT's own: p5 of the calls of a CompiledModel."""
    guess_s = float(np.median(prepared.samples(0.1, 0.1))) / 1e9
    command = [
        *(sys.executable, "-c", LITERT, "--model", str(prepared.stored.file)),
        *("--num_threads", "1", "--result_json", "result.json"),
        *("--warmup_runs", str(round(WARMUP_S / guess_s) + 1)),
        *("--num_runs", str(round(seconds / guess_s) + 1)),
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads((folder / "result.json").read_text())
    assert result["num_threads"] == 1
    return result["latency"]["p5_ms"] * 1e6


TOOLS: dict[str, tuple[Tool, float]] = {
    "openvino": (benchmark_app, 0.10),
    "tflite": (benchmark_litert_model, 0.05),
}
"""By backend, the other tool, and which quantile of the calls it gives."""


def pairs(prepared: Prepared, backend: str, folder: Path, count: int) -> np.ndarray:
    """``[count, 2]``: nanoseconds by qbench and by the other tool, the best of some in turns."""
    tool, quantile = TOOLS[backend]
    measured = []
    for index in range(count):
        own = folder / str(index)
        own.mkdir()
        both = {
            "qbench": lambda: float(np.quantile(prepared.samples(WARMUP_S, TIMED_S), quantile)),
            "tool": lambda own=own: tool(prepared, own),
        }
        order = list(both)
        random.Random(index).shuffle(order)
        runs = [{name: both[name]() for name in order} for _ in range(BEST_OF)]
        measured.append(tuple(min(run[name] for run in runs) for name in both))
    return np.array(measured)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("precision", ["fp32", "int8-static"])
@pytest.mark.parametrize("backend", TOOLS)
def test_qbench_agrees_with_the_runtimes_own_tool(
    benchmark, assets: Path, tmp_path: Path, backend: str, precision: str
):
    if not benchmark.enabled:
        pytest.skip("takes minutes: run with --benchmark-enable")
    prepared = prepare(NETWORK, backend, precision)
    measured = benchmark.pedantic(
        lambda: pairs(prepared, backend, tmp_path, PAIRS), rounds=1, iterations=1
    )
    low, high = _say(benchmark, f"{NETWORK} {backend} {precision}", measured)
    assert WITHIN[0] <= low and high <= WITHIN[1]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("backend", TOOLS)
def test_the_floor_under_a_tiny_network(benchmark, tmp_path: Path, backend: str):
    """Not asserted: the tools read their clocks at other places. OpenVINO's latency is taken within
    the plugin, below the call from Python that qbench times."""
    if not benchmark.enabled:
        pytest.skip("takes minutes: run with --benchmark-enable")
    prepared = prepare(TINY, backend)
    measured = benchmark.pedantic(
        lambda: pairs(prepared, backend, tmp_path, PAIRS), rounds=1, iterations=1
    )
    _say(benchmark, f"{TINY} {backend}", measured)


def _say(benchmark, what: str, measured: np.ndarray) -> tuple[float, float]:
    """Print the ratios; return the interval of their median."""
    logs = np.log(measured[:, 0] / measured[:, 1])
    shift = paired_shift(logs)
    assert shift.low is not None and shift.high is not None
    ratio, low, high = np.exp([shift.value, shift.low, shift.high]).tolist()
    qbench_us, tool_us = np.median(measured, axis=0) / 1e3
    floor_us = float(np.median(measured[:, 0] - measured[:, 1])) / 1e3
    benchmark.extra_info |= {"ratio": ratio, "low": low, "high": high, "floor_us": floor_us}
    each = ", ".join(f"{value:.3f}" for value in np.sort(np.exp(logs)))
    print(
        f"\n{what}: qbench {qbench_us:.2f} us, the runtime's tool {tool_us:.2f} us; ratio "
        f"{ratio:.4f} ({low:.4f} to {high:.4f}), difference {floor_us:+.2f} us; each: {each}"
    )
    return low, high
