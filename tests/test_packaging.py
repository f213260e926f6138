"""The wheel's contents, its imports, and registered adapters."""

from __future__ import annotations

import ast
import importlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import tomllib
from paths import ROOT

PLUGINS = sorted(p.name for p in (ROOT / "backends").glob("qbench_*") if p.is_dir())
CONVERTERS = ["qbench_tensorflow", "qbench_torch"]
ADAPTERS = sorted(set(PLUGINS) - set(CONVERTERS))
every_plugin = pytest.mark.parametrize("plugin", PLUGINS)

RUNTIMES = {
    "onnxruntime", "onnx", "openvino", "nncf", "tensorrt", "cuda", "ai_edge_litert",
    "ai_edge_quantizer", "tensorflow", "torch", "jax",
}  # fmt: skip


@pytest.fixture(scope="module")
def project_file() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


# --------------------------------------------------------------------------- registration


def test_the_four_adapters_are_here():
    assert {f"qbench_{n}" for n in ("onnxruntime", "openvino", "tensorrt", "tflite")} <= set(
        ADAPTERS
    )


@every_plugin
def test_a_plugin_is_packaged_registered_and_has_its_extra(project_file: dict, plugin: str):
    name = plugin.removeprefix("qbench_")
    group, kind = ("backends", "Backend") if plugin in ADAPTERS else ("converters", "Converter")
    wheel = project_file["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert f"backends/{plugin}" in wheel["packages"]
    points = project_file["project"]["entry-points"][f"qbench.{group}"]
    assert points[name] == f"{plugin}:{kind}"
    assert project_file["project"]["optional-dependencies"][name]
    made = getattr(importlib.import_module(plugin), kind)()
    assert made.name == name


def test_nothing_is_registered_that_is_not_here(project_file: dict):
    wheel = project_file["tool"]["hatch"]["build"]["targets"]["wheel"]
    packages = {p for p in wheel["packages"] if p.startswith("backends/")}
    assert packages == {f"backends/{plugin}" for plugin in PLUGINS}
    groups = project_file["project"]["entry-points"]
    assert {f"qbench_{name}" for name in groups["qbench.backends"]} == set(ADAPTERS)
    assert {f"qbench_{name}" for name in groups["qbench.converters"]} == set(CONVERTERS)


# --------------------------------------------------------------------------- the wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names in a wheel that is built from a copy of what git would ship."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in ("qbench", "backends", "suites", "tests"):
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=source,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("qbench-*.whl")
    with zipfile.ZipFile(path) as archive:
        return set(archive.namelist())


def shipped(folder: str, pattern: str) -> set[str]:
    """Files of the checkout below ``folder``, relative to it."""
    base = ROOT / folder
    return {str(p.relative_to(base)) for p in base.rglob(pattern) if "__pycache__" not in p.parts}


def test_the_wheel_holds_all_that_runs(wheel: set[str]):
    for folder in ("qbench", *(f"backends/{plugin}" for plugin in PLUGINS)):
        package = Path(folder).name
        wanted = {f"{package}/{name}" for name in shipped(folder, "*.py")}
        assert wanted and wanted <= wheel
    for pattern in ("*.j2", "*.css", "*.js"):
        found = shipped("qbench/present/assets", pattern)
        assert found and {f"qbench/present/assets/{name}" for name in found} <= wheel


def test_the_wheel_holds_the_suites_cards_models_and_templates(wheel: set[str]):
    assert {
        "qbench/suites/quick.yaml",
        "qbench/suites/templates/suite.yaml",
        "qbench/suites/models/digits_cnn.yaml",
        "qbench/suites/datasets/digits.yaml",
        "qbench/suites/zoo/digits.npz",
        "qbench/suites/zoo/digits_cnn.onnx",
        "qbench/suites/zoo/digits_cnn.tflite",
    } <= wheel
    for pattern in ("*.yaml", "*.onnx", "*.tflite", "*.npz"):
        assert {f"qbench/suites/{name}" for name in shipped("suites", pattern)} <= wheel


def test_the_wheel_holds_nothing_else(wheel: set[str]):
    tops = {name.partition("/")[0] for name in wheel}
    (info,) = {top for top in tops if top.endswith(".dist-info")}
    assert tops - {info} == {"qbench", *PLUGINS}
    for name in wheel:
        parts = Path(name).parts
        assert "tests" not in parts and "__pycache__" not in parts
        assert not Path(name).name.startswith(("test_", "."))
    assert f"{info}/entry_points.txt" in wheel
    assert {f"{info}/licenses/LICENSE", f"{info}/licenses/suites/zoo/LICENSE-digits"} <= wheel


# --------------------------------------------------------------------------- imports


def imported_by(module: str) -> set[str]:
    """Top packages outside the standard library that are loaded once ``module`` is."""
    code = (
        f"import sys; import {module};"
        "tops = {m.partition('.')[0] for m in sys.modules};"
        "print(*sorted(tops - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd="/"
    )
    assert done.returncode == 0, done.stderr
    site = subprocess.run(
        [sys.executable, "-c", code.replace(f"import {module};", "")],
        capture_output=True,
        text=True,
        timeout=60,
        cwd="/",
    )
    return set(done.stdout.split()) - set(site.stdout.split())


def test_the_command_line_starts_without_what_is_heavy():
    found = imported_by("qbench.cli")
    heavy = {"numpy", "pandas", "pydantic", "scipy", "pyarrow", "plotly", "jinja2", "PIL", "rich"}
    assert not found & (heavy | RUNTIMES)
    assert "typer" in found


@every_plugin
def test_a_plugin_is_imported_without_its_runtime(plugin: str):
    assert imported_by(plugin) <= {"qbench", "numpy", plugin}


def test_the_plugins_are_python_3_10():
    """They are copied to other interpreters with the worker kit (test_kit_alone.py)."""
    for path in (ROOT / "backends").rglob("*.py"):
        tree = ast.parse(path.read_text(), feature_version=(3, 10))
        assert not any(isinstance(node, ast.TryStar) for node in ast.walk(tree)), path


@pytest.mark.parametrize("name", ["models", "datasets"])
def test_the_suites_are_found_in_a_checkout(name: str):
    from qbench.spec.suite import suites_dir

    assert list((suites_dir() / name).glob("*.yaml"))
