"""What int8 figures owe to the processor that the tests run on."""

from __future__ import annotations

import platform
from pathlib import Path

_FLAGS = set(Path("/proc/cpuinfo").read_text().split())

HAS_VNNI = bool(_FLAGS & {"avx512_vnni", "avx_vnni", "amx_int8"})
SATURATES = platform.machine() == "x86_64" and not HAS_VNNI
"""On x86 without VNNI, ONNX Runtime and OpenVINO add two products of uint8 and int8 in 16 bits,
which saturate: the accuracy of a file with 8-bit weights is then this processor's, and no property
of the file. (OpenVINO's own recipe leaves a bit free in the first layer's weights only; LiteRT
multiplies int8 by int8.)"""
AS_IT_STANDS = {"graph_optimization_level": "ORT_DISABLE_ALL"} if SATURATES else {}
"""ONNX Runtime's hints that keep Q/DQ around float operators, where int8 sums would saturate."""
