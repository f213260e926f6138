"""The TensorRT adapter: its answers where there is no driver, no device, no package, or all."""

from __future__ import annotations

import ctypes
import sys
import types
from pathlib import Path
from typing import Any

import pytest

import qbench_tensorrt
from qbench.backend import (
    Artifact,
    Model,
    PrepareTarget,
    Provenance,
    RunConfig,
    Unavailable,
    Unsupported,
)
from qbench.testing import AdapterConformance
from qbench_tensorrt import NOT_YET, Backend


class TestConformance(AdapterConformance):
    target = "qbench_tensorrt:Backend"


class Function:
    """A function of the driver: an object that takes ``argtypes``, as ctypes makes them."""

    def __init__(self, status: int, devices: int | None = None) -> None:
        self.status, self.devices = status, devices

    def __call__(self, argument: Any) -> int:
        if self.devices is not None:
            argument._obj.value = self.devices
        return self.status


def driver(monkeypatch: pytest.MonkeyPatch, init: int = 0, devices: int = 1) -> None:
    library = types.SimpleNamespace(cuInit=Function(init), cuDeviceGetCount=Function(0, devices))
    monkeypatch.setattr(qbench_tensorrt.ctypes, "CDLL", lambda name: library)


def package(monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> None:
    def load(name: str) -> types.ModuleType:
        assert name == "tensorrt"
        if error:
            raise error
        return types.ModuleType(name)

    monkeypatch.setattr(qbench_tensorrt.importlib, "import_module", load)


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> ctypes.CDLL:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(qbench_tensorrt.ctypes, "CDLL", missing)
    answer = Backend().probe()
    assert "no NVIDIA driver" in answer.reason
    assert "NVIDIA GPU" in answer.fix


@pytest.mark.parametrize(("init", "devices"), [(100, 0), (0, 0)])
def test_no_device(monkeypatch: pytest.MonkeyPatch, init: int, devices: int) -> None:
    driver(monkeypatch, init, devices)
    answer = Backend().probe()
    assert answer.reason == "no CUDA device"
    assert "CUDA_VISIBLE_DEVICES" in answer.fix


def test_a_driver_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    driver(monkeypatch, init=803)
    answer = Backend().probe()
    assert "803" in answer.reason
    assert "nvidia-smi" in answer.fix


def test_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    driver(monkeypatch)
    package(monkeypatch, ModuleNotFoundError("No module named 'tensorrt'", name="tensorrt"))
    assert Backend().probe() == Unavailable(
        "the tensorrt package is not installed", "pip install 'qbench[tensorrt]'"
    )


@pytest.mark.parametrize(
    "error",
    [
        ModuleNotFoundError("No module named 'tensorrt_bindings'", name="tensorrt_bindings"),
        ImportError("libnvinfer.so.11: cannot open shared object file"),
        RuntimeError("download failed\nlong story"),
    ],
)
def test_a_package_that_does_not_load(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    driver(monkeypatch)
    package(monkeypatch, error)
    answer = Backend().probe()
    assert answer.reason == f"tensorrt does not load: {str(error).splitlines()[0]}"
    assert "qbench[tensorrt]" in answer.fix


def test_a_ready_machine_is_told_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    driver(monkeypatch)
    package(monkeypatch, None)
    answer = Backend().probe()
    assert isinstance(answer, Unavailable)
    assert answer.reason == NOT_YET


def test_probing_here_does_not_raise() -> None:
    answer = Backend().probe()
    assert answer.reason and answer.fix
    if sys.platform != "linux":
        assert "driver" in answer.reason


def test_nothing_can_be_run_yet(tmp_path: Path) -> None:
    backend = Backend()
    model = Model("net", "onnx", tmp_path, "0", "any", {}, {}, {}, {})
    target = PrepareTarget("fp32", device="cuda")
    assert backend.supports(model, target) == NOT_YET
    with pytest.raises(Unsupported, match="can't run models yet"):
        backend.import_runtime()
    with pytest.raises(Unsupported, match="can't run models yet"):
        backend.describe(tmp_path)
    with pytest.raises(Unsupported, match="can't run models yet"):
        backend.prepare(model, target, None, tmp_path)
    artifact = Artifact(tmp_path, model, target, Provenance("net.engine"))
    with pytest.raises(Unsupported, match="can't run models yet"):
        backend.open(artifact, RunConfig("cuda:0"))
