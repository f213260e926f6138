"""The help of the command line: grouped, complete at 80 columns, and free of Python types."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from qbench.cli import app
from qbench.cli.help import arguments, options

GROUPS = ["Measure:", "Judge:", "Choose:", "Publish:", "Keep:"]
TOP: Any = get_command(app)
COMMANDS = {
    f"{name} {inner}".rstrip(): found
    for name, command in TOP.commands.items()
    for inner, found in getattr(command, "commands", {"": command}).items()
}


def help_of(*words: str) -> str:
    done = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    return done.output


def test_commands_are_grouped_and_each_has_one_whole_line():
    titles = re.findall(r"^[A-Z]\w+:$", help_of(), re.M)
    assert titles == ["Options:", *GROUPS]
    listed = help_of().partition("Measure:\n")[2].partition("\n\n  Start with")[0]
    lines = [line for line in listed.splitlines() if line.startswith("  ")]
    names = [line.split()[0] for line in lines]
    assert set(names) == {name.split()[0] for name in COMMANDS}
    for line in lines:
        assert re.fullmatch(r"  [a-z]+ +[A-Z].*[^.]\.", line), line
        assert len(line) <= 80, line


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_80_columns_and_names_no_types(name: str):
    text = help_of(*name.split())
    assert [line for line in text.splitlines() if len(line) > 80] == []
    assert re.findall(r"<[a-z\[\] ]+>|\b(?:TEXT|PATH|INTEGER|FLOAT|DATETIME)\b", text) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_value_has_a_metavar_and_a_meaning(name: str):
    command: Any = COMMANDS[name]
    context = command.context_class(command, info_name=name)
    for words, meaning in arguments(command, context):
        assert re.fullmatch(r"[A-Z]+(\.\.\.)?|\[RUN\]\.\.\. CHART", words), words
        assert len(meaning) > 5, words
    for words, meaning in options(command, context):
        assert re.fullmatch(r"(-\w, )?--[a-z-]+( / --no-[a-z-]+)?( [A-Z=]+)?", words), words
        assert len(meaning) > 5, words
    takes_value = [p for p in command.params if not getattr(p, "is_flag", False)]
    assert [param.name for param in takes_value if not param.metavar] == []


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['qbench', '--help']\n"
        "from qbench.cli import main\n"
        "try: main()\n"
        "except SystemExit: print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "Measure:" in done.stdout
    loaded = set(done.stderr.split())
    assert not loaded & {"numpy", "pandas", "pydantic", "scipy", "jinja2", "rich", "yaml"}
