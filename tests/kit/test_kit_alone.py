"""The worker kit and the machine's modules alone, on the oldest Python that they support with NumPy
and nothing else: environments are given the kit, and boards will be given both."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT

from qbench.run.workers.environments import KIT, LEAST_PYTHON

QBENCH = ROOT / "qbench"
LEFT_OUT = "machine/lock.py"
"""The one module of the machine that runs in the parent only."""

IMPORT_ALL = """
import ast, importlib, json, pathlib, sys, traceback
root = pathlib.Path(sys.argv[1])
sys.path.insert(0, str(root))
failures, modules = {}, []
for path in sorted(root.rglob("*.py")):
    name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
    modules.append(name)
    try:
        importlib.import_module(name)
    except Exception as error:
        files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
        own = pathlib.Path([file for file in files if file.startswith(str(root))][-1])
        words = [ast.get_docstring(ast.parse(file.read_text())) or ""
                 for file in (own, own.with_name("__init__.py"))]
        missing = getattr(error, "name", None)
        stated = isinstance(error, ModuleNotFoundError) and any(
            f"Needs {missing}" in text for text in words)
        if not stated:
            failures[name] = repr(error)
print(json.dumps({"modules": modules, "failures": failures}))
"""
"""Imports every module below a folder. A module that needs a package other than NumPy says so in
its docstring, or in its package's: "Needs onnx"."""

ADAPTER = """
from qbench.kit.adapter import Ready

class Backend:
    def probe(self):
        return Ready("1.0", {"cpu": ("fp32",)})
"""
MACHINE_CALLS = """
import json, sys
sys.path.insert(0, sys.argv[1])
from qbench.machine.doctor import examine
from qbench.machine.energy.sensors import find_sensors
from qbench.machine.host import fingerprint
found = find_sensors()
print(json.dumps({
    "python": fingerprint()["python"],
    "checks": [finding.check for finding in examine(watch_s=0.1)],
    "sensors": len(found.sensors) + len(found.refused),
}))
"""


@pytest.fixture(scope="module")
def oldest() -> str:
    """The interpreter: .ci/run makes it and sets QBENCH_PYTHON310."""
    python = os.environ.get("QBENCH_PYTHON310")
    if not python:
        pytest.skip("QBENCH_PYTHON310 names no Python 3.10 that has NumPy and nothing else")
    code = "import sys, numpy; print(*sys.version_info[:2])"
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert tuple(map(int, done.stdout.split())) == LEAST_PYTHON
    return python


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nothing but the kit, the machine's modules and an adapter."""
    root = tmp_path_factory.mktemp("alone")
    for name in (*KIT, "machine"):
        source, target = QBENCH / name, root / "qbench" / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(source, target)
    (root / "qbench" / LEFT_OUT).unlink()
    (root / "adapter.py").write_text(ADAPTER)
    return root


def answer(python: str, folder: Path, code: str, text: str = "") -> Any:
    """The last line that ``code`` prints, as JSON."""
    done = subprocess.run(
        [python, "-I", "-c", code, str(folder)],
        input=text,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_every_module_is_imported(oldest: str, alone: Path):
    result = answer(oldest, alone, IMPORT_ALL)
    assert result["failures"] == {}
    assert len(result["modules"]) == len(list(alone.rglob("*.py"))) > 60


def test_a_worker_answers_a_probe(oldest: str, alone: Path):
    boot = "import sys; sys.path.insert(0, sys.argv[1])\nfrom qbench.kit.main import main\nmain()"
    request = json.dumps({"job": "probe", "backend": "adapter:Backend"})
    # stdin stays open until the answer is there: a worker whose parent has gone ends itself
    worker = subprocess.Popen(
        [oldest, "-I", "-c", boot, str(alone)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert worker.stdin and worker.stdout
    worker.stdin.write(request + "\n")
    worker.stdin.flush()
    done = json.loads(worker.stdout.read().splitlines()[-1])
    worker.communicate(timeout=60)
    assert done["event"] == "done", done
    assert done["result"]["ready"] and done["result"]["precisions"] == {"cpu": ["fp32"]}


def test_the_machine_is_examined(oldest: str, alone: Path):
    result = answer(oldest, alone, MACHINE_CALLS)
    assert result["python"].startswith("3.10.")
    assert {"other work", "clock", "energy sensors", "GPU"} <= set(result["checks"])
