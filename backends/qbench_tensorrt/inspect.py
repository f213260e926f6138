"""Read back an engine's layers from the engine inspector's JSON. Standard library only.

The JSON has DETAILED verbosity. Both versions agree except on types: version 10 gives format and
type of a tensor in one text (``Format/Datatype``: ``Channel major FP16 format where channel % 8 ==
0``, or just ``Half``), 11 separately (``Format`` and ``Datatype``), and 11 has ``I/O Tensors``
instead of ``Bindings`` (NVIDIA, "Migrating IEngineInspector Usage from TensorRT 10.x to 11.x").
``Metadata`` names the ONNX nodes of a layer: ``[ONNX Layer: name]``, separated by control
characters.

Neither version reports the work of a fused layer, so compiling writes the work of the ONNX nodes
next to the engine (see :mod:`qbench_tensorrt.source`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isqrt, prod
from pathlib import Path
from typing import Any

from qbench.kit.operators import EFFECTIVE, EffectivePrecision, Operator
from qbench_tensorrt.source import Node, read_nodes

LAYERS_FILE = "layers.json"

_COMPUTING = re.compile(r"conv|gemm|matmul|matrixmultiply|fullyconnected|mha|attention|rnn|lstm")
_KERNEL = re.compile(r"(?!__myl_).*(gemm|fprop|dgrad|_mha|conv)")
_REFORMATS = re.compile(r"reformat|quantize|cast$|copynode")
_CONVERTING = frozenset(("Cast", "DequantizeLinear", "QuantizeLinear"))
_COPYING_NOTHING = frozenset(("noop", "constant", "shape_call", "signal", "wait"))
_MADE_UP = re.compile(r"__my|__tran\d")
_SOURCE = re.compile(r"\[ONNX Layer: (.+?)(?: \| [^\]]*)?\]")

# Names of kernels contain the types of a product: <inputs and outputs>_<factors><sums>_<scaling>,
# as in sm80_xmma_gemm_f32f32_tf32f32_f32_nn and ..._i8f32_i8i32_f32_nhwc.
_FACTORS = re.compile(
    r"_[a-z]+\d+[a-z0-9]*_(tf32|bf16|e4m3|e5m2|f16|f32|i8|u8|s8|i4)(?:bf16|f16|f32|i32|s32)_"
)
_FACTOR_WORDS = {
    "tf32": "tf32",
    "bf16": "bf16",
    "f16": "fp16",
    "f32": "fp32",
    "e4m3": "fp8",
    "e5m2": "fp8",
    "i8": "int8",
    "u8": "int8",
    "s8": "int8",
    "i4": "int4",
}
# Kernels that never round to TF32, since they use CUDA cores, not tensor cores
# (ampere_sgemm_64x64_nn, volta_scudnn_128x64_relu_interior_nn_v1).
_PLAIN = re.compile(r"_s(gemm|cudnn)_|simt|ffma")
# Types in the inspector's texts, with qbench's name and their bits.
_TYPE = re.compile(
    r"\b(bfloat16|bf16|half|fp16|float16|float|fp32|float32|fp8|float8|fp4|u?int8|int4|int16|int32"
    r"|int64|bool)\b",
    re.IGNORECASE,
)
_TYPES: dict[str, tuple[str | None, int]] = {
    **dict.fromkeys(("bfloat16", "bf16"), ("bf16", 16)),
    **dict.fromkeys(("half", "fp16", "float16"), ("fp16", 16)),
    **dict.fromkeys(("float", "fp32", "float32"), ("fp32", 32)),
    **dict.fromkeys(("fp8", "float8"), ("fp8", 8)),
    **dict.fromkeys(("int8", "uint8"), ("int8", 8)),
    "fp4": (None, 4),
    "int4": ("int4", 4),
    "int16": ("int16", 16),
    "int32": (None, 32),
    "int64": (None, 64),
    "bool": (None, 8),
}

_WIDTHS = ("int4", "int8", "fp8", "int16", "fp16", "bf16", "fp32")  # the narrowest first
_OPAQUE = frozenset(("myelin", "foreignnode"))  # many layers in one: its edges reveal no type

_ALLOWED = "float32 products whose kernel does not reveal its type count as tf32, as allowed"


def effective(folder: Path, asked: str) -> EffectivePrecision:
    """Effective precision of the engine in ``folder``, built for the precision ``asked``.

    Products of unknown type count as ``asked``, and a note says so: the engine was built from a
    file with that type, and a case is not refused for missing information.
    """
    found, notes = operators(folder, asked == "tf32")
    if asked not in EFFECTIVE:
        return EffectivePrecision.of(found, notes)
    computing = [op for op in found if op.role == "compute"]
    products = any(node.computes for node in read_nodes(folder).values())
    if any(op.precision is None for op in computing) or (products and not computing):
        notes.append(f"work of unknown precision counts as {asked}, as requested")
    found = [
        replace(op, precision=asked) if op.role == "compute" and op.precision is None else op
        for op in found
    ]
    summary = EffectivePrecision.of(found, notes)
    return replace(summary, precision=asked) if products and not computing else summary


def operators(folder: Path, tf32: bool) -> tuple[list[Operator], list[str]]:
    """The layers of a compiled artifact in order of execution, and notes for the reader.

    Args:
        folder: the artifact's.
        tf32: whether the engine was built with TF32 allowed.

    Raises:
        RuntimeError: the engine was built without DETAILED verbosity.
    """
    text = (folder / LAYERS_FILE).read_text()
    information = json.loads(text, strict=False)  # control characters in strings
    found = read_operators(information, read_nodes(folder), tf32)
    notes = [_ALLOWED] if tf32 else []
    computing = [op for op in found if op.role == "compute"]
    if not computing:
        notes.append("no layer reports a convolution or a matrix product")
    if unknown := sum(op.precision is None for op in computing):
        notes.append(f"{unknown} of {len(computing)} computing layers report no precision")
    return found, notes


def read_operators(
    information: Mapping[str, Any], nodes: Mapping[str, Node], tf32: bool
) -> list[Operator]:
    """As :func:`operators`, from the inspector's JSON.

    Args:
        nodes: of the ONNX file, by name; empty if unknown.
        tf32: whether the engine was built with TF32 allowed.
    """
    layers = information["Layers"]
    if not all(isinstance(layer, Mapping) for layer in layers):
        raise RuntimeError("the engine reports only names of its layers: compile it again")
    constants = _constants(layers, _ports(information))
    work = _assign(layers, nodes)
    found = []
    for index, layer in enumerate(layers):
        mine = [nodes[name] for name in _sources(layer) if name in nodes]
        products = work.get(index, [])
        role = "compute" if products or _computes(layer) else _other_role(layer, mine)
        weights, activations = _bytes(layer, constants, mine, products, role)
        found.append(
            Operator(
                name=layer["Name"],
                kind=layer.get("LayerType", ""),
                role=role,
                precision=_precision(layer, constants, role, tf32),
                macs=_macs(layer, products) if role == "compute" else None,
                weight_bytes=weights,
                activation_bytes=activations,
                layers=tuple(_sources(layer)),
            )
        )
    return found


# --------------------------------------------------------------------------- the JSON


@dataclass(frozen=True)
class _Tensor:
    """A tensor of a layer. ``word``, qbench's name of its type, and ``bytes`` may be unknown:
    None."""

    name: str
    shape: tuple[int, ...]
    word: str | None
    bytes: int | None


def _tensors(layer: Mapping[str, Any], which: str) -> list[_Tensor]:
    return [_tensor(entry) for entry in layer.get(which, []) if isinstance(entry, Mapping)]


def _tensor(entry: Mapping[str, Any]) -> _Tensor:
    shape = tuple(entry.get("Dimensions", ()))
    types = (entry.get(key) for key in ("Datatype", "DataType", "Format/Datatype"))
    word, bits = _type(next((text for text in types if text), ""))
    known = bits is not None and all(size >= 0 for size in shape)
    size = (prod(shape) * (bits or 0) + 7) // 8 if known else None
    return _Tensor(entry["Name"], shape, word, size)


def _type(text: str) -> tuple[str | None, int | None]:
    """qbench's name for a type, and its bits; None if unknown."""
    found = _TYPE.search(text)
    return _TYPES[found.group(1).lower()] if found else (None, None)


