"""The command that downloads ahead: fetch."""

from __future__ import annotations

from typing import Annotated

import typer

from qbench.cli.common import FAILED, AsJson, ModelFilter, console, print_json


def fetch(
    suite: Annotated[
        str, typer.Argument(metavar="SUITE", help="A shipped suite, or a .yaml file.")
    ],
    model: ModelFilter = None,
    list_only: Annotated[
        bool, typer.Option("--list", help="List files and sizes; download nothing.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Download the models and data sets of a suite ahead.

    Lists files and sizes first; then `qbench run` needs no network. The same command continues an
    interrupted download. The exit code is 1 if a file cannot be had.

    \b
    Examples:
      qbench fetch mlperf_tiny
      qbench fetch detection --list
      QBENCH_MIRROR=http://mirror.example qbench fetch imagenet_edge
    """
    from qbench.errors import check_known
    from qbench.kit.adapter import Unavailable
    from qbench.present.terminal.tables import simple_table
    from qbench.run.sources.catalog import open_suite
    from qbench.run.sources.fetch import fetch as fetch_all
    from qbench.run.sources.fetch import missing_tools, needs
    from qbench.run.workers.registry import Registry
    from qbench.spec.suite import find_suite

    out, registry = console(to_stderr=as_json), Registry()
    opened = open_suite(find_suite(suite), registry.names, lambda text: out.print(text))
    for name in model or ():
        check_known(name, opened.suite.models, f"{opened.suite.name} has no model '{name}'")
    models = model or opened.suite.models
    found = needs(opened.catalog, models)
    sizes = {need.file.label: need.bytes for need in found}
    rows = [
        (need.file.label, need.state, _megabytes(need.bytes), ", ".join(need.users))
        for need in found
    ]
    out.print(simple_table(["file", "state", "MB", "for"], rows))
    loaded = {name: registry.load(name) for name in opened.suite.backends}
    formats = {n: b.formats for n, b in loaded.items() if not isinstance(b, Unavailable)}
    for line in missing_tools(opened.catalog, models, formats):
        out.print(line, markup=False, soft_wrap=True)
    failed: dict[str, str] = {}
    for need, error in () if list_only else fetch_all(found):
        if error is not None:
            failed[need.file.label] = str(error)
            out.print(str(error), markup=False, soft_wrap=True)
    wanting = [n.file.label for n in found if n.state == "not to be had" and list_only]
    if as_json:
        states = {need.file.label: need.state for need in found}
        print_json({"bytes": sizes, "states": states, "failed": failed})
    return FAILED if failed or wanting else 0


def _megabytes(size: int | None) -> str | None:
    return None if size is None else f"{size / 1e6:.1f}"
