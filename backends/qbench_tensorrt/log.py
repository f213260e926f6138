"""TensorRT's messages: its calls return None or False, and report the reason only to a logger.

Imported while measuring: the standard library and tensorrt only.
"""

from __future__ import annotations

import sys
from typing import Any

import tensorrt as trt  # pyright: ignore[reportMissingImports]


class Log(trt.ILogger):
    """Keeps TensorRT's errors and warnings, and writes them to stderr.

    Attributes:
        errors, warnings: messages in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[str] = []
        self.warnings: list[str] = []

    def log(self, severity: Any, msg: str) -> None:
        if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
            self.errors.append(msg)
        elif severity == trt.ILogger.WARNING:
            self.warnings.append(msg)
        else:
            return
        sys.stderr.write(f"TensorRT: {msg}\n")

    def failure(self, doing: str) -> Exception:
        """The exception for a call that returned None or False, with the errors since the last one;
        a MemoryError if the device ran out of memory.

        Args:
            doing: the failed action.
        """
        text = "; ".join(self.errors) or "TensorRT gives no reason"
        self.errors.clear()
        out = any(sign in text.lower() for sign in ("out of memory", "outofmemory"))
        return (MemoryError if out else RuntimeError)(f"{doing}: {text}")
