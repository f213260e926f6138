"""The conformance kit passes on the backends that are made to pass it."""

from __future__ import annotations

from pathlib import Path

from qbench.kit.model import Model
from qbench.testing.conformance import AdapterConformance
from qbench.testing.fake import fake_model


class TestFakeBackend(AdapterConformance):
    target = "qbench.testing:FakeBackend"

    def model(self, folder: Path) -> Model:
        path = folder / "net.fake"
        if path.exists():
            return fake_model(folder / "again.fake")
        return fake_model(path)


class TestFakeOnItsGpu(TestFakeBackend):
    """Where artifacts are compiled, one for each batch."""

    target = "qbench.testing:FakeGpuBackend"
    device = "cuda:0"
