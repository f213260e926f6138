"""Find installed adapters: entry points of the group ``qbench.backends``."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from typing import Any

from qbench.errors import UserError, check_known
from qbench.kit.adapter import API_VERSION, Adapter, Ready, Unavailable
from qbench.kit.reasons import sentence
from qbench.run.workers.isolate import Interpreter, in_parallel, run_job, scratch_folder

GROUP = "qbench.backends"
PROBE_TIMEOUT_S = 60
PROBES_AT_A_TIME = 2
KIND_OF_DEVICE = ("name", "compute_capability", "driver", "driver_release")
"""Facts of a device that artifacts are compiled for."""
PLACE_OF_GPU = ("pci_bus_id", "uuid")
"""Facts of a GPU that identify it among the machine's cards."""
REPAIR = "Repair or uninstall that adapter."


class Registry:
    """Adapters by name.

    Args:
        targets: ``module:Class`` by name; by default the installed entry points. Workers receive
            this target and never scan entry points.
    """

    def __init__(self, targets: Mapping[str, str] | None = None) -> None:
        self.targets = dict(_installed() if targets is None else targets)
        self._loaded: dict[str, Adapter | Unavailable] = {}

    @property
    def names(self) -> list[str]:
        return sorted(self.targets)

    def load(self, name: str) -> Adapter | Unavailable:
        """The adapter, or the reason why it cannot be used. Imports no runtime."""
        check_known(name, self.targets, f"there is no backend '{name}'")
        if name not in self._loaded:
            self._loaded[name] = self._import(name)
        return self._loaded[name]

    def _import(self, name: str) -> Adapter | Unavailable:
        target = self.targets[name]
        module, _, attribute = target.partition(":")
        try:
            backend: Any = getattr(importlib.import_module(module), attribute)()
            fault = _fault(backend, name)
        except (Exception, SystemExit) as error:  # a third party's module may raise anything
            return Unavailable(
                f"the adapter {target} cannot be imported: {sentence(error)}",
                REPAIR,
            )
        if fault is not None:
            return Unavailable(f"the adapter {target} {fault.reason}", fault.fix)
        return backend

    def probe(self, names: list[str] | None = None) -> dict[str, Ready | Unavailable]:
        """Probe whether the runtimes of adapters work here, each in a process of its own."""
        names = self.names if names is None else names
        answers = in_parallel(names, self.probe_in, PROBES_AT_A_TIME)
        return dict(zip(names, answers, strict=True))

    def probe_in(self, name: str, interpreter: Interpreter | None = None) -> Ready | Unavailable:
        """Probe one adapter's runtime in ``interpreter`` (None: this one)."""
        backend = self.load(name)
        if isinstance(backend, Unavailable):
            return backend
        with scratch_folder() as folder:
            outcome = run_job(
                "probe",
                self.targets[name],
                {},
                folder,
                timeout_s=PROBE_TIMEOUT_S,
                interpreter=interpreter,
            )
        if outcome.status != "ok":
            return Unavailable(
                f"its probe {outcome.status}: {outcome.reason}",
                "Reinstall the runtime: it is damaged, or does not fit this machine.",
            )
        try:
            answer = _answer(outcome.result)
            if isinstance(answer, Ready) and answer.compiled:
                _can_compile(backend, answer)
            return answer
        except (KeyError, TypeError) as error:
            return Unavailable(
                f"the probe of the adapter {self.targets[name]} returns neither Ready nor "
                f"Unavailable: {error}",
                REPAIR,
            )


def _fault(backend: object, name: str) -> Unavailable | None:
    """Why an object is not the adapter ``name``; None if it is."""
    if not isinstance(backend, Adapter):
        return Unavailable("is no Adapter of qbench's plugin contract", REPAIR)
    try:
        version, given = backend.api_version, backend.name
        words = {
            "formats": backend.formats,
            "runtime_packages": backend.runtime_packages,
            "prepare_packages": backend.prepare_packages,
            "shareable": backend.shareable,
        }
    except AttributeError as error:
        return Unavailable(f"has no {error.name}", REPAIR)
    if version != API_VERSION:
        return Unavailable(
            f"is written for version {version} of the plugin contract, this qbench has "
            f"{API_VERSION}",
            "Upgrade the older of the two.",
        )
    if given != name:
        return Unavailable(f"calls itself {given!r}, but is installed as '{name}'", REPAIR)
    if type(backend.prepare_version) is not int:
        return Unavailable("has a prepare_version that is not an integer", REPAIR)
    for field, value in words.items():
        if not _words(value):
            return Unavailable(f"has {field} other than a tuple of names", REPAIR)
    return None


def _words(value: object) -> bool:
    return isinstance(value, (tuple, list)) and all(isinstance(v, str) and v for v in value)


def _has_words(facts: Mapping[str, Any], names: tuple[str, ...]) -> bool:
    return all(isinstance(facts.get(name), str) for name in names)


def _answer(result: Mapping[str, Any]) -> Ready | Unavailable:
    """Parse a probe's answer as its worker sent it.

    Raises:
        KeyError, TypeError: it is not a valid answer.
    """
    fields = dict(result)
    if not fields.pop("ready"):
        _require(fields, reason=str, fix=str)
        return Unavailable(**fields)
    _require(fields, version=str, precisions=dict, missing=dict, isa=str)
    for device, names in fields["precisions"].items():
        if not _words(names):
            raise TypeError(f"the precisions of {device} are {names!r}")
    for device, reasons in fields["missing"].items():
        if not isinstance(reasons, dict) or not all(isinstance(r, str) for r in reasons.values()):
            raise TypeError(f"missing on {device} is {reasons!r}")
    for device, facts in fields.setdefault("devices", {}).items():
        needed = (*KIND_OF_DEVICE, *PLACE_OF_GPU) if device.startswith("cuda") else ()
        if not isinstance(facts, dict) or not _has_words(facts, needed):
            raise TypeError(f"facts of {device} are {facts!r}, without {', '.join(needed)}")
    if not _words(fields.setdefault("compiled", ())):
        raise TypeError(f"compiled is {fields['compiled']!r}")
    fields["compiled"] = tuple(fields["compiled"])
    for device, names in fields.setdefault("emulated", {}).items():
        if not _words(names):
            raise TypeError(f"the emulated precisions of {device} are {names!r}")
    fields["emulated"] = {d: tuple(p) for d, p in fields["emulated"].items()}
    fields["precisions"] = {d: tuple(p) for d, p in fields["precisions"].items()}
    return Ready(**fields)


def _can_compile(backend: Adapter, answer: Ready) -> None:
    """
    Raises:
        TypeError: the adapter cannot compile for the devices that it lists in ``compiled``.
    """
    if type(backend).compile is Adapter.compile:
        raise TypeError("it has no method compile")
    for device in answer.compiled:
        if not _has_words(answer.devices.get(device, {}), KIND_OF_DEVICE):
            raise TypeError(f"its facts of {device} lack one of {', '.join(KIND_OF_DEVICE)}")


def _require(fields: Mapping[str, Any], **kinds: type) -> None:
    for field, kind in kinds.items():
        if not isinstance(fields[field], kind):
            raise TypeError(f"{field} is {fields[field]!r}")


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
    """Installed versions of distributions; None if not installed."""
    result: dict[str, str | None] = {}
    for package in packages:
        try:
            result[package] = version(package)
        except PackageNotFoundError:
            result[package] = None
    return result
