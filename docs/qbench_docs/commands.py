"""Reference of the command line, generated from its commands."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

from qbench.cli.help import arguments, options
from qbench_docs.cells import code, table, text


def command_reference(_: str = "") -> str:
    """Markdown with one section per command, in the order of ``qbench --help``."""
    return "\n".join(_section(name, command) for name, command in commands())


def commands() -> Iterator[tuple[str, Any]]:
    """Every command with its full name, such as ``qbench cache size``."""
    from typer.main import get_command

    from qbench.cli import app

    yield from _inner("qbench", get_command(app))


def _inner(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    groups = getattr(command, "commands", None)
    if groups is None:
        yield name, command
        return
    for word, inner in groups.items():
        yield from _inner(f"{name} {word}", inner)


def _section(name: str, command: Any) -> str:
    context = command.context_class(command, info_name=name)
    said, _, examples = inspect.cleandoc(command.help or "").partition("\b\n")
    shown = inspect.cleandoc(examples.replace("\b", "").partition(":\n")[2])
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    records = {"argument": arguments(command, context), "option": options(command, context)}
    return "\n".join(
        [
            f"## {name}\n\n```text\n{usage}\n```\n",
            *(f"<p>{text(part)}</p>" for part in said.split("\n\n") if part.strip()),
            *(table((kind, "meaning", ""), map(_row, found)) for kind, found in records.items()),
            f"```text\n{shown}\n```\n" if shown else "",
        ]
    )


def _row(record: tuple[str, str]) -> tuple[str, str, str]:
    """Split a line of ``--help`` into option, description, and the bracketed default and limits."""
    names, said = record
    brackets = re.search(r"\[([^\[\]]*)\]$", said)
    if brackets is None:
        return code(names), text(said), ""
    return code(names), text(said[: brackets.start()]), text(brackets[1])
