"""ONNX files that people have, in the adapters that read them: the right value, or one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

for package in ("onnx", "onnxruntime", "openvino", "nncf"):
    pytest.importorskip(package)

import onnx  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
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


@pytest.mark.parametrize("precision", ["fp32", "int8-static"])
@every_backend
def test_weights_with_nan_are_named(backend: str, precision: str, tmp_path: Path) -> None:
    weights = random(32, 32)
    weights[3, 4] = np.nan
    path = mlp(tmp_path / "m.onnx", first=weights)
    with pytest.raises(PrepareError, match="the weights of 'one' hold NaN or infinity"):
        run(backend, path, rows(), precision)


# --------------------------------------------------------------------------- quantizing


@pytest.mark.parametrize("precision", ["int8-static", "int8-dynamic"])
def test_stacks_of_matrices_have_one_scale_each(precision: str, tmp_path: Path) -> None:
    """``[4, 6, 16] x [4, 16, 32]``, next to a plain product of the same activation."""
    path = saved(
        tmp_path / "m.onnx",
        [
            Node("MatMul", ["x", "stack"], ["a"], "stacked"),
            Node("MatMul", ["x", "plain"], ["b"], "plain_product"),
            Node("Add", ["a", "b"], ["y"]),
        ],
        [value("x", [4, 6, 16])],
        [value("y", [4, 6, 32])],
        {"stack": random(4, 16, 32), "plain": random(16, 32, seed=1)},
    )
    feeds = [{"x": random(4, 6, 16, seed=i, scale=1)} for i in range(4)]
    ran = run("onnxruntime", path, feeds, precision, batch=4)
    assert ran.provenance.quantized_ops == 2
    assert ran.effective.operators == {"int8": 2}
    assert sqnr_db(bare(path, feeds), ran.outputs) > 30


def test_openvino_quantizes_stacks_of_matrices(tmp_path: Path) -> None:
    path = saved(
        tmp_path / "m.onnx",
        [Node("MatMul", ["x", "w"], ["y"])],
        [value("x", [4, 6, 16])],
        [value("y", [4, 6, 32])],
        {"w": random(4, 16, 32)},
    )
    feeds = [{"x": random(4, 6, 16, seed=i, scale=1)} for i in range(4)]
    ran = run("openvino", path, feeds, "int8-static", batch=4)
    assert sqnr_db(bare(path, feeds), ran.outputs) > 30


def branching(path: Path, activation: list[str], loop: bool) -> Path:
    """An activation whose output ``r`` is read by branches of an If or by a loop's body, and by a
    matrix product."""
    kind, *limits = activation
    result = [value("b", ["N", 32])]
    if loop:
        body = helper.make_graph(
            [
                Node("Identity", ["go"], ["on"]),
                Node("MatMul", ["state", "w1"], ["m"]),
                Node("Add", ["m", "r"], ["b"]),
            ],
            "body",
            [
                value("i", [], TensorProto.INT64),
                value("go", [], TensorProto.BOOL),
                value("state", ["N", 32]),
            ],
            [value("on", [], TensorProto.BOOL), *result],
        )
        middle = [Node("Loop", ["times", "", "x"], ["c"], body=body)]
    else:
        then = helper.make_graph([Node("MatMul", ["r", "w1"], ["b"])], "then", [], result)
        other = helper.make_graph([Node("Neg", ["r"], ["b"])], "other", [], result)
        middle = [
            Node("ReduceSum", ["x"], ["sum"], keepdims=0),
            Node("Greater", ["sum", "zero"], ["positive"]),
            Node("If", ["positive"], ["c"], then_branch=then, else_branch=other),
        ]
    nodes = [
        Node("MatMul", ["x", "w0"], ["a"], "first"),
        Node(kind, ["a", *limits], ["r"], "activation"),
        *middle,
        Node("MatMul", ["r", "w2"], ["d"], "second"),
        Node("Add", ["c", "d"], ["s"]),
        Node("MatMul", ["s", "w3"], ["y"], "third"),
    ]
    weights = {f"w{i}": random(32, 32, seed=i) for i in range(4)}
    scalars = {"zero": np.float32(0), "six": np.float32(6), "times": np.int64(3)}
    ends = [value("x", ["N", 32])], [value("y", ["N", 32])]
    return saved(path, nodes, *ends, {**weights, **scalars})


@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize("activation", [["Relu"], ["Clip", "zero", "six"]])
def test_what_branches_and_loops_read_keeps_its_activation(
    activation: list[str], loop: bool, tmp_path: Path
) -> None:
    path, feeds = branching(tmp_path / "m.onnx", activation, loop), rows(16)
    ran = run("onnxruntime", path, feeds, "int8-static")
    assert sqnr_db(bare(path, feeds), ran.outputs) > 30
    assert ran.provenance.quantized_ops == 3


def test_openvino_quantizes_around_branches_and_refuses_loops(tmp_path: Path) -> None:
    path, feeds = branching(tmp_path / "if.onnx", ["Relu"], loop=False), rows(16)
    ran = run("openvino", path, feeds, "int8-static")
    assert sqnr_db(bare(path, feeds), ran.outputs) > 20
    path = branching(tmp_path / "loop.onnx", ["Relu"], loop=True)
    with pytest.raises(Unsupported, match="does not quantize a model with a loop"):
        run("openvino", path, feeds, "int8-static")


@pytest.mark.parametrize("precision", ["int8-static", "int8-dynamic", "w8"])
@pytest.mark.parametrize("stored", ["constants", "sparse"])
def test_weights_are_quantized_however_they_are_stored(
    stored: str, precision: str, tmp_path: Path
) -> None:
    path, feeds = mlp(tmp_path / "m.onnx"), rows()
    model = onnx.load(path)
    first, second = model.graph.initializer
    if stored == "constants":
        del model.graph.initializer[:]
        model.graph.node.insert(0, Node("Constant", [], ["w"], value=first))
        model.graph.node.insert(0, Node("Constant", [], ["v"], value=second))
    else:
        array = numpy_helper.to_array(first)
        places = np.argwhere(array > 0.1)
        values = numpy_helper.from_array(array[tuple(places.T)], "w")
        at = numpy_helper.from_array(places, "places")
        del model.graph.initializer[0]
        model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, at, [32, 32]))
    onnx.save(model, path)
    ran = run("onnxruntime", path, feeds, precision)
    assert ran.provenance.quantized_ops == 2
    assert sqnr_db(bare(path, feeds), ran.outputs) > 30
    if stored == "sparse":
        with pytest.raises(Unsupported, match="does not read sparse weights"):
            run("openvino", path, feeds, precision)


@pytest.mark.parametrize("precision", ["int8-static", "int8-dynamic", "w8"])
@every_backend
def test_a_model_without_products_has_nothing_to_quantize(
    backend: str, precision: str, tmp_path: Path
) -> None:
    path = saved(
        tmp_path / "m.onnx", [Node("Relu", ["x"], ["y"])], [value("x", ["N", 32])],
        [value("y", ["N", 32])],
    )  # fmt: skip
    with pytest.raises(Unsupported, match="there is nothing to quantize"):
        run(backend, path, rows(), precision)


def rounding(path: Path) -> Path:
    """A pair of QuantizeLinear and DequantizeLinear before two products."""
    return saved(
        path,
        [
            Node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
            Node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
            Node("MatMul", ["d", "w"], ["a"]),
            Node("Relu", ["a"], ["r"]),
            Node("MatMul", ["r", "v"], ["y"]),
        ],
        [value("x", ["N", 32])],
        [value("y", ["N", 8])],
        {
            "w": random(32, 32),
            "v": random(32, 8, seed=1),
            "scale": np.float32(0.02),
            "zero": np.int8(0),
        },
    )


@every_backend
def test_a_float_file_that_rounds_its_input_runs_as_fp32_and_in_int8(
    backend: str, tmp_path: Path
) -> None:
    """On OpenVINO with one thread, generated code for chains of products was wrong (0 dB)."""
    path, feeds = rounding(tmp_path / "m.onnx"), rows(16)
    exact = bare(path, feeds)
    ran = run(backend, path, feeds)
    assert ran.effective.precision == "fp32" and ran.provenance.quantized_ops is None
    assert sqnr_db(exact, ran.outputs) > 120
    ran = run(backend, path, feeds, "int8-static")
    assert ran.effective.precision == "int8" and ran.effective.operators == {"int8": 2}
    assert sqnr_db(exact, ran.outputs) > 30
    with pytest.raises(Unsupported, match="the file is not quantized"):
        run(backend, path, feeds, "as-shipped")


@pytest.mark.parametrize("inside", [False, True])
def test_openvino_runs_float64_files(inside: bool, tmp_path: Path) -> None:
    """Which it computes in float32; float64 inputs failed with one thread."""
    path, feeds = mlp(tmp_path / "m.onnx", TensorProto.DOUBLE), rows(16, dtype=np.float64)
    if inside:
        model = onnx.load(path)
        model.graph.input[0].CopyFrom(value("x", ["N", 32]))
        model.graph.output[0].CopyFrom(value("z", ["N", 8]))
        model.graph.node[0].input[0] = "wide"
        model.graph.node.insert(0, Node("Cast", ["x"], ["wide"], to=TensorProto.DOUBLE))
        model.graph.node.append(Node("Cast", ["y"], ["z"], to=TensorProto.FLOAT))
        onnx.save(model, path)
        feeds = rows(16)
    exact = bare(path, feeds)
    ran = run("openvino", path, feeds)
    assert ran.effective.precision == "fp32"
    assert sqnr_db(exact, ran.outputs) > 120
    if inside:
        ran = run("openvino", path, feeds, "int8-static")
        assert ran.effective.precision == "int8"
        assert sqnr_db(exact, ran.outputs) > 30
    else:
        with pytest.raises(Unsupported, match="does not quantize float64 inputs"):
            run("openvino", path, feeds, "int8-static")


# --------------------------------------------------------------------------- saving


def lstm_cell(path: Path) -> Path:
    """One step of a streaming LSTM: the states are inputs and outputs."""
    state = [1, 1, 16]
    return saved(
        path,
        [
            Node("LSTM", ["x", "W", "R", "B", "", "h", "c"], ["s", "hn", "cn"], hidden_size=16),
            Node("Squeeze", ["s", "axis"], ["flat"]),
            Node("MatMul", ["flat", "w"], ["y"]),
        ],
        [value("x", [1, 1, 8]), value("h", state), value("c", state)],
        [value("y", [1, 1, 4]), value("hn", state), value("cn", state)],
        {
            "W": random(1, 64, 8),
            "R": random(1, 64, 16),
            "B": random(1, 128),
            "axis": np.array([1]),
            "w": random(16, 4),
        },
    )


@every_backend
def test_an_int8_lstm_is_right_or_refused(backend: str, tmp_path: Path) -> None:
    """OpenVINO computes it right in memory, and something else once it is saved and read."""
    path = lstm_cell(tmp_path / "m.onnx")
    feeds = [
        {
            "x": random(1, 1, 8, seed=i, scale=1),
            **{name: random(1, 1, 16, seed=9 + i, scale=1) for name in "hc"},
        }
        for i in range(8)
    ]
    exact = bare(path, feeds)
    ran = run(backend, path, feeds)
    assert ran.provenance.file in ("model.onnx", "model.xml")
    assert sqnr_db(exact, ran.outputs) > 100
    try:
        ran = run(backend, path, feeds, "int8-static")
    except Unsupported as error:
        assert backend == "openvino" and "computes something else once it has saved" in str(error)
    else:
        assert sqnr_db(exact, ran.outputs) > 20


def test_a_model_that_openvino_cannot_read_again_runs_from_its_own_file(tmp_path: Path) -> None:
    """Attention with 4 heads of queries and 2 of keys and values, and a cache of 4 places."""
    cache = [1, 2, 4, 8]
    path = saved(
        tmp_path / "m.onnx",
        [
            *(Node("MatMul", ["x", f"w{name}"], [name]) for name in "qkv"),
            Node(
                "GroupQueryAttention",
                ["q", "k", "v", "keys", "values", "last", "total"],
                ["a", "more_keys", "more_values"],
                domain="com.microsoft",
                num_heads=4,
                kv_num_heads=2,
            ),
            Node("MatMul", ["a", "w"], ["y"]),
        ],
        [value("x", [1, 1, 32]), value("keys", cache), value("values", cache)],
        [value("y", [1, 1, 32])],
        {
            "wq": random(32, 32),
            "wk": random(32, 16, seed=1),
            "wv": random(32, 16, seed=2),
            "w": random(32, 32, seed=3),
            "last": np.array([3], np.int32),
            "total": np.int32(4),
        },
        domains=["com.microsoft"],
    )
    model = onnx.load(path, load_external_data=False)
    onnx.save(model, path, save_as_external_data=True, location="weights.pb", size_threshold=99)
    feeds = [
        {
            "x": random(1, 1, 32, seed=i, scale=1),
            **{name: random(*cache, seed=9 + i, scale=1) for name in ("keys", "values")},
        }
        for i in range(3)
    ]
    ran = run("openvino", path, feeds)
    assert ran.provenance.file == "model.onnx"
    assert any("cannot read this model again" in note for note in ran.provenance.notes)
    assert sqnr_db(bare(path, feeds), ran.outputs) > 100
