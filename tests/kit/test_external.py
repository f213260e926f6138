"""Where an ONNX file says that its weights are, read without the onnx package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qbench.kit.adapter import PrepareError
from qbench.kit.onnxfile.external import external_files

onnx = pytest.importorskip("onnx", reason="onnx is not installed")


def tensor(name: str, location: str | None):
    made = onnx.numpy_helper.from_array(np.ones((2, 2), np.float32), name)
    if location is not None:
        onnx.external_data_helper.set_external_data(made, location, offset=0, length=16)
        made.ClearField("raw_data")
    return made


def saved(path: Path, *locations: str | None) -> Path:
    """The first tensor is a weight, the second a Constant; the third is in a branch of an If, the
    fourth in a function, and the fifth is a sparse weight."""
    make = onnx.helper
    first, second, third, fourth, fifth = (
        tensor(f"t{i}", place) for i, place in enumerate(locations)
    )
    branch = make.make_graph(
        [make.make_node("Identity", ["t2"], ["b"])],
        "branch",
        [],
        [make.make_tensor_value_info("b", 1, [2, 2])],
        [third],
    )
    nodes = [
        make.make_node("Constant", [], ["t1"], value=second),
        make.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch),
    ]
    graph = make.make_graph(
        nodes,
        "g",
        [make.make_tensor_value_info("c", 9, [])],
        [make.make_tensor_value_info("y", 1, [2, 2])],
        [first],
    )
    graph.sparse_initializer.append(
        make.make_sparse_tensor(fifth, onnx.numpy_helper.from_array(np.arange(4), "at"), [4])
    )
    ids = [make.make_opsetid("", 17)]
    function = make.make_function(
        "own", "F", [], ["z"], [make.make_node("Constant", [], ["z"], value=fourth)], ids
    )
    model = make.make_model(graph, opset_imports=ids, functions=[function])
    path.write_bytes(model.SerializeToString())
    return path


def test_every_tensor_of_a_file_is_found(tmp_path: Path) -> None:
    places = ["a.bin", "b.bin", "./parts/c.bin", "d.bin", "a.bin"]
    found = external_files(saved(tmp_path / "m.onnx", *places))
    assert sorted(found) == ["a.bin", "b.bin", "d.bin", "parts/c.bin"]


def test_a_file_with_its_weights_names_none(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.onnx", *[None] * 5)
    assert external_files(path) == []
    model = onnx.load(path)
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], "left-over.bin")
    model.graph.initializer[0].data_location = onnx.TensorProto.DEFAULT
    path.write_bytes(model.SerializeToString())
    assert external_files(path) == []  # an entry of a tensor that holds its content


@pytest.mark.parametrize("place", ["../a.bin", "/etc/passwd", "a/../../b", "C:\\a", "..\\a", ""])
def test_weights_outside_the_folder_are_refused(place: str, tmp_path: Path) -> None:
    with pytest.raises(PrepareError, match="outside its folder"):
        external_files(saved(tmp_path / "m.onnx", None, None, place, None, None))


@pytest.mark.parametrize("content", [b"", b"no model, but some text", b"\xff" * 40])
def test_what_is_no_onnx_file_is_told_so(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(PrepareError, match="not a valid ONNX file"):
        external_files(path)


def test_a_truncated_file_is_told_so(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.onnx", *["a.bin"] * 5)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(PrepareError, match="truncated"):
        external_files(path)


def test_graphs_in_graphs_without_end_are_no_crash(tmp_path: Path) -> None:
    inner = b""
    for _ in range(5000):  # a graph in an attribute of a node of a graph
        for key in (0x32, 0x2A, 0x0A):
            size, length = len(inner), b""
            while size > 127:
                length += bytes([size & 127 | 128])
                size >>= 7
            inner = bytes([key]) + length + bytes([size]) + inner
    path = tmp_path / "m.onnx"
    size, length = len(inner), b""
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    path.write_bytes(b"\x3a" + length + bytes([size]) + inner)
    with pytest.raises(PrepareError, match="recursion"):
        external_files(path)
