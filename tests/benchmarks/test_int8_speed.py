"""Whether int8 pays, on real models: pytest tests/benchmarks --benchmark-enable -s

Paired ratios from interleaved rounds of fresh processes, as every run of qbench makes them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from qbench.analysis.table.table import case_table
from qbench.run.request import Request
from qbench.run.runner import run_suite
from qbench.run.sources.catalog import Catalog
from qbench.run.workers.registry import Registry
from qbench.spec.case import Filters
from qbench.spec.suite import load_suite, suites_dir

LEAST = {
    ("resnet8_cifar10", "onnxruntime"): 1.3,
    ("resnet8_cifar10", "openvino"): 2.0,
    ("resnet8_cifar10", "tflite"): 2.0,
    ("dscnn_kws", "onnxruntime"): 1.0,
    ("dscnn_kws", "openvino"): 1.0,
    ("dscnn_kws", "tflite"): 1.0,
    ("mobilenet_v2_100_224", "onnxruntime"): 1.8,
    ("mobilenet_v2_100_224", "openvino"): 1.8,
    ("mobilenet_v2_100_224", "tflite"): 1.8,
}


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("suite_name", ["mlperf_tiny", "imagenet_edge"])
def test_int8_is_faster_than_float32(benchmark, assets: Path, tmp_path: Path, suite_name: str):
    if not benchmark.enabled:
        pytest.skip("takes minutes: run with --benchmark-enable")
    registry = Registry()
    path = suites_dir() / f"{suite_name}.yaml"
    catalog = Catalog([suites_dir()])
    suite = load_suite(path, registry.names, catalog.names)
    models = tuple(sorted({model for model, _ in LEAST} & set(suite.models)))
    filters = Filters(models=models, precisions=("fp32", "int8-static"))
    request = Request(suite, path.read_text(), tmp_path / "results", filters)
    bundle = benchmark.pedantic(
        lambda: run_suite(request, catalog, registry), rounds=1, iterations=1
    )
    cases = case_table(bundle)
    own = (cases["precision"] == "int8-static") & (cases["recipe"] == "best")
    ran = cases[own & (cases["status"] == "ok")]
    assert len(ran) == 3 * len(models)
    missed = []
    for row in ran.to_dict("records"):
        key = (row["model"], row["backend"])
        figure = f"{row['speedup_p10']:.2f} (p50: {row['speedup']:.2f})"
        benchmark.extra_info[" ".join(key)] = row["speedup_p10"]
        print(f"\n{key[0]} on {key[1]}: int8-static is {figure} times as fast as fp32")
        if row["speedup_p10"] < LEAST[key]:
            missed.append(f"{key}: {figure}, wanted {LEAST[key]}")
    assert not missed, missed
