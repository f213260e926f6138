"""Convert a torch module to ONNX or TFLite. For workers only."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from qbench.kit.adapter import PrepareError
from qbench.kit.converter import Converted, Source, identifiers, run_twice
from qbench.kit.feeds import fixed_batch
from qbench.kit.model import Feed, SourceTensor, gathered, relayout_shape
from qbench.kit.reasons import sentence
from qbench_torch.load import load_module

Tensors = tuple[torch.Tensor, ...]


def convert(source: Source, form: str, samples: Feed, out: Path) -> Converted:
    """Convert to ``form``: ``onnx`` or ``tflite``."""
    assert source.path is not None
    module = load_module(
        source.path,
        source.options["callable"],
        source.options.get("options") or {},
        source.weights,
    )
    order = _order(module, source)
    network = _Named(module, order, list(source.source_outputs))

    def infer(feed: Feed) -> Feed:
        return _run(network, {name: torch.from_numpy(feed[name]) for name in order})

    fixed = (fixed_batch(spec) for spec in source.inputs.values())
    batch = next((size for size in fixed if size is not None), 1)
    reference = run_twice(source, samples, infer, batch)

    def example(items: int) -> Tensors:
        """The first item, so many times."""
        feed = source.to_source(gathered(samples, source.inputs, [0] * items))
        return tuple(torch.from_numpy(feed[name]) for name in order)

    if form == "onnx":
        # two items, since the exporter would treat a batch of 1 as a constant
        return _to_onnx(network, source, example(2), example(batch), reference, out)
    return _to_tflite(network, source, example(batch), reference, out)


def _run(network: _Named, tensors: Mapping[str, torch.Tensor]) -> Feed:
    """Outputs by canonical name.

    Raises:
        PrepareError: the module fails.
    """
    try:
        with torch.no_grad():
            results = network(*tensors.values())
    except PrepareError:
        raise
    except Exception as error:  # the user's code
        raise PrepareError(f"the module cannot run the card's inputs: {sentence(error)}") from error
    return {n: t.numpy() for n, t in zip(network.names, results, strict=True)}


class _Named(torch.nn.Module):
    """The module with positional inputs, and outputs as a flat tuple in the card's order."""

    def __init__(self, module: Any, order: Mapping[str, str], outputs: list[str]) -> None:
        super().__init__()
        self.module = module
        self._parameters_of_forward = tuple(order.values())
        self.names = outputs

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        result = self.module(**dict(zip(self._parameters_of_forward, tensors, strict=True)))
        if isinstance(result, dict):
            missing = set(self.names) - set(result)
            if missing:
                raise PrepareError(f"the module returns {sorted(result)}, not {sorted(missing)}")
            result = tuple(result[name] for name in self.names)
        result = result if isinstance(result, tuple | list) else (result,)
        if len(result) < len(self.names):
            raise PrepareError(
                f"the module returns {len(result)} outputs, the card has {len(self.names)}"
            )
        return tuple(result[: len(self.names)])


