"""Is the device's time the wall clock's, and does NVML see the load?"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gpu_peers import apart, segments_ns, trtexec_command, trtexec_times

from gpu.running import Run
from qbench.bundle.records.run import to_json
from qbench.kit import cuda
from qbench.kit.adapter import Ready

pytestmark = pytest.mark.gpu

BATCH = 32
"""So large that what the host does around a call, some 20 microseconds, is below 1 % of it."""
PROCESSES = 6
WITHIN = 0.02


def test_the_parts_of_a_call_make_up_the_call(run: Callable[..., Run], backend: str, assets: Path):
    """TensorRT's are by the device's events, which begin after the host has: their sum is below
    the latency, and close to it, since the host does little else. ONNX Runtime's are by the host's
    clock, each waited for as in the call itself."""
    most = {"tensorrt": 1.02, "onnxruntime": 1.05}[backend]
    done = run(models=["mobilenet_v2_100_224"], backends=[backend], batch_sizes=[BATCH], rounds=3)
    for trial in done.trials():
        if not trial.get("segments"):
            pytest.skip(f"{backend} does not tell the parts of a call")
        latency = float(np.median(done.bundle.samples(trial["trial"])))
        on_device = segments_ns(trial["segments"])
        assert 0.8 * latency < on_device < most * latency, (on_device, latency)
        assert trial["segments"]["compute"]["p50_ns"] > trial["segments"]["d2h"]["p50_ns"]


def test_a_busy_gpu_is_busy_for_nvml_too(run: Callable[..., Run], backend: str, assets: Path):
    """Under load it draws more than idle, at the clock of work, and nobody else computed on it."""
    done = run(
        models=["mobilenet_v2_100_224"],
        backends=[backend],
        batch_sizes=[BATCH],
        timed_s=3.0,
        energy={"window_s": 3, "windows": 2, "idle_s": 5},
    )
    (trial,) = done.trials()
    told = trial["gpu"]
    assert told["samples"] >= 20, told["missing"]
    assert told["sm_clock_mhz"] >= told["sm_clock_low_mhz"] > 0
    if told["others"] is not None:
        assert told["others"] == 0
    idle = [line["sensors"] for line in map(to_json, done.bundle.energy) if line["kind"] == "idle"]
    idle_w = [s["watts"] for sensors in idle for s in sensors if s["scope"] == "gpu" and s["watts"]]
    if told["power_w"] is not None and idle_w:
        assert told["power_w"] > 1.05 * min(idle_w)


@pytest.mark.parametrize("transfers", [True, False])
def test_the_same_engine_takes_as_long_in_trtexec(
    run: Callable[..., Run],
    tensorrt: Ready,
    gpu: cuda.Device,
    assets: Path,
    tmp_path: Path,
    transfers: bool,
):
    program = shutil.which("trtexec")
    if program is None:
        pytest.skip("trtexec is not on the PATH: it is in TensorRT's tar, deb and container only")
    hints = {"cuda_graph": True, "spin": True, "transfers": transfers}
    done = run(
        models=["mobilenet_v2_100_224"],
        backends=["tensorrt"],
        batch_sizes=[BATCH],
        rounds=PROCESSES,
        overrides={"tensorrt": {"hints": hints}},
    )
    ours = [float(np.median(done.bundle.samples(trial["trial"]))) for trial in done.trials()]
    parts = [trial["segments"]["compute"]["p50_ns"] for trial in done.trials()]

    (engine,) = done.cache.rglob("model.engine")
    shown = subprocess.run([program, "--help"], capture_output=True, text=True)
    theirs: list[float] = []
    computing: list[float] = []
    for number in range(PROCESSES):
        file = tmp_path / f"times-{number}.json"
        command = trtexec_command(
            program, shown.stdout + shown.stderr, engine, file, gpu.index, transfers
        )
        told = subprocess.run(command, capture_output=True, text=True)
        assert told.returncode == 0, told.stdout + told.stderr
        times = trtexec_times(file.read_text())
        theirs.append(float(np.median(times["latency" if transfers else "compute"])))
        computing.append(float(np.median(times["compute"])))
    assert abs(apart(parts, computing)) < WITHIN, (parts, computing)
    assert abs(apart(ours, theirs)) < WITHIN, (ours, theirs)
