"""Names, shapes and types of a model's inputs and outputs, between the card and OpenVINO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qbench.kit.adapter import Unsupported
from qbench.kit.model import SourceTensor, TensorSpec, relayout_shape


def find_ports(ports: Sequence[Any], tensors: Mapping[str, SourceTensor]) -> dict[str, Any]:
    """The ports of an OpenVINO model by canonical name.

    A TFLite tensor may carry ``:0`` at the end of its name or not, depending on the tool that
    reads the file, so both are looked for.

    Raises:
        ValueError: a tensor that the file does not have.
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
    """What a port holds. The first free size is called ``N``, others ``D1``, ``D2``, by axis."""
    shape = tuple(
        dim.get_length() if dim.is_static else (f"D{axis}" if axis else "N")
        for axis, dim in enumerate(port.get_partial_shape())
    )
    return TensorSpec(port.get_element_type().to_dtype().name, shape, layout)


def batch_of(port: Any) -> int | None:
    """The size that the file fixes the first axis of ``port`` to; None if it is free."""
    first = next(iter(port.get_partial_shape()), None)
    return first.get_length() if first is not None and first.is_static else None


def reshape(model: Any, inputs: Mapping[str, Any], sizes: Mapping[str, list[int | str]]) -> None:
    """Give ``model`` fixed input sizes, so that the plugin compiles for just these.

    Args:
        inputs: ports by canonical name.
        sizes: by canonical name, in the file's layout, the batch first; a name is a size that
            stays as the file has it.

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
    # A Reshape to a fixed size may take another batch without complaint and mix up the items.
    if fixed and any(batch_of(port) not in (None, batch) for port in model.outputs):
        raise Unsupported(refusal)
