"""Make a float TFLite file of a quantized one: every constant is dequantized, and every tensor is
float. For workers only; needs no TensorFlow.

The weights stay on the grid that they were rounded to; what the quantized file lost is not undone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from qbench.kit.adapter import PrepareError
from qbench.kit.converter import Converted, Source
from qbench.kit.model import Feed, SourceTensor
from qbench_tensorflow.litert import open_file

LEAST_SQNR_DB = 10
"""A quantized file that is farther from its own dequantized weights is broken."""
IDENTIFIER = b"TFL3"
_TYPES = schema.TensorType
DTYPES = {
    _TYPES.INT4: None,
    _TYPES.INT8: np.int8,
    _TYPES.UINT8: np.uint8,
    _TYPES.INT16: np.int16,
    _TYPES.INT32: np.int32,
    _TYPES.INT64: np.int64,
}
_CASTS = (schema.BuiltinOperator.QUANTIZE, schema.BuiltinOperator.DEQUANTIZE)


def dequantize(content: bytes, without_classes: int) -> bytes:
    """Return a file's content as a float file.

    Args:
        without_classes: number of leading classes to leave out, with the weights that only they
            use. The last layer with weights has to compute the classes.

    Raises:
        PrepareError: it is no file of that kind.
    """
    model: Any = schema.ModelT.InitFromPackedBuf(content, 0)
    if len(model.subgraphs) != 1:
        raise PrepareError("a quantized TFLite file with control flow cannot be made float")
    graph = model.subgraphs[0]
    for tensor in graph.tensors:
        _make_float(model, tensor)
    _remove_casts(model, graph)
    _free_batch(model, graph)
    if without_classes:
        _cut_classes(model, graph, without_classes)
    _prune(model, graph)
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def _make_float(model: Any, tensor: Any) -> None:
    quantization = tensor.quantization
    if quantization is None or tensor.type not in DTYPES:
        return
    scales = quantization.scale
    if scales is None or not len(scales):
        return
    dtype = DTYPES[tensor.type]
    if dtype is None:
        raise PrepareError("4-bit weights cannot be made float")
    data = model.buffers[tensor.buffer].data
    if data is not None and len(data):
        values = np.frombuffer(bytes(data), dtype).reshape(tensor.shape).astype(np.float64)
        zeros = quantization.zeroPoint
        zeros = np.zeros(len(scales)) if zeros is None else np.asarray(zeros)
        along = [1] * values.ndim
        if len(scales) > 1:
            along[quantization.quantizedDimension] = -1
        real = (values - zeros.reshape(along)) * np.asarray(scales, np.float64).reshape(along)
        tensor.buffer = _add(model, real.astype(np.float32))
    tensor.type, tensor.quantization = _TYPES.FLOAT32, None


def _add(model: Any, values: np.ndarray) -> int:
    """Add a buffer; returns its number. The old one may belong to another tensor, too."""
    buffer: Any = schema.BufferT()
    buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    model.buffers.append(buffer)
    return len(model.buffers) - 1


def _remove_casts(model: Any, graph: Any) -> None:
    """Leave out operators that now turn floats into the same floats."""
    source: dict[int, int] = {}
    kept = []
    for node in graph.operators:
        node.inputs = [source.get(int(index), int(index)) for index in node.inputs]
        if _code(model, node) in _CASTS:
            (begin,), (end,) = node.inputs, node.outputs
            source[int(end)] = begin
        else:
            kept.append(node)
    graph.operators = kept
    for index in map(int, graph.outputs):
        if index in source:  # its name goes to the tensor that takes its place
            first, last = graph.tensors[source[index]], graph.tensors[index]
            first.name, last.name = last.name, first.name
    graph.outputs = [source.get(int(index), int(index)) for index in graph.outputs]


def _code(model: Any, node: Any) -> int:
    code = model.operatorCodes[node.opcodeIndex]
    return max(code.builtinCode, code.deprecatedBuiltinCode)


def _numbers(model: Any, tensor: Any) -> np.ndarray:
    data = model.buffers[tensor.buffer].data
    return np.frombuffer(bytes(data), DTYPES.get(tensor.type) or np.float32).reshape(tensor.shape)


def _free_batch(model: Any, graph: Any) -> None:
    """Reshapes to shapes that begin with 1 keep the batch instead."""
    for node in graph.operators:
        if _code(model, node) == schema.BuiltinOperator.RESHAPE and len(node.inputs) > 1:
            tensor = graph.tensors[node.inputs[1]]
            if model.buffers[tensor.buffer].data is None:  # computed by the graph
                continue
            shape = _numbers(model, tensor).copy()
            if len(shape) and shape[0] == 1 and -1 not in shape:
                shape[0] = -1
                _set_shape(model, graph, node, shape)


def _set_shape(model: Any, graph: Any, reshape: Any, shape: np.ndarray) -> None:
    graph.tensors[reshape.inputs[1]].buffer = _add(model, shape)
    if reshape.builtinOptions is not None:
        reshape.builtinOptions.newShape = shape.tolist()


def _cut_classes(model: Any, graph: Any, count: int) -> None:
    """Leave out the first ``count`` classes of the only output."""
    if len(graph.outputs) != 1:
        raise PrepareError("classes can be left out only of a file with one output")
    (index,) = graph.outputs
    made_by = {int(out): node for node in graph.operators for out in node.outputs}
    with_weights = (schema.BuiltinOperator.CONV_2D, schema.BuiltinOperator.FULLY_CONNECTED)
    total = int(graph.tensors[index].shape[-1])
    while True:
        node = made_by.get(int(index))
        if node is None or int(graph.tensors[index].shape[-1]) != total:
            raise PrepareError("the last layer with weights does not compute the classes")
        graph.tensors[index].shape = _shorter(graph.tensors[index].shape, count)
        if _code(model, node) in with_weights:
            break
        if _code(model, node) == schema.BuiltinOperator.RESHAPE and len(node.inputs) > 1:
            shape = _numbers(model, graph.tensors[node.inputs[1]])
            _set_shape(model, graph, node, _shorter(shape, count))
        index = node.inputs[0]
    for place in (
        index for index in node.inputs[1:] if index >= 0
    ):  # weights and bias, whose first axis is that of the classes
        tensor = graph.tensors[place]
        values = _numbers(model, tensor)[count:]
        tensor.buffer, tensor.shape = _add(model, values), list(values.shape)


def _prune(model: Any, graph: Any) -> None:
    """Leave out tensors and buffers that nothing uses any more."""
    ends = [*graph.inputs, *graph.outputs]
    for node in graph.operators:
        ends += [*node.inputs, *node.outputs]
    used = sorted({int(index) for index in ends if index >= 0})
    place = {old: new for new, old in enumerate(used)} | {-1: -1}  # -1: an optional one
    for holder in (graph, *graph.operators):
        holder.inputs = [place[int(index)] for index in holder.inputs]
        holder.outputs = [place[int(index)] for index in holder.outputs]
    graph.tensors = [graph.tensors[index] for index in used]
    model.signatureDefs, model.metadata = [], []  # they name tensors and buffers by number
    kept = [0, *sorted({tensor.buffer for tensor in graph.tensors} - {0})]
    for tensor in graph.tensors:
        tensor.buffer = kept.index(tensor.buffer)
    model.buffers = [model.buffers[index] for index in kept]


def _shorter(shape: Sequence[int] | np.ndarray, count: int) -> np.ndarray:
    shorter = np.array(shape)
    shorter[-1] -= count
    return shorter


# --------------------------------------------------------------------------- the route


def convert(source: Source, form: str, samples: Feed, out: Path) -> Converted:
    """Convert a quantized TFLite file to a float one, or further to ``onnx``.

    The float file's outputs are compared here with those of the quantized file, which differ by its
    rounding; the reference for the final file is the float file's.

    Raises:
        PrepareError: they differ by more than that, or the file cannot be made float.
    """
    assert source.path is not None
    count = _without_classes(source)
    rounded = open_file(source).run(samples)
    file = out / "model.tflite"
    file.write_bytes(dequantize(source.path.read_bytes(), count))
    floating = replace(source, format="tflite", path=file)
    opened = open_file(floating)
    reference = opened.run(samples)
    for name, values in rounded.items():
        _compare(name, values[..., count:].astype(np.float64), reference[name])
    note = "dequantized: the weights stay on the grid that they were rounded to"
    if form == "onnx":
        from qbench_tensorflow.tflite import convert as to_onnx

        converted = to_onnx(floating, form, samples, out)
        file.unlink()
        return replace(converted, notes=(*converted.notes, note))

    def named(own: Mapping[str, str], card: Mapping[str, SourceTensor]) -> dict[str, SourceTensor]:
        return {name: SourceTensor(tensor, card[name].layout) for name, tensor in own.items()}

    return Converted(
        file.name,
        named(opened.inputs, source.source_inputs),
        named(opened.outputs, source.source_outputs),
        reference,
        "dequantization",
        (note,),
    )


def _without_classes(source: Source) -> int:
    options = dict(source.options.get("options") or {})
    count = options.pop("without_classes", 0)
    if options or not isinstance(count, int) or count < 0:
        raise PrepareError("quantized-tflite has one option: without_classes, a number")
    return count


def _compare(name: str, rounded: np.ndarray, real: np.ndarray) -> None:
    noise = float(np.sum((rounded - real) ** 2))
    if float(np.sum(rounded**2)) < 10 ** (LEAST_SQNR_DB / 10) * noise:
        raise PrepareError(
            f"'{name}' of the dequantized file is less than {LEAST_SQNR_DB} dB from the quantized "
            "file's: it depends on its quantization"
        )
