"""Map inputs and outputs between the card and OpenVINO: names, shapes, types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qbench.kit.adapter import Unsupported
from qbench.kit.feeds import fixed_batch
from qbench.kit.model import UNKNOWN_RANK, Model, SourceTensor, TensorSpec


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


def port_spec(port: Any, layout: str | None = None, batch: int | None = 0) -> TensorSpec:
    """The spec of a port. OpenVINO forgets the names of free sizes, so each is called
    ``<tensor>.<axis>``.

    Raises:
        Unsupported: the tensor holds no numbers.
    """
    name = next(iter(sorted(port.get_names())), port.get_node().get_friendly_name())
    try:
        dtype = port.get_element_type().to_dtype().name
    except RuntimeError as error:
        kind = port.get_element_type().get_type_name()
        raise Unsupported(
            f"'{name}' is a {kind}, and qbench feeds and reads numbers only"
        ) from error
    partial = port.get_partial_shape()
    if partial.rank.is_dynamic:
        return TensorSpec(dtype, UNKNOWN_RANK, layout)
    shape = tuple(
        dim.get_length() if dim.is_static else f"{name}.{axis}" for axis, dim in enumerate(partial)
    )
    return TensorSpec(dtype, shape, layout, batch=batch)


def reshape(
    model: Any, inputs: Mapping[str, Any], outputs: Mapping[str, Any], card: Model, batch: int
) -> None:
    """Fix the input sizes of ``model``, so that the plugin compiles for exactly these.

    Args:
        inputs, outputs: ports by canonical name.

    Raises:
        Unsupported: the file is fixed at another batch, and cannot be changed to this one.
        ValueError: the file contradicts the card.
    """
    wanted = card.source_shapes(batch)
    found = {name: port_spec(port, batch=card.inputs[name].batch) for name, port in inputs.items()}
    for name, spec in found.items():
        sizes = wanted[card.source_inputs[name].name]
        if spec.shape != UNKNOWN_RANK and (
            len(spec.shape) != len(sizes)
            or any(
                isinstance(have, int) and have != size and axis != spec.batch
                for axis, (have, size) in enumerate(zip(spec.shape, sizes, strict=True))
            )
        ):
            given = inputs[name].get_partial_shape()
            raise ValueError(f"input '{name}': the card says {list(sizes)}, the file {given}")
    fixed = {fixed_batch(spec) for spec in found.values()} - {None, batch}
    refusal = f"the file is fixed at batch {', '.join(map(str, fixed))}"
    by_port = {
        port.get_any_name(): list(wanted[card.source_inputs[name].name])
        for name, port in inputs.items()
    }
    try:
        model.reshape(by_port)
    except RuntimeError as error:
        if fixed:
            raise Unsupported(refusal) from error
        raise
    # a Reshape to a fixed size may silently accept another batch and mix up the items
    after = [port_spec(port, batch=card.outputs[name].batch) for name, port in outputs.items()]
    if fixed and any(fixed_batch(spec) not in (None, batch) for spec in after):
        raise Unsupported(refusal)
