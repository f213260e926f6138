"""Conformance tests for adapters, and fake backends.

Names are imported at first use, since every pytest session loads the plugin in this package.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qbench.testing.conformance import AdapterConformance
    from qbench.testing.fake import FakeBackend, FakeGpuBackend, fake_model

__all__ = ["AdapterConformance", "FakeBackend", "FakeGpuBackend", "fake_model"]

_HOMES = {"AdapterConformance": "conformance"}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'fake')}"), name)
