"""What ONNX Runtime's messages mean."""

from __future__ import annotations

from qbench.kit.reasons import Known

_SKIPPED, _FAULTY, _RAN = "skipped", "prepare_failed", "error"
_FAILED_LOAD = r"Load model from \S+ failed:\s*"
_RUNNING = r"while running (\w+) node\. Name:'([^']*)' Status Message: "

MESSAGES = (
    Known(
        r"(\S+)\(-?\d+\) is not a registered function/op",
        _SKIPPED,
        "ONNX Runtime has no operator {0}: it is a custom one, whose library qbench cannot load",
    ),
    Known(
        r"No Op registered for (\w+) with domain_version of (\d+)",
        _SKIPPED,
        "ONNX Runtime has no operator {0} in opset {1}: export the model with standard operators",
    ),
    Known(
        r"Could not find an implementation for (\w+)\((\d+)\) node with name '([^']*)'",
        _SKIPPED,
        "ONNX Runtime has no kernel for the operator {0} '{2}' with its data types",
    ),
    Known(
        r"Opset (\d+) is under development.*?till opset (\d+)",
        _SKIPPED,
        "the file has opset {0}, this ONNX Runtime {1} at most: upgrade onnxruntime, or export the "
        "model with an older opset",
    ),
    Known(
        r"Unsupported model IR version: (\d+), max supported IR version: (\d+)",
        _SKIPPED,
        "the file has IR version {0}, this ONNX Runtime {1} at most: upgrade onnxruntime",
    ),
    Known(
        r"Type '([^']*)' of input parameter \(([^)]*)\) of operator \((\w+)\) in node \(([^)]*)\)",
        _SKIPPED,
        "ONNX Runtime's operator {2} takes no {0}, as '{3}' has it for '{1}'",
    ),
    Known(
        r"Type parameter \(\w+\) of Optype \((\w+)\) bound to different types \((\S+) and (\S+) in "
        r"node \(([^)]*)\)",
        _FAULTY,
        "the file is not a valid model: {0} '{3}' mixes {1} and {2}",
    ),
    Known(
        _FAILED_LOAD + r"Node \(([^)]*)\) Op \((\w+)\) \[\w+\] ([^\n]+)",
        _FAULTY,
        "the file is not a valid model: {1} '{0}': {2}",
    ),
    Known(r"the graph is not acyclic", _FAULTY, "the file is not a valid model: it has a cycle"),
    Known(
        r"Node input '([^']*)' is not a graph input, initializer, or output of a previous node",
        _FAULTY,
        "the file is not a valid model: nothing gives the tensor '{0}'",
    ),
    Known(r"Protobuf parsing failed", _FAULTY, "not a valid ONNX file: truncated, or not ONNX"),
    Known(r"This is an invalid model\.\s*([^\n]+)", _FAULTY, "the file is not a valid model: {0}"),
    Known(
        r"Node \(([^)]*)\) Op \((\w+)\) \[\w+\] ([^\n]+)",
        _RAN,
        "{1} '{0}' cannot take inputs of this size: {2}",
    ),
    Known(
        _RUNNING + r"indices element out of data bounds, idx=(-?\d+) must be within the inclusive "
        r"range (\[[^\]]*\])",
        _RAN,
        "{0} '{1}' is given the index {2} outside of {3}: give real inputs with --inputs",
    ),
    Known(
        _RUNNING + r"\S*?reshape_helper.h.*?Input shape:(\{[^}]*\}), requested shape:(\{[^}]*\})",
        _RAN,
        "{0} '{1}' cannot take inputs of this size: it makes {3} of {2}",
    ),
    Known(_RUNNING + r"([^\n]+)", _RAN, "{0} '{1}' failed: {2}"),
)
