"""A site of static pages about many runs: an index, a page for each run, model and backend, trends,
and any two runs compared. It needs neither a server nor a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qbench.present.site.progress import Progress, Written


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
    from qbench.present.site.build import build

    return build(results, path, redact, progress)
