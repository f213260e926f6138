"""Read an ONNX file, a protobuf message, without the onnx package. Standard library only.

Field numbers are those of onnx/onnx.proto.
"""

from __future__ import annotations

import mmap
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from qbench.kit.adapter import PrepareError


class Span(NamedTuple):
    """A part of the file, in bytes from its start."""

    start: int
    end: int


Message = tuple[mmap.mmap, Span]
"""The file and the place of a message in it."""


@contextmanager
def opened(path: Path) -> Generator[Message, None, None]:
    """The message of the whole file ``path``.

    Raises:
        PrepareError: the file cannot be read, or turns out to be no such message.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data, Span(0, len(data))
    except (IndexError, RecursionError, UnicodeDecodeError, ValueError) as error:
        raise PrepareError(f"not a valid ONNX file: {error} (truncated or not ONNX)") from error
    except OSError as error:
        raise PrepareError(f"the ONNX file cannot be read: {error}") from error


def fields(data: mmap.mmap, span: Span) -> Iterator[tuple[int, Span | int]]:
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
        yield key >> 3, Span(at, at + size)
        at += size


_SIZES = {1: 8, 5: 4}
"""Bytes of values by wire type: 64 and 32 bits."""


def has_sparse_weights(path: Path) -> bool:
    """Whether the graph of the ONNX file ``path`` has sparse initializers.

    Raises:
        PrepareError: as ``opened``.
    """
    with opened(path) as (data, span):
        graphs = [value for number, value in fields(data, span) if number == 7]
        return any(
            number == 15
            for graph in graphs
            if isinstance(graph, Span)
            for number, _ in fields(data, graph)
        )


def texts(data: mmap.mmap, span: Span, *numbers: int) -> list[str]:
    """The texts of a message's fields ``numbers``, in order.

    Raises:
        ValueError: as ``fields``.
    """
    return [
        data[value.start : value.end].decode()
        for number, value in fields(data, span)
        if number in numbers and isinstance(value, Span)
    ]


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
