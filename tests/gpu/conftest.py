"""Tests that need an NVIDIA GPU: `make gpu`, or `pytest tests/gpu -m gpu`.

Where there is none, or no runtime for it, each is skipped with the reason that the probe gives.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpu.running import DEVICE, Run, qbench
from qbench.bundle.bundle import Bundle
from qbench.kit import cuda
from qbench.kit.adapter import Ready
from qbench.run.workers.registry import Registry


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run tests that compute on the GPU in pytest's own process last: CUDA stays active in it until
    it ends, and any later run would be refused or marked because the card is busy."""
    items.sort(key=lambda item: item.path.name == "test_onnxruntime_cuda.py")


@pytest.fixture(scope="session")
def gpu() -> cuda.Device:
    """The first GPU, by the driver alone."""
    try:
        return cuda.devices()[0]
    except cuda.NoCuda as error:
        pytest.skip(f"{error.reason}. {error.fix}")


@pytest.fixture(scope="session")
def nvml(gpu: cuda.Device) -> Iterator[tuple[Any, Any]]:
    """pynvml, and its handle of the first GPU."""
    pynvml = pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(gpu.uuid)
    except pynvml.NVMLError as error:
        pytest.skip(f"NVML: {error}")
    yield pynvml, handle
    pynvml.nvmlShutdown()


def offered(backend: str) -> Ready:
    """The backend's probe, if it runs on the GPU; else skip the test."""
    answer = Registry().probe([backend])[backend]
    if not isinstance(answer, Ready):
        pytest.skip(f"{backend}: {answer.reason}")
    if DEVICE not in answer.precisions:
        reasons = sorted(set(answer.missing.get(DEVICE, {}).values()))
        pytest.skip(f"{backend}: {'; '.join(reasons) or f'does not offer {DEVICE}'}")
    return answer


@pytest.fixture(params=["onnxruntime", "tensorrt"])
def backend(request: pytest.FixtureRequest, gpu: cuda.Device) -> str:
    """Each backend that runs on the GPU."""
    offered(request.param)
    return request.param


@pytest.fixture
def tensorrt(gpu: cuda.Device) -> Ready:
    return offered("tensorrt")


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Run]:
    """Run a suite on the GPU: ``run(models=[...], backends=[...], ...)``."""

    def measure(**content: Any) -> Run:
        suite: Mapping[str, Any] = {
            "name": "onegpu",
            "precisions": ["fp32"],
            "devices": [DEVICE],
            "rounds": 1,
            "warmup_s": 0.5,
            "timed_s": 1.0,
            "roofline": False,
            **content,
        }
        path = tmp_path / "onegpu.yaml"
        path.write_text(yaml.safe_dump(dict(suite)))
        qbench("run", path, "--json", "--no-report", folder=tmp_path)
        shown = json.loads(qbench("show", "latest", "--json", folder=tmp_path))
        (folder,) = (tmp_path / "results").glob("*-onegpu-*")
        return Run(Bundle(folder), shown["cases"], Path(os.environ["QBENCH_CACHE"]))

    return measure
