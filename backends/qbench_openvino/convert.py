"""Convert source files to OpenVINO models. Never imported while measuring.

Every source goes through ``openvino.convert_model``, which folds constants. ``Core.read_model``
leaves the weights of ONNX's depthwise convolutions behind a Reshape, where NNCF does not find them:
a quarter to a half of the convolutions of a MobileNet would stay float32. Quantizing the converted
model is as fast as quantizing the ONNX graph, gives a smaller file, and needs neither onnx nor ONNX
Runtime. A file with Q/DQ gains too: convolutions and attention that ``read_model`` leaves in
float32 run in int8.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from qbench.kit.adapter import Description, PrepareError, Unsupported
from qbench.kit.model import Model
from qbench.kit.onnxfile.wire import has_sparse_weights
from qbench.kit.reasons import sentence
from qbench_openvino.runtime import import_openvino
from qbench_openvino.tensors import find_ports, port_spec


def convert(openvino: Any, model: Model) -> Any:
    """The source file as an OpenVINO model with folded constants.

    Raises:
        PrepareError: not a model file, an operator that OpenVINO lacks, or names that differ from
            the card's.
    """
    converted = _read(model.path, openvino.convert_model)
    try:
        find_ports(converted.inputs, model.source_inputs)
        find_ports(converted.outputs, model.source_outputs)
    except ValueError as error:
        raise PrepareError(str(error)) from error
    _name_by_position(converted)
    return converted


def describe(path: Path) -> Description:
    """Inputs and outputs of a file, by its own names. Of an ONNX file by the package onnx if it is
    installed, since OpenVINO forgets the names of free sizes."""
    if path.suffix == ".onnx" and find_spec("onnx"):
        from qbench.kit.onnxfile.describe import describe as describe_onnx
        from qbench.kit.onnxfile.graph import load

        return describe_onnx(load(path, weights=False))
    openvino = import_openvino()
    model = _read(path, openvino.Core().read_model)
    return Description(
        {port.get_any_name(): port_spec(port) for port in model.inputs},
        {port.get_any_name(): port_spec(port) for port in model.outputs},
    )


def _name_by_position(converted: Any) -> None:
    """Name operators without a name in the source ``<type>_<number>``, by position.

    OpenVINO numbers them by a counter of the process, so two conversions of one file (a TFLite file
    names no operator) would share no names to compare activations by.
    """
    counts: Counter[str] = Counter()
    for op in converted.get_ordered_ops():
        named = any(output.get_names() for output in op.outputs())
        if not named and re.fullmatch(r"[A-Z][A-Za-z]*_\d+", op.get_friendly_name()):
            kind = op.get_type_name()
            op.set_friendly_name(f"{kind}_{counts[kind]}")
            counts[kind] += 1


def _read(path: Path, reader: Callable[[Path], Any]) -> Any:
    """``reader(path)``, with its errors turned into PrepareErrors."""
    kind = {".onnx": "ONNX", ".tflite": "TFLite"}.get(path.suffix, "model")
    if not _looks_like(path):
        raise PrepareError(f"not a valid {kind} file: truncated, or of another format")
    try:
        return reader(path)
    except Exception as error:  # the frontends raise a dozen unrelated types
        if path.suffix == ".onnx" and has_sparse_weights(path):
            raise Unsupported("OpenVINO does not read sparse weights: save them dense") from error
        raise PrepareError(f"OpenVINO cannot convert the model: {sentence(error)}") from error


def _looks_like(path: Path) -> bool:
    """Whether the first bytes fit the format of the name. For other files OpenVINO tries all
    frontends and ends with 'Cannot recognize input model'."""
    with path.open("rb") as file:
        head = file.read(8)
    if path.suffix == ".tflite":
        return head[4:] == b"TFL3"
    # an ONNX file is a protobuf message whose first field is one of ModelProto's, 1 to 25
    return len(head) == 8 and 1 <= head[0] >> 3 <= 25 and head[0] & 7 in (0, 2)
