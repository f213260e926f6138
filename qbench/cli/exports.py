"""Commands that write bundles for other programs and for papers: export, figure."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qbench.cli.common import DEFAULT_RESULTS, Results, check_parent
from qbench.cli.publishing import Redact
from qbench.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qbench.bundle.bundle import Bundle
    from qbench.present.exports.tables import ExportedFile

BY_ENDING = {
    ".csv": "csv", ".json": "json", ".md": "markdown", ".parquet": "parquet", ".tex": "latex",
}  # fmt: skip
ALL = "all"


def export(
    run: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN...",
            help="Bundles: paths, ids, 'latest' (the default), or the folder of a collection.",
        ),
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="csv, json, markdown, parquet, latex, pytest-benchmark, or system (MLPerf's "
            "system description). Default: by the file's ending, else csv.",
        ),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Columns of the case table, separated by commas; default: all "
            "that the format can show.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="File to write, or a folder; default: standard output.",
        ),
    ] = None,
    redact: Redact = False,
    results: Results = DEFAULT_RESULTS,
) -> int:
    """Export case tables, timings or system descriptions.

    The case table for programs or papers, timings in pytest-benchmark's format, and system
    descriptions in MLPerf's.

    \b
    Examples:
      qbench export latest --format csv > cases.csv
      qbench export latest -o cases.parquet
      qbench export A B -o table.tex --columns model,backend,latency_p50_ms
      qbench export latest --format system -o systems/
      qbench export latest --format pytest-benchmark -o nightly/0001_main.json
    """
    from qbench.present.exports.tables import export_bundles

    form = form or BY_ENDING.get(output.suffix if output else "", "csv")
    chosen = [name.strip() for name in columns.split(",")] if columns else []
    files = export_bundles(_bundles(run, results, redact), form, chosen)
    if output is not None:
        several = len(files) > 1 and output.suffix not in BY_ENDING
        _write(files, output, as_folder=output.is_dir() or not output.suffix or several)
    elif len(files) > 1:
        raise UserError(f"these runs make {len(files)} files", "Give a folder with -o.")
    elif form == "parquet" and sys.stdout.isatty():
        raise UserError("parquet cannot be shown in a terminal", "Give a file with -o.")
    else:
        sys.stdout.buffer.write(files[0].content)
    _print_remarks(files)
    return 0


def figure(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="[RUN]... CHART",
            help="Bundles: paths, ids or 'latest'; then the chart: accuracy, speedup, "
            "distributions, throughput, memory, startup, energy, roofline, sustained, or all.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FILE", help=".svg, .pdf or .png; for all charts, a folder."
        ),
    ],
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="MODEL", help="Only this model.")
    ] = None,
    condition: Annotated[
        str | None,
        typer.Option(
            metavar="CONDITION",
            help="Only cases with this condition, as labelled in the report, such as 'batch 4'; "
            "default: the condition of most cases.",
        ),
    ] = None,
    form: Annotated[
        str,
        typer.Option("--format", metavar="FORMAT", help="For all charts: svg, pdf or png."),
    ] = "svg",
    width: Annotated[
        float,
        typer.Option(
            min=6, max=100, metavar="CM", help="Width of the picture; 8.5 cm fits a column."
        ),
    ] = 16,
    dark: Annotated[bool, typer.Option("--dark", help="For a dark background.")] = False,
    redact: Redact = False,
    results: Results = DEFAULT_RESULTS,
) -> int:
    """Draw charts as SVG, PDF or PNG, for papers and slides.

    \b
    Examples:
      qbench figure latest accuracy -o accuracy.pdf --width 8.5
      qbench figure A B speedup -o speedup.svg --model resnet50
      qbench figure latest all -o figures/ --format png
    """
    from qbench.present.exports.tables import ExportedFile
    from qbench.present.pictures import CHARTS, NoData, figures
    from qbench.present.pictures.look import Look

    *runs, chart = names
    bundles = _bundles(runs, results, redact)
    wanted = list(CHARTS) if chart == ALL else [chart]
    ending = form if chart == ALL else output.suffix.removeprefix(".")
    made = figures(bundles, wanted, ending, model, condition, Look(width, dark))
    missing = [(name, found) for name, found in made.items() if isinstance(found, NoData)]
    if len(missing) == len(made):
        raise missing[0][1]
    files = [
        ExportedFile(f"{name}.{ending}", found)
        for name, found in made.items()
        if isinstance(found, bytes)
    ]
    for path in _write(files, output, as_folder=chart == ALL):
        print(path)
    for name, reason in missing:
        print(f"no {name}: {reason.message}", file=sys.stderr)
    return 0


def _write(files: Sequence[ExportedFile], output: Path, as_folder: bool) -> list[Path]:
    """Write files into a folder, or one file.

    Raises:
        UserError: there are several for one file, or the folder cannot be created.
    """
    from qbench.storage import write_file

    check_parent(output)
    if len(files) > 1 and not as_folder:
        raise UserError(f"these runs make {len(files)} files", "Give a folder with -o.")
    if as_folder:
        output.mkdir(exist_ok=True)
    paths = [output / file.name if as_folder else output for file in files]
    for path, file in zip(paths, files, strict=True):
        write_file(path, file.content)
    return paths


def _print_remarks(files: Sequence[ExportedFile]) -> None:
    from qbench.text import printable

    for file in files:
        for remark in file.remarks:
            print(printable(f"{file.name}: {remark}"), file=sys.stderr)


def _bundles(runs: list[str] | None, results: Path, redact: bool) -> list[Bundle]:
    from qbench.bundle.find import find_bundles

    bundles = find_bundles(list(dict.fromkeys(runs or ["latest"])), results)
    if not redact:
        return bundles
    from qbench.bundle.redact import redacted

    return [redacted(bundle) for bundle in bundles]
