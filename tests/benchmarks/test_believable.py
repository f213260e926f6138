"""Whether two runs agree, and whether a disturbed one says so:
pytest tests/benchmarks/test_believable.py --benchmark-enable -s
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pandas as pd
import pytest
import yaml
from recording import LOAD

from qbench.analysis.table.table import case_table
from qbench.run.request import Request
from qbench.run.runner import run_suite
from qbench.run.sources.catalog import Catalog
from qbench.run.workers.registry import Registry
from qbench.spec.suite import load_suite, suites_dir

WITHIN = 0.015


def run(folder: Path, **content: object) -> pd.DataFrame:
    """The case table of a small suite."""
    suite_file = folder / "believable.yaml"
    suite_file.write_text(yaml.safe_dump({"name": "believable", **content}))
    registry, catalog = Registry(), Catalog([suites_dir()])
    suite = load_suite(suite_file, registry.names, catalog.names)
    request = Request(suite, suite_file.read_text(), folder / "results", fresh=True)
    return case_table(run_suite(request, catalog, registry))


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """So many processes that never pause."""
    with ExitStack() as stack:
        for _ in range(processes):
            process = stack.enter_context(subprocess.Popen([sys.executable, "-c", LOAD]))
            stack.callback(process.kill)
        yield


@pytest.mark.timeout(1200)
def test_two_runs_agree_on_p10(benchmark, assets: Path, tmp_path: Path):
    if not benchmark.enabled:
        pytest.skip("takes minutes: run with --benchmark-enable")
    content = {
        "models": ["mobilenet_v2_100_224"],
        "precisions": ["fp32", "int8-static"],
        "backends": ["onnxruntime", "openvino", "tflite"],
        "rounds": {"least": 6, "most": 20},
        "warmup_s": 0.3,
        "timed_s": 0.5,
        "roofline": False,
    }
    tables = benchmark.pedantic(
        lambda: [run(tmp_path, **content) for _ in range(2)], rounds=1, iterations=1
    )
    first, second = (table.set_index(["backend", "precision"]) for table in tables)
    missed = []
    for case in first.index:
        ratio = second.loc[case, "latency_p10_ms"] / first.loc[case, "latency_p10_ms"]
        benchmark.extra_info[" ".join(case)] = ratio
        print(f"\n{' '.join(case)}: p10 of the second run over the first's: {ratio:.4f}")
        if abs(ratio - 1) > WITHIN:
            missed.append(f"{case}: {ratio:.4f}")
    assert [*first["status"], *second["status"]] == ["ok"] * 12
    assert not missed, missed


@pytest.mark.timeout(600)
def test_a_disturbed_run_says_so(benchmark, tmp_path: Path):
    """Beside as many busy processes as there are processors, every case is marked noisy."""
    if not benchmark.enabled:
        pytest.skip("takes half a minute: run with --benchmark-enable")
    content = {
        "models": ["digits_mobilenet"],
        "precisions": ["fp32"],
        "backends": ["onnxruntime", "openvino", "tflite"],
        "rounds": 6,
        "warmup_s": 0.2,
        "timed_s": 0.3,
    }

    def both() -> tuple[pd.DataFrame, pd.DataFrame]:
        alone = run(tmp_path, **content)
        with busy(os.cpu_count() or 1):
            return alone, run(tmp_path, **content)

    alone, beside = benchmark.pedantic(both, rounds=1, iterations=1)
    for name, table in (("alone", alone), ("beside others", beside)):
        for row in table.to_dict("records"):
            said = row["noise_reason"] or row["reason"] or "not noisy"
            print(f"\n{name}: {row['backend']}: {row['status']}, {said}")
    benchmark.extra_info["noisy_alone"] = [bool(noisy) for noisy in alone["noisy"]]
    assert list(beside["status"]) == ["ok"] * 3, list(beside["reason"])
    assert [bool(noisy) for noisy in beside["noisy"]] == [True] * 3
