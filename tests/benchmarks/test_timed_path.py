"""Overhead of the timed path:
pytest tests/benchmarks/test_timed_path.py --benchmark-enable -s
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prepared import Prepared, prepare

from qbench.analysis.statistics.verdict import paired_shift
from qbench.kit.model import Feed, RunConfig
from qbench.kit.scenarios.closed_loop import time_calls
from qbench.run.workers.registry import Registry

OPENINGS, ALTERNATIONS, CALLS = 9, 60, 100
MOST_NS = 500
"""More than the cheapest loop, a call may not cost."""
WINDOWS, WINDOW_NS = 400, 40_000_000
MOST_CHANGE = 0.005
LOADGEN_WINDOWS, LOADGEN_CHANGE = 20, 0.02
TINY, SHORT, AROUND_1_MS = "digits_cnn", "digits_vit", "resnet_large_cifar10"


# ------------------------------------------------------------------ against hand-written loops


def ort_loop(prepared: Prepared, feed: Feed) -> Callable[[], Any]:
    """``run_with_iobinding`` on buffers that are bound once."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(
        str(prepared.stored.file), options, providers=["CPUExecutionProvider"]
    )
    binding = session.io_binding()
    for node, array in zip(session.get_inputs(), feed.values(), strict=True):
        binding.bind_ortvalue_input(node.name, ort.OrtValue.ortvalue_from_numpy(array))
    session.run_with_iobinding(_bound_outputs(session, binding))
    for node, value in zip(session.get_outputs(), binding.get_outputs(), strict=True):
        binding.bind_ortvalue_output(node.name, value)
    return lambda: session.run_with_iobinding(binding)


def _bound_outputs(session: Any, binding: Any) -> Any:
    for node in session.get_outputs():
        binding.bind_output(node.name, "cpu")
    return binding


def openvino_loop(prepared: Prepared, feed: Feed) -> Callable[[], Any]:
    """``infer(share_outputs=True)`` after the input tensor was set once."""
    import openvino as ov

    core = ov.Core()
    (array,) = feed.values()
    model = core.read_model(prepared.stored.file)
    model.reshape(array.shape)
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    request.set_input_tensor(ov.Tensor(array))
    return lambda: request.infer(share_outputs=True)


