"""What layers put out on the (fake) TensorRT, beside what they put out on the real ONNX Runtime."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_cuda
import fake_tensorrt
import numpy as np
import onnx
import pytest
from test_tensorrt_build import ZOO, artifact, compiled

import qbench_onnxruntime
from qbench.kit.adapter import Unsupported
from qbench.kit.model import Artifact, PrepareTarget, RunConfig
from qbench.kit.operators import Activation
from qbench_tensorrt import Backend

CUDA = RunConfig(device="cuda:0", batch=2)


@pytest.fixture(params=["10", "11"])
def trt(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    return fake_tensorrt.install(monkeypatch, request.param)


def feeds(source: Artifact) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [
        {
            name: rng.normal(size=spec.at(2)).astype(spec.dtype)
            for name, spec in source.model.inputs.items()
        }
        for _ in range(2)
    ]


def shown(source: Artifact) -> list[list[Activation]]:
    return list(Backend().activations(source, CUDA, feeds(source)))


def on_onnxruntime(source: Artifact, folder: Path) -> list[list[Activation]]:
    """The same file on the processor."""
    backend, target = qbench_onnxruntime.Backend(), PrepareTarget("fp32")
    folder.mkdir()
    provenance = backend.prepare(source.model, target, None, folder)
    prepared = Artifact(folder, source.model, target, provenance)
    return list(backend.activations(prepared, RunConfig(batch=2), feeds(source)))


@pytest.mark.parametrize("name", ["digits_cnn", "digits_mobilenet", "digits_vit"])
def test_layers_put_out_what_they_do_on_another_runtime(
    trt: Any, tmp_path: Path, name: str
) -> None:
    source = artifact(tmp_path / "in", onnx.load(ZOO / f"{name}.onnx"))
    here, there = shown(source), on_onnxruntime(source, tmp_path / "ort")
    assert len(here) == len(there) == 2
    for mine, theirs in zip(here, there, strict=True):
        known = {layer.name: layer for layer in theirs}
        pairs = [(layer, known[layer.name]) for layer in mine if layer.name in known]
        assert len(pairs) == len(mine) == len(theirs)
        for ours, other in pairs:
            np.testing.assert_allclose(ours.values, other.values, rtol=1e-3, atol=1e-4)
    assert fake_cuda.leaks() == []


def test_half_precision_is_shown_as_float32(trt: Any, tmp_path: Path) -> None:
    model = onnx.load(ZOO / "digits_cnn.onnx")
    source = artifact(tmp_path / "in", model)
    out = tmp_path / "half"
    out.mkdir()
    target = PrepareTarget("fp16", device="cuda")
    provenance = Backend().prepare(source.model, target, None, out)
    half = replace(source, path=out, target=target, provenance=provenance)
    exact, rounded = shown(source)[0], shown(half)[0]
    assert {layer.values.dtype.name for layer in rounded} == {"float32"}
    assert [layer.name for layer in rounded] == [layer.name for layer in exact]
    for a, b in zip(exact, rounded, strict=True):
        assert 0 < np.linalg.norm(a.values - b.values) < 0.01 * np.linalg.norm(a.values)


def test_an_engine_does_not_show_its_layers(trt: Any, tmp_path: Path) -> None:
    source = artifact(tmp_path / "in", onnx.load(ZOO / "digits_cnn.onnx"))
    out, provenance = compiled(tmp_path, source, batch=2)
    engine = replace(source, path=out, provenance=provenance)
    with pytest.raises(Unsupported, match="does not expose its layers"):
        shown(engine)
