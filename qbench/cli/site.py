"""The command site: static pages about all runs."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qbench.cli.common import DEFAULT_RESULTS, AsJson, print_json
from qbench.cli.publishing import Redact

if TYPE_CHECKING:
    from qbench.present.site.progress import Written

STEP = 10
"""Number of runs between two lines of progress."""


def site(
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FOLDER", help="The site: a new folder, or one to update."
        ),
    ],
    results: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RESULTS...", help="Folders of bundles. [default: results]"),
    ] = None,
    redact: Redact = False,
    as_json: AsJson = False,
) -> int:
    """Write static web pages about all runs.

    An index, a page for each run, model and backend, trends, and a comparison of any two runs. The
    pages need no server and no network. The same command again writes only pages that changed, and
    removes those of runs that no longer exist.

    \b
    Examples:
      qbench site -o reports/site
      qbench site results results/reference -o public --redact
    """
    from qbench.present.site import write_site

    written = write_site(results or [DEFAULT_RESULTS], output, redact, _progress)
    if as_json:
        print_json({**asdict(written), "index": str(output / "index.html")})
    else:
        _print(written, output)
    return 0


def _progress(done: int, total: int) -> None:
    if done % STEP == 0 and total > STEP:
        print(f"writing runs: {done} of {total}", file=sys.stderr)


def _print(written: Written, output: Path) -> None:
    from qbench.text import printable

    for name, reason in written.problems:
        print(printable(f"qbench: left out: {name}: {reason}"), file=sys.stderr)
    for name in written.left:
        print(printable(f"qbench: not removed, since it was edited: {name}"), file=sys.stderr)
    pages = [
        sum(name.endswith(".html") for name in names)
        for names in (written.written, written.kept, written.removed)
    ]
    print(output / "index.html")
    print(
        f"{written.runs} runs; pages: {pages[0]} written, {pages[1]} unchanged, {pages[2]} removed"
    )
