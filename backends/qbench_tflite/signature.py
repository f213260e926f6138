"""Signatures of a TFLite file: names for the inputs and outputs of a subgraph."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from qbench_tflite.flatfile import expand_halves, keep, packed, parse, reachable

KEY = "serving_default"
"""Key of the signature that today's converters write."""


def alone(content: bytes, key: str) -> bytes:
    """The file with the signature ``key`` only: its subgraph is the first, its inputs and outputs
    are called as in the signature, and subgraphs and weights of other signatures are gone.

    Raises:
        ValueError: there is no such signature.
    """
    model = parse(content)
    signatures = {entry.signatureKey.decode(): entry for entry in model.signatureDefs or ()}
    if key not in signatures:
        raise ValueError(f"the file has no signature {key}; it has {_listed(signatures)}")
    signature = signatures[key]
    keep(model, reachable(model, signature.subgraphIndex))
    signature.subgraphIndex = 0
    model.signatureDefs = [signature]
    entries = {entry.tensorIndex: entry.name for entry in (*signature.inputs, *signature.outputs)}
    for index, tensor in enumerate(model.subgraphs[0].tensors):
        if index in entries:
            tensor.name = entries[index]
        elif tensor.name in entries.values():
            tensor.name += b"_"
    return packed(model)


def _listed(keys: Iterable[str]) -> str:
    return ", ".join(sorted(keys)) or "none"


def with_signature(
    content: bytes, inputs: Sequence[str] | None = None, outputs: Sequence[str] | None = None
) -> bytes:
    """The file with one signature, for its first subgraph, so that ai-edge-quantizer can read it.

    It feeds a model by the names of its signature, which files from old converters lack. It
    renames tensors, but not the signature's entries, so these keep the source's names. Weights
    that the file stores in float16 become float32.

    Args:
        content: a valid TFLite file.
        inputs, outputs: names in the file's order; by default the tensors' names.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = parse(content)
    expand_halves(model)
    graph = model.subgraphs[0]

    def entries(tensors: Iterable[int], names: Sequence[str] | None) -> list[Any]:
        result = []
        for position, index in enumerate(tensors):
            entry = schema.TensorMapT()
            entry.name = names[position] if names else graph.tensors[index].name
            entry.tensorIndex = int(index)
            result.append(entry)
        return result

    signature = schema.SignatureDefT()
    signature.signatureKey = KEY
    signature.subgraphIndex = 0
    signature.inputs = entries(graph.inputs, inputs)
    signature.outputs = entries(graph.outputs, outputs)
    model.signatureDefs = [signature]
    return packed(model)
