"""Map inputs and outputs between the card and OpenVINO: names, shapes, types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qbench.kit.adapter import Unsupported
from qbench.kit.model import SourceTensor, TensorSpec, relayout_shape


def find_ports(ports: Sequence[Any], tensors: Mapping[str, SourceTensor]) -> dict[str, Any]:
    """The ports of an OpenVINO model by canonical name.

    Tools disagree on whether the name of a TFLite tensor ends in ``:0``, so both are tried.

    Raises:
        ValueError: the file has no such tensor.
    """
    found = {}
    for name, tensor in tensors.items():
        wanted = {tensor.name, f"{tensor.name}:0", tensor.name.removesuffix(":0")}
        port = next((p for p in ports if wanted & p.get_names()), None)
        if port is None:
            names = ", ".join(sorted(n for p in ports for n in p.get_names()))
            raise ValueError(f"the file has no tensor '{tensor.name}'. Known: {names}.")
        found[name] = port
    return found


def sizes_in_source(spec: TensorSpec, layout: str | None, batch: int) -> list[int | str]:
    """The card's shape in the file's layout, the first size replaced by ``batch``."""
    return list(relayout_shape((batch, *spec.shape[1:]), spec.layout, layout))


def port_spec(port: Any, layout: str | None = None) -> TensorSpec:
    """The spec of a port. A free first size is called ``N``, others ``D1``, ``D2``, by axis."""
    shape = tuple(
        dim.get_length() if dim.is_static else (f"D{axis}" if axis else "N")
        for axis, dim in enumerate(port.get_partial_shape())
    )
    return TensorSpec(port.get_element_type().to_dtype().name, shape, layout)


def batch_of(port: Any) -> int | None:
    """The fixed first size of ``port``; None if it is free."""
    first = next(iter(port.get_partial_shape()), None)
    return first.get_length() if first is not None and first.is_static else None


def reshape(model: Any, inputs: Mapping[str, Any], sizes: Mapping[str, list[int | str]]) -> None:
    """Fix the input sizes of ``model``, so that the plugin compiles for exactly these.

    Args:
        inputs: ports by canonical name.
        sizes: by canonical name, in the file's layout, the batch first; a name keeps the file's
            size.

    Raises:
        Unsupported: the file is fixed at another batch, and cannot be changed to this one.
        ValueError: the file contradicts the card.
    """
    wanted = {}
    for name, port in inputs.items():
        have = list(port.get_partial_shape())
        if len(have) != len(sizes[name]) or any(
            dim.is_static and isinstance(size, int) and size != dim.get_length()
            for dim, size in zip(have[1:], sizes[name][1:], strict=True)
        ):
            given = port.get_partial_shape()
            raise ValueError(f"input '{name}': the card says {sizes[name]}, the file {given}")
        wanted[port.get_any_name()] = [
            size if isinstance(size, int) else (dim.get_length() if dim.is_static else -1)
            for dim, size in zip(have, sizes[name], strict=True)
        ]
    batch = next(iter(sizes.values()))[0]
    fixed = {batch_of(port) for port in inputs.values()} - {None, batch}
    refusal = f"the file is fixed at batch {', '.join(map(str, fixed))}"
    try:
        model.reshape(wanted)
    except RuntimeError as error:
        if fixed:
            raise Unsupported(refusal) from error
        raise
    # a Reshape to a fixed size may silently accept another batch and mix up the items
    if fixed and any(batch_of(port) not in (None, batch) for port in model.outputs):
        raise Unsupported(refusal)
