"""Names of TensorRT and CUDA: those that the adapter and the fakes use are in the real ones.

TensorRT's were read off the real bindings of both versions (``tests/files/tensorrt-api/read.py``);
CUDA's are looked up in the real cuda-bindings, which import without a driver.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fake_tensorrt
import pytest
from paths import ROOT

ADAPTER = ROOT / "backends" / "qbench_tensorrt"
FILES = sorted(ADAPTER.glob("*.py"))
FAKES = {version: fake_tensorrt.make(version) for version in fake_tensorrt.VERSIONS}
REAL = {version: fake_tensorrt.api(version) for version in fake_tensorrt.VERSIONS}


def chains(tree: ast.AST, root: str) -> Iterator[tuple[int, list[str]]]:
    """Line and names of every longest ``root.x.y`` in a file."""
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or id(node) in inner:
            continue
        names: list[str] = []
        value: ast.expr = node
        while isinstance(value, ast.Attribute):
            names.insert(0, value.attr)
            value = value.value
        if isinstance(value, ast.Name) and value.id == root:
            yield node.lineno, names


def unknown(version: str, names: list[str]) -> str | None:
    """The first of ``trt.<names>`` that the real bindings of a version lack."""
    api = REAL[version]
    if names[0].startswith("__"):  # Python's own
        return None
    if names[0] not in api["names"]:
        return names[0]
    members = api["classes"].get(names[0])
    if len(names) > 1 and (members is None or names[1] not in members):
        return ".".join(names[:2])
    return None


@pytest.mark.parametrize("version", REAL)
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_names_of_tensorrt_are_real(file: Path, version: str) -> None:
    tree = ast.parse(file.read_text())
    found = [names for _, names in chains(tree, "trt")]
    assert [wrong for names in found if (wrong := unknown(version, names))] == []


def test_a_name_that_is_none_is_found() -> None:
    assert unknown("10", ["BuilderFlag", "FP16"]) is None
    assert unknown("11", ["BuilderFlag", "FP16"]) == "BuilderFlag.FP16"
    assert unknown("11", ["IInt8Calibrator"]) == "IInt8Calibrator"
    tree = ast.parse("if 1 << trt.A.B.value: x = trt.C(trt.D)")
    assert sorted(names for _, names in chains(tree, "trt")) == [["A", "B", "value"], ["C"], ["D"]]


# Attributes by the variable that holds an object of TensorRT, as the adapter's modules name them.
OBJECTS = {
    "builder": ["Builder"],
    "build": ["IBuilderConfig"],
    "network": ["INetworkDefinition"],
    "parser": ["OnnxParser"],
    "error": ["ParserError", "ErrorCode"],
    "engine": ["ICudaEngine"],
    "context": ["IExecutionContext"],
    "tensor": ["ITensor"],
    "profile": ["IOptimizationProfile"],
    "cache": ["ITimingCache"],
}
USING = [ADAPTER / f"{name}.py" for name in ("build", "profile", "session", "activations")]


def held(tree: ast.AST) -> Iterator[tuple[str, str, int]]:
    """Every ``builder.x``, ``self.engine.x``: variable, attribute, number of arguments (-1: it is
    not called)."""
    calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute):
            continue
        owner = node.value
        name = owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "")
        if name in OBJECTS:
            call = calls.get(id(node))
            yield name, node.attr, -1 if call is None else len(call.args) + len(call.keywords)


@pytest.mark.parametrize("version", REAL)
@pytest.mark.parametrize("file", USING, ids=lambda file: file.stem)
def test_members_of_objects_are_real(file: Path, version: str) -> None:
    """What is asked of an engine or a builder exists in both versions, with as many arguments.
    What only one has must be asked for with hasattr."""
    source = file.read_text()
    for name, attribute, count in held(ast.parse(source)):
        if f'"{attribute}")' in source:  # hasattr
            continue
        classes = [REAL[version]["classes"][kind] for kind in OBJECTS[name]]
        members = [members[attribute] for members in classes if attribute in members]
        if not members and name in ("error", "tensor", "profile", "cache"):
            continue  # a name for things of other kinds too
        assert members, f"{file.name}: {name}.{attribute} is not in {version}"
        if count >= 0 and isinstance(members[0], list):
            assert any(takes(signature, count) for signature in members[0]), (name, attribute)


def takes(signature: str, count: int) -> bool:
    """Whether a pybind11 signature takes so many arguments beside self."""
    wanted = parameters(signature)
    least = sum("=" not in one for one in wanted)
    return least <= count <= len(wanted)


def parameters(signature: str) -> list[str]:
    """``f(self: A, b: list[int, C], d: int = 0) -> E``: ``["b: list[int, C]", "d: int = 0"]``."""
    inside = signature[signature.index("(") + 1 : signature.rindex(") ->")]
    parts = re.split(r", (?=\w+: )", inside)
    return [part for part in parts if not part.startswith("self")]


def test_reading_signatures() -> None:
    text = "f(self: A, b: tuple[int, C], d: D = <D.X: 0>) -> tuple[int]"
    assert parameters(text) == ["b: tuple[int, C]", "d: D = <D.X: 0>"]
    assert [takes(text, count) for count in range(4)] == [False, True, True, False]


# --------------------------------------------------------------------------- the fakes


@pytest.mark.parametrize("version", REAL)
def test_the_fake_offers_no_name_that_the_real_one_lacks(version: str) -> None:
    fake, real = FAKES[version], REAL[version]
    offered = {name for name in vars(fake) if not name.startswith("_")}
    assert offered <= set(real["names"])
    for kind in fake_tensorrt.CLASSES:
        members = {name for name in vars(getattr(fake, kind.__name__)) if not name.startswith("_")}
        assert members <= set(real["classes"][kind.__name__]), kind.__name__


def test_all_that_is_written_for_the_fake_is_in_one_version_at_least() -> None:
    for kind in fake_tensorrt.CLASSES:
        known = {name for real in REAL.values() for name in real["classes"][kind.__name__]}
        assert {name for name in vars(kind) if not name.startswith("_")} <= known, kind.__name__


@pytest.mark.parametrize("version", REAL)
@pytest.mark.parametrize("kind", fake_tensorrt.CLASSES, ids=lambda kind: kind.__name__)
def test_the_fakes_methods_take_what_the_real_ones_take(kind: Any, version: str) -> None:
    real = REAL[version]["classes"][kind.__name__]
    fake = getattr(FAKES[version], kind.__name__)
    for name, member in vars(fake).items():
        if name.startswith("_") or not inspect.isfunction(member):
            assert isinstance(member, property) is (real.get(name) == "property") or name[0] == "_"
            continue
        mine = list(inspect.signature(member).parameters)[1:]
        theirs = [[one.partition(":")[0] for one in parameters(text)] for text in real[name]]
        assert mine in theirs, f"{kind.__name__}.{name}"


@pytest.mark.parametrize("version", REAL)
def test_values_of_enumerations_are_the_real_ones(version: str) -> None:
    fake, real = FAKES[version], REAL[version]["classes"]
    for name in ("BuilderFlag", "DataType", "MemoryPoolType", "NetworkDefinitionCreationFlag"):
        values = {key: value for key, value in real[name].items() if isinstance(value, int)}
        members = getattr(fake, name).__members__
        assert {key: int(member) for key, member in members.items()} == values


def test_what_a_version_lacks_is_lacking() -> None:
    assert FAKES["10"].BuilderFlag.FP16.name == "FP16"
    with pytest.raises(AttributeError):
        _ = FAKES["11"].BuilderFlag.FP16
    assert hasattr(FAKES["10"].ICudaEngine, "device_memory_size")
    assert not hasattr(FAKES["11"].ICudaEngine, "device_memory_size")
    assert not hasattr(FAKES["11"].Builder, "platform_has_fast_fp16")


@pytest.mark.parametrize("version", REAL)
def test_no_attribute_can_be_made_up(version: str) -> None:
    trt: Any = FAKES[version]
    config = trt.Builder(trt.Logger()).create_builder_config()
    config.builder_optimization_level = 5
    with pytest.raises(AttributeError):
        config.builder_optimisation_level = 5


@pytest.mark.parametrize("version", REAL)
def test_a_logger_that_is_not_made_is_refused(version: str) -> None:
    trt: Any = FAKES[version]

    class Forgetful(trt.ILogger):
        def __init__(self) -> None: ...

    with pytest.raises(TypeError, match="must be called"):
        trt.Builder(Forgetful())


# --------------------------------------------------------------------------- CUDA


def real_cuda() -> Any:
    return pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed")


def cuda_names(file: Path) -> list[list[str]]:
    return [names for _, names in chains(ast.parse(file.read_text()), "runtime")]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_names_of_cuda_are_real(file: Path) -> None:
    runtime = real_cuda()
    for names in cuda_names(file):
        if re.match("cuda", names[0]):
            found = getattr(runtime, names[0], None)
            assert found is not None, names
            assert len(names) == 1 or hasattr(found, names[1]), names


def test_the_fake_of_cuda_offers_no_name_that_the_real_one_lacks() -> None:
    runtime, fake = real_cuda(), importlib.import_module("fake_cuda")
    offered = [name for name in vars(fake) if name.startswith("cuda")]
    assert offered
    assert [name for name in offered if not hasattr(runtime, name)] == []
