"""ONNX Runtime's CUDA provider on a GPU: does it compute what the processor does, where, and when
is a call over?"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paths import ROOT

from gpu.conftest import offered
from gpu.running import DEVICE
from qbench.kit import cuda
from qbench.kit.adapter import Unsupported
from qbench.kit.model import Artifact, Feed, Model, PrepareTarget, RunConfig, SourceTensor
from qbench.spec.precisions import complete_options
from qbench_onnxruntime import Backend

pytestmark = pytest.mark.gpu

pytest.importorskip("onnx", reason="onnx is not installed")

ZOO = ROOT / "suites" / "zoo"
BACKEND = Backend()
BATCH = 8
LEAST_DB = {"fp32": 80, "tf32": 40, "fp16": 40, "w8": 35, "w4": 15}
"""As in test_answers; w8 and w4 as measured on a processor (47 and 22 dB), less some."""


@pytest.fixture(scope="module", autouse=True)
def ready(gpu: cuda.Device) -> tuple[str, ...]:
    """The precisions of the GPU, if ONNX Runtime runs on it."""
    return offered("onnxruntime").precisions[DEVICE]


@pytest.fixture(params=["digits_cnn", "digits_mobilenet", "digits_vit"])
def model(request: pytest.FixtureRequest) -> Model:
    path = ZOO / f"{request.param}.onnx"
    described = BACKEND.describe(path)
    inputs, outputs = described.inputs, described.outputs
    names = {n: SourceTensor(n) for n in inputs}, {n: SourceTensor(n) for n in outputs}
    task = "image-classification"
    return Model(request.param, "onnx", path, "0" * 64, task, inputs, outputs, *names)


def make(model: Model, precision: str, out: Path, device: str = "cuda") -> Artifact:
    out.mkdir()
    target = PrepareTarget(precision, complete_options(precision, {}), device)
    return Artifact(out, model, target, BACKEND.prepare(model, target, None, out))


def feed(model: Model, seed: int = 0) -> Feed:
    rng = np.random.default_rng(seed)
    return {n: rng.random(s.at(BATCH)).astype(s.dtype) for n, s in model.inputs.items()}


def answers(artifact: Artifact, device: str, given: Feed, **hints: Any) -> Feed:
    with BACKEND.open(artifact, RunConfig(device, batch=BATCH, hints=hints)) as program:
        stream = program.stream()
        stream.bind(given)
        for _ in range(4):  # a CUDA graph is captured by the first calls and replayed by others
            stream.infer()
        return {name: array.copy() for name, array in stream.read().items()}


def sqnr_db(reference: Feed, given: Feed) -> float:
    """The least of the outputs' ratios of signal to difference."""
    return min(
        10 * np.log10(np.square(a).sum() / max(np.square(a - given[name]).sum(), 1e-30))
        for name, a in reference.items()
    )


@pytest.mark.parametrize("precision", list(LEAST_DB))
def test_answers_and_where_they_come_from(
    model: Model, precision: str, ready: tuple[str, ...], tmp_path: Path
) -> None:
    """The processor's answers within the precision's rounding, all computing operators on the
    device, in the precision asked for (weights alone are unpacked to float32)."""
    if precision not in ready:
        pytest.skip(f"this GPU has no {precision}")
    try:
        artifact = make(model, precision, tmp_path / "cuda")
    except Unsupported as error:
        pytest.skip(str(error))
    given = feed(model)
    reference = answers(make(model, "fp32", tmp_path / "cpu", "cpu"), "cpu", given)
    assert sqnr_db(reference, answers(artifact, DEVICE, given)) >= LEAST_DB[precision]
    with BACKEND.open(artifact, RunConfig(DEVICE, batch=BATCH), inspect=True) as program:
        effective = program.effective()
        profile = program.profile(given, 3)
    expected = "fp32" if precision in ("w4", "w8") else precision
    assert effective.precision == expected
    assert not [op for op in profile.operators if op.role == "compute" and op.fallback]


@pytest.mark.parametrize(
    "hints", [{"transfers": False}, {"prefer_nhwc": True}, {"cudnn_conv_algo_search": "HEURISTIC"}]
)
def test_hints_change_no_answer(model: Model, hints: dict[str, Any], tmp_path: Path) -> None:
    artifact, given = make(model, "fp32", tmp_path / "out"), feed(model)
    plain = answers(artifact, DEVICE, given)
    assert sqnr_db(plain, answers(artifact, DEVICE, given, **hints)) >= LEAST_DB["fp32"]


def test_a_cuda_graph_changes_no_answer(model: Model, tmp_path: Path) -> None:
    """And takes new inputs: they are copied to where the graph reads them."""
    artifact = make(model, "fp32", tmp_path / "out")
    config = RunConfig(DEVICE, batch=BATCH, hints={"cuda_graph": True})
    try:
        program = BACKEND.open(artifact, config)
    except Unsupported as error:
        pytest.skip(str(error))
    with program:
        stream = program.stream()
        for seed in range(4):
            stream.bind(feed(model, seed))
            for _ in range(3):
                stream.infer()
            plain = answers(artifact, DEVICE, feed(model, seed))
            assert sqnr_db(plain, stream.read()) >= LEAST_DB["fp32"]


def test_streams_at_the_same_time(model: Model, tmp_path: Path) -> None:
    """Each has its own inputs and outputs; a call returns when its outputs are there."""
    artifact, count = make(model, "fp32", tmp_path / "out"), 4
    expected = [answers(artifact, DEVICE, feed(model, seed)) for seed in range(count)]
    wrong: list[int] = []
    with BACKEND.open(artifact, RunConfig(DEVICE, batch=BATCH, streams=count)) as program:

        def lane(seed: int) -> None:
            stream = program.stream()
            stream.bind(feed(model, seed))
            for _ in range(50):
                stream.infer()
                if sqnr_db(expected[seed], stream.read()) < LEAST_DB["fp32"]:
                    wrong.append(seed)

        lanes = [threading.Thread(target=lane, args=(seed,)) for seed in range(count)]
        for thread in lanes:
            thread.start()
        for thread in lanes:
            thread.join()
    assert not wrong


def test_segments_make_up_a_call(model: Model, tmp_path: Path) -> None:
    """Medians, by the host's clock: the parts, each waited for, against whole calls."""
    with BACKEND.open(
        make(model, "fp32", tmp_path / "out"), RunConfig(DEVICE, batch=BATCH)
    ) as program:
        stream: Any = program.stream()
        stream.bind(feed(model))
        for _ in range(50):
            stream.infer()
        calls = []
        for _ in range(300):
            begin = time.perf_counter_ns()
            stream.infer()
            calls.append(time.perf_counter_ns() - begin)
        parts = {name: np.median(times) for name, times in stream.segments(300).items()}
    assert set(parts) == {"h2d", "compute", "d2h", "enqueue"}
    assert 0 < parts["enqueue"] <= parts["compute"]
    whole = parts["h2d"] + parts["compute"] + parts["d2h"]
    assert whole == pytest.approx(np.median(calls), rel=0.15)


def test_a_device_that_is_not_there(model: Model, tmp_path: Path) -> None:
    artifact = make(model, "fp32", tmp_path / "out")
    with pytest.raises(Unsupported, match=f"cuda:{len(cuda.devices())}"):
        BACKEND.open(artifact, RunConfig(f"cuda:{len(cuda.devices())}"))
