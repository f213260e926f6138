"""How long comparing takes: pytest tests/benchmarks/test_compare_speed.py --benchmark-enable -s"""

from __future__ import annotations

import hashlib
import json
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from crafted import MEMORY, PHASES, TOP1, Crafted

from qbench.analysis.compare.compare import compare_runs
from qbench.analysis.quality.judge import score_outputs
from qbench.bundle.bundle import Bundle
from qbench.bundle.records.run import SCHEMA, to_json
from qbench.bundle.trials import TRIAL_COLUMNS
from qbench.spec.case import Case
from qbench.spec.precisions import complete_options

MODELS, BACKENDS, THREADS = 20, 2, 5
PRECISIONS = ("fp32", "fp16", "bf16", "int8-dynamic", "int8-static")
ROUNDS, ITEMS, CLASSES = 10, 500, 10
MAX_S = 1.0
CONDITIONS = {
    "involuntary_switches": 21, "major_faults": 0, "minor_faults": 19, "run_delay_ns": 769792,
    "cpus": 2, "steal_ns": 0, "others_cpu_ns": 1073373, "cpu_pressure_ns": 558390,
    "memory_pressure_ns": 0, "throttled_ns": 0, "throttled_periods": 0, "thermal_throttles": None,
    "frequency_khz_begin": None, "frequency_khz_end": None, "frequency_max_khz": None,
    "temperature_c": None, "load_average": 1.85,
}  # fmt: skip
"""As a virtual machine tells them."""


def a_night(folder: Path, run_id: str, seed: int) -> Bundle:
    """A complete bundle of 1,000 cases and 10,000 trials. Of each model the labels are the same
    every night; the outputs of int8-static are not."""
    same, rng = np.random.default_rng(0), np.random.default_rng(seed)
    base = Crafted(folder, run_id)
    base.case("fp32")
    bundle = base.open()
    written = to_json(bundle.plan)
    (template,) = written["cases"]
    plan: dict[str, Any] = {**written, "cases": [], "references": {}}
    plan["models"] = {f"net_{m}": TOP1.model_dump(mode="json") for m in range(MODELS)}
    plan["data"] = {f"net_{m}": {"name": "blobs", "part_of": None} for m in range(MODELS)}
    prepared, evaluated, journal, rows = [], [], [], []
    for m in range(MODELS):
        labels = same.integers(0, CLASSES, ITEMS)
        np.save(bundle.path / "predictions" / f"labels-net_{m}.npy", labels)
        for b, precision in product(range(BACKENDS), PRECISIONS):
            key = hashlib.sha256(f"{m} {b} {precision}".encode()).hexdigest()[:12]
            outputs = same.normal(size=(ITEMS, CLASSES)) + 2 * np.eye(CLASSES)[labels]
            noise = rng.normal(0, 0.3, outputs.shape) if precision == "int8-static" else 0
            outputs = (outputs + noise).astype(np.float32)
            (bundle.path / "predictions" / key).mkdir()
            np.save(bundle.path / "predictions" / key / "0.npy", outputs)
            quality = score_outputs({"scores": outputs}, None, labels, TOP1)
            prepared.append(
                {"artifact_key": f"a{key}", "status": "ok", "reason": "", "bytes": 10**6,
                 "digest": key.ljust(64, "0"), "prepare_ns": 10**9, "provenance": {}}
            )  # fmt: skip
            evaluated.append(
                {"evaluation_id": key, "status": "ok", "reason": "", "runtime_version": "1.0",
                 "effective": {"precision": "fp32", "operators": {"fp32": 9}, "fallback_ops": 0,
                               "macs": {"fp32": 10**6}, "weight_bytes": 10**6,
                               "activation_bytes": 10**5},
                 "quality": quality.model_dump(mode="json"), "outputs": {"scores": "0.npy"}}
            )  # fmt: skip
            for threads in range(1, THREADS + 1):
                case = Case(
                    model=f"net_{m}", backend=f"runtime_{b}", precision=precision, threads=threads,
                    options=complete_options(precision, {}),
                )  # fmt: skip
                plan["cases"].append(
                    {**template, "case_id": case.case_id, "case": case.model_dump(mode="json"),
                     "artifact_key": f"a{key}", "evaluation_id": key, "dataset_digest": "e" * 64}
                )  # fmt: skip
    entries: list[dict[str, Any]] = plan["cases"]
    for number, entry in product(range(ROUNDS), entries):
        latency = round(1e6 * rng.lognormal(0, 0.01))
        trial = {
            "trial": f"r{number:03d}-{entry['case_id']}", "case_id": entry["case_id"],
            "round": number, "sitting": 1, "status": "ok", "reason": "", "log": "",
            "started": "2026-01-01T00:00:00+0000", "seconds": 1.5, "calls": 1000, "items": 1000,
            "wall_ns": 1000 * latency, "cpu_ns": 1000 * latency, "window": [0, 1000 * latency],
            "phases": PHASES, "memory": MEMORY, "conditions": CONDITIONS, "counters": None,
            "warmup": {"calls": 10, "ns": 1000, "stable": True}, "figures": {},
            "loop": {"clean_share": 0.99, "head_over_rest": 1.0, "worst_work": 1.0},
            "runtime_version": "1.0", "samples_sha256": "0" * 64,
        }  # fmt: skip
        journal.append(trial)
        points = {f"{point}_ns": latency * (1 + i / 100) for i, point in enumerate(POINTS)}
        memory = {f"memory_{name}": value for name, value in MEMORY.items()}
        warmup = {"warmup_calls": 10, "warmup_ns": 1000, "warmup_stable": True}
        rows.append({**trial, **points, **PHASES, **memory, **warmup})
    pd.DataFrame(rows, columns=TRIAL_COLUMNS).to_parquet(bundle.path / "trials.parquet")
    (bundle.path / "plan.json").write_text(json.dumps(plan))
    for name, records in (("prepare", prepared), ("evaluate", evaluated), ("journal", journal)):
        lines = "".join(json.dumps(record) + "\n" for record in records)
        (bundle.path / f"{name}.jsonl").write_text(lines)
    manifest = {"schema": SCHEMA, "run_id": run_id, "files": {}}
    (bundle.path / "manifest.json").write_text(json.dumps(manifest))
    return Bundle(bundle.path)


POINTS = ("p10", "p50", "p90", "p99", "p99_9")


def test_two_bundles_of_a_thousand_cases_each(benchmark, tmp_path: Path):
    if not benchmark.enabled:
        pytest.skip("a claim about speed: run with --benchmark-enable")
    paths = [a_night(tmp_path, f"2026010{n}-000000-night-000{n}", n).path for n in (1, 2)]
    a, b = map(Bundle, paths)
    found = compare_runs(a, b)  # with imports
    took = []
    for _ in range(5):
        a, b = map(Bundle, paths)  # nothing is kept from before
        start = time.perf_counter(), time.process_time()
        found = compare_runs(a, b)
        took.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    wall, processor = (sorted(times) for times in zip(*took, strict=True))
    print(f"\n{wall[0]:.2f} to {wall[-1]:.2f} s, of which {processor[2]:.2f} s on the processor")
    assert len(found.pairs) == 1000
    assert all(pair.latency is not None and pair.latency.p_value for pair in found.pairs)
    changed = [pair for pair in found.pairs if pair.b.precision == "int8-static"]
    assert all(pair.accuracy_delta and pair.accuracy_delta.paired for pair in changed)
    assert any(pair.accuracy_delta.value for pair in changed if pair.accuracy_delta)
    assert processor[2] <= MAX_S, "one thread: what a machine that does nothing else needs"
