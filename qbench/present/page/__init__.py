"""HTML reports of bundles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qbench.present.page.options import PLAIN, Options

if TYPE_CHECKING:
    from qbench.bundle.bundle import Bundle


def write_report(bundles: list[Bundle], path: Path, options: Options = PLAIN) -> None:
    """Write one self-contained, interactive HTML page about ``bundles`` (one or more).

    The page loads nothing from the network. Bundles may be incomplete. The file is replaced
    atomically.

    Raises:
        UserError: a bundle is damaged.
        OSError: ``path`` cannot be written.
    """
    from qbench.present.page.render import render
    from qbench.storage import write_file

    write_file(path, render(bundles, options))
