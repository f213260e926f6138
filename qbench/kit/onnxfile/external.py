"""Files with the weights of an ONNX file, read from the file itself. Standard library only, so that
the parent process and adapters without the onnx package can ask.

A tensor of an ONNX file may name a file and leave its content there (``external_data``). Only the
fields that lead to tensors are read.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from qbench.kit.adapter import PrepareError
from qbench.kit.onnxfile.wire import Span, fields, opened, texts

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
_KEY, _VALUE = 1, 2


def external_files(path: Path) -> list[str]:
    """Names of the files that hold weights of the ONNX file ``path``, relative to its folder and in
    the order of first mention.

    Raises:
        PrepareError: it is no ONNX file, is truncated, or keeps weights outside its folder.
    """
    with opened(path) as (data, span):
        return list(dict.fromkeys(map(inside, _locations(data, span, "model"))))


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


def _locations(data: mmap.mmap, span: Span, message: str) -> Iterator[str]:
    found = list(fields(data, span))
    if message == "tensor" and _IS_EXTERNAL not in found:
        return
    for number, value in found:
        inner = _FIELDS[message].get(number)
        if inner is None or not isinstance(value, Span):
            continue
        if inner != "entry":
            yield from _locations(data, value, inner)
        elif texts(data, value, _KEY) == ["location"]:
            yield from texts(data, value, _VALUE)