def _order(module: Any, source: Source) -> dict[str, str]:
    """The parameter of ``forward`` for each canonical input: by the card's name, by the canonical
    name, else by position."""
    parameters = [
        name
        for name, parameter in inspect.signature(module.forward).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    order = {}
    for position, (canonical, tensor) in enumerate(source.source_inputs.items()):
        name = tensor.name or canonical
        if name not in parameters and not tensor.name and position < len(parameters):
            name = parameters[position]
        if name not in parameters:
            raise PrepareError(
                f"forward has no parameter '{name}' for the input '{canonical}'; it takes "
                f"{', '.join(parameters)}: name one under the card's sources.torch.inputs"
            )
        if name in order.values():
            raise PrepareError(
                f"two inputs are parameter '{name}' of forward, '{canonical}' and another: name "
                "theirs under the card's sources.torch.inputs"
            )
        order[canonical] = name
    return order


def _to_onnx(
    network: _Named,
    source: Source,
    free: Tensors,
    fixed: Tensors,
    reference: Feed,
    out: Path,
) -> Converted:
    """
    Args:
        free: inputs to export with a free batch.
        fixed: inputs to export with their batch, where the card's is not free, or cannot be.
    """
    words = identifiers([*source.source_inputs, *source.source_outputs])
    shapes = tuple(_free_sizes(source, name) for name in source.source_inputs)
    notes: tuple[str, ...] = ()

    def export(inputs: tuple[Any, ...], dynamic: Any) -> Any:
        return torch.onnx.export(
            network,
            inputs,
            dynamo=True,
            external_data=False,
            verbose=False,
            input_names=[words[name] for name in source.source_inputs],
            output_names=[words[name] for name in source.source_outputs],
            dynamic_shapes=dynamic,
        )

    try:
        try:
            # *tensors is one parameter of forward, so its shapes are one tuple
            program = export(free, (shapes,)) if any(shapes) else export(fixed, None)
        except Exception as error:
            if not any(shapes):
                raise
            program = export(fixed, None)
            notes = (
                f"the batch is fixed at 1, since the exporter could not free it: {sentence(error)}",
            )
        file = out / "model.onnx"
        program.save(str(file), external_data=False)
    except Exception as error:  # the exporter raises unrelated types
        raise PrepareError(f"torch.onnx.export failed: {sentence(error)}") from error
    return Converted(
        file.name,
        {n: replace(t, name=words[n]) for n, t in source.source_inputs.items()},
        {n: replace(t, name=words[n]) for n, t in source.source_outputs.items()},
        reference,
        "torch.onnx.export(dynamo=True)",
        notes,
    )


def _free_sizes(source: Source, name: str) -> dict[int, Any]:
    """Free axes of an input in the card, for torch.export."""
    card = source.inputs[name]
    shape = relayout_shape(card.shape, card.layout, source.source_inputs[name].layout)
    return {
        axis: torch.export.Dim(identifiers([size])[size])
        for axis, size in enumerate(shape)
        if isinstance(size, str)
    }


def _to_tflite(
    network: _Named, source: Source, inputs: Tensors, reference: Feed, out: Path
) -> Converted:
    """Inputs and outputs of images become channels-last, since litert-torch would otherwise
    transpose inside the model."""
    import litert_torch

    changed = {
        what: [i for i, t in enumerate(found.values()) if t.layout == "NCHW"]
        for what, found in (("args", source.source_inputs), ("outputs", source.source_outputs))
    }
    file = out / "model.tflite"
    example = tuple(
        tensor.permute(0, 2, 3, 1).contiguous() if i in changed["args"] else tensor
        for i, tensor in enumerate(inputs)
    )
    try:
        wrapped = litert_torch.to_channel_last_io(network, **changed).eval()
        litert_torch.convert(wrapped, example).export(str(file))
    except Exception as error:  # the tool raises unrelated types
        raise PrepareError(f"litert-torch failed: {sentence(error)}") from error
    names = _tensor_names(file.read_bytes())

    def renamed(tensors: Mapping[str, SourceTensor], own: list[str]) -> dict[str, SourceTensor]:
        result = {}
        for (canonical, tensor), name in zip(tensors.items(), own, strict=True):
            layout = "NHWC" if tensor.layout == "NCHW" else tensor.layout
            result[canonical] = SourceTensor(name, layout)
        return result

    return Converted(
        file.name,
        renamed(source.source_inputs, names["inputs"]),
        renamed(source.source_outputs, names["outputs"]),
        reference,
        "litert_torch.convert",
        ("litert-torch fixes the batch at 1",),
    )


def _tensor_names(content: bytes) -> dict[str, list[str]]:
    """Names of a file's tensors in the order of the module's inputs (``args_0``, ...) and outputs
    (``output_0``, ...), which its signature records."""
    from ai_edge_litert import schema_py_generated as schema

    model: Any = schema.ModelT.InitFromPackedBuf(content, 0)
    (entries,) = model.signatureDefs
    tensors = model.subgraphs[entries.subgraphIndex].tensors

    def names(found: list[Any]) -> list[str]:
        by_number = {
            int(entry.name.decode().rpartition("_")[2]): tensors[entry.tensorIndex].name.decode()
            for entry in found
        }
        return [by_number[number] for number in sorted(by_number)]

    return {"inputs": names(entries.inputs), "outputs": names(entries.outputs)}
