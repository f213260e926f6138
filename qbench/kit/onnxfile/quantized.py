"""What a quantized file is: one rule for all adapters, read from the file before any conversion.

**A file is quantized if it has integer weights or products of integers**: some convolution, matrix
product, recurrent layer or lookup in a table

- reads its weights from a DequantizeLinear of constants, be these integers (or 8-bit floats), or
  float numbers behind a QuantizeLinear, as quantization-aware training exports them; or
- reads both its factors from a DequantizeLinear, as runtimes multiply them as integers; or
- takes integers itself (MatMulInteger, QLinearConv), or unpacks them (MatMulNBits).

A pair of QuantizeLinear and DequantizeLinear at inputs, outputs or one factor does not count: the
products run in floating point, so this is a float model that rounds. It runs as fp32, is a
reference, and may be quantized.

A quantized file runs only as ``as-shipped``: it is never quantized again, never converted for a
floating precision, and never a float reference. All other precisions are skipped
(``Unsupported``). The words hold for every format; each adapter reads its own.

Standard library only.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import NamedTuple

from qbench.kit.adapter import PrepareError, Unsupported
from qbench.kit.model import PrepareTarget
from qbench.kit.onnxfile.wire import Span, fields, opened, texts

INTEGER_OPERATORS = frozenset(
    (
        *("ConvInteger", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "MatMulInteger"),
        *("MatMulIntegerToFloat", "QAttention", "QEmbedLayerNormalization", "QGemm"),
        *("QLinearConv", "QLinearMatMul", "QMoE"),
    )
)
"""Operators that take integers."""
UNPACKING_OPERATORS = frozenset(("GatherBlockQuantized", "MatMulBnb4", "MatMulNBits"))
"""Operators that unpack blocks of weights."""
_WEIGHTED = frozenset(
    (
        *("Attention", "Conv", "ConvTranspose", "Einsum", "FusedConv", "FusedGemm", "FusedMatMul"),
        *("Gather", "Gemm", "GRU", "LSTM", "MatMul", "RNN"),
    )
)
"""Operators whose first or second input is a weight; the third of some is a bias."""


def quantized_operators(path: Path) -> int:
    """Number of operators of the ONNX file ``path`` with integer weights, and of products of
    integers, in subgraphs too. 0: the file is not quantized.

    Raises:
        PrepareError: this is no ONNX file.
    """
    with opened(path) as (data, span):
        total = 0
        for number, value in fields(data, span):
            if number in _BODIES and isinstance(value, Span):
                total += _count(data, value, _BODIES[number], None)
        return total


def check_quantized(operators: int, target: PrepareTarget) -> None:
    """Hold a source file against the target, by the rule above.

    Args:
        operators: number of its quantized operators, as :func:`quantized_operators` returns it.

    Raises:
        PrepareError: a shared file that is not quantized.
        Unsupported: a file that is quantized though the target is not as-shipped, or the reverse.
    """
    if target.recipe == "shared":
        if not operators:
            raise PrepareError("recipe shared: the file should already be quantized, but is not")
    elif target.precision == "as-shipped":
        if not operators:
            raise Unsupported("the file is not quantized: as-shipped is for files that are")
    elif operators:
        raise Unsupported("the file arrives quantized: ask for as-shipped")


_BODIES = {7: 1, 25: 7}
"""By number of a model's field (its graph, a function), the number of that one's field of nodes."""
_INITIALIZER, _SPARSE = 5, 15


class _Node(NamedTuple):
    kind: str
    inputs: list[str]
    outputs: list[str]
    graphs: list[Span]


class _Known:
    """Names of tensors, by what is known of them in a graph and in the graphs around it.

    Attributes:
        constant: stored, or computed from those.
        unpacked: computed from a DequantizeLinear of constants.
        dequantized: outputs of a DequantizeLinear.
        looked_up: rows of a constant table.
    """

    def __init__(self, outer: _Known | None = None) -> None:
        self.constant = set(outer.constant) if outer else set[str]()
        self.unpacked = set(outer.unpacked) if outer else set[str]()
        self.dequantized = set(outer.dequantized) if outer else set[str]()
        self.looked_up = set(outer.looked_up) if outer else set[str]()

    def learn(self, node: _Node) -> None:
        if node.kind == "Gather" and node.inputs[0] in self.constant:
            self.looked_up.update(node.outputs)
        if node.kind == "DequantizeLinear":
            self.dequantized.update(node.outputs)
        if all(name in self.constant or name in self.unpacked for name in node.inputs):
            stored = node.kind != "DequantizeLinear" and self.unpacked.isdisjoint(node.inputs)
            (self.constant if stored else self.unpacked).update(node.outputs)

    def is_quantized(self, node: _Node) -> bool:
        factors = node.inputs[:2]
        if node.kind in INTEGER_OPERATORS or node.kind in UNPACKING_OPERATORS:
            return True
        if node.kind == "DequantizeLinear":
            return node.inputs[0] in self.looked_up
        return node.kind in _WEIGHTED and (
            not self.unpacked.isdisjoint(factors) or self.dequantized.issuperset(factors)
        )


def _count(data: mmap.mmap, body: Span, node_field: int, outer: _Known | None) -> int:
    """Count in a graph or function, and in the subgraphs of its operators.

    Args:
        outer: what is known of tensors around it.
    """
    parts = [(n, value) for n, value in fields(data, body) if isinstance(value, Span)]
    known = _Known(outer)
    for number, span in parts:
        if number == _INITIALIZER and node_field == 1:
            known.constant.update(texts(data, span, 8))
        elif number == _SPARSE:
            for inner, values in fields(data, span):
                if inner == 1 and isinstance(values, Span):
                    known.constant.update(texts(data, values, 8))
    total = 0
    for number, span in parts:
        if number == node_field:
            node = _node(data, span)
            total += known.is_quantized(node)
            total += sum(_count(data, graph, 1, known) for graph in node.graphs)
            known.learn(node)
    return total


def _node(data: mmap.mmap, span: Span) -> _Node:
    kind, inputs, outputs, graphs = "", [], [], []
    for number, value in fields(data, span):
        if not isinstance(value, Span):
            continue
        if number == 1:
            inputs.append(data[value.start : value.end].decode())
        elif number == 2:
            outputs.append(data[value.start : value.end].decode())
        elif number == 4:
            kind = data[value.start : value.end].decode()
        elif number == 5:
            graphs += [g for n, g in fields(data, value) if n in (6, 11) and isinstance(g, Span)]
    return _Node(kind, [name for name in inputs if name], outputs, graphs)
