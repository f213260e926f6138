"""The gate: find a run's baselines, measure suspicious cases again, and write the verdict.

``run_gate`` reads as the program. It writes the verdict to a file next to the bundle, since a
finished bundle never changes::

    <results>/<run_id>.gate.json    ``valid`` (false excludes the run from history and from the
                                    baseline ``last``), ``exit_code``, the findings

The confirming run is an ordinary bundle whose ``begin["confirms"]`` names the run. It is measured
once: a second gate judges the same trials, so that nobody repeats them until they suit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from qbench.analysis.gate.judge import Evidence, GateResult, gate_verdict
from qbench.analysis.gate.record import to_json
from qbench.bundle.bundle import Bundle
from qbench.bundle.find import earlier_runs, find_anchor, find_confirmation, find_run
from qbench.bundle.verdict import verdict_path
from qbench.errors import UserError
from qbench.spec.accepted import NAME, Accepted, read_accepted
from qbench.spec.gate import GateSettings
from qbench.storage import write_file

if TYPE_CHECKING:
    from qbench.run.progress import Progress
    from qbench.run.request import Request
    from qbench.run.sources.catalog import Catalog
    from qbench.run.workers.registry import Registry


@dataclass(frozen=True)
class GateRequest:
    """A run to judge, with the options of the command line.

    Attributes:
        run: a bundle's path, its id, or ``latest``.
        overrides: settings that replace the suite's, by name.
        limits: in addition to the suite's, such as ``p99<=10ms``.
        suite: the suite's file or name; None: the one of the run's command.
        confirm: whether to measure suspicious cases again.
        accepted: the file of accepted changes; None: ``accepted.yaml`` in the results folder.
    """

    run: str
    results: Path
    overrides: Mapping[str, Any] = field(default_factory=dict)
    limits: Sequence[str] = ()
    suite: str | None = None
    confirm: bool = False
    accepted: Path | None = None


def run_gate(asked: GateRequest, progress: Progress) -> GateResult:
    """Judge a run and write the verdict.

    Raises:
        UserError: there is no such run, baseline or suite; a file is wrong.
        MachineryError: the run is incomplete, or the confirming run failed.
    """
    bundle = find_run(asked.run, asked.results)
    settings = settings_of(bundle, asked.overrides, asked.limits)

    def measure(cases: Sequence[str]) -> Bundle:
        from qbench.run.workers.registry import Registry

        registry = Registry()
        request, catalog = _request(bundle, asked, registry, progress)
        return measure_again(bundle, cases, settings, request, catalog, registry, progress)

    return judge_bundle(
        bundle,
        settings,
        asked.results,
        measure if asked.confirm else None,
        asked.accepted,
    )


def judge_bundle(
    bundle: Bundle,
    settings: GateSettings,
    results: Path,
    measure: Callable[[Sequence[str]], Bundle] | None = None,
    accepted: Path | None = None,
) -> GateResult:
    """Judge a bundle and write the verdict.

    Args:
        results: the folder of earlier runs and anchors.
        measure: measures cases again, given their ids (see ``measure_again``); None: suspicions
            stay unconfirmed unless there is a confirming run already.
        accepted: the file of accepted changes; None: ``accepted.yaml`` in ``results``.
    """
    known = read_accepted(accepted or results / NAME)
    evidence = Evidence(
        earlier=earlier_runs(bundle, results, settings.inconclusive_nights or 1),
        anchors={
            str(baseline): find_anchor(baseline.anchor, results)
            for baseline in settings.baselines
            if baseline.anchor
        },
        accepted=Accepted.of(known, date.today()),
    )
    result = gate_verdict(bundle, settings, evidence)
    if result.to_confirm and result.invalid is None:
        confirmation = find_confirmation(bundle, results, result.to_confirm)
        if confirmation is None and measure is not None:
            confirmation = measure(result.to_confirm)
        if confirmation is not None:
            result = gate_verdict(bundle, settings, replace(evidence, confirmation=confirmation))
    verdict = {**to_json(result), "judged": datetime.now().astimezone().isoformat()}
    write_file(verdict_path(bundle.path), json.dumps(verdict, indent=1) + "\n")
    return result


def settings_of(
    bundle: Bundle, overrides: Mapping[str, Any], limits: Sequence[str] = ()
) -> GateSettings:
    """The suite's settings at the time of the run, with overrides and additional limits."""
    kept = bundle.begin.settings.gate or {}
    try:
        limited = [*kept.get("limits", ()), *limits]
        return GateSettings.model_validate({**kept, **overrides, "limits": limited})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(key) for key in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise UserError(f"setting of the gate '{name}': {message}") from None


# --------------------------------------------------------------------------- new trials


def measure_again(
    bundle: Bundle,
    cases: Sequence[str],
    settings: GateSettings,
    request: Request,
    catalog: Catalog,
    registry: Registry,
    progress: Progress,
) -> Bundle:
    """Measure cases of a run again, in a new bundle.

    Args:
        request: the request of the run.

    Raises:
        UserError: the run is of another machine.
    """
    from qbench.machine.host import fingerprint
    from qbench.run.runner import run_suite
    from qbench.spec.case import Filters

    if fingerprint()["host_id"] != bundle.begin.host.host_id:
        raise UserError(
            f"{bundle.run_id} was measured on another machine",
            "Confirm it there; or judge it here without --confirm.",
        )
    only = {"rounds": settings.confirm_rounds, "energy": None, "roofline": False}
    again = replace(
        request,
        suite=request.suite.model_copy(update=only),
        filters=Filters(cases=tuple(sorted(cases))),
        seed=bundle.begin.seed + 1,  # another order of trials
        confirms=bundle.run_id,
        wall=None,
        command=("gate", bundle.run_id, "--confirm"),
    )
    progress.note(f"{bundle.run_id}: measuring {len(cases)} cases again")
    return run_suite(again, catalog, registry, progress)


def _request(
    bundle: Bundle, asked: GateRequest, registry: Registry, progress: Progress
) -> tuple[Request, Catalog]:
    """The request of the run, from its suite's file."""
    from qbench.run.request import Request
    from qbench.run.sources.catalog import open_suite
    from qbench.spec.suite import find_suite

    path = find_suite(asked.suite or _suite_of(bundle))
    suite, text, catalog, folder = open_suite(path, registry.names, progress.note)
    rounds = bundle.begin.settings.rounds
    as_run: dict[str, Any] = {"gate": settings_of(bundle, {})}  # affects no measurement
    as_run |= {"rounds": rounds} if isinstance(rounds, int) else {}
    if suite.model_copy(update=as_run).digest() != bundle.begin.suite_digest:
        raise UserError(
            f"{path} has changed since {bundle.run_id} ran it",
            "Give the original suite with --suite; the bundle has it as suite.yaml.",
        )
    return Request(suite, text, asked.results, suite_folder=folder), catalog


def _suite_of(bundle: Bundle) -> str:
    """The suite's name or path in the run's command."""
    for word in bundle.begin.command[1:]:
        if Path(word).suffix in (".yaml", ".yml") or word == bundle.begin.suite:
            return word
    raise UserError(
        f"the command of {bundle.run_id} names no suite", "Give the suite with --suite."
    )
