"""What messages of LiteRT mean."""

from __future__ import annotations

from qbench.kit.reasons import Known

_SKIPPED, _FAULTY, _RAN = "skipped", "prepare_failed", "error"
_UPGRADE = "upgrade ai-edge-litert"

MESSAGES = (
    Known(
        r"Select TensorFlow op\(s\)",
        _SKIPPED,
        "the file needs operators of TensorFlow (Flex), which LiteRT's Python package has not: "
        "convert the model to built-in operators only",
    ),
    Known(
        r"Encountered unresolved custom op: (\w+)",
        _SKIPPED,
        "LiteRT has no operator {0}: it is a custom one, whose library qbench cannot load",
    ),
    Known(
        r"Op builtin_code out of range: (\d+)",
        _SKIPPED,
        f"the file has an operator, number {{0}}, that is newer than this LiteRT: {_UPGRADE}",
    ),
    Known(
        r"Didn't find op for builtin opcode '(\w+)' version '(\d+)'",
        _SKIPPED,
        f"the file has version {{1}} of the operator {{0}}, which this LiteRT lacks: {_UPGRADE}",
    ),
    Known(
        r"not a valid Flatbuffer|Model provided is schema version",
        _FAULTY,
        "not a valid TFLite file: truncated, or not TFLite",
    ),
    Known(
        r"gather index out of bounds\s*Node number \d+ \((\w+)\)",
        _RAN,
        "{0} is given an index that its table lacks: give real inputs with --inputs",
    ),
    Known(
        r"Node number \d+ \(TfLiteXNNPackDelegate\) failed to prepare",
        _RAN,
        "the model cannot take inputs of this size (XNNPACK, which runs it, names no operator)",
    ),
    Known(
        r"([^\n]*?)\.?\s*Node number \d+ \((\w+)\) failed to (?:prepare|invoke)",
        _RAN,
        "{1} failed: {0}",
    ),
)
