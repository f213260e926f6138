"""Which adapters are installed: entry points of the group ``qbench.backends``."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version

from qbench.backend import API_VERSION, Backend, Ready, Unavailable
from qbench.errors import UserError, nearest
from qbench.isolate import run_job, scratch_folder

GROUP = "qbench.backends"
PROBE_TIMEOUT_S = 60


class Registry:
    """Adapters by name. ``module:Class`` is what workers are given; they never scan for it.

    Args:
        targets: ``module:Class`` by name; the installed entry points if left out.
    """

    def __init__(self, targets: Mapping[str, str] | None = None) -> None:
        self.targets = dict(_installed() if targets is None else targets)
        self._loaded: dict[str, Backend | Unavailable] = {}

    @property
    def names(self) -> list[str]:
        return sorted(self.targets)

    def load(self, name: str) -> Backend | Unavailable:
        """The adapter, or why its module cannot be imported. Imports no runtime."""
        if name not in self.targets:
            raise UserError(f"there is no backend '{name}'", nearest(name, self.targets))
        if name not in self._loaded:
            self._loaded[name] = self._import(name)
        return self._loaded[name]

    def _import(self, name: str) -> Backend | Unavailable:
        target = self.targets[name]
        module, _, attribute = target.partition(":")
        try:
            backend: Backend = getattr(importlib.import_module(module), attribute)()
        except Exception as error:  # a third party's module may raise anything
            return Unavailable(
                f"the adapter {target} cannot be imported: {type(error).__name__}: {error}",
                "Repair or uninstall that adapter.",
            )
        if backend.api_version != API_VERSION:
            return Unavailable(
                f"the adapter {target} is written for version {backend.api_version} of the plugin "
                f"contract, this qbench has {API_VERSION}",
                "Upgrade the older of the two.",
            )
        return backend

    def probe(self, names: list[str] | None = None) -> dict[str, Ready | Unavailable]:
        """Ask adapters whether their runtimes work here, each in a process of its own."""
        names = self.names if names is None else names
        with ThreadPoolExecutor(max_workers=2) as pool:
            return dict(zip(names, pool.map(self._probe, names), strict=True))

    def _probe(self, name: str) -> Ready | Unavailable:
        backend = self.load(name)
        if isinstance(backend, Unavailable):
            return backend
        with scratch_folder() as folder:
            outcome = run_job("probe", self.targets[name], {}, folder, timeout_s=PROBE_TIMEOUT_S)
        if outcome.status != "ok":
            return Unavailable(
                f"its probe {outcome.status}: {outcome.reason}",
                "The runtime's installation is damaged, or does not fit this machine.",
            )
        answer = dict(outcome.result)
        if not answer.pop("ready"):
            return Unavailable(**answer)
        answer["precisions"] = {d: tuple(p) for d, p in answer["precisions"].items()}
        return Ready(**answer)


def _installed() -> dict[str, str]:
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            raise UserError(
                f"two installed packages offer a backend named '{point.name}': {other.value} and "
                f"{point.value}",
                "Uninstall one of them.",
            )
    return {name: point.value for name, point in found.items()}


def package_versions(packages: tuple[str, ...]) -> dict[str, str | None]:
    """Installed versions of distributions; None for one that is not installed."""
    result: dict[str, str | None] = {}
    for package in packages:
        try:
            result[package] = version(package)
        except PackageNotFoundError:
            result[package] = None
    return result