def _ports(information: Mapping[str, Any]) -> set[str]:
    """Names of the engine's inputs and outputs."""
    new = {tensor["Name"] for tensor in information.get("I/O Tensors", [])}
    return new | set(information.get("Bindings", []))


def _constants(layers: Sequence[Mapping[str, Any]], ports: set[str]) -> set[str]:
    """Names of tensors that are read but that no layer writes: weights. Not tensors with names
    generated by the compiler, which may differ where they are written."""
    working = [layer for layer in layers if layer.get("LayerType") != "Constant"]
    made = {tensor.name for layer in working for tensor in _tensors(layer, "Outputs")}
    read = {tensor.name for layer in working for tensor in _tensors(layer, "Inputs")}
    return {name for name in read - made - ports if not _MADE_UP.match(name)}


def _sources(layer: Mapping[str, Any]) -> list[str]:
    """Names of the ONNX nodes in a layer."""
    return list(dict.fromkeys(_SOURCE.findall(layer.get("Metadata", ""))))


# --------------------------------------------------------------------------- one layer


def _computes(layer: Mapping[str, Any]) -> bool:
    """Whether a layer multiplies matrices, according to its type or its kernel."""
    kind, tactic = layer.get("LayerType", "").lower(), layer.get("TacticName", "")
    if _REFORMATS.search(kind) or kind in _COPYING_NOTHING:
        return False
    if _COMPUTING.search(kind):
        return True
    return bool(_KERNEL.match(tactic))


