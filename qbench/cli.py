"""The command line. The only module that prints or exits; heavy modules are imported inside
commands, so that ``qbench --help`` is quick."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import traceback
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qbench import __version__
from qbench.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from qbench.bundle import Bundle
    from qbench.catalog import Catalog
    from qbench.runner import Request

INTERRUPTED = 130
FAILED, MACHINERY = 1, 3

app = typer.Typer(
    name="qbench",
    help="Which inference backend, at which precision, on which machine? Measured honestly.",
    epilog="Start with: qbench run quick",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
cache_app = typer.Typer(help="Show or clear what is kept between runs.", no_args_is_help=True)
app.add_typer(cache_app, name="cache")

Results = Annotated[Path, typer.Option("--results", help="Folder that bundles are kept in.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts on stdout.")]
Run = Annotated[str, typer.Argument(help="A bundle: its path, its id, or 'latest'.")]
Models = Annotated[
    list[str] | None,
    typer.Option("--model", "-m", help="Only this model; repeatable. Or a model file to run."),
]
Backends = Annotated[
    list[str] | None, typer.Option("--backend", "-b", help="Only this backend; repeatable.")
]
Precisions = Annotated[
    list[str] | None, typer.Option("--precision", "-p", help="Only this precision; repeatable.")
]
DEFAULT_RESULTS = Path("results")
NO_ACCESS = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EBUSY,
    errno.EEXIST, errno.ENOENT,
}  # fmt: skip


def main() -> None:
    """Entry point: runs a command and turns what went wrong into a message and an exit code."""
    code = None
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does: resumable
    try:
        code = app(standalone_mode=False)
        if code == INTERRUPTED:  # typer turns an interrupt into this code
            raise KeyboardInterrupt
    except UserError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted; the same command goes on from here", INTERRUPTED)
    except BrokenPipeError:
        os._exit(0)  # the reader of our output has left, as in `qbench show | head`
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            _fail(
                f"the disk is full{place}\n"
                "  Make room, then run the same command again: it goes on from here.",
                MACHINERY,
            )
        if error.errno in NO_ACCESS:
            _fail(
                f"cannot use a file or folder{place}: {error.strerror}\n"
                "  Choose another place: -o, --results, or QBENCH_CACHE for what is kept between "
                "runs.",
                2,
            )
        _unexpected()
    except Exception as error:
        if type(error).__module__.startswith(("click", "typer")):
            error.show()  # type: ignore[attr-defined]
            sys.exit(2)
        _unexpected()
    sys.exit(code or 0)


def _fail(message: str, code: int) -> None:
    from qbench.console import printable

    print(f"qbench: {printable(message)}", file=sys.stderr)
    sys.exit(code)


def _unexpected() -> None:
    traceback.print_exc()
    _fail("this is a fault in qbench; please report it with the lines above", MACHINERY)


def _console(to_stderr: bool = False) -> Console:
    from rich.console import Console

    from qbench.console import WIDE

    class Patient(Console):
        """A console whose reader may leave (``qbench show | head``): what is left goes nowhere, and
        the command ends as it would have."""

        def on_broken_pipe(self) -> None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())

    console = Patient(stderr=to_stderr, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = WIDE
    return console


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1))


def _version(show: bool) -> None:
    if show:
        print(f"qbench {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


# --------------------------------------------------------------------------- run


@app.command()
def run(
    suite: Annotated[str | None, typer.Argument(help="A shipped suite, or a .yaml file.")] = None,
    model: Models = None,
    backend: Backends = None,
    precision: Precisions = None,
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
      qbench run quick --json | jq .counts
    """
    import time

    begin = time.monotonic()
    console = _console(to_stderr=True)
    from qbench.analysis.table import case_table
    from qbench.console import RichProgress, case_tables
    from qbench.registry import Registry
    from qbench.runner import run_suite
    from qbench.system import load_system

    registry = Registry()
    told, wall = load_system(system), _wall_meter(power_log, power_command)
    with RichProgress(console) as progress:
        request, catalog = _request(
            suite, model, backend, precision, inputs, rounds, results, registry, progress.note
        )
        request = _replaced(
            request,
            seed=seed,
            fresh=fresh,
            strict=strict,
            system=told,
            wall=wall,
            command=tuple(_as_recorded(sys.argv[1:])),
        )
        bundle = run_suite(request, catalog, registry, progress)
    cases = case_table(bundle)
    page = _write_report([bundle], results / f"{bundle.run_id}.html") if report else None
    counts = dict(Counter(cases["status"]))
    seconds = time.monotonic() - begin
    if as_json:
        _print_json(
            {
                "bundle": str(bundle.path),
                "report": str(page) if page else None,
                "counts": counts,
                "seconds": round(seconds, 1),
            }
        )
    else:
        out = _console()
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
    from qbench.energy.wall import PowerCommand, PowerLog

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
    inputs: Path | None,
    rounds: int | None,
    results: Path,
    registry: Any,
    note: Any,
) -> tuple[Request, Catalog]:
    """What the arguments of ``run`` and ``plan`` ask for."""
    from qbench import adhoc
    from qbench.plan import Filters
    from qbench.runner import Request

    if suite is None:
        if not models:
            raise UserError(
                "nothing to run: give a suite or --model FILE",
                "`qbench run quick` is a start; `qbench suites` lists them all.",
            )
        chosen, text, catalog = adhoc.suite_for_files(
            [Path(f) for f in models or []], backends, precisions, inputs, rounds, registry, note
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
    filters = Filters(tuple(models or ()), tuple(backends or ()), tuple(precisions or ()))
    return Request(chosen, text, results, filters), catalog


def _load_suite(name: str, registry: Any, note: Any) -> tuple[Any, str, Catalog]:
    from qbench.catalog import Catalog
    from qbench.suite import find_suite, load_suite, suites_dir

    path = find_suite(name)
    catalog = Catalog([path.parent, suites_dir()], note)
    suite = load_suite(path, registry.names, catalog.names)
    return suite, path.read_text(encoding="utf-8"), catalog


def _write_report(bundles: list[Bundle], path: Path) -> Path:
    from qbench.report import write_report

    write_report(bundles, path)
    return path


@app.command()
def plan(
    suite: Annotated[str | None, typer.Argument(help="A shipped suite, or a .yaml file.")] = None,
    model: Models = None,
    backend: Backends = None,
    precision: Precisions = None,
    as_json: AsJson = False,
) -> int:
    """Show what a suite would do here: cases, reasons for skips, time and disk.

    \b
    Examples:
      qbench plan quick
      qbench plan mysuite.yaml --json
    """
    from qbench.artifacts import ArtifactStore
    from qbench.console import plan_tables
    from qbench.plan import make_plan
    from qbench.registry import Registry

    registry, store = Registry(), ArtifactStore()
    console = _console(to_stderr=True)
    request, catalog = _request(
        suite, model, backend, precision, None, None, DEFAULT_RESULTS, registry, console.print
    )
    probes = registry.probe(request.suite.backends)
    found = make_plan(request.suite, catalog, registry, probes, store, request.filters)
    minutes, disk = found.estimate_minutes(store), found.estimate_disk_mb()
    if as_json:
        _print_json({**found.to_json(), "estimated_minutes": minutes, "estimated_disk_mb": disk})
    else:
        out = _console()
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


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("suite.yaml"),
) -> int:
    """Write a commented suite to start from.

    \b
    Example:
      qbench init mysuite.yaml && qbench run mysuite.yaml
    """
    from qbench.storage import write_file
    from qbench.suite import suites_dir

    if path.exists():
        raise UserError(f"{path} exists", "Give another name; nothing was overwritten.")
    if not path.parent.is_dir():
        raise UserError(f"there is no folder {path.parent}", "Make it first.")
    write_file(path, (suites_dir() / "templates" / "suite.yaml").read_text(encoding="utf-8"))
    print(f"wrote {path}; run it with: qbench run {path if len(path.parts) > 1 else f'./{path}'}")
    return 0


