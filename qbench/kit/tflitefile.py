"""Signatures of a TFLite file, read without a runtime. Standard library only."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

_SIGNATURES = 7
"""Field of a model (``schema.fbs``): its SignatureDefs."""
_KEY, _SUBGRAPH = 2, 4
"""Fields of a SignatureDef."""


def several_signatures(path: Path) -> list[str]:
    """Keys of the signatures of the file ``path``, if they name more than one subgraph, so that
    one must be chosen; else none. Empty for what is no TFLite file."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if data[4:8] != b"TFL3":
                return []
            found = list(_signatures(data))
    except (OSError, ValueError, struct.error):  # ValueError: empty, or text that is not UTF-8
        return []
    return sorted(key for key, _ in found) if len({graph for _, graph in found}) > 1 else []


def _signatures(data: mmap.mmap) -> Iterator[tuple[str, int]]:
    """Key and subgraph of each signature."""
    place = _field(data, _number(data, 0), _SIGNATURES)
    if place is None:
        return
    vector = place + _number(data, place)
    for index in range(_number(data, vector)):
        entry = vector + 4 + 4 * index
        table = entry + _number(data, entry)
        graph, key = _field(data, table, _SUBGRAPH), _field(data, table, _KEY)
        text = "" if key is None else _text(data, key + _number(data, key))
        yield text, 0 if graph is None else _number(data, graph)


def _field(data: mmap.mmap, table: int, number: int) -> int | None:
    """Place of a table's field; None: it has its default."""
    (back,) = struct.unpack_from("<i", data, table)
    size, *_ = struct.unpack_from("<H", data, table - back)
    if 4 + 2 * number >= size:
        return None
    (offset,) = struct.unpack_from("<H", data, table - back + 4 + 2 * number)
    return table + offset if offset else None


def _number(data: mmap.mmap, place: int) -> int:
    (value,) = struct.unpack_from("<I", data, place)
    return value


def _text(data: mmap.mmap, place: int) -> str:
    return data[place + 4 : place + 4 + _number(data, place)].decode()
