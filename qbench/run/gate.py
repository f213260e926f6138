"""The gate: finds what a run is held against, has suspicious cases measured again, and keeps the
verdict.

``hold`` reads as the program. Beside a bundle it leaves::

    <results>/<run_id>.gate.json    the verdict: ``valid`` (false keeps the run out of history and
                                    from being anyone's ``last``), ``exit_code``, the findings

in a file of its own, since a finished bundle is not changed. The confirming run is a bundle like
any other, whose ``begin["confirms"]`` names the run. It is measured once: whoever asks again gets
the verdict of the same trials, and does not draw new ones until they suit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from qbench.analysis.gate.judge import Evidence, GateResult, judge
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
class Asked:
    """What a person, or a nightly job, asks of the gate.

    Attributes:
        run: a bundle's path, its id, or ``latest``.
        overrides: of the suite's settings, by their names.
        limits: additional ones, such as ``p99<=10ms``; the suite's apply too.
        suite: the suite's file or name; None for the one that the run was started with.
        accepted: the file of known changes; None for ``accepted.yaml`` in the results folder.
    """

    run: str
    results: Path
    overrides: Mapping[str, Any] = field(default_factory=dict)
    limits: Sequence[str] = ()
    suite: str | None = None
    confirm: bool = False
    accepted: Path | None = None


def hold(asked: Asked, progress: Progress, today: date | None = None) -> GateResult:
    """The verdict on a run, kept beside it.

    Raises:
        UserError: there is no such run, baseline or suite; a file is wrong.
        MachineryError: the run is incomplete, or the confirming one could not be made.
    """
    bundle = find_run(asked.run, asked.results)
    settings = settings_of(bundle, asked.overrides, asked.limits)

    def measure(cases: Sequence[str]) -> Bundle:
        from qbench.run.workers.registry import Registry

        registry = Registry()
        request, catalog = _request(bundle, asked, registry, progress)
        return measure_again(bundle, cases, settings, request, catalog, registry, progress)

    return gate_run(
        bundle,
        settings,
        asked.results,
        measure if asked.confirm else None,
        asked.accepted,
        today,
    )


def gate_run(
    bundle: Bundle,
    settings: GateSettings,
    results: Path,
    measure: Callable[[Sequence[str]], Bundle] | None = None,
    accepted: Path | None = None,
    today: date | None = None,
) -> GateResult:
    """The verdict on a bundle, kept beside it.

    Args:
        results: the folder of the runs before it, and of the anchors.
        measure: measures cases, given by their ids, again (see ``measure_again``); None: what is
            suspected is not confirmed, unless it has been before.
        accepted: the file of known changes; None for ``accepted.yaml`` in ``results``.
    """
    known = read_accepted(accepted or results / NAME)
    evidence = Evidence(
        earlier=earlier_runs(bundle, results, settings.inconclusive_nights or 1),
        anchors={
            str(baseline): find_anchor(baseline.anchor, results)
            for baseline in settings.baselines
            if baseline.anchor
        },
        accepted=Accepted.of(known, today or date.today()),
    )
    result = judge(bundle, settings, evidence)
    if result.to_confirm and result.invalid is None:
        confirmation = find_confirmation(bundle, results, result.to_confirm)
        if confirmation is None and measure is not None:
            confirmation = measure(result.to_confirm)
        if confirmation is not None:
            result = judge(bundle, settings, replace(evidence, confirmation=confirmation))
    verdict = {**to_json(result), "judged": datetime.now().astimezone().isoformat()}
    write_file(verdict_path(bundle), json.dumps(verdict, indent=1) + "\n")
    return result


def settings_of(
    bundle: Bundle, overrides: Mapping[str, Any], limits: Sequence[str] = ()
) -> GateSettings:
    """The suite's settings as the run kept them, with what was asked for otherwise."""
    kept = bundle.begin["settings"].get("gate") or {}
    try:
        limited = [*kept.get("limits", ()), *limits]
        return GateSettings.model_validate({**kept, **overrides, "limits": limited})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(key) for key in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise UserError(f"setting of the gate '{name}': {message}") from None


# --------------------------------------------------------------------------- other runs


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
    """Measure cases of a run anew, in a bundle of their own.

    Args:
        request: what the run was made by.

    Raises:
        UserError: this is not the machine of the run.
    """
    from qbench.machine.host import fingerprint
    from qbench.run.runner import run_suite
    from qbench.spec.case import Filters

    if fingerprint()["host_id"] != bundle.begin["host"]["host_id"]:
        raise UserError(
            f"{bundle.run_id} was measured on another machine",
            "Confirm it there; or judge it here without --confirm.",
        )
    only = {"rounds": settings.confirm_rounds, "energy": None, "roofline": False}
    again = replace(
        request,
        suite=request.suite.model_copy(update=only),
        filters=Filters(cases=tuple(sorted(cases))),
        seed=bundle.begin["seed"] + 1,  # another order of trials, too
        confirms=bundle.run_id,
        wall=None,
        command=("gate", bundle.run_id, "--confirm"),
    )
    progress.note(f"{bundle.run_id}: measuring {len(cases)} cases again")
    return run_suite(again, catalog, registry, progress)


def _request(
    bundle: Bundle, asked: Asked, registry: Registry, progress: Progress
) -> tuple[Request, Catalog]:
    """The run's own suite, as a request."""
    from qbench.run.request import Request
    from qbench.run.sources.catalog import Catalog
    from qbench.spec.suite import find_suite, load_suite, suites_dir

    path = find_suite(asked.suite or _suite_of(bundle))
    catalog = Catalog([path.parent, suites_dir()], progress.note)
    suite = load_suite(path, registry.names, catalog.names)
    rounds = bundle.begin["settings"]["rounds"]
    as_run: dict[str, Any] = {"gate": settings_of(bundle, {})}  # which says nothing of measuring
    as_run |= {"rounds": rounds} if isinstance(rounds, int) else {}
    if suite.model_copy(update=as_run).digest() != bundle.begin.get("suite_digest"):
        raise UserError(
            f"{path} is not the suite that {bundle.run_id} ran: it was changed since",
            "Give the one it ran with --suite; the bundle has it as suite.yaml.",
        )
    text = path.read_text(encoding="utf-8")
    return Request(suite, text, asked.results, suite_folder=path.parent), catalog


def _suite_of(bundle: Bundle) -> str:
    """What the run's command called its suite."""
    command = [str(word) for word in bundle.begin.get("command") or ()]
    for word in command[1:]:
        if Path(word).suffix in (".yaml", ".yml") or word == bundle.begin["suite"]:
            return word
    raise UserError(
        f"{bundle.run_id} does not say which suite it ran", "Give the suite with --suite."
    )
