"""ONNX files that people have, in the adapters that read them: the right value, or one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

for package in ("onnx", "onnxruntime", "openvino", "nncf"):
    pytest.importorskip(package)

from onnx import TensorProto  # noqa: E402
from onnx_files import BACKENDS, Node, bare, random, run, saved, sqnr_db, value  # noqa: E402

from qbench.kit.adapter import PrepareError, Unsupported  # noqa: E402
from qbench.kit.operators import EffectivePrecision, Operator  # noqa: E402

every_backend = pytest.mark.parametrize("backend", BACKENDS)


def rows(count: int = 8, width: int = 32, dtype: type = np.float32) -> list[dict[str, np.ndarray]]:
    return [{"x": random(1, width, seed=i, scale=1, dtype=dtype)} for i in range(1, count + 1)]


def mlp(path: Path, kind: int = TensorProto.FLOAT, first: np.ndarray | None = None) -> Path:
    """Two matrix products with a Relu between them, of numbers of ``kind``."""
    dtype = np.float64 if kind == TensorProto.DOUBLE else np.float32
    return saved(
        path,
        [
            Node("MatMul", ["x", "w"], ["a"], "one"),
            Node("Relu", ["a"], ["r"]),
            Node("MatMul", ["r", "v"], ["y"], "two"),
        ],
        [value("x", ["N", 32], kind)],
        [value("y", ["N", 8], kind)],
        {
            "w": random(32, 32, dtype=dtype) if first is None else first,
            "v": random(32, 8, seed=1, dtype=dtype),
        },
    )


# --------------------------------------------------------------------------- precision


def test_float64_is_told_as_float64(tmp_path: Path) -> None:
    path, feeds = mlp(tmp_path / "m.onnx", TensorProto.DOUBLE), rows(dtype=np.float64)
    ran = run("onnxruntime", path, feeds)
    assert ran.effective.precision == "fp64" and ran.effective.operators == {"fp64": 2}
    assert ran.effective.macs == {"fp64": 32 * 32 + 32 * 8}
    assert sqnr_db(bare(path, feeds), ran.outputs) > 250
    assert ran.outputs[0]["y"].dtype == np.float64


@pytest.mark.parametrize("precision", ["int8-static", "int8-dynamic", "w8"])
def test_float64_weights_are_not_quantized_by_onnxruntime(precision: str, tmp_path: Path) -> None:
    path, feeds = mlp(tmp_path / "m.onnx", TensorProto.DOUBLE), rows(dtype=np.float64)
    with pytest.raises(Unsupported, match="the weights are float64"):
        run("onnxruntime", path, feeds, precision)


@every_backend
def test_a_file_without_floats_has_no_known_precision(backend: str, tmp_path: Path) -> None:
    whole = TensorProto.INT64
    path = saved(
        tmp_path / "m.onnx",
        [Node("Add", ["x", "k"], ["y"])],
        [value("x", ["N", 4], whole)],
        [value("y", ["N", 4], whole)],
        {"k": np.arange(4)},
    )
    ran = run(backend, path, [{"x": np.ones((1, 4), np.int64)}])
    assert ran.effective.precision is None
    np.testing.assert_array_equal(ran.outputs[0]["y"], [[1, 2, 3, 4]])


def test_work_of_unknown_precision_is_unknown() -> None:
    known = Operator("a", "Conv", "compute", "fp32", macs=1)
    unknown = Operator("b", "Conv", "compute", None, macs=9)
    most = EffectivePrecision.of([known, unknown])
    assert most.precision is None and most.operators == {"fp32": 1} and most.macs is None
    assert EffectivePrecision.of([known, known, unknown]).precision is None
    least = EffectivePrecision.of([known, Operator("b", "Conv", "compute", None, macs=0)])
    assert least.precision == "fp32"
    assert EffectivePrecision.of([]).precision is None


@pytest.mark.parametrize("precision", ["int8-static", "int8-dynamic", "w8"])
@every_backend
def test_weights_with_nan_are_named(backend: str, precision: str, tmp_path: Path) -> None:
    weights = random(32, 32)
    weights[3, 4] = np.nan
    path = mlp(tmp_path / "m.onnx", first=weights)
    with pytest.raises(PrepareError, match="hold NaN or infinity"):
        run(backend, path, rows(), precision)
