"""Engines of the TensorRT adapter, built on a fake of TensorRT 10 and 11."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fake_tensorrt
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from paths import ROOT

from qbench.kit.adapter import PrepareError, Unsupported
from qbench.kit.model import (
    Artifact,
    Model,
    PrepareTarget,
    Provenance,
    RunConfig,
    SourceTensor,
    TensorSpec,
)

ZOO = ROOT / "suites" / "zoo"


@pytest.fixture(params=["10", "11"])
def trt(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    return fake_tensorrt.install(monkeypatch, request.param)


def artifact(folder: Path, model: onnx.ModelProto, precision: str = "fp32") -> Artifact:
    """A prepared file, as ``prepare`` leaves it."""
    from qbench_tensorrt.io import Io

    folder.mkdir(exist_ok=True)
    onnx.save(model, folder / "model.onnx")

    def specs(values: Any) -> dict[str, TensorSpec]:
        return {
            v.name: TensorSpec(
                helper.tensor_dtype_to_np_dtype(v.type.tensor_type.elem_type).name,
                tuple(d.dim_value or d.dim_param for d in v.type.tensor_type.shape.dim),
            )
            for v in values
        }

    inputs, outputs = specs(model.graph.input), specs(model.graph.output)
    Io(inputs, outputs).write(folder)
    given, made = ({n: SourceTensor(n) for n in tensors} for tensors in (inputs, outputs))
    card = Model("m", "onnx", folder / "model.onnx", "0", "any", inputs, outputs, given, made)
    return Artifact(folder, card, PrepareTarget(precision, device="cuda"), Provenance("model.onnx"))


def small(batch: int | str = "N", other: int | str = 8) -> onnx.ModelProto:
    """``y = relu(x @ w)``, ``[batch, 8] -> [batch, 4]``."""
    weights = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["p"], name="product"),
            helper.make_node("Relu", ["p"], ["y"], name="relu"),
        ],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, other])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 4])],
        [numpy_helper.from_array(weights, "w")],
    )
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def compiled(tmp_path: Path, source: Artifact, **config: Any) -> tuple[Path, Provenance]:
    from qbench_tensorrt.build import compile_engine

    out, kept = tmp_path / "out", tmp_path / "kept"
    for folder in (out, kept):
        folder.mkdir(exist_ok=True)
    return out, compile_engine(source, RunConfig(**{"device": "cuda:0", **config}), kept, out)


def built(trt: Any) -> dict[str, Any]:
    """What the last engine was built with, as the builder saw it."""
    return trt._fake.built[-1]


def test_one_engine_for_one_batch(trt: Any, tmp_path: Path) -> None:
    out, provenance = compiled(tmp_path, artifact(tmp_path / "in", small()), batch=4)
    left = ["io.json", "layers.json", "model.engine", "nodes.json"]
    assert sorted(file.name for file in out.iterdir()) == left
    assert built(trt)["profile"] == {"x": [[4, 8]] * 3}
    assert built(trt)["typed"]
    assert built(trt)["compatible"] == "NONE"
    assert provenance.file == "model.engine"
    assert provenance.settings["profile"] == {"x": [4, 8]}
    assert provenance.settings["tensorrt"] == trt.__version__
    assert provenance.settings["engine_bytes"] == (out / "model.engine").stat().st_size
    assert (out / "io.json").read_bytes() == (tmp_path / "in" / "io.json").read_bytes()


def test_the_layers_are_told_in_detail(trt: Any, tmp_path: Path) -> None:
    out, _ = compiled(tmp_path, artifact(tmp_path / "in", small()), batch=2)
    told = json.loads((out / "layers.json").read_text())
    assert told["Layers"][0]["Outputs"][0]["Dimensions"] == [2, 4]
    assert ("Bindings" in told) == trt.__version__.startswith("10")
    assert ("I/O Tensors" in told) == trt.__version__.startswith("11")


def test_sizes_and_types_are_told_of_a_free_batch(trt: Any, tmp_path: Path) -> None:
    """The inspector needs an execution context for that, whose input sizes are set."""
    out, _ = compiled(tmp_path, artifact(tmp_path / "in", small()), batch=2)
    told = (out / "layers.json").read_text()
    assert "N/A" not in told
    assert all(
        size > 0
        for layer in json.loads(told)["Layers"]
        for tensor in (*layer["Inputs"], *layer["Outputs"])
        for size in tensor["Dimensions"]
    )


def test_a_fixed_file_needs_no_profile(trt: Any, tmp_path: Path) -> None:
    source = artifact(tmp_path / "in", small(batch=2))
    _, provenance = compiled(tmp_path, source, batch=2)
    assert built(trt)["profile"] == {}
    assert provenance.settings["profile"] is None


def test_a_fixed_file_at_another_batch(trt: Any, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="fixed at batch 2"):
        compiled(tmp_path, artifact(tmp_path / "in", small(batch=2)), batch=4)


@pytest.mark.parametrize(("precision", "tf32"), [("fp32", False), ("tf32", True), ("fp16", False)])
def test_only_tf32_rounds_to_it(trt: Any, tmp_path: Path, precision: str, tf32: bool) -> None:
    _, provenance = compiled(tmp_path, artifact(tmp_path / "in", small(), precision))
    assert ("TF32" in built(trt)["flags"]) is tf32
    assert provenance.settings["tf32"] is tf32


def test_hints(trt: Any, tmp_path: Path) -> None:
    hints = {"builder_optimization_level": 5, "workspace_mb": 64, "cuda_graph": False}
    _, provenance = compiled(tmp_path, artifact(tmp_path / "in", small()), hints=hints)
    assert built(trt)["level"] == provenance.settings["builder_optimization_level"] == 5
    assert built(trt)["workspace"] == 64 * 1024 * 1024
    assert provenance.settings["workspace_mb"] == 64


def test_unknown_hints(trt: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no hint 'workspace'"):
        compiled(tmp_path, artifact(tmp_path / "in", small()), hints={"workspace": 1})


# --------------------------------------------------------------------------- what fails


def test_an_operator_that_the_parser_does_not_know(trt: Any, tmp_path: Path) -> None:
    trt._fake.unsupported = {"Relu"}
    with pytest.raises(PrepareError) as caught:
        compiled(tmp_path, artifact(tmp_path / "in", small()))
    assert caught.value.operator == "Relu 'relu'"
    assert "Plugin not found" in str(caught.value)
    assert "UNSUPPORTED_NODE" in str(caught.value)


def test_all_errors_of_the_parser_are_told(trt: Any, tmp_path: Path) -> None:
    trt._fake.unsupported = {"MatMul", "Relu"}
    with pytest.raises(PrepareError, match=r"MatMul 'product'.*Relu 'relu'"):
        compiled(tmp_path, artifact(tmp_path / "in", small()))


def test_a_file_that_is_none(trt: Any, tmp_path: Path) -> None:
    source = artifact(tmp_path / "in", small())
    source.file.write_bytes(b"no model")
    with pytest.raises(PrepareError, match=r"MODEL_DESERIALIZE_FAILED"):
        compiled(tmp_path, source)


def test_an_engine_that_cannot_be_built(trt: Any, tmp_path: Path) -> None:
    trt._fake.build_error = "Error Code 10: Could not find any implementation for node product."
    with pytest.raises(PrepareError, match="any implementation for node product"):
        compiled(tmp_path, artifact(tmp_path / "in", small()))
    assert not (tmp_path / "out" / "model.engine").exists()


def test_an_engine_of_another_card(trt: Any, tmp_path: Path) -> None:
    out, _ = compiled(tmp_path, artifact(tmp_path / "in", small()))
    from qbench_tensorrt.build import load_engine
    from qbench_tensorrt.log import Log

    trt._fake.device = "another card"
    with pytest.raises(RuntimeError, match=r"compile it again.*Version tag does not match"):
        load_engine(out / "model.engine", Log())
    (out / "model.engine").write_bytes(b"")
    with pytest.raises(RuntimeError, match="cannot load the engine"):
        load_engine(out / "model.engine", Log())


# --------------------------------------------------------------------------- timings, warnings


def test_timings_are_kept_for_the_next_one(trt: Any, tmp_path: Path) -> None:
    source = artifact(tmp_path / "in", small())
    _, first = compiled(tmp_path, source)
    before = (tmp_path / "kept" / "timing.cache").read_bytes()
    _, second = compiled(tmp_path, source, batch=2)
    assert first.settings["timing_cache"] == "new"
    assert second.settings["timing_cache"] == "reused"
    assert (tmp_path / "kept" / "timing.cache").read_bytes().startswith(before)


@pytest.mark.parametrize("planted", ["damaged", "of another card"])
def test_timings_that_cannot_be_used(trt: Any, tmp_path: Path, planted: str) -> None:
    source = artifact(tmp_path / "in", small())
    kept = tmp_path / "kept" / "timing.cache"
    if planted == "damaged":
        kept.parent.mkdir()
        kept.write_bytes(b"\x00\x01")
    else:
        trt._fake.device = "another card"
        compiled(tmp_path, source)
        trt._fake.device = "fake H100"
    _, provenance = compiled(tmp_path, source)
    assert provenance.settings["timing_cache"] == "new"
    assert any("timed again" in note for note in provenance.notes)
    assert b"fake H100" in kept.read_bytes()
    _, provenance = compiled(tmp_path, source)
    assert (provenance.settings["timing_cache"], provenance.notes) == ("reused", ())


def test_warnings_worth_reading_are_noted(trt: Any, tmp_path: Path) -> None:
    slow = "Skipping tactic 0x3 due to insufficient memory on requested size of 9 MiB."
    trt._fake.warnings = [slow, "ONNX model has been generated with an unknown producer.", slow]
    _, provenance = compiled(tmp_path, artifact(tmp_path / "in", small()))
    assert provenance.notes == (f"TensorRT warns: {slow}",)


# --------------------------------------------------------------------------- real models


@pytest.mark.parametrize("name", ["digits_cnn", "digits_mobilenet", "digits_vit"])
def test_the_zoo(trt: Any, tmp_path: Path, name: str) -> None:
    model = onnx.load(ZOO / f"{name}.onnx")
    out, _ = compiled(tmp_path, artifact(tmp_path / "in", model))
    told = json.loads((out / "layers.json").read_text())
    wanted = sum(node.op_type in ("Conv", "Gemm", "MatMul") for node in model.graph.node)
    kinds = [layer["LayerType"] for layer in told["Layers"]]
    assert sum(kind in ("CaskConvolution", "gemm") for kind in kinds) == wanted