def _assign(
    layers: Sequence[Mapping[str, Any]], nodes: Mapping[str, Node]
) -> dict[int, list[Node]]:
    """Products of the ONNX file by index of the layer that runs them.

    Layers that only prepare a product's inputs name it too: chosen is the layer whose kernel
    multiplies, else the last one that names the product.
    """
    result: dict[int, list[Node]] = {}
    naming: dict[str, list[int]] = {}
    for index, layer in enumerate(layers):
        for name in _sources(layer):
            naming.setdefault(name, []).append(index)
    for name, node in nodes.items():
        if not node.computes or name not in naming:
            continue
        fitting = [index for index in naming[name] if _computes(layers[index])]
        others = [
            index
            for index in naming[name]
            if not _REFORMATS.search(layers[index].get("LayerType", "").lower())
        ]
        index = next(iter(fitting), others[-1] if others else None)
        if index is not None:
            result.setdefault(index, []).append(node)
    return result


def _other_role(layer: Mapping[str, Any], nodes: Sequence[Node]) -> str:
    if _REFORMATS.search(layer.get("LayerType", "").lower()):
        return "convert"
    return "convert" if nodes and all(n.kind in _CONVERTING for n in nodes) else "other"


def _precision(layer: Mapping[str, Any], constants: set[str], role: str, tf32: bool) -> str | None:
    """Number format of a layer: from its kernel's name, which alone distinguishes TF32 from
    float32, else from the type of its inputs."""
    if role == "convert":
        return None
    inputs, tactic = _tensors(layer, "Inputs"), layer.get("TacticName", "")
    if role == "compute":
        if found := _FACTORS.search(tactic):
            return _FACTOR_WORDS[found.group(1)]
        if layer.get("LayerType", "").lower() in _OPAQUE:
            return None
    data = [tensor for tensor in inputs if tensor.name not in constants] or inputs
    words = [tensor.word for tensor in (*data, *_tensors(layer, "Outputs")) if tensor.word]
    if role != "compute":
        return words[0] if words else None
    word = min((*words[:1], *_weight_words(inputs, constants)), key=_WIDTHS.index, default=None)
    rounded = tf32 and word == "fp32" and not _PLAIN.search(tactic)
    return "tf32" if rounded else word


