"""Defects of OpenVINO that artifacts are kept away from. Never imported while measuring."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from qbench_openvino.graph import INTEGERS, stored_type
from qbench_openvino.runtime import import_openvino

_BEFORE, _AFTER = [0, 3, 1, 2], [0, 2, 3, 1]
"""The permutations that a 1x1 convolution needs around it to be a matrix product."""


def miscompiled(model: Any) -> list[str]:
    """Names of the convolutions that the CPU plugin computes wrongly once their weights are
    compressed (w8, w4); without compressed weights it computes them right.

    The plugin's pass ConvertWeightCompressedConv1x1ToMatmul (OpenVINO 2026.4.1) makes a matrix
    product of a 1x1 convolution next to a Transpose or a Reshape. It drops the Transpose whatever
    its permutation is, and the convolution's strides and padding: outputs have permuted axes or
    another shape.
    """
    return [
        op.get_friendly_name()
        for op in model.get_ordered_ops()
        if op.get_type_name() == "Convolution" and _is_pointwise(op) and _loses(op)
    ]


def unpack_miscompiled(model: Any) -> int:
    """Unpack compressed weights that the plugin would miscompile to float32, in place; the number
    of convolutions. Those with quantized activations take another path through the plugin."""
    wrong = set(miscompiled(model))
    found = [
        op
        for op in model.get_ordered_ops()
        if op.get_friendly_name() in wrong
        and stored_type(op) in INTEGERS
        and not _is_dequantized(op.input_value(0).get_node())
    ]
    openvino = import_openvino()
    for op in found:
        weights = openvino.compile_model(openvino.Model([op.input_value(1)], []), "CPU")([])[0]
        constant = openvino.op.Constant(weights)
        op.input(1).replace_source_output(constant.output(0))
    return len(found)


def _is_dequantized(node: Any) -> bool:
    if node.get_type_name() == "Multiply":
        return node.input_value(0).get_node().get_type_name() in ("Convert", "Subtract")
    return node.get_type_name() == "FakeQuantize"


def _is_pointwise(op: Any) -> bool:
    shape = op.input_value(1).get_partial_shape()
    return len(shape) == 4 and all(size == 1 for size in list(shape)[2:])


def _loses(op: Any) -> bool:
    neighbours = list(_neighbours(op))
    if any(perm not in (None, wanted) for perm, wanted in neighbours):
        return True
    attributes = op.get_attributes()
    moves = any(step != 1 for step in attributes["strides"])
    pads = any(attributes["pads_begin"]) or any(attributes["pads_end"])
    return bool(neighbours) and (moves or pads)


def _neighbours(op: Any) -> Iterator[tuple[list[int] | None, list[int]]]:
    """The permutation of each Transpose around ``op``, None of a Reshape, and the permutation that
    the pass assumes there. A bias may stand between ``op`` and what follows it."""
    yield from _permutation(op.input_value(0).get_node(), _BEFORE)
    for reader in _readers(op):
        if reader.get_type_name() == "Add":
            for following in _readers(reader):
                yield from _permutation(following, _AFTER)
        yield from _permutation(reader, _AFTER)


def _readers(op: Any) -> list[Any]:
    return [port.get_node() for port in op.output(0).get_target_inputs()]


def _permutation(node: Any, wanted: list[int]) -> Iterator[tuple[list[int] | None, list[int]]]:
    kind = node.get_type_name()
    if kind == "Reshape":
        yield None, wanted
    elif kind == "Transpose":
        order = node.input_value(1).get_node()
        known = order.get_type_name() == "Constant"
        yield [int(axis) for axis in order.get_data().ravel()] if known else [], wanted
