"""Arguments that commands share, the console, and output to files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qbench.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from qbench.bundle.bundle import Bundle
    from qbench.present.page.options import Options

INTERRUPTED = 130
FAILED, MACHINERY = 1, 3
DEFAULT_RESULTS = Path("results")

Results = Annotated[
    Path, typer.Option("--results", metavar="FOLDER", help="Folder that bundles are kept in.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Run = Annotated[str, typer.Argument(metavar="RUN", help="A bundle: its path, its id, or 'latest'.")]
Runs = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN...", help="Bundles: paths, ids, 'latest', or the folder of a collection."
    ),
]
RunOption = Annotated[
    str, typer.Option("--run", metavar="RUN", help="The bundle: its path, its id, or 'latest'.")
]
Case = Annotated[
    list[str],
    typer.Argument(
        metavar="CASE...",
        help="A case's id, or words that identify it, such as MODEL BACKEND PRECISION.",
    ),
]
Recompute = Annotated[
    bool, typer.Option("--recompute", help="Also recompute every figure from the raw data.")
]
ModelFilter = Annotated[
    list[str] | None,
    typer.Option("--model", "-m", metavar="MODEL", help="Only this model; repeatable."),
]
Backends = Annotated[
    list[str] | None,
    typer.Option("--backend", "-b", metavar="BACKEND", help="Only this backend; repeatable."),
]
Precisions = Annotated[
    list[str] | None,
    typer.Option("--precision", "-p", metavar="PRECISION", help="Only this precision; repeatable."),
]
Limits = Annotated[
    list[str] | None,
    typer.Option(
        "--limit",
        metavar="LIMIT",
        help="A bound such as 'p99<=10ms' or 'accuracy>=76%'; repeatable. Figures: p50, p99, "
        "accuracy_drop, accuracy, memory, device_memory, size, cold_start, energy, throughput.",
    ),
]


def console(to_stderr: bool = False) -> Console:
    from rich.console import Console

    from qbench.present.terminal.tables import WIDE

    class Patient(Console):
        """A console that ignores further output once its reader has left (``qbench show | head``),
        so that the command ends with its usual exit code."""

        def on_broken_pipe(self) -> None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())

    console = Patient(stderr=to_stderr, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = WIDE
    return console


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=1))


def check_parent(*paths: Path | None) -> None:
    """
    Raises:
        UserError: the folder of a file does not exist.
    """
    for path in paths:
        if path is not None and not path.absolute().parent.is_dir():
            raise UserError(f"there is no folder {path.parent}", "Create it first.")


def write_page(bundles: list[Bundle], path: Path, options: Options | None = None) -> Path:
    from qbench.present.page import write_report
    from qbench.present.page.options import PLAIN

    write_report(bundles, path, options or PLAIN)
    return path
