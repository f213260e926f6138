"""Add a signature and current operator codes to a TFLite file, so that today's tools can read it.

- ai-edge-quantizer feeds a model by the names of its signature, which files from old converters
  lack. It renames tensors, but not the signature's entries, so these keep the source's names.
- It reads ``builtin_code`` only, which old converters leave at 0 (ADD): their operators are in
  ``deprecated_builtin_code``. The format's rule (``schema.fbs``, OperatorCode) is to use the
  greater of both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

KEY = "serving_default"
"""Key of the signature that today's converters write."""


def with_signature(
    content: bytes, inputs: Sequence[str] | None = None, outputs: Sequence[str] | None = None
) -> bytes:
    """The file with one signature, for its first subgraph, and with current operator codes.

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
