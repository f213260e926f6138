"""Commands about files of other tools: import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qbench.cli.common import DEFAULT_RESULTS, AsJson, Results, print_json


def import_files(
    file: Annotated[list[Path], typer.Argument(help="JSON files that pytest-benchmark wrote.")],
    project: Annotated[
        str | None, typer.Option(help="The project's name, if not as the files tell it.")
    ] = None,
    results: Results = DEFAULT_RESULTS,
    as_json: AsJson = False,
) -> int:
    """Take in files of pytest-benchmark, so that `qbench history` follows their benchmarks.

    \b
    Examples:
      qbench import .benchmarks/*/*.json
      qbench import nightly.json --project mylibrary
    """
    from qbench.analysis.history.imported import read_benchmarks
    from qbench.analysis.history.sources import add_series
    from qbench.present.terminal import printable

    read = [read_benchmarks(path, project) for path in file]  # all are sound before one is kept
    kept = []
    for path, points in zip(file, read, strict=True):
        where = add_series(results, points[0].run_id, points)
        kept.append({"file": str(path), "kept": str(where), "benchmarks": len(points)})
    if as_json:
        print_json(kept)
        return 0
    for one in kept:
        print(printable(f"{one['file']}: {one['benchmarks']} benchmarks, kept as {one['kept']}"))
    return 0