def _weight_words(inputs: Sequence[_Tensor], constants: set[str]) -> list[str]:
    """Types of the weights among the inputs. Both factors of a product have one type, but a fused
    layer may first cast or quantize the other one. 4-bit weights are unpacked first."""
    weights = [tensor for tensor in inputs if tensor.name in constants and len(tensor.shape) > 1]
    return [tensor.word for tensor in weights if tensor.word not in (None, "int4")]


def _bytes(
    layer: Mapping[str, Any],
    constants: set[str],
    nodes: Sequence[Node],
    products: Sequence[Node],
    role: str,
) -> tuple[int | None, int | None]:
    """Bytes of weights and of activations; None if unknown.

    Convolutions report their weights; for products the ONNX nodes do, whether or not the layer
    lists them as inputs. A tensor that is listed twice is read in parts (queries, keys and values
    of one product), and counts as listed.
    """
    if layer.get("LayerType", "").lower() in _COPYING_NOTHING:
        return 0, 0
    inputs, outputs = _tensors(layer, "Inputs"), _tensors(layer, "Outputs")
    data = [tensor for tensor in inputs if tensor.name not in constants]
    stored = [layer[key] for key in ("Weights", "Bias") if isinstance(layer.get(key), Mapping)]
    listed = [tensor.bytes for tensor in inputs if tensor.name in constants]
    if stored:
        read = _sum([_stored_bytes(one) for one in stored])
    elif products:
        read = _sum([node.weight_bytes for node in products])
    else:
        read = None if role == "compute" and len(inputs) < 2 else _sum(listed)
    made = _sum([tensor.bytes for tensor in outputs])
    if read is not None and made is not None and any(node.kind == "Gather" for node in nodes):
        read = min(read, made)
    return read, _sum([tensor.bytes for tensor in (*data, *outputs)])


def _stored_bytes(entry: Mapping[str, Any]) -> int | None:
    """Bytes of ``{"Type": "Half", "Count": 9408}``."""
    bits = _type(str(entry.get("Type", "")))[1]
    return None if bits is None or "Count" not in entry else (entry["Count"] * bits + 7) // 8


def _sum(amounts: Sequence[int | None]) -> int | None:
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if len(known) == len(amounts) else None


# --------------------------------------------------------------------------- work


def _macs(layer: Mapping[str, Any], products: Sequence[Node]) -> int | None:
    """Multiply-accumulates: of the ONNX nodes, else from the layer's own shapes."""
    if products:
        return _sum([node.macs for node in products])
    inputs, outputs = _tensors(layer, "Inputs"), _tensors(layer, "Outputs")
    if not inputs or not outputs or any(size < 0 for size in (*inputs[0].shape, *outputs[0].shape)):
        return None
    weights = layer.get("Weights")
    kind = layer.get("LayerType", "").lower()
    if isinstance(weights, Mapping) and weights.get("Count") and "conv" in kind:
        if "deconv" in kind:
            return prod(inputs[0].shape) * weights["Count"] // inputs[0].shape[1]
        maps = layer.get("OutMaps") or outputs[0].shape[1]
        return prod(outputs[0].shape) * weights["Count"] // maps
    if "conv" not in kind and len(inputs) > 1:
        return _product_macs(inputs[0].shape, inputs[1].shape, outputs[0].shape)
    return None


def _product_macs(a: Sequence[int], b: Sequence[int], out: Sequence[int]) -> int | None:
    """Multiply-accumulates of ``[..., m, k] x [..., k, n]``, with either factor transposed or not:
    for ``g`` products, ``|a| |b| / |out| = g k^2``. None if the shapes fit no product."""
    if len(a) < 2 or len(b) < 2 or not prod(out):
        return None
    groups = prod(b[:-2])
    square, rest = divmod(prod(a) * prod(b), prod(out) * groups)
    depth = isqrt(square)
    if rest or depth * depth != square or depth not in a or depth not in b[-2:]:
        return None
    return prod(out) * depth
