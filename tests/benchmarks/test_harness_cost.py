"""The cost of the harness itself. Run with: pytest tests/benchmarks --benchmark-enable -s

Ratios of alternating runs on an otherwise idle machine; medians, since contamination is one-sided.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from statistics import median

import numpy as np
import pytest

from qbench.kit.adapter import Unavailable
from qbench.kit.model import PrepareTarget, RunConfig
from qbench.run.artifacts import ArtifactStore, Stored
from qbench.run.request import Request
from qbench.run.runner import run_suite
from qbench.run.sources.catalog import Catalog
from qbench.run.workers.isolate import run_job
from qbench.run.workers.registry import Registry
from qbench.spec.case import Filters
from qbench.spec.suite import load_suite, suites_dir

PAIRS = 10
MAX_TRIAL_RATIO = 1.3
MAX_PARENT_SHARE = 0.02
MAX_HELP_CPU_S = 0.2

BARE = {
    "onnxruntime": """
import sys, numpy as np, onnxruntime as ort
options = ort.SessionOptions()
options.intra_op_num_threads = 1
session = ort.InferenceSession(sys.argv[1], options)
session.run(None, {session.get_inputs()[0].name: np.load(sys.argv[2])[:1]})
""",
    "openvino": """
import sys, numpy as np, openvino as ov
core = ov.Core()
model = core.read_model(sys.argv[1])
feed = np.load(sys.argv[2])[:1]
model.reshape(feed.shape)
settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
core.compile_model(model, "CPU", settings).create_infer_request().infer([feed])
""",
    "tflite": """
import sys, numpy as np
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(sys.argv[1], num_threads=1)
interpreter.allocate_tensors()
detail = interpreter.get_input_details()[0]
interpreter.set_tensor(detail["index"], np.load(sys.argv[2])[:1].reshape(detail["shape"]))
interpreter.invoke()
""",
}


def _prepared(backend: str) -> tuple[Stored, dict[str, Path]]:
    """The float32 artifact of digits_mobilenet, and the feeds of its evaluation items."""
    registry, catalog, store = Registry(), Catalog([suites_dir()]), ArtifactStore()
    adapter = registry.load(backend)
    assert not isinstance(adapter, Unavailable), adapter
    card = catalog.card("digits_mobilenet")
    model = catalog.model(card, next(f for f in adapter.formats if f in card.sources))
    preparation = store.preparation(adapter, model, PrepareTarget("fp32"), None)
    outcome = store.prepare(preparation, registry.targets[backend], 120, None)
    assert outcome.status == "ok", outcome.reason
    stored, items = store.find(preparation), catalog.items(card, "evaluation")
    assert stored and items
    return stored, dict(items.feeds)


@pytest.mark.parametrize("backend", BARE)
def test_a_trial_costs_little_more_than_a_bare_script(benchmark, backend, tmp_path):
    """Process start to end of a trial without warm-up and timed loop, against a script that
    imports the runtime, loads the same artifact and runs it once."""
    pytest.importorskip({"tflite": "ai_edge_litert"}.get(backend, backend))
    stored, feeds = _prepared(backend)
    file = stored.folder / stored.record["provenance"]["file"]
    request = {
        "artifact": "artifact",
        "config": asdict(RunConfig()),
        "feeds": {name: f"feed-{name}.npy" for name in feeds},
        "scenario": "closed_loop",
        "options": {},
        "warmup_s": 1e-9,
        "timed_s": 1e-9,
    }
    files = {"artifact": stored.folder} | {f"feed-{n}.npy": p for n, p in feeds.items()}
    target = Registry().targets[backend]
    ratios = []

    def pair(index: int) -> None:
        folder = tmp_path / str(index)
        folder.mkdir()
        begin = time.perf_counter()
        outcome = run_job("measure", target, request, folder, files)
        trial = time.perf_counter() - begin
        assert outcome.status == "ok", outcome.reason
        command = [sys.executable, "-c", BARE[backend], str(file), str(next(iter(feeds.values())))]
        begin = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        ratios.append(trial / (time.perf_counter() - begin))

    pair(-1)  # warms the page cache; not counted
    ratios.clear()
    rounds = PAIRS if benchmark.enabled else 1
    numbers = iter(range(rounds))
    benchmark.pedantic(lambda: pair(next(numbers)), rounds=rounds, iterations=1)
    benchmark.extra_info["ratio_median"] = median(ratios)
    print(f"\n{backend}: a trial takes {median(ratios):.2f} of a bare script (median of {rounds})")
    if benchmark.enabled:
        assert median(ratios) <= MAX_TRIAL_RATIO


def test_the_parent_is_idle_while_workers_measure(benchmark, tmp_path):
    """Processor time of the parent over wall time of the measuring stage, its progress drawn."""
    if not benchmark.enabled:
        pytest.skip("takes half a minute: run with --benchmark-enable")
    from rich.console import Console

    from qbench.present.terminal.progress import RichProgress

    registry, catalog = Registry(), Catalog([suites_dir()])
    path = suites_dir() / "quick.yaml"
    suite = load_suite(path, registry.names, catalog.names)
    request = Request(
        suite,
        path.read_text(),
        tmp_path / "results",
        Filters(("digits_cnn",), ("onnxruntime", "tflite")),
    )
    marks: dict[str, tuple[float, float]] = {}

    class Watched(RichProgress):
        def stage(self, name: str, total: int) -> None:
            super().stage(name, total)
            marks[name] = (time.perf_counter(), time.process_time())

        def done(self, label: str, status: str, reason: str) -> None:
            super().done(label, status, reason)
            marks["end"] = (time.perf_counter(), time.process_time())

    with Path(os.devnull).open("w") as sink:
        console = Console(file=sink, force_terminal=True, width=100)
        with Watched(console) as progress:
            benchmark.pedantic(
                lambda: run_suite(request, catalog, registry, progress), rounds=1, iterations=1
            )
    wall = marks["end"][0] - marks["measure"][0]
    share = (marks["end"][1] - marks["measure"][1]) / wall
    benchmark.extra_info["parent_cpu_share"] = share
    print(f"\nthe parent used {100 * share:.2f} % of a core during {wall:.1f} s of measuring")
    assert share <= MAX_PARENT_SHARE


def test_help_is_quick(benchmark):
    """Processor time of ``qbench --help``, median of 10."""
    seconds = []

    def show() -> None:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "qbench.cli", "--help"], check=True, capture_output=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)

    benchmark.pedantic(show, rounds=PAIRS if benchmark.enabled else 1, iterations=1)
    benchmark.extra_info["cpu_s_median"] = median(seconds)
    print(f"\nqbench --help takes {median(seconds):.3f} s of processor time")
    if benchmark.enabled:
        assert median(seconds) <= MAX_HELP_CPU_S


def test_the_timed_loop_adds_little_to_a_call(benchmark):
    """The floor of a sample: what the loop reports for a call that does nothing."""
    from qbench.kit.scenarios import closed_loop

    def nothing() -> None:
        return None

    def loop() -> float:
        samples = closed_loop.time_calls(
            nothing, 50_000_000, 1, time.perf_counter_ns() + 50_000_000
        )
        return float(np.median(samples))

    floor_ns = benchmark(loop)
    benchmark.extra_info["floor_ns"] = floor_ns
    print(f"\na call that does nothing is reported as {floor_ns:.0f} ns")
