"""The conformance kit passes on the backend that is made to pass it."""

from __future__ import annotations

from pathlib import Path

from qbench.backend import Model
from qbench.testing import AdapterConformance, fake_model


class TestFakeBackend(AdapterConformance):
    target = "qbench.testing:FakeBackend"

    def model(self, folder: Path) -> Model:
        path = folder / "net.fake"
        if path.exists():
            return fake_model(folder / "again.fake")
        return fake_model(path)
