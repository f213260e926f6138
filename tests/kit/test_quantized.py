"""The rule of what a quantized ONNX file is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qbench.kit.adapter import PrepareError, Unsupported
from qbench.kit.model import PrepareTarget
from qbench.kit.onnxfile.quantized import check_quantized, quantized_operators

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
node = onnx.helper.make_node

Q8 = np.ones((8, 8), np.int8)
F32 = np.ones((8, 8), np.float32)
SCALE = {"s": np.float32(0.1), "z": np.int8(0)}


def saved(path: Path, nodes: list, weights: dict[str, np.ndarray], constants: bool = False) -> Path:
    """A file with input ``x`` and output ``y``, both ``[1, 8]``.

    Args:
        constants: whether weights are Constant operators instead of initializers.
    """
    tensors = {n: onnx.numpy_helper.from_array(np.asarray(w), n) for n, w in weights.items()}
    value = onnx.helper.make_tensor_value_info
    if constants:
        nodes = [*(node("Constant", [], [n], value=t) for n, t in tensors.items()), *nodes]
        tensors = {}
    graph = onnx.helper.make_graph(
        nodes, "g", [value("x", 1, [1, 8])], [value("y", 1, [1, 8])], list(tensors.values())
    )
    path.write_bytes(onnx.helper.make_model(graph).SerializeToString())
    return path


PAIR = [
    node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
    node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
]
DQ_WEIGHTS = [
    node("DequantizeLinear", ["q", "s", "z"], ["w"]),
    node("MatMul", ["x", "w"], ["y"]),
]
QUANTIZED = {
    "weights in int8": (DQ_WEIGHTS, {"q": Q8, **SCALE}),
    "float weights behind a pair": (
        [node("QuantizeLinear", ["f", "s", "z"], ["q"]), *DQ_WEIGHTS],
        {"f": F32, **SCALE},
    ),
    "transposed after they are unpacked": (
        [
            node("DequantizeLinear", ["q", "s", "z"], ["d"]),
            node("Transpose", ["d"], ["w"]),
            node("Gemm", ["x", "w"], ["y"]),
        ],
        {"q": Q8, **SCALE},
    ),
    "weights of a convolution": (
        [node("DequantizeLinear", ["q", "s", "z"], ["w"]), node("Conv", ["x", "w"], ["y"])],
        {"q": Q8, **SCALE},
    ),
    "weights of a recurrent layer": (
        [node("DequantizeLinear", ["q", "s", "z"], ["w"]), node("LSTM", ["x", "w", "w"], ["y"])],
        {"q": Q8, **SCALE},
    ),
    "a table whose rows are unpacked": (
        [node("Gather", ["q", "x"], ["r"]), node("DequantizeLinear", ["r", "s", "z"], ["y"])],
        {"q": Q8, **SCALE},
    ),
    "an integer product": ([node("MatMulInteger", ["x", "q"], ["y"])], {"q": Q8}),
    "both factors of a product": (
        [*PAIR, node("MatMul", ["xd", "xd"], ["y"])],
        SCALE,
    ),
    "blocks of weights": (
        [node("MatMulNBits", ["x", "q", "s"], ["y"], domain="com.microsoft")],
        {"q": Q8, "s": SCALE["s"]},
    ),
}
FLOAT = {
    "no quantizer": ([node("MatMul", ["x", "f"], ["y"])], {"f": F32}),
    "one pair at the input": ([*PAIR, node("MatMul", ["xd", "f"], ["y"])], {"f": F32, **SCALE}),
    "an input that arrives as integers": (
        [node("DequantizeLinear", ["x", "s", "z"], ["xd"]), node("MatMul", ["xd", "f"], ["y"])],
        {"f": F32, **SCALE},
    ),
    "a bias in integers": (
        [
            node("DequantizeLinear", ["q", "s", "z"], ["b"]),
            node("Gemm", ["x", "f", "b"], ["y"]),
        ],
        {"q": Q8, "f": F32, **SCALE},
    ),
    "a sum with a constant in integers": (
        [node("DequantizeLinear", ["q", "s", "z"], ["b"]), node("Add", ["x", "b"], ["y"])],
        {"q": Q8, **SCALE},
    ),
}


@pytest.mark.parametrize("constants", [False, True])
@pytest.mark.parametrize("name", QUANTIZED)
def test_a_file_that_multiplies_quantized_weights_is_quantized(
    name: str, constants: bool, tmp_path: Path
) -> None:
    assert quantized_operators(saved(tmp_path / "m.onnx", *QUANTIZED[name], constants)) == 1


@pytest.mark.parametrize("constants", [False, True])
@pytest.mark.parametrize("name", FLOAT)
def test_a_file_that_only_rounds_activations_is_not(
    name: str, constants: bool, tmp_path: Path
) -> None:
    assert quantized_operators(saved(tmp_path / "m.onnx", *FLOAT[name], constants)) == 0


def test_operators_in_branches_see_the_weights_around_them(tmp_path: Path) -> None:
    value = onnx.helper.make_tensor_value_info("b", 1, [1, 8])
    branch = onnx.helper.make_graph([node("MatMul", ["x", "w"], ["b"])], "branch", [], [value])
    nodes = [DQ_WEIGHTS[0], node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)]
    weights = {"q": Q8, "c": np.array(True), **SCALE}
    assert quantized_operators(saved(tmp_path / "m.onnx", nodes, weights)) == 2


def test_what_each_kind_of_file_may_be_prepared_for() -> None:
    check_quantized(0, PrepareTarget("fp32"))
    check_quantized(0, PrepareTarget("int8-static"))
    check_quantized(3, PrepareTarget("as-shipped"))
    check_quantized(3, PrepareTarget("int8-static", recipe="shared"))
    for precision in ("fp32", "fp16", "int8-static", "w8"):
        with pytest.raises(Unsupported, match="arrives quantized: ask for as-shipped"):
            check_quantized(3, PrepareTarget(precision))
    with pytest.raises(Unsupported, match="the file is not quantized"):
        check_quantized(0, PrepareTarget("as-shipped"))
    with pytest.raises(PrepareError, match="should already be quantized"):
        check_quantized(0, PrepareTarget("int8-static", recipe="shared"))