def litert_loop(prepared: Prepared, feed: Feed) -> Callable[[], Any]:
    """``invoke`` after ``set_tensor``."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(prepared.stored.file), num_threads=1)
    interpreter.allocate_tensors()
    (array,), (detail,) = feed.values(), interpreter.get_input_details()
    interpreter.set_tensor(detail["index"], array.reshape(detail["shape"]))
    return interpreter.invoke


BY_HAND = {"onnxruntime": ort_loop, "openvino": openvino_loop, "tflite": litert_loop}


def times(call: Callable[[], Any]) -> list[int]:
    """As one would write it: the clock around the call, ``CALLS`` times."""
    clock = time.perf_counter_ns
    samples = []
    for _ in range(CALLS):
        before = clock()
        call()
        samples.append(clock() - before)
    return samples


@pytest.mark.timeout(600)
@pytest.mark.parametrize("backend", BY_HAND)
def test_a_call_costs_no_more_than_in_the_best_loop(benchmark, backend: str):
    """Medians of alternating short blocks within one process; the files are opened several times,
    since memory placement changes a call by more than the loops do."""
    if not benchmark.enabled:
        pytest.skip("takes a minute: run with --benchmark-enable")
    prepared = prepare(TINY, backend)
    feed = {name: np.array(array) for name, array in prepared.feed().items()}
    adapter: Any = Registry().load(backend)
    adapter.import_runtime()

    def opening(index: int) -> tuple[float, float]:
        with adapter.open(prepared.artifact, RunConfig()) as program:
            stream = program.stream()
            stream.bind(feed)
            by_hand = BY_HAND[backend](prepared, feed)
            own, other = [], []
            for _ in range(ALTERNATIONS):
                own.append(np.median(time_calls(stream.infer, 0, CALLS, 1 << 62)))
                other.append(np.median(times(by_hand)))
        return float(np.median(own)), float(np.median(other))

    measured = np.array(
        benchmark.pedantic(
            lambda: [opening(index) for index in range(OPENINGS)], rounds=1, iterations=1
        )
    )
    shift = paired_shift(measured[:, 0] - measured[:, 1])
    benchmark.extra_info |= {"over_best_loop_ns": shift.value}
    print(
        f"\n{backend}: {np.median(measured[:, 0]) / 1e3:.2f} us by qbench, "
        f"{np.median(measured[:, 1]) / 1e3:.2f} us by the best loop; difference "
        f"{shift.value:+.0f} ns ({shift.low:+.0f} to {shift.high:+.0f})"
    )
    assert shift.value <= MOST_NS


# ------------------------------------------------------------------ with and without sensors


@contextmanager
def sensors_read() -> Iterator[None]:
    """The parent's sensor readings during the energy pass, at 10 Hz; on a machine without a sensor
    a kernel file stands in for one."""
    from qbench.machine.energy.meter import Meter
    from qbench.machine.energy.sensor import Sensor
    from qbench.machine.energy.sensors import find_sensors

    def stands_for_one() -> float:
        return float(len(Path("/proc/stat").read_bytes()))

    sensors = find_sensors().sensors or [
        Sensor("stand-in", "none", "cpu package", "power", stands_for_one)
    ]
    with Meter(sensors, hz=10):
        yield


@pytest.mark.timeout(600)
def test_sensors_do_not_change_the_median(benchmark):
    """Windows of one process with conditions, counters and the energy meter, and without, in pairs
    in random order."""
    if not benchmark.enabled:
        pytest.skip("takes half a minute: run with --benchmark-enable")
    prepared = prepare(SHORT, "onnxruntime")
    feeds = json.dumps({name: str(path) for name, path in prepared.items.feeds.items()})
    script = Path(__file__).with_name("windows.py")
    command = [sys.executable, script, prepared.target, prepared.stored.folder, feeds]
    with subprocess.Popen(
        [*command, str(WINDOW_NS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdin and worker.stdout

        def window(state: str) -> float:
            assert worker.stdin and worker.stdout
            with sensors_read() if state == "on" else nullcontext():
                print(state, file=worker.stdin, flush=True)
                return float(worker.stdout.readline())

        def pair(index: int) -> float:
            order = ["on", "off"]
            random.Random(index).shuffle(order)
            median = {state: window(state) for state in order}
            return float(np.log(median["on"] / median["off"]))

        logs = benchmark.pedantic(
            lambda: [pair(index) for index in range(WINDOWS)], rounds=1, iterations=1
        )
        worker.stdin.close()
    shift = paired_shift(np.array(logs))
    assert shift.low is not None and shift.high is not None
    benchmark.extra_info |= {"change": shift.value, "low": shift.low, "high": shift.high}
    print(
        f"\nsensors change p50 by {100 * shift.value:+.3f} % "
        f"({100 * shift.low:+.3f} to {100 * shift.high:+.3f})"
    )
    assert shift.low > -MOST_CHANGE and shift.high < MOST_CHANGE


# ------------------------------------------------------------------ through LoadGen


@pytest.mark.timeout(600)
def test_loadgen_measures_the_same_latency(benchmark, assets: Path):
    """LoadGen's single-stream against a plain loop of the same steps, alternating in one process.
    Also prints how much placing inputs and reading outputs add to the inference."""
    if not benchmark.enabled:
        pytest.skip("takes a minute: run with --benchmark-enable")
    pytest.importorskip("mlperf_loadgen")
    prepared = prepare(AROUND_1_MS, "onnxruntime")
    feeds = json.dumps({name: str(path) for name, path in prepared.items.feeds.items()})
    script = Path(__file__).with_name("loadgen_windows.py")
    command = [sys.executable, script, prepared.target, prepared.stored.folder, feeds]

    def windows() -> list[float]:
        done = subprocess.run(
            [*command, str(LOADGEN_WINDOWS)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    measured = np.array(benchmark.pedantic(windows, rounds=1, iterations=1))
    shift = paired_shift(np.log(measured[:, 0] / measured[:, 1]))
    assert shift.low is not None and shift.high is not None
    benchmark.extra_info |= {"change": shift.value, "low": shift.low, "high": shift.high}
    loadgen, same, alone = np.median(measured, axis=0) / 1e3
    print(
        f"\nLoadGen {loadgen:.0f} us, plain loop of the same steps {same:.0f} us, inference alone "
        f"{alone:.0f} us; LoadGen over the same steps {100 * shift.value:+.2f} % "
        f"({100 * shift.low:+.2f} to {100 * shift.high:+.2f})"
    )
    assert shift.low > -LOADGEN_CHANGE and shift.high < LOADGEN_CHANGE
