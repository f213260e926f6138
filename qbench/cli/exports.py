"""Commands that write a bundle for other programs and for papers: export and figure."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qbench.cli.common import DEFAULT_RESULTS, Results
from qbench.cli.publishing import Redact
from qbench.errors import UserError, nearest

if TYPE_CHECKING:
    from qbench.bundle.bundle import Bundle

RunsOrLatest = Annotated[
    list[str] | None,
    typer.Argument(
        help="Bundles: paths, ids, 'latest' (which it is if none is given), or the folder of a "
        "collection."
    ),
]
BY_ENDING = {
    ".csv": "csv", ".json": "json", ".md": "markdown", ".parquet": "parquet", ".tex": "latex",
}  # fmt: skip
SYSTEM, ALL = "system", "all"


def export(
    run: RunsOrLatest = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="csv, json, markdown, parquet, latex, pytest-benchmark, or system (MLPerf's "
            "description). By default what the file's ending says, else csv.",
        ),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(help="Columns of the case table, with commas between; else the format's own."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A file (of several systems: a folder); else stdout."),
    ] = None,
    redact: Redact = False,
    results: Results = DEFAULT_RESULTS,
) -> int:
    """Write the case table of bundles for other programs or a paper, their timings for
    pytest-benchmark, or their systems as MLPerf describes them.

    \b
    Examples:
      qbench export latest --format csv > cases.csv
      qbench export latest -o cases.parquet
      qbench export A B -o table.tex --columns model,backend,latency_p50_ms,host_id
      qbench export latest --format system -o systems/
      qbench export latest --format pytest-benchmark -o .benchmarks/nightly/0001_main.json
    """
    from qbench.present.exports.tables import FORMATS, export_bundles
    from qbench.storage import write_file

    ending = output.suffix if output else ""
    form = form or BY_ENDING.get(ending, "csv")
    if form not in (*FORMATS, SYSTEM):
        raise UserError(f"there is no format '{form}'", nearest(form, (*FORMATS, SYSTEM)))
    bundles = _bundles(run, results, redact)
    chosen = [name.strip() for name in columns.split(",")] if columns else []
    if form == SYSTEM:
        return _export_systems(bundles, chosen, output)
    content = export_bundles(bundles, form, chosen)
    if output is not None:
        write_file(_in_folder(output), content)
    elif form == "parquet" and sys.stdout.isatty():
        raise UserError("parquet is not for a terminal", "Give a file with -o.")
    else:
        sys.stdout.buffer.write(content)
    return 0


def figure(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="[RUN]... CHART",
            help="Bundles, as for export. Then the chart: "
            "accuracy, speedup, distributions, throughput, memory, startup, energy, roofline, "
            "sustained, or all.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="A file: .svg, .pdf or .png; of all charts, a folder."),
    ],
    model: Annotated[str | None, typer.Option("--model", "-m", help="Only this model.")] = None,
    condition: Annotated[
        str | None,
        typer.Option(help="Such as 'batch 4', as a report names it; else that of most cases."),
    ] = None,
    form: Annotated[str, typer.Option("--format", help="Of all charts: svg, pdf or png.")] = "svg",
    width: Annotated[
        float, typer.Option(min=6, max=100, help="Of the picture, in cm; 8.5 fits a column.")
    ] = 16,
    dark: Annotated[bool, typer.Option("--dark", help="For a dark ground.")] = False,
    redact: Redact = False,
    results: Results = DEFAULT_RESULTS,
) -> int:
    """Draw charts of bundles as pictures for papers and slides.

    \b
    Examples:
      qbench figure latest accuracy -o accuracy.pdf --width 8.5
      qbench figure A B speedup -o speedup.svg --model resnet50
      qbench figure latest all -o figures/ --format png
    """
    from qbench.present.pictures import CHARTS, NoData, figures
    from qbench.present.pictures.look import Look
    from qbench.storage import write_file

    *runs, chart = names
    bundles = _bundles(runs, results, redact)
    wanted = list(CHARTS) if chart == ALL else [chart]
    ending = form if chart == ALL else output.suffix.removeprefix(".")
    made = figures(bundles, wanted, ending, model, condition, Look(width, dark))
    reasons = {name: why for name, why in made.items() if isinstance(why, NoData)}
    if len(reasons) == len(made):
        raise next(iter(reasons.values()))
    if chart == ALL:
        _in_folder(output).mkdir(exist_ok=True)
    for name, content in made.items():
        if isinstance(content, NoData):
            _tell(f"no {name}: {content.message}")
            continue
        path = output / f"{name}.{ending}" if chart == ALL else _in_folder(output)
        write_file(path, content)
        print(path)
    return 0


def _export_systems(bundles: list[Bundle], columns: list[str], output: Path | None) -> int:
    from qbench.analysis.systems import system_files
    from qbench.storage import write_file

    if columns:
        raise UserError("a system's description has no columns", "Leave --columns out.")
    files = system_files(bundles)
    is_file = output is not None and output.suffix == ".json" and not output.is_dir()
    if len(files) > 1 and (output is None or is_file):
        raise UserError(f"these runs are of {len(files)} systems", "Give a folder with -o.")
    if output is None:
        sys.stdout.buffer.write(files[0].content)
    elif is_file:
        write_file(_in_folder(output), files[0].content)
    else:
        _in_folder(output).mkdir(exist_ok=True)
        for file in files:
            write_file(output / file.name, file.content)
    for file in files:
        if file.needed:
            _tell(f"{file.name}: MLPerf wants to know: {', '.join(file.needed)}")
        if file.wanted:
            _tell(f"{file.name}: may stay empty: {', '.join(file.wanted)}")
    if any(file.needed for file in files):
        _tell("Write them into a file for `qbench run --system FILE`: docs/machines.md")
    return 0


def _bundles(runs: list[str] | None, results: Path, redact: bool) -> list[Bundle]:
    from qbench.bundle.find import find_bundles

    bundles = find_bundles(list(dict.fromkeys(runs or ["latest"])), results)
    if not redact:
        return bundles
    from qbench.bundle.redact import redacted

    return [redacted(bundle) for bundle in bundles]


def _in_folder(path: Path) -> Path:
    """``path``, whose folder is there."""
    if not path.parent.is_dir():
        raise UserError(f"there is no folder {path.parent}", "Make it first.")
    return path


def _tell(words: str) -> None:
    from qbench.present.terminal import printable

    print(printable(words), file=sys.stderr)
