"""Mend a TFLite file's table of contents, so that today's tools can read it.

- ai-edge-quantizer feeds a model by the names of its signature, and files from old converters have
  none. It also renames tensors, but not the signature's entries: so they carry the source's names.
- It looks at ``builtin_code`` only, which old converters leave at 0 (ADD): their operators
  stand in ``deprecated_builtin_code``. The format's own rule (``schema.fbs``, OperatorCode) is to
  take the greater of both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

KEY = "serving_default"
"""The signature's key, as today's converters write it."""


def with_signature(
    content: bytes, inputs: Sequence[str] | None = None, outputs: Sequence[str] | None = None
) -> bytes:
    """The file with one signature, for its first subgraph, and with present operator codes.

    Args:
        content: a valid TFLite file.
        inputs, outputs: names in the file's order; by default the tensors' names.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model: Any = schema.ModelT.InitFromPackedBuf(content, 0)
    graph = model.subgraphs[0]

    def entries(tensors: Iterable[int], names: Sequence[str] | None) -> list[Any]:
        result = []
        for position, index in enumerate(tensors):
            entry = schema.TensorMapT()
            entry.name = names[position] if names else graph.tensors[index].name
            entry.tensorIndex = int(index)
            result.append(entry)
        return result

    for code in model.operatorCodes:
        code.builtinCode = max(code.builtinCode, code.deprecatedBuiltinCode)
    signature = schema.SignatureDefT()
    signature.signatureKey = KEY
    signature.subgraphIndex = 0
    signature.inputs = entries(graph.inputs, inputs)
    signature.outputs = entries(graph.outputs, outputs)
    model.signatureDefs = [signature]

    builder = flatbuffers.Builder(len(content) + 4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
