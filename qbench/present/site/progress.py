"""Progress and result of building a site."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Progress = Callable[[int, int], None]
"""Called before each run that has to be read, with how many have been, of how many."""


@dataclass(frozen=True)
class Written:
    """What a build did to a site.

    Attributes:
        pages: of the site, all together.
        written, kept, removed: files: new or changed, as they were, and of runs that are gone.
        left: files that would have been removed, but that somebody has changed.
        runs: how many runs have a page.
        problems: folders that were left out, and why.
    """

    pages: int
    written: tuple[str, ...]
    kept: tuple[str, ...]
    removed: tuple[str, ...]
    left: tuple[str, ...]
    runs: int
    problems: tuple[tuple[str, str], ...]
