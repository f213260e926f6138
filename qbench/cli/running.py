"""Commands that measure, or plan to: run, plan, init."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from qbench.cli.common import (
    DEFAULT_RESULTS,
    FAILED,
    AsJson,
    Backends,
    Precisions,
    Results,
    console,
    print_json,
    write_page,
)
from qbench.errors import UserError, as_user_error

if TYPE_CHECKING:
    from qbench.machine.energy.wall import PowerCommand, PowerLog
    from qbench.run.request import Request
    from qbench.run.sources.catalog import Catalog
    from qbench.run.workers.registry import Registry

SuiteName = Annotated[
    str | None, typer.Argument(metavar="SUITE", help="A shipped suite, or a .yaml file.")
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model", "-m", metavar="MODEL", help="Only this model, or a model file; repeatable."
    ),
]
Devices = Annotated[
    list[str] | None,
    typer.Option(
        "--device",
        metavar="DEVICE",
        help="Only this device: cpu, cuda (the first GPU), cuda:1; repeatable.",
    ),
]


Shapes = Annotated[
    list[str] | None,
    typer.Option(
        "--shape",
        metavar="INPUT=SIZES",
        help="Sizes of an input, as images=1x3x320x320; repeatable.",
    ),
]
Sizes = Annotated[
    list[str] | None,
    typer.Option("--size", metavar="NAME=N", help="A size that the file leaves open; repeatable."),
]
BatchAxes = Annotated[
    list[str] | None,
    typer.Option(
        "--batch-axis", metavar="INPUT=N", help="The batch's axis, from 0, or none; repeatable."
    ),
]
DataSets = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        metavar="FOLDER",
        help="For a model file or card: pictures in a sub-folder per class or with a CSV "
        "file,label, or an .npz of arrays by input with labels y. For a suite: NAME=FOLDER, your "
        "own copy of a data set, such as imagenet=FOLDER; repeatable.",
    ),
]
Signature = Annotated[
    str | None,
    typer.Option(metavar="KEY", help="For a TFLite file with several signatures: the one to run."),
]


def run(
    suite: SuiteName = None,
    model: Models = None,
    backend: Backends = None,
    precision: Precisions = None,
    device: Devices = None,
    results: Results = DEFAULT_RESULTS,
    inputs: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="For a model file: .npz with inputs [items, ...] by name."
        ),
    ] = None,
    data: DataSets = None,
    preprocess: Annotated[
        str | None,
        typer.Option(
            metavar="HOW", help="How pixels of --data become inputs: imagenet, 0-1 or none."
        ),
    ] = None,
    shape: Shapes = None,
    size: Sizes = None,
    batch_axis: BatchAxes = None,
    signature: Signature = None,
    rounds: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Replaces the suite's rounds.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Seed of the order of trials.")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Do not resume an interrupted run.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail cases that are int8 or quantized in name only.")
    ] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Also record the time of each operator.")
    ] = False,
    system: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="YAML of facts about the machine that software cannot read; or $QBENCH_SYSTEM.",
        ),
    ] = None,
    power_log: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="CSV that a wall meter is writing; adds measured energy."
        ),
    ] = None,
    power_command: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND",
            help="Command that prints watts, one number per line; adds measured energy.",
        ),
    ] = None,
    allow_shared_gpu: Annotated[
        bool,
        typer.Option("--allow-shared-gpu", help="Measure even if other processes use the GPU."),
    ] = False,
    report: Annotated[bool, typer.Option(help="Write the HTML report.")] = True,
    as_json: AsJson = False,
) -> int:
    """Run a suite: prepare, evaluate and measure every case.

    Leaves a bundle with all raw data, and a report. The same command resumes an interrupted run.

    \b
    Examples:
      qbench run quick
      qbench run mysuite.yaml --backend openvino --precision int8-static
      qbench run --model network.onnx          (no suite: random inputs)
      qbench run --model network.onnx --data photos --preprocess imagenet
      qbench run --model network.onnx --device cuda
      qbench run quick --json | jq .counts
    """
    import time
    from dataclasses import replace

    begin = time.monotonic()
    messages = console(to_stderr=True)
    from qbench.analysis.table.table import case_rows
    from qbench.present.terminal.cases import case_tables
    from qbench.present.terminal.progress import RichProgress
    from qbench.run.runner import run_suite
    from qbench.run.workers.registry import Registry
    from qbench.spec.system import load_system

    registry = Registry()
    facts, wall = load_system(system), _wall_meter(power_log, power_command)
    given = _GivenText(shape or [], size or [], batch_axis or [])
    choice = _Choice(
        suite, model, backend, precision, device, given, signature, rounds, inputs, data, preprocess
    )
    with RichProgress(messages) as progress:
        request, catalog = _request(choice, results, registry, progress.note)
        if profile:
            profiled = request.suite.model_copy(update={"profile": True})
            request = replace(request, suite=profiled)
        request = replace(
            request,
            seed=seed,
            fresh=fresh,
            strict=strict,
            system=facts,
            wall=wall,
            allow_shared_gpu=allow_shared_gpu,
            command=tuple(_as_recorded(sys.argv[1:])),
        )
        bundle = run_suite(request, catalog, registry, progress)
    cases = case_rows(bundle, bundle.trials_frame())
    page = write_page([bundle], results / f"{bundle.run_id}.html") if report else None
    counts = dict(Counter(case.status for case in cases))
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
            "every case was skipped, for the reasons above",
            "Choose other backends, precisions or models.",
        )
    return 0 if set(counts) <= {"ok", "skipped"} else FAILED


PRIVATE = ("--power-command", "--power-log", "--system")
"""Options of which a bundle records only the name of the program or the file: their values may
hold passwords and folders of this machine."""


def _as_recorded(arguments: list[str]) -> list[str]:
    """The command line as a bundle records it."""
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


def _wall_meter(log: Path | None, command: str | None) -> PowerLog | PowerCommand | None:
    from qbench.machine.energy.wall import MeterError, PowerCommand, PowerLog

    if log and command:
        raise UserError("--power-log and --power-command exclude each other", "Give one of them.")
    if log:
        return PowerLog(log)
    with as_user_error(MeterError):
        return PowerCommand(command) if command is not None else None


class _GivenText(NamedTuple):
    """The values of ``--shape``, ``--size`` and ``--batch-axis``."""

    shapes: list[str]
    sizes: list[str]
    batch_axes: list[str]


class _Choice(NamedTuple):
    """The arguments of ``run`` and ``plan`` that choose cases."""

    suite: str | None
    models: list[str] | None
    backends: list[str] | None
    precisions: list[str] | None
    devices: list[str] | None
    given: _GivenText
    signature: str | None
    rounds: int | None = None
    inputs: Path | None = None
    data: list[str] | None = None
    preprocess: str | None = None


def _own_data(given: list[str]) -> Path | None:
    """The data for a model file.

    Raises:
        UserError: there are several.
    """
    if len(given) > 1:
        raise UserError("--data is given twice", "A model file has one folder or .npz of data.")
    return Path(given[0]) if given else None


def _data_sets(given: list[str]) -> dict[str, Path]:
    """The paths of ``NAME=FOLDER``, by name."""
    result: dict[str, Path] = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            raise UserError(
                f"--data {text}: with a suite, it names a data set and your copy of it",
                "Such as --data imagenet=FOLDER. For a model file, leave out the suite.",
            )
        result[name] = Path(path).expanduser()
    return result


def _request(
    choice: _Choice, results: Path, registry: Registry, note: Callable[[str], None]
) -> tuple[Request, Catalog]:
    from qbench.run.request import Request
    from qbench.run.sources import adhoc
    from qbench.run.sources.catalog import open_suite
    from qbench.spec.case import Filters
    from qbench.spec.sizes import GivenSizes
    from qbench.spec.suite import device_name, find_suite

    given = GivenSizes.parse(*choice.given)

    models, backends, precisions = choice.models or [], choice.backends, choice.precisions
    try:
        devices = [device_name(name) for name in choice.devices or ()]
    except ValueError as error:
        raise UserError(str(error), "`qbench backends` lists the devices of each.") from None
    if choice.suite is None:
        if not models:
            raise UserError(
                "nothing to run: give a suite or --model FILE",
                "Try `qbench run quick`; `qbench suites` lists all suites.",
            )
        suite, text, catalog, _ = adhoc.suite_for_files(
            [Path(name) for name in models],
            backends,
            precisions,
            choice.rounds,
            registry,
            note,
            devices,
            adhoc.Given(
                given,
                choice.inputs,
                _own_data(choice.data or []),
                choice.preprocess,
                choice.signature,
            ),
        )
        return Request(suite, text, results), catalog
    own = choice.inputs or choice.preprocess or choice.signature
    if own or any(adhoc.is_model_file(name, registry) for name in models):
        raise UserError(
            "a model file, --inputs, --preprocess and --signature cannot be combined with a suite",
            "Leave out the suite, or write a model card for it (see docs/model-cards.md).",
        )
    path = find_suite(choice.suite)
    suite, text, catalog, folder = open_suite(
        path, registry.names, note, given, _data_sets(choice.data or [])
    )
    if choice.rounds is not None:
        suite = suite.model_copy(update={"rounds": choice.rounds})
    filters = Filters(
        tuple(models), tuple(backends or ()), tuple(precisions or ()), devices=tuple(devices)
    )
    return Request(suite, text, results, filters, suite_folder=folder), catalog


def plan(
    suite: SuiteName = None,
    model: Models = None,
    backend: Backends = None,
    precision: Precisions = None,
    device: Devices = None,
    data: DataSets = None,
    shape: Shapes = None,
    size: Sizes = None,
    batch_axis: BatchAxes = None,
    signature: Signature = None,
    as_json: AsJson = False,
) -> int:
    """Show the cases that a suite would run here.

    With the reasons for skipped cases, and the estimated time and disk space.

    \b
    Examples:
      qbench plan quick
      qbench plan mysuite.yaml --json
    """
    from qbench.present.terminal.plans import plan_tables
    from qbench.run.artifacts import ArtifactStore
    from qbench.run.planner import make_plan
    from qbench.run.workers.registry import Registry

    registry, store = Registry(), ArtifactStore()
    messages = console(to_stderr=True)
    given = _GivenText(shape or [], size or [], batch_axis or [])
    choice = _Choice(suite, model, backend, precision, device, given, signature, data=data)
    request, catalog = _request(choice, DEFAULT_RESULTS, registry, messages.print)
    probes = registry.probe(request.suite.backends)
    found = make_plan(
        request.suite, catalog, registry, probes, store, request.filters, convert=False
    )
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
        Path | None,
        typer.Argument(metavar="FILE", help="The suite to write. [default: suite.yaml]"),
    ] = None,
    costs: Annotated[
        Path | None,
        typer.Option("--costs", metavar="FILE", help="Write a cost sheet instead of a suite."),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option("--model", "-m", metavar="FILE", help="Write a card of this model file."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="The card. [default: next to the model]"
        ),
    ] = None,
    shape: Shapes = None,
    size: Sizes = None,
    batch_axis: BatchAxes = None,
    signature: Signature = None,
) -> int:
    """Write a commented suite, cost sheet or model card to start from.

    \b
    Examples:
      qbench init mysuite.yaml && qbench run mysuite.yaml
      qbench init --costs costs.yaml
      qbench init --model network.onnx && qbench run --model network.yaml
    """
    of_card = output or shape or size or batch_axis or signature
    if model is not None:
        if path is not None or costs is not None:
            raise UserError(
                "--model writes a card only", "Name the card by -o, and leave out the others."
            )
        given = _GivenText(shape or [], size or [], batch_axis or [])
        return _init_card(model, output, given, signature)
    if of_card:
        raise UserError(
            "-o, --shape, --size, --batch-axis and --signature are for a card", "Add --model FILE."
        )
    if costs is not None:
        if path is not None:
            raise UserError(
                "a suite and --costs cannot be written together", "Give one of the two."
            )
        _write_template("costs.yaml", costs)
        print(f"wrote {costs}; fill it in, then: qbench cost RUN... --costs {costs}")
        return 0
    path = path or Path("suite.yaml")
    _write_template("suite.yaml", path)
    print(f"wrote {path}; run it with: qbench run {path if len(path.parts) > 1 else f'./{path}'}")
    return 0


def _init_card(model: Path, path: Path | None, given: _GivenText, signature: str | None) -> int:
    from qbench.run.sources.adhoc import card_name
    from qbench.run.sources.readers import Readers
    from qbench.run.sources.skeleton import card_text
    from qbench.run.workers.registry import Registry
    from qbench.spec.sizes import GivenSizes

    path = path or model.parent / f"{card_name(model)}.yaml"
    _check_new(path)
    if not model.exists():
        raise UserError(f"there is no model file {model}")
    registry = Registry()
    readers = Readers(registry, registry.names, signature)
    text, notes = card_text(model, path, GivenSizes.parse(*given), readers)
    for note in notes:
        print(note, file=sys.stderr)
    _write(path, text)
    print(f"wrote {path}; complete it, then: qbench run --model {path}")
    return 0


def _write_template(name: str, path: Path) -> None:
    """
    Raises:
        UserError: the file exists, or its folder does not.
    """
    from qbench.spec.suite import suites_dir

    _check_new(path)
    _write(path, (suites_dir() / "templates" / name).read_text(encoding="utf-8"))


def _check_new(path: Path) -> None:
    """
    Raises:
        UserError: the file exists, or its folder does not.
    """
    if path.exists():
        raise UserError(f"{path} exists", "Give another name; nothing was overwritten.")
    if not path.parent.is_dir():
        raise UserError(f"there is no folder {path.parent}", "Create it first.")


def _write(path: Path, text: str) -> None:
    from qbench.storage import write_file

    write_file(path, text)
