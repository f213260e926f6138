"""Cache of change points, next to the index. Importing ruptures takes longer than the rest of a
query for one case. The file can be removed at any time."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, cast

import numpy as np

from qbench import __version__
from qbench.analysis.history.trend import change_points
from qbench.storage import parse_json, write_file

MOST = 20_000
"""Number of series that are kept, the newest."""


class KnownCuts:
    """``change_points`` with a cache.

    Args:
        path: its file, ``cuts.json``; damaged entries are computed again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = _read(path)
        self._before = len(self._known)

    def __call__(self, values: np.ndarray) -> list[int]:
        """As ``change_points``."""
        key = hashlib.sha256(__version__.encode() + values.tobytes()).hexdigest()[:24]
        cuts = self._known.get(key)
        if cuts is None or not _are_cuts(cuts, len(values)):
            cuts = self._known[key] = change_points(values)
        return cuts

    def save(self) -> None:
        """Write the change points that were computed since."""
        if len(self._known) > self._before:
            newest = dict(list(self._known.items())[-MOST:])
            write_file(self._path, json.dumps(newest, separators=(",", ":")))


def _read(path: Path) -> dict[str, list[int]]:
    try:
        known = parse_json(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return cast("dict[str, list[int]]", known) if isinstance(known, dict) else {}


def _are_cuts(cuts: object, nights: int) -> bool:
    if not isinstance(cuts, list):
        return False
    indices = cast("list[Any]", cuts)
    return all(isinstance(cut, int) and 0 < cut < nights for cut in indices) and indices == sorted(
        set(indices)
    )
