"""The command site: static pages about all runs."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qbench.cli.common import DEFAULT_RESULTS, AsJson, print_json

if TYPE_CHECKING:
    from qbench.present.site.progress import Written

STEP = 10
"""Runs after which progress is told."""


def site(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The site: a new folder, or one to bring on.")
    ],
    results: Annotated[
        list[Path] | None, typer.Argument(help="Folders of bundles. [default: results]")
    ] = None,
    redact: Annotated[
        bool, typer.Option("--redact", help="Without host names, users, paths, serial numbers.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Write a site of static pages about all runs: an index, a page for each run, model and
    backend, trends, and any two runs compared.

    It needs no server and no network. The same command again writes only the pages that change,
    and takes away those of runs that are gone.

    \b
    Examples:
      qbench site -o reports/site
      qbench site results results/reference -o public --redact
    """
    from qbench.present.site import write_site

    written = write_site(results or [DEFAULT_RESULTS], output, redact, _reading)
    if as_json:
        print_json({**asdict(written), "index": str(output / "index.html")})
    else:
        _print(written, output)
    return 0


def _reading(done: int, total: int) -> None:
    if done % STEP == 0 and total > STEP:
        print(f"writing runs: {done} of {total}", file=sys.stderr)


def _print(written: Written, output: Path) -> None:
    from qbench.present.terminal import printable

    for name, reason in written.problems:
        print(printable(f"qbench: left out: {name}: {reason}"), file=sys.stderr)
    for name in written.left:
        print(printable(f"qbench: {name} was changed, and is left"), file=sys.stderr)
    pages = [
        sum(name.endswith(".html") for name in names)
        for names in (written.written, written.kept, written.removed)
    ]
    print(output / "index.html")
    print(f"{written.runs} runs; pages: {pages[0]} written, {pages[1]} kept, {pages[2]} removed")
