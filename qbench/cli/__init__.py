"""The command line. Only this package prints or exits. Heavy modules are imported inside commands,
so that ``qbench --help`` is quick."""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from typing import Annotated

import typer

from qbench import __version__
from qbench.cli import bundles, exports, listing, results, running
from qbench.cli.cache import cache_app
from qbench.cli.common import INTERRUPTED, MACHINERY
from qbench.cli.compare import compare
from qbench.cli.cost import cost
from qbench.cli.fetching import fetch
from qbench.cli.gate import accept, gate
from qbench.cli.help import Command, CommandGroup
from qbench.cli.history import history, prune
from qbench.cli.recommend import recommend
from qbench.cli.site import site
from qbench.errors import UserError

app = typer.Typer(
    name="qbench",
    cls=CommandGroup,
    help="Measure models on inference backends: latency, accuracy, memory and energy, by "
    "precision and machine.",
    epilog="Start with: qbench run quick",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
GROUPS = {
    "Measure": (
        running.init, fetch, running.plan, running.run, listing.doctor, listing.backends,
        listing.models, listing.suites, results.show, results.explain,
    ),
    "Judge": (compare, gate, accept, history),
    "Choose": (recommend, cost),
    "Publish": (
        results.report, site, exports.figure, exports.export, bundles.pack, bundles.redact,
    ),
    "Keep": (
        results.verify, bundles.merge, bundles.import_, prune, bundles.schema,
    ),
}  # fmt: skip
"""In the order of ``qbench --help``."""
for title, commands in GROUPS.items():
    for command in commands:
        name = command.__name__.rstrip("_")
        app.command(name, cls=Command, rich_help_panel=title)(command)
app.add_typer(cache_app, name="cache", rich_help_panel="Keep")

NO_ACCESS = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EBUSY,
    errno.EEXIST, errno.ENOENT,
}  # fmt: skip


def main() -> None:
    """Entry point: run a command; turn exceptions into a message and an exit code."""
    code = None
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # like Ctrl-C: resumable
    try:
        code = app(standalone_mode=False)
        if code == INTERRUPTED:  # typer returns this code for an interrupt
            raise KeyboardInterrupt
    except UserError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted; the same command continues from here", INTERRUPTED)
    except BrokenPipeError:
        os._exit(0)  # the reader of the output has left, as in `qbench show | head`
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            _fail(
                f"the disk is full{place}\n"
                "  Make room, then run the same command again: it continues from here.",
                MACHINERY,
            )
        if error.errno in NO_ACCESS:
            _fail(
                f"cannot use a file or folder{place}: {error.strerror}\n"
                "  Choose another place with -o, --results, or QBENCH_CACHE for the cache.",
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
    from qbench.text import printable

    print(f"qbench: {printable(message)}", file=sys.stderr)
    sys.exit(code)


def _unexpected() -> None:
    traceback.print_exc()
    _fail("this is a bug in qbench; please report it with the lines above", MACHINERY)


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
