"""Files with the weights of an ONNX file, read from the file itself. Standard library only, so that
the parent process and adapters without the onnx package can ask.

An ONNX file is a protobuf message; a tensor in it may name a file and leave its content there
(``TensorProto.external_data``, onnx/onnx.proto). Only the fields that lead to tensors are read.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple

from qbench.kit.adapter import PrepareError

_FIELDS = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
"""By message, the numbers of its fields that lead to a tensor's external data, and their types."""
_IS_EXTERNAL = (14, 1)
"""Number and value of the field ``data_location`` of a tensor whose content is elsewhere."""
_SIZES = {1: 8, 5: 4}
"""Bytes of values by wire type: 64 and 32 bits."""


def external_files(path: Path) -> list[str]:
    """Names of the files that hold weights of the ONNX file ``path``, relative to its folder and in
    the order of first mention.

    Raises:
        PrepareError: it is no ONNX file, is truncated, or keeps weights outside its folder.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            found = [inside(place) for place in _locations(data, "model", _Span(0, len(data)))]
    except (IndexError, RecursionError, UnicodeDecodeError, ValueError) as error:
        raise PrepareError(f"not a valid ONNX file: {error} (truncated or not ONNX)") from error
    except OSError as error:
        raise PrepareError(f"the ONNX file cannot be read: {error}") from error
    return list(dict.fromkeys(found))


def inside(location: str) -> str:
    """The location of external data without leading ``./``.

    Raises:
        PrepareError: it is outside the folder of its ONNX file.
    """
    path = PureWindowsPath(location)  # knows both kinds of separators
    if not path.parts or path.anchor or ".." in path.parts or "\\" in location:
        raise PrepareError(
            f"the ONNX file keeps weights in '{location}', which is outside its folder: save it "
            "again with its weights in the same folder"
        )
    return str(PurePosixPath(location))


class _Span(NamedTuple):
    """A part of the file, in bytes from its start."""

    start: int
    end: int


def _locations(data: mmap.mmap, message: str, span: _Span) -> Iterator[str]:
    fields = list(_fields(data, span))
    if message == "tensor" and _IS_EXTERNAL not in fields:
        return
    for number, value in fields:
        inner = _FIELDS[message].get(number)
        if inner is None or not isinstance(value, _Span):
            continue
        if inner != "entry":
            yield from _locations(data, inner, value)
            continue
        texts = {n: data[v.start : v.end] for n, v in _fields(data, value) if isinstance(v, _Span)}
        if texts.get(1) == b"location":
            yield texts.get(2, b"").decode()


def _fields(data: mmap.mmap, span: _Span) -> Iterator[tuple[int, _Span | int]]:
    """Number and value of each field of a message: the place of its bytes, or a number.

    Raises:
        ValueError: this is no protobuf message.
    """
    at = span.start
    while at < span.end:
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in _SIZES:
            size = _SIZES[kind]
        else:
            raise ValueError(f"byte {at} starts no field")
        if at + size > span.end:
            raise ValueError(f"a field at byte {at} ends after its message")
        yield key >> 3, _Span(at, at + size)
        at += size


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    """A number in base 128, and the place after it."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError(f"a number at byte {at} is too long")
