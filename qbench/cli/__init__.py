"""The command line. The only package that prints or exits; heavy modules are imported inside
commands, so that ``qbench --help`` is quick."""

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
from qbench.cli.gate import accept, gate
from qbench.cli.history import history, prune
from qbench.cli.interchange import import_files
from qbench.cli.recommend import recommend
from qbench.cli.site import site
from qbench.errors import UserError

app = typer.Typer(
    name="qbench",
    help="Which inference backend, at which precision, on which machine? Measured honestly.",
    epilog="Start with: qbench run quick",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
COMMANDS = (
    running.run, running.plan, running.init,
    listing.doctor, listing.backends, listing.models, listing.suites,
    results.show, results.explain, exports.export, exports.figure, results.report, results.verify,
    bundles.merge, bundles.pack, bundles.redact, bundles.schema,
    compare, cost, recommend, gate, accept, history, site, prune,
)  # fmt: skip
"""In the order of ``qbench --help``."""
for command in COMMANDS:
    app.command()(command)
app.command("import")(import_files)  # no function can have that name
app.add_typer(cache_app, name="cache")

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
        _fail("interrupted; the same command continues from here", INTERRUPTED)
    except BrokenPipeError:
        os._exit(0)  # the reader of our output has left, as in `qbench show | head`
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
    from qbench.present.terminal import printable

    print(f"qbench: {printable(message)}", file=sys.stderr)
    sys.exit(code)


def _unexpected() -> None:
    traceback.print_exc()
    _fail("this is a fault in qbench; please report it with the lines above", MACHINERY)


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
