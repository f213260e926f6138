"""Commands that measure, or say what would be measured: run, plan, init."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qbench.cli.common import (
    DEFAULT_RESULTS,
    FAILED,
    AsJson,
    Backends,
    Devices,
    Models,
    Precisions,
    Results,
    console,
    print_json,
    write_page,
)
from qbench.errors import UserError

if TYPE_CHECKING:
    from qbench.run.request import Request
    from qbench.run.sources.catalog import Catalog


def run(
    suite: Annotated[str | None, typer.Argument(help="A shipped suite, or a .yaml file.")] = None,
    model: Models = None,
    backend: Backends = None,
    precision: Precisions = None,
    device: Devices = None,
    results: Results = DEFAULT_RESULTS,
    inputs: Annotated[
        Path | None,
        typer.Option(help="With a model file: an .npz of inputs, [items, ...] by input name."),
    ] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Instead of the suite's.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the order of trials.")] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Do not go on with an interrupted run.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="A case that is int8 in name only is an error.")
    ] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Also record the time of every case's operators.")
    ] = False,
    system: Annotated[
        Path | None,
        typer.Option(help="A YAML of what only a person knows of the machine; or $QBENCH_SYSTEM."),
    ] = None,
    power_log: Annotated[
        Path | None, typer.Option(help="A wall meter's CSV, being written: measure energy, too.")
    ] = None,
    power_command: Annotated[
        str | None, typer.Option(help="A command that prints watts, a number a line: the same.")
    ] = None,
    allow_shared_gpu: Annotated[
        bool,
        typer.Option("--allow-shared-gpu", help="Measure though others compute on the GPU."),
    ] = False,
    report: Annotated[bool, typer.Option(help="Write the HTML report.")] = True,
    as_json: AsJson = False,
) -> int:
    """Prepare, evaluate and measure the cases of a suite; leaves a bundle and a report.

    An interrupted run goes on when the same command is given again.

    \b
    Examples:
      qbench run quick
      qbench run mysuite.yaml --backend openvino --precision int8-static
      qbench run --model network.onnx          (no suite: random inputs)
      qbench run --model network.onnx --device cuda
      qbench run quick --json | jq .counts
    """
    import time

    begin = time.monotonic()
    messages = console(to_stderr=True)
    from qbench.analysis.table.table import case_table
    from qbench.present.terminal import RichProgress, case_tables
    from qbench.run.runner import run_suite
    from qbench.run.workers.registry import Registry
    from qbench.spec.system import load_system

    registry = Registry()
    told, wall = load_system(system), _wall_meter(power_log, power_command)
    with RichProgress(messages) as progress:
        request, catalog = _request(
            suite,
            model,
            backend,
            precision,
            device,
            inputs,
            rounds,
            results,
            registry,
            progress.note,
        )
        if profile:
            profiled = request.suite.model_copy(update={"profile": True})
            request = _replaced(request, suite=profiled)
        request = _replaced(
            request,
            seed=seed,
            fresh=fresh,
            strict=strict,
            system=told,
            wall=wall,
            allow_shared_gpu=allow_shared_gpu,
            command=tuple(_as_recorded(sys.argv[1:])),
        )
        bundle = run_suite(request, catalog, registry, progress)
    cases = case_table(bundle)
    page = write_page([bundle], results / f"{bundle.run_id}.html") if report else None
    counts = dict(Counter(cases["status"]))
    seconds = time.monotonic() - begin
    if as_json:
        print_json(
            {
                "bundle": str(bundle.path),
                "report": str(page) if page else None,
                "counts": counts,
                "seconds": round(seconds, 1),
            }
        )
    else:
        out = console()
        for part in case_tables(cases, out):
            out.print(part)
        out.print(f"bundle  {bundle.path}", markup=False, soft_wrap=True)
        if page:
            out.print(f"report  {page}", markup=False, soft_wrap=True)
        out.print(f"took    {seconds:.0f} s", markup=False)
    if set(counts) <= {"skipped"}:
        raise UserError(
            "every case was skipped; the reasons stand above",
            "Choose other backends, precisions or models.",
        )
    return 0 if set(counts) <= {"ok", "skipped"} else FAILED


PRIVATE = ("--power-command", "--power-log", "--system")
"""Options of which a bundle keeps no more than the name of the program or the file: their values
may hold passwords, and folders of this machine."""


def _as_recorded(arguments: list[str]) -> list[str]:
    """The command line as a bundle keeps it."""
    recorded: list[str] = []
    last = ""
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if last in PRIVATE:
            recorded.append(_name_only(argument))
        elif option in PRIVATE and equals:
            recorded.append(f"{option}={_name_only(value)}")
        else:
            recorded.append(argument)
        last = argument
    return recorded


def _name_only(value: str) -> str:
    words = value.split()
    return Path(words[0]).name if words else ""


def _wall_meter(log: Path | None, command: str | None) -> Any:
    from qbench.machine.energy.wall import PowerCommand, PowerLog

    if log and command:
        raise UserError("--power-log and --power-command are two meters", "Give one of them.")
    if log:
        return PowerLog(log)
    return PowerCommand(command) if command is not None else None


def _replaced(request: Request, **changes: Any) -> Request:
    from dataclasses import replace

    return replace(request, **changes)


def _request(
    suite: str | None,
    models: list[str] | None,
    backends: list[str] | None,
    precisions: list[str] | None,
    devices: list[str] | None,
    inputs: Path | None,
    rounds: int | None,
    results: Path,
    registry: Any,
    note: Any,
) -> tuple[Request, Catalog]:
    """What the arguments of ``run`` and ``plan`` ask for."""
    from qbench.run.request import Request
    from qbench.run.sources import adhoc
    from qbench.spec.case import Filters
    from qbench.spec.suite import device_name, find_suite

    try:
        devices = [device_name(name) for name in devices or ()]
    except ValueError as error:
        raise UserError(str(error), "`qbench backends` lists the devices of each.") from None
    if suite is None:
        if not models:
            raise UserError(
                "nothing to run: give a suite or --model FILE",
                "`qbench run quick` is a start; `qbench suites` lists them all.",
            )
        chosen, text, catalog = adhoc.suite_for_files(
            [Path(f) for f in models or []],
            backends,
            precisions,
            inputs,
            rounds,
            registry,
            note,
            devices,
        )
        return Request(chosen, text, results), catalog
    if inputs or any(adhoc.is_model_file(name, registry) for name in models or []):
        raise UserError(
            "a model file and --inputs go without a suite",
            "Leave out the suite, or write a model card beside it (see docs/model-cards.md).",
        )
    chosen, text, catalog = _load_suite(suite, registry, note)
    if rounds is not None:
        chosen = chosen.model_copy(update={"rounds": rounds})
    filters = Filters(
        tuple(models or ()),
        tuple(backends or ()),
        tuple(precisions or ()),
        devices=tuple(devices),
    )
    folder = find_suite(suite).parent
    return Request(chosen, text, results, filters, suite_folder=folder), catalog


def _load_suite(name: str, registry: Any, note: Any) -> tuple[Any, str, Catalog]:
    from qbench.run.sources.catalog import Catalog
    from qbench.spec.suite import find_suite, load_suite, suites_dir

    path = find_suite(name)
    catalog = Catalog([path.parent, suites_dir()], note)
    suite = load_suite(path, registry.names, catalog.names)
    return suite, path.read_text(encoding="utf-8"), catalog


def plan(
    suite: Annotated[str | None, typer.Argument(help="A shipped suite, or a .yaml file.")] = None,
    model: Models = None,
    backend: Backends = None,
    precision: Precisions = None,
    device: Devices = None,
    as_json: AsJson = False,
) -> int:
    """Show what a suite would do here: cases, reasons for skips, time and disk.

    \b
    Examples:
      qbench plan quick
      qbench plan mysuite.yaml --json
    """
    from qbench.present.terminal import plan_tables
    from qbench.run.artifacts import ArtifactStore
    from qbench.run.planner import make_plan
    from qbench.run.workers.registry import Registry

    registry, store = Registry(), ArtifactStore()
    messages = console(to_stderr=True)
    request, catalog = _request(
        suite,
        model,
        backend,
        precision,
        device,
        None,
        None,
        DEFAULT_RESULTS,
        registry,
        messages.print,
    )
    probes = registry.probe(request.suite.backends)
    found = make_plan(request.suite, catalog, registry, probes, store, request.filters)
    minutes, disk = found.estimate_minutes(store), found.estimate_disk_mb()
    if as_json:
        print_json({**found.to_json(), "estimated_minutes": minutes, "estimated_disk_mb": disk})
    else:
        out = console()
        runs, skipped = plan_tables(found)
        out.print(runs)
        if skipped is not None:
            out.print(skipped)
        out.print(
            f"{len(found.runnable)} of {len(found.cases)} cases run; about {minutes:.1f} minutes, "
            f"at most about {disk:.0f} MB of artifacts",
            markup=False,
        )
    return 0


def init(
    path: Annotated[
        Path | None, typer.Argument(help="The suite to write; suite.yaml if left out.")
    ] = None,
    costs: Annotated[
        Path | None,
        typer.Option("--costs", help="Write a file for what machines cost, and no suite."),
    ] = None,
) -> int:
    """Write a commented suite to start from, or a file for what machines cost.

    \b
    Examples:
      qbench init mysuite.yaml && qbench run mysuite.yaml
      qbench init --costs costs.yaml
    """
    if costs is not None:
        if path is not None:
            raise UserError("a suite and costs are two files", "Write one after the other.")
        _write_template("costs.yaml", costs)
        print(f"wrote {costs}; fill it in, then: qbench cost RUN... --costs {costs}")
        return 0
    path = path or Path("suite.yaml")
    _write_template("suite.yaml", path)
    print(f"wrote {path}; run it with: qbench run {path if len(path.parts) > 1 else f'./{path}'}")
    return 0


def _write_template(name: str, path: Path) -> None:
    """
    Raises:
        UserError: there is such a file, or no such folder.
    """
    from qbench.spec.suite import suites_dir
    from qbench.storage import write_file

    if path.exists():
        raise UserError(f"{path} exists", "Give another name; nothing was overwritten.")
    if not path.parent.is_dir():
        raise UserError(f"there is no folder {path.parent}", "Make it first.")
    write_file(path, (suites_dir() / "templates" / name).read_text(encoding="utf-8"))
