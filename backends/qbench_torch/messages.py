"""What messages of torch's exporters mean."""

from __future__ import annotations

from qbench.kit.reasons import Known

_FAILED = "prepare_failed"

MESSAGES = (
    Known(
        r"No ONNX function found for <OpOverload\(op='([^']*)'",
        _FAILED,
        "torch.onnx.export has no ONNX operator for {0}",
    ),
    Known(
        r"Lowering not found: (\S+?)(?:\.default)?\s",
        _FAILED,
        "litert-torch has no TFLite operator for {0}",
    ),
    Known(
        r"Could not guard on data-dependent expression.*?File \"[^\"]*?([^/\"]+)\", line (\d+)",
        _FAILED,
        "the module cannot be exported: in {0}, line {1}, it branches on the values of a tensor",
    ),
    Known(
        r"## Exception summary\s+<class '[^']*'>: ([^\n]+)",
        _FAILED,
        "torch.onnx.export failed: {0}",
    ),
)
