"""Commands about the cache: cache size, cache clean."""

from __future__ import annotations

from typing import Annotated

import typer

from qbench.cli.common import AsJson, console, print_json
from qbench.cli.help import Command, CommandGroup

cache_app = typer.Typer(help="Show or clear the cache.", cls=CommandGroup, no_args_is_help=True)


@cache_app.command("size", cls=Command)
def cache_size(as_json: AsJson = False) -> int:
    """Show the size and the folder of the cache."""
    from qbench.present.terminal.tables import simple_table
    from qbench.run.artifacts import ArtifactStore

    store = ArtifactStore()
    sizes = store.sizes()
    if as_json:
        print_json({"folder": str(store.root), "bytes": sizes})
        return 0
    out = console()
    out.print(simple_table(["part", "MB"], [(n, f"{s / 1e6:.1f}") for n, s in sizes.items()]))
    out.print(str(store.root), markup=False, soft_wrap=True)
    return 0


@cache_app.command("clean", cls=Command)
def cache_clean(
    part: Annotated[
        list[str] | None,
        typer.Argument(metavar="PART...", help="As `qbench cache size` lists them; default: all."),
    ] = None,
) -> int:
    """Clear the cache.

    Whatever is needed again is downloaded or prepared again.
    """
    from qbench.errors import check_known
    from qbench.machine.lock import measuring_lock
    from qbench.run.artifacts import ArtifactStore

    store = ArtifactStore()
    known = list(store.sizes())
    for name in part or []:
        check_known(name, known, f"the cache has no part '{name}'")
    with measuring_lock():
        freed = store.clean(part or known)
    print(f"freed {freed / 1e6:.1f} MB in {store.root}")
    return 0
