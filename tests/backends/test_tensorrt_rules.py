"""TensorRT's rules for Q/DQ: what a good file looks like, and each way of breaking one.

The rules themselves come from NVIDIA's parser and documentation; see ``qbench_tensorrt.rules``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

onnx = pytest.importorskip("onnx", reason="onnx is not installed")

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper  # noqa: E402
from onnx.numpy_helper import from_array, to_array  # noqa: E402

from qbench_tensorrt.rules import check  # noqa: E402

RNG = np.random.default_rng(5)
CHANNELS = 4


def pair(graph: GraphProto, tensor: str, name: str, scales: Any, axis: int | None = None) -> str:
    """Q and DQ of ``tensor`` in int8; the dequantized tensor."""
    scale = np.asarray(scales, np.float32)
    graph.initializer.append(from_array(scale, f"{name}_scale"))
    graph.initializer.append(from_array(np.zeros(scale.shape, np.int8), f"{name}_zero"))
    how: dict[str, Any] = {} if axis is None else {"axis": axis}
    for operator, taken, made in (
        ("QuantizeLinear", tensor, f"{name}_q"),
        ("DequantizeLinear", f"{name}_q", f"{name}_dq"),
    ):
        inputs = [taken, f"{name}_scale", f"{name}_zero"]
        graph.node.append(helper.make_node(operator, inputs, [made], f"{name}_{operator}", **how))
    return f"{name}_dq"


def good(convolutions: int = 2, opset: int = 21) -> ModelProto:
    """Convolutions, each with int8 inputs, weights per channel and a float bias, and a Gemm."""
    graph = GraphProto(name="net")
    graph.input.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", CHANNELS, 5, 5]))
    graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3]))
    tensor = "x"
    for index in range(convolutions):
        weights = RNG.normal(size=(CHANNELS, CHANNELS, 1, 1)).astype(np.float32)
        graph.initializer.append(from_array(weights, f"w{index}"))
        graph.initializer.append(from_array(np.zeros(CHANNELS, np.float32), f"b{index}"))
        inputs = [
            pair(graph, tensor, f"x{index}", 0.1),
            pair(graph, f"w{index}", f"w{index}", [0.01] * CHANNELS, axis=0),
            f"b{index}",
        ]
        graph.node.append(helper.make_node("Conv", inputs, [f"c{index}"], f"conv{index}"))
        graph.node.append(helper.make_node("Relu", [f"c{index}"], [f"r{index}"], f"relu{index}"))
        tensor = f"r{index}"
    graph.node.append(helper.make_node("GlobalAveragePool", [tensor], ["p"], "pool"))
    graph.node.append(helper.make_node("Flatten", ["p"], ["f"], "flatten"))
    graph.initializer.append(
        from_array(RNG.normal(size=(3, CHANNELS)).astype(np.float32), "weights")
    )
    inputs = [pair(graph, "f", "last", 0.2), pair(graph, "weights", "weights", [0.02] * 3, axis=0)]
    graph.node.append(helper.make_node("Gemm", inputs, ["y"], "gemm", transB=1))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def node(model: ModelProto, name: str) -> NodeProto:
    (found,) = [n for n in model.graph.node if n.name == name]
    return found


def change(model: ModelProto, name: str, value: np.ndarray) -> None:
    (tensor,) = [t for t in model.graph.initializer if t.name == name]
    tensor.CopyFrom(from_array(value, name))


def value(model: ModelProto, name: str) -> np.ndarray:
    (tensor,) = [t for t in model.graph.initializer if t.name == name]
    return to_array(tensor)


def test_the_good_one_is_whole_and_keeps_the_rules():
    model = good()
    onnx.checker.check_model(model, full_check=True)
    assert check(model) == []


# --------------------------------------------------------------------------- planted violations

Plant = Callable[[ModelProto, int], str]
"""Breaks a model at its convolution of this index, and tells the node that is to be named."""


def zero_point(model: ModelProto, index: int) -> str:
    change(model, f"x{index}_zero", np.asarray(3, np.int8))
    return f"x{index}_QuantizeLinear"


def unsigned(model: ModelProto, index: int) -> str:
    change(model, f"x{index}_zero", np.asarray(0, np.uint8))
    return f"x{index}_DequantizeLinear"


def sixteen_bits(model: ModelProto, index: int) -> str:
    change(model, f"x{index}_zero", np.asarray(0, np.int16))
    return f"x{index}_QuantizeLinear"


def untold(model: ModelProto, index: int) -> str:
    del node(model, f"x{index}_QuantizeLinear").input[2]
    return f"x{index}_QuantizeLinear"


def negative_scale(model: ModelProto, index: int) -> str:
    scales = value(model, f"w{index}_scale").copy()
    scales[1] = -scales[1]
    change(model, f"w{index}_scale", scales)
    return f"w{index}_QuantizeLinear"


def endless_scale(model: ModelProto, index: int) -> str:
    change(model, f"x{index}_scale", np.asarray(np.inf, np.float32))
    return f"x{index}_QuantizeLinear"


def computed_scale(model: ModelProto, index: int) -> str:
    made = helper.make_node("ReduceMax", ["x"], ["made"], "made", keepdims=0)
    model.graph.node.insert(0, made)
    node(model, f"x{index}_QuantizeLinear").input[1] = "made"
    return f"x{index}_QuantizeLinear"


def wrong_axis(model: ModelProto, index: int) -> str:
    for operator in ("QuantizeLinear", "DequantizeLinear"):
        node(model, f"w{index}_{operator}").attribute[0].i = 1
    return f"w{index}_QuantizeLinear"


def too_few_scales(model: ModelProto, index: int) -> str:
    change(model, f"w{index}_scale", np.full(CHANNELS - 1, 0.1, np.float32))
    change(model, f"w{index}_zero", np.zeros(CHANNELS - 1, np.int8))
    return f"w{index}_QuantizeLinear"


def zero_points_missing(model: ModelProto, index: int) -> str:
    change(model, f"w{index}_zero", np.zeros(1, np.int8))
    return f"w{index}_DequantizeLinear"


def activation_per_channel(model: ModelProto, index: int) -> str:
    change(model, f"x{index}_scale", np.full(CHANNELS, 0.1, np.float32))
    change(model, f"x{index}_zero", np.zeros(CHANNELS, np.int8))
    return f"x{index}_QuantizeLinear"


def int32_bias(model: ModelProto, index: int) -> str:
    change(model, f"b{index}", np.zeros(CHANNELS, np.int32))
    made = helper.make_node("DequantizeLinear", [f"b{index}", f"x{index}_scale"], ["bias"], "bias")
    model.graph.node.insert(0, made)
    node(model, f"conv{index}").input[2] = "bias"
    return "bias"


def int8_bias(model: ModelProto, index: int) -> str:
    node(model, f"conv{index}").input[2] = pair(model.graph, f"b{index}", "bias", 0.1)
    return "bias_DequantizeLinear"


def dangling(model: ModelProto, index: int) -> str:
    inputs = [f"r{index}", f"x{index}_scale", f"x{index}_zero"]
    model.graph.node.append(helper.make_node("QuantizeLinear", inputs, ["nowhere"], "dangling"))
    return "dangling"


def without_dq(model: ModelProto, index: int) -> str:
    node(model, f"conv{index}").input[0] = f"x{index}_q"
    return f"x{index}_QuantizeLinear"


def without_q(model: ModelProto, index: int) -> str:
    made = helper.make_node("Cast", [f"x{index}_q"], ["cast"], "cast", to=TensorProto.INT8)
    model.graph.node.append(made)
    node(model, f"x{index}_DequantizeLinear").input[0] = "cast"
    return f"x{index}_DequantizeLinear"


def two_scales(model: ModelProto, index: int) -> str:
    model.graph.initializer.append(from_array(np.asarray(0.7, np.float32), "another"))
    node(model, f"x{index}_DequantizeLinear").input[1] = "another"
    return f"x{index}_QuantizeLinear"


def dynamic(model: ModelProto, index: int) -> str:
    made = helper.make_node("DynamicQuantizeLinear", [f"r{index}"], ["q", "s", "z"], "dynamic")
    model.graph.node.append(made)
    return "dynamic"


def integer_product(model: ModelProto, index: int) -> str:
    model.graph.node.append(
        helper.make_node("MatMulInteger", [f"x{index}_q", f"x{index}_q"], ["i"], "integer")
    )
    return "integer"


def of_the_runtime(model: ModelProto, index: int) -> str:
    made = helper.make_node("QGemm", ["x"] * 9, ["g"], "theirs", domain="com.microsoft")
    model.graph.node.append(made)
    return "theirs"


def added(model: ModelProto, index: int) -> str:
    made = helper.make_node("QLinearAdd", ["x"] * 8, ["g"], "sum", domain="com.microsoft")
    model.graph.node.append(made)
    return "sum"


def old(model: ModelProto, index: int) -> str:
    model.opset_import[0].version = 12
    return f"w{index}_QuantizeLinear"


def int8_blocks(model: ModelProto, index: int) -> str:
    del index
    change(model, "weights_scale", np.full((3, 2), 0.1, np.float32))
    change(model, "weights_zero", np.zeros((3, 2), np.int8))
    return "weights_QuantizeLinear"


def int4_activation(model: ModelProto, index: int) -> str:
    name = f"x{index}_zero"
    (tensor,) = [t for t in model.graph.initializer if t.name == name]
    tensor.CopyFrom(helper.make_tensor(name, TensorProto.INT4, [], [0]))
    return f"x{index}_QuantizeLinear"


PLANTED: dict[str, tuple[str, Plant]] = {
    plant.__name__: (rule, plant)
    for rule, plant in (
        ("zero-point", zero_point),
        ("zero-point", zero_points_missing),
        ("type", unsigned),
        ("type", sixteen_bits),
        ("type", untold),
        ("scale", negative_scale),
        ("scale", endless_scale),
        ("scale", computed_scale),
        ("axis", wrong_axis),
        ("channels", too_few_scales),
        ("activation", activation_per_channel),
        ("bias", int32_bias),
        ("bias", int8_bias),
        ("pair", dangling),
        ("pair", without_dq),
        ("pair", without_q),
        ("pair", two_scales),
        ("operator", dynamic),
        ("operator", integer_product),
        ("operator", of_the_runtime),
        ("operator", added),
        ("opset", old),
        ("block", int8_blocks),
        ("weights-only", int4_activation),
    )
}


@pytest.mark.parametrize("planted", PLANTED)
def test_each_violation_is_found_and_named(planted: str):
    rule, plant = PLANTED[planted]
    model = good()
    where = plant(model, 1)
    found = check(model)
    assert (rule, where) in {(v.rule, v.node) for v in found}, found
    assert all(v.message and v.fix for v in found)


@settings(deadline=None, max_examples=60)
@given(
    planted=st.sampled_from(sorted(PLANTED)),
    convolutions=st.integers(1, 4),
    data=st.data(),
)
def test_wherever_it_is_planted(planted: str, convolutions: int, data: st.DataObject):
    rule, plant = PLANTED[planted]
    model = good(convolutions)
    assert check(model) == []
    where = plant(model, data.draw(st.integers(0, convolutions - 1)))
    found = check(model)
    assert (rule, where) in {(v.rule, v.node) for v in found}
    assert where in str(found[0]) or len(found) > 1


# --------------------------------------------------------------------------- other good and bad


def test_a_node_without_a_name_is_told_by_its_output():
    model = good()
    zero_point(model, 0)
    node(model, "x0_QuantizeLinear").name = ""
    assert "QuantizeLinear of 'x0_q'" in {v.node for v in check(model)}


def test_constants_may_be_nodes_and_weights_transposed():
    model = good()
    graph = model.graph
    for name in ("x0_scale", "x0_zero"):
        tensor = next(t for t in graph.initializer if t.name == name)
        graph.node.insert(0, helper.make_node("Constant", [], [name], value=tensor))
        graph.initializer.remove(tensor)
    graph.node.insert(
        len(graph.node) - 1, helper.make_node("Transpose", ["weights_dq"], ["t"], perm=[1, 0])
    )
    last = node(model, "gemm")
    last.input[1] = "t"
    last.attribute[0].i = 0
    assert check(model) == []
    last.attribute[0].i = 1  # transposed twice: its output channels are the other axis now
    assert {(v.rule, v.node) for v in check(model)} == {
        ("axis", "weights_QuantizeLinear"),
        ("axis", "weights_DequantizeLinear"),
    }


def test_integers_may_be_reordered_between_q_and_dq():
    model = good()
    graph = model.graph
    graph.node.append(helper.make_node("Transpose", ["x0_q"], ["moved"], "move"))
    node(model, "x0_DequantizeLinear").input[0] = "moved"
    assert check(model) == []


def test_inner_graphs_are_looked_into():
    inner = GraphProto(name="then")
    inner.node.append(helper.make_node("ConvInteger", ["x", "x"], ["i"], "hidden"))
    inner.output.append(helper.make_tensor_value_info("i", TensorProto.INT32, None))
    model = good()
    model.graph.node.append(
        helper.make_node("If", ["c"], ["o"], "if", then_branch=inner, else_branch=inner)
    )
    assert {v.node for v in check(model)} == {"hidden"}


def four_bits(shape: tuple[int, ...], scales: tuple[int, ...], opset: int = 21) -> ModelProto:
    """A MatMul with int4 weights of ``shape`` in blocks."""
    graph = GraphProto(name="net")
    values = [1] * int(np.prod(shape))
    graph.initializer.append(helper.make_tensor("w", TensorProto.INT4, shape, values))
    graph.initializer.append(from_array(np.full(scales, 0.1, np.float32), "s"))
    size = shape[0] // scales[0] if scales[0] else 0
    graph.node.append(
        helper.make_node("DequantizeLinear", ["w", "s"], ["d"], "dq", axis=0, block_size=size)
    )
    graph.node.append(helper.make_node("MatMul", ["x", "d"], ["y"], "matmul"))
    graph.input.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", shape[0]]))
    graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", shape[-1]]))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def test_blocks_of_4_bits():
    assert check(four_bits((64, 6), (2, 6))) == []
    for shape, scales, opset, rule in (
        ((2, 64, 6), (2, 2, 6), 21, "block"),  # three axes
        ((64, 6), (2, 3), 21, "block"),  # blocks along two axes
        ((65, 6), (2, 6), 21, "block"),  # which do not divide it
        ((3, 3), (1, 3), 21, "block"),  # an odd number of elements
        ((64, 6), (2, 6), 19, "opset"),
    ):
        found = check(four_bits(shape, scales, opset))
        assert (rule, "dq") in {(v.rule, v.node) for v in found}, (shape, scales, opset)


def test_fp8_has_its_opset():
    for opset, found in ((19, set()), (18, {"opset"})):
        model = good(opset=opset)
        for tensor in model.graph.initializer:
            if tensor.name.endswith("_zero"):
                shape = list(tensor.dims)
                kind = TensorProto.FLOAT8E4M3FN
                zeros = [0.0] * int(np.prod(shape, dtype=int))
                tensor.CopyFrom(helper.make_tensor(tensor.name, kind, shape, zeros))
        assert {v.rule for v in check(model)} == found