# --------------------------------------------------------------------------- what there is


@app.command()
def doctor(results: Results = DEFAULT_RESULTS, as_json: AsJson = False) -> int:
    """Is this machine fit to measure? What was found, and the command that mends it.

    Takes about a second and changes nothing. The exit code is 1 if a finding is bad.

    \b
    Examples:
      qbench doctor
      qbench doctor --json | jq .fit
    """
    from dataclasses import asdict

    from qbench.console import simple_table
    from qbench.doctor import HEADERS, examine, rows, verdict
    from qbench.storage import cache_dir

    findings = examine(folders={"results": results, "cache": cache_dir()})
    fit = all(finding.status != "bad" for finding in findings)
    if as_json:
        _print_json({"fit": fit, "findings": [asdict(finding) for finding in findings]})
    else:
        out = _console()
        out.print(simple_table(HEADERS, rows(findings)))
        out.print(verdict(findings), markup=False)
    return 0 if fit else FAILED


@app.command()
def backends(as_json: AsJson = False) -> int:
    """List the adapters, whether each works here, and at which precisions."""
    from dataclasses import asdict

    from qbench.backend import Ready
    from qbench.console import simple_table
    from qbench.registry import Registry

    probes = Registry().probe()
    if as_json:
        _print_json({n: {"ready": isinstance(p, Ready), **asdict(p)} for n, p in probes.items()})
        return 0
    out = _console()
    rows = []
    for name, answer in probes.items():
        if isinstance(answer, Ready):
            precisions = "; ".join(f"{d}: {', '.join(p)}" for d, p in answer.precisions.items())
            rows.append((name, answer.version, precisions))
        else:
            rows.append((name, "not here", f"{answer.reason}. {answer.fix}"))
    out.print(simple_table(["backend", "version", "precisions, or why not"], rows))
    for name, answer in probes.items():
        if isinstance(answer, Ready):
            for device, reasons in answer.missing.items():
                for precision, reason in reasons.items():
                    out.print(f"{name}, {device}: no {precision}: {reason}", markup=False)
    return 0


