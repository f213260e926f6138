"""Adapters that are faulty are unavailable, with a reason; nothing else is harmed."""

from __future__ import annotations

import pytest

from qbench.kit.adapter import Unavailable
from qbench.run.workers.registry import Registry

GOOD = """
from qbench.testing.fake import FakeBackend
class Backend(FakeBackend):
    name = "odd"
"""

FAULTS = {
    "class Backend:\n    pass": "plugin contract",
    GOOD + "    api_version = 99": "version 99",
    GOOD.replace('"odd"', '"other"'): "calls itself 'other', but is installed as 'odd'",
    GOOD + "    formats = None": "formats",
    GOOD + "    formats = 'onnx'": "formats",
    GOOD + "    prepare_packages = (3,)": "prepare_packages",
    GOOD + "    prepare_version = '1'": "prepare_version",
    "from qbench.kit.adapter import Adapter\nclass Backend(Adapter): pass": "abstract",
    GOOD + "    @property\n    def formats(self): raise OSError('planted')": "planted",
    GOOD + "    def __init__(self, argument): pass": "argument",
    "import sys; sys.exit(3)": "exit code 3",
    "x = 1": "Backend",
    "syntax error": "invalid syntax (odd.py, line 1)",
}

PROBES = {
    "None": "probe",
    "{'ready': True}": "probe",
    "Ready(1, {'cpu': ('fp32',)})": "version is 1",
    "Ready('1', None)": "precisions is None",
    "Ready('1', {'cpu': 'fp32'})": "'fp32'",
    "Ready('1', {'cpu': [['fp32']]})": "[['fp32']]",
    "Ready('1', {'cpu': ('fp32',)}, {'cpu': 'nothing'})": "'nothing'",
    "Ready('1', {'cpu': ('fp32',)}, emulated={'cpu': 'fp32'})": "emulated precisions of cpu",
    "Unavailable(None, 'x')": "reason is None",
    "Odd(1)": "probe",
    "OddReady('1', {'cpu': ('fp32',)})": "more",
    "time.sleep('x')": "odd.py, line",
    "os._exit(3)": "exit code 3",
}


@pytest.fixture
def odd(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """Makes a registry with a good adapter and ``odd:Backend``, from its source text."""

    def make(text: str) -> Registry:
        (tmp_path / "odd.py").write_text(text)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(__import__("sys").modules, "odd", raising=False)
        return Registry({"odd": "odd:Backend", "fake": "qbench.testing:FakeBackend"})

    return make


@pytest.mark.parametrize("text", FAULTS)
def test_a_faulty_adapter_is_unavailable_with_its_reason(odd, text: str):
    registry = odd(text)
    answer = registry.load("odd")
    assert isinstance(answer, Unavailable)
    assert FAULTS[text] in answer.reason
    assert "odd:Backend" in answer.reason
    assert answer.fix
    assert not isinstance(registry.load("fake"), Unavailable)


@pytest.mark.parametrize("answer", PROBES)
def test_nonsense_from_a_probe_is_unavailable_with_its_reason(odd, answer: str):
    registry = odd(f"""
import os, time
from dataclasses import dataclass
from qbench.kit.adapter import Ready, Unavailable
from qbench.testing.fake import FakeBackend
@dataclass(frozen=True)
class Odd:
    other: int
@dataclass(frozen=True)
class OddReady(Ready):
    more: int = 3
class Backend(FakeBackend):
    name = "odd"
    def probe(self):
        return {answer}
""")
    found = registry.probe(["odd"])["odd"]
    assert isinstance(found, Unavailable)
    assert PROBES[answer] in found.reason
    assert found.fix


def test_a_good_adapter_is_loaded_and_probed(odd):
    registry = odd(GOOD)
    probes = registry.probe()
    assert list(probes) == ["fake", "odd"]
    assert probes["odd"] == probes["fake"]
    assert probes["odd"].precisions["cpu"][0] == "fp32"


def test_a_faulty_adapter_harms_no_command(project):
    project.adapter("odd", "class Backend:\n    pass\n")
    done = project.qbench("backends")
    assert done.returncode == 0, done.stderr
    assert "contract" in done.stdout
    assert project.run_json(project.suite())["counts"] == {"ok": 2}
    assert project.qbench("plan", project.suite()).returncode == 0
