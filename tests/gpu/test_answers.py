"""Does a GPU compute what the processor computes? Trained networks, on labelled data."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gpu.running import DEVICE, Run

pytestmark = pytest.mark.gpu

NETWORKS = ["digits_cnn", "digits_mobilenet", "digits_vit"]
LEAST_DB = {"fp32": 80, "tf32": 40, "fp16": 40, "bf16": 25, "int8-static": 10}
"""Rounding alone: 23 bits of mantissa give more than 120 dB for one product, of which long sums
leave some; 10 bits (tf32, fp16) about 60 dB, 7 bits (bf16) about 42 dB; int8 by experience on a
CPU. A wrong layout, or an output that was not waited for, leaves 0 dB."""
POINTS = 0.015
"""As much accuracy may go, of 450 digits."""


@pytest.fixture
def answered(run: Callable[..., Run], backend: str) -> Run:
    """Compare a backend on the GPU with ONNX Runtime's float32 on the processor."""
    return run(
        models=NETWORKS,
        precisions=list(LEAST_DB),
        backends=["onnxruntime", *({backend} - {"onnxruntime"})],
        devices=["cpu", DEVICE],
        exclude=[{"device": "cpu", "precision": p} for p in LEAST_DB if p != "fp32"],
        timed_s=0.2,
    )


def test_a_gpu_computes_what_the_processor_does(answered: Run, backend: str):
    rows = [r for r in answered.cases if (r["backend"], r["device"]) == (backend, DEVICE)]
    ran = [row for row in rows if row["status"] == "ok"]
    assert {row["model"] for row in ran} == set(NETWORKS), rows
    assert "fp32" in {row["precision"] for row in ran}
    on_cpu = {
        r["model"]: r["accuracy"] for r in answered.cases if r["device"] == "cpu" and r["accuracy"]
    }
    for row in ran:
        what = (row["model"], row["precision"])
        assert row["sqnr_db"] >= LEAST_DB[row["precision"]], what
        assert row["accuracy"] >= on_cpu[row["model"]] - POINTS, what
    for row in rows:
        assert row["status"] in ("ok", "skipped"), (row["model"], row["precision"], row["reason"])
        assert row["status"] == "ok" or row["reason"]


def test_the_requested_precision_runs(answered: Run, backend: str):
    """Read back from the runtime: float32 with TF32 off is not TF32, and half precision is no
    storage format on a GPU."""
    for row in answered.cases:
        if (row["backend"], row["device"], row["status"]) != (backend, DEVICE, "ok"):
            continue
        if row["precision"] in ("fp32", "tf32", "fp16", "bf16"):
            assert row["effective_precision"] == row["precision"], row["model"]