@app.command()
def models(as_json: AsJson = False) -> int:
    """List the shipped model cards (a suite's own cards lie beside it, in models/)."""
    from qbench.catalog import Catalog
    from qbench.console import simple_table
    from qbench.suite import suites_dir

    catalog = Catalog([suites_dir()])
    cards = [catalog.card(name) for name in catalog.names]
    if as_json:
        _print_json([card.model_dump(mode="json") for card in cards])
        return 0
    rows = []
    for card in cards:
        expected = f"{100 * card.expected.value:.1f} %" if card.expected else None
        rows.append((card.name, card.task, ", ".join(card.sources), expected, card.description))
    _console().print(simple_table(["model", "task", "formats", "fp32", "description"], rows))
    return 0


@app.command()
def suites(as_json: AsJson = False) -> int:
    """List the shipped suites."""
    from qbench.console import simple_table
    from qbench.suite import Suite, shipped_suites
    from qbench.yamlfile import load

    found = [load(path, Suite)[0] for path in shipped_suites().values()]
    if as_json:
        _print_json([suite.model_dump(mode="json") for suite in found])
        return 0
    rows = [(suite.name, ", ".join(suite.models), suite.description) for suite in found]
    _console().print(simple_table(["suite", "models", "description"], rows))
    return 0


# --------------------------------------------------------------------------- results


@app.command()
def show(run: Run = "latest", results: Results = DEFAULT_RESULTS, as_json: AsJson = False) -> int:
    """Show the case table of a bundle.

    \b
    Examples:
      qbench show latest
      qbench show results/20261122-041530-quick-ab12 --json
    """
    from qbench.analysis.table import case_table
    from qbench.bundle import find_bundle
    from qbench.console import case_tables, printable

    bundle = find_bundle(run, results)
    cases = case_table(bundle)
    if as_json:
        _print_json({"run_id": bundle.run_id, "cases": cases.to_dict("records")})
        return 0
    out = _console()
    host = bundle.begin["host"]
    state = "" if bundle.complete else "  (incomplete: run the same command again to go on)"
    title = printable(f"{bundle.run_id}  on {host['cpu_model']}{state}")
    out.print(title, markup=False, soft_wrap=True)
    for part in case_tables(cases, out):
        out.print(part)
    return 0


@app.command()
def explain(
    case: Annotated[
        list[str],
        typer.Argument(help="A case's id, or words that only it has: MODEL BACKEND PRECISION."),
    ],
    run: Annotated[
        str, typer.Option("--run", help="The bundle: its path, its id, or 'latest'.")
    ] = "latest",
    results: Results = DEFAULT_RESULTS,
    as_json: AsJson = False,
) -> int:
    """Why is this case slow, or wrong? Its operators and layers beside float32's.

    Profiles the case's artifact and its float32 twin here and now; the bundle is not changed.

    \b
    Examples:
      qbench explain digits_vit onnxruntime int8-static
      qbench explain 3f2a91c04b7d --run results/20261122-041530-quick-ab12
    """
    from dataclasses import asdict

    from qbench.bundle import find_bundle
    from qbench.console import explanation_parts
    from qbench.explain import explain_case
    from qbench.registry import Registry

    found = explain_case(find_bundle(run, results), case, Registry())
    if as_json:
        _print_json({**asdict(found), "case": found.case.model_dump(mode="json")})
        return 0
    out = _console()
    for part in explanation_parts(found):
        out.print(part)
    return 0


