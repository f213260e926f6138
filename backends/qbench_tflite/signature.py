"""Give a TFLite file a signature.

ai-edge-quantizer feeds a model by the names of its signature, and files from old converters have
none. It also renames tensors, but not the signature's entries: so they carry the source's names.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

KEY = "serving_default"
"""The signature's key, as today's converters write it."""


def with_signature(content: bytes) -> bytes:
    """The file with one signature, for its first subgraph, whose names are the tensors' names.

    Args:
        content: a valid TFLite file.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model: Any = schema.ModelT.InitFromPackedBuf(content, 0)
    graph = model.subgraphs[0]

    def entries(tensors: Iterable[int]) -> list[Any]:
        result = []
        for index in tensors:
            entry = schema.TensorMapT()
            entry.name = graph.tensors[index].name
            entry.tensorIndex = int(index)
            result.append(entry)
        return result

    signature = schema.SignatureDefT()
    signature.signatureKey = KEY
    signature.subgraphIndex = 0
    signature.inputs = entries(graph.inputs)
    signature.outputs = entries(graph.outputs)
    model.signatureDefs = [signature]

    builder = flatbuffers.Builder(len(content) + 4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
