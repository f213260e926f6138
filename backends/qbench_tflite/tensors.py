"""Inputs and outputs of a TFLite file. NumPy only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qbench.kit.model import UNKNOWN_RANK, Model, SourceTensor, TensorSpec


@dataclass(frozen=True)
class Slot:
    """One input or output of an interpreter.

    Attributes:
        name: the source file's name.
        index: index of the tensor.
        spec: the file's dtype, shape, layout and quantization.
    """

    name: str
    index: int
    spec: TensorSpec


def file_slots(interpreter: Any) -> tuple[dict[str, Slot], dict[str, Slot]]:
    """The file's inputs and outputs, by the tensors' own names."""
    inputs = [_slot(detail) for detail in interpreter.get_input_details()]
    outputs = [_output(detail) for detail in interpreter.get_output_details()]
    return {slot.name: slot for slot in inputs}, {slot.name: slot for slot in outputs}


def slots(interpreter: Any, model: Model) -> tuple[dict[str, Slot], dict[str, Slot]]:
    """The model's inputs and outputs by canonical name.

    Raises:
        ValueError: the file has no such input or output.
    """
    inputs, outputs = file_slots(interpreter)
    for signature in interpreter._get_full_signature_list().values():
        # the quantizer renames some tensors, but never entries of the signature
        _add_entries(inputs, signature["inputs"])
        _add_entries(outputs, signature["outputs"])
    return (
        _canonical("inputs", inputs, model.source_inputs, model.inputs),
        _canonical("outputs", outputs, model.source_outputs, model.outputs),
    )


def _add_entries(found: dict[str, Slot], signature: Mapping[str, int]) -> None:
    by_index = {slot.index: slot for slot in found.values()}
    for name, index in signature.items():
        if int(index) in by_index:
            found.setdefault(name, replace(by_index[int(index)], name=name))


def _canonical(
    side: str,
    found: Mapping[str, Slot],
    wanted: Mapping[str, SourceTensor],
    card: Mapping[str, TensorSpec],
) -> dict[str, Slot]:
    result = {}
    for canonical, tensor in wanted.items():
        if tensor.name not in found:
            raise ValueError(
                f"the file has no '{tensor.name}' among its {side}: {', '.join(found)}"
            )
        slot = found[tensor.name]
        spec = replace(slot.spec, layout=tensor.layout, batch=card[canonical].batch)
        result[canonical] = replace(slot, spec=spec)
    return result


def _output(detail: Mapping[str, Any]) -> Slot:
    """An output without axes may be one whose shape only a run decides, such as a detector's
    boxes."""
    slot = _slot(detail)
    shape = slot.spec.shape or UNKNOWN_RANK
    return replace(slot, spec=replace(slot.spec, shape=shape))


def _slot(detail: Mapping[str, Any]) -> Slot:
    plain = detail["name"].removeprefix("serving_default_").partition(":")[0]
    shape = tuple(
        int(size) if size > 0 else f"{plain}.{axis}"
        for axis, size in enumerate(detail["shape_signature"])
    )
    scale, zero_point = detail["quantization"]
    spec = TensorSpec(
        np.dtype(detail["dtype"]).name,
        shape,
        scale=float(scale) if scale else None,
        zero_point=int(zero_point) if scale else None,
    )
    return Slot(detail["name"], int(detail["index"]), spec)
