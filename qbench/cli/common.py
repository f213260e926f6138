"""What the commands share: their common arguments, the console, and how it prints."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from qbench.bundle.bundle import Bundle
    from qbench.present.page.options import Options

INTERRUPTED = 130
FAILED, MACHINERY = 1, 3

Results = Annotated[Path, typer.Option("--results", help="Folder that bundles are kept in.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts on stdout.")]
Run = Annotated[str, typer.Argument(help="A bundle: its path, its id, or 'latest'.")]
Runs = Annotated[
    list[str],
    typer.Argument(help="Bundles: paths, ids, 'latest', or the folder of a collection."),
]
Recompute = Annotated[
    bool, typer.Option("--recompute", help="Also recompute every figure from the raw data.")
]
Models = Annotated[
    list[str] | None,
    typer.Option("--model", "-m", help="Only this model; repeatable. Or a model file to run."),
]
Backends = Annotated[
    list[str] | None, typer.Option("--backend", "-b", help="Only this backend; repeatable.")
]
Precisions = Annotated[
    list[str] | None, typer.Option("--precision", "-p", help="Only this precision; repeatable.")
]
Devices = Annotated[
    list[str] | None,
    typer.Option(
        "--device", help="Only this device: cpu, cuda (the first GPU), cuda:1; repeatable."
    ),
]
DEFAULT_RESULTS = Path("results")


def console(to_stderr: bool = False) -> Console:
    from rich.console import Console

    from qbench.present.terminal import WIDE

    class Patient(Console):
        """A console whose reader may leave (``qbench show | head``): what is left goes nowhere, and
        the command ends as it would have."""

        def on_broken_pipe(self) -> None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())

    console = Patient(stderr=to_stderr, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = WIDE
    return console


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=1))


def write_page(bundles: list[Bundle], path: Path, options: Options | None = None) -> Path:
    from qbench.present.page import write_report
    from qbench.present.page.options import PLAIN

    write_report(bundles, path, options or PLAIN)
    return path
