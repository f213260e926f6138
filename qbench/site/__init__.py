"""A site of static pages about many runs: an index, a page for each run, model and backend, trends,
and any two runs compared. It needs neither a server nor a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

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


def write_site(
    results: Sequence[Path], path: Path, redact: bool = False, progress: Progress | None = None
) -> Written:
    """Bring a site up to date with all bundles below some folders: only pages that change are
    written, and the index last.

    Args:
        redact: leave out what tells whose machines these were.

    Raises:
        UserError: a folder is not there; or ``path`` holds something that is no site.
        MachineryError: another command writes to ``path``.
        OSError: it cannot be written.
    """
    from qbench.site.build import build

    return build(results, path, redact, progress)