@app.command()
def export(
    run: Run = "latest",
    format: Annotated[str, typer.Option(help="csv, json, markdown or parquet.")] = "csv",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file; standard output if left out.")
    ] = None,
    results: Results = DEFAULT_RESULTS,
) -> int:
    """Write the case table of a bundle for other programs.

    \b
    Examples:
      qbench export latest --format csv > cases.csv
      qbench export latest --format parquet -o cases.parquet
    """
    from qbench.analysis.export import FORMATS, export_table
    from qbench.analysis.table import case_table
    from qbench.bundle import find_bundle
    from qbench.errors import nearest
    from qbench.storage import write_file

    if format not in FORMATS:
        raise UserError(f"there is no format '{format}'", nearest(format, FORMATS))
    content = export_table(case_table(find_bundle(run, results)), format)
    if output is not None:
        if not output.parent.is_dir():
            raise UserError(f"there is no folder {output.parent}", "Make it first.")
        write_file(output, content)
    elif format == "parquet" and sys.stdout.isatty():
        raise UserError("parquet is not for a terminal", "Give a file with -o.")
    else:
        sys.stdout.buffer.write(content)
    return 0


@app.command()
def report(
    run: Annotated[list[str], typer.Argument(help="Bundles: paths, ids, or 'latest'.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The HTML file to write.")
    ] = None,
    results: Results = DEFAULT_RESULTS,
) -> int:
    """Write an interactive HTML page about one or more bundles.

    \b
    Example:
      qbench report latest -o reports/quick.html
    """
    from qbench.bundle import find_bundle

    bundles = [find_bundle(name, results) for name in run]
    path = output or results / f"{bundles[0].run_id}.html"
    if not path.parent.is_dir():
        raise UserError(f"there is no folder {path.parent}", "Make it first.")
    print(_write_report(bundles, path))
    return 0


@app.command()
def verify(
    run: Run = "latest",
    recompute: Annotated[
        bool,
        typer.Option("--recompute", help="Also recompute every figure from the raw data."),
    ] = False,
    results: Results = DEFAULT_RESULTS,
    as_json: AsJson = False,
) -> int:
    """Check that a bundle is whole and unchanged, and that its figures follow from its data.

    \b
    Example:
      qbench verify latest --recompute
    """
    from qbench.bundle import find_bundle
    from qbench.console import printable

    bundle = find_bundle(run, results)
    problems = bundle.problems()
    if recompute and bundle.complete:
        from qbench.analysis.verify import recompute as recomputed

        problems += recomputed(bundle)
    if as_json:
        _print_json({"run_id": bundle.run_id, "problems": problems})
    else:
        for problem in problems:
            print(printable(problem))
        checked = "files and figures" if recompute else "files"
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        print(f"{bundle.run_id}: {count if problems else f'{checked} agree'}")
    return FAILED if problems else 0


# --------------------------------------------------------------------------- cache


@cache_app.command("size")
def cache_size(as_json: AsJson = False) -> int:
    """Show how much is kept, and where."""
    from qbench.artifacts import ArtifactStore
    from qbench.console import simple_table

    store = ArtifactStore()
    sizes = store.sizes()
    if as_json:
        _print_json({"folder": str(store.root), "bytes": sizes})
        return 0
    out = _console()
    out.print(simple_table(["part", "MB"], [(n, f"{s / 1e6:.1f}") for n, s in sizes.items()]))
    out.print(str(store.root), markup=False, soft_wrap=True)
    return 0


@cache_app.command("clean")
def cache_clean(
    part: Annotated[
        list[str] | None, typer.Argument(help="As `cache size` lists them; all if none.")
    ] = None,
) -> int:
    """Remove what is kept; it is made or fetched again when needed."""
    from qbench.artifacts import ArtifactStore
    from qbench.errors import nearest
    from qbench.lock import measuring_lock

    store = ArtifactStore()
    known = list(store.sizes())
    for name in part or []:
        if name not in known:
            raise UserError(f"the cache has no part '{name}'", nearest(name, known))
    with measuring_lock():
        freed = store.clean(part or known)
    print(f"freed {freed / 1e6:.1f} MB in {store.root}")
    return 0


if __name__ == "__main__":
    main()
