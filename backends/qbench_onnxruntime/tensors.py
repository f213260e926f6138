"""ONNX Runtime's types, and aligned arrays."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from qbench.kit.adapter import Unsupported

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(int16)": "int16",
    "tensor(uint16)": "uint16",
    "tensor(int32)": "int32",
    "tensor(uint32)": "uint32",
    "tensor(int64)": "int64",
    "tensor(uint64)": "uint64",
    "tensor(bool)": "bool",
}
_ALIGNMENT = 64  # bytes: a cache line, and the widest vector of AVX-512


def dtype_name(tensor: str, ort_type: str) -> str:
    """NumPy's name for ONNX Runtime's ``ort_type``, such as ``tensor(float)``.

    Raises:
        Unsupported: a type that NumPy lacks (bfloat16, strings, sequences).
    """
    if ort_type not in _DTYPES:
        raise Unsupported(f"'{tensor}' is a {ort_type}, which this adapter cannot pass through")
    return _DTYPES[ort_type]


def aligned_empty(shape: Iterable[int], dtype: str) -> np.ndarray:
    """An uninitialised array aligned to 64 bytes, so that two trials do not differ by the
    allocator's choice of address."""
    sizes = tuple(shape)
    kind = np.dtype(dtype)
    count = int(np.prod(sizes, dtype=np.int64)) * kind.itemsize
    raw = np.empty(count + _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + count].view(kind).reshape(sizes)
