"""What a reason must not hold, whoever wrote it."""

from __future__ import annotations

import re

from qbench.kit.reasons import LONGEST

FORBIDDEN = {
    "an escape code": r"\x1b|\\x1b|\\033",
    "a character that does not print": r"[^\S ]|[\x00-\x1f\x7f-\x9f]",
    "an address of memory": r"0x[0-9a-f]{4,}",
    "a folder": r"/tmp/|(?:^|[\s'\"(:=,])/(?:home|usr|var|onnxruntime_src)/",
    "an address of the network": r"\b[a-z]+://\w|\blocalhost\b|\b\w+\.(?:com|org)\b(?!\.\w)",
    "a place in source code": r"\w\.(?:cc|cpp|h|hpp):\d+",
    "a class of exceptions": r"(?<![\w.])\w+(?:Error|Exception|Failure)\b",
    "a runtime's number": r"\[ONNXRuntimeError\]|Exception from ",
}


def assert_readable(text: str) -> None:
    assert len(text) <= LONGEST, text
    for what, pattern in FORBIDDEN.items():
        assert not re.search(pattern, text), (what, text)
    assert text == text.strip() and not text.endswith((".", ":", ",")), text
