"""The layout of ``--help``: commands in groups, none cut; arguments and options with metavars."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup


def arguments(command: Any, context: Any) -> list[tuple[str, str]]:
    """Arguments of a command with their help, as in its usage line: ``SUITE``."""
    return [
        (param.metavar or param.name, param.get_help_record(context)[1])
        for param in command.get_params(context)
        if param.param_type_name == "argument"
    ]


def options(command: Any, context: Any) -> list[tuple[str, str]]:
    """Options of a command with their help: ``-o, --output FILE``."""
    return [
        param.get_help_record(context)
        for param in command.get_params(context)
        if param.param_type_name == "option" and not param.hidden
    ]


class Command(TyperCommand):
    """A command whose help shows no Python types."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        given = [param for param in self.params if param.param_type_name == "argument"]
        return ["[OPTIONS]", *(_usage(p.metavar or p.name or "", p.required) for p in given)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        for title, records in (
            ("Arguments", arguments(self, ctx)),
            ("Options", options(self, ctx)),
        ):
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def _usage(name: str, required: bool) -> str:
    """``SUITE``, ``[SUITE]``, ``RUN...`` or ``[RUN]...``."""
    if required:
        return name
    return f"[{name.removesuffix('...')}]" + ("..." if name.endswith("...") else "")


class CommandGroup(TyperGroup):
    """Commands under the titles that they were registered with, each with its first sentence."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        width = max(map(len, self.commands))
        groups: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            sentence = (command.help or "").partition(".")[0].replace("\n", " ")
            title = getattr(command, "rich_help_panel", None) or "Commands"
            groups.setdefault(title, []).append((name.ljust(width), f"{sentence}."))
        for title, rows in groups.items():
            with formatter.section(title):
                formatter.write_dl(rows)
