"""The wheel's contents, imports and entry points, and the commands that install packages."""

from __future__ import annotations

import ast
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomllib
from packaging.requirements import Requirement
from paths import ROOT

from qbench.kit import converter
from qbench.kit.adapter import Unavailable
from qbench.spec.scenarios import SCENARIOS

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
def wheel_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that ``make wheel`` builds in a copy of the files that git would ship."""
    for module in ("hatchling", "pip"):
        pytest.importorskip(module)
    if shutil.which("make") is None:
        pytest.skip("needs make")
    source = tmp_path_factory.mktemp("source")
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in ("qbench", "backends", "suites", "tests"):
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE", "Makefile"):
        shutil.copy(ROOT / name, source / name)
    run(
        "make wheel",
        source,
        PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        PIP_NO_BUILD_ISOLATION="0",  # the inverted switch: hatchling of this environment builds
    )
    (path,) = (source / "dist").glob("*.whl")
    return path


@pytest.fixture(scope="module")
def wheel(wheel_file: Path) -> set[str]:
    """Names in the wheel."""
    with zipfile.ZipFile(wheel_file) as archive:
        return set(archive.namelist())


def run(command: str, folder: Path, **environment: str) -> str:
    """Standard output of a shell command, which has to succeed."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env={**os.environ, "PIP_CONFIG_FILE": os.devnull, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


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


# --------------------------------------------------------------------------- installation
# Another vendor's product is called qbench on the package index, so nothing may tell people to
# install that. Whatever messages, pages and recipes install is installed here from a local index.

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
RECIPES = ROOT / "docs" / "recipes"
WORD = r"(?:'[^']+'|\"[^\"]+\"|[\w.<>=*,~/-]*[\w*](?:\[[\w,-]+\])?(?:[=<>~]=[\w.*]+)?)"
COMMAND = re.compile(rf"pip install(?: {WORD}(?=[ .,:;)`\n]|$))+")
FURTHER = {
    "onnxruntime-gpu", "nvidia-cuda-runtime", "nvidia-cuda-runtime-cu12",
    *(f"tensorrt-cu{major}" for major in (12, 13)),
}  # fmt: skip
"""Distributions for GPUs, which no extra of qbench installs since they depend on the driver."""


def requirements(project_file: dict) -> Iterator[Requirement]:
    """Everything that qbench and its extras require."""
    project = project_file["project"]
    for listed in (project["dependencies"], *project["optional-dependencies"].values()):
        yield from map(Requirement, listed)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, project_file: dict) -> Path:
    """A folder of empty wheels, one for each distribution that a command may name."""
    folder = tmp_path_factory.mktemp("index")
    names = {requirement.name for requirement in requirements(project_file)} | FURTHER
    for name in names - {"qbench-inference"}:
        for version in ("12.999", "13.999", "9999"):
            empty_wheel(folder, name, version)
    return folder


def empty_wheel(folder: Path, name: str, version: str) -> None:
    stem = f"{re.sub('[-_.]+', '_', name)}-{version}"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{stem}.dist-info/METADATA", metadata)
        tags = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr(f"{stem}.dist-info/WHEEL", tags)
        archive.writestr(f"{stem}.dist-info/RECORD", "")


def messages() -> Iterator[str]:
    """Text of every string of the program, with 13 for every value that is filled in."""
    for folder in ("qbench", "backends"):
        for path in (ROOT / folder).rglob("*.py"):
            nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
            filled = [node.values for node in nodes if isinstance(node, ast.JoinedStr)]
            for parts in filled:
                yield "".join(str(p.value) if isinstance(p, ast.Constant) else "13" for p in parts)
            inner = {part for parts in filled for part in parts}
            for node in nodes:
                if isinstance(node, ast.Constant) and node not in inner:
                    yield str(node.value)


