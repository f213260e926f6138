"""The request of a run, and the bundle that answers it: a new one or an interrupted one."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from qbench import __version__
from qbench.bundle.bundle import Bundle
from qbench.bundle.find import find_incomplete
from qbench.errors import UserError
from qbench.kit.adapter import Ready, Unavailable
from qbench.machine.energy.wall import WallMeter
from qbench.machine.host import fingerprint
from qbench.run.plan import Plan
from qbench.run.workers.isolate import DISK_FULL, scratch_folder
from qbench.run.workers.registry import Registry, package_versions
from qbench.spec.case import Filters
from qbench.spec.suite import Suite
from qbench.spec.system import System
from qbench.storage import digest_json

SETTINGS = (
    "rounds", "budget", "warmup_s", "timed_s", "cool_down_s", "limits", "cpu_power", "energy",
    "gate",
)  # fmt: skip
"""Keys of the suite that ``begin.json`` repeats, since analysis reads them."""


@dataclass(frozen=True)
class Request:
    """A suite to run, with the options of the command line.

    Attributes:
        suite_text: the suite's file, verbatim, for the bundle.
        seed: of the order of trials; None: the suite's.
        fresh: begin a new bundle even if an interrupted one could be continued.
        strict: a case that is int8 or quantized in name only is an error.
        system: the user's description of the machine.
        wall: a meter in the machine's power cord.
        command: the command line, for the bundle.
        confirms: id of the run whose findings this one checks with new trials; None for most.
        suite_folder: base of relative paths in the suite.
        allow_shared_gpu: measure even while other processes compute on a GPU of the suite.
    """

    suite: Suite
    suite_text: str
    results: Path
    filters: Filters = Filters()
    seed: int | None = None
    fresh: bool = False
    strict: bool = False
    system: System | None = None
    wall: WallMeter | None = None
    command: tuple[str, ...] = ()
    confirms: str | None = None
    suite_folder: Path = Path()
    allow_shared_gpu: bool = False

    @property
    def order_seed(self) -> int:
        """The seed of the order of trials."""
        return self.suite.seed if self.seed is None else self.seed


def check_writable(results: Path) -> None:
    """Check that a bundle can be written before anything is measured.

    Raises:
        UserError: the results folder cannot be written to.
        OSError: the disk is full.
    """
    try:
        results.mkdir(parents=True, exist_ok=True)
        with scratch_folder(results):
            pass
    except OSError as error:
        if error.strerror == DISK_FULL:
            raise
        raise UserError(
            f"cannot write to the results folder {results}: {error.strerror}",
            "Give another one with --results.",
        ) from None


def now() -> str:
    """The time, as bundles record it: ISO 8601 with the offset from UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def begin(
    request: Request,
    plan: Plan,
    probes: Mapping[str, Ready | Unavailable],
    registry: Registry,
) -> Bundle:
    """Open the newest interrupted bundle of the identical request, else create one."""
    host = fingerprint()
    software = _software(request.suite, registry)
    system = request.system.model_dump(mode="json") if request.system else None
    described = plan.to_json()
    run_key = digest_json(
        [
            request.suite.digest(),
            request.suite.profile,
            asdict(request.filters),
            request.order_seed,
            request.strict,
            request.confirms,
            system,
            {name: made.digest for name, made in plan.environments.items()},
            host["host_id"],
            software,
            described,
        ]
    )
    if not request.fresh:
        bundle = find_incomplete(request.results, run_key)
        if bundle is not None:
            return bundle
    run_id = f"{time.strftime('%Y%m%d-%H%M%S')}-{request.suite.name}-{os.urandom(2).hex()}"
    record = {
        "run_id": run_id,
        "run_key": run_key,
        "suite": request.suite.name,
        "suite_digest": request.suite.digest(),
        "filters": asdict(request.filters),
        "seed": request.order_seed,
        "strict": request.strict,
        "confirms": request.confirms,
        "command": list(request.command),
        "started": now(),
        "host": host,
        "system": system,
        "software": software,
        "environments": {name: made.to_json() for name, made in plan.environments.items()},
        "backends": {
            name: {"ready": isinstance(p, Ready), **asdict(p)} for name, p in probes.items()
        },
        "plan_digest": digest_json(described),
        "settings": request.suite.model_dump(mode="json", include=set(SETTINGS)),
    }
    return Bundle.create(request.results / run_id, record, described, request.suite_text)


def _software(suite: Suite, registry: Registry) -> dict[str, str | None]:
    """Versions of qbench and of the packages that the suite's adapters name as deciding results."""
    packages: set[str] = set()
    for name in suite.backends:
        backend = registry.load(name)
        if not isinstance(backend, Unavailable):
            packages |= {*backend.runtime_packages, *backend.prepare_packages}
    return {"qbench": __version__, **package_versions(tuple(sorted(packages)))}
