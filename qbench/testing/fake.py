"""A fake backend and GPU backend, for tests of the core without any runtime."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from qbench.kit.adapter import (
    API_VERSION,
    Adapter,
    Description,
    PrepareError,
    Program,
    Ready,
    Stream,
    Unavailable,
    Unsupported,
)
from qbench.kit.feeds import check_feed
from qbench.kit.hints import NoHints, read_hints
from qbench.kit.model import (
    Artifact,
    Calibration,
    Feed,
    Model,
    PrepareTarget,
    Provenance,
    RunConfig,
    SourceTensor,
    TensorSpec,
)
from qbench.kit.operators import Activation, EffectivePrecision, Operator, Profile


class FakeBackend(Adapter):
    """A test double: computes ``scores = image @ weights`` in NumPy, and fails on demand.
    It only pretends to quantize; ``tests/examples/qbench_numpy`` is an adapter to learn from.

    The model file holds ``{"weights": [[...]], "infer_us": 50, "fail": {"prepare": "crash"}}``.
    ``fail`` maps a step (``prepare, compile, open, infer``) to a failure: ``error``, ``failed``
    (the tool's own), ``crash`` (a segmentation fault), ``hang``, ``oom``, ``unsupported``, ``nan``
    (only ``infer``), ``exit``. A step may name a precision: ``{"int8-static:infer": "crash"}``.
    ``drift`` is added to the scores by every call, as a broken program might do; ``int8_macs`` is
    the number of its 640 multiply-accumulates that run in int8 when it is quantized.
    """

    name = "fake"
    api_version = API_VERSION
    formats = ("fake",)
    precisions = {"cpu": ("fp32", "int8-static", "int8-dynamic")}
    missing = {"cpu": {"fp16": "the fake backend has no half precision"}}
    runtime_packages = ("numpy",)
    prepare_packages = ("numpy",)
    shareable = ("int8-static",)

    def supports(self, model: Model, target: PrepareTarget) -> str | None:
        """Everything: it pretends, so that tests can ask for any option."""
        return None

    def import_runtime(self) -> str:
        return "1.0"

    def describe(self, path: Path) -> Description:
        classes = len(_read(path)["weights"][0])
        return Description(
            {"image": TensorSpec("float32", ("N", 1, 8, 8))},
            {name: TensorSpec("float32", ("N", classes)) for name in ("scores", "aux")},
        )

    def prepare(
        self, model: Model, target: PrepareTarget, calibration: Calibration | None, out: Path
    ) -> Provenance:
        content = _read(model.path)
        weights = np.asarray(content["weights"], dtype=np.float32)
        _misbehave(content, target.precision, "prepare")
        quantized = target.precision != "fp32"
        if quantized and target.recipe == "best":
            step = float(np.abs(weights).max()) / 127
            weights = np.round(weights / step) * np.float32(step)
        macs = {"int8": content.get("int8_macs", 640)} if quantized else {"fp32": 640}
        content |= {"weights": weights.tolist(), "macs": macs}
        (out / "model.json").write_text(json.dumps(content))
        return Provenance(
            "model.json",
            quantizer="fake.round" if quantized and target.recipe == "best" else None,
            quantized_ops=1 if quantized else None,
        )

    def open(self, artifact: Artifact, config: RunConfig, inspect: bool = False) -> FakeProgram:
        content = json.loads(artifact.file.read_text())
        read_hints(NoHints, config.hints, self.name)
        _misbehave(content, artifact.target.precision, "open")
        return FakeProgram(artifact, content, config)

    def activations(
        self, artifact: Artifact, config: RunConfig, feeds: Iterable[Feed]
    ) -> Iterator[list[Activation]]:
        with self.open(artifact, config) as program:
            stream = program.stream()
            for feed in feeds:
                stream.bind(feed)
                stream.infer()
                values = np.array(stream.read()["scores"])
                yield [Activation("product", "MatMul", values)]


FAKE_GPU: Mapping[str, Any] = {
    "index": 0,
    "name": "Fake GPU",
    "compute_capability": "9.0",
    "driver": "13.0",
    "driver_release": "580.1",
    "memory_bytes": 1 << 30,
    "pci_bus_id": "FFFF:FF:1F.0",
    "uuid": "GPU-00000000-0000-0000-0000-000000000000",
}
"""Facts in the form of ``qbench.kit.cuda.Device``. NVML knows no such card."""


class FakeGpuBackend(FakeBackend):
    """The fake with a second device, ``cuda:0``, that artifacts are compiled for, one per batch
    size. It computes the same there; the times of a call's parts are invented."""

    name = "fakegpu"

    def probe(self) -> Ready | Unavailable:
        return Ready(
            version="1.0",
            precisions={"cpu": ("fp32", "int8-static"), "cuda:0": ("fp32", "int8-static")},
            missing={"cuda:0": {"fp8": "the fake GPU is too old for fp8"}},
            devices={"cuda:0": dict(FAKE_GPU)},
            compiled=("cuda:0",),
        )

    def compile(self, artifact: Artifact, config: RunConfig, kept: Path, out: Path) -> Provenance:
        """The file ``timings`` in ``kept`` counts compilations."""
        content = json.loads(artifact.file.read_text())
        _misbehave(content, artifact.target.precision, "compile")
        timings = kept / "timings"
        before = int(timings.read_text()) if timings.exists() else 0
        timings.write_text(str(before + 1))
        engine = {**content, "compiled": {"device": config.device, "batch": config.batch}}
        (out / "engine.json").write_text(json.dumps(engine))
        return Provenance("engine.json", settings={"compilations_before": before})

    def open(self, artifact: Artifact, config: RunConfig, inspect: bool = False) -> FakeProgram:
        program = super().open(artifact, config, inspect)
        if config.device == "cpu":
            return program
        wanted = {"device": config.device, "batch": config.batch}
        if program.content.get("compiled") != wanted:
            raise RuntimeError(f"not compiled for {wanted}: {program.content.get('compiled')}")
        return FakeGpuProgram(artifact, program.content, config)

    def activations(
        self, artifact: Artifact, config: RunConfig, feeds: Iterable[Feed]
    ) -> Iterator[list[Activation]]:
        """Only of a prepared artifact."""
        if "compiled" in json.loads(artifact.file.read_text()):
            raise Unsupported("a compiled artifact does not expose its layers")
        return super().activations(artifact, replace(config, device="cpu"), feeds)


class FakeProgram(Program):
    """An opened fake model."""

    def __init__(self, artifact: Artifact, content: dict[str, Any], config: RunConfig) -> None:
        self.inputs, self.outputs = artifact.model.inputs, artifact.model.outputs
        self.artifact, self.content, self.config = artifact, content, config

    def stream(self) -> FakeStream:
        return FakeStream(self)

    def effective(self) -> EffectivePrecision:
        return EffectivePrecision.of(self._operators())

    def profile(self, feed: Feed, runs: int) -> Profile:
        stream = self.stream()
        stream.bind(feed)
        begin = time.perf_counter_ns()
        for _ in range(runs):
            stream.infer()
        mean = (time.perf_counter_ns() - begin) / runs
        operators = self._operators()
        return Profile(tuple(replace(op, ns=mean / len(operators)) for op in operators))

    def _operators(self) -> list[Operator]:
        macs = dict(self.content["macs"])
        macs["fp32"] = 640 - macs.get("int8", 0)
        moved = self.config.batch * (64 + 10) * 4
        return [
            Operator(
                name=f"product-{word}",
                kind="MatMul",
                role="compute",
                precision=word,
                macs=count,
                weight_bytes=count if word == "int8" else 4 * count,
                activation_bytes=moved,
            )
            for word, count in macs.items()
            if count
        ]


class FakeGpuProgram(FakeProgram):
    """A program that reports its memory on the device."""

    def stream(self) -> FakeStream:
        return FakeGpuStream(self)

    def device_memory_bytes(self) -> dict[str, int]:
        return {"weights": 64 * 10 * 4, "io": self.config.batch * (64 + 10) * 4}


class FakeStream(Stream):
    """One lane of a fake program."""

    def __init__(self, program: FakeProgram) -> None:
        self._program = program
        self._weights = np.asarray(program.content["weights"], dtype=np.float32)
        self._calls = 0
        self._wait_ns = int(program.content.get("infer_us", 20) * 1000)
        self._scores = np.zeros((program.config.batch, self._weights.shape[1]), np.float32)

    def bind(self, feed: Feed) -> None:
        check_feed(feed, self._program.inputs, self._program.config.batch)
        (array,) = feed.values()
        self._image = array.copy()

    def infer(self) -> None:
        _misbehave(self._program.content, self._program.artifact.target.precision, "infer")
        end = time.perf_counter_ns() + self._wait_ns
        np.matmul(self._image.reshape(len(self._image), -1), self._weights, out=self._scores)
        if self._program.content.get("fail", {}).get("infer") == "nan":
            self._scores[0] = np.nan
        if "drift" in self._program.content:
            self._calls += 1
            self._scores += np.float32(self._program.content["drift"] * self._calls)
        while time.perf_counter_ns() < end:
            pass

    def read(self) -> Feed:
        scores, *others = self._program.outputs  # others hold the negated scores
        return {scores: self._scores, **dict.fromkeys(others, -self._scores)}


class FakeGpuStream(FakeStream):
    """A lane that reports the parts of a call."""

    def segments(self, calls: int) -> dict[str, np.ndarray]:
        """Invented: copying in takes 2 µs, out 1 µs, computing 10 to 30 µs."""
        for _ in range(calls):
            self.infer()
        return {
            "h2d": np.full(calls, 2e3),
            "compute": np.linspace(10e3, 30e3, calls),
            "d2h": np.full(calls, 1e3),
            "enqueue": np.full(calls, 4e3),
        }


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
        np.asarray(content["weights"], dtype=np.float32)
    except (ValueError, KeyError, TypeError) as error:
        raise PrepareError(f"not a valid fake model: {error}") from None
    return content


def _misbehave(content: Mapping[str, Any], precision: str, step: str) -> None:
    fail = content.get("fail", {})
    kind = fail.get(f"{precision}:{step}") or fail.get(step)
    if kind == "error":
        sys.stdout.write("the fake backend prints before it fails\n")
        raise RuntimeError(f"planted failure in {step}")
    if kind == "failed":
        raise PrepareError(f"planted failure in {step}", "product")
    if kind == "unsupported":
        raise Unsupported(f"planted refusal in {step}")
    if kind == "crash":
        os.kill(os.getpid(), 11)
    if kind == "exit":
        os._exit(7)
    if kind == "hang":
        subprocess.Popen(["sleep", "600"])  # a grandchild, as compilers start them
        time.sleep(600)
    if kind == "oom":
        np.ones(1 << 37, dtype=np.uint8)


def fake_model(path: Path, **content: Any) -> Model:
    """Write a fake model of 8x8 images and 10 classes to ``path``; its weights are fixed
    pseudo-random numbers. For ``content`` see :class:`FakeBackend`."""
    weights = np.random.default_rng(7).normal(size=(64, 10)).astype(np.float32)
    path.write_text(json.dumps({"weights": weights.tolist(), **content}))
    return Model(
        name="fake_net",
        format="fake",
        path=path,
        digest="0" * 64,
        task="image-classification",
        inputs={"image": TensorSpec("float32", ("N", 1, 8, 8), "NCHW")},
        outputs={"scores": TensorSpec("float32", ("N", 10))},
        source_inputs={"image": SourceTensor("image", "NCHW")},
        source_outputs={"scores": SourceTensor("scores")},
    )
