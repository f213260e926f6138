"""Progress and result of building a site."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Progress = Callable[[int, int], None]
"""Called before each run that is rendered, with the number done and the total."""


@dataclass(frozen=True)
class Written:
    """Changes that a build made to the folder of a site.

    Attributes:
        pages: number of pages of the site.
        written: new or changed files.
        kept: files that were up to date.
        removed: files of runs that no longer exist.
        left: files of runs that no longer exist, kept because somebody edited them.
        runs: number of runs that have a page.
        problems: folders that were left out, each with the reason.
    """

    pages: int
    written: tuple[str, ...]
    kept: tuple[str, ...]
    removed: tuple[str, ...]
    left: tuple[str, ...]
    runs: int
    problems: tuple[tuple[str, str], ...]