def commands() -> set[str]:
    """``pip install …`` of packages from the index, as messages and pages write it."""
    texts = [*messages(), *(page.read_text(encoding="utf-8") for page in PAGES)]
    found = {match[0] for text in texts for match in COMMAND.finditer(" ".join(text.split("\n  ")))}
    return {
        command for command in found if not re.search(r"\s(13|-e|-r|-c|--no-index)\b|/", command)
    }


def test_every_command_that_installs_packages_works(index: Path, tmp_path: Path):
    pytest.importorskip("pip")
    found = commands()
    assert {"pip install openvino nncf", "pip install duckdb ruptures"} <= found
    words = {word for command in found for word in shlex.split(command)[2:]}
    options = {word for word in words if word.startswith("-")}
    assert options <= {"--upgrade", "--force-reinstall"}
    batches: list[dict[str, str]] = [{}, {}, {}]  # a distribution in two versions needs two
    for word in sorted(words - options):
        name = Requirement(word).name
        next(batch for batch in batches if name not in batch)[name] = word
    for batch in filter(None, batches):
        wanted = shlex.join(batch.values())
        pip = f"{sys.executable} -m pip install --dry-run --target {tmp_path} {wanted}"
        run(pip, tmp_path, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(index))


def test_nothing_installs_the_qbench_of_the_index():
    texts = [*messages(), *(path.read_text(encoding="utf-8") for path in PAGES)]
    texts += [path.read_text() for path in RECIPES.iterdir()]
    for text in texts:
        found = re.search(r"pip install[^\n`&;|]* ['\"]?qbench(?!_inference|-inference)\b", text)
        found = found or re.search(r"^qbench\[", text, re.M)
        assert not found, found and found[0]


def test_a_message_names_all_packages_that_a_converter_or_scenario_needs(
    project_file: dict, monkeypatch: pytest.MonkeyPatch
):
    known = {requirement.name for requirement in requirements(project_file)}
    monkeypatch.setattr(converter, "find_spec", lambda name: None)
    for name in CONVERTERS:
        convert = importlib.import_module(name).Converter()
        for source, forms in convert.routes.items():
            for form in forms:
                answer = convert.probe(source, form)
                assert isinstance(answer, Unavailable)
                assert answer.fix.startswith("pip install ")
                assert set(answer.fix.split()[2:]) <= known
    assert {s.package for s in SCENARIOS.values()} - {None} <= known


def test_recipes_install_the_command(wheel_file: Path, index: Path, tmp_path: Path):
    texts = [path.read_text() for path in (*RECIPES.iterdir(), ROOT / "docs" / "nightly.md")]
    wanted = {
        args for text in texts for args in re.findall(r"pip\"? install (.*whl.*|.*-r .*)", text)
    }
    assert len(wanted) == 3
    for path in (wheel_file, RECIPES / "requirements.txt"):
        shutil.copy(path, tmp_path)
    run("python3 -m venv venv", tmp_path)
    local = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index)}
    for args in sorted(wanted):
        run(f"venv/bin/pip install {args}", tmp_path, **local)
    installed = run("venv/bin/pip list --format=freeze", tmp_path, **local).split()
    (version,) = (line for line in installed if line.startswith("qbench-inference=="))
    version = version.partition("==")[2]
    assert wheel_file.name.startswith(f"qbench_inference-{version}-")
    assert "duckdb==9999" in installed, "the extras are installed, too"
    libraries = os.pathsep.join(path for path in sys.path if path.endswith("-packages"))
    assert version in run("venv/bin/qbench --version", tmp_path, PYTHONPATH=libraries)


def test_a_recipe_names_the_wheel_of_this_version(project_file: dict):
    project = project_file["project"]
    name = f"qbench_inference-{project['version']}-py3-none-any.whl"
    for recipe_name in ("requirements.txt", "pages.yml"):
        (extras,) = re.findall(
            rf"\./{re.escape(name)}\[([\w,]+)\]", (RECIPES / recipe_name).read_text()
        )
        assert set(extras.split(",")) <= set(project["optional-dependencies"])


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
