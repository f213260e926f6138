"""What the engines of ``fake_tensorrt`` are made of: the layers that its inspector tells, in the
words of the real one, and the run of the model by ONNX Runtime.

The form of the inspector's JSON, with DETAILED verbosity:

- 10: ``"Format/Datatype"`` of a tensor, ``"Bindings"``: NVIDIA/TensorRT issue 4020 (trtexec of
  10.1), its sample_editable_timing_cache (a ``gemm`` and a ``kgen`` layer of 10.8);
- 11: ``"Format"`` and ``"Datatype"`` apart, ``"I/O Tensors"``: "Migrating IEngineInspector Usage
  from TensorRT 10.x to 11.x" of the documentation of 11.3, and NVIDIA's cookbook, which reads both.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

_WORDS: dict[int, tuple[str, str]] = {
    TensorProto.FLOAT: ("Float", "Row major linear FP32"),
    TensorProto.FLOAT16: ("Half", "Row major linear FP16 format"),
    TensorProto.BFLOAT16: ("BFloat16", "Row major linear BFloat16 format"),
    TensorProto.INT8: ("Int8", "Row major Int8 format"),
    TensorProto.INT4: ("Int4", "Row major linear Int4 format"),
    TensorProto.FLOAT8E4M3FN: ("FP8", "Row major linear FP8 format"),
    TensorProto.INT32: ("Int32", "Row major linear Int32"),
    TensorProto.INT64: ("Int64", "Row major linear Int64 format"),
    TensorProto.BOOL: ("Bool", "Row major linear BOOL"),
    TensorProto.UINT8: ("UInt8", "Row major linear UInt8 format"),
}
_KERNELS: dict[int, str] = {  # inputs, multiplied as, added up as
    TensorProto.FLOAT: "f32f32_f32f32_f32",
    TensorProto.FLOAT16: "f16f16_f16f16_f16",
    TensorProto.BFLOAT16: "bf16bf16_bf16f32_f32",
    TensorProto.INT8: "i8i8_i8i32_f32",
    TensorProto.FLOAT8E4M3FN: "e4m3e4m3_e4m3f32_f32",
}
_FUSED = ("BatchNormalization", "Relu", "Clip")
_GONE = ("Constant", "Identity")
_VIEWS = ("Flatten", "Reshape", "Squeeze", "Unsqueeze")


def information(
    model: onnx.ModelProto, built: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]
) -> dict[str, Any]:
    """What the engine inspector tells of all layers; ``shapes`` are those of its execution context,
    without which it tells no sizes and formats that depend on them ("N/A due to dynamic shapes",
    as IEngineInspector::setExecutionContext documents)."""
    found: list[Any] = _Engine(model, shapes, built).layers()
    if built["verbosity"] != "DETAILED":
        found = [layer["Name"] for layer in found] if built["verbosity"] != "NONE" else []
    weights = {tensor.name for tensor in model.graph.initializer}
    ports = [(v, "Input") for v in model.graph.input if v.name not in weights]
    ports += [(v, "Output") for v in model.graph.output]
    if built["version"].startswith("10"):
        return {"Layers": found, "Bindings": [value.name for value, _ in ports]}
    tensors = [
        {
            "Name": value.name,
            "IOMode": mode,
            "DataType": _WORDS[value.type.tensor_type.elem_type][0],
            "Dimensions": [d.dim_value or -1 for d in value.type.tensor_type.shape.dim],
            "Location": "Device",
            "IsShapeInferenceIO": False,
            "ProfileInfo": [],
        }
        for value, mode in ports
    ]
    return {"Layers": found, "I/O Tensors": tensors}


def layers(model: onnx.ModelProto, built: Mapping[str, Any]) -> list[dict[str, Any]]:
    shapes = {name: sizes[1] for name, sizes in built["profile"].items()}
    return _Engine(model, shapes, built).layers()


class _Engine:
    """Fusions as the real builder makes them of convolutions and products; one layer for each of
    the other operators."""

    def __init__(
        self, model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]], built: Mapping[str, Any]
    ) -> None:
        self.graph, self.built = model.graph, built
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        sized = _sized(model, shapes)
        kinds = {v.name: v.type.tensor_type for v in (*sized.input, *sized.output)}
        kinds.update({v.name: v.type.tensor_type for v in sized.value_info})
        self.shapes = {n: [d.dim_value for d in k.shape.dim] for n, k in kinds.items()}
        self.types = {name: kind.elem_type for name, kind in kinds.items()}
        for name, tensor in self.constants.items():
            self.shapes[name], self.types[name] = list(tensor.dims), tensor.data_type
        self.makers = {out: node for node in model.graph.node for out in node.output}
        self.users: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self.users.setdefault(name, []).append(node)
        self.outputs = {value.name for value in model.graph.output}

    def layers(self) -> list[dict[str, Any]]:
        taken: set[str] = set()
        found = []
        for node in self.graph.node:
            if node.output[0] in taken or node.op_type in _GONE or self._constant(node.output[0]):
                continue
            chain = self._chain(node)
            taken.update(name for one in chain for name in one.output)
            if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
                found.append(self._computing(chain))
            elif node.op_type == "DequantizeLinear" and self._goes_to_products(node):
                continue  # the layers behind it read int8
            else:
                found.append(self._other(node, len(found)))
        return found

    def _constant(self, name: str) -> bool:
        if name in self.constants:
            return True
        node = self.makers.get(name)
        if node is None:
            return False
        return node.op_type == "Constant" or (
            node.op_type in ("QuantizeLinear", "DequantizeLinear") and self._constant(node.input[0])
        )

    def _goes_to_products(self, node: onnx.NodeProto) -> bool:
        kinds = {user.op_type for user in self.users.get(node.output[0], [])}
        return bool(kinds) and kinds <= {"Conv", "ConvTranspose", "Gemm", "MatMul"}

    def _chain(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """A computing operator with what is fused into it, up to a QuantizeLinear."""
        chain = [node]
        if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            return chain
        while chain[-1].output[0] not in self.outputs:
            users = self.users.get(chain[-1].output[0], [])
            if len(users) != 1:
                break
            user = users[0]
            bias = user.op_type == "Add" and any(self._constant(name) for name in user.input)
            if user.op_type not in (*_FUSED, "QuantizeLinear") and not bias:
                break
            chain.append(user)
            if user.op_type == "QuantizeLinear":
                break
        return chain

    def _read(self, name: str) -> str:
        """The tensor that a product really reads: in front of a DequantizeLinear."""
        node = self.makers.get(name)
        if node is not None and node.op_type == "DequantizeLinear":
            return node.input[0]
        return name

    def _stored(self, name: str) -> tuple[int, list[int]]:
        """Type and shape that weights are kept in."""
        shape = self.shapes[name]
        node = self.makers.get(name)
        if node is not None and node.op_type == "DequantizeLinear":
            return self.types[node.input[0]], shape
        return self.types[name], shape

    def _computing(self, chain: Sequence[onnx.NodeProto]) -> dict[str, Any]:
        node, out = chain[0], chain[-1].output[0]
        data = self._read(node.input[0])
        kind = self.types[data]
        kernel = _KERNELS.get(kind, "f32f32_f32f32_f32")
        if kind == TensorProto.FLOAT and "TF32" in self.built["flags"]:
            kernel = "f32f32_tf32f32_f32"
        inputs = [self._tensor(data)]
        layer: dict[str, Any] = {"Name": " + ".join(map(_name, chain))}
        weights, shape = self._stored(node.input[1])
        if node.op_type.startswith("Conv"):
            attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            layer |= {
                "LayerType": "CaskConvolution",
                "Inputs": inputs,
                "Outputs": [self._tensor(out)],
                "ParameterType": "Convolution",
                "Kernel": shape[2:],
                "OutMaps": self.shapes[out][1],
                "Groups": attributes.get("group", 1),
                "Weights": {"Type": _WORDS[weights][0], "Count": prod(shape)},
                "TacticName": f"sm80_xmma_fprop_implicit_gemm_{kernel}_nhwckrsc_nhwc",
            }
        else:
            second = self._read(node.input[1])
            if not self._constant(node.input[1]):
                inputs.append(self._tensor(second))
            else:
                inputs.append(self._tensor(node.input[1], shape=shape, kind=weights))
            layer |= {
                "LayerType": "gemm",
                "Inputs": inputs,
                "Outputs": [self._tensor(out)],
                "TacticName": f"sm80_xmma_gemm_{kernel}_nn_n_tilesize32x32x64_stage3",
            }
        return layer | {"StreamId": 0, "Metadata": _metadata(chain)}

    def _other(self, node: onnx.NodeProto, index: int) -> dict[str, Any]:
        given = [name for name in node.input if name and not self._constant(name)]
        kind = "kgen"
        if node.op_type in _VIEWS:
            kind = "NoOp"
        elif node.op_type in ("QuantizeLinear", "DequantizeLinear", "Cast"):
            kind = "Reformat"
        return {
            "Name": _name(node) if kind != "kgen" else f"__myl_{node.op_type[:4]}_myl0_{index}",
            "LayerType": kind,
            "Inputs": [self._tensor(name) for name in given if name in self.shapes],
            "Outputs": [self._tensor(name) for name in node.output if name in self.shapes],
            "TacticName": f"__myl_{node.op_type[:4]}_0x{index:032x}",
            "StreamId": 0,
            "Metadata": _metadata([node]),
        }

    def _format(self, name: str, kind: int) -> dict[str, str]:
        word, layout = _WORDS[kind]
        if 0 in self.shapes[name]:
            layout = "N/A due to dynamic shapes"
        if self.built["version"].startswith("10"):
            return {"Format/Datatype": layout}
        return {"Format": layout, "Datatype": word}

    def _tensor(
        self, name: str, shape: Sequence[int] | None = None, kind: int | None = None
    ) -> dict[str, Any]:
        sizes = self.shapes[name] if shape is None else shape
        told: dict[str, Any] = {
            "Name": name,
            "Location": "Device",
            "Dimensions": [size or -1 for size in sizes],
        }
        return told | self._format(name, kind or self.types[name])


def _metadata(chain: Sequence[onnx.NodeProto]) -> str:
    return "\x1e".join(f"[ONNX Layer: {_name(node)}]" for node in chain)


def _name(node: onnx.NodeProto) -> str:
    return node.name or f"node_of_{node.output[0]}"


def _sized(model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]) -> onnx.GraphProto:
    """The graph with inputs of ``shapes`` and every shape that follows from them."""
    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    for value in (*sized.graph.input, *sized.graph.output):
        fixed = shapes.get(value.name)
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if fixed is not None:
                dim.dim_value = fixed[axis]
            elif not dim.HasField("dim_value"):
                dim.Clear()
    del sized.graph.value_info[:]
    return shape_inference.infer_shapes(sized, data_prop=True).graph


class Runner:
    """Runs the model on addresses, as soon as it is asked to for the first time."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self._known: dict[str, dict[str, list[int]]] = {}

    def shapes(self, given: Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
        """Shapes of inputs and outputs for inputs of these; -1 for what is not known."""
        key = repr(sorted(given.items()))
        if key not in self._known:
            known = {name: list(shape) for name, shape in given.items()}
            for value in _sized(self.model, given).output:
                dims = value.type.tensor_type.shape.dim
                known[value.name] = [d.dim_value or -1 for d in dims]
            self._known[key] = known
        return self._known[key]

    @functools.cached_property
    def session(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        wide = _without_bf16(self.model)  # a processor has no kernels for it, nor NumPy a type
        return onnxruntime.InferenceSession(
            wide.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def run(self, shapes: Mapping[str, Sequence[int]], addresses: Mapping[str, int]) -> None:
        feed = {}
        for value in self.session.get_inputs():
            array = np.empty(shapes[value.name], _numpy(self.model.graph.input, value.name))
            ctypes.memmove(array.ctypes.data, addresses[value.name], array.nbytes)
            wide = array.dtype.name == "bfloat16"
            feed[value.name] = array.astype(np.float32) if wide else array
        names = [value.name for value in self.session.get_outputs()]
        for name, made in zip(names, self.session.run(names, feed), strict=True):
            array = np.ascontiguousarray(made, _numpy(self.model.graph.output, name))
            ctypes.memmove(addresses[name], array.ctypes.data, array.nbytes)


def _numpy(values: Any, name: str) -> np.dtype:
    value = next(value for value in values if value.name == name)
    return helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)


def _without_bf16(model: onnx.ModelProto) -> onnx.ModelProto:
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    for value in (*wide.graph.input, *wide.graph.output, *wide.graph.value_info):
        if value.type.tensor_type.elem_type == TensorProto.BFLOAT16:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    for tensor in wide.graph.initializer:
        if tensor.data_type == TensorProto.BFLOAT16:
            values = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for node in wide.graph.node:
        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i == TensorProto.BFLOAT16:
                attribute.i = TensorProto.FLOAT
    return wide
