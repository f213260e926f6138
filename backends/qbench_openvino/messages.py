"""What messages of OpenVINO mean."""

from __future__ import annotations

from qbench.kit.reasons import Known

_SKIPPED, _FAULTY, _RAN = "skipped", "prepare_failed", "error"
_NO_OPERATOR = "OpenVINO has no operator {0}"

MESSAGES = (
    Known(
        r"No conversion rule found for operations: ([\w.:]+?)(?:-\d+)?[,\n]", _SKIPPED, _NO_OPERATOR
    ),
    Known(r"No translator found for (\S+) node", _SKIPPED, _NO_OPERATOR),
    Known(
        r"Operator builtin code (\d+) is out of range",
        _SKIPPED,
        "the file has an operator, number {0}, that is newer than this OpenVINO: upgrade openvino",
    ),
    Known(
        r"NNCF is not yet supported OpenVINO data type",
        _SKIPPED,
        "NNCF does not quantize models with tensors of open type, as GroupQueryAttention's are",
    ),
    Known(
        r"Calibration dataset must not be empty",
        _FAULTY,
        "NNCF: no calibration item takes one of the model's branches: give more items",
    ),
    Known(
        r"While validating ONNX node '<Node\((\w+)\): ([^>]*)>'.*?with friendly_name '[^']*':\s+"
        r"([^\n]+)",
        _FAULTY,
        "the file is not a valid model: {0} '{1}': {2}",
    ),
    Known(
        r"-- (\w+?)(?:-\d+)? with a message:\s*(?:Check '[^\n]*failed at [^\n]*\n)?"
        r"(?:While [^\n]*\n)?([^\n]+)",
        _SKIPPED,
        "OpenVINO cannot convert the operator {0}: {1}",
    ),
    Known(
        r'Input tensor isn\'t found for node "([^"]*)"',
        _FAULTY,
        "the file is not a valid model: nothing gives the tensor '{0}'",
    ),
    Known(
        r"externally stored data in file \(([^,)]*)",
        _FAULTY,
        "the weights of the file cannot be read: {0} is missing or too short",
    ),
    Known(
        r"Unable to read the model:|is corrupted or malformed|Model can't be parsed",
        _FAULTY,
        "not a valid model file: truncated, or of another format",
    ),
    Known(
        r"While validating node '\w+::(\w+) [^\n]*with friendly_name '([^']*)':\n"
        r"(?:Shape inference[^\n]*\n)?([^\n]+)",
        _RAN,
        "{0} '{1}' cannot take inputs of this size: {2}",
    ),
    Known(
        r"\[CPU\] (\w+) node with name '([^']*)' Check [^\n]*failed at [^\n]*\n"
        r"(?:\[\w+\]\w+: )?([^\n]+)",
        _RAN,
        "{0} '{1}' failed: {2}",
    ),
    Known(r"\[CPU\] (\w+) node with name '([^']*)' ([^\n]+)", _RAN, "{0} '{1}' failed: {2}"),
)
