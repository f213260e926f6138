"""Static pages about many runs: an index, a page for each run, model and backend, trends, and a
comparison of any two runs. They need neither a server nor a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qbench.present.site.progress import Progress, Written


def write_site(
    results: Sequence[Path], path: Path, redact: bool = False, progress: Progress | None = None
) -> Written:
    """Update a site with all bundles in some folders. Only pages that changed are written, the
    index last.

    Args:
        redact: leave out host names, users, paths and serial numbers.

    Raises:
        UserError: a folder does not exist, or ``path`` holds files that are not a site.
        MachineryError: another process writes to ``path``.
        OSError: ``path`` cannot be written.
    """
    from qbench.present.site.build import build

    return build(results, path, redact, progress)
