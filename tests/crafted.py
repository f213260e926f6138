"""Write bundles with chosen latencies, to test the analysis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from qbench.analysis.quality.judge import score_outputs
from qbench.bundle.bundle import Bundle
from qbench.spec.judging import Judging
from qbench.spec.precisions import variant

TOP1 = Judging(task="image-classification", metric="top1", scores="scores")

PHASES = {
    "start_ns": 10_000_000,
    "import_ns": 40_000_000,
    "load_ns": 5_000_000,
    "bind_ns": 20_000,
    "first_inference_ns": 3_000_000,
    "cold_ns": 70_000_000,
}
MEMORY = {
    "baseline_bytes": 30_000_000,
    "load_peak_bytes": 4_000_000,
    "load_anonymous_bytes": 3_000_000,
    "load_file_bytes": 500_000,
    "peak_bytes": 6_000_000,
    "anonymous_bytes": 5_000_000,
    "file_bytes": 600_000,
    "process_peak_bytes": 36_000_000,
}


class Crafted:
    """A bundle in the making: cases and trials are added, then ``done`` completes it."""

    def __init__(self, folder: Path, run_id: str = "20260101-000000-crafted-0001", **begin: Any):
        self.folder, self.run_id, self.begin = folder, run_id, begin
        self.cases: list[dict[str, Any]] = []
        self.trials: list[tuple[dict[str, Any], np.ndarray | None]] = []
        self.prepared: dict[str, dict[str, Any]] = {}
        self.evaluated: dict[str, tuple[dict[str, Any], dict[str, np.ndarray]]] = {}
        self.labels: np.ndarray | None = None

    def case(self, precision: str, skip: str | None = None, **fields: Any) -> str:
        """Add a case; returns its id. It is prepared, and not evaluated."""
        case_id = f"c{len(self.cases):011d}"
        case = {
            "model": "net",
            "backend": "fake",
            "environment": "default",
            "precision": precision,
            "options": {},
            "recipe": "best",
            "device": "cpu",
            "scenario": "single-stream",
            "scenario_options": {"rounds": None},
            "batch_size": 1,
            "threads": 1,
            "streams": 1,
            "hints": {},
            **fields,
        }
        self.cases.append(
            {
                "case_id": case_id,
                "case": case,
                "variant": variant(precision, case["options"]),
                "skip": skip,
                "failure": None,
                "artifact_key": None if skip else f"a{case_id}",
                "evaluation_id": None if skip else f"e{case_id}",
                "source_format": None if skip else "fake",
                "model_digest": None if skip else "d" * 64,
                "source_bytes": None if skip else 2_000_000,
                "calibration_items": None,
                "dataset_digest": None,
                "cached_items": None,
                "conversion": None,
            }
        )
        if skip is None:
            self.prepared[f"a{case_id}"] = {"status": "ok", "reason": "", "bytes": 500_000}
        return case_id

    def trial(
        self,
        case_id: str,
        number: int,
        latency_ms: float,
        sitting: int = 1,
        status: str = "ok",
        **fields: Any,
    ) -> None:
        """Add a trial: 100 calls that all take ``latency_ms``, or a failure."""
        record: dict[str, Any] = {
            "trial": f"r{number:03d}-{case_id}",
            "case_id": case_id,
            "round": number,
            "sitting": sitting,
            "status": status,
            "reason": "" if status == "ok" else f"planned {status}",
            "seconds": 1.0,
        }
        samples = None
        if status == "ok":
            samples = np.full(100, round(latency_ms * 1e6), np.int64)
            (batch,) = (c["case"]["batch_size"] for c in self.cases if c["case_id"] == case_id)
            record |= {
                "calls": 100,
                "items": 100 * batch,
                "wall_ns": int(samples.sum()),
                "window": [0, int(samples.sum())],
                "cpu_ns": int(samples.sum()),
                "phases": PHASES,
                "memory": MEMORY,
                "warmup": {"calls": 10, "ns": 1000, "stable": True},
                "conditions": {},
                "counters": None,
                "loop": {},
                "figures": {},
            }
        self.trials.append(({**record, **fields}, samples))

    def evaluation(
        self,
        case_id: str,
        outputs: np.ndarray,
        reference: str | None = None,
        **effective: Any,
    ) -> None:
        """Add an evaluation with one output, judged against another case's."""
        base = self.evaluated[f"e{reference}"][1] if reference else None
        quality = score_outputs({"scores": outputs}, base, self.labels, TOP1)
        record = {
            "evaluation_id": f"e{case_id}",
            "status": "ok",
            "reason": "",
            "runtime_version": "1.0",
            "effective": {
                "precision": "int8" if reference else "fp32",
                "operators": {"int8" if reference else "fp32": 1},
                "macs": {"int8" if reference else "fp32": 640},
                "weight_bytes": None,
                "activation_bytes": None,
                "fallback_ops": 0,
                **effective,
            },
            "quality": quality.model_dump(mode="json"),
        }
        self.evaluated[f"e{case_id}"] = record, {"scores": outputs}

    def open(self) -> Bundle:
        """Write it, incomplete."""
        begin = {
            "run_id": self.run_id,
            "run_key": "k" * 64,
            "suite": "crafted",
            "seed": 0,
            "started": "2026-01-01T00:00:00+0000",
            "software": {"qbench": "0"},
            "host": {
                "host_id": "h" * 12,
                "cpu_model": "a processor",
                "cpu_flags": ["avx2"],
                "governor": None,
                "power_mode": None,
                "caches": None,
            },
            "backends": {"fake": {"ready": True, "version": "1.0"}},
            "settings": {"cpu_power": None, "rounds": 10},
            **self.begin,
        }
        fp32 = [c for c in self.cases if c["case"]["precision"] == "fp32" and not c["skip"]]
        plan = {
            "cases": self.cases,
            "yardsticks": [],
            "data": {
                entry["case"]["model"]: {"name": "blobs", "part_of": None} for entry in self.cases
            },
            "models": {
                entry["case"]["model"]: TOP1.model_dump(mode="json") for entry in self.cases
            },
            "references": {"net": fp32[:1]} if fp32 else {},
        }
        bundle = Bundle.create(self.folder / self.run_id, begin, plan, "name: crafted\n")
        for key, record in self.prepared.items():
            bundle.add_prepared({"artifact_key": key, **record})
        scratch = self.folder / "scratch.npy"
        if self.labels is not None:
            np.save(scratch, self.labels)
            bundle.add_items("net", scratch, None)
        for record, outputs in self.evaluated.values():
            files = {}
            for name, array in outputs.items():
                np.save(scratch, array)
                files[name] = scratch
            bundle.add_evaluated(record, files)
        for record, samples in self.trials:
            if samples is not None:
                np.save(scratch, samples)
            bundle.add_trial(record, scratch if samples is not None else None, {})
        scratch.unlink(missing_ok=True)
        return bundle

    def done(self) -> Bundle:
        """Write it, complete."""
        bundle = self.open()
        bundle.finish({"finished": "2026-01-01T00:00:01+0000"})
        return bundle
