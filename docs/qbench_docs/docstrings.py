"""Parse docstrings of this code base."""

from __future__ import annotations

import inspect
import re

SECTIONS = ("Attributes:", "Args:", "Raises:", "Returns:", "Yields:")


def summary(doc: str) -> str:
    """Everything before the first of ``SECTIONS``."""
    lines = inspect.cleandoc(doc).splitlines()
    end = next((i for i, line in enumerate(lines) if line in SECTIONS), len(lines))
    return "\n".join(lines[:end]).strip()


def attributes(doc: str) -> dict[str, str]:
    """Descriptions in ``Attributes:`` by name; ``a, b: text`` describes both."""
    _, _, rest = inspect.cleandoc(doc).partition("Attributes:\n")
    found: dict[str, str] = {}
    names: list[str] = []
    for line in rest.splitlines():
        begin = re.match(r" {4}(\w+(?:, \w+)*): (.*)", line)
        if begin:
            names = begin[1].split(", ")
            found.update(dict.fromkeys(names, begin[2]))
        elif line.startswith(" " * 8):
            found.update({name: f"{found[name]} {line.strip()}" for name in names})
        elif line.strip():
            break
    return found
