"""Fill in generated content while mkdocs builds the site.

Pages mark its place: ``<!-- generated: NAME ARGUMENTS -->``. Generated content is not committed, so
pages read in the repository lack these tables.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from qbench_docs.commands import command_reference
from qbench_docs.keys import key_tables
from qbench_docs.messages import check_table, message_table, reason_table
from qbench_docs.read_back import read_back_table

DOCS = Path(__file__).parent
ROOT = DOCS.parent
MARKER = re.compile(r"<!-- generated: (\w+)(?: (.*?))? -->", re.S)
LINK = re.compile(r"\[([^\]]*)\]\(((?:\.\./)+[^)]*)\)")
OUTSIDE = {"CONTRIBUTING.md": "adapters.md"}
"""Pages that include a file from outside the site, by file."""


def keys_of(target: str) -> str:
    """Key tables of a model, such as ``qbench.spec.suite:Suite``."""
    module, _, name = target.partition(":")
    kind = getattr(import_module(module), name)
    return key_tables(kind, kind.model_json_schema(), name.lower())


def record_files(_: str) -> str:
    """Key tables of each file of a bundle."""
    from qbench.bundle.records.run import FILES
    from qbench.bundle.schema import json_schema

    return "\n".join(
        f"## {name}\n\n[JSON Schema](../schema/{name.partition('.')[0]}.schema.json)\n"
        + key_tables(kind, json_schema(name), name.partition(".")[0])
        for name, kind in FILES.items()
    )


def part_of_contributing(heading: str) -> str:
    """A section of CONTRIBUTING.md without heading, its lists indented by four for mkdocs."""
    found = re.search(
        rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)",
        (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"),
        re.M | re.S,
    )
    assert found, f"CONTRIBUTING.md has no section '{heading}'"
    indented = re.sub(r"^ {3}(?=\s*\S)", "    ", found[1], flags=re.M)
    return indented.replace("](docs/", "](")


def file_of_repository(path: str) -> str:
    """A file of the repository as a code block."""
    content = (ROOT / path).read_text(encoding="utf-8").rstrip()
    return f"```{Path(path).suffix.lstrip('.').replace('py', 'python')}\n{content}\n```"


GENERATED: dict[str, Callable[[str], str]] = {
    "commands": command_reference,
    "keys": keys_of,
    "records": record_files,
    "messages": message_table,
    "reasons": reason_table,
    "checks": check_table,
    "read_back": read_back_table,
    "contributing": part_of_contributing,
    "file": file_of_repository,
}


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Replace markers and links; called by mkdocs with every page."""
    filled = MARKER.sub(lambda found: GENERATED[found[1]](found[2] or ""), markdown)
    return LINK.sub(lambda found: _inside(found, page.file.src_uri), filled)


def _inside(link: re.Match[str], page: str) -> str:
    """Point a link to the page that includes its target; without one, print the path."""
    words, target = link.groups()
    place = os.path.normpath((DOCS / page).parent / target)
    if Path(place).is_relative_to(DOCS):
        return link[0]
    path = Path(place).relative_to(ROOT).as_posix()
    if path in OUTSIDE:
        return f"[{words}]({os.path.relpath(OUTSIDE[path], Path(page).parent)})"
    return f"`{path}`" if words == path else f"{words} (`{path}`)"
