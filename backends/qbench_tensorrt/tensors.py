"""TensorRT's types in NumPy, and several tensors in one block of memory.

Imported while measuring: the standard library and NumPy only.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from qbench.kit.adapter import Unsupported
from qbench.kit.feeds import convert
from qbench.kit.model import TensorSpec

ALIGNMENT = 256  # bytes: cudaMalloc's alignment, which TensorRT requires of addresses

_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
}


def dtype_name(tensor: str, trt_type: Any) -> str:
    """NumPy's name of a member of ``tensorrt.DataType``, or ``bfloat16``.

    Raises:
        Unsupported: a type that cannot be an input or output (fp8, fp4, int4).
    """
    if trt_type.name not in _DTYPES:
        raise Unsupported(f"'{tensor}' is {trt_type.name}, which this adapter cannot pass through")
    return _DTYPES[trt_type.name]


class Block:
    """Layout of several tensors in one block, so that one copy moves all of them.

    Attributes:
        specs: by name; all sizes known.
        offsets: by name, bytes from the start of the block.
        bytes: length of the block, at least 1.
    """

    def __init__(self, specs: Mapping[str, TensorSpec]) -> None:
        self.specs = dict(specs)
        self.offsets: dict[str, int] = {}
        end = 0
        for name, spec in specs.items():
            self.offsets[name] = -(-end // ALIGNMENT) * ALIGNMENT
            end = self.offsets[name] + prod(_sizes(spec)) * _stored(spec).itemsize
        self.bytes = max(end, 1)

    def views(self, memory: np.ndarray) -> dict[str, np.ndarray]:
        """The tensors in ``memory`` (``[bytes]`` uint8), by name; bfloat16 as uint16."""
        views = {}
        for name, spec in self.specs.items():
            sizes, kind = _sizes(spec), _stored(spec)
            start = self.offsets[name]
            raw = memory[start : start + prod(sizes) * kind.itemsize]
            views[name] = raw.view(kind).reshape(sizes)
        return views


def _sizes(spec: TensorSpec) -> list[int]:
    return [int(size) for size in spec.shape]


def _stored(spec: TensorSpec) -> np.dtype:
    return np.dtype("uint16" if spec.dtype == "bfloat16" else spec.dtype)


def write(view: np.ndarray, array: np.ndarray, have: TensorSpec, want: TensorSpec) -> None:
    """Convert ``array`` from ``have`` to ``want`` into a tensor's view.

    Raises:
        ValueError: another shape, or values that do not fit the type.
    """
    if array.shape != view.shape:
        raise ValueError(f"expected shape {list(view.shape)}, got {list(array.shape)}")
    if want.dtype == "bfloat16":
        np.copyto(view, _to_bfloat16(convert(array, have, TensorSpec("float32", want.shape))))
    else:
        np.copyto(view, convert(array, have, want))


def read(view: np.ndarray, spec: TensorSpec) -> np.ndarray:
    """A copy of a view; bfloat16 as float32, which represents it exactly."""
    if spec.dtype == "bfloat16":
        return (view.astype(np.uint32) << 16).view(np.float32)
    return view.copy()


def _to_bfloat16(array: np.ndarray) -> np.ndarray:
    """The upper halves of float32 values as uint16, rounded half to even; NaN stays NaN."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(array), 0x7FC0, rounded).astype(np.uint16)
